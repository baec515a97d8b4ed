"""Small test videos made with PyAV: patterns that move, uneven times, a tone, rotation, damage."""

import random
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from staf_cli.core.records import Image

TONE_RATE = 48000  # Hz


def pattern(index: int, width: int, height: int) -> Image:
    """A colourful frame (height, width, 3) RGB uint8, no symmetry, whose square moves by index."""
    y, x = np.mgrid[:height, :width]
    image = np.stack(
        [64 + 128 * x / width, 64 + 128 * y / height, 160 - 96 * (x + y) / (width + height)], -1
    )
    side = max(2, min(width, height) // 5)
    left = (7 * index) % max(1, width - side)
    top = (5 * index) % max(1, height - side)
    image[top : top + side, left : left + side] = (240, 220, 40)
    return image.astype(np.uint8)


def make_clip(
    path: Path,
    pts: Iterable[int] = range(30),
    *,
    width: int = 128,
    height: int = 96,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    audio: str | None = None,
    picture: Callable[[int, int, int], Image] = pattern,
) -> Path:
    """Encode `picture(0, width, height)`, ... at the given pts, and a 440 Hz tone as long."""
    pts = list(pts)
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25, options=options or {})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = time_base
        tone = output.add_stream(audio, rate=TONE_RATE, layout="mono") if audio else None
        for index, ticks in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
            frame.pts, frame.time_base = ticks, time_base
            output.mux(video.encode(frame.reformat(format=pixel_format)))
        output.mux(video.encode(None))
        if tone is not None:
            assert isinstance(tone, av.AudioStream)
            seconds = float((pts[-1] - pts[0] + 1) * time_base)
            _add_tone(output, tone, seconds)
    return path


def make_sound(path: Path, codec: str = "aac", seconds: float = 0.5) -> Path:
    """A file with a tone and no video."""
    with av.open(str(path), "w") as output:
        tone = output.add_stream(codec, rate=TONE_RATE, layout="mono")
        assert isinstance(tone, av.AudioStream)
        _add_tone(output, tone, seconds)
    return path


def _add_tone(output: av.container.OutputContainer, tone: av.AudioStream, seconds: float) -> None:
    count = 1024
    for start in range(0, int(seconds * TONE_RATE), count):
        t = (start + np.arange(count)) / TONE_RATE
        samples = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = TONE_RATE, start, Fraction(1, TONE_RATE)
        output.mux(tone.encode(frame))
    output.mux(tone.encode(None))


def packet_time(packet: "av.Packet[Any]") -> Fraction:
    """When a packet that has a time is shown, s."""
    assert packet.pts is not None and packet.time_base is not None
    return packet.pts * packet.time_base


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write x' = a x + c y, y' = b x + d y into the track header of an MP4 without sound."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    one = 1 << 16
    struct.pack_into(">9i", content, at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def overwrite(path: Path, count: int, seed: int, start: float = 0.1, end: float = 0.9) -> Path:
    """Overwrite `count` random bytes between two fractions of the file, always the same ones."""
    content = bytearray(path.read_bytes())
    chosen = random.Random(seed)
    for _ in range(count):
        at = chosen.randrange(int(start * len(content)), int(end * len(content)))
        content[at] ^= chosen.randrange(1, 256)
    path.write_bytes(content)
    return path


def truncate(path: Path, share: float) -> Path:
    """Keep only the first `share` of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
