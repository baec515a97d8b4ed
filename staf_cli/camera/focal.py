"""The camera's focal length, from how the background moves while the camera turns.

Where a camera pans, points near the border of the picture move farther than those in its middle,
the more so the shorter the focal length is. So the rotations of several pairs of views explain
their points best with the right one. A camera that travels, zooms, or sees too little turn leaves
points unexplained, or every focal length as good as the next: then nothing is said.

Points are px of the working picture, from its centre. Letters in shapes: N points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from staf_cli.camera.background import Background
from staf_cli.camera.rotation import directions, fit_rotation, kabsch, point_errors
from staf_cli.core.records import Float, Float32

LEAST_SHIFT = 0.08  # of the working picture's width, by which the points of a pair moved
LEAST_POINTS = 30  # of a pair
SHOTS = 0.5  # of the frames, in shots that have a pair: other shots may be of another lens
MOST_PAIRS = 40
TRIED = np.exp(np.linspace(np.log(0.4), np.log(4.0), 15))  # of the picture's diagonal
NOISE = 0.5  # px, of a point: how far off a match is of those that are right
UNEXPLAINED = 1.0  # px, median over the points, from which the camera does not only turn
LEAST_SIGMA = 0.02  # of the logarithm: lenses distort, which is not modelled
SURE = 0.06  # the same: a focal length that is less sure is not believed
CURVED = 0.05  # of the logarithm: half the stretch over which the curvature is measured
ROUNDS = 4  # of a rotation's fit to the points that follow it


@dataclass(frozen=True)
class Pair:
    """The same points in two views of one shot, between which the camera turned."""

    shot: int
    first: Float32  # (N, 2)
    second: Float32  # (N, 2)


@dataclass(frozen=True)
class Focal:
    """A focal length that was measured."""

    pixels: float  # of the working picture
    sigma: float  # of its logarithm


def find_focal(background: Background) -> Focal | None:
    """Find the focal length that all turns of the camera agree in.

    Args:
        background: that it saw.

    Returns:
        The focal length; None where the pictures do not tell it, or too few of the shots do.
    """
    pairs = turned_pairs(background)
    turned = {pair.shot for pair in pairs}
    frames = sum(view.shot in turned for view in background.views)
    if not pairs or frames < SHOTS * len(background.views):
        return None
    diagonal = float(np.hypot(*background.size))

    def cost(log_focal: float) -> float:
        return sum(_cost(pair, float(np.exp(log_focal))) for pair in pairs)

    tried = np.log(diagonal * TRIED)
    costs = [cost(one) for one in tried]
    best = int(np.argmin(costs))
    if best in (0, len(tried) - 1):
        return None
    bounds = tried[best - 1], tried[best + 1]
    at = float(minimize_scalar(cost, bounds=bounds, method="bounded").x)
    curvature = (cost(at - CURVED) - 2 * cost(at) + cost(at + CURVED)) / CURVED**2
    sigma = float(np.hypot(LEAST_SIGMA, 1 / np.sqrt(max(curvature, 1e-9))))
    focal = float(np.exp(at))
    missed = np.median(np.concatenate([_errors(pair, focal) for pair in pairs]))
    return Focal(focal, sigma) if sigma < SURE and missed < UNEXPLAINED else None


def turned_pairs(background: Background) -> list[Pair]:
    """Choose for each keyframe the view of it whose points moved farthest, if that is far enough.

    Args:
        background: that the camera saw.

    Returns:
        MOST_PAIRS at most, those with the farthest moves.
    """
    pairs: dict[int, tuple[float, Pair]] = {}
    for view in background.views:
        if view.key < 0 or len(view.seen) < LEAST_POINTS:
            continue
        first = background.keyframes[view.key].points[view.seen]
        shift = float(np.median(np.linalg.norm(view.points - first, axis=1)))
        if shift > max(LEAST_SHIFT * background.size[0], pairs.get(view.key, (0.0,))[0]):
            pairs[view.key] = shift, Pair(view.shot, first, view.points)
    farthest = sorted(pairs.values(), key=lambda one: -one[0])
    return [pair for _, pair in farthest[:MOST_PAIRS]]


def _cost(pair: Pair, focal: float) -> float:
    """Minus the log-likelihood of a pair's points, whose errors are heavy-tailed."""
    return float(np.log1p((_errors(pair, focal) / NOISE) ** 2).sum())


def _errors(pair: Pair, focal: float) -> Float:
    """How far (N,) px the likeliest turn misses the points of the second view."""
    ahead, behind = directions(pair.first, focal), directions(pair.second, focal)
    rotation = fit_rotation(pair.first, pair.second, focal).rotation
    for _ in range(ROUNDS):
        error = point_errors(rotation[None], ahead, pair.second, focal)[0]
        rotation = kabsch(ahead, behind, 1 / (1 + (error / NOISE) ** 2))
    found: Float = point_errors(rotation[None], ahead, pair.second, focal)[0]
    return found
