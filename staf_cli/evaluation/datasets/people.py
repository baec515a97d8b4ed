"""Labelled people in pictures on the disk: what training gets of a dataset, whatever its layout.

Their points are those that sample sets label: the 14 LSP joints, then the 17 COCO keypoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import printable

POINTS = 31
# Where SPIN's 24 joints are among the points: LSP's 14, then nose, eyes and ears.
LSP_AND_FACE = (*range(14), *range(19, 24))
# COCO's 17 keypoints among OpenPose's 18 joints, and among the 25 that SPIN's 49 begin with.
COCO_OF_18 = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
COCO_OF_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class People:
    """N labelled people, each in one picture. A track is one person in one clip.

    Raises:
        DatasetError: Shapes do not fit, a value is not finite, or a square has no size.
    """

    root: Path
    pictures: tuple[str, ...]  # relative to the root
    track: Ints  # (N,) rows of a track lie together, in the order of time
    frame: Ints  # (N,) of the clip; steps of 1 where no frame is left out
    square: Floats  # (N, 3) px: centre x, centre y, side of the crop
    kp2d: Floats  # (N, 31, 3) x, y px; confidence, 0 unknown, 1 certain
    kp3d: Floats  # (N, 31, 4) x, y, z m, camera frame, from any origin; confidence
    poses: Floats  # (N, 72) axis-angle, rad; global_orient in the camera frame
    betas: Floats  # (N, 10)
    smpl_weight: Floats  # (N,) confidence of poses and betas

    def __post_init__(self) -> None:
        """Check the arrays."""
        n = len(self.pictures)
        shapes = {
            "track": (n,),
            "frame": (n,),
            "square": (n, 3),
            "kp2d": (n, POINTS, 3),
            "kp3d": (n, POINTS, 4),
            "poses": (n, 72),
            "betas": (n, 10),
            "smpl_weight": (n,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise DatasetError(
                    f"{printable(self.root)}: {name} holds {array.shape} numbers, expected finite "
                    f"ones {shape}; get the labels again"
                )
        if n and self.square[:, 2].min() <= 0:
            raise DatasetError(f"{printable(self.root)}: a person's crop has no size")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.pictures)

    def take(self, rows: Ints) -> "People":
        """Return some rows, in this order."""
        arrays = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name not in ("root", "pictures")
        }
        return People(self.root, tuple(self.pictures[row] for row in rows.tolist()), **arrays)

    def windows(self, length: int) -> Ints:
        """(W,) first rows of windows: rows of one track, whose frames follow each other."""
        if len(self) < length:
            return np.zeros(0, np.int64)
        follows = (np.diff(self.track) == 0) & (np.diff(self.frame) == 1)  # (N - 1,)
        run = np.concatenate([[0], np.cumsum(~follows)])  # (N,)
        return np.flatnonzero(run[length - 1 :] == run[: len(run) - length + 1])


def make_people(
    root: Path,
    pictures: Sequence[str],
    square: NDArray[Any],
    kp2d: NDArray[Any],
    *,
    kp3d: NDArray[Any] | None = None,
    smpl: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None,
    order: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> People:
    """Make people of those labels that a dataset has; the others are unknown.

    Args:
        root: Of the pictures.
        pictures: N, relative to the root.
        square: (N, 3) px.
        kp2d: (N, 31, 3) px and confidence.
        kp3d: (N, 31, 4) m and confidence.
        smpl: Poses (N, 72), betas (N, 10) and their confidence (N,).
        order: Track and frame (N,); None: every picture is alone.

    Returns:
        The people.
    """
    n = len(pictures)
    poses, betas, known = smpl or (np.zeros((n, 72)), np.zeros((n, 10)), np.zeros(n))
    track, frame = order or (np.arange(n), np.zeros(n))
    return People(
        root,
        tuple(pictures),
        np.asarray(track, np.int64),
        np.asarray(frame, np.int64),
        np.asarray(square, np.float32),
        np.asarray(kp2d, np.float32),
        np.zeros((n, POINTS, 4), np.float32) if kp3d is None else np.asarray(kp3d, np.float32),
        np.asarray(poses, np.float32),
        np.asarray(betas, np.float32),
        np.asarray(known, np.float32),
    )


def join(parts: Sequence[People]) -> People:
    """Join people whose pictures have one root; tracks stay apart."""
    tracks, used = [], 0
    for part in parts:
        tracks.append(np.unique(part.track, return_inverse=True)[1] + used)
        used += len(np.unique(part.track))
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(People)
        if field.name not in ("root", "pictures", "track")
    }
    pictures = tuple(name for part in parts for name in part.pictures)
    return People(parts[0].root, pictures, track=np.concatenate(tracks), **arrays)


def points_of_24(joints: NDArray[Any]) -> NDArray[Any]:
    """Put SPIN's 24 joints (N, 24, C), the last number a confidence, among the 31 points."""
    points = np.zeros((len(joints), POINTS, joints.shape[-1]), np.float32)
    points[:, : len(LSP_AND_FACE)] = joints[:, LSP_AND_FACE]
    return points


def points_of_49(joints: NDArray[Any]) -> NDArray[Any]:
    """Put SPIN's 49 joints (N, 49, C): OpenPose's 25, where the other 24 lack them, and the 24."""
    points = points_of_24(joints[:, 25:])
    coco = joints[:, COCO_OF_25]
    missing = points[:, 14:, -1:] == 0
    points[:, 14:] = np.where(missing, coco, points[:, 14:])
    return points


def points_of_18(joints: NDArray[Any]) -> NDArray[Any]:
    """Put OpenPose's 18 joints (N, 18, 3) among the 31 points, as COCO's keypoints."""
    points = np.zeros((len(joints), POINTS, 3), np.float32)
    points[:, 14:] = joints[:, COCO_OF_18]
    return points


def square_around(points: NDArray[Any], known: NDArray[np.bool_], scale: float) -> NDArray[Any]:
    """The square around known points, so much larger than the longer side of their box.

    Args:
        points: (N, P, 2) px.
        known: (N, P), some of each row.
        scale: Of the side.

    Returns:
        (N, 3) centre x, centre y, side, px.
    """
    low = np.where(known[..., None], points, np.inf).min(1)
    high = np.where(known[..., None], points, -np.inf).max(1)
    return np.concatenate([(low + high) / 2, scale * (high - low).max(1, keepdims=True)], 1)


def missing_pictures(root: Path, pictures: Sequence[str], what: str) -> str | None:
    """Say which pictures are missing; None: all are there."""
    missing = [name for name in dict.fromkeys(pictures) if not (root / name).is_file()]
    if not missing:
        return None
    return (
        f"{printable(root)}: {len(missing)} of the pictures of {what} are missing, "
        f"{printable(missing[0])} first; unpack the dataset's images there"
    )
