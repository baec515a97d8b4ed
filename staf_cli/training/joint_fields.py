"""Joint fields: what the point features are pretrained on, where joints are and which is nearer.

The paper's regressors read five numbers at each of some 430 points (3.2). Eq. 11 alone teaches
the samplers what to put into them only through everything that follows, which takes more steps
than two cores can make. So the five channels get a meaning to start from. Every joint is a
Gaussian spot around its place in the crop, and so is every difference in depth between two
joints; each spot adds to the five channels in proportions of its own. The field's value is known
at any point of any crop with a known pose, so every point is a training example, and a linear
regressor can be solved for at once (least_squares.py). Later training may change the meaning.
"""

import torch
from torch import Tensor, nn

from staf_cli.core.devices import send
from staf_cli.model.pyramid import POINT_FEATURES
from staf_cli.training.losses import GroundTruth

LSP_JOINTS = 14
# LSP joints (a, b): one spot at joint a is as bright as a is farther than b, one as it is nearer.
DEPTH_PAIRS = (
    *((0, 1), (1, 2), (5, 4), (4, 3), (6, 7), (7, 8), (11, 10), (10, 9), (13, 12)),
    *((2, 3), (3, 2), (8, 9), (9, 8), (12, 2)),
)
SPOTS = LSP_JOINTS + 2 * len(DEPTH_PAIRS)  # 42
DEPTH_UNIT = 0.3  # m of difference in depth that make a spot as bright as a joint's
SIGMA = (0.28, 0.2, 0.14)  # half crops, at levels 1, 2 and 3
JOINT_DISTANCE = 0.15  # half crops, sigma: how far from joints the mesh's points are simulated
MIXTURE_SEED = 5
FIELD_WEIGHT = 60.0


class JointFields(nn.Module):
    """The target values of point features for people with a known pose."""

    mixture: Tensor  # (3, 42, 5) a spot's share of each channel, at each level

    def __init__(self) -> None:
        """Draw the mixtures from a fixed seed."""
        super().__init__()
        generator = torch.Generator().manual_seed(MIXTURE_SEED)
        drawn = torch.randn(3, SPOTS, POINT_FEATURES, generator=generator)
        self.register_buffer("mixture", nn.functional.softplus(drawn - 0.5), persistent=False)

    def forward(self, level: int, truth: GroundTruth, points: Tensor) -> Tensor:
        """Compute the fields at points.

        Args:
            level: k, 1 to 3.
            truth: N people.
            points: (N, P, 2) x, y in the crops' [-1, 1].

        Returns:
            (N, P, 5) the channels at the points.
        """
        places, brightness = _spots(truth)
        off = (points[:, :, None] - places[:, None]).square().sum(-1)  # (N, P, 42)
        bright = torch.exp(-0.5 * off / SIGMA[level - 1] ** 2) * brightness[:, None]
        return bright @ self.mixture[level - 1]


def field_loss(found: Tensor, goal: Tensor, truth: GroundTruth) -> Tensor:
    """Compute the mean squared error of channels, times its weight.

    Args:
        found: (N, P, 5) what the sampler computed.
        goal: (N, P, 5) what `JointFields` returned.
        truth: N people; each counts as their pose is certain.

    Returns:
        A scalar.
    """
    off = (found - goal).square().mean((1, 2))
    known = truth.smpl_weight
    return FIELD_WEIGHT * (off * known).sum() / known.sum().clamp(min=1e-6)


def points_near_joints(truth: GroundTruth, points: int, generator: torch.Generator) -> Tensor:
    """Draw points to train at: most of them near joints, as a mesh's are, a quarter anywhere.

    Args:
        truth: N people.
        points: P.
        generator: On the CPU.

    Returns:
        (N, P, 2) x, y; those drawn anywhere, the last ones, are in [-1, 1].
    """
    n, device = len(truth.betas), truth.kp2d.device
    far = points // 4
    joint = torch.randint(LSP_JOINTS, (n, points - far), generator=generator)
    away = JOINT_DISTANCE * torch.randn(n, points - far, 2, generator=generator)
    anywhere = torch.rand(n, far, 2, generator=generator) * 2 - 1
    rows = torch.arange(n)[:, None]
    near = truth.kp2d[send(rows, device), send(joint, device), :2] + send(away, device)
    return torch.cat([near, send(anywhere, device)], 1)


def _spots(truth: GroundTruth) -> tuple[Tensor, Tensor]:
    """Places (N, 42, 2) in the crop and brightness (N, 42) of each person's spots."""
    first, second = (list(side) for side in zip(*DEPTH_PAIRS, strict=True))
    joint = truth.kp2d[:, :LSP_JOINTS]
    # No spot is darker than nothing, so each sign of a difference has a spot of its own.
    depth = (truth.kp3d[:, first, 2] - truth.kp3d[:, second, 2]) / DEPTH_UNIT
    seen = joint[..., 2]
    places = torch.cat([joint[..., :2], joint[:, first, :2], joint[:, first, :2]], 1)
    brightness = [seen, depth.clamp(min=0) * seen[:, first], (-depth).clamp(min=0) * seen[:, first]]
    return places, torch.cat(brightness, 1)
