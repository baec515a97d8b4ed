"""Data augmentation: random crops of stored samples, pixels and labels alike.

A crop is the tracker's square, jittered, perhaps rotated and mirrored, the same for all frames of
a sample. Every random number is drawn on the CPU from one generator, so that a batch depends on
its seed alone and not on the device.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from staf_cli.core.devices import send
from staf_cli.core.geometry import CROP_SCALE, axis_angle_to_matrix
from staf_cli.training.samples import PIXELS, Labels

# Left and right change places: SMPL's joints, the 14 LSP joints, the 17 COCO keypoints.
MIRRORED_LEGS = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10)  # and the spine
MIRRORED_JOINTS = (*MIRRORED_LEGS, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
MIRRORED_LSP = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
MIRRORED_COCO = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
MIRRORED_POINTS = (*MIRRORED_LSP, *(14 + i for i in MIRRORED_COCO))

MAX_ROTATION = math.radians(40)


@dataclass(frozen=True, eq=False)
class CropLabels:
    """The labels of B samples of T frames in their crops."""

    kp2d: Tensor  # (B, T, 31, 3) x, y in the crop's [-1, 1]; confidence
    rotmats: Tensor  # (B, T, 24, 3, 3) global_orient first, in the camera frame
    betas: Tensor  # (B, T, 10)
    smpl_weight: Tensor  # (B,) confidence of rotmats and betas

    def to(self, device: torch.device) -> "CropLabels":
        """Return the same labels on another device."""
        return CropLabels(*(send(getattr(self, field.name), device) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class CropView:
    """Where the crops of B samples are cut out of their images."""

    scale: Tensor  # (B,) side of the square over CROP_SCALE times the box
    shift: Tensor  # (B, 2) of the centre, in sides of the square
    angle: Tensor  # (B,) rad, turns the picture clockwise
    mirror: Tensor  # (B,) bool


def plain_view(samples: int) -> CropView:
    """Return the tracker's own square, upright: for validation."""
    zeros = torch.zeros(samples)
    return CropView(zeros + 1, torch.zeros(samples, 2), zeros, zeros.bool())


def random_view(samples: int, generator: torch.Generator) -> CropView:
    """Draw views: half mirrored, a third rotated, scales 0.87 to 1.15, centres shifted.

    Args:
        samples: B.
        generator: On the CPU.

    Returns:
        The views of B samples.
    """
    uniform = torch.rand(samples, 5, generator=generator)
    angle = torch.randn(samples, generator=generator) * math.radians(12)
    return CropView(
        scale=torch.exp((uniform[:, 0] * 2 - 1) * math.log(1.15)),
        shift=(uniform[:, 1:3] * 2 - 1) * 0.05,
        angle=(angle * (uniform[:, 3] < 0.33)).clamp(-MAX_ROTATION, MAX_ROTATION),
        mirror=uniform[:, 4] < 0.5,
    )


def crop_images(images: Tensor, box: NDArray[np.float32], view: CropView, size: int) -> Tensor:
    """Cut the crops out of stored images, bilinearly.

    Args:
        images: (B, T, 288, 288, 3) uint8 RGB.
        box: (B, T, 4) px, of the labels.
        view: Of the B samples.
        size: S, px: side of a crop.

    Returns:
        (B * T, 3, S, S) RGB in [0, 1]; black outside of the image.
    """
    b, t = images.shape[:2]
    centre, side, turn = _squares(box, view)
    zoom = (side / PIXELS)[..., None, None]
    offset = (centre / (PIXELS / 2) - 1)[..., None]
    theta = torch.cat([zoom * turn.transpose(1, 2)[:, None], offset], -1)  # (B, T, 2, 3)
    theta = send(theta.flatten(0, 1), images.device)
    grid = affine_grid(theta, [b * t, 3, size, size], align_corners=False)
    pixels = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    return grid_sample(pixels, grid, mode="bilinear", align_corners=False)


