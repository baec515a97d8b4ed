"""A body reduced to joints and keypoints: a keypoint is a point fixed in one joint's frame."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from staf_cli.body.skinning import Body, forward_kinematics
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import Float
from staf_cli.fitting.joint_limits import joint_limits

# The joint in whose frame each COCO keypoint is fixed.
ANCHORS = (15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 0, 0, 4, 5, 7, 8)
# Nose, eyes and ears in the head's frame, m, for a body without a keypoint regressor.
FACE = ((0, 0, 0.12), (0.03, 0.04, 0.09), (-0.03, 0.04, 0.09), (0.08, 0.03, 0), (-0.08, 0.03, 0))

# From where the body has a keypoint to where detector and landmark network see it, m: along the
# axes of its anchor's frame in the T-pose (x left, y up, z forward), left side. By least squares
# over 440 frames of 11 synthetic people; kept where they also hold for people who were left out.
_DETECTED = {
    (0, 1, 2): (0, 0, -0.013),  # nose, eyes
    (5, 6): (-0.006, -0.037, 0.005),  # shoulders
    (7, 8): (0.015, 0.006, 0.014),  # elbows
    (13, 14): (0.003, -0.018, -0.025),  # knees
}
_LANDMARK = {
    (0, 1, 2): (0, 0.008, -0.046),
    (3, 4): (-0.012, 0.002, 0.004),  # ears
    (5, 6): (0.006, -0.020, 0),
    (7, 8): (0.016, -0.005, 0.010),
    (9, 10): (0.018, -0.026, 0.003),  # wrists
    (11, 12): (-0.009, -0.025, 0.009),  # hips
    (13, 14): (-0.004, -0.026, -0.028),
}


def _both_sides(shifts: dict[tuple[int, ...], tuple[float, float, float]]) -> Tensor:
    """(17, 3) m; the right side's are mirror images."""
    table = torch.zeros(len(ANCHORS), 3)
    for keypoints, shift in shifts.items():
        for keypoint in keypoints:
            right = keypoint > 0 and keypoint % 2 == 0
            table[keypoint] = torch.tensor(shift) * torch.tensor([-1.0 if right else 1.0, 1, 1])
    return table


DETECTED_SHIFT, LANDMARK_SHIFT = _both_sides(_DETECTED), _both_sides(_LANDMARK)


@dataclass(frozen=True)
class Posed:
    """Points of a posed skeleton in the body's own frame, F frames, m."""

    joints: Tensor  # (F, 24, 3)
    detected: Tensor  # (F, 17, 3) COCO keypoints, where the detector sees them
    landmarks: Tensor  # (F, 17, 3) the same, where the landmark network sees them


@dataclass(frozen=True)
class Skeleton:
    """Joints and keypoints in the T-pose, and what each beta adds to them."""

    joints: Tensor  # (24, 3) m
    joint_dirs: Tensor  # (24, 3, 10) m per unit of beta
    offsets: Tensor  # (17, 3) m, keypoints from the joints they are fixed to
    offset_dirs: Tensor  # (17, 3, 10) m per unit of beta

    def pose(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose joints and keypoints in the body's own frame.

        Args:
            rotmats: (F, 24, 3, 3) local rotations.
            betas: (10,).

        Returns:
            Joints (F, 24, 3) and COCO keypoints (F, 17, 3), m.
        """
        frames, places, offsets = self._kinematics(rotmats, betas)
        return places, places[:, ANCHORS] + (frames @ offsets[..., None]).squeeze(-1)

    def pose_as_seen(self, rotmats: Tensor, betas: Tensor) -> Posed:
        """Pose joints, and keypoints where the two networks see them.

        Args:
            rotmats: (F, 24, 3, 3) local rotations.
            betas: (10,).

        Returns:
            The points.
        """
        frames, places, offsets = self._kinematics(rotmats, betas)
        shifts = torch.stack([offsets + DETECTED_SHIFT, offsets + LANDMARK_SHIFT], -1)  # (17, 3, 2)
        detected, landmarks = (places[:, ANCHORS, :, None] + frames @ shifts).unbind(-1)
        return Posed(places, detected, landmarks)

    def _kinematics(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames of the anchors (F, 17, 3, 3), joints (F, 24, 3), keypoints' offsets (17, 3)."""
        rest = self.joints + self.joint_dirs @ betas
        frames, places = forward_kinematics(rotmats, rest[None])
        return frames[:, ANCHORS], places, self.offsets + self.offset_dirs @ betas


def reduce_body(body: Body) -> Skeleton:
    """Reduce a body to its skeleton; without a keypoint regressor, keypoints are at usual places.

    Args:
        body: the whole body model.

    Returns:
        Its skeleton, float32.
    """
    arrays, anchors = body.arrays, np.array(ANCHORS)
    joints = arrays.J_regressor @ arrays.v_template
    joint_dirs = np.einsum("jv,vcb->jcb", arrays.J_regressor, arrays.shapedirs)
    if arrays.coco17_regressor is not None:
        regressor = arrays.coco17_regressor
        keypoints = regressor @ arrays.v_template
        keypoint_dirs = np.einsum("kv,vcb->kcb", regressor, arrays.shapedirs)
    else:
        nearest = anchors.copy()
        nearest[11:13] = 1, 2  # hip keypoints are at the hips, but fixed to the pelvis
        keypoints, keypoint_dirs = joints[nearest], joint_dirs[nearest]
        keypoints[:5] += np.array(FACE, np.float32)
    offsets, offset_dirs = keypoints - joints[anchors], keypoint_dirs - joint_dirs[anchors]
    return Skeleton(*map(torch.from_numpy, (joints, joint_dirs, offsets, offset_dirs)))


def relaxed_keypoints(skeleton: Skeleton) -> Float:
    """Compute the keypoints of the mean shape with all joints at rest.

    Args:
        skeleton: of the body.

    Returns:
        (17, 3) m in the body's own frame: x left, y up, z forward.
    """
    rest = joint_limits().rest
    rotmats = torch.cat([torch.eye(3)[None], axis_angle_to_matrix(rest)])[None]
    _, keypoints = skeleton.pose(rotmats, torch.zeros(skeleton.joint_dirs.shape[-1]))
    return np.asarray(keypoints[0].double().numpy())
