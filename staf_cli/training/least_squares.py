"""Between the halves of stage 1: the regressors, solved for at once.

A regressor of the paper has no activation between its layers: what it adds to Theta is a linear
function of what it reads. For given features the best one in the sense of least squares is known
without a single step: ridge regression of the missing correction. Level by level, each on the
points at which the one before has put the mesh, this is supervised descent (Xiong and De la
Torre, CVPR 2013). Thousands of steps of gradient descent had not got there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import Tensor

from staf_cli.body.skinning import BodyPoints
from staf_cli.core.geometry import matrix_to_rot6d
from staf_cli.model.regressor import Regressor, Theta
from staf_cli.model.staf import STAF
from staf_cli.training.losses import Target
from staf_cli.training.temporal import EncodedSet, frames_of

RIDGE = 0.1  # of the number of samples, for features scaled to a spread of 1
LEAST_SPREAD = 0.01  # features that vary less are not scaled up further
AT_ONCE = 64  # frames
EVERY = 4  # frames of a sequence: neighbours say much the same
SCALES = (0.2, 3.0)  # of pred_cam


@torch.no_grad()
def learn_to_read(network: STAF, points: BodyPoints, sets: Sequence[EncodedSet]) -> None:
    """Put the least-squares solution for sets of encoded frames into the three regressors.

    Frames count as much as their pose is certain. The network is used as it will infer
    (BatchNorm's running statistics), so it should be trained on from here in the same way.
    """
    network.eval()
    network.pyramid.training = True  # in bfloat16, as while it is trained; its norms stay
    device = network.mean.cam.device
    for level in (1, 2, 3):
        regressor = cast("Regressor", network.regressor[level - 1])
        sums = Sums.of_size(regressor.fc1.in_features, network.mean(1).flat.shape[1])
        for features, target in chain.from_iterable(
            frames_of(encoded, points, AT_ONCE, EVERY, device) for encoded in sets
        ):
            thetas, phi = network.base_model(features, level - 1)
            theta = thetas[-1] if thetas else network.mean(len(features))
            read = network.point_features(level, network.pyramid(level, phi), theta)
            missing = _theta_of(target, points).flat - theta.flat
            sums = sums.with_rows(torch.cat([read, theta.flat], 1), missing, target.smpl_weight)
        put(regressor, *sums.solve())
    network.eval()


@dataclass(frozen=True, eq=False)
class Sums:
    """All that ridge regression has to know of its rows, in float64."""

    squares: Tensor  # (F + 1, F + 1) of features and a one
    products: Tensor  # (F + 1, O) of features and a one with what they should give

    @staticmethod
    def of_size(features: int, outputs: int) -> "Sums":
        """Of no rows yet."""
        size = features + 1
        return Sums(
            torch.zeros(size, size, dtype=torch.float64),
            torch.zeros(size, outputs, dtype=torch.float64),
        )

    def with_rows(self, x: Tensor, y: Tensor, weight: Tensor) -> "Sums":
        """Rows x (N, F) that should give y (N, O), each counting weight (N,) times."""
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1).double().cpu()
        weighted = x * weight[:, None].double().cpu()
        return Sums(self.squares + weighted.T @ x, self.products + weighted.T @ y.double().cpu())

    def solve(self) -> tuple[Tensor, Tensor]:
        """y ~ W x + b: W (O, F) and b (O,) float32, small where features say little."""
        count = self.squares[-1, -1]
        mean = self.squares[-1, :-1] / count
        spread = (self.squares.diagonal()[:-1] / count - mean.square()).clamp(min=0).sqrt()
        penalty = torch.zeros_like(self.squares.diagonal())
        penalty[:-1] = RIDGE * count * spread.clamp(min=LEAST_SPREAD).square()
        found = torch.linalg.solve(self.squares + penalty.diag(), self.products)
        return found[:-1].T.float(), found[-1].float()


def put(regressor: Regressor, weight: Tensor, bias: Tensor) -> None:
    """Make the regressor add weight @ (feature, Theta) + bias, exactly.

    The layers carry the solution's singular directions, scaled alike on both sides. There are no
    more of them than outputs, so most units stay at zero: they could not make a linear function
    richer, and steps of Adam on random ones would drown it.
    """
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    rank = len(s)
    turned, read = (u * s.sqrt()).float(), (s.sqrt()[:, None] * v).float()
    fc1, fc2 = regressor.fc1, regressor.fc2
    for layer in (fc1, fc2):
        layer.weight.zero_()
        layer.bias.zero_()
    fc1.weight[:rank] = read
    fc2.weight[:rank, :rank] = torch.eye(rank)
    heads = (regressor.decpose, regressor.decshape, regressor.deccam)
    sizes = [head.out_features for head in heads]
    for head, own, shift in zip(
        heads, torch.split(turned, sizes), torch.split(bias, sizes), strict=True
    ):
        head.weight.zero_()
        head.weight[:, :rank] = own
        head.bias.copy_(shift)


def camera_of(points: Tensor, kp2d: Tensor) -> Tensor:
    """The pred_cam (N, 3) that puts points (N, P, 3), m, where kp2d (N, P, 3) says, about.

    Least squares without perspective, which the network's camera has next to none of.
    """
    sure = kp2d[..., 2:]
    total = sure.sum(1, keepdim=True).clamp(min=1e-6)
    middle3d = (points[..., :2] * sure).sum(1, keepdim=True) / total
    middle2d = (kp2d[..., :2] * sure).sum(1, keepdim=True) / total
    off3d = points[..., :2] - middle3d
    along = (off3d * (kp2d[..., :2] - middle2d) * sure).sum((1, 2))
    scale = (along / (off3d.square() * sure).sum((1, 2)).clamp(min=1e-6)).clamp(*SCALES)
    return torch.cat([scale[:, None], middle2d[:, 0] / scale[:, None] - middle3d[:, 0]], 1)


def _theta_of(target: Target, points: BodyPoints) -> Theta:
    kp3d, _ = points(target.rotmats, target.betas)
    pose6d = matrix_to_rot6d(target.rotmats).flatten(1)
    return Theta(pose6d, target.betas, camera_of(kp3d, target.kp2d))
