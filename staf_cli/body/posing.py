"""A person's parameters applied to their body: rotations, joints and meshes in the camera frame."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.body.skinning import Body
from staf_cli.core.geometry import (
    axis_angle_to_matrix,
    image_translation_to_crop,
    matrix_to_axis_angle,
    project,
)
from staf_cli.core.records import Float, Person

CHUNK = 1000  # frames whose joints are computed together


def rotation_matrices(poses: Float) -> Tensor:
    """Convert axis-angle poses to rotation matrices.

    Args:
        poses: (F, 72) radians.

    Returns:
        (F, 24, 3, 3), float64.
    """
    return axis_angle_to_matrix(torch.from_numpy(poses).reshape(-1, 24, 3))


def vertices(person: Person, body: Body, rows: slice) -> NDArray[np.float32]:
    """Compute the mesh at some of a person's frames.

    Args:
        person: The parameters.
        body: The body model that they are of, V vertices.
        rows: Which n of the person's frames.

    Returns:
        (n, V, 3) m, camera frame.
    """
    betas = torch.from_numpy(person.betas[rows]).float()
    with torch.no_grad():
        mesh, _ = body(rotation_matrices(person.poses[rows]).float(), betas)
    placed: NDArray[np.float32] = mesh.numpy() + person.trans[rows, None].astype(np.float32)
    return placed


def joints(
    body: Body,
    rotmats: Tensor,
    betas: Tensor,
    trans: Tensor,
    image_size: tuple[int, int],
    focal_length: float,
) -> tuple[Float, Float]:
    """Compute the joints of a posed body, in space and in the image.

    Args:
        body: The body model.
        rotmats: (F, 24, 3, 3).
        betas: (F, 10).
        trans: (F, 3) m, camera frame.
        image_size: (width, height) px.
        focal_length: px.

    Returns:
        joints3d (F, 24, 3) m in the camera frame, and joints2d (F, 24, 2) px.
    """
    with torch.no_grad():
        pieces = zip(
            torch.split(rotmats.float(), CHUNK), torch.split(betas.float(), CHUNK), strict=True
        )
        own = torch.cat([body.skeleton(*piece)[1] for piece in pieces])
    placed = own.double() + trans[:, None]
    centre = (image_size[0] / 2, image_size[1] / 2)
    return placed.numpy(), project(placed, focal_length, centre).numpy()


def with_parameters(
    person: Person, body: Body, rotmats: Tensor, betas: Tensor, trans: Tensor
) -> Person:
    """Replace a person's parameters; joints and the crop's camera are computed from them.

    Args:
        person: Whose frames, crops and camera stay as they are.
        body: The body model.
        rotmats: (F, 24, 3, 3).
        betas: (F, 10).
        trans: (F, 3) m, camera frame.

    Returns:
        The person with these parameters.
    """
    rotmats, betas, trans = rotmats.double(), betas.double(), trans.double()
    joints3d, joints2d = joints(body, rotmats, betas, trans, person.image_size, person.focal_length)
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
