"""A stretch of a clip, against the same stretch of the whole clip's frames and sound."""

from dataclasses import replace
from fractions import Fraction
from math import inf
from pathlib import Path

import av
import numpy as np
import pytest

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import Span, parse_time
from staf_cli.video import Damage, container, damage, frames, inspect, probe, write
from staf_cli.video.seeking import find_entry
from tests.support.made_clips import make_clip, overwrite, packet_time, truncate

MILLISECONDS = Fraction(1, 1000)
UNEVEN = [40 * k + 17 * (k % 5 == 2) + 130 * (k // 9) for k in range(60)]  # ms, with holes
SPANS = [(0, 0.5), (0.7, None), (0.71, 1.3), (1.2, 1.2001), (1.44, 2.0), (2.3, 9)]
SHORT = {"g": "12", "bf": "3"}
OPEN = {**SHORT, "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
X265 = {"x265-params": "log-level=none:keyint=12:min-keyint=1:bframes=3:b-adapt=0:open-gop=1"}

# name, codec, options, times, time base, whether it can be entered at a key frame
KINDS = {
    "h264.mp4": ("libx264", SHORT, range(60), Fraction(1, 25), True),
    "open.mp4": ("libx264", OPEN, range(60), None, True),
    "open.ts": ("libx264", OPEN, range(60), None, True),
    "refresh.ts": ("libx264", {"g": "12", "intra-refresh": "1"}, range(60), None, True),
    "closed.flv": ("libx264", SHORT, range(60), None, True),
    "uneven.mkv": ("libx264", SHORT, UNEVEN, MILLISECONDS, True),
    "open265.mp4": ("libx265", X265, range(60), Fraction(1, 25), True),
    "vp9.webm": ("libvpx-vp9", {"g": "12"}, UNEVEN, MILLISECONDS, True),
    "vp8.webm": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}, UNEVEN,
                 MILLISECONDS, False),
    "av1.mp4": ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=12"}, range(60), None, True),
    "broadcast.ts": ("mpeg2video", {"g": "12", "bf": "2"}, range(60), None, True),
    "edit.mov": ("prores_ks", {}, range(60), None, True),
    "packed.avi": ("mpeg4", {"g": "12", "bf": "2"}, range(60), None, False),
    "loop.gif": ("gif", {}, range(60), None, False),
}  # fmt: skip
FORMATS = {"prores_ks": "yuv422p10le", "gif": "rgb8"}


def made(folder: Path, name: str, **more: object) -> Path:
    codec, options, pts, time_base, _ = KINDS[name]
    return make_clip(
        folder / name,
        pts,
        codec=codec,
        options=dict(options),
        pixel_format=FORMATS.get(codec, "yuv420p"),
        time_base=time_base or Fraction(1, 25),
        **more,  # type: ignore[arg-type]
    )


def read(path: Path, span: Span = Span()) -> tuple[Clip, Damage, list[Frame]]:  # noqa: B008
    clip = probe(path, span)
    damage = inspect(clip)
    return clip, damage, list(frames(clip, damage))


def assert_same(got: list[Frame], expected: list[Frame]) -> None:
    assert [(f.index, f.pts, f.time) for f in got] == [(f.index, f.pts, f.time) for f in expected]
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one.image, other.image), one.index


@pytest.mark.parametrize("name", KINDS)
def test_a_span_has_the_frames_of_the_whole(tmp_path, name):
    path = made(tmp_path, name)
    whole = read(path)[2]
    assert len(whole) == 60
    for start, end in SPANS:
        expected = [f for f in whole if start <= f.time and (end is None or f.time < end)]
        if not expected:
            with pytest.raises(VideoError, match="no frame from"):
                probe(path, Span(start, end))
            continue
        clip, damage, got = read(path, Span(start, end))
        assert not damage and clip.frames is None
        assert_same(got, expected)


