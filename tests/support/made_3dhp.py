"""A small copy of MPI-INF-3DHP in its authors' layout: HDF5 as MATLAB 7.3 writes it, MATLAB 5."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io

SIZE = 120, 100  # width, height px
TEST_NAMES = (  # of the 17 joints, as the authors list them
    *("head top", "neck", "r shoulder", "r elbow", "r wrist", "l shoulder", "l elbow", "l wrist"),
    *("r hip", "r knee", "r ankle", "l hip", "l knee", "l ankle", "pelvis", "spine", "head"),
)
LSP_NAMES = (
    *("r ankle", "r knee", "r hip", "l hip", "l knee", "l ankle", "r wrist", "r elbow"),
    *("r shoulder", "l shoulder", "l elbow", "l wrist", "neck", "head top"),
)


def write_annotation(path: Path, changed: dict[str, Any]) -> Path:
    """Write variables as MATLAB 7.3 does: HDF5 behind 512 bytes of its own, compressed chunks."""
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in changed.items():
            packed = np.size(value) > 1
            made = file.create_dataset(name, data=value, compression="gzip" if packed else None)
            made.attrs["MATLAB_class"] = np.bytes_("double")
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as stream:
        stream.write(head)
    return path


def entries_of(joints: np.ndarray, valid: list[int], seed: int = 1) -> dict[str, np.ndarray]:
    """The variables of a sequence, of its 17 joints (N, 17, 3) m and the frames that are valid."""
    frames = len(joints)
    rng = np.random.default_rng(seed)
    flags = np.zeros((frames, 1))
    flags[valid] = 1
    return {
        "activity_annotation": np.ones((frames, 1)),
        "annot2": rng.uniform(10, 90, (frames, 1, 17, 2)),
        "annot3": rng.normal(0, 900, (frames, 1, 17, 3)),  # is not what is judged
        "bb_crop": np.zeros((frames, 34)),
        "univ_annot3": 1000 * joints[:, None],
        "valid_frame": flags,
    }


def write_sequence(root: Path, name: str, entries: dict[str, Any]) -> Path:
    """Write an annotation and a grey image for each frame; returns the annotation."""
    path = write_annotation(root / name / "annot_data.mat", entries)
    images = root / name / "imageSequence"
    images.mkdir()
    for number in range(1, len(entries["annot2"]) + 1):
        grey = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
        cv2.imwrite(str(images / f"img_{number:06d}.jpg"), grey)
    return path


def write_training(root: Path, frames: int) -> Path:
    """Write S1/Seq1/annot.mat: a cell for each of 14 cameras."""
    path = root / "S1" / "Seq1" / "annot.mat"
    path.parent.mkdir(parents=True)
    cells = {}
    for name, columns in (("annot2", 56), ("annot3", 84), ("univ_annot3", 84)):
        cells[name] = np.empty((14, 1), object)
        for camera in range(14):
            cells[name][camera, 0] = np.zeros((frames, columns))
    numbers = {"frames": np.arange(frames)[:, None], "cameras": np.arange(14)[None]}
    scipy.io.savemat(path, cells | numbers, do_compression=True)
    return path
