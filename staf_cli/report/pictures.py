"""Single pictures out of an overlay, as small JPEGs."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from PIL import Image

from staf_cli import video
from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import Span

WIDTH = 320  # px, longer side of a picture
QUALITY = 80  # of JPEG, of 100
AROUND = 0.5  # s on either side in which a frame is searched: its time may be off by rounding
NEAR = 8.0  # s: wanted frames closer than this are decoded in one go, from one key picture on


@dataclass(frozen=True)
class Picture:
    """One frame of an overlay."""

    time: float  # s, as a player shows it
    jpeg: bytes


def extract(overlay: Clip, wanted: Mapping[int, float]) -> dict[int, Picture]:
    """Extract some of the overlay's frames.

    Args:
        overlay: the clip's overlay.
        wanted: numbers of frames, counted from 0, and about when each is shown, s.

    Returns:
        The pictures by number, without those that do not exist.
    """
    found: dict[int, Picture] = {}
    for together in _groups(wanted):
        start = max(0.0, wanted[together[0]] - AROUND)
        span = Span(start, max(start, wanted[together[-1]]) + AROUND)
        for frame in video.frames(replace(overlay, frames=None, span=span), video.Damage()):
            if frame.index in together:
                found[frame.index] = Picture(frame.time, _jpeg(frame))
    return found


def _groups(wanted: Mapping[int, float]) -> Iterator[list[int]]:
    """Numbers that are cheaper to decode in one go, in order."""
    numbers = sorted(wanted, key=lambda number: wanted[number])
    breaks = [
        k for k in range(1, len(numbers)) if wanted[numbers[k]] - wanted[numbers[k - 1]] > NEAR
    ]
    for first, end in pairwise([0, *breaks, len(numbers)]):
        if first < end:
            yield numbers[first:end]


def _jpeg(frame: Frame) -> bytes:
    image = Image.fromarray(frame.image)
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
