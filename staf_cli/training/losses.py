"""The loss of Eq. 11, for every regressor's output, and a map of keypoints that the crops allow.

The weights start from the authors' release: 300 for 2D and 3D points, 60 for the pose, 0.06 for
the shape, on mean squared errors. Eq. 11 itself has norms, not their squares; in between, errors
here count squared while they are small and in proportion once they are large, so that people who
are cut off or taken for somebody facing away do not outvote all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.regressor import Theta
from staf_cli.training.augmentation import Truth
from staf_cli.training.samples import POINTS

KP2D = 300.0
KP3D = 300.0
POSE = 60.0
SHAPE = 0.06
MAPS = 2.0
SOFT_2D = 0.1  # of half a crop: errors of points are large from here on
SOFT_3D = 0.1  # m
SOFT_POSE = 0.2  # of a rotation matrix' entries, about 20 degrees
MAP_SIGMA = 1.5 / 56  # of the map's side: the width of a keypoint's target
LSP_HIPS = slice(2, 4)


@dataclass(frozen=True, eq=False)
class Target:
    """The truth of N frames."""

    kp2d: Tensor  # (N, 31, 3) x, y in the crop's [-1, 1], and how sure
    kp3d: Tensor  # (N, 31, 3) m from the hips' middle
    rotmats: Tensor  # (N, 24, 3, 3)
    betas: Tensor  # (N, 10)
    smpl_weight: Tensor  # (N,)

    def rows(self, rows: slice) -> "Target":
        """Some of the frames."""
        return Target(
            self.kp2d[rows],
            self.kp3d[rows],
            self.rotmats[rows],
            self.betas[rows],
            self.smpl_weight[rows],
        )


def labelled_points(body: Body) -> BodyPoints:
    """The 31 points of the labels on a body: 14 LSP joints, 17 COCO keypoints.

    Raises BodyError for a body that does not say where they are.
    """
    lsp14, coco17 = body.arrays.lsp14_regressor, body.arrays.coco17_regressor
    if lsp14 is None or coco17 is None:
        raise BodyError(f"body {body.name} has no keypoints; train on the open body")
    both: BodyPoints = body.points(
        torch.cat([torch.from_numpy(lsp14), torch.from_numpy(coco17)]).numpy()
    )
    return both


def from_hips(kp3d: Tensor) -> Tensor:
    """Points (N, 31, 3), m, relative to the middle of the two LSP hips."""
    return kp3d - kp3d[:, LSP_HIPS].mean(1, keepdim=True)


def target_of(truth: Truth, points: BodyPoints) -> Target:
    """All frames of a batch's truth in a row, N = B * T, with the 3D points they imply."""
    frames = truth.kp2d.shape[1]
    rotmats, betas = truth.rotmats.flatten(0, 1), truth.betas.flatten(0, 1)
    with torch.no_grad():
        kp3d, _ = points(rotmats, betas)
    return Target(
        kp2d=truth.kp2d.flatten(0, 1),
        kp3d=from_hips(kp3d),
        rotmats=rotmats,
        betas=betas,
        smpl_weight=truth.smpl_weight.repeat_interleave(frames),
    )


def join(targets: Sequence[Target]) -> Target:
    """Several batches' targets as one."""
    return Target(
        *(torch.cat([getattr(t, field.name) for t in targets]) for field in fields(Target))
    )


def theta_loss(theta: Theta, target: Target, points: BodyPoints) -> dict[str, Tensor]:
    """The terms of Eq. 11, each already weighted: 2D, 3D, pose and shape.

    A term is the mean over what is labelled; it is zero where nothing is.
    """
    rotmats = theta.rotmats
    kp3d, _ = points(rotmats, theta.betas)
    kp2d = project_to_crop(kp3d, theta.pred_cam)
    sure, known = target.kp2d[..., 2], target.smpl_weight
    off2d = _soft((kp2d - target.kp2d[..., :2]).square().mean(-1), SOFT_2D)
    off3d = _soft((from_hips(kp3d) - target.kp3d).square().mean(-1), SOFT_3D).mean(1)
    off_pose = _soft((rotmats - target.rotmats).square().mean((2, 3)), SOFT_POSE).mean(1)
    off_shape = (theta.betas - target.betas).square().mean(1)
    return {
        "kp2d": KP2D * _mean(off2d, sure),
        "kp3d": KP3D * _mean(off3d, known),
        "pose": POSE * _mean(off_pose, known),
        "shape": SHAPE * _mean(off_shape, known),
    }


class KeypointMaps(nn.Module):
    """A training aid, no part of the network: where each of the 31 points is on a pyramid level.

    Each point's map is a distribution over pixels, compared by cross-entropy with a small
    Gaussian around the label. It teaches the pyramid to localise long before the mesh lies
    close enough to sample in the right places.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, POINTS, 1)

    def forward(self, phi: Tensor, kp2d: Tensor) -> Tensor:
        """phi_k (N, C, S, S) and kp2d (N, 31, 3) in [-1, 1] -> the weighted loss."""
        size = phi.shape[-1]
        scores = log_softmax(self.read(phi.float()).flatten(2), -1).reshape(-1, POINTS, size, size)
        # phi's sampling convention: -1 and +1 are the centres of the outermost pixels.
        where = (kp2d[..., :2] + 1) / 2 * (size - 1)
        line = torch.arange(size, device=phi.device)
        off = (line - where[..., None]) / (MAP_SIGMA * size)  # (N, 31, 2, S)
        near = torch.exp(-0.5 * off.square())
        goal = near[:, :, 1, :, None] * near[:, :, 0, None, :]
        total = goal.sum((-1, -2))
        inside = (where >= 0).all(-1) & (where <= size - 1).all(-1)
        missed = -(goal * scores).sum((-1, -2)) / total.clamp(min=1e-6)
        return MAPS * _mean(missed, kp2d[..., 2] * inside)


def _soft(square: Tensor, width: float) -> Tensor:
    """A square that grows in proportion to its root from about `width` on."""
    return 2 * width * ((square + width**2).sqrt() - width)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)
