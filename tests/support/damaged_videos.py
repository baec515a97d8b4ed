"""Damaged videos, the same at every call: small clips of many kinds, each harmed in many ways.

A clip's bytes are flipped, zeroed, taken out, put in or cut off, its packets are dropped, its
index or its length is made wrong. There are also files that never were a video.
"""

import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from staf_cli.core.records import Image
from tests.support.made_clips import make_clip, make_sound, pattern

FRAMES = 16
SIZE = (96, 72)  # width, height, px
MILLISECONDS = Fraction(1, 1000)

Harm = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """A container and a codec, as `make_clip` makes them."""

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    audio: str | None = None
    time_base: Fraction = Fraction(1, 25)
    muxer: dict[str, str] = field(default_factory=dict)  # the container's options


@dataclass(frozen=True)
class Damaged:
    """A file to be tried; `sound` is the clip it was made from, None where it never was one."""

    path: Path
    harm: str
    sound: Path | None


# The same bytes at every call: no look ahead in x264, no random numbers in Matroska.
H264 = {
    "g": "8",
    "crf": "18",
    "preset": "veryfast",
    "threads": "1",
    "x264-params": "rc-lookahead=0:sync-lookahead=0",
}
GOP = {"g": "8"}
EXACT = {"fflags": "+bitexact"}
KINDS = (
    Kind("h264.mp4", "libx264", H264, audio="aac"),
    Kind("h264_index_first.mp4", "libx264", H264, muxer={"movflags": "+faststart"}),
    Kind("h264_pieces.mp4", "libx264", H264, muxer={"movflags": "+frag_keyframe+empty_moov"}),
    Kind("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=8"}),
    Kind("h264.mov", "libx264", {**H264, "bf": "0"}, audio="aac"),
    Kind("h264.mkv", "libx264", H264, audio="aac", time_base=MILLISECONDS, muxer=EXACT),
    Kind("mjpeg.mkv", "mjpeg", pixel_format="yuvj420p", time_base=MILLISECONDS, muxer=EXACT),
    Kind("vp8.webm", "libvpx", GOP, time_base=MILLISECONDS, muxer=EXACT),
    Kind("vp9.webm", "libvpx-vp9", GOP, time_base=MILLISECONDS, muxer=EXACT),
    Kind("mpeg4.avi", "mpeg4", GOP, audio="mp3"),
    Kind("h264.ts", "libx264", H264, audio="aac"),
    Kind("h264.flv", "libx264", H264, audio="aac"),
    Kind("flv1.flv", "flv", GOP, time_base=MILLISECONDS),
    Kind("mpeg2.mpg", "mpeg2video", GOP),
    Kind("picture.gif", "gif", pixel_format="rgb8", time_base=Fraction(1, 100)),
)


def grained(index: int, width: int, height: int) -> Image:
    """`pattern` with grain that moves, so that a file holds more pictures than headers."""
    grain = np.random.default_rng(0).integers(-24, 25, (height, width, 1))
    image = pattern(index, width, height) + np.roll(grain, (index, 2 * index), (0, 1))
    return image.clip(0, 255).astype(np.uint8)


def sound_clip(folder: Path, kind: Kind) -> Path:
    """The clip before it is damaged."""
    step = round(Fraction(1, 25) / kind.time_base)
    path = make_clip(
        folder / kind.name,
        range(0, FRAMES * step, step),
        width=SIZE[0],
        height=SIZE[1],
        time_base=kind.time_base,
        codec=kind.codec,
        pixel_format=kind.pixel_format,
        options=kind.options,
        audio=kind.audio,
        picture=grained,
    )
    return copy_packets(path, path, muxer=kind.muxer) if kind.muxer else path


