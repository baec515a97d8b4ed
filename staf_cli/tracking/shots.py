"""Where a clip cuts from one shot to another, found while its frames pass by.

A cut is a change that is abrupt and lasts: every frame of the short while before it differs
from every frame of the short while after it, and far more than neighbours do on either
side. So a flash is none (the scene comes back), nor a fade or fast motion (neighbours differ
as well), nor a shaken camera (the comparison forgives a shift).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from staf_cli.core.records import Float, Frame, Image

WINDOW = 4  # frames compared before and after; a flash that lasts longer counts as a shot
SIZE = (48, 27)  # px, thumbnail's columns and rows
SHIFT = (5, 4)  # px of a thumbnail by which a picture may move and still be the same
PLAIN = 2.0  # grey levels, standard deviation: a picture with less contrast has no shape
BINS = 8  # of each colour channel
DIFFERENT = 0.24  # least difference, in [0, 1], between the frames of two shots
ABRUPT = 2.5  # times the usual difference between neighbours on either side


@dataclass(frozen=True)
class _Thumbnail:
    """A small copy of a frame, to compare it with others."""

    index: int  # of the frame
    grey: Image  # (27, 48)
    colours: Float  # (512,) share of the pixels in each bin


def find_cuts(frames: Iterable[Frame], cuts: list[int]) -> Iterator[Frame]:
    """Pass frames on unchanged and find the cuts between them.

    Only a few thumbnails are kept in memory.

    Args:
        frames: in order.
        cuts: a list to which the index of the first frame of each new shot is appended; it is
            complete once the last frame has passed.

    Yields:
        The frames.
    """
    seen: deque[_Thumbnail] = deque(maxlen=2 * WINDOW)
    for frame in frames:
        seen.append(_thumbnail(frame))
        if len(seen) > WINDOW and _is_cut(list(seen)[:-WINDOW], list(seen)[-WINDOW:]):
            cuts.append(seen[-WINDOW].index)
        yield frame
    # The last few frames, which have fewer than WINDOW after them.
    rest = list(seen)
    for k in range(max(1, len(rest) - WINDOW + 1), len(rest)):
        if _is_cut(rest[max(0, k - WINDOW) : k], rest[k:]):
            cuts.append(rest[k].index)


def _is_cut(before: Sequence[_Thumbnail], after: Sequence[_Thumbnail]) -> bool:
    jump = _difference(before[-1], after[0])
    return (
        jump >= DIFFERENT
        and jump >= ABRUPT * max(_usual_step(before), _usual_step(after))
        and all(_difference(a, b) >= DIFFERENT for a in before for b in after)
    )


def _usual_step(side: Sequence[_Thumbnail]) -> float:
    """The median difference of neighbours: one more cut close by does not hide this one."""
    return float(np.median([_difference(a, b) for a, b in pairwise(side)] or [0.0]))


def _difference(one: _Thumbnail, other: _Thumbnail) -> float:
    """The mean of the differences in shape and in colours: in [0, 1], 0 for the same picture."""
    overlap = np.minimum(one.colours, other.colours).sum()
    return float(1 - (_likeness(one.grey, other.grey) + overlap) / 2)


def _likeness(one: Image, other: Image) -> float:
    """The best correlation in [0, 1] of two thumbnails over small shifts, at any brightness."""
    x, y = SHIFT
    middle = one[y:-y, x:-x]
    plain = middle.std() < PLAIN, other.std() < PLAIN
    if any(plain):
        return float(all(plain))
    return float(np.clip(cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED).max(), 0, 1))


def _thumbnail(frame: Frame) -> _Thumbnail:
    # Four samples a cell each way are plenty, and averaging all pixels of 4K would take longer
    # than reading them.
    step = max(1, min(frame.image.shape[0] // SIZE[1], frame.image.shape[1] // SIZE[0]) // 4)
    samples = np.ascontiguousarray(frame.image[::step, ::step])
    small = cv2.resize(samples, SIZE, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    # Colours at one exposure, so that a lamp or an automatic exposure makes no cut.
    exposed = (small - grey.mean()) * (64 / max(float(grey.std()), PLAIN)) + 128
    exposed = np.clip(exposed, 0, 255).astype(np.uint8)
    bins = cv2.calcHist([exposed], [0, 1, 2], None, [BINS] * 3, [0, 256] * 3)
    # Blurred, so that a slight change of light does not move everything to the next bin.
    colours = gaussian_filter(bins / bins.sum(), 1.0, mode="nearest").astype(np.float64)
    return _Thumbnail(
        frame.index,
        np.asarray(grey, np.uint8),
        colours.ravel() / colours.sum(),
    )
