"""The SMPL parameters Theta and the regressors that correct them (paper 3.1 and 3.4)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from staf_cli.core.geometry import rot6d_to_matrix

POSE = 24 * 6


@dataclass(frozen=True)
class Theta:
    """A batch of SMPL parameters with the crop's camera; N may count frames, windows or both."""

    pose6d: Tensor  # (N, 144) 24 rotations in 6-D form, global orientation first
    betas: Tensor  # (N, 10)
    pred_cam: Tensor  # (N, 3) s, tx, ty in the crop's [-1, 1] coordinates

    @property
    def rotmats(self) -> Tensor:
        """The 24 rotations as matrices (N, 24, 3, 3)."""
        return rot6d_to_matrix(self.pose6d.reshape(-1, 24, 6))

    @property
    def flat(self) -> Tensor:
        """All numbers of each in a row (N, 157): pose, shape, camera."""
        return torch.cat([self.pose6d, self.betas, self.pred_cam], -1)

    def detach(self) -> "Theta":
        """The same values without their history: each regressor answers for its own correction."""
        return Theta(self.pose6d.detach(), self.betas.detach(), self.pred_cam.detach())

    def __getitem__(self, rows: slice) -> "Theta":
        return Theta(self.pose6d[rows], self.betas[rows], self.pred_cam[rows])


class MeanParameters(nn.Module):
    """Theta_0, where every estimate starts."""

    pose: Tensor
    shape: Tensor
    cam: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pose", torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(24))
        self.register_buffer("shape", torch.zeros(10))
        self.register_buffer("cam", torch.tensor([0.9, 0, 0]))

    def forward(self, n: int) -> Theta:
        """Theta_0, n times."""
        return Theta(self.pose.expand(n, -1), self.shape.expand(n, -1), self.cam.expand(n, -1))


class Regressor(nn.Module):
    """Reads a feature and the present Theta; adds its correction to pose, shape and camera."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features + POSE + 10 + 3, 1024)
        self.fc2 = nn.Linear(1024, 1024)
        self.dropout = nn.Dropout(0.5)
        self.decpose = nn.Linear(1024, POSE)
        self.decshape = nn.Linear(1024, 10)
        self.deccam = nn.Linear(1024, 3)

    def forward(self, feature: Tensor, theta: Theta) -> Theta:
        """feature (N, S) and Theta (N, .) -> the corrected Theta (N, .)."""
        x = torch.cat([feature, theta.flat], -1)
        x = self.dropout(self.fc2(self.dropout(self.fc1(x))))
        return Theta(
            theta.pose6d + self.decpose(x),
            theta.betas + self.decshape(x),
            theta.pred_cam + self.deccam(x),
        )
