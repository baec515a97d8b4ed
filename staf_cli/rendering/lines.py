"""Anti-aliased lines and dots at subpixel positions; pixel coordinates as in geometry.py."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.core.records import Image

FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel
FARTHEST = 2**15  # px; coordinates are clipped to it, as OpenCV's integers would overflow

Pixels = NDArray[np.floating]  # (..., 2) x, y px


def draw_lines(image: Image, lines: Pixels, colour: Sequence[int], thickness: int = 1) -> None:
    """Draw open polylines into an image.

    Args:
        image: (H, W) or (H, W, 3) uint8, changed in place.
        lines: (N, K, 2) px: N lines of K points each.
        colour: A number for each channel.
        thickness: px.
    """
    cv2.polylines(image, list(_fixed(lines)), False, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def draw_dots(image: Image, centres: Pixels, radius: float, colour: Sequence[int]) -> None:
    """Draw filled circles into an image.

    Args:
        image: (H, W, 3) uint8, changed in place.
        centres: (N, 2) px.
        radius: px.
        colour: A number for each channel.
    """
    for x, y in _fixed(centres).tolist():
        size = round(radius * 2**FRACTION_BITS)
        cv2.circle(image, (x, y), size, colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)


def _fixed(pixels: Pixels) -> NDArray[np.int32]:
    # OpenCV's origin is the centre of the first pixel.
    inside = np.clip(pixels, -FARTHEST, FARTHEST) - 0.5
    return np.asarray(np.rint(inside * 2**FRACTION_BITS), np.int32)
