"""The loss of the paper's Eq. 11 for one regressor's output, and an auxiliary keypoint loss.

The weights are those of the authors' released code: 300 for 2D and 3D points, 60 for the pose,
0.06 for the shape, on mean squared errors. Eq. 11 has norms, not squares. Here 2D, 3D and pose
errors count squared while they are small and linearly once they are large, so that a few very
wrong people (cut off, or seen from the wrong side) do not dominate a batch. `LOSSES["paper"]` has
the norms of Eq. 11.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.regressor import Theta
from staf_cli.training.augmentation import CropLabels
from staf_cli.training.samples import POINTS

KP2D_WEIGHT = 300.0
KP3D_WEIGHT = 300.0
POSE_WEIGHT = 60.0
SHAPE_WEIGHT = 0.06
MAPS_WEIGHT = 2.0
SOFT_2D = 0.1  # half crops; larger errors count linearly
SOFT_3D = 0.1  # m
SOFT_POSE = 0.2  # of a rotation matrix' entries, about 20 degrees
MAP_SIGMA = 1.5 / 56  # of the map's side
NO_ERROR = 1e-12  # of a squared error
LSP_HIPS = slice(2, 4)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What a network should find in N frames."""

    kp2d: Tensor  # (N, 31, 3) x, y in the crop's [-1, 1]; confidence
    kp3d: Tensor  # (N, 31, 3) m, camera frame, from the middle of the hips
    rotmats: Tensor  # (N, 24, 3, 3)
    betas: Tensor  # (N, 10)
    smpl_weight: Tensor  # (N,) confidence of rotmats and betas
    kp3d_weight: Tensor  # (N, 31) confidence of kp3d

    def rows(self, rows: slice | Tensor) -> "GroundTruth":
        """Return some of the frames."""
        return GroundTruth(
            self.kp2d[rows],
            self.kp3d[rows],
            self.rotmats[rows],
            self.betas[rows],
            self.smpl_weight[rows],
            self.kp3d_weight[rows],
        )


def labelled_points(body: Body) -> BodyPoints:
    """Build the function from SMPL parameters to the 31 points that sample sets label.

    Args:
        body: With regressors of both kinds of points.

    Returns:
        14 LSP joints, then 17 COCO keypoints.

    Raises:
        BodyError: The body lacks a regressor.
    """
    lsp14, coco17 = body.arrays.lsp14_regressor, body.arrays.coco17_regressor
    if lsp14 is None or coco17 is None:
        raise BodyError(f"body {body.name} has no keypoints; train on the open body")
    both: BodyPoints = body.points(
        torch.cat([torch.from_numpy(lsp14), torch.from_numpy(coco17)]).numpy()
    )
    return both


def from_hips(kp3d: Tensor) -> Tensor:
    """Make points (N, 31, 3), m, relative to the middle of the two LSP hips."""
    return kp3d - kp3d[:, LSP_HIPS].mean(1, keepdim=True)


def ground_truth(labels: CropLabels, points: BodyPoints) -> GroundTruth:
    """Compute the ground truth of all frames of a batch.

    Args:
        labels: B samples of T frames.
        points: The 31 labelled points of the body.

    Returns:
        N = B * T frames, a sample's together, with the 3D points of their poses.
    """
    frames = labels.kp2d.shape[1]
    rotmats, betas = labels.rotmats.flatten(0, 1), labels.betas.flatten(0, 1)
    with torch.no_grad():
        kp3d, _ = points(rotmats, betas)
    known = labels.smpl_weight.repeat_interleave(frames)  # (N,)
    return GroundTruth(
        kp2d=labels.kp2d.flatten(0, 1),
        kp3d=from_hips(kp3d),
        rotmats=rotmats,
        betas=betas,
        smpl_weight=known,
        kp3d_weight=known[:, None].expand(kp3d.shape[:2]),
    )


def concatenate(truths: Sequence[GroundTruth]) -> GroundTruth:
    """Join the ground truth of several batches, in order."""
    return GroundTruth(
        *(torch.cat([getattr(t, field.name) for t in truths]) for field in fields(GroundTruth))
    )


def _soft(square: Tensor, width: float) -> Tensor:
    """A squared error up to about `width`, linear in the error beyond."""
    return 2 * width * ((square + width**2).sqrt() - width)


