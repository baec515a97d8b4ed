"""Between the halves of stage 1: the three regressors, solved for by ridge regression.

A regressor of the paper has no activation between its layers, so what it adds to Theta is a
linear function of its inputs. For given features the best such function in the sense of least
squares is known in closed form. The levels are solved for in order, each with the features that
the level before leads to, as in supervised descent (Xiong and De la Torre, CVPR 2013). It takes
minutes; thousands of steps of gradient descent from there get farther (stored_maps.py).
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
from staf_cli.training.encoded_sets import EncodedSet, encoded_frames
from staf_cli.training.losses import GroundTruth

RIDGE = 0.1  # of the number of samples, for features scaled to a spread of 1
LEAST_SPREAD = 0.01  # features that vary less are not scaled up further
AT_ONCE = 64  # frames
EVERY = 4  # frames of a sequence: neighbours are nearly the same
SCALES = (0.2, 3.0)  # range of s of pred_cam


@torch.no_grad()
def solve_regressors(network: STAF, points: BodyPoints, sets: Sequence[EncodedSet]) -> None:
    """Set the three regressors to the least-squares solution on encoded frames.

    A frame counts as its pose is certain. BatchNorm uses its running statistics, so it should do
    so in later training as well.

    Args:
        network: The base model; its regressors are changed in place. It is left in evaluation mode.
        points: The 31 labelled points of the body, on the network's device.
        sets: Frames encoded by this network.
    """
    network.eval()
    network.pyramid.training = True  # the precision of training (bfloat16); its norms stay in eval
    device = network.mean.cam.device
    for level in (1, 2, 3):
        regressor = cast("Regressor", network.regressor[level - 1])
        sums = NormalEquations.empty(regressor.fc1.in_features, network.mean(1).flat.shape[1])
        for phi_0, truth in chain.from_iterable(
            encoded_frames(encoded, points, AT_ONCE, EVERY, device) for encoded in sets
        ):
            thetas, phi = network.base_model(phi_0, level - 1)
            theta = thetas[-1] if thetas else network.mean(len(phi_0))
            feature = network.point_features(level, network.pyramid(level, phi), theta)
            missing = _true_theta(truth, points).flat - theta.flat
            sums = sums.add(torch.cat([feature, theta.flat], 1), missing, truth.smpl_weight)
        set_regressor(regressor, *sums.solve())
    network.eval()


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Weighted sums over rows (x, y), float64: all that the ridge regression of y on x needs."""

    squares: Tensor  # (F + 1, F + 1) of [x, 1] with itself
    products: Tensor  # (F + 1, O) of [x, 1] with y

    @staticmethod
    def empty(features: int, outputs: int) -> "NormalEquations":
        """Make the sums over no rows.

        Args:
            features: F.
            outputs: O.

        Returns:
            Zeros.
        """
        size = features + 1
        return NormalEquations(
            torch.zeros(size, size, dtype=torch.float64),
            torch.zeros(size, outputs, dtype=torch.float64),
        )

    def add(self, x: Tensor, y: Tensor, weight: Tensor) -> "NormalEquations":
        """Add rows.

        Args:
            x: (N, F)
            y: (N, O)
            weight: (N,) how often each row counts.

        Returns:
            The sums over these rows as well.
        """
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1).double().cpu()
        weighted = x * weight[:, None].double().cpu()
        return NormalEquations(
            self.squares + weighted.T @ x, self.products + weighted.T @ y.double().cpu()
        )

    def solve(self) -> tuple[Tensor, Tensor]:
        """Solve y ~ W x + b with a penalty on W for features scaled to a spread of 1.

        Returns:
            W (O, F) and b (O,), float32.
        """
        count = self.squares[-1, -1]
        mean = self.squares[-1, :-1] / count
        spread = (self.squares.diagonal()[:-1] / count - mean.square()).clamp(min=0).sqrt()
        penalty = torch.zeros_like(self.squares.diagonal())
        penalty[:-1] = RIDGE * count * spread.clamp(min=LEAST_SPREAD).square()
        found = torch.linalg.solve(self.squares + penalty.diag(), self.products)
        return found[:-1].T.float(), found[-1].float()


def set_regressor(regressor: Regressor, weight: Tensor, bias: Tensor) -> None:
    """Set a regressor's layers so that it adds weight @ (feature, Theta) + bias exactly.

    The layers hold the singular directions of `weight`, scaled alike on both sides. There are no
    more of them than outputs, so most hidden units stay zero. Random ones would not let the
    regressor compute more, it is linear, but their updates by Adam would swamp the solution.

    Args:
        regressor: Its layers are changed in place.
        weight: (157, S + 157) for S numbers in a feature and 157 in Theta.
        bias: (157,)
    """
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    rank = len(s)
    outwards, inwards = (u * s.sqrt()).float(), (s.sqrt()[:, None] * v).float()
    fc1, fc2 = regressor.fc1, regressor.fc2
    for layer in (fc1, fc2):
        layer.weight.zero_()
        layer.bias.zero_()
    fc1.weight[:rank] = inwards
    fc2.weight[:rank, :rank] = torch.eye(rank)
    heads = (regressor.decpose, regressor.decshape, regressor.deccam)
    sizes = [head.out_features for head in heads]
    for head, own, shift in zip(
        heads, torch.split(outwards, sizes), torch.split(bias, sizes), strict=True
    ):
        head.weight.zero_()
        head.weight[:, :rank] = own
        head.bias.copy_(shift)


def fit_camera(points: Tensor, kp2d: Tensor) -> Tensor:
    """Fit the camera that projects points to their 2D positions, by least squares.

    Perspective is neglected: the network's camera has nearly none.

    Args:
        points: (N, P, 3) m, camera frame.
        kp2d: (N, P, 3) x, y in the crop's [-1, 1]; confidence.

    Returns:
        (N, 3) pred_cam: s, tx, ty.
    """
    sure = kp2d[..., 2:]
    total = sure.sum(1, keepdim=True).clamp(min=1e-6)
    middle3d = (points[..., :2] * sure).sum(1, keepdim=True) / total
    middle2d = (kp2d[..., :2] * sure).sum(1, keepdim=True) / total
    off3d = points[..., :2] - middle3d
    along = (off3d * (kp2d[..., :2] - middle2d) * sure).sum((1, 2))
    scale = (along / (off3d.square() * sure).sum((1, 2)).clamp(min=1e-6)).clamp(*SCALES)
    return torch.cat([scale[:, None], middle2d[:, 0] / scale[:, None] - middle3d[:, 0]], 1)


def _true_theta(truth: GroundTruth, points: BodyPoints) -> Theta:
    kp3d, _ = points(truth.rotmats, truth.betas)
    pose6d = matrix_to_rot6d(truth.rotmats).flatten(1)
    return Theta(pose6d, truth.betas, fit_camera(kp3d, truth.kp2d))
