"""The unknowns of the fit: pose, place and shape of one person over F frames."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from staf_cli.body.format import JOINT_COUNT
from staf_cli.body.posing import rotation_matrices
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import Person

NEAREST = 0.1  # m, least depth of a start


@dataclass(frozen=True)
class Motion:
    """The unknowns of F frames, float32."""

    root: Tensor  # (F, 3, 3) the pelvis' rotation before `turn`
    turn: Tensor  # (F, 3) rad, rotation vector in the pelvis' own frame
    angles: Tensor  # (F, 23, 3) rad, rotation vectors of the other joints
    ray: Tensor  # (F, 2) x / z and y / z of the translation
    log_depth: Tensor  # (F,) ln of its z in metres
    betas: Tensor  # (10,) of all frames

    @property
    def rotmats(self) -> Tensor:
        """Local rotations of all joints, (F, 24, 3, 3)."""
        root = self.root @ axis_angle_to_matrix(self.turn)
        return torch.cat([root[:, None], axis_angle_to_matrix(self.angles)], 1)

    @property
    def trans(self) -> Tensor:
        """The body's translation, (F, 3) m, camera frame."""
        z = self.log_depth.exp()[:, None]
        return torch.cat([self.ray * z, z], 1)

    def rows(self, rows: slice) -> "Motion":
        """Select some of the frames."""
        return Motion(
            self.root[rows],
            self.turn[rows],
            self.angles[rows],
            self.ray[rows],
            self.log_depth[rows],
            self.betas,
        )


def motion_of(person: Person) -> Motion:
    """Convert a person's parameters to the unknowns of the fit.

    Args:
        person: F frames.

    Returns:
        The same motion; betas are the median over the frames.
    """
    trans = torch.from_numpy(person.trans).float()
    z = trans[:, 2].clamp(min=NEAREST)
    return Motion(
        root=rotation_matrices(person.poses).float()[:, 0],
        turn=torch.zeros(len(trans), 3),
        angles=torch.from_numpy(person.poses).float().reshape(-1, JOINT_COUNT, 3)[:, 1:],
        ray=trans[:, :2] / z[:, None],
        log_depth=z.log(),
        betas=torch.from_numpy(np.median(person.betas, 0)).float(),
    )
