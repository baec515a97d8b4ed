"""`staf live`: a clip piped at real time, with a detector and a network that cost nothing."""

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import ClassVar

import av
import cv2
import pytest

from staf_cli import report, video
from staf_cli.checkpoints import registry
from staf_cli.core.errors import VideoError
from staf_cli.core.records import Image
from staf_cli.live import people, session, window
from staf_cli.pipeline import loading
from staf_cli.tracking import detection
from tests.support.made_clips import make_clip, make_sound, pattern
from tests.support.staf_child import MeanPoseNetwork, find_one

FPS = 25
COST = 0.1  # s of a frame: of every three or so one can be kept up with
NO_DISPLAY = "there is no display (DISPLAY is not set)"


@pytest.fixture
def live(staf, monkeypatch):
    """Run `staf live` with a detector that takes COST s and always finds the same person."""

    def slowly(frames, *_, at_once):
        assert at_once == 1
        for found in find_one(frames):
            time.sleep(COST)
            yield found

    shipped = registry.shipped("open_body.npz")
    monkeypatch.setattr(registry, "locate_detector", lambda *_: shipped)
    nothing = SimpleNamespace(has_keypoints=False)
    for module in (detection, people):
        monkeypatch.setattr(module, "load_detector", lambda *_: nothing)
        monkeypatch.setattr(module, "associate", lambda sightings, *_: (s for _, s in sightings))
    monkeypatch.setattr(detection, "find_people", find_one)
    monkeypatch.setattr(people, "find_people", slowly)
    monkeypatch.setattr(loading, "load_network", lambda *_: MeanPoseNetwork())
    monkeypatch.setattr(session, "prepare", cache(loading.prepare))
    monkeypatch.setattr(session, "why_no_window", lambda: NO_DISPLAY)

    def run(*arguments):
        return staf("live", *arguments, "--no-landmarks", "--renderer", "cpu", "--device", "cpu")

    return run


class Screen:
    """A window that keeps what it shows, and is closed after some frames."""

    frames = 10**9
    shown: ClassVar[list[Image]] = []

    def show(self, image):
        self.shown.append(image)

    def is_closed(self):
        return len(self.shown) >= self.frames

    def close(self):
        pass


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr(session, "why_no_window", lambda: None)
    monkeypatch.setattr(session, "Window", Screen)
    monkeypatch.setattr(Screen, "shown", [])
    return Screen


