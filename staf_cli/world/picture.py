"""How well people in the world fit the picture: the distance of their joints from keypoints."""

import numpy as np
from scipy.ndimage import (
    gaussian_filter1d,
    maximum_filter1d,
    minimum_filter1d,
    uniform_filter1d,
)

from staf_cli.core.metrics import error_2d
from staf_cli.core.records import Float, Person, Track, select_rows

# Joints in SMPL's order, and the COCO keypoints that show the same points.
JOINTS = (1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21)
KEYPOINTS = (11, 12, 13, 14, 15, 16, 5, 6, 7, 8, 9, 10)
SEEN = 0.5  # confidence from which a keypoint counts as seen
NEAR = 0.1  # m from the camera; what is nearer is nowhere in the picture

WORSE = 1.05  # times the distance before, that feet may cost where they stand
WINDOW = 20.0  # s, over which both are averaged: single moments may cost more
AT_ONCE = 0.5  # s, over which both are averaged to tell what costs most
PRICES = np.concatenate([[0], np.geomspace(0.01, 100, 25)])  # tried, of what a correction costs
MARGIN = 0.1  # of what may be paid, that is kept back: costs are not quite as they are reckoned
NOTHING = 0.12  # of a correction: what is weaker is left out
CHANGE = 0.15  # s, in which strengths come and go
TINY = 1e-12


def distance_from_keypoints(person: Person, track: Track) -> Float:
    """Measure how far a person in the world is from what the detector saw of them.

    Args:
        person: F frames, placed in the world.
        track: of the same person; it has these frames among others.

    Returns:
        (F,) mean over the keypoints seen, in longer sides of the box; NaN where there is none.
    """
    assert person.world_camera is not None and person.world_joints3d is not None
    own = select_rows(track, np.searchsorted(track.frame, person.frame))
    turn, place = person.world_camera[..., :3], person.world_camera[..., 3]
    points = np.einsum("fji,fnj->fni", turn, person.world_joints3d[:, JOINTS] - place[:, None])
    pixels = points[..., :2] / np.maximum(points[..., 2:], NEAR) * person.focal_length
    kp2d = own.kp2d[:, KEYPOINTS].astype(np.float64)
    kp2d[..., 2] *= (kp2d[..., 2] >= SEEN) & (points[..., 2] > NEAR)
    error = error_2d(pixels + np.array(person.image_size) / 2, kp2d, own.box)
    seen = np.isfinite(error)
    total = np.where(seen, error, 0).sum(1)
    mean: Float = np.divide(total, seen.sum(1), out=np.full(len(error), np.nan), where=seen.any(1))
    return mean


def eased(strength: Float, before: Float, after: Float, time: Float) -> Float | None:
    """Weaken a correction where the picture fits worse with it than it may.

    What a correction costs grows with its square. So the least of it is lost, sum of (1 - s)^2,
    with strengths s = 1 / (1 + price * cost), and one price, Lagrange's multiplier, wherever the
    same limit is kept.

    Args:
        strength: (F,) of the correction, from 0 to 1.
        before: (F,) distance from keypoints without it, NaN where there are none.
        after: (F,) distance with that strength.
        time: (F,) s.

    Returns:
        (F,) less, smooth in time, or the same where less would not help; None: it costs no more
        than it may.
    """
    known = np.isfinite(before) & np.isfinite(after)
    more = np.where(known, after - before, 0.0)
    allowed = np.where(known, (WORSE - 1) * before, 0.0)
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    if step <= 0:
        return None if more.sum() <= allowed.sum() else 0 * strength
    window = WINDOW / step
    costly = _mean(more - allowed, window) > 0
    if not costly.any():
        return None

    local = _mean(more, AT_ONCE / step)
    cost = np.maximum(local, 0) / np.maximum(strength, NOTHING) ** 2  # of all of the correction
    others = np.minimum(local, 0) - (1 - MARGIN) * allowed
    price = np.where(costly, _lowest_price(cost, strength, others, window), 0)
    price = maximum_filter1d(price, 2 * round(window / 2) + 1)  # for all that a window holds
    less = _strength(cost, price)
    less[less < NOTHING] = 0
    size = 2 * round(CHANGE / step) + 1
    smooth = gaussian_filter1d(minimum_filter1d(less, size), CHANGE / step / 2, mode="nearest")
    fewer: Float = np.minimum(smooth, strength)
    return fewer


def _strength(cost: Float, price: Float | float) -> Float:
    """The strengths (F,) that a price leaves of corrections that cost (F,) at full strength."""
    strength: Float = 1 / (1 + price * cost / max(float(cost.mean()), TINY))
    return strength


def _lowest_price(cost: Float, strength: Float, others: Float, window: float) -> Float:
    """The lowest price (F,) that keeps the mean over a window of frames around each below 0."""
    lowest = np.full(len(cost), PRICES[-1])
    for price in PRICES[::-1]:
        paid = cost * np.minimum(strength, _strength(cost, price)) ** 2
        lowest[_mean(paid + others, window) <= 0] = price
    return lowest


def _mean(values: Float, frames: float) -> Float:
    """Moving means (F,) over so many frames; fewer at the ends."""
    size = 2 * round(frames / 2) + 1
    total = uniform_filter1d(values, size, mode="constant")
    mean: Float = total / uniform_filter1d(np.ones_like(values), size, mode="constant")
    return mean
