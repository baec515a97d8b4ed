"""Between the halves of stage 1: the regressors, solved for on features that stay as they are.

A regressor of the paper has no activation between its layers: what it adds to Theta is a linear
function of what it reads. Level by level, each on the points at which the one before has put the
mesh, the best such function in the sense of least squares is known without a single step
(supervised descent: Xiong and De la Torre, CVPR 2013). The last level goes on from there by Adam
on Eq. 11, in coordinates in which the features have a spread of one and know nothing of each
other. In their own coordinates they are nearly alike, thousands of numbers that cancel, and steps
undo more than they gain.

The levels below stay at least squares. Adam learns some of the crops by heart: the mesh would lie
better on these than it ever will on others, and the next level would expect it to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import Tensor

from staf_cli.body import BodyPoints
from staf_cli.geometry import matrix_to_rot6d
from staf_cli.model.regressor import POSE, Regressor, Theta
from staf_cli.model.staf import STAF
from staf_cli.training.losses import Target, join, theta_loss
from staf_cli.training.temporal import EncodedSet, frames_of

LAST = 3
RIDGE = 0.003  # what every feature's variance is raised by, as a part of it, for least squares
CALM = 0.1  # the same for steps: they are small along what hardly any feature says
LEAST_SPREAD = 0.01  # features that vary less are not scaled up further
NO_SPREAD = 1e-5  # those that vary less are the same in all rows, as Theta_0 is: left out
AT_ONCE = 64  # frames, while features are read
EVERY = 4  # frames of a sequence: neighbours say much the same
PIECE = 4096  # rows at a time in sums of float64
EPOCHS = 16
BATCH = 1024
RATE = 2e-3  # Adam's at first; it falls to zero
WARM_UP = 20  # steps
SHUFFLE = 1  # seed of the order of rows
SCALES = (0.2, 3.0)  # of pred_cam


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regressor reads in N frames, and what is true there."""

    read: Tensor  # (N, F) point features, then Theta
    theta: Tensor  # (N, 157) that is to be corrected
    target: Target


@dataclass(frozen=True, eq=False)
class Linear:
    """y = x @ weight + bias."""

    weight: Tensor  # (F, O)
    bias: Tensor  # (O,)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias

    def after(self, first: "Linear") -> "Linear":
        """Both as one."""
        return Linear(first.weight @ self.weight, self(first.bias))


def learn_to_read(network: STAF, points: BodyPoints, sets: Sequence[EncodedSet]) -> None:
    """Put the best regressors for sets of encoded frames into the network.

    It is used as it will infer (BatchNorm's running statistics), so it should be trained on from
    here in the same way. What a level reads of all frames, some 2,300 numbers of each, is kept in
    memory.
    """
    network.eval()
    for level in range(1, LAST + 1):
        rows = read_off(network, points, level, sets)
        found = by_steps(rows, points) if level == LAST else by_least_squares(rows, points)
        put(cast("Regressor", network.regressor[level - 1]), found)


@torch.no_grad()
def read_off(network: STAF, points: BodyPoints, level: int, sets: Sequence[EncodedSet]) -> Rows:
    """What the regressor of a level reads once those below it have done their work."""
    device = network.mean.cam.device
    read, before, targets = [], [], []
    network.pyramid.training = True  # in bfloat16, as while it is trained; its norms stay
    for features, target in chain.from_iterable(
        frames_of(encoded, points, AT_ONCE, EVERY, device) for encoded in sets
    ):
        thetas, phi = network.climb(features, level - 1)
        theta = thetas[-1] if thetas else network.mean(len(features))
        feature = network.point_features(level, network.pyramid(level, phi), theta)
        read.append(torch.cat([feature, theta.flat], 1))
        before.append(theta.flat)
        targets.append(target)
    network.pyramid.training = False
    return Rows(torch.cat(read), torch.cat(before), join(targets))


@torch.no_grad()
def by_least_squares(rows: Rows, points: BodyPoints) -> Linear:
    """The linear function from what is read to the correction of Theta; uses up `rows.read`."""
    whiten = _whitened(rows, RIDGE)
    return _start(rows, points).after(whiten)


def by_steps(rows: Rows, points: BodyPoints) -> Linear:
    """The same for Eq. 11, by way of least squares; uses up `rows.read`."""
    whiten = _whitened(rows, CALM)
    return descend(rows, points, _start(rows, points)).after(whiten)


