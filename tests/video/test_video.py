"""Frames in and frames out, against patterns of known content and times, and PyAV itself."""

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from staf_cli.core.errors import MissingTool, OutputError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import Span
from staf_cli.video import (
    Damage,
    check_codec,
    frames,
    inspect,
    probe,
    suffix_for,
    write,
)
from tests.support.made_clips import (
    make_clip,
    make_sound,
    overwrite,
    packet_time,
    pattern,
    set_display_matrix,
    truncate,
)

MILLISECONDS = Fraction(1, 1000)
UNEVEN = [0, 40, 41, 120, 200, 333, 334, 900, 1000, 1001, 1400]


def all_frames(path: Path) -> tuple[Clip, list[Frame]]:
    clip = probe(path)
    return clip, list(frames(clip, inspect(clip)))


def times(path: Path) -> list[Fraction]:
    """Presentation times as PyAV alone reads them, s."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return sorted(packet_time(p) for p in container.demux(video) if p.size)


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        return [(packet_time(p), bytes(p)) for p in container.demux(sound) if p.size]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


# --- frames in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "tolerance"),
    [
        ("h264.mp4", "libx264", "yuv420p", 3),
        ("ten_bit.mp4", "libx265", "yuv420p10le", 3),
        ("vp9.webm", "libvpx-vp9", "yuv420p", 3),
        ("edit.mov", "prores_ks", "yuv422p10le", 3),
        ("alpha.mov", "qtrle", "argb", 0),
        ("loop.gif", "gif", "rgb8", 25),  # a palette of 3, 3 and 2 bits
        ("old.avi", "mjpeg", "yuvj420p", 4),
    ],
)
def test_any_codec_gives_the_pattern(tmp_path, name, codec, pixel_format, tolerance):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = make_clip(
        tmp_path / name, range(6), codec=codec, pixel_format=pixel_format, options=options
    )
    clip, shown = all_frames(path)
    assert clip.image_size == (128, 96)
    assert clip.fps == pytest.approx(25, rel=0.01)
    assert not clip.has_audio
    assert [f.index for f in shown] == list(range(6))
    for frame in shown:
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        assert difference(frame.image, pattern(frame.index, 128, 96)) <= tolerance


def test_uneven_times_are_exact(tmp_path):
    clip, shown = all_frames(make_clip(tmp_path / "v.mkv", UNEVEN, time_base=MILLISECONDS))
    assert clip.time_base == MILLISECONDS
    assert [f.pts for f in shown] == UNEVEN
    assert [f.time for f in shown] == [t / 1000 for t in UNEVEN]


def test_the_clock_starts_with_the_file(tmp_path):
    path = make_clip(tmp_path / "late.ts", range(50, 56), audio=None)
    with av.open(str(path)) as container:
        assert container.start_time > 1_000_000
    assert [f.time for f in all_frames(path)[1]] == pytest.approx([i / 25 for i in range(6)])


def test_video_that_begins_after_the_sound_keeps_its_distance(tmp_path):
    path = make_clip(tmp_path / "v.mkv", range(500, 740, 40), time_base=MILLISECONDS, audio="aac")
    assert all_frames(path)[1][0].time == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, 1), np.fliplr),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_rotation_and_mirroring_are_applied(tmp_path, matrix, expected):
    path = set_display_matrix(make_clip(tmp_path / "r.mp4", range(3)), *matrix)
    clip, shown = all_frames(path)
    upright = expected(pattern(0, 128, 96))
    assert (clip.height, clip.width) == upright.shape[:2]
    assert shown[0].image.shape == upright.shape
    assert difference(shown[0].image, upright) < 3


def test_the_sense_of_rotation_is_pyavs(tmp_path):
    path = set_display_matrix(make_clip(tmp_path / "r.mp4", range(2)), 0, 1, -1, 0)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        counterclockwise = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    assert difference(all_frames(path)[1][0].image, counterclockwise) < 2


def test_stretched_pixels_become_square(tmp_path):
    with av.open(str(tmp_path / "s.mp4"), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        output.mux(video.encode(av.VideoFrame.from_ndarray(pattern(0, 128, 96), "rgb24")))
        output.mux(video.encode(None))
    clip, shown = all_frames(tmp_path / "s.mp4")
    assert clip.image_size == (171, 96)
    assert difference(shown[0].image, pattern(0, 171, 96)) < 6


def test_transparent_pixels_are_laid_on_black(tmp_path):
    rgba = np.full((96, 128, 4), 200, np.uint8)
    rgba[..., 3] = np.arange(128) * 2
    with av.open(str(tmp_path / "a.mov"), "w") as output:
        video = output.add_stream("qtrle", rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "argb"
        output.mux(video.encode(av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="argb")))
        output.mux(video.encode(None))
    image = all_frames(tmp_path / "a.mov")[1][0].image
    assert np.abs(image[0, :, 0] - 200 * (np.arange(128) * 2) / 255).max() <= 0.5


def test_hd_without_a_colour_tag_is_read_as_bt709(tmp_path):
    """The same untagged YUV, in HD and small: 709 and 601 by the formulas of the standards."""
    y, u, v = 120, 90, 160
    for width, height, kr, kb in [(1280, 720, 0.2126, 0.0722), (320, 240, 0.299, 0.114)]:
        plane = np.full((height * 3 // 2, width), y, np.uint8)
        plane[height : height * 5 // 4], plane[height * 5 // 4 :] = u, v
        path = tmp_path / f"{width}.mkv"
        with av.open(str(path), "w") as output:
            video = output.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            output.mux(video.encode(av.VideoFrame.from_ndarray(plane, "yuv420p")))
            output.mux(video.encode(None))
        luma, cb, cr = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
        green = (luma - kr * red - kb * blue) / (1 - kr - kb)
        image = all_frames(path)[1][0].image
        assert np.abs(image[100, 100] - 255 * np.array([red, green, blue])).max() <= 2


def test_a_stream_without_times_runs_at_its_rate(tmp_path):
    path = make_clip(tmp_path / "raw.h264", range(8), options={"bf": "0"})
    clip, shown = all_frames(path)
    assert len(shown) == 8
    assert np.diff([f.time for f in shown]) == pytest.approx(1 / clip.fps)


def test_times_that_run_backwards_are_repaired(tmp_path):
    """After any step back, and a large one forward, the times go on at the frame rate."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for dts, pts in enumerate([10, 50, 50, 130, 110, 170, 5000, 5040, 10, 50]):
            frame = av.VideoFrame.from_ndarray(pattern(dts, 64, 48), "rgb24")
            for packet in video.encode(frame.reformat(format="yuvj420p")):
                packet.time_base, packet.dts, packet.pts = MILLISECONDS, dts, pts
                output.mux(packet)
    clip, shown = all_frames(path)
    assert clip.fps == pytest.approx(25)
    times = [f.pts - shown[0].pts for f in shown]
    assert times == [0, 40, 41, 120, 160, 220, 260, 300, 340, 380]


