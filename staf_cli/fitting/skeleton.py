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
        rest = self.joints + self.joint_dirs @ betas
        frames, places = forward_kinematics(rotmats, rest[None])
        offsets = (self.offsets + self.offset_dirs @ betas)[..., None]
        return places, places[:, ANCHORS] + (frames[:, ANCHORS] @ offsets).squeeze(-1)


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