def _root(square: Tensor) -> Tensor:
    """The error itself; its gradient stays finite where there is none."""
    norm: Tensor = (square + NO_ERROR).sqrt() - math.sqrt(NO_ERROR)
    return norm


def _norm(square: Tensor, _: float) -> Tensor:
    return _root(square)


@dataclass(frozen=True)
class Loss:
    """How errors count in Eq. 11, and which of the three regressors' outputs they are of."""

    count: Callable[[Tensor, float], Tensor]  # of a squared error and the width that is small
    count_shape: Callable[[Tensor], Tensor]  # of the shape's squared error
    regressors: slice


LOSSES = {
    "soft": Loss(_soft, lambda square: square, slice(None)),
    "paper": Loss(_norm, _root, slice(-1, None)),  # of the authors' code: the last regressor
}


def theta_loss(
    theta: Theta, truth: GroundTruth, points: BodyPoints, loss: Loss = LOSSES["soft"]
) -> dict[str, Tensor]:
    """Compute the terms of Eq. 11, each times its weight.

    A term is the mean over everything that is labelled, and zero where nothing is.

    Args:
        theta: N rows.
        truth: N frames.
        points: The 31 labelled points of the body.
        loss: How errors count.

    Returns:
        "kp2d" and "kp3d" (L_2D, L_3D), "pose" and "shape" (the two parts of L_smpl): scalars.
    """
    rotmats = theta.rotmats
    kp3d, _ = points(rotmats, theta.betas)
    kp2d = project_to_crop(kp3d, theta.pred_cam)  # Eq. 10
    sure, known = truth.kp2d[..., 2], truth.smpl_weight
    off2d = loss.count((kp2d - truth.kp2d[..., :2]).square().mean(-1), SOFT_2D)
    off3d = loss.count((from_hips(kp3d) - truth.kp3d).square().mean(-1), SOFT_3D)  # (N, 31)
    off_pose = loss.count((rotmats - truth.rotmats).square().mean((2, 3)), SOFT_POSE).mean(1)
    off_shape = loss.count_shape((theta.betas - truth.betas).square().mean(1))
    return {
        "kp2d": KP2D_WEIGHT * _mean(off2d, sure),
        "kp3d": KP3D_WEIGHT * _mean(off3d, truth.kp3d_weight),
        "pose": POSE_WEIGHT * _mean(off_pose, known),
        "shape": SHAPE_WEIGHT * _mean(off_shape, known),
    }


class KeypointMaps(nn.Module):
    """Keypoint heatmaps on a pyramid level: an auxiliary loss, dropped after training.

    A 1 x 1 convolution predicts a distribution over pixels for each of the 31 points. The loss is
    its cross-entropy with a small Gaussian around the label. The pyramid learns to localise from
    it long before the mesh is close enough to be sampled at the right places.
    """

    def __init__(self, channels: int) -> None:
        """Build the convolution.

        Args:
            channels: C_k of the pyramid level.
        """
        super().__init__()
        self.read = nn.Conv2d(channels, POINTS, 1)

    def forward(self, phi: Tensor, kp2d: Tensor) -> Tensor:
        """Compute the loss, times its weight.

        Args:
            phi: (N, C, S, S) phi_k.
            kp2d: (N, 31, 3) x, y in [-1, 1]; confidence.

        Returns:
            A scalar: the mean over the points inside of the crop by their confidence.
        """
        size = phi.shape[-1]
        scores = log_softmax(self.read(phi.float()).flatten(2), -1).reshape(-1, POINTS, size, size)
        # As phi is sampled: -1 and +1 are the centres of the outermost pixels.
        where = (kp2d[..., :2] + 1) / 2 * (size - 1)
        line = torch.arange(size, device=phi.device)
        off = (line - where[..., None]) / (MAP_SIGMA * size)  # (N, 31, 2, S)
        near = torch.exp(-0.5 * off.square())
        goal = near[:, :, 1, :, None] * near[:, :, 0, None, :]  # (N, 31, S, S)
        total = goal.sum((-1, -2))
        inside = (where >= 0).all(-1) & (where <= size - 1).all(-1)
        missed = -(goal * scores).sum((-1, -2)) / total.clamp(min=1e-6)
        return MAPS_WEIGHT * _mean(missed, kp2d[..., 2] * inside)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)