def decoded_packets(monkeypatch):
    """A list that gets every packet that is decoded from now on."""
    packets = []
    original = container.decode

    def decode(stream, packet):
        packets.append(packet)
        return original(stream, packet)

    for module in (container, damage):  # the two that decode
        monkeypatch.setattr(module, "decode", decode)
    return packets


@pytest.mark.parametrize("name", KINDS)
def test_frames_before_are_not_decoded_where_packets_count_frames(tmp_path, name, monkeypatch):
    path = made(tmp_path, name)
    clip = probe(path, Span(1.6))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        entry = find_entry(clip, next(container.decode(stream)))
    assert (entry is not None) == KINDS[name][-1]
    if name in ("refresh.ts", "packed.avi", "vp8.webm", "loop.gif"):
        return  # those are decoded from the beginning in the end
    decoded = decoded_packets(monkeypatch)
    shown = list(frames(clip, Damage()))
    assert len(shown) < 40
    assert len(decoded) < len(shown) + 12 + 9  # a group of pictures, and the first for itself


def test_the_decoder_stops_after_the_span(tmp_path, monkeypatch):
    clip = probe(made(tmp_path, "h264.mp4"), Span(0.4, 0.6))
    decoded = decoded_packets(monkeypatch)
    assert not inspect(clip)
    assert len(decoded) < 50  # the second key packet after it is the 37th
    decoded.clear()
    assert len(list(frames(clip, Damage()))) == 5
    assert len(decoded) < 40


