"""A person's parameters in the whole image: from the crops' cameras to the saved record."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.body import Body
from staf_cli.geometry import (
    axis_angle_to_matrix,
    crop_to_image_translation,
    image_translation_to_crop,
    matrix_to_axis_angle,
    project,
)
from staf_cli.records import Clip, Float, Person, Track

CHUNK = 1000  # frames whose joints are computed at a time


@dataclass(frozen=True)
class Estimate:
    """What the network says of one track's F frames."""

    rotmats: NDArray[np.float32]  # (F, 24, 3, 3)
    betas: NDArray[np.float32]  # (F, 10)
    pred_cam: NDArray[np.float32]  # (F, 3) s, tx, ty of the crop
    box: Float  # (F, 3) the square crop's centre x, y and side, px


def default_focal(image_size: tuple[int, int]) -> float:
    """The focal length, px, assumed where none is given: the image's diagonal."""
    return float(np.hypot(*image_size))


def place(
    track: Track, estimate: Estimate, clip: Clip, body: Body, weights: str, focal: float
) -> Person:
    """Put a track's estimate into the image's camera frame.

    focal is in px; weights names the checkpoint. Poses, joints and the translation come from
    the crop's camera exactly (`crop_to_image_translation`).
    """
    rotmats = torch.from_numpy(estimate.rotmats).double()
    pred_cam = torch.from_numpy(estimate.pred_cam).double()
    trans = crop_to_image_translation(
        pred_cam, torch.from_numpy(estimate.box), clip.image_size, focal
    )
    betas = torch.from_numpy(estimate.betas).double()
    joints3d, joints2d = _joints(body, rotmats, betas, trans, clip.image_size, focal)
    return Person(
        person=track.person,
        frame=track.frame,
        time=track.time,
        poses=matrix_to_axis_angle(rotmats).flatten(1).numpy(),
        betas=betas.numpy(),
        trans=trans.numpy(),
        pred_cam=pred_cam.numpy(),
        box=estimate.box,
        joints3d=joints3d,
        joints2d=joints2d,
        score=track.score,
        interpolated=track.interpolated,
        focal_length=focal,
        image_size=clip.image_size,
        fps=clip.fps,
        gender=body.gender,
        body=body.identity,
        weights=weights,
    )


def move(person: Person, body: Body, rotmats: Tensor, betas: Tensor, trans: Tensor) -> Person:
    """The same person with other parameters: rotmats (F, 24, 3, 3), betas (F, 10), trans (F, 3)."""
    rotmats, betas, trans = rotmats.double(), betas.double(), trans.double()
    joints3d, joints2d = _joints(
        body, rotmats, betas, trans, person.image_size, person.focal_length
    )
    pred_cam = image_translation_to_crop(
        trans, torch.from_numpy(person.box), person.image_size, person.focal_length
    )
    return replace(
        person,
        poses=matrix_to_axis_angle(rotmats).flatten(1).numpy(),
        betas=betas.numpy(),
        trans=trans.numpy(),
        pred_cam=pred_cam.numpy(),
        joints3d=joints3d,
        joints2d=joints2d,
    )


def rotations(person: Person) -> Tensor:
    """The person's 24 rotations a frame as matrices (F, 24, 3, 3), float32."""
    return _rotations(person.poses)


def _rotations(poses: Float) -> Tensor:
    return axis_angle_to_matrix(torch.from_numpy(poses).reshape(-1, 24, 3)).float()


def vertices(person: Person, body: Body, rows: slice) -> NDArray[np.float32]:
    """The mesh at some of the person's frames, (n, V, 3) metres, camera frame."""
    betas = torch.from_numpy(person.betas[rows]).float()
    with torch.no_grad():
        mesh, _ = body(_rotations(person.poses[rows]), betas)
    placed: NDArray[np.float32] = mesh.numpy() + person.trans[rows, None].astype(np.float32)
    return placed


def _joints(
    body: Body,
    rotmats: Tensor,
    betas: Tensor,
    trans: Tensor,
    image_size: tuple[int, int],
    focal: float,
) -> tuple[Float, Float]:
    """Joints (F, 24, 3) m in the camera frame, and (F, 24, 2) px in the image."""
    with torch.no_grad():
        pieces = zip(
            torch.split(rotmats.float(), CHUNK), torch.split(betas.float(), CHUNK), strict=True
        )
        own = torch.cat([body.skeleton(*piece)[1] for piece in pieces])
    joints = own.double() + trans[:, None]
    centre = (image_size[0] / 2, image_size[1] / 2)
    return joints.numpy(), project(joints, focal, centre).numpy()
