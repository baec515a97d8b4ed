"""Sample sets: people cut out of photos or made ourselves, with what is known of them.

A set is a folder with `images.npy`, which is never read whole, and `labels.npz`. A sample is a
sequence of T frames (1 for photos). Each image is a square around the person whose side is
MARGIN times the longer side of the person's box, so that crops have room to move in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic

PIXELS = 288
MARGIN = 1.4
POINTS = 31  # the 14 LSP joints, then the 17 COCO keypoints

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of N samples of T frames; raises DatasetError where shapes do not fit."""

    kp2d: Floats  # (N, T, 31, 3) px of the stored image, and how sure: 0 unknown, 1 certain
    box: Floats  # (N, T, 4) x1, y1, x2, y2 px of the stored image, as a detector would say
    poses: Floats  # (N, T, 72) axis-angle, radians; global_orient in the camera frame
    betas: Floats  # (N, T, 10)
    smpl_weight: Floats  # (N,) how sure poses and betas are: 0 unknown, 1 certain

    def __post_init__(self) -> None:
        n, t = self.box.shape[:2]
        shapes = {
            "kp2d": (n, t, POINTS, 3),
            "box": (n, t, 4),
            "poses": (n, t, 72),
            "betas": (n, t, 10),
            "smpl_weight": (n,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise DatasetError(f"{name}: {array.dtype} {array.shape}, expected float32 {shape}")
            if not np.isfinite(array).all():
                raise DatasetError(f"{name}: holds values that are not finite")

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> "Labels":
        return Labels(*(getattr(self, field.name)[rows] for field in fields(self)))

    def frames(self, columns: slice) -> "Labels":
        """The labels of some of the frames of every sample."""
        kp2d, box, poses, betas = (
            array[:, columns] for array in (self.kp2d, self.box, self.poses, self.betas)
        )
        return Labels(kp2d, box, poses, betas, self.smpl_weight)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Labels and the images they belong to."""

    images: NDArray[np.uint8]  # (N, T, 288, 288, 3) RGB, usually memory-mapped
    labels: Labels

    def __post_init__(self) -> None:
        shape = (*self.labels.box.shape[:2], PIXELS, PIXELS, 3)
        if self.images.shape != shape or self.images.dtype != np.uint8:
            raise DatasetError(
                f"images: {self.images.dtype} {self.images.shape}, expected uint8 {shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)


def read_samples(folder: Path) -> SampleSet:
    """Open a set; nothing but the labels is read. Raises DatasetError for what is no set."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        with np.load(folder / "labels.npz", allow_pickle=False) as archive:
            labels = {field.name: archive[field.name] for field in fields(Labels)}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DatasetError(f"{folder}: is no sample set ({error}); prepare it again") from error
    try:
        return SampleSet(images, Labels(**labels))
    except DatasetError as error:
        raise DatasetError(f"{folder}: {error}; prepare it again") from error


def write_samples(
    folder: Path, pieces: Iterable[tuple[NDArray[np.uint8], Labels]], count: int, frames: int
) -> None:
    """Write a set of `count` samples of `frames` frames from pieces as they come.

    Memory holds one piece. The labels come last: a folder without them is no set.
    Raises OutputError where the folder cannot be written, DatasetError when pieces run short.
    """
    with atomic(folder / "images.npy") as temporary:
        shape = (count, frames, PIXELS, PIXELS, 3)
        images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        done, parts = 0, []
        for piece, labels in pieces:
            images[done : done + len(piece)] = piece
            parts.append(labels)
            done += len(piece)
        images.flush()
        if done != count:
            raise DatasetError(f"{folder}: {done} samples came, {count} were announced")
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Labels)
    }
    with atomic(folder / "labels.npz") as temporary:
        np.savez_compressed(temporary, **joined)  # type: ignore[arg-type]
