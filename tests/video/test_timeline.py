"""Times that jump: joined recordings, and clocks that were set."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import WHOLE, Span
from staf_cli.video import frames, inspect, probe, remarks, write
from tests.support.made_clips import make_clip, packet_time, pattern

FRAMES = 20  # of each part
STEP = 0.04  # s


def read(path: Path, span: Span = WHOLE) -> tuple[Clip, list[Frame]]:
    clip = probe(path, span)
    return clip, list(frames(clip, inspect(clip)))


def join(path: Path, *parts: Path) -> Path:
    """The parts, byte after byte."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def parts(folder: Path, suffix: str, codec: str, audio: str | None) -> tuple[Path, Path]:
    """Two recordings; the second one's clock is a minute later, and it has no sound."""
    early = make_clip(folder / f"early.{suffix}", range(FRAMES), codec=codec, audio=audio)
    late = make_clip(folder / f"late.{suffix}", range(1500, 1500 + FRAMES), codec=codec)
    return early, late


@pytest.mark.parametrize(
    ("suffix", "codec", "audio"),
    [("ts", "libx264", "aac"), ("mpg", "mpeg2video", "mp2"), ("m2ts", "libx264", None)],
)
@pytest.mark.parametrize("order", [(0, 0), (0, 1), (1, 0), (0, 1, 0)])
def test_joined_recordings_go_on_at_the_frame_rate(tmp_path, suffix, codec, audio, order):
    made = parts(tmp_path, suffix, codec, audio)
    clip, shown = read(join(tmp_path / f"joined.{suffix}", *(made[k] for k in order)))
    assert len(shown) == FRAMES * len(order)
    assert np.diff([f.time for f in shown]) == pytest.approx(STEP, abs=2e-5)
    assert shown[0].time < 2 * STEP
    assert clip.fps == pytest.approx(25)
    places = "one place" if len(order) == 2 else "2 places"
    assert [line for line in remarks(clip, inspect(clip)) if f"times jump in {places}" in line]


def test_sound_of_joined_recordings_stays_in_step(tmp_path):
    early, _ = parts(tmp_path, "ts", "libx264", "aac")
    clip, shown = read(join(tmp_path / "joined.ts", early, early))
    assert write(tmp_path / "o.mp4", clip, shown) is None
    with av.open(str(tmp_path / "o.mp4")) as written:
        heard = [packet_time(p) for p in written.demux(written.streams.audio[0]) if p.size]
    with av.open(str(early)) as part:
        count = sum(bool(p.size) for p in part.demux(part.streams.audio[0]))
    assert len(heard) >= 2 * count - 1  # the first part's sound outlasts its pictures
    second = shown[FRAMES].time - shown[0].time
    assert float(heard[-1] - heard[count - 1]) == pytest.approx(second, abs=1e-3)


def test_a_span_of_joined_recordings_has_the_frames_of_the_whole(tmp_path):
    early, late = parts(tmp_path, "ts", "libx264", "aac")
    path = join(tmp_path / "joined.ts", early, late)
    whole = read(path)[1]
    part = read(path, Span(0.9, 1.3))[1]
    expected = [f for f in whole if 0.9 <= f.time < 1.3]
    assert [(f.index, f.pts) for f in part] == [(f.index, f.pts) for f in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(part, expected, strict=True))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_step_forward_is_closed_unless_sound_goes_on(tmp_path, name):
    steps = [*range(FRAMES), *range(FRAMES + 100, 2 * FRAMES + 100)]
    clip, shown = read(make_clip(tmp_path / name, steps))
    assert np.diff([f.time for f in shown]) == pytest.approx(STEP, abs=2e-5)
    assert clip.fps == pytest.approx(25)
    assert len(remarks(clip, inspect(clip))) == 1
    clip, shown = read(make_clip(tmp_path / f"sound_{name}", steps, audio="aac"))
    assert np.diff([f.time for f in shown]).max() == pytest.approx(101 * STEP, abs=2e-5)
    assert remarks(clip, inspect(clip)) == []


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_slow_and_uneven_videos_keep_their_times(tmp_path, name):
    clip, shown = read(make_clip(tmp_path / name, range(0, 1000, 50)))  # a picture each 2 s
    assert np.diff([f.time for f in shown]) == pytest.approx(2, abs=2e-5)
    assert remarks(clip, inspect(clip)) == []
    uneven = [0, 1, 3, 10, 11, 30, 31, 33, 50]
    clip, shown = read(make_clip(tmp_path / f"uneven_{name}", uneven))
    assert [f.time - shown[0].time for f in shown] == pytest.approx(
        [STEP * k for k in uneven], abs=2e-5
    )
    assert remarks(clip, inspect(clip)) == []


def test_a_single_wrong_time_moves_nothing_else(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for k in range(20):
            made = av.VideoFrame.from_ndarray(pattern(k, 64, 48), "rgb24")
            for packet in video.encode(made.reformat(format="yuvj420p")):
                packet.time_base = Fraction(1, 1000)
                packet.dts, packet.pts = k, 40 * (k if k != 12 else 3)
                output.mux(packet)
    assert [f.time for f in read(path)[1]] == pytest.approx([STEP * k for k in range(20)])
