"""The few frozen records that pass between stages; shapes and dtypes are checked when made.

Images are RGB uint8. Boxes, keypoints and centres are pixels of the upright image, with the
convention of pixel centres that geometry.py states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Image = NDArray[np.uint8]
Place = tuple[int, int]  # somebody's number in a list of tracks or people, and a row there

COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


def _check(record: object, **shapes: tuple[int, ...]) -> None:
    """Refuse arrays of another shape (-1: any length) or with numbers that are not finite."""
    for name, shape in shapes.items():
        array = getattr(record, name)
        where = f"{type(record).__name__}.{name}"
        fits = array.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{where}: shape {array.shape}, expected {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{where}: holds values that are not finite")


@dataclass(frozen=True)
class Clip:
    """What a video file says of itself, upright: rotation metadata is already applied."""

    path: Path
    width: int
    height: int
    fps: float  # average, frames per second
    time_base: Fraction  # seconds per tick of Frame.pts
    frames: int | None  # as the container claims; None where it does not
    has_audio: bool

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height), px."""
        return self.width, self.height


@dataclass(frozen=True)
class Frame:
    """One decoded frame: its place among the decoded frames, its exact time and its pixels."""

    index: int  # 0, 1, 2, ... in presentation order
    pts: int  # presentation time in ticks of Clip.time_base
    time: float  # the same in seconds
    image: Image  # (H, W, 3) RGB


@dataclass(frozen=True)
class Detections:
    """The people the detector saw in one frame."""

    frame: int
    time: float  # s
    box: Float  # (N, 4) x1, y1, x2, y2 px
    score: Float  # (N,) in [0, 1]
    track_id: Ints  # (N,) the tracker's raw identity
    kp2d: Float  # (N, 17, 3) COCO keypoints: x, y px, confidence in [0, 1]

    def __post_init__(self) -> None:
        n = len(self.box)
        _check(self, box=(n, 4), score=(n,), track_id=(n,), kp2d=(n, 17, 3))


@dataclass(frozen=True)
class Track:
    """One person through a clip. Frames ascend; a jump in `frame` is a gap nobody filled."""

    person: int  # 1, 2, 3, ... stable over the clip
    frame: Ints  # (F,)
    time: Float  # (F,) s
    box: Float  # (F, 4) x1, y1, x2, y2 px, smoothed
    score: Float  # (F,) of the detection; 0 where interpolated
    interpolated: Bools  # (F,) box bridged over a short gap, no detection there
    kp2d: Float  # (F, 17, 3) COCO keypoints as detected; confidence 0 where interpolated

    def __post_init__(self) -> None:
        f = len(self.frame)
        _check(
            self,
            frame=(f,),
            time=(f,),
            box=(f, 4),
            score=(f,),
            interpolated=(f,),
            kp2d=(f, 17, 3),
        )
        if f == 0 or (np.diff(self.frame) <= 0).any():
            raise ValueError(f"track of person {self.person}: frames must ascend, at least one")

    @property
    def runs(self) -> list[slice]:
        """Slices of the track whose frames follow each other without a gap."""
        cuts = np.flatnonzero(np.diff(self.frame) > 1) + 1
        return [slice(a, b) for a, b in pairwise([0, *cuts.tolist(), len(self.frame)])]


@dataclass(frozen=True)
class Person:
    """One person's recovered motion: the content of person_<id>.npz.

    Body(poses, betas) + trans, seen by a pinhole camera with `focal_length` and its centre in
    the middle of the image, lands on the image.
    """

    person: int
    frame: Ints  # (F,)
    time: Float  # (F,) s
    poses: Float  # (F, 72) axis-angle, radians; the first three are global_orient
    betas: Float  # (F, 10)
    trans: Float  # (F, 3) m, camera frame
    pred_cam: Float  # (F, 3) s, tx, ty of the crop
    box: Float  # (F, 3) the square crop's centre x, y and side, px
    joints3d: Float  # (F, 24, 3) m, camera frame
    joints2d: Float  # (F, 24, 2) px
    score: Float  # (F,)
    interpolated: Bools  # (F,)
    focal_length: float  # px
    image_size: tuple[int, int]  # (width, height) px
    fps: float
    gender: str
    body: str  # id and hash of the body model
    weights: str  # id and hash of the checkpoint

    def __post_init__(self) -> None:
        f = len(self.frame)
        _check(
            self,
            frame=(f,),
            time=(f,),
            poses=(f, 72),
            betas=(f, 10),
            trans=(f, 3),
            pred_cam=(f, 3),
            box=(f, 3),
            joints3d=(f, 24, 3),
            joints2d=(f, 24, 2),
            score=(f,),
            interpolated=(f,),
        )


def alive_by_frame(people: Sequence[Track | Person]) -> dict[int, list[Place]]:
    """For each frame's index everybody who is in it, in the order of the list."""
    alive: dict[int, list[Place]] = {}
    for number, one in enumerate(people):
        for row, frame in enumerate(one.frame.tolist()):
            alive.setdefault(frame, []).append((number, row))
    return alive