def test_frames_come_one_by_one(tmp_path):
    clip = probe(make_clip(tmp_path / "v.mp4"))
    walk = frames(clip, Damage())
    assert isinstance(walk, Generator)
    assert next(walk).index == 0
    walk.close()


# --- what is no video --------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        probe(path)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    return message


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    empty, text, playlist = tmp_path / "empty.mp4", tmp_path / "t.mp4", tmp_path / "list.mp4"
    empty.touch()
    text.write_text("dear diary\n" * 200)
    make_clip(tmp_path / "v.mp4", range(2))
    playlist.write_text("ffconcat version 1.0\nfile v.mp4\n")
    notes = tmp_path / "notes.txt"
    notes.write_text("dear diary\n" * 200)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "no such file" in refused(tmp_path / "absent.mp4")
    assert "empty" in refused(empty)
    assert "folder" in refused(tmp_path)
    assert "folder or device" in refused(fifo)
    assert "not a video" in refused(text)
    assert "not a video" in refused(notes)
    assert "not a video" in refused(playlist)
    assert "no video stream" in refused(make_sound(tmp_path / "song.m4a"))


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(pattern(0, 64, 64), "rgb24")
        output.mux(cover.encode(frame.reformat(format="yuvj420p")))
        output.mux(cover.encode(None))
    assert "no video stream" in refused(path)