@pytest.fixture
def pipe(monkeypatch):
    """Put a pipe in the place of standard input; returns its other end."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stdin, io.TextIOWrapper(stdin) as text:
        monkeypatch.setattr(sys, "stdin", text)
        yield write_end


def send(write_end, frames, form="matroska", codec="libx264", stop=None):
    """Encode a moving square at real time into a pipe, in a thread; returns the thread."""

    def work():
        try:
            with (
                os.fdopen(write_end, "wb") as end,
                av.open(end, "w", format=form, options={"flush_packets": "1"}) as output,
            ):
                stream = output.add_stream(codec, rate=FPS, options={"tune": "zerolatency"})
                stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
                begun = time.monotonic()
                for index in range(frames):
                    time.sleep(max(0, index / FPS - (time.monotonic() - begun)))
                    frame = av.VideoFrame.from_ndarray(pattern(index, 160, 120), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, FPS)
                    output.mux(stream.encode(frame.reformat(format="yuv420p")))
                output.mux(stream.encode(None))
        except (OSError, av.FFmpegError):  # the reader has had enough
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def count_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def numbers(line):
    """Drawn, came, dropped: of the line on how it kept up."""
    words = line.split()
    return int(words[1]), int(words[3]), int(words[6])


@pytest.mark.alone
def test_a_clip_at_real_time_is_shown_recorded_and_becomes_a_result(live, screen, pipe, tmp_path):
    send(pipe, 40, "mpegts")
    code, out, err = live("-", "--record", tmp_path / "take")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("live: ")]
    shown, came, dropped = numbers(line)
    assert shown + dropped == came == 40 and shown == len(screen.shown)
    assert 3 <= shown <= 20  # at 0.1 s each, of 1.6 s
    assert int(line.split("at most ")[1].split()[0]) < 1000  # ms: no frame waits for another
    assert count_frames(tmp_path / "take.mkv") == 40
    assert count_frames(tmp_path / "take" / "live.mp4") == shown
    assert count_frames(tmp_path / "take" / "overlay.mp4") == 40
    names = {path.name for path in (tmp_path / "take").iterdir()}
    assert names >= {"run.json", "tracks.csv", "person_1.npz", "report.html"}
    assert report.locate(tmp_path / "take").is_file()  # `staf view`
    corner = screen.shown[-1][-12:, :40]
    assert (corner.max(-1) < 80).any() and (corner.min(-1) > 180).any()  # white on black


def test_ctrl_c_ends_it_and_nothing_is_lost(live, pipe, tmp_path, heard):
    heard(signal.SIGINT)
    send(pipe, 10_000)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    code, out, err = live("-", "--record", tmp_path / "take")
    assert (code, err) == (0, "")
    assert NO_DISPLAY in out
    _, came, _ = numbers(next(line for line in out.splitlines() if line.startswith("live: ")))
    assert count_frames(tmp_path / "take.mkv") >= came > 0
    assert (tmp_path / "take" / "run.json").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_q_ends_it(live, screen, pipe, monkeypatch):
    monkeypatch.setattr(screen, "frames", 3)
    send(pipe, 10_000)
    code, out, err = live("-")
    assert (code, err) == (0, "")
    assert len(screen.shown) == 3 and out.startswith("live: 3 of ")


def test_a_source_that_breaks_off_leaves_its_results(live, pipe, tmp_path, monkeypatch):
    real = video.live_pictures

    def breaking(source, recording):
        for number, arrival in enumerate(real(source, recording)):
            if number == 12:
                raise VideoError("camera: broke off: no such device")
            yield arrival

    monkeypatch.setattr(video, "live_pictures", breaking)
    send(pipe, 30)
    code, out, err = live("-", "--record", tmp_path / "take")
    assert (code, err) == (1, "error: camera: broke off: no such device\n")
    assert f"report:  {tmp_path / 'take' / 'report.html'}" in out
    assert (tmp_path / "take" / "run.json").exists()


def test_ctrl_c_while_results_are_made_says_how_to_go_on(live, pipe, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "run_single", interrupted)
    send(pipe, 5)
    line = error_of(live("-", "--record", tmp_path / "take"), 130)
    assert line == (
        "error: interrupted; what came is recorded: "
        f"`staf run {tmp_path / 'take.mkv'} -o {tmp_path}` goes on"
    )


def error_of(outcome, code):
    assert outcome[0] == code, outcome
    (line,) = outcome[2].strip().splitlines()  # click puts an empty line before an interrupt's
    return line


def test_no_camera(live, tmp_path):
    line = error_of(live(tmp_path / "video9", "--record", tmp_path / "take"), 1)
    assert "no such camera" in line
    assert "/dev/video77: no such camera" in error_of(live("77", "--record", tmp_path / "take"), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.loopback
def test_an_address_where_nothing_is_sent(live, tmp_path):
    for scheme in ("rtsp", "http"):
        address = f"{scheme}://anna:secret@127.0.0.1:9/stream"
        line = error_of(live(address, "--record", tmp_path / "take"), 1)
        assert line.startswith(f"error: {scheme}://127.0.0.1:9/stream: cannot be opened: ")
        assert "check the address" in line and "secret" not in line
    assert not list(tmp_path.iterdir())


@pytest.mark.loopback
@pytest.mark.parametrize("missing", [0, 1000])
def test_a_stream_of_the_network(live, tmp_path, missing):
    """Also one that ends before all has come that its header promised."""
    content = make_clip(tmp_path / "clip.mkv", range(20)).read_bytes()

    class Sender(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Sender) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/clip.mkv"
        code, out, err = live(address, "--record", tmp_path / "take")
        server.shutdown()
    assert code == (1 if missing else 0), err
    assert err.startswith(f"error: {address}: broke off: " if missing else "")
    assert count_frames(tmp_path / "take.mkv") == 20
    assert f"report:  {tmp_path / 'take' / 'report.html'}" in out


def test_what_is_no_live_source(live, tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "clip.mp4", range(3))
    assert "give it to `staf run`" in error_of(live(clip), 2)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(closed=False, isatty=lambda: True))
    assert "pipe one in" in error_of(live("-"), 2)


@pytest.mark.parametrize("content", [b"", b"no video at all " * 999])
def test_a_pipe_without_a_video(live, pipe, tmp_path, content):
    os.write(pipe, content)
    os.close(pipe)
    line = error_of(live("-", "--record", tmp_path / "take"), 1)
    assert line.startswith("error: standard input: ")
    assert not list(tmp_path.iterdir())


def test_a_pipe_with_sound_only(live, pipe, tmp_path):
    sound = make_sound(tmp_path / "sound.mkv")
    threading.Thread(target=fill, args=(pipe, sound), daemon=True).start()
    assert "no video in it" in error_of(live("-", "--record", tmp_path / "take"), 1)


def fill(pipe, path, share=1.0):
    content = path.read_bytes()
    with os.fdopen(pipe, "wb") as end:
        end.write(content[: int(share * len(content))])


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".y4m"])
def test_a_pipe_that_breaks_in_mid_picture(live, pipe, tmp_path, suffix):
    codec = "wrapped_avframe" if suffix == ".y4m" else "libx264"
    clip = make_clip(tmp_path / f"clip{suffix}", range(20), codec=codec)
    threading.Thread(target=fill, args=(pipe, clip, 0.6), daemon=True).start()
    code, _, err = live("-", "--record", tmp_path / "take")
    assert (code, err) == (0, "")
    assert 0 < count_frames(tmp_path / "take.mkv") < 20
    assert (tmp_path / "take" / "run.json").exists()


def test_nothing_is_replaced(live, pipe, tmp_path):
    (tmp_path / "take.mkv").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").touch()
    assert "take.mkv: exists already" in error_of(live("-", "--record", tmp_path / "take"), 2)
    assert "other: exists already" in error_of(live("-", "--record", tmp_path / "other"), 2)
    os.close(pipe)


def test_without_a_display(live, pipe):
    line = error_of(live("-"), 1)
    assert NO_DISPLAY in line and "--record" in line
    os.close(pipe)


def test_exports_need_a_recording(live):
    assert "add --record" in error_of(live("-", "--export", "glb"), 2)


SHOW = """
import time
import numpy as np
from staf_cli.live import session
window = session.Window()
for shade in range(0, 250, 25):
    window.show(np.full((90, 160, 3), shade, np.uint8))
    assert not window.is_closed()
    time.sleep(0.02)