def test_a_recording_that_begins_between_key_frames_is_counted_as_the_whole_is(tmp_path):
    """Its first packets cannot be decoded, so they must not count."""
    path = made(tmp_path, "open.ts")
    content = path.read_bytes()
    path.write_bytes(content[188 * (len(content) // 188 // 3) :])
    whole = read(path)[2]
    assert 20 < len(whole) < 50
    middle = whole[len(whole) // 2].time
    assert_same(read(path, Span(middle))[2], [f for f in whole if f.time >= middle])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["h264.mp4", "uneven.mkv", "open.ts"])
def test_a_damaged_clip_gives_the_same_frames_too(tmp_path, name, seed):
    path = overwrite(made(tmp_path, name), 20, seed, 0.3, 0.7)
    _, damage, whole = read(path)
    assert damage
    for start, end in [(0.3, 1.5), (1.0, None)]:
        _, found, got = read(path, Span(start, end))
        if found:  # else the frames lost before the span count by their packets
            assert_same(got, [f for f in whole if start <= f.time < (end or inf)])
        assert found.packets <= damage.packets


def test_damage_counts_within_the_span_only(tmp_path):
    """Bytes of the third group of pictures, 0.96 to 1.44 s, are overwritten."""
    path = make_clip(tmp_path / "v.mkv", range(60), options={"g": "12", "bf": "0", "crf": "10"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert packets[26].pos is not None
        place = packets[26].pos + 60
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(range(40))
    path.write_bytes(content)
    total = inspect(probe(path)).packets
    assert total >= 1
    for span, expected in [
        (Span(0, 0.9), 0),
        (Span(1.5), 0),
        (Span(1.0, 1.4), total),
        (Span(1.3, 1.4), total),  # its frames are made from the damaged one
        (Span(0.5, 1.02), 0),  # the damaged one is the 26th, at 1.04 s
    ]:
        assert inspect(probe(path, span)).packets == expected, span


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_what_is_missing_counts_within_the_span_only(tmp_path, name):
    path = make_clip(tmp_path / name, range(100))
    if name == "v.mp4":  # only an index at the front survives; ours is there
        clip = probe(path)
        write(path, clip, list(frames(clip, Damage())))
    truncate(path, 0.6)
    left = read(path)[2][-1].time
    assert inspect(probe(path, Span(0, left - 0.2))).missing == 0
    whole, part = inspect(probe(path)).missing, inspect(probe(path, Span(0.5, 3.2))).missing
    assert part == pytest.approx(whole - 0.8 * 25, abs=2)
    with pytest.raises(VideoError, match=r"no frame from 3\.9 s"):
        probe(path, Span(3.9))


def test_stretches_that_cannot_be_are_refused(tmp_path):
    for start, end in [(-1, None), (float("nan"), None), (2, 2), (2, 1), (float("inf"), None)]:
        with pytest.raises(UsageError, match="choose a time"):
            Span(start, end)
    with pytest.raises(UsageError):
        Span(0, float("nan"))
    path = make_clip(tmp_path / "v.mp4", range(25))
    with pytest.raises(VideoError, match=r"no frame from 1 s to the end; .* about 1\.0 s"):
        probe(path, Span(1.0))
    assert len(read(path, Span(0.96))[2]) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12.5", 12.5),
        ("90", 90.0),
        (".5", 0.5),
        ("1:30", 90.0),
        ("1:02.04", 62.04),
        ("0:01:30.25", 90.25),
        ("10:00:00", 36000.0),
    ],
)
def test_times_are_read_as_people_write_them(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:75:00", "nan", "inf", "1e3", "1:2:3:4", "x"])
def test_other_times_are_refused(text):
    with pytest.raises(UsageError, match="invalid time"):
        parse_time(text)


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(packet_time(p), bytes(p)) for p in container.demux(stream) if p.size]


@pytest.mark.parametrize("name", ["h264.mp4", "uneven.mkv", "open.ts"])
def test_what_is_written_of_a_span_starts_at_0_with_its_sound(tmp_path, name):
    path = made(tmp_path, name, audio="aac")
    clip, _, shown = read(path, Span(1.01, 1.9))
    assert write(tmp_path / "o.mp4", clip, shown) is None
    pictures, sound = packets(tmp_path / "o.mp4", "video"), packets(tmp_path / "o.mp4", "audio")
    origin = shown[0].time
    expected = [f.time - origin for f in shown]
    assert sorted(float(t) for t, _ in pictures) == pytest.approx(expected, abs=1e-4)
    with av.open(str(path)) as container:
        zero = container.start_time / av.time_base
    of_file = [(float(t) - zero - origin, b) for t, b in packets(path, "audio")]
    wanted = [(t, b) for t, b in of_file if 0 <= t < 1.9 - origin]
    assert len(sound) == len(wanted)
    for (_, got), (_, original) in zip(sound, wanted, strict=True):
        assert original.endswith(got)  # MPEG-TS has a header of 7 bytes before it
        assert len(original) - len(got) == 7 * (name == "open.ts")
    assert [float(t) for t, _ in sound] == pytest.approx([t for t, _ in wanted], abs=1e-3)
    assert 0 <= float(sound[0][0]) < 1024 / 48000  # one packet


def test_sound_of_a_span_encoded_anew_is_in_step(tmp_path):
    path = make_clip(
        tmp_path / "v.mkv", range(0, 2000, 40), time_base=MILLISECONDS, audio="pcm_s16le"
    )
    clip, _, shown = read(path, Span(0.5, 1.5))
    assert "AAC" in str(write(tmp_path / "o.mp4", clip, shown))
    with av.open(str(tmp_path / "o.mp4")) as container:
        pieces = [(f.time, f.samples) for f in container.decode(audio=0)]
    assert pieces[0][0] == pytest.approx(0, abs=0.03)
    assert sum(n for _, n in pieces) / 48000 == pytest.approx(1.0, abs=0.06)


def test_a_span_from_the_start_keeps_its_clock(tmp_path):
    """As the whole clip does, when its pictures begin after the sound."""
    path = make_clip(tmp_path / "v.mkv", range(500, 900, 40), time_base=MILLISECONDS, audio="aac")
    clip, _, shown = read(path, Span(0, 0.7))
    write(tmp_path / "o.mp4", clip, shown)
    assert [f.time for f in read(tmp_path / "o.mp4")[2]] == [f.time for f in shown]
    assert replace(clip, span=Span()).span == Span()
