"""Inputs that are rare and allowed: the right pictures and times, or one clear line."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest

from staf_cli.core.errors import VideoError
from staf_cli.core.records import Clip, Frame
from staf_cli.video import Damage, frames, inspect, probe, write
from tests.support.made_clips import make_clip, pattern

SIZE = (128, 96)
MILLISECONDS = Fraction(1, 1000)


def read(path: Path) -> tuple[Clip, list[Frame]]:
    """The clip and its frames, which are sound and can be written and read again."""
    clip = probe(path)
    damage = inspect(clip)
    assert not damage
    shown = list(frames(clip, damage))
    assert all(f.image.shape == (clip.height, clip.width, 3) for f in shown)
    written = path.with_name("written.mp4")
    write(written, clip, shown)
    again = list(frames(probe(written), Damage()))
    assert [f.time for f in again] == pytest.approx([f.time for f in shown], abs=1e-3)
    return clip, shown


def encode(path: Path, pictures: list[av.VideoFrame], codec: str, **context: Any) -> Path:
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height = pictures[0].width, pictures[0].height
        video.pix_fmt = pictures[0].format.name
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        for picture in pictures:
            output.mux(video.encode(picture))
        output.mux(video.encode(None))
    return path


def animation(path: Path, **options: Any) -> Path:
    """Five pictures of 40 ms in which a red square on nothing moves right, by Pillow."""
    made = []
    for k in range(5):
        rgba = np.zeros((96, 128, 4), np.uint8)
        rgba[20:50, 10 * k : 10 * k + 30] = (200, 50, 60, 255)
        made.append(PIL.Image.fromarray(rgba))
    made[0].save(path, save_all=True, append_images=made[1:], duration=40, disposal=2, **options)
    return path


@pytest.mark.parametrize("loop", [None, 0, 3])
@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng"])
def test_animations_are_played_once_on_black(tmp_path, name, loop):
    options = {} if loop is None else {"loop": loop}
    clip, shown = read(animation(tmp_path / name, **options))
    assert clip.image_size == SIZE
    assert [f.time for f in shown] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    for frame in shown:
        expected = np.zeros((96, 128, 3), int)
        expected[20:50, 10 * frame.index : 10 * frame.index + 30] = (200, 50, 60)
        assert np.abs(frame.image - expected).max() <= 1


def test_an_animated_webp_is_one_line(tmp_path):
    animation_path = tmp_path / "a.webp"
    made = [PIL.Image.fromarray(pattern(k, *SIZE)) for k in range(3)]
    made[0].save(animation_path, save_all=True, append_images=made[1:], duration=40)
    with pytest.raises(VideoError, match="animated WebP, which cannot be read; save it as GIF"):
        probe(animation_path)


def test_av1(tmp_path):
    options = {"preset": "12"}
    _, shown = read(make_clip(tmp_path / "v.mp4", range(12), codec="libsvtav1", options=options))
    assert len(shown) == 12
    for frame in shown:
        assert np.abs(frame.image.astype(int) - pattern(frame.index, *SIZE)).mean() < 4


def test_prores_4444_is_laid_on_black(tmp_path):
    rgba = np.dstack([pattern(0, *SIZE), np.tile(np.arange(128, dtype=np.uint8) * 2, (96, 1))])
    made = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="yuva444p10le")
    _, shown = read(encode(tmp_path / "v.mov", [made] * 3, "prores_ks", options={"profile": "4"}))
    expected = pattern(0, *SIZE) * (rgba[..., 3:] / 255)
    assert len(shown) == 3
    assert np.abs(shown[0].image - expected).mean() < 4


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_interlaced_pictures_stay_whole(tmp_path, codec):
    """Both fields of a frame are in one picture; nothing is lost."""
    flags = av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
    options = {"x264-params": "interlaced=1"} if codec == "libx264" else {}
    made = []
    for k in range(6):
        picture = av.VideoFrame.from_ndarray(pattern(k, *SIZE), "rgb24").reformat(format="yuv420p")
        made.append(picture)
    path = encode(tmp_path / "v.ts", made, codec, options=options, flags=flags)
    _, shown = read(path)
    assert len(shown) == 6
    for frame in shown:
        assert np.abs(frame.image.astype(int) - pattern(frame.index, *SIZE)).mean() < 5


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.gif", "v.webm", "v.avi"])
def test_one_frame(tmp_path, name):
    codec = {"v.gif": "gif", "v.webm": "libvpx-vp9", "v.avi": "mpeg4"}.get(name, "libx264")
    pixels = "rgb8" if name == "v.gif" else "yuv420p"
    _, shown = read(make_clip(tmp_path / name, [0], codec=codec, pixel_format=pixels))
    assert [(f.index, f.time) for f in shown] == [(0, 0.0)]


def test_frames_of_no_duration_come_one_by_one(tmp_path):
    """All at time 0: what is written has them a tick apart."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuvj420p"
        for k in range(4):
            frame = av.VideoFrame.from_ndarray(pattern(k, *SIZE), "rgb24")
            for packet in video.encode(frame.reformat(format="yuvj420p")):
                packet.time_base, packet.dts, packet.pts, packet.duration = MILLISECONDS, 0, 0, 0
                output.mux(packet)
    _, shown = read(path)
    assert [f.time for f in shown] == [0, 0.001, 0.002, 0.003]