def copy_packets(
    source: Path,
    target: Path,
    dropped: frozenset[int] = frozenset(),
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write a file's packets anew, all but the video's `dropped` ones (0: the first)."""
    with av.open(str(source)) as old:
        packets = [p for p in old.demux() if p.size]
        with av.open(str(target), "w", options=muxer or {}) as new:
            streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
            number = 0
            for packet in packets:
                is_video = packet.stream.type == "video"
                number += is_video
                if not (is_video and number - 1 in dropped):
                    packet.stream = streams[packet.stream_index]
                    new.mux(packet)
    return target


# --- what is done to bytes ------------------------------------------------------------------------


def cut_off(share: float) -> Harm:
    return lambda content, _: content[: int(share * len(content))]


def flip(count: int, start: float, end: float) -> Harm:
    """Another value for `count` bytes between two shares of the file."""

    def harm(content: bytes, chosen: random.Random) -> bytes:
        changed = bytearray(content)
        for _ in range(count):
            at = chosen.randrange(int(start * len(content)), int(end * len(content)))
            changed[at] ^= chosen.randrange(1, 256)
        return bytes(changed)

    return harm


def flip_bit(content: bytes, chosen: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    return bytes(changed)


def flip_many(content: bytes, chosen: random.Random) -> bytes:
    """Another value for every hundredth byte behind the header."""
    return flip(len(content) // 100, 0.1, 1)(content, chosen)


def flip_header(content: bytes, chosen: random.Random) -> bytes:
    return flip(4, 0, min(1, 400 / len(content)))(content, chosen)


def replace_part(start: float, share: float, new: Callable[[int, random.Random], bytes]) -> Harm:
    """A part of the file replaced by what `new` makes for its length."""

    def harm(content: bytes, chosen: random.Random) -> bytes:
        at, count = int(start * len(content)), max(1, int(share * len(content)))
        old = content[at : at + count]
        return content[:at] + new(len(old), chosen) + content[at + count :]

    return harm


def zero(start: float, share: float) -> Harm:
    return replace_part(start, share, lambda count, _: bytes(count))


def take_out(start: float, share: float) -> Harm:
    return replace_part(start, share, lambda _, __: b"")


def swap_blocks(content: bytes, _: random.Random) -> bytes:
    """Two blocks in each other's place, as a failing disk may return them."""
    a, b, n = int(0.4 * len(content)), int(0.6 * len(content)), len(content) // 10
    one, other = content[a : a + n], content[b : b + n]
    return content[:a] + other + content[a + n : b] + one + content[b + n :]


HARMS: dict[str, Harm] = {
    "cut_to_64_bytes": lambda content, _: content[:64],
    **{f"cut_to_{percent}": cut_off(percent / 100) for percent in (5, 20, 40, 60, 80, 95)},
    "cut_last_byte": lambda content, _: content[:-1],
    "flip_bit": flip_bit,
    "flip_1_early": flip(1, 0.1, 0.5),
    "flip_1_late": flip(1, 0.5, 0.9),
    "flip_12": flip(12, 0.1, 0.9),
    "flip_many": flip_many,
    "flip_header": flip_header,
    "flip_end": flip(6, 0.95, 1),
    "zero_a_little": zero(0.45, 0.01),
    "zero_a_fifth": zero(0.5, 0.2),
    "zero_start": zero(0, 0.01),
    "zero_end": zero(0.9, 0.1),
    "take_out_a_little": take_out(0.55, 0.01),
    "take_out_a_fifth": take_out(0.3, 0.2),
    "put_in": replace_part(0.5, 0, lambda _, chosen: chosen.randbytes(700)),
    "swap_blocks": swap_blocks,
    "garbage_behind": lambda content, chosen: content + chosen.randbytes(3000),
    "garbage_before": lambda content, chosen: chosen.randbytes(1000) + content,
    "twice": lambda content, _: content + content,
}


def rename(mark: bytes) -> Harm:
    """The last place of a mark in the file gets another mark."""

    def harm(content: bytes, _: random.Random) -> bytes:
        at = content.rindex(mark)
        return content[:at] + b"free"[: len(mark)] + content[at + len(mark) :]

    return harm


def write_at(mark: bytes, offset: int, data: bytes) -> Harm:
    """Other bytes at a distance from the first place of a mark."""

    def harm(content: bytes, _: random.Random) -> bytes:
        at = content.index(mark) + offset
        return content[:at] + data + content[at + len(data) :]

    return harm


def number(value: int) -> bytes:
    return struct.pack(">I", value)


# Offsets from a box's name, in bytes: ISO/IEC 14496-12, version 0 of each box.
MP4_LIES: dict[str, Harm] = {
    **{
        f"no_{box}": rename(box.encode())
        for box in (
            *("ftyp", "mdat", "moov", "trak", "mdia", "minf", "stbl"),
            *("stsd", "stts", "stsc", "stsz", "stco", "avc1", "avcC"),
        )
    },
    "length_0": write_at(b"mdhd", 20, number(0)),
    "length_too_long": write_at(b"mdhd", 20, number(90_000_000)),
    "all_frames_at_once": write_at(b"stts", 16, number(0)),
    "a_frame_lasts_days": write_at(b"stts", 16, number(2**31 - 1)),
    "times_without_end": write_at(b"stts", 12, number(2**32 - 1)),
    "more_samples_than_bytes": write_at(b"stsz", 12, number(2**31 - 1)),
    "fewer_samples": write_at(b"stsz", 12, number(12)),
    "a_sample_too_long": write_at(b"stsz", 36, number(10_000_000)),
    "a_sample_of_nothing": write_at(b"stsz", 36, number(0)),
    "samples_behind_the_end": write_at(b"stco", 12, number(10_000_000)),
    "samples_in_the_header": write_at(b"stco", 12, number(8)),
    "very_wide": write_at(b"avc1", 28, b"\xff\xff\xff\xff"),
    "time_scale_0": write_at(b"mdhd", 16, number(0)),
    "time_scale_huge": write_at(b"mdhd", 16, number(2**32 - 1)),
}
DOUBLE_LENGTH = b"\x44\x89\x88"  # Matroska's Duration, of eight bytes
MKV_LIES: dict[str, Harm] = {
    "length_0": write_at(DOUBLE_LENGTH, 3, struct.pack(">d", 0)),
    "length_negative": write_at(DOUBLE_LENGTH, 3, struct.pack(">d", -1e9)),
    "length_not_a_number": write_at(DOUBLE_LENGTH, 3, struct.pack(">d", float("nan"))),
    "length_too_long": write_at(DOUBLE_LENGTH, 3, struct.pack(">d", 1e15)),
    "foreign_letters": write_at(b"Lavf", 0, b"\xe9\xe8\xfc\xdf"),  # in Latin-1
    "no_cluster": rename(b"\x1f\x43\xb6\x75"),
    "no_cues": rename(b"\x1c\x53\xbb\x6b"),
    "no_tracks": rename(b"\x16\x54\xae\x6b"),
}
AVI_LIES: dict[str, Harm] = {
    "no_index": rename(b"idx1"),
    "no_movi": rename(b"movi"),
    "more_frames": write_at(b"strh", 40, struct.pack("<I", 90_000)),
    "rate_0": write_at(b"strh", 28, struct.pack("<I", 0)),
    "scale_0": write_at(b"strh", 32, struct.pack("<I", 0)),
    "very_wide": write_at(b"strf", 12, struct.pack("<II", 60_000, 60_000)),
}
FLV_LIES: dict[str, Harm] = {
    "length_0": write_at(b"duration", 9, struct.pack(">d", 0)),
    "length_not_a_number": write_at(b"duration", 9, struct.pack(">d", float("nan"))),
    "length_too_long": write_at(b"duration", 9, struct.pack(">d", 1e12)),
    "rate_0": write_at(b"framerate", 10, struct.pack(">d", 0)),
}
GIF_LIES: dict[str, Harm] = {
    "very_large": write_at(b"GIF89a", 6, b"\xff\xff\xff\xff"),
    "no_size": write_at(b"GIF89a", 6, bytes(4)),
    "no_trailer": lambda content, _: content[:-1] + b"\0",
}
LIES = {
    "h264.mp4": MP4_LIES,
    "h264.mkv": MKV_LIES,
    "mpeg4.avi": AVI_LIES,
    "h264.flv": FLV_LIES,
    "picture.gif": GIF_LIES,
}
DROPS = {
    "first": frozenset({0}),
    "one": frozenset({11}),
    "keyframe": frozenset({8}),
    "run": frozenset(range(9, 14)),
    "every_third": frozenset(range(1, FRAMES, 3)),
}
DROPPED_FROM = ("h264.mp4", "hevc.mp4", "mjpeg.mkv", "vp9.webm", "mpeg4.avi")


WRONG_NAMES = {
    "h264.mp4": ".gif",
    "h264.mkv": ".mp4",
    "vp9.webm": ".avi",
    "mpeg4.avi": ".txt",
    "h264.ts": ".jpg",
    "picture.gif": ".mp4",
}


def corpus(folder: Path) -> Iterator[Damaged]:
    """All the files, written into `folder`."""
    sound = {}
    for kind in KINDS:
        harms = HARMS | LIES.get(kind.name, {})
        sound[kind.name] = folder / kind.name
        yield from harmed(folder, kind, harms)
    for name in DROPPED_FROM:
        for harm, dropped in DROPS.items():
            target = _named(folder, name, f"drop_{harm}")
            yield Damaged(
                copy_packets(sound[name], target, dropped, EXACT), f"drop_{harm}", sound[name]
            )
    for name, suffix in WRONG_NAMES.items():
        target = folder / f"{name.replace('.', '_')}{suffix}"
        target.write_bytes(sound[name].read_bytes())
        yield Damaged(target, "wrong_name", sound[name])
    for path in other_files(folder, sound["h264.mp4"].read_bytes()):
        yield Damaged(path, "no_video", None)


def harmed(folder: Path, kind: Kind, harms: dict[str, Harm]) -> Iterator[Damaged]:
    """A clip, first as it is (harm "none"), then harmed in each of these ways."""
    path = sound_clip(folder, kind)
    yield Damaged(path, "none", path)
    content = path.read_bytes()
    for harm, spoil in harms.items():
        target = _named(folder, kind.name, harm)
        target.write_bytes(spoil(content, random.Random(f"{kind.name} {harm}")))
        yield Damaged(target, harm, path)


def _named(folder: Path, name: str, harm: str) -> Path:
    stem, suffix = name.split(".")
    return folder / f"{stem}_{suffix}_{harm}.{suffix}"


def other_files(folder: Path, clip: bytes) -> Iterator[Path]:
    """Files that are no video at all, hardly one, or have another kind's name."""
    chosen = random.Random("other_files")
    contents = {
        "empty.mp4": b"",
        "one_byte.mp4": b"\0",
        "zeros.mp4": bytes(20_000),
        "noise.mp4": chosen.randbytes(20_000),
        "noise.ts": chosen.randbytes(20_000),
        "noise.mpg": b"\0\0\1\xba" + chosen.randbytes(20_000),
        "noise.h264": b"\0\0\0\1\x67" + chosen.randbytes(20_000),
        "header_and_noise.mp4": clip[:32] + chosen.randbytes(20_000),
        "text.mp4": b"dear diary, today I filmed nothing\n" * 300,
        "page.mp4": b"<!DOCTYPE html><html><title>404</title>not found</html>\n" * 20,
        "escape.mp4": b"\x1b[31mred\x1b]0;title\x07\n" * 200,
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nh264.ts\n",
        "concat.mp4": b"ffconcat version 1.0\nfile h264.mp4\n",
        "subtitles.mkv": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 40,
        "script.mp4": b"#!/bin/sh\nexit 3\n",
        "table.mp4": b"frame,x,y\n" + b"1,2,3\n" * 500,
        "vector.mp4": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "box_without_end.mp4": number(1) + b"moov" + b"\xff" * 8 + bytes(100),
        "boxes_in_boxes.mp4": b"".join(number(80_000 - 8 * n) + b"moov" for n in range(9_000)),
        "header_only.mkv": b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01",
        "huge.png": b"\x89PNG\r\n\x1a\n"
        + number(13)
        + b"IHDR"
        + number(2**31 - 1) * 2
        + b"\x08\x02",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    with zipfile.ZipFile(folder / "archive.mp4", "w") as archive:
        archive.writestr("video.mp4", clip)
    yield folder / "archive.mp4"
    yield make_sound(folder / "song.m4a")
    yield make_sound(folder / "song.mp4")
    yield make_sound(folder / "song.mp3", "mp3")
    yield make_sound(folder / "song.wav", "pcm_s16le")
    one: dict[str, Any] = {
        "codec": "libx264",
        "width": SIZE[0],
        "height": SIZE[1],
        "picture": grained,
    }
    yield make_clip(folder / "one_frame.mp4", range(1), **one)
    yield make_clip(folder / "one_frame.mkv", range(1), time_base=MILLISECONDS, **one)
    yield make_clip(folder / "odd.mkv", range(9), codec="ffv1", width=33, height=21)
    yield make_clip(folder / "tiny.mkv", range(9), codec="ffv1", width=2, height=2)
    yield make_clip(folder / "photo.png", range(1), codec="png", pixel_format="rgb24")
    yield make_clip(folder / "photo.jpg", range(1), codec="mjpeg", pixel_format="yuvj420p")
    evil = folder / "evil\x1b[31m\nname.mp4"
    evil.write_bytes(clip)
    yield evil
    torn = folder / "evil\x1b]0;x\x07torn.mp4"
    torn.write_bytes(clip[: len(clip) // 2])
    yield torn
