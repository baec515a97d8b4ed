"""A camera that moves through space: poses and depths of a few views by bundle adjustment.

A point of the keyframe seen in direction r, at depth 1 / rho in units of the keyframe's scale, lies
at R r + rho t in the camera of another view. Points at infinity have rho 0. Letters in shapes:
V views, N points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.core.records import Float, Float32, Ints

NOISE = 0.6  # px, standard deviation of where a point is found
SCALE = 1.0  # px, of Cauchy's weights: an error that large counts half
SHORTEST = 0.005  # rad between directions, below which they count less
LARGEST_DIFFERENCE = 0.5  # rad, between a pose's turn and that of the best rotation alone
MOST_VIEWS = 12  # that are adjusted together
ROUNDS = 40  # of the adjustment
POSE_ROUNDS = 6  # of one view's pose, to given depths
SMALLEST_GAIN = 1e-5  # of the cost, with which the adjustment ends
SMALLEST_DEPTH = 0.05  # of a point in a view; closer ones are behind the camera, or nonsense


@dataclass(frozen=True)
class Seen:
    """Points of a keyframe in one view."""

    rows: Ints  # (N,) which points
    points: Float32  # (N, 2) px from the picture's centre


@dataclass(frozen=True)
class Pose:
    """Of a view: a point x of the keyframe's camera lies at `rotation @ x + place`."""

    rotation: Float  # (3, 3)
    place: Float  # (3,)


def explains_better(key: Float32, seen: Seen, focal: float, rotation_error: Float) -> bool:
    """Whether a view shows that the camera moved, by Torr's GRIC.

    Args:
        key: (K, 2) all points in the keyframe, px from the centre.
        seen: of the view.
        focal: px.
        rotation_error: (N,) px, of the best rotation alone.

    Returns:
        Whether rotation and translation together explain the points better.
    """
    essential = _essential(key[seen.rows], seen.points, focal)
    if essential is None:
        return False
    count = len(seen.rows)
    error = _sampson(essential[0], key[seen.rows], seen.points, focal)
    turning = np.minimum((rotation_error / NOISE) ** 2, 4).sum() + count * 2 * np.log(4)
    moving = np.minimum((error / NOISE) ** 2, 2).sum() + count * 3 * np.log(4)
    return bool(moving + 5 * np.log(4 * count) < turning + 3 * np.log(4 * count))