def test_a_film_without_one_frame_is_one_line(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        output.start_encoding()
    with pytest.raises(VideoError):
        probe(path)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (127, 95), (16, 600)])
def test_odd_and_narrow_sizes(tmp_path, size):
    path = make_clip(
        tmp_path / "v.mkv", range(3), width=size[0], height=size[1], codec="ffv1",
        pixel_format="bgr0", time_base=MILLISECONDS,
    )  # fmt: skip
    clip = probe(path)
    assert clip.image_size == size and not inspect(clip)
    for frame in frames(clip, Damage()):
        assert np.array_equal(frame.image, pattern(frame.index, *size))


def test_exif_in_a_motion_jpeg_film_is_no_crash(tmp_path):
    """PyAV has no name for such side data."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 1
    path = tmp_path / "v.mkv"
    PIL.Image.fromarray(pattern(0, *SIZE)).save(tmp_path / "p.jpg", exif=exif, quality=95)
    content = (tmp_path / "p.jpg").read_bytes()
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuvj420p"
        for k in range(3):
            packet = av.Packet(content)
            packet.stream, packet.time_base = video, MILLISECONDS
            packet.pts = packet.dts = 40 * k
            packet.is_keyframe = True
            output.mux(packet)
    assert len(read(path)[1]) == 3


MEASURED = """
import re, resource, sys
from pathlib import Path
from typing import Any
from staf_cli.core.errors import VideoError
from staf_cli.video import frames, inspect, probe
limit = 3 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    clip = probe(Path(sys.argv[1]))
    print(len(list(zip(range(2), frames(clip, inspect(clip))))))
except VideoError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def measured(path: Path) -> tuple[str, int]:
    """What reading a file prints, and the memory of the process, MB."""
    command = [sys.executable, "-c", MEASURED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    printed, megabytes = done.stdout.splitlines()
    return printed, int(megabytes)


def test_a_header_that_claims_a_huge_picture_costs_no_memory(tmp_path):
    """The size in the header of a small AVI is overwritten."""
    path = make_clip(tmp_path / "v.avi", range(3), codec="rawvideo")
    content = bytearray(path.read_bytes())
    for width, height, expected in [
        (16384, 16384, "larger than 150 million pixels"),
        (12300, 12300, "larger than 150 million pixels"),
        (2**31 - 1, 64, "v.avi"),
        (100_000, 100, "100000 x 100 pixels are more than"),
    ]:
        at = content.index(b"strf") + 12
        content[at : at + 8] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
        path.write_bytes(content)
        line, megabytes = measured(path)
        assert expected in line and megabytes < 300, line


def test_a_picture_of_256_million_pixels_is_refused_unopened(tmp_path):
    PIL.Image.new("1", (16_000, 16_000)).save(tmp_path / "p.png")
    line, megabytes = measured(tmp_path / "p.png")
    assert "larger than 150 million pixels" in line and megabytes < 300


def test_real_8k_frames_fit(tmp_path):
    """Each is 100 MB as RGB; no more than a few may be held at a time."""
    path = make_clip(
        tmp_path / "v.mkv", range(2), width=7680, height=4320, codec="mjpeg",
        pixel_format="yuvj420p", time_base=MILLISECONDS,
        picture=lambda index, width, height: np.full((height, width, 3), 90 * index, np.uint8),
    )  # fmt: skip
    printed, megabytes = measured(path)
    assert printed == "2" and megabytes < 1000
