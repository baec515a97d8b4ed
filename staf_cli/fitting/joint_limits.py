"""How each joint is turned at rest, how far it usually is from there, and how far it can go."""

from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.body.format import JOINT_COUNT

RIGHT = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21, 22: 23}  # of each left joint

# Rotation vectors in the joints' T-pose frames (x left, y up, z forward), rad: rest, usual
# deviation from it (a sigma), lowest, highest. Left side and middle; the right side is the
# mirror image (x, -y, -z).
_SPINE = ((0, 0, 0), (0.15, 0.1, 0.1), (-0.4, -0.4, -0.4), (0.6, 0.4, 0.4))
_NECK = ((0, 0, 0), (0.2, 0.25, 0.15), (-0.6, -0.8, -0.4), (0.6, 0.8, 0.4))
JOINT_RANGES = {
    1: ((-0.15, 0, 0), (0.5, 0.25, 0.25), (-2.3, -0.8, -0.6), (0.6, 0.9, 1.3)),  # hip
    4: ((0.25, 0, 0), (0.6, 0.06, 0.05), (0, -0.15, -0.1), (2.6, 0.15, 0.1)),  # knee
    7: ((0, 0, 0), (0.25, 0.15, 0.12), (-0.7, -0.4, -0.4), (0.9, 0.4, 0.4)),  # ankle
    10: ((0, 0, 0), (0.05, 0.02, 0.02), (-0.2, -0.05, -0.05), (0.4, 0.05, 0.05)),  # toes
    3: _SPINE,
    6: _SPINE,
    9: _SPINE,
    12: _NECK,
    15: _NECK,
    13: ((0, 0, -0.05), (0.1, 0.15, 0.15), (-0.2, -0.4, -0.3), (0.2, 0.3, 0.6)),  # collar
    16: ((0.15, -0.3, -1.0), (0.5, 0.5, 0.6), (-1.8, -2.0, -1.6), (1.5, 0.9, 1.8)),  # shoulder
    18: ((0, -0.6, 0), (0.3, 0.6, 0.15), (-0.8, -2.6, -0.4), (0.8, 0, 0.4)),  # elbow
    20: ((0, 0, 0), (0.2, 0.15, 0.2), (-0.8, -0.5, -0.8), (0.8, 0.5, 0.8)),  # wrist
    22: ((0, 0, 0), (0.05, 0.05, 0.05), (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)),  # hand
}


@dataclass(frozen=True)
class JointLimits:
    """Rotation vectors of the joints 1 to 23 in their T-pose frames, rad."""

    rest: Tensor  # (23, 3)
    sigma: Tensor  # (23, 3) usual deviation from rest
    lowest: Tensor  # (23, 3)
    highest: Tensor  # (23, 3)


def joint_limits() -> JointLimits:
    """Expand JOINT_RANGES to all joints but the pelvis, both sides."""
    table = torch.zeros(JOINT_COUNT, 4, 3)
    mirror = torch.tensor([1.0, -1.0, -1.0])
    for joint, values in JOINT_RANGES.items():
        table[joint] = torch.tensor(values)
        if joint in RIGHT:
            rest, sigma, low, high = table[joint]
            ends = torch.stack([low * mirror, high * mirror])
            table[RIGHT[joint]] = torch.stack([rest * mirror, sigma, *ends.sort(0).values])
    return JointLimits(*table[1:].unbind(1))
