"""A person's parameters in the whole image: from the crops' cameras to the saved record."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.posing import joints
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import crop_to_image_translation, matrix_to_axis_angle
from staf_cli.core.records import Clip, Float, Person, Track


@dataclass(frozen=True)
class Estimate:
    """What the network says of one track's F frames."""

    rotmats: NDArray[np.float32]  # (F, 24, 3, 3)
    betas: NDArray[np.float32]  # (F, 10)
    pred_cam: NDArray[np.float32]  # (F, 3) s, tx, ty of the crop
    box: Float  # (F, 3) the square crop's centre x, y and side, px


def default_focal(image_size: tuple[int, int]) -> float:
    """Choose the focal length where none is given: the image's diagonal.

    Args:
        image_size: (width, height) px.

    Returns:
        px.
    """
    return float(np.hypot(*image_size))


def place(
    track: Track, estimate: Estimate, clip: Clip, body: Body, weights: str, focal: float
) -> Person:
    """Put a track's estimate into the image's camera frame.

    The translation follows exactly from the crop's camera (`crop_to_image_translation`).

    Args:
        track: the person's.
        estimate: what the network says of the same frames.
        clip: gives image size and frame rate.
        body: the network's.
        weights: the checkpoint's name and hash.
        focal: px.

    Returns:
        The person in the camera frame.
    """
    rotmats = torch.from_numpy(estimate.rotmats).double()
    pred_cam = torch.from_numpy(estimate.pred_cam).double()
    trans = crop_to_image_translation(
        pred_cam, torch.from_numpy(estimate.box), clip.image_size, focal
    )
    betas = torch.from_numpy(estimate.betas).double()
    joints3d, joints2d = joints(body, rotmats, betas, trans, clip.image_size, focal)
    return Person(
        id=track.id,
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
