"""How usual a pose is: a mixture of Gaussians over recorded and invented poses.

Fitting photos leans on it where the keypoints say nothing. One broad part, learned from the
invented poses, keeps sports possible: far from everything recorded the energy grows as that
part's does, not as a narrow one's. Gaussians know no limits, so a knee bent backwards costs extra.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from staf_cli.training.people.motion import Motions, mirror_pose
from staf_cli.training.people.poses import joint_ranges, random_poses

PARTS = 6  # Gaussians of the recorded poses
BROAD_SHARE = 0.2  # weight of the one Gaussian of the invented poses
FLOOR = 0.15  # rad: no joint is held tighter than this, in any direction
LIMIT_SIGMA = 0.1  # rad beyond the joints' ranges
EVERY = 3  # frames: neighbours say the same
ROUNDS = 25  # of expectation and maximisation
SIZE = 69  # numbers of a pose: 23 joints x 3


@dataclass(frozen=True, eq=False)
class PosePrior:
    """K Gaussians over the 69 numbers of a pose, symmetric in left and right."""

    mean: Tensor  # (K, 69) rad
    whiten: Tensor  # (K, 69, 69): whiten @ (pose - mean) has unit variance
    log_weight: Tensor  # (K,) with the Gaussians' heights
    low: Tensor  # (69,) rad, the ends of the ranges that the poses learned from stay in
    high: Tensor  # (69,)

    def energy(self, rotvec: Tensor) -> Tensor:
        """Minus the log-likelihood (N,) of rotation vectors (N, 23, 3), rad; differentiable.

        0 at the most likely mean; recorded poses have 3 to 30, invented ones 15 to 50. A pose one
        deviation off in one direction costs 0.5, so set it against halves of squared errors.
        """
        pose = rotvec.flatten(1)  # (N, 69)
        beyond = (self.low - pose).relu() + (pose - self.high).relu()
        spread = torch.einsum("kij,nkj->nki", self.whiten, pose[:, None] - self.mean)  # (N, K, 69)
        likely = torch.logsumexp(self.log_weight - 0.5 * spread.square().sum(-1), -1)
        return 0.5 * (beyond / LIMIT_SIGMA).square().sum(-1) - likely

    def to(self, device: torch.device) -> "PosePrior":
        """The same on another device."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return PosePrior(**moved)


def fit_pose_prior(motions: Motions, seed: int = 0) -> PosePrior:
    """Learn the prior from motions (pass the training clips only); takes a few seconds."""
    generator = torch.Generator().manual_seed(seed)
    recorded = torch.from_numpy(motions.rotvec[::EVERY]).double()
    both = torch.cat([recorded, mirror_pose(recorded)])[:, 1:].flatten(1)  # (N, 69)
    invented = random_poses(motions, len(both), generator).double()

    weight, mean, covariance = _mixture(both, generator)
    flat = invented.flatten(1)
    weight = torch.cat([weight * (1 - BROAD_SHARE), weight.new_tensor([BROAD_SHARE])])
    mean = torch.cat([mean, flat.mean(0, keepdim=True)])
    covariance = torch.cat([covariance, _covariance(flat)[None]])

    # Each part beside its mirror image, so that the two sides are judged alike.
    flip = _mirror(torch.eye(SIZE, dtype=mean.dtype).reshape(SIZE, 23, 3)).flatten(1).T
    weight = torch.cat([weight, weight]) / 2
    mean = torch.cat([mean, mean @ flip.T])
    covariance = torch.cat([covariance, flip @ covariance @ flip.T])
    whiten, height = _whiten(covariance)
    log_weight = weight.log() + height
    poses = torch.cat([both.reshape(-1, 23, 3), invented])
    low, high = (end.flatten() for end in joint_ranges(torch.cat([poses, _mirror(poses)])))
    prior = PosePrior(*(x.float() for x in (mean, whiten, log_weight, low, high)))
    return replace(
        prior, log_weight=prior.log_weight + prior.energy(prior.mean.view(-1, 23, 3)).min()
    )


def _mixture(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, 69) and covariances (K, 69, 69) by expectation-maximisation."""
    chosen = torch.randperm(len(poses), generator=generator)[:PARTS]
    nearest = torch.cdist(poses, poses[chosen]).argmin(1)
    share = torch.nn.functional.one_hot(nearest, PARTS).to(poses)  # (N, K)
    for _ in range(ROUNDS):
        count = share.sum(0)
        weight, mean = count / count.sum(), share.T @ poses / count[:, None]
        covariance = torch.stack([_covariance(poses - mean[k], share[:, k]) for k in range(PARTS)])
        whiten, height = _whiten(covariance)
        likely = torch.stack(
            [
                weight[k].log()
                + height[k]
                - 0.5 * ((poses - mean[k]) @ whiten[k].T).square().sum(1)
                for k in range(PARTS)
            ],
            -1,
        )
        share = likely.softmax(-1)
    return weight, mean, covariance


def _covariance(poses: Tensor, share: Tensor | None = None) -> Tensor:
    """The covariance (69, 69) about the mean, or about 0 where rows are weighted, with FLOOR."""
    if share is None:
        poses = poses - poses.mean(0)
        share = torch.ones(len(poses), dtype=poses.dtype)
    spread = (poses * share[:, None]).T @ poses / share.sum()
    return spread + FLOOR**2 * torch.eye(SIZE, dtype=poses.dtype)


def _whiten(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Whitening matrices (K, 69, 69) and logs of the Gaussians' heights (K,)."""
    lower = torch.linalg.cholesky(covariance)
    unit = torch.eye(SIZE, dtype=covariance.dtype).expand_as(lower)
    whiten = torch.linalg.solve_triangular(lower, unit, upper=False)
    log_root = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return whiten, -log_root - SIZE / 2 * math.log(2 * math.pi)


def _mirror(poses: Tensor) -> Tensor:
    """Poses (N, 23, 3) with left and right exchanged."""
    return mirror_pose(torch.cat([torch.zeros_like(poses[:, :1]), poses], 1))[:, 1:]
