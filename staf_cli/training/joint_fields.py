"""What the point features are first taught to say: where joints are, and which is nearer.

The paper's regressors read five numbers at each of some 430 points, and nothing tells the
sampler what to put into them but errors of pose that come back through all that follows. That
takes more steps than two cores can make. So the five channels are given a meaning to begin with:
joints and differences of depth are drawn as Gaussian spots into them, each in a mixture of
channels of its own, like colours. The spots are known wherever a pose is, at any point of the
crop, so that every point of every crop teaches the sampler, and a linear regressor can be solved
for at once (reading.py). Nothing holds the channels to that meaning in what is trained later.
"""

import torch
from torch import Tensor, nn

from staf_cli.core.devices import send
from staf_cli.model.pyramid import POINT_FEATURES
from staf_cli.training.losses import Target

LSP_JOINTS = 14
# A joint and the one from whose depth its own is told; with both signs, a spot for each.
DEPTHS = (
    *((0, 1), (1, 2), (5, 4), (4, 3), (6, 7), (7, 8), (11, 10), (10, 9), (13, 12)),
    *((2, 3), (3, 2), (8, 9), (9, 8), (12, 2)),
)
REACH = 0.3  # m of difference in depth that make a spot as bright as a joint's
SIGMA = (0.28, 0.2, 0.14)  # of half a crop, at levels 1, 2 and 3
AROUND = 0.15  # of half a crop: how far from spots the mesh' points are imitated
COLOURS_SEED = 5
FIELD = 60.0  # weight of the loss


class Fields(nn.Module):
    """The spots of a batch of people, at any points of their crops."""

    colours: Tensor  # (3, 14 + 2 * 14, 5) a spot's share of each channel, at each level

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(COLOURS_SEED)
        drawn = torch.randn(3, LSP_JOINTS + 2 * len(DEPTHS), POINT_FEATURES, generator=generator)
        self.register_buffer("colours", nn.functional.softplus(drawn - 0.5), persistent=False)

    def forward(self, level: int, target: Target, points: Tensor) -> Tensor:
        """Points (N, P, 2) in [-1, 1] of N people's crops -> the channels there (N, P, 5)."""
        places, brightness = _spots(target)
        off = (points[:, :, None] - places[:, None]).square().sum(-1)  # (N, P, 42)
        bright = torch.exp(-0.5 * off / SIGMA[level - 1] ** 2) * brightness[:, None]
        return bright @ self.colours[level - 1]


def field_loss(said: Tensor, goal: Tensor, target: Target) -> Tensor:
    """The weighted loss of channels said (N, P, 5) where the pose is known."""
    off = (said - goal).square().mean((1, 2))
    known = target.smpl_weight
    return FIELD * (off * known).sum() / known.sum().clamp(min=1e-6)


def near_spots(target: Target, points: int, generator: torch.Generator) -> Tensor:
    """Random points (N, P, 2), most of them near joints as a mesh's are, a quarter anywhere."""
    n, device = len(target.betas), target.kp2d.device
    far = points // 4
    joint = torch.randint(LSP_JOINTS, (n, points - far), generator=generator)
    away = AROUND * torch.randn(n, points - far, 2, generator=generator)
    anywhere = torch.rand(n, far, 2, generator=generator) * 2 - 1
    rows = torch.arange(n)[:, None]
    near = target.kp2d[send(rows, device), send(joint, device), :2] + send(away, device)
    return torch.cat([near, send(anywhere, device)], 1)


def _spots(target: Target) -> tuple[Tensor, Tensor]:
    """Places (N, 42, 2) in the crop and brightness (N, 42) of each person's spots."""
    ends, starts = (list(side) for side in zip(*DEPTHS, strict=True))
    joint = target.kp2d[:, :LSP_JOINTS]
    nearer = (target.kp3d[:, ends, 2] - target.kp3d[:, starts, 2]) / REACH
    seen = joint[..., 2]
    places = torch.cat([joint[..., :2], joint[:, ends, :2], joint[:, ends, :2]], 1)
    brightness = [seen, nearer.clamp(min=0) * seen[:, ends], (-nearer).clamp(min=0) * seen[:, ends]]
    return places, torch.cat(brightness, 1)
