"""A camera that turns on the spot: the rotation between two views of points, by RANSAC.

Points are px from the picture's centre, x right and y down; a rotation R takes directions of the
second view to the first: d_first = R @ d_second. Letters in shapes: N points, H hypotheses.
"""

from dataclasses import dataclass

import numpy as np

from staf_cli.core.records import Bools, Float, Float32

HYPOTHESES = 48  # of two points each: with half of all points wrong, one in 10^6 times all fail
CLOSE = 1.5  # px by which a point may miss where the rotation puts it
ROUNDS = 4  # of the fit to all points that are close


@dataclass(frozen=True)
class Fit:
    """A rotation, and how well it explains the points."""

    rotation: Float  # (3, 3) directions of the second view -> first
    error: Float  # (N,) px, by which each point of the second view is missed

    @property
    def close(self) -> Bools:
        """(N,) which points it explains."""
        return self.error < CLOSE


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
    """Find the rotation that explains most of the points.

    Args:
        first: (N, 2) the points in the first view; two at least.
        second: (N, 2) the same points in the second.
        focal: px.
        rest: How many times more points another rotation must explain than one close to none.

    Returns:
        The rotation; the same each time.
    """
    ahead, behind = directions(first, focal), directions(second, focal)
    guesses = _hypotheses(ahead, behind)
    errors = np.minimum(_errors(guesses, ahead, second, focal), CLOSE)  # (H, N)
    best = guesses[np.argmin((errors**2).sum(1))]
    none, other = (_refined(one, ahead, behind, second, focal) for one in (np.eye(3), best))
    if np.count_nonzero(other.close) > rest * np.count_nonzero(none.close):
        return other
    return none


def _refined(
    rotation: Float, ahead: Float, behind: Float, second: Float | Float32, focal: float
) -> Fit:
    """A rotation fitted to all points close to where it puts them."""
    for _ in range(ROUNDS):
        error = _errors(rotation[None], ahead, second, focal)[0]
        weight = np.clip(1 - (error / (2 * CLOSE)) ** 2, 0, None) ** 2  # Tukey's
        if np.count_nonzero(weight) < 2:
            break
        rotation = kabsch(ahead, behind, weight)
    return Fit(rotation, _errors(rotation[None], ahead, second, focal)[0])


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


def _errors(rotations: Float, first: Float, second: Float | Float32, focal: float) -> Float:
    """Px (H, N) between points of the second view and where rotations put those of the first."""
    seen = np.einsum("hji,nj->hni", rotations, first)  # the transpose turns back
    depth = np.where(np.abs(seen[..., 2:]) < 1e-9, 1e-9, seen[..., 2:])
    error: Float = np.linalg.norm(focal * seen[..., :2] / depth - second, axis=-1)
    return np.where(seen[..., 2] > 0, error, np.inf)
