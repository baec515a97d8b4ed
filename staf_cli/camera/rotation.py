"""A camera that turns: the rotation between two views of points, by least quantile of errors.

A camera that also travels shifts near points, but hardly those that are far away. So the rotation
is the one that the closest SHARE of the points follow, those in the upper part of the picture above
all, and not the one that explains the points on average.

Points are px from the picture's centre, x right and y down; a rotation R takes directions of the
second view to the first: d_first = R @ d_second. Letters in shapes: N points, H hypotheses.
"""

from dataclasses import dataclass

import numpy as np

from staf_cli.core.records import Float, Float32

HYPOTHESES = 48  # of two points each: if SHARE are right, one in 4000 times all fail
SHARE = 0.4  # of the points' weight that must follow the rotation
UPWARDS = 12.0  # log-odds of being far, per focal length that a point is above the centre
CLOSE = 1.5  # px by which a point may miss where the rotation puts it
ENOUGH = 12  # points that are close, with which a camera at rest is believed
ROUNDS = 4  # of the fit to all points that are close


@dataclass(frozen=True)
class Fit:
    """A rotation, and how well it explains the points."""

    rotation: Float  # (3, 3) directions of the second view -> first
    error: Float  # (N,) px, by which each point of the second view is missed
    miss: float  # px, within which SHARE of the points' weight is

    @property
    def close(self) -> int:
        """How many points it explains."""
        return int(np.count_nonzero(self.error < CLOSE))


def directions(points: Float | Float32, focal: float) -> Float:
    """Compute the directions in which points are seen.

    Args:
        points: (N, 2)
        focal: px.

    Returns:
        (N, 3) unit vectors.
    """
    rays = np.concatenate([points, np.full((len(points), 1), focal)], 1).astype(np.float64)
    unit: Float = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit


def fit_rotation(
    first: Float | Float32, second: Float | Float32, focal: float, rest: float = 1.0
) -> Fit:
    """Find the rotation that the far points follow.

    Args:
        first: (N, 2) the points in the first view; two at least.
        second: (N, 2) the same points in the second.
        focal: px.
        rest: How many times more points another rotation must explain than one close to none.

    Returns:
        The rotation; the same each time.
    """
    ahead, behind = directions(first, focal), directions(second, focal)
    weight = 1 / (1 + np.exp(UPWARDS * first[:, 1].astype(float) / focal))
    guesses = _hypotheses(ahead, behind)
    best = guesses[np.argmin(_quantile(point_errors(guesses, ahead, second, focal), weight))]
    none, other = (_refined(one, ahead, behind, second, focal, weight) for one in (np.eye(3), best))
    at_rest = none.close >= ENOUGH and other.close <= rest * none.close
    return none if at_rest else other


def _refined(
    rotation: Float,
    ahead: Float,
    behind: Float,
    second: Float | Float32,
    focal: float,
    weight: Float,
) -> Fit:
    """A rotation fitted to all points close to where it puts them."""
    for _ in range(ROUNDS):
        error = point_errors(rotation[None], ahead, second, focal)[0]
        width = 2 * max(CLOSE, _quantile(error[None], weight)[0])
        tukey = weight * np.clip(1 - (error / width) ** 2, 0, None) ** 2
        if np.count_nonzero(tukey) < 2:
            break
        rotation = kabsch(ahead, behind, tukey)
    error = point_errors(rotation[None], ahead, second, focal)[0]
    return Fit(rotation, error, float(_quantile(error[None], weight)[0]))


def _quantile(error: Float, weight: Float) -> Float:
    """The error (H,) within which SHARE of the points' weight (N,) is, of errors (H, N)."""
    order = np.argsort(error, axis=1)
    below = (np.cumsum(weight[order], axis=1) < SHARE * weight.sum()).sum(1)
    found: Float = np.take_along_axis(error, order, 1)[np.arange(len(error)), below]
    return found


def kabsch(first: Float, second: Float, weight: Float) -> Float:
    """Compute the rotation R that minimises the sum of weight * |first - R second|^2.

    Args:
        first: (N, 3)
        second: (N, 3)
        weight: (N,)

    Returns:
        (3, 3)
    """
    u, _, vt = np.linalg.svd((first * weight[:, None]).T @ second)
    sign = np.sign(np.linalg.det(u @ vt))
    rotation: Float = u @ np.diag([1.0, 1.0, sign]) @ vt
    return rotation


def _hypotheses(first: Float, second: Float) -> Float:
    """Rotations (H, 3, 3) that each explain two of the points; the first is none at all."""
    chance = np.random.default_rng(0)
    one = chance.integers(len(first), size=HYPOTHESES)
    other = (one + chance.integers(1, max(2, len(first)), size=HYPOTHESES)) % len(first)
    frames = _axes(first[one], first[other]) @ _axes(second[one], second[other]).swapaxes(1, 2)
    return np.concatenate([np.eye(3)[None], frames])


def _axes(one: Float, other: Float) -> Float:
    """Orthonormal axes (H, 3, 3), as columns, given by two directions (H, 3) each."""
    normal = np.cross(one, other)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return np.stack([one, np.cross(normal, one), normal], -1)


def point_errors(rotations: Float, first: Float, second: Float | Float32, focal: float) -> Float:
    """Compute how far rotations put the points of the first view from those of the second.

    Args:
        rotations: (H, 3, 3)
        first: (N, 3) directions of the points in the first view.
        second: (N, 2) px, where they are in the second.
        focal: px.

    Returns:
        (H, N) px.
    """
    seen = np.einsum("hji,nj->hni", rotations, first)  # the transpose turns back
    depth = np.where(np.abs(seen[..., 2:]) < 1e-9, 1e-9, seen[..., 2:])
    error: Float = np.linalg.norm(focal * seen[..., :2] / depth - second, axis=-1)
    return np.where(seen[..., 2] > 0, error, np.inf)
