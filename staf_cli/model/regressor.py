"""The SMPL parameters Theta (paper 3.1) and the regressors that correct them (paper 3.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from staf_cli.core.geometry import rot6d_to_matrix

POSE = 24 * 6


@dataclass(frozen=True)
class Theta:
    """A batch of N SMPL parameters with the crop's camera; a row is a frame or a window."""

    pose6d: Tensor  # (N, 144) theta: 24 rotations in 6-D form, global_orient first
    betas: Tensor  # (N, 10) beta
    pred_cam: Tensor  # (N, 3) pi: s, tx, ty, as in core.geometry.project_to_crop

    @property
    def rotmats(self) -> Tensor:
        """The 24 rotations as matrices (N, 24, 3, 3)."""
        return rot6d_to_matrix(self.pose6d.reshape(-1, 24, 6))

    @property
    def flat(self) -> Tensor:
        """All numbers of every row (N, 157): pose, shape, camera."""
        return torch.cat([self.pose6d, self.betas, self.pred_cam], -1)

    def detach(self) -> "Theta":
        """Return the same values without gradients: each regressor learns its own correction."""
        return Theta(self.pose6d.detach(), self.betas.detach(), self.pred_cam.detach())

    def __getitem__(self, rows: slice) -> "Theta":
        """Return some of the rows."""
        return Theta(self.pose6d[rows], self.betas[rows], self.pred_cam[rows])


class MeanParameters(nn.Module):
    """Theta_0, the mean parameters: where every estimate starts. Its names are checkpoint keys."""

    pose: Tensor  # (144,)
    shape: Tensor  # (10,)
    cam: Tensor  # (3,)

    def __init__(self) -> None:
        """Start with the T-pose, the mean shape, and a camera that sees the whole body."""
        super().__init__()
        self.register_buffer("pose", torch.tensor([1.0, 0, 0, 1, 0, 0] * 24))
        self.register_buffer("shape", torch.zeros(10))
        self.register_buffer("cam", torch.tensor([0.9, 0, 0]))

    def forward(self, n: int) -> Theta:
        """Return n rows of Theta_0."""
        return Theta(self.pose.expand(n, -1), self.shape.expand(n, -1), self.cam.expand(n, -1))


class Regressor(nn.Module):
    """Correct Theta by a feature: Theta_k = Theta_{k-1} + R_k(phi^m_k, Theta_{k-1})."""

    def __init__(self, features: int) -> None:
        """Build the layers.

        Args:
            features: S, numbers in a feature.
        """
        super().__init__()
        self.fc1 = nn.Linear(features + POSE + 10 + 3, 1024)
        self.fc2 = nn.Linear(1024, 1024)
        self.dropout = nn.Dropout(0.5)
        self.decpose = nn.Linear(1024, POSE)
        self.decshape = nn.Linear(1024, 10)
        self.deccam = nn.Linear(1024, 3)

    def forward(self, feature: Tensor, theta: Theta) -> Theta:
        """Correct pose, shape and camera.

        Args:
            feature: (N, S) phi^m_k.
            theta: N rows, Theta_{k-1}.

        Returns:
            N rows, Theta_k.
        """
        x = torch.cat([feature, theta.flat], -1)  # (N, S + 157)
        x = self.dropout(self.fc2(self.dropout(self.fc1(x))))  # (N, 1024)
        return Theta(
            theta.pose6d + self.decpose(x),
            theta.betas + self.decshape(x),
            theta.pred_cam + self.deccam(x),
        )
