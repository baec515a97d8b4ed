"""Sample sets: images of single people with their labels, as all training data are stored.

A set is a folder with `images.npy`, which stays on the disk (memory-mapped), and `labels.npz`. A
sample is a sequence of T frames of one person (T = 1 for photos). Each image is a square around
the person whose side is MARGIN times the longer side of the person's box, which leaves space for
random crops.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic
from staf_cli.core.large_arrays import create_array

PIXELS = 288  # side of a stored image
MARGIN = 1.4
POINTS = 31  # the 14 LSP joints, then the 17 COCO keypoints

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of N samples of T frames, in pixels of the stored images.

    Raises:
        DatasetError: Shapes or dtypes do not fit, or a value is not finite.
    """

    kp2d: Floats  # (N, T, 31, 3) x, y px; confidence: 0 unknown, 1 certain
    box: Floats  # (N, T, 4) x1, y1, x2, y2 px, as a detector's
    poses: Floats  # (N, T, 72) axis-angle, rad; global_orient in the camera frame
    betas: Floats  # (N, T, 10)
    smpl_weight: Floats  # (N,) confidence of poses and betas: 0 unknown, 1 certain

    def __post_init__(self) -> None:
        """Check the arrays."""
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
        """Return the number of samples."""
        return len(self.box)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> "Labels":
        """Return the labels of some samples."""
        return Labels(*(getattr(self, field.name)[rows] for field in fields(self)))

    def frames(self, columns: slice) -> "Labels":
        """Return the labels of the same frames of every sample."""
        kp2d, box, poses, betas = (
            array[:, columns] for array in (self.kp2d, self.box, self.poses, self.betas)
        )
        return Labels(kp2d, box, poses, betas, self.smpl_weight)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Images and their labels.

    Raises:
        DatasetError: The images' shape or dtype does not fit the labels.
    """

    images: NDArray[np.uint8]  # (N, T, 288, 288, 3) RGB, usually memory-mapped
    labels: Labels

    def __post_init__(self) -> None:
        """Check the images."""
        shape = (*self.labels.box.shape[:2], PIXELS, PIXELS, 3)
        if self.images.shape != shape or self.images.dtype != np.uint8:
            raise DatasetError(
                f"images: {self.images.dtype} {self.images.shape}, expected uint8 {shape}"
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)


def read_samples(folder: Path) -> SampleSet:
    """Open a sample set; only its labels are read into memory.

    Args:
        folder: What `write_samples` wrote.

    Returns:
        The set, with memory-mapped images.

    Raises:
        DatasetError: The folder is not a sample set.
    """
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
    """Write a sample set piece by piece; only one piece's images are in memory.

    The labels are written last: a folder without them is not a set.

    Args:
        folder: Where to.
        pieces: Images (n, T, 288, 288, 3) and labels of n samples each, in order.
        count: N, samples of all pieces.
        frames: T, frames of each sample.

    Raises:
        DatasetError: The pieces have another number of samples than `count`.
        OutputError: The folder cannot be written.
    """
    with atomic(folder / "images.npy") as temporary:
        shape = (count, frames, PIXELS, PIXELS, 3)
        images = create_array(temporary, np.uint8, shape)
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