window.close()
"""


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="there is no Xvfb here")
def test_a_real_window(tmp_path):
    display, number = os.pipe()
    command = ["Xvfb", "-displayfd", str(number), "-screen", "0", "320x240x24"]
    server = subprocess.Popen(command, pass_fds=[number], stderr=subprocess.DEVNULL)
    os.close(number)
    try:
        with os.fdopen(display) as answer:
            environment = {**os.environ, "DISPLAY": f":{answer.readline().strip()}"}
        command = [sys.executable, "-c", SHOW]
        subprocess.run(command, env=environment, cwd=tmp_path, timeout=60, check=True)
    finally:
        server.terminate()
        server.wait()


def test_opencv_is_loaded_before_pyav():
    # On Linux OpenCV's windows hang beside the libxcb of a PyAV that was loaded first.
    order = "import sys, staf_cli.video; print([m for m in sys.modules if m in ('cv2', 'av')])"
    told = subprocess.run([sys.executable, "-c", order], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['cv2', 'av']"


def test_why_there_is_no_window(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert window.why_no_window() == NO_DISPLAY
    monkeypatch.setenv("DISPLAY", ":654")
    monkeypatch.setattr(window, "TRIAL", "raise SystemExit('could not connect to display :654')")
    assert "could not connect to display :654" in str(window.why_no_window())
    monkeypatch.setattr(window, "TRIAL", "")
    assert window.why_no_window() is None
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")
    assert "opencv-python-headless" in str(window.why_no_window())