def crop_labels(labels: Labels, view: CropView) -> CropLabels:
    """Move labels into the crops: points and poses as `crop_images` moves the pixels.

    Args:
        labels: B samples of T frames.
        view: Of the B samples.

    Returns:
        The same labels in the crops' coordinates, on the CPU.
    """
    b, t = labels.box.shape[:2]
    centre, side, turn = _squares(labels.box, view)
    kp2d = torch.from_numpy(labels.kp2d)
    places = (kp2d[..., :2] - centre[:, :, None]) / (side[..., None, None] / 2)
    kp2d = torch.cat([places @ turn[:, None].transpose(-1, -2), kp2d[..., 2:]], -1)
    rotmats = axis_angle_to_matrix(torch.from_numpy(labels.poses).reshape(b, t, 24, 3))
    mirrored = view.mirror[:, None, None]
    kp2d = torch.where(mirrored[..., None], kp2d[:, :, MIRRORED_POINTS], kp2d)
    rotmats = torch.where(mirrored[..., None, None], mirror_rotations(rotmats), rotmats)
    # `turn` rotates, then mirrors: seen in the mirror, the rotation goes the other way.
    about_z = torch.eye(3).repeat(b, 1, 1)
    about_z[:, :2, :2] = turn @ _flip(view)
    rotmats = torch.cat([about_z[:, None, None] @ rotmats[:, :, :1], rotmats[:, :, 1:]], 2)
    return CropLabels(
        kp2d=kp2d,
        rotmats=rotmats,
        betas=torch.from_numpy(labels.betas),
        smpl_weight=torch.from_numpy(labels.smpl_weight),
    )


def _squares(box: NDArray[np.float32], view: CropView) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (B, T, 2) and side (B, T) of the squares, px; the map (B, 2, 2) from image to crop."""
    boxes = torch.from_numpy(box)
    side = CROP_SCALE * (boxes[..., 2:] - boxes[..., :2]).amax(-1) * view.scale[:, None]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + view.shift[:, None] * side[..., None]
    cos, sin = view.angle.cos(), view.angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return centre, side, _flip(view) @ turn  # rotates around the centre, then mirrors in x


def _flip(view: CropView) -> Tensor:
    """(B, 2, 2): changes the sign of x where the view is mirrored."""
    sign = torch.where(view.mirror, -1.0, 1.0)
    return torch.diag_embed(torch.stack([sign, torch.ones_like(sign)], -1))


def mirror_rotations(rotmats: Tensor) -> Tensor:
    """Mirror poses: x becomes -x, left and right change places.

    Args:
        rotmats: (..., 24, 3, 3) local rotations, the root's in the camera frame.

    Returns:
        (..., 24, 3, 3) the rotations of the mirror image.
    """
    signs = torch.tensor([-1.0, 1, 1], device=rotmats.device)
    return rotmats[..., MIRRORED_JOINTS, :, :] * signs[:, None] * signs


def occlude(crops: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """Cover a part of every third sample with a plain or noisy rectangle.

    Args:
        crops: (B * T, 3, S, S) in [0, 1], a sample's frames together.
        frames: T; all frames of a sample get the same rectangle.
        generator: On the CPU.

    Returns:
        (B * T, 3, S, S), a copy.
    """
    samples, size = len(crops) // frames, crops.shape[-1]
    chosen = torch.rand(samples, generator=generator) < 0.35
    place = torch.rand(samples, 2, generator=generator)
    extent = 0.08 + 0.32 * torch.rand(samples, 2, generator=generator)
    colour = torch.rand(samples, 3, 1, 1, generator=generator)
    grain = torch.randn(3, size, size, generator=generator) * 0.2
    line = (torch.arange(size) + 0.5) / size
    inside = ((line - place[..., None]).abs() < extent[..., None] / 2) & chosen[:, None, None]
    cover = inside[:, 0, None, None, :] & inside[:, 1, None, :, None]  # (B, 1, S, S)
    paint = (colour + grain * (colour[:, :1] > 0.5)).clamp(0, 1)
    spread = torch.arange(samples).repeat_interleave(frames)
    cover, paint, spread = (send(x, crops.device) for x in (cover, paint, spread))
    return torch.where(cover[spread], paint[spread], crops)
