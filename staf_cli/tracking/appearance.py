"""What people wear: colours of trunk and legs, by which a person is known again.

Home-made because ultralytics' appearance features need a second network, or come from the
detector, which learned to tell people from things and not from each other.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.core.records import Detections, Float, Image

Colours = NDArray[np.uint8]

BINS = (3, 4, 4)  # of L, a and b (CIELAB)
PART = 3 * 4 * 4  # numbers of a part
COLOURS = 2 * PART  # numbers of a person: trunk, legs
SEEN = 0.5  # confidence from which a keypoint counts as seen
TRUNK, LEGS = [5, 6, 11, 12], [11, 12, 13, 14, 15, 16]  # COCO keypoints
# Where they are in the box of a person whose keypoints are not seen: x1, y1, x2, y2.
USUAL = {"trunk": (0.3, 0.2, 0.7, 0.5), "legs": (0.3, 0.55, 0.7, 0.95)}
SAMPLES = 16  # pixels along a side, to which a part is scaled
RANGES = [0, 256, 64, 192, 64, 192]  # clothes are seldom as colourful as a and b can be


def colours_of(image: Image, seen: Detections) -> Colours:
    """Describe the colours of everybody in a frame.

    Args:
        image: RGB.
        seen: N people.

    Returns:
        (N, 96) histograms of trunk and legs, each with the sum 255; 0 for what is not in the image.
    """
    colours = np.zeros((len(seen.box), COLOURS), np.uint8)
    for row, (box, kp2d) in enumerate(zip(seen.box, seen.kp2d, strict=True)):
        for part, (joints, usual) in enumerate(zip((TRUNK, LEGS), USUAL.values(), strict=True)):
            x1, y1, x2, y2 = _part(box, kp2d[joints], usual).round().astype(int).tolist()
            patch = image[max(y1, 0) : y2, max(x1, 0) : x2]
            if patch.size:
                colours[row, part * PART : (part + 1) * PART] = _histogram(patch)
    return colours


def difference(one: Colours, other: Colours) -> float:
    """Compare how two people are dressed, by Hellinger's distance squared.

    Args:
        one: (K, 96) of some frames of a person.
        other: (L, 96) of another, or of the same.

    Returns:
        0 for the same colours, 1 for entirely different ones; NaN where nothing is known.
    """
    p, q = (_means(colours) for colours in (one, other))  # (2, PART)
    known = (p.sum(1) > 0) & (q.sum(1) > 0)
    if not known.any():
        return float("nan")
    return float(1 - np.sqrt(p[known] * q[known]).sum(1).mean())


def _part(box: Float, kp2d: Float, usual: tuple[float, ...]) -> Float:
    """The rectangle (4,) of a part: around its keypoints, if enough of them are seen."""
    places = kp2d[kp2d[:, 2] >= SEEN, :2]
    if len(places) >= 3:
        rectangle: Float = np.concatenate([places.min(0), places.max(0)])
        return rectangle
    within: Float = np.tile(box[:2], 2) + np.array(usual) * np.tile(box[2:] - box[:2], 2)
    return within


def _histogram(patch: Image) -> Float:
    """Shares of the colours of a patch, times 255."""
    small = cv2.resize(patch, (SAMPLES, SAMPLES), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 1:] = np.clip(lab[..., 1:], RANGES[2], RANGES[3] - 1)
    counts = cv2.calcHist([lab], [0, 1, 2], None, list(BINS), RANGES)
    shares: Float = np.round(counts.reshape(-1) * (255 / SAMPLES**2))
    return shares


def _means(colours: Colours) -> Float:
    """Mean shares of the frames in which a part is seen: (2, PART), sums 1 or 0."""
    parts = colours.reshape(-1, 2, PART).sum(0, dtype=np.float64)
    means: Float = parts / np.maximum(parts.sum(1, keepdims=True), 1)
    return means
