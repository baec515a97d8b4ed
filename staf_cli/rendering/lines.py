"""Smooth thin lines and dots at exact places; pixels as in geometry.py."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.core.records import Image

FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel
FARTHEST = 2**15  # px: ends beyond are brought in, OpenCV's integers hold no more

Pixels = NDArray[np.floating]  # (..., 2) x, y px


def draw_lines(image: Image, lines: Pixels, colour: Sequence[int], thickness: int = 1) -> None:
    """Draw N open lines of K points each, (N, K, 2) px, into an image (H, W) or (H, W, 3)."""
    cv2.polylines(image, list(_fixed(lines)), False, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def draw_dots(image: Image, centres: Pixels, radius: float, colour: Sequence[int]) -> None:
    """Fill circles around centres (N, 2), px, in an image (H, W, 3)."""
    for x, y in _fixed(centres).tolist():
        size = round(radius * 2**FRACTION_BITS)
        cv2.circle(image, (x, y), size, colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)


def _fixed(pixels: Pixels) -> NDArray[np.int32]:
    # OpenCV counts from the first pixel's centre.
    inside = np.clip(pixels, -FARTHEST, FARTHEST) - 0.5
    return np.asarray(np.rint(inside * 2**FRACTION_BITS), np.int32)