def solve(
    key: Float32, views: Sequence[Seen], rotations: Sequence[Float], widest: int, focal: float
) -> list[Pose] | None:
    """Find the poses of all views of a keyframe.

    Args:
        key: (K, 2) its points, px from the centre.
        views: what is seen of them.
        rotations: (3, 3) each, a guess for every view: keyframe -> view.
        widest: which view has the most parallax.
        focal: px.

    Returns:
        A pose for every view, at one scale; None where the points do not tell.
    """
    rays = np.concatenate([key / focal, np.ones((len(key), 1))], 1).astype(np.float64)
    best: tuple[float, Float, list[Pose]] | None = None
    few = sorted({widest, len(views) // 2, len(views) - 1})
    for start in _starts(key, views[widest], rotations[widest], focal):
        depths = _inverse_depths(rays, views[widest], start, focal)
        spread = _spread(rays, depths, views, rotations, widest, start, focal)
        tried = _adjust(rays, depths, [views[k] for k in few], [spread[k] for k in few], focal)
        if best is None or tried[0] < best[0]:
            best = tried
    if best is None:
        return None
    start = best[2][few.index(widest)]
    poses = _spread(rays, best[1], views, rotations, widest, start, focal)
    step = max(1, -(-len(views) // MOST_VIEWS))
    chosen = sorted({*range(len(views) - 1, -1, -step), widest})
    _, depths, found = _adjust(
        rays, best[1], [views[k] for k in chosen], [poses[k] for k in chosen], focal
    )
    for number, pose in zip(chosen, found, strict=True):
        poses[number] = pose
    return [_pose(rays, depths, seen, pose, focal) for seen, pose in zip(views, poses, strict=True)]


def _spread(
    rays: Float,
    depths: Float,
    views: Sequence[Seen],
    rotations: Sequence[Float],
    widest: int,
    start: Pose,
    focal: float,
) -> list[Pose]:
    """Poses of all views for known depths; each begins where its neighbour ended."""
    poses = [Pose(turn, np.zeros(3)) for turn in rotations]
    poses[widest] = start
    for number in [*range(widest - 1, -1, -1), *range(widest + 1, len(views))]:
        place = poses[number + 1 if number < widest else number - 1].place
        guess = Pose(poses[number].rotation, place)
        poses[number] = _pose(rays, depths, views[number], guess, focal)
    return poses


def _starts(key: Float32, seen: Seen, rotation: Float, focal: float) -> list[Pose]:
    """Poses of a view that may be the true one: by rotation alone, of any scene, of a plane."""
    poses = [Pose(rotation, _heading(key[seen.rows], seen.points, rotation, focal))]
    essential = _essential(key[seen.rows], seen.points, focal)
    if essential is not None:
        poses.append(essential[1])
    plane, _ = cv2.findHomography(key[seen.rows], seen.points, cv2.RANSAC, 2 * NOISE)
    if plane is not None:
        _, turns, places, normals = cv2.decomposeHomographyMat(plane, np.diag([focal, focal, 1.0]))
        poses += [
            Pose(np.asarray(turn, float), np.asarray(place, float)[:, 0])
            for turn, place, normal in zip(turns, places, normals, strict=True)
            if normal[2] > 0 and np.linalg.norm(place) > 1e-9  # the plane is in front
        ]
    ways = [one.place / np.linalg.norm(one.place) for one in poses]
    return [
        Pose(one.rotation, way)
        for one, place in zip(poses, ways, strict=True)
        for way in (place, -place)
        if Rotation.from_matrix(one.rotation @ rotation.T).magnitude() < LARGEST_DIFFERENCE
        and _in_front(key, seen, Pose(one.rotation, way), focal)
    ]


def _in_front(key: Float32, seen: Seen, pose: Pose, focal: float) -> bool:
    """Whether most points are in front of the cameras, not behind them."""
    rays = np.concatenate([key / focal, np.ones((len(key), 1))], 1)
    return bool(np.nanmean(_inverse_depths(rays, seen, pose, focal)[seen.rows] > 0) > 0.5)


def _heading(key: Float32, points: Float32, rotation: Float, focal: float) -> Float:
    """The direction, up to its sign, in which a view with a known rotation lies."""
    first = np.concatenate([key / focal, np.ones((len(key), 1))], 1)
    second = np.concatenate([points / focal, np.ones((len(key), 1))], 1)
    normals = np.cross(second, first @ rotation.T)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), SHORTEST)
    heading: Float = np.linalg.svd(normals)[2][2]
    return heading


def _essential(key: Float32, points: Float32, focal: float) -> tuple[Float, Pose] | None:
    """The essential matrix between the keyframe's points (N, 2) and a view's, and its pose."""
    camera = np.diag([focal, focal, 1.0])
    matrix, agree = cv2.findEssentialMat(
        key.astype(np.float64),
        points.astype(np.float64),
        camera,
        method=cv2.USAC_ACCURATE,
        prob=0.999,
        threshold=2 * NOISE,
    )
    if matrix is None or matrix.shape != (3, 3):
        return None
    _, rotation, place, _ = cv2.recoverPose(
        matrix, key.astype(np.float64), points.astype(np.float64), camera, mask=agree.copy()
    )
    pose = Pose(np.asarray(rotation, float), np.asarray(place, float)[:, 0])
    return np.asarray(matrix, float), pose


def _sampson(matrix: Float, key: Float32, points: Float32, focal: float) -> Float:
    """Px (N,) by which points miss the epipolar geometry, to first order."""
    first = np.concatenate([key / focal, np.ones((len(key), 1))], 1)
    second = np.concatenate([points / focal, np.ones((len(key), 1))], 1)
    ahead, behind = first @ matrix.T, second @ matrix
    slope = np.sqrt((ahead[:, :2] ** 2).sum(1) + (behind[:, :2] ** 2).sum(1))
    error: Float = focal * np.abs((second * ahead).sum(1)) / np.maximum(slope, 1e-12)
    return error


def _inverse_depths(rays: Float, seen: Seen, pose: Pose, focal: float) -> Float:
    """The rho (K,) by which points come nearest to where a view shows them; NaN: not seen."""
    towards = np.concatenate([seen.points / focal, np.ones((len(seen.rows), 1))], 1)
    turned = np.cross(towards, rays[seen.rows] @ pose.rotation.T)
    moved = np.cross(towards, pose.place)
    rho = -(turned * moved).sum(1) / np.maximum((moved**2).sum(1), 1e-12)
    depths = np.full(len(rays), np.nan)
    depths[seen.rows] = np.where(rho < 1 / SMALLEST_DEPTH, rho.clip(0), np.nan)
    return depths


def _errors(
    rays: Float, depths: Float, seen: Seen, pose: Pose, focal: float
) -> tuple[Float, Float, Float, Float]:
    """How far points of a view are from where they should be, and how to correct it.

    Args:
        rays: (K, 3) of the keyframe's points.
        depths: (K,) their rho; NaN: not used.
        seen: of the view.
        pose: of the view.
        focal: px.

    Returns:
        (N, 2) px, seen minus projected; its derivatives by the pose, turn and place, (N, 2, 6),
        and by rho (N, 2); Cauchy's weights (N,), 0 for points that are not used.
    """
    turned = rays[seen.rows] @ pose.rotation.T
    rho = np.nan_to_num(depths[seen.rows])
    place = turned + rho[:, None] * pose.place
    used = np.isfinite(depths[seen.rows]) & (place[:, 2] > SMALLEST_DEPTH)
    x, y, z = np.where(used[:, None], place, [0.0, 0.0, 1.0]).T
    error = seen.points - focal * np.stack([x, y], 1) / z[:, None]
    zero = np.zeros_like(x)
    by_place = (
        focal
        / z[:, None, None]
        * np.stack(
            [np.stack([zero + 1, zero, -x / z], 1), np.stack([zero, zero + 1, -y / z], 1)], 1
        )
    )  # (N, 2, 3)
    by_turn = -np.cross(by_place, turned[:, None])  # row a of J: a . (w x d) = (d x a) . w
    by_pose = np.concatenate([by_turn, by_place * rho[:, None, None]], 2)
    weight = used / (1 + (error**2).sum(1) / SCALE**2)
    return error, by_pose, by_place @ pose.place, weight


def _moved(pose: Pose, step: Float) -> Pose:
    """A pose after a small turn and shift (6,)."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    return Pose(turn @ pose.rotation, pose.place + step[3:])


def _pose(rays: Float, depths: Float, seen: Seen, pose: Pose, focal: float) -> Pose:
    """The pose of one view for known depths, by Gauss and Newton."""
    best, least = pose, np.inf
    for _ in range(POSE_ROUNDS):
        error, slope, _, weight = _errors(rays, depths, seen, pose, focal)
        cost = _cost(error, weight)
        if cost >= least:
            break
        best, least = pose, cost
        weighted = slope * weight[:, None, None]
        normal = np.einsum("nki,nkj->ij", weighted, slope)
        normal += np.diag(1e-3 * normal.diagonal() + 1e-6)
        pose = _moved(pose, np.linalg.solve(normal, np.einsum("nki,nk->i", weighted, error)))
    return best


def _cost(error: Float, weight: Float) -> float:
    """Cauchy's cost of errors (N, 2) px; points that are not used count as far off."""
    size = (error**2).sum(1)
    return float(np.where(weight > 0, np.log1p(size / SCALE**2), np.log1p(100.0)).sum())


@dataclass(frozen=True)
class _Equations:
    """Normal equations of all poses and depths at once; the depths' own part is diagonal."""

    cost: float
    poses: Float  # (6 V, 6 V)
    poses_side: Float  # (6 V,)
    mixed: Float  # (6 V, K)
    depths: Float  # (K,)
    depths_side: Float  # (K,)


def _adjust(
    rays: Float, depths: Float, views: Sequence[Seen], poses: Sequence[Pose], focal: float
) -> tuple[float, Float, list[Pose]]:
    """Adjust poses and depths together (bundle adjustment), by Levenberg and Marquardt.

    Args:
        rays: (K, 3) of the keyframe's points.
        depths: (K,) their rho; NaN: not used.
        views: what is seen of them.
        poses: of the views.
        focal: px.

    Returns:
        The cost that is left, the depths and the poses.
    """
    now, damping = list(poses), 1e-3
    equations = _equations(rays, depths, views, now, focal)
    for _ in range(ROUNDS):
        steps, deeper = _step(equations, damping)
        moved = [_moved(pose, step) for pose, step in zip(now, steps, strict=True)]
        deepened = (depths + deeper).clip(0)  # nothing is farther than infinity
        tried = _equations(rays, deepened, views, moved, focal)
        if tried.cost < equations.cost:
            gain = 1 - tried.cost / equations.cost
            now, depths, equations, damping = moved, deepened, tried, damping / 5
            if gain < SMALLEST_GAIN:
                break
        else:
            damping *= 10
    return equations.cost, depths, now


def _equations(
    rays: Float, depths: Float, views: Sequence[Seen], poses: Sequence[Pose], focal: float
) -> _Equations:
    size, count = 6 * len(views), len(rays)
    normal, side, mixed = np.zeros((size, size)), np.zeros(size), np.zeros((size, count))
    own, own_side = np.zeros(count), np.zeros(count)
    cost = 0.0
    for number, (seen, pose) in enumerate(zip(views, poses, strict=True)):
        part = slice(6 * number, 6 * number + 6)
        error, by_pose, by_depth, weight = _errors(rays, depths, seen, pose, focal)
        weighted = by_pose * weight[:, None, None]
        normal[part, part] = np.einsum("nki,nkj->ij", weighted, by_pose)
        side[part] = np.einsum("nki,nk->i", weighted, error)
        mixed[part, seen.rows] = np.einsum("nki,nk->in", weighted, by_depth)
        own[seen.rows] += weight * (by_depth**2).sum(1)
        own_side[seen.rows] += weight * (by_depth * error).sum(1)
        cost += _cost(error, weight)
    return _Equations(cost, normal, side, mixed, own, own_side)


def _step(equations: _Equations, damping: float) -> tuple[Float, Float]:
    """Corrections of the poses (V, 6) and the depths (K,), the depths eliminated (Schur)."""
    own = equations.depths * (1 + damping) + 1e-9
    poses = equations.poses + damping * np.diag(equations.poses.diagonal() + 1e-6)
    reduced = poses - (equations.mixed / own) @ equations.mixed.T
    side = equations.poses_side - equations.mixed @ (equations.depths_side / own)
    step: Float = np.asarray(np.linalg.lstsq(reduced, side, rcond=1e-10)[0], float)
    deeper = (equations.depths_side - equations.mixed.T @ step) / own
    steps: Float = step.reshape(-1, 6)
    return steps, deeper
