"""How far each joint of a fitted body may be off.

The error of a joint is its distance from its true place, both counted from the pelvis, in the
camera's axes and without any alignment: what MPJPE averages. A joint's sigma is the distance within
which it lies in 68 % of cases: the usual one of such a joint, times powers of how far the fit moved
it and how far it is from its keypoint, times a factor for each cue that is missing. The numbers
are a quantile regression over synthetic people (tools/measure_joint_sigma.py).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.format import JOINT_COUNT
from staf_cli.body.posing import rotation_matrices
from staf_cli.core.geometry import project
from staf_cli.core.records import Float, Float32, Person, Track
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.fitting.keypoints import seen_keypoints
from staf_cli.fitting.landmark_cue import LandmarkCue
from staf_cli.fitting.skeleton import Skeleton

SHARE = 0.683  # of the joints: within their sigma

# m: left side and middle; the right side is the same. The pelvis' own is 0 by definition.
USUAL = {
    3: 0.020,  # spine
    6: 0.040,
    9: 0.059,
    12: 0.078,  # neck
    15: 0.089,  # head
    13: 0.070,  # collar
    16: 0.080,  # shoulder
    18: 0.097,  # elbow
    20: 0.119,  # wrist
    22: 0.135,  # hand
    1: 0.029,  # hip
    4: 0.104,  # knee
    7: 0.139,  # ankle
    10: 0.148,  # toes
}
# What each evidence (`evidence`) counts: it is multiplied with it and is then ln of a factor.
POWERS = {
    "moved": 0.40,
    "off keypoint": 0.32,
    "no keypoint": 0.19,
    "no landmarks": 0.34,
    "unfitted": 0.49,
}

_LEAST = 0.03  # m, added to distances: below it, it says nothing to be nearer
_MOVED, _OFF_KEYPOINT = 0.09, 0.06  # m, with _LEAST: where ratios are 1
_FARTHEST = 0.3  # m: a keypoint that is farther off counts as so much

_BODY = slice(5, 17)  # COCO's keypoints from the shoulders to the ankles
# Which of them shows a joint best, left side; the right side's is the next one.
_KEYPOINT = {1: 6, 4: 8, 7: 10, 10: 10, 16: 0, 18: 2, 20: 4, 22: 4}


def _keypoints() -> NDArray[np.int64]:
    """(24,): which of the keypoints of _BODY shows each joint; the one after the last: none."""
    table = np.full(JOINT_COUNT, _BODY.stop - _BODY.start)
    for joint, keypoint in _KEYPOINT.items():
        table[joint], table[RIGHT[joint]] = keypoint, keypoint + 1
    return table


_KEYPOINTS = _keypoints()


def usual() -> Float:
    """Expand USUAL to all joints, both sides.

    Returns:
        (24,) m.
    """
    table = np.zeros(JOINT_COUNT)
    for joint, distance in USUAL.items():
        table[[joint, RIGHT.get(joint, joint)]] = distance
    return table


def network_sigma(frames: int) -> Float32:
    """Say how far joints may be off in frames that were not fitted.

    Args:
        frames: how many.

    Returns:
        (F, 24) m; 0 for the pelvis.
    """
    return np.tile(usual() * np.exp(POWERS["unfitted"]), (frames, 1)).astype(np.float32)


def joint_sigma(
    start: Person, fitted: Person, track: Track, cue: LandmarkCue | None, skeleton: Skeleton
) -> Float32:
    """Say how far the joints of a fitted person may be off.

    Args:
        start: F frames as the network saw them.
        fitted: the same frames, fitted; of one shape.
        track: the same frames, with the detector's keypoints.
        cue: what the landmark network says of the same frames, if it looked.
        skeleton: of the person's body.

    Returns:
        (F, 24) m; 0 for the pelvis.
    """
    found = evidence(start, fitted, track, cue, skeleton)
    factor = np.exp(sum(POWERS[name] * values for name, values in found.items()))
    return (usual() * factor).astype(np.float32)


def evidence(
    start: Person, fitted: Person, track: Track, cue: LandmarkCue | None, skeleton: Skeleton
) -> dict[str, Float]:
    """Compute what a fit shows of its errors without the truth.

    Args:
        start: F frames as the network saw them.
        fitted: the same frames, fitted; of one shape.
        track: the same frames, with the detector's keypoints.
        cue: what the landmark network says of the same frames, if it looked.
        skeleton: of the person's body.

    Returns:
        (F, 24) each, by their names in POWERS: logarithms of distances over usual ones, 0 where
        none is known; how much is missing, in [0, 1].
    """
    off, weight = _off_keypoints(fitted, track, skeleton)
    looked = np.zeros(len(off), bool) if cue is None else cue.seen.numpy()
    move = fitted.joints3d - start.joints3d
    moved = np.linalg.norm(move - move[:, :1], axis=-1)
    return {
        "moved": np.log((_LEAST + moved) / _MOVED),
        "off keypoint": np.log((_LEAST + off) / _OFF_KEYPOINT) * (weight > 0),
        "no keypoint": 1 - weight,
        "no landmarks": np.repeat(~looked[:, None], JOINT_COUNT, 1).astype(np.float64),
    }


def _off_keypoints(fitted: Person, track: Track, skeleton: Skeleton) -> tuple[Float, Float]:
    """How far each joint is from its keypoint, m across the view, and its weight: (F, 24) each."""
    seen = seen_keypoints(track, fitted.image_size)
    rotmats = rotation_matrices(fitted.poses).float()
    posed = skeleton.pose_as_seen(rotmats, torch.from_numpy(fitted.betas[0]).float())
    placed = posed.detected[:, _BODY].double() + torch.from_numpy(fitted.trans)[:, None]
    width, height = fitted.image_size
    pixels = project(placed, fitted.focal_length, (width / 2, height / 2)).numpy()
    off = np.linalg.norm(pixels - seen.keypoints[:, _BODY], axis=-1)
    off *= fitted.joints3d[:, :1, 2] / fitted.focal_length
    off = np.nan_to_num(off, nan=_FARTHEST).clip(0, _FARTHEST)
    weight = seen.weight[:, _BODY]
    # The last column is for joints that no keypoint shows: the mean of all.
    total = np.maximum(weight.sum(1, keepdims=True), 1e-6)
    off = np.append(off, (off * weight).sum(1, keepdims=True) / total, 1)
    weight = np.append(weight, weight.mean(1, keepdims=True), 1)
    return off[:, _KEYPOINTS], weight[:, _KEYPOINTS]
