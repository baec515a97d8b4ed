"""How likely a pose is: a mixture of Gaussians over recorded and random poses.

Fits to photos use it where keypoints leave the pose open. One broad Gaussian, learned from the
random poses, keeps sports possible: far from all recorded poses the energy grows as slowly as
that Gaussian's. Gaussians know no joint limits, so poses beyond the joints' ranges cost extra.
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from staf_cli.training.people.motion import Motions, mirror_pose
from staf_cli.training.people.poses import joint_ranges, random_poses

GAUSSIANS = 6  # of the recorded poses
BROAD_SHARE = 0.2  # weight of the one Gaussian of the random poses
LEAST_SIGMA = 0.15  # rad, added to every direction's variance, so that no joint is held tighter
LIMIT_SIGMA = 0.1  # rad beyond the joints' ranges
EVERY = 3  # frames; neighbouring frames are nearly the same
ROUNDS = 25  # of expectation and maximisation
SIZE = 69  # numbers of a pose: 23 joints x 3


@dataclass(frozen=True, eq=False)
class PosePrior:
    """K Gaussians over the 69 numbers of a pose, with left and right treated alike."""

    mean: Tensor  # (K, 69) rad
    whiten: Tensor  # (K, 69, 69): whiten @ (pose - mean) has unit variance
    log_weight: Tensor  # (K,) log of weight times height of the Gaussian, up to a constant
    low: Tensor  # (69,) rad, the joints' ranges in the poses learned from
    high: Tensor  # (69,)

    def energy(self, rotvec: Tensor) -> Tensor:
        """Compute minus the log-likelihood of poses; differentiable.

        0 at the most likely mean; recorded poses have 3 to 30, random ones 15 to 50. One standard
        deviation in one direction costs 0.5, so it belongs beside halves of squared errors.

        Args:
            rotvec: (N, 23, 3) rad, joints 1 to 23.

        Returns:
            (N,) energies.
        """
        pose = rotvec.flatten(1)  # (N, 69)
        beyond = (self.low - pose).relu() + (pose - self.high).relu()
        spread = torch.einsum("kij,nkj->nki", self.whiten, pose[:, None] - self.mean)  # (N, K, 69)
        likely = torch.logsumexp(self.log_weight - 0.5 * spread.square().sum(-1), -1)
        return 0.5 * (beyond / LIMIT_SIGMA).square().sum(-1) - likely

    def to(self, device: torch.device) -> "PosePrior":
        """Return the same prior on another device."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return PosePrior(**moved)


def fit_pose_prior(motions: Motions, seed: int = 0) -> PosePrior:
    """Learn the prior from motions; takes a few seconds.

    Args:
        motions: Training clips only.
        seed: Of the random poses and of the mixture's start.

    Returns:
        The prior, float32, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    recorded = torch.from_numpy(motions.rotvec[::EVERY]).double()
    both = torch.cat([recorded, mirror_pose(recorded)])[:, 1:].flatten(1)  # (N, 69)
    drawn = random_poses(motions, len(both), generator).double()  # (N, 23, 3)

    weight, mean, covariance = _mixture(both, generator)
    flat = drawn.flatten(1)
    weight = torch.cat([weight * (1 - BROAD_SHARE), weight.new_tensor([BROAD_SHARE])])
    mean = torch.cat([mean, flat.mean(0, keepdim=True)])
    covariance = torch.cat([covariance, _covariance(flat)[None]])

    # Each Gaussian beside its mirror image, so that both sides have the same likelihood.
    flip = _mirror(torch.eye(SIZE, dtype=mean.dtype).reshape(SIZE, 23, 3)).flatten(1).T
    weight = torch.cat([weight, weight]) / 2
    mean = torch.cat([mean, mean @ flip.T])
    covariance = torch.cat([covariance, flip @ covariance @ flip.T])
    whiten, height = _whiten(covariance)
    log_weight = weight.log() + height
    poses = torch.cat([both.reshape(-1, 23, 3), drawn])
    low, high = (end.flatten() for end in joint_ranges(torch.cat([poses, _mirror(poses)])))
    prior = PosePrior(*(x.float() for x in (mean, whiten, log_weight, low, high)))
    return replace(
        prior, log_weight=prior.log_weight + prior.energy(prior.mean.view(-1, 23, 3)).min()
    )


def _mixture(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Fit weights (K,), means (K, 69) and covariances (K, 69, 69) by expectation-maximisation."""
    chosen = torch.randperm(len(poses), generator=generator)[:GAUSSIANS]
    nearest = torch.cdist(poses, poses[chosen]).argmin(1)
    share = torch.nn.functional.one_hot(nearest, GAUSSIANS).to(poses)  # (N, K)
    for _ in range(ROUNDS):
        count = share.sum(0)
        weight, mean = count / count.sum(), share.T @ poses / count[:, None]
        each = range(GAUSSIANS)
        covariance = torch.stack([_covariance(poses - mean[k], share[:, k]) for k in each])
        whiten, height = _whiten(covariance)
        likely = torch.stack(
            [
                weight[k].log()
                + height[k]
                - 0.5 * ((poses - mean[k]) @ whiten[k].T).square().sum(1)
                for k in each
            ],
            -1,
        )
        share = likely.softmax(-1)
    return weight, mean, covariance


def _covariance(poses: Tensor, share: Tensor | None = None) -> Tensor:
    """Compute a covariance (69, 69): about the mean, or with weights (N,) about 0."""
    if share is None:
        poses = poses - poses.mean(0)
        share = torch.ones(len(poses), dtype=poses.dtype)
    spread = (poses * share[:, None]).T @ poses / share.sum()
    return spread + LEAST_SIGMA**2 * torch.eye(SIZE, dtype=poses.dtype)


def _whiten(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Compute whitening matrices (K, 69, 69) and logs of the Gaussians' heights (K,)."""
    lower = torch.linalg.cholesky(covariance)
    unit = torch.eye(SIZE, dtype=covariance.dtype).expand_as(lower)
    whiten = torch.linalg.solve_triangular(lower, unit, upper=False)
    log_root = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return whiten, -log_root - SIZE / 2 * math.log(2 * math.pi)


def _mirror(poses: Tensor) -> Tensor:
    """Exchange left and right of poses (N, 23, 3)."""
    return mirror_pose(torch.cat([torch.zeros_like(poses[:, :1]), poses], 1))[:, 1:]
