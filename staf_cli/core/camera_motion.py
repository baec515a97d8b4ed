"""How the camera moves in a clip: the record between its estimation and the world frame."""

from dataclasses import dataclass
from math import nan

import numpy as np

from staf_cli.core.records import Bools, Float, Ints


@dataclass(frozen=True)
class CameraMotion:
    """The camera's path over frames of a video, in the frame of its first camera.

    A point x of frame t's camera frame (x right, y down, z forward, m) lies at
    `rotation[t] @ x + position[t]` in the camera frame of the first row of its shot.
    """

    frame: Ints  # (F,) index in the video, ascending
    rotation: Float  # (F, 3, 3) camera of the frame -> first camera of the shot
    position: Float  # (F, 3) m, of the camera in that first frame; zeros where only turns are known
    shot: Ints  # (F,) number of the shot, from 0: nothing is known from one to the next
    known: Bools  # (F,) the rotation was measured; else it is interpolated, or the last one kept
    travels: Bools  # (F,) the camera changes its place too in this shot, which is not measured
    moving: bool  # whether the camera moves at all; a tripod has identities and zeros
    focal_length: float = nan  # px of the video, measured from the turns; NaN: they do not tell it

    def __post_init__(self) -> None:
        count = len(self.frame)
        shapes = {
            "frame": (count,),
            "rotation": (count, 3, 3),
            "position": (count, 3),
            "shot": (count,),
            "known": (count,),
            "travels": (count,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"CameraMotion.{name}: shape {array.shape}, expected {shape}")
        if not (np.isfinite(self.rotation).all() and np.isfinite(self.position).all()):
            raise ValueError("CameraMotion: holds values that are not finite")
        if (np.diff(self.frame) <= 0).any():
            raise ValueError("CameraMotion.frame: does not ascend")
        product = self.rotation @ self.rotation.transpose(0, 2, 1)
        if not np.allclose(product, np.eye(3), atol=1e-6):
            raise ValueError("CameraMotion.rotation: not rotations")
        if not (np.isnan(self.focal_length) or 0 < self.focal_length < np.inf):
            raise ValueError("CameraMotion.focal_length: neither above 0 nor NaN")


def still_camera(frame: Ints) -> CameraMotion:
    """A camera that does not move over the frames.

    Args:
        frame: (F,) index in the video, ascending.

    Returns:
        Identities and zeros, all of one shot.
    """
    count = len(frame)
    return CameraMotion(
        frame=frame,
        rotation=np.tile(np.eye(3), (count, 1, 1)),
        position=np.zeros((count, 3)),
        shot=np.zeros(count, dtype=np.int64),
        known=np.ones(count, dtype=bool),
        travels=np.zeros(count, dtype=bool),
        moving=False,
    )