def _whitened(rows: Rows, ridge: float) -> Linear:
    whiten = whitening(rows.read, rows.target.smpl_weight, ridge)
    for piece in torch.split(rows.read, PIECE):
        piece.copy_(whiten(piece))
    return whiten


@torch.no_grad()
def _start(rows: Rows, points: BodyPoints) -> Linear:
    missing = _theta_of(rows.target, points).flat - rows.theta
    return least_squares(rows.read, missing, rows.target.smpl_weight)


def whitening(x: Tensor, weight: Tensor, ridge: float) -> Linear:
    """The map after which least squares and ridge regression are averages of products.

    Of rows x (N, F), each counting weight (N,) times. With their covariance C and variances D,
    features have mean 0 and covariance C (C + ridge * D)^-1 afterwards, seen in a triangular
    basis: about 1 along what many features say together, little along what hardly any says.
    """
    count, size = weight.double().cpu().sum(), x.shape[1]
    mean = torch.zeros(size, dtype=torch.float64)
    squares = torch.zeros(size, size, dtype=torch.float64)
    for piece, own in zip(torch.split(x, PIECE), torch.split(weight, PIECE), strict=True):
        rows = piece.double().cpu()
        weighted = rows * own[:, None].double().cpu()
        mean += weighted.sum(0) / count
        squares += weighted.T @ rows / count
    covariance = squares - mean[:, None] * mean
    variance = covariance.diagonal().clamp(min=LEAST_SPREAD**2)
    root = torch.linalg.cholesky(covariance + ridge * variance.diag())
    turn = torch.linalg.solve_triangular(root, torch.eye(size, dtype=torch.float64), upper=False).T
    turn[covariance.diagonal() < NO_SPREAD**2] = 0
    return Linear(turn.float().to(x.device), (-mean @ turn).float().to(x.device))


def least_squares(white: Tensor, y: Tensor, weight: Tensor) -> Linear:
    """Ridge regression of y (N, O) on whitened rows (N, F)."""
    weighted = y * (weight / weight.sum())[:, None]
    return Linear(white.T @ weighted, weighted.sum(0))


def descend(rows: Rows, points: BodyPoints, start: Linear) -> Linear:
    """Adam on Eq. 11 for what is read in whitened rows; from `start`, which is left alone.

    Frames without a certain pose teach by their 2D points.
    """
    parts = [start.weight.clone().requires_grad_(), start.bias.clone().requires_grad_()]
    found = Linear(*parts)
    optimizer = torch.optim.Adam(parts, RATE, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(SHUFFLE)
    batches = [
        batch.to(rows.read.device)
        for _ in range(EPOCHS)
        for batch in torch.split(torch.randperm(len(rows.read), generator=generator), BATCH)
    ]
    for step, batch in enumerate(batches):
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        theta = _theta(rows.theta[batch] + found(rows.read[batch]))
        loss = torch.stack(list(theta_loss(theta, rows.target.rows(batch), points).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Linear(*(part.detach() for part in parts))


@torch.no_grad()
def put(regressor: Regressor, correction: Linear) -> None:
    """Make the regressor add correction(feature, Theta), exactly.

    The layers carry its singular directions, scaled alike on both sides. There are no more of
    them than outputs, so most units stay at zero: they could not make a linear function richer,
    and steps of Adam on random ones would drown it.
    """
    v, s, u = torch.linalg.svd(correction.weight.double(), full_matrices=False)
    rank = len(s)
    read, turned = (v * s.sqrt()).T.float(), (s.sqrt()[:, None] * u).T.float()
    fc1, fc2 = regressor.fc1, regressor.fc2
    for layer in (fc1, fc2):
        layer.weight.zero_()
        layer.bias.zero_()
    fc1.weight[:rank] = read
    fc2.weight[:rank, :rank] = torch.eye(rank)
    heads = (regressor.decpose, regressor.decshape, regressor.deccam)
    sizes = [head.out_features for head in heads]
    for head, own, shift in zip(
        heads, torch.split(turned, sizes), torch.split(correction.bias, sizes), strict=True
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


def _theta(flat: Tensor) -> Theta:
    return Theta(*torch.split(flat, [POSE, 10, 3], -1))
