"""The camera's motion from its background: rotations to the first camera of each shot."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_opening
from scipy.spatial.transform import Rotation, Slerp

from staf_cli.camera.background import Background
from staf_cli.camera.rotation import fit_rotation
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import Bools, Float

REST = 2.0  # times more points than a camera at rest explains are needed to believe that it turns
STILL = 1.0  # px of the working picture that a turn moves its centre, up to which it may be noise
LASTING = 5  # frames in a row, from which on motion is one of the camera's
WANDERED = 2.0  # px of the working picture that turns may add up to on a tripod
SHIFTED = 20.0  # px of the working picture, median of the points, from which parallax shows
SHIFTED_FRAMES = 0.2  # share of a shot's frames that must be shifted so far
PARALLAX = 0.03  # share of such a shift that turns do not explain if the camera travels
UNSURE = 8.0  # px of the working picture by which far points may miss the rotation at most


def estimate(background: Background, focal: float, tripod: bool = True) -> CameraMotion:
    """Estimate how the camera turns.

    Args:
        background: that it saw.
        focal: px of the working picture.
        tripod: whether a shot in which nothing moves but noise is one of a camera at rest.

    Returns:
        A row for each frame; positions are zeros.
    """
    frame = np.array([one.frame for one in background.views], np.int64)
    shot = np.array([one.shot for one in background.views], np.int64)
    relative = _to_keyframes(background, focal, REST if tripod else 1.0)
    rotation = _chained(background, relative)
    known, travels, moving = relative.known, np.zeros(len(frame), bool), False
    for number in np.unique(shot):
        rows = np.flatnonzero(shot == number)
        travels[rows] = _travels(relative.parallax[rows])
        turns = _moves(rotation[rows], relative.still[rows], known[rows], focal)
        if turns or travels[rows].any() or not tripod:
            rotation[rows], moving = _filled(rotation[rows], known[rows]), True
        else:
            rotation[rows], known[rows] = np.eye(3), known[rows].any()
    position = np.zeros((len(frame), 3))
    return CameraMotion(frame, rotation, position, shot, known, travels, moving)


@dataclass(frozen=True)
class _Relative:
    """Each of F views relative to its keyframe."""

    rotation: Float  # (F, 3, 3) camera of the view -> camera of the keyframe
    known: Bools  # (F,) whether enough points follow it
    still: Bools  # (F,) whether the camera stands as in the keyframe
    parallax: Float  # (F,) share of the points' shift that turns do not explain; NaN: not seen


def _to_keyframes(background: Background, focal: float, rest: float) -> _Relative:
    """Solve each view; focal: px of the working picture."""
    count = len(background.views)
    rotation = np.tile(np.eye(3), (count, 1, 1))
    known, still = np.zeros(count, bool), np.zeros(count, bool)
    parallax = np.full(count, np.nan)
    keys = np.array([one.key for one in background.views])
    for row in np.flatnonzero(keys >= 0).tolist():
        view = background.views[row]
        first = background.keyframes[view.key].points[view.seen]
        fit = fit_rotation(first, view.points, focal, rest)
        rotation[row] = fit.rotation
        known[row] = fit.miss < UNSURE
        still[row] = focal * Rotation.from_matrix(fit.rotation).magnitude() < STILL
        shift = float(np.median(np.linalg.norm(view.points - first, axis=1)))
        if shift > SHIFTED:
            parallax[row] = np.median(fit.error) / shift
    for number, keyframe in enumerate(background.keyframes):
        if keys[keyframe.view] == number:  # matched to itself, which tells nothing
            known[keyframe.view] = known[np.flatnonzero(keys == number)[1:]].any()
    return _Relative(rotation, known, still, parallax)


def _chained(background: Background, relative: _Relative) -> Float:
    """Each view relative to the first of its shot (F, 3, 3), over the keyframes."""
    rotation = np.tile(np.eye(3), (len(background.views), 1, 1))
    of_key: dict[int, Float] = {}
    shot, last = -1, np.eye(3)
    for row, view in enumerate(background.views):
        if view.shot != shot:
            shot, last = view.shot, np.eye(3)
        if view.key >= 0:
            begin = background.keyframes[view.key].view
            if view.key not in of_key:
                of_key[view.key] = last if begin == row else rotation[begin]
            last = of_key[view.key] @ relative.rotation[row]
        rotation[row] = last
    return rotation


def _moves(rotation: Float, still: Bools, known: Bools, focal: float) -> bool:
    """Whether the camera moves in a shot: for LASTING frames, not by a knock or by noise."""
    angle = Rotation.from_matrix(rotation).magnitude()
    moved = (~still | (focal * angle > WANDERED))[known]
    lasting = np.ones(min(LASTING, max(1, len(moved))), bool)
    return bool(binary_opening(moved, lasting).any())


def _travels(parallax: Float) -> bool:
    """Whether the camera changes its place in a shot, by its views' parallax."""
    seen = parallax[np.isfinite(parallax)]
    least = max(LASTING, SHIFTED_FRAMES * len(parallax))
    return len(seen) >= least and bool(np.median(seen) > PARALLAX)


def _filled(rotation: Float, known: Bools) -> Float:
    """Rotations (F, 3, 3) with those that are not known interpolated, at the ends kept."""
    rows = np.flatnonzero(known)
    if len(rows) < 2:
        return rotation
    wanted = np.clip(np.arange(len(rotation)), rows[0], rows[-1])
    filled: Float = Slerp(rows, Rotation.from_matrix(rotation[rows]))(wanted).as_matrix()
    return filled