def test_a_cut_off_recording_without_its_index_is_refused(tmp_path):
    assert "cut off" in refused(truncate(make_clip(tmp_path / "v.mp4"), 0.6))


def test_nothing_decodable_is_refused(tmp_path):
    path = make_clip(tmp_path / "v.mp4", range(5))
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    assert "not one frame" in refused(path)


def test_names_cannot_reach_the_terminal(tmp_path):
    evil = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\x1b[31m\xff\nx.mp4"))
    assert "\\x1b[31m\\udcff\\nx.mp4" in printable(evil)
    refused(evil)
    make_clip(tmp_path / "v.mp4", range(2)).rename(evil)
    assert len(all_frames(evil)[1]) == 2
    assert printable(Path("/tmp/Tänzer 1.mp4")) == "/tmp/Tänzer 1.mp4"


# --- damage ------------------------------------------------------------------------------------


def test_a_sound_clip_has_no_damage(tmp_path):
    for name in ("v.mp4", "v.mkv", "v.ts", "v.webm", "v.flv"):
        codec = "libvpx-vp9" if name == "v.webm" else "libx264"
        audio = "libopus" if name == "v.webm" else "aac"
        clip = probe(make_clip(tmp_path / name, range(0, 20), codec=codec, audio=audio))
        assert not inspect(clip), name


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_are_counted_and_the_frames_still_come(tmp_path, seed):
    path = make_clip(tmp_path / "v.mp4", range(40), options={"g": "10", "crf": "10"})
    with av.open(str(path)) as container:  # keep clear of the index at the end
        end = max(e.pos + e.size for e in container.streams.video[0].index_entries)
    overwrite(path, 12, seed, 0.1, end / path.stat().st_size)
    clip = probe(path)
    damage = inspect(clip)
    assert 1 <= damage.packets <= 40 and damage.missing == 0
    assert inspect(clip) == damage
    first, second = list(frames(clip, damage)), list(frames(clip, damage))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        plain = []
        for packet in container.demux(stream):
            try:
                plain += [frame.pts for frame in packet.decode()]
            except av.FFmpegError:
                continue
    assert [f.pts for f in first] == plain
    assert [(f.index, f.pts) for f in first] == [(f.index, f.pts) for f in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_truncated_file_gives_its_frames_and_reports_what_is_missing(tmp_path, name):
    path = make_clip(tmp_path / name, range(100))
    if name == "v.mp4":  # only an index at the front survives; ours is there
        clip = probe(path)
        write(path, clip, list(frames(clip, Damage())))
    clip = probe(truncate(path, 0.6))
    damage = inspect(clip)
    count = sum(1 for _ in frames(clip, damage))
    assert 0 < count < 100
    assert damage.missing == pytest.approx(100 - count, abs=2)


def test_only_the_first_frame_survives(tmp_path):
    source = make_clip(tmp_path / "long.mkv", range(30), codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(source)) as container:
        first = next(p for p in container.demux(video=0) if p.size)
    path = tmp_path / "one.mkv"
    assert first.pos is not None
    path.write_bytes(source.read_bytes()[: first.pos + first.size + 60])
    clip, shown = all_frames(path)
    assert len(shown) == 1
    assert inspect(clip).missing == 29


# --- frames out --------------------------------------------------------------------------------


def test_uneven_times_and_sound_are_kept_exactly(tmp_path):
    source = make_clip(tmp_path / "v.mkv", UNEVEN, time_base=MILLISECONDS, audio="aac")
    clip, shown = all_frames(source)
    path = tmp_path / "new" / "overlay.mp4"
    assert write(path, clip, shown) is None
    assert times(path) == [t * MILLISECONDS for t in UNEVEN]
    before, after = audio_packets(source), audio_packets(path)
    assert [b for _, b in after] == [b for _, b in before]
    moved = [float(a - b) for (a, _), (b, _) in zip(after, before, strict=True)]
    assert np.abs(moved).max() <= 0.001  # Matroska's own rounding
    assert list(path.parent.iterdir()) == [path]
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        # The last frame lasts as long as a frame of the clip does.
        assert video.duration is not None and video.time_base is not None
        assert video.duration * video.time_base == Fraction(1400, 1000) + Fraction(1, 25)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded


def test_the_sound_starts_where_it_did(tmp_path):
    """A transport stream's clock starts late: picture and sound move together."""
    source = make_clip(tmp_path / "v.ts", range(20), audio="aac")
    clip, shown = all_frames(source)
    write(tmp_path / "o.mp4", clip, shown)
    lag = times(source)[0] - audio_packets(source)[0][0]
    new_lag = times(tmp_path / "o.mp4")[0] - audio_packets(tmp_path / "o.mp4")[0][0]
    assert float(new_lag) == pytest.approx(float(lag), abs=1e-4)
    assert [f.time for f in all_frames(tmp_path / "o.mp4")[1]] == [f.time for f in shown]


def test_sound_that_mp4_cannot_hold_becomes_aac_and_is_reported(tmp_path):
    source = make_clip(
        tmp_path / "v.mkv", range(0, 1000, 40), time_base=MILLISECONDS, audio="pcm_s16le"
    )
    clip, shown = all_frames(source)
    note = write(tmp_path / "o.mp4", clip, shown)
    assert note is not None and "pcm_s16le" in note and "AAC" in note
    with av.open(str(tmp_path / "o.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.codec_context.name == "aac"
        tone = np.concatenate([f.to_ndarray()[0] for f in container.decode(sound)])
        rate = sound.rate
    spectrum = np.abs(np.fft.rfft(tone[: rate // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=2)
    assert len(tone) / rate == pytest.approx(0.96, abs=0.1)


def key_frames(path: Path) -> list[float]:
    """When each key frame is shown, s."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return [float(packet_time(p)) for p in container.demux(video) if p.is_keyframe and p.size]


@pytest.mark.parametrize("step", [0.04, 0.16, 0.48, 2.0])
def test_a_key_frame_comes_every_half_second(tmp_path, step):
    ticks = round(step / 0.04)
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(0, 60 * ticks, ticks)))
    write(tmp_path / "o.mp4", clip, shown)
    found = np.diff(key_frames(tmp_path / "o.mp4"))
    assert found.max() <= max(0.5, step) + 1e-6
    assert np.median(found) > 0.5 - step  # and not more often


def test_a_span_begins_with_a_key_frame(tmp_path):
    clip = probe(make_clip(tmp_path / "v.mp4", range(60)), Span(0.7))
    write(tmp_path / "o.mp4", clip, frames(clip, Damage()))
    assert key_frames(tmp_path / "o.mp4")[:3] == pytest.approx([0, 0.48, 0.96])


@pytest.mark.parametrize(("width", "height"), [(321, 241), (320, 241), (1, 1)])
def test_odd_sizes_double_the_last_line(tmp_path, width, height):
    clip = Clip(tmp_path / "x", width, height, 25.0, Fraction(1, 25), 3, has_audio=False)
    write(
        tmp_path / "o.mp4", clip, (Frame(i, i, i / 25, pattern(i, width, height)) for i in range(3))
    )
    got, shown = all_frames(tmp_path / "o.mp4")
    assert got.image_size == (width + width % 2, height + height % 2)
    assert difference(shown[1].image[:height, :width], pattern(1, width, height)) < 3
    assert difference(shown[1].image[-1], shown[1].image[height - 1]) < 2


def test_colours_survive_and_are_tagged(tmp_path):
    chosen = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = chosen.repeat(32, 0).repeat(32, 1)
    clip = Clip(tmp_path / "x", 256, 192, 25.0, Fraction(1, 25), 1, has_audio=False)
    write(tmp_path / "o.mp4", clip, [Frame(0, 0, 0.0, image)])
    with av.open(str(tmp_path / "o.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
        assert frame.color_range == 1
        luma = frame.to_ndarray()[:192]
    centres = slice(16, None, 32)
    weights = np.array([0.2126, 0.7152, 0.0722])  # BT.709
    assert np.abs(luma[centres, centres] - (16 + chosen / 255 @ weights * 219)).max() < 4
    got = all_frames(tmp_path / "o.mp4")[1][0].image[centres, centres]
    assert np.abs(got.astype(int) - chosen).mean() < 4


def test_frames_may_be_larger_than_the_clip(tmp_path):
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(4)))
    double = [replace(f, image=np.concatenate([f.image, f.image], 1)) for f in shown]
    write(tmp_path / "o.mp4", clip, double)
    assert probe(tmp_path / "o.mp4").image_size == (256, 96)


def test_no_frames_no_file(tmp_path):
    clip = probe(make_clip(tmp_path / "v.mp4", range(2)))
    with pytest.raises(VideoError, match="no frame"):
        write(tmp_path / "o.mp4", clip, [])
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, VideoError("the disk was pulled")])
def test_an_interruption_leaves_no_file_and_the_old_one(tmp_path, interruption):
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(30)))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "o.mp4").write_bytes(b"old")

    def interrupted():
        yield from shown[:20]
        raise interruption

    with pytest.raises(type(interruption) if isinstance(interruption, Exception) else interruption):
        write(folder / "o.mp4", clip, interrupted())
    assert [p.name for p in folder.iterdir()] == ["o.mp4"]
    assert (folder / "o.mp4").read_bytes() == b"old"


def test_an_unwritable_place_is_one_line(tmp_path):
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(2)))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "file" / "o.mp4", clip, shown)


def test_a_full_disk_is_one_line(tmp_path):
    """A limit on the size of files acts like a disk that fills up while frames are written."""
    path = make_clip(tmp_path / "v.mp4", range(30), width=320, height=240)
    program = f"""
import resource, signal
from pathlib import Path
import numpy as np
from staf_cli.core.errors import OutputError
from staf_cli.core.records import Frame
from staf_cli.video import probe, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(0)
clip = probe(Path({str(path)!r}))
try:
    write(Path({str(tmp_path / "out" / "o.mp4")!r}), clip,
          (Frame(i, i * 512, i / 25, noise.integers(0, 256, (240, 320, 3), dtype=np.uint8))
           for i in range(30)))
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "cannot write" in done.stdout and os.strerror(errno.EFBIG).lower() in done.stdout
    assert done.stderr == ""
    assert list((tmp_path / "out").iterdir()) == []


# --- the user's own ffmpeg ---------------------------------------------------------------------

FAKE = f"""#!{sys.executable}
import json, sys
from pathlib import Path
import av
if sys.argv[1:] == ["-h", "long"]:
    print("-fps_mode mode")
    sys.exit()
here = Path(__file__).parent
(here / "arguments.json").write_text(json.dumps(sys.argv[1:]))
options = dict(zip(sys.argv[1:], sys.argv[2:]))
codec = options["-c:v"]
if codec == "nonsense":
    print("Unknown encoder 'nonsense'", file=sys.stderr)
    print("Conversion failed!", file=sys.stderr)
    sys.exit(1)
if codec == "chatty":
    sys.stderr.write("a complaint\\n" * 100_000)
late = int(options["-itsoffset"])
pictures, sound = [], []
with av.open(sys.stdin.buffer, format=options["-f"]) as container:
    video = container.streams.video[0]
    form = [video.codec_context.name, video.pix_fmt, video.width, video.height]
    for packet in container.demux():
        if packet.size:
            target = pictures if packet.stream.type == "video" else sound
            target.append([str(packet.pts * packet.time_base + late), bytes(packet).hex()])
(here / "seen.json").write_text(json.dumps([form, [p[0] for p in pictures], sound]))
output = [a for a in sys.argv if a.startswith("file:")][0]
Path(output[5:]).write_bytes(b"encoded")
sys.exit(1 if codec == "late_failure" else 0)
"""


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch) -> Path:
    """A program named ffmpeg, alone in PATH, that writes down what it was given."""
    folder: Path = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_users_ffmpeg_is_given_times_and_sound(tmp_path, fake_ffmpeg):
    source = make_clip(
        tmp_path / "v.mkv", UNEVEN, time_base=MILLISECONDS, audio="aac", width=66, height=50
    )
    clip, shown = all_frames(source)
    odd = [replace(f, image=f.image[:49, :65]) for f in shown]
    write(tmp_path / "o.mp4", clip, odd, "libx265")
    form, pictures, sound = json.loads((fake_ffmpeg / "seen.json").read_text())
    assert form == ["rawvideo", "yuv420p", 66, 50]
    assert [Fraction(t) for t in pictures] == [t * MILLISECONDS for t in UNEVEN]
    expected = audio_packets(source)
    assert [bytes.fromhex(b) for _, b in sound] == [b for _, b in expected]
    assert [Fraction(t) for t, _ in sound] == [t for t, _ in expected]
    arguments = json.loads((fake_ffmpeg / "arguments.json").read_text())
    options = dict(pairwise(arguments))
    assert options["-c:v"] == "libx265" and options["-c:a"] == "copy"
    assert options["-tag:v"] == "hvc1" and options["-fps_mode"] == "passthrough"
    assert options["-enc_time_base"] == "1/1000" and "-copyts" in arguments
    assert "gte(t,prev_forced_t+" in options["-force_key_frames"]
    assert (tmp_path / "o.mp4").read_bytes() == b"encoded"


def test_a_failing_ffmpeg_is_reported_with_its_own_reason(tmp_path, fake_ffmpeg):
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(30), width=640, height=480))
    for codec in ("nonsense", "late_failure"):
        with pytest.raises(OutputError, match=f"with {codec}") as caught:
            write(tmp_path / "o.mp4", clip, shown, codec)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "o.mp4").exists()
    with pytest.raises(MissingTool, match="Unknown encoder 'nonsense'"):
        check_codec("nonsense")
    check_codec("fine")


def test_a_chatty_ffmpeg_does_not_block(tmp_path, fake_ffmpeg):
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(3)))
    write(tmp_path / "o.mp4", clip, shown, "chatty")
    assert (tmp_path / "o.mp4").exists()


def test_an_interruption_ends_ffmpeg(tmp_path, fake_ffmpeg, monkeypatch):
    started = []
    popen = subprocess.Popen

    def remembering(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remembering)
    clip, shown = all_frames(make_clip(tmp_path / "v.mp4", range(4)))

    def interrupted():
        yield from shown[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "o.mp4", clip, interrupted(), "slow")
    assert started and all(process.returncode is not None for process in started)
    assert not (tmp_path / "o.mp4").exists()


def test_a_missing_ffmpeg_is_reported_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="not in PATH"):
        check_codec("hevc_nvenc")


def test_editing_codecs_go_into_mov():
    assert suffix_for(None) == suffix_for("h264_nvenc") == suffix_for("hevc") == ".mp4"
    assert suffix_for("prores_ks") == ".mov"


@pytest.mark.skipif(not Path("/usr/bin/ffmpeg").exists(), reason="the machine has no ffmpeg")
@pytest.mark.parametrize("codec", ["mpeg4", "prores_ks"])
def test_a_real_ffmpeg_keeps_times_and_sound(tmp_path, codec):
    source = make_clip(tmp_path / "v.mkv", UNEVEN, time_base=MILLISECONDS, audio="aac")
    clip, shown = all_frames(source)
    path = tmp_path / f"o{suffix_for(codec)}"
    write(path, clip, shown, codec)
    assert times(path) == [t * MILLISECONDS for t in UNEVEN]
    assert [b for _, b in audio_packets(path)] == [b for _, b in audio_packets(source)]
    assert key_frames(path)[:2] == ([0.0, 0.9] if codec == "mpeg4" else [0.0, 0.04])
    for frame in all_frames(path)[1]:
        assert difference(frame.image, pattern(frame.index, 128, 96)) < 8
