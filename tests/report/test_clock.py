"""The clock of the page, run by node with a video that takes its time to seek."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from staf_cli import report

NODE = shutil.which("node")
CLOCK = Path(report.__file__).parent / "clock.js"
# A video whose seeks end when the test says so. Frames last 1/30 s.
PAGE = """
const listeners = {};
let waiting = null;
const video = {
  seeking: false,
  requestVideoFrameCallback(call) { waiting = call; },
  addEventListener(name, call) { (listeners[name] ??= []).push(call); },
  pause() {},
  play() { return Promise.resolve(); },
  set currentTime(to) { this.seeking = true; this.at = to; },
  get currentTime() { return this.at ?? 0; },
};
const clip = { start: 10, end: 20, offset: 10, fps: 30 };
const clock = makeClock(video, clip);
const moments = [];
clock.listen(() => moments.push([clock.time, clock.shown]));
const at = () => [clock.time, clock.shown].map((time) => Math.round(1000 * time) / 1000);
function arrive() {
  video.seeking = false;
  listeners.seeked.forEach((call) => call());
}
function present(mediaTime) {
  waiting(0, { mediaTime });
}
"""


def run(script):
    """What a script returns that runs after PAGE."""
    if NODE is None:
        pytest.skip("there is no node here")
    whole = (
        f"{CLOCK.read_text()}\n{PAGE}\nconst out = [];\n{script}\nconsole.log(JSON.stringify(out));"
    )
    done = subprocess.run([NODE, "-e", whole], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_is_shown_waits_for_the_picture():
    assert run("""
        clock.seek(13); out.push(at());
        present(0.5); out.push(at());  // the picture is still an older one
        arrive(); out.push(at());
    """) == [[13, 10], [13, 10.5], [13, 13]]


def test_many_seeks_in_a_row_show_each_picture_that_comes():
    assert run("""
        clock.seek(12); clock.seek(13); clock.seek(14); out.push(at());
        arrive(); out.push(at());  // the picture is of 12, and the seek to 14 has begun
        arrive(); out.push(at());
    """) == [[14, 10], [14, 12], [14, 14]]


def test_while_it_plays_time_is_that_of_the_picture():
    assert run("""
        clock.play(); present(1.5); out.push(at()); present(1.6); out.push(at());
    """) == [[11.5, 11.5], [11.6, 11.6]]


def test_without_a_video_all_is_shown_at_once():
    assert run("clock.runWithoutVideo(); clock.seek(17); out.push(at());") == [[17, 17]]
