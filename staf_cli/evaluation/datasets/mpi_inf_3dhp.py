"""MPI-INF-3DHP as its authors publish it: the test set in TS<n>, the training set in S<n>/Seq<n>.

TS1 to TS6 have annot_data.mat, in MATLAB's HDF5, and imageSequence/img_000001.jpg and so on:

    annot2       (N, 1, 17, 2) px
    univ_annot3  (N, 1, 17, 3) mm, camera frame, scaled as if all people had one height
    valid_frame  (N, 1) whether a frame counts

The protocol is that of SPIN, VIBE and TCMR: of the frames in which all joints are inside the image
those count that are valid; the network sees the others as well. The crop is 1.2 times the tightest
square around the joints.

S1/Seq1 to S8/Seq2 have annot.mat, in MATLAB 5: `annot2` (N, 56) px, `annot3` (N, 84) mm,
`univ_annot3` with a cell for each of 14 cameras, 28 joints, `frames` (N, 1). The images are where
SPIN unpacks the videos: imageFrames/video_0/frame_000001.jpg and so on.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from staf_cli import video
from staf_cli.core.errors import DatasetError, MissingTool, counted
from staf_cli.core.files import printable
from staf_cli.core.geometry import CROP_SCALE, NETWORK_FOCAL
from staf_cli.core.records import Clip, Float
from staf_cli.evaluation.datasets import people
from staf_cli.evaluation.datasets.people import People
from staf_cli.evaluation.truth import Footage, Truth

TEST = "mpi_inf_3dhp_test_set"  # its folder, where it is beside the training set
ANNOTATION, IMAGES = "annot_data.mat", "imageSequence"
FPS = 25.0
POINTS = 17
ORDER = (10, 9, 8, 11, 12, 13, 4, 3, 2, 5, 6, 7, 1, 0, 14, 15, 16)  # LSP's, pelvis, spine, head
SQUARE = 1.2  # side of the crop over the longer side of the joints' box
LARGEST_FILE = 2**28  # bytes
LARGEST_CHUNK = 2**26  # bytes; HDF5 unpacks whole chunks
MOST_FRAMES = 20_000  # it has 6,151
DAMAGE = (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError, MemoryError)
LARGEST_UNPACKED = 2**30  # bytes of an annotation of the training set
FRAMES = "imageFrames"
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # at the height of a chest: those that SPIN and VIBE train on
TRAINING_SIZE = 2048  # px, of each side
TRAINING_POINTS = 28
LSP_OF_28 = (25, 24, 23, 18, 19, 20, 16, 15, 14, 9, 10, 11, 5, 7)
BOXED = (*LSP_OF_28, 4, 3, 6)  # pelvis, spine, head: the test set's 17
OF_TRAINING = ("annot2", "annot3", "univ_annot3")


@dataclass(frozen=True)
class Sequence:
    """One sequence of the test set, N frames."""

    path: Path  # of its annotation
    points: Float  # (N, 17, 2) px
    joints: Float  # (N, 17, 3) m, camera frame
    valid: NDArray[np.bool_]  # (N,)

    @property
    def name(self) -> str:
        """TS1 to TS6."""
        return self.path.parent.name


def test_files(folder: Path) -> list[Path]:
    """List the annotations of the test set by name; empty where a folder is not its root."""
    for root in (folder, folder / TEST):
        found = sorted(path for path in root.glob(f"TS[1-6]/{ANNOTATION}"))
        if found:
            return found
    return []


def training_files(folder: Path) -> list[Path]:
    """List the annotations of the training set by name."""
    return sorted(folder.glob("S[1-8]/Seq[12]/annot.mat"))


def open_test(paths: list[Path]) -> list[Footage]:
    """Read the test set.

    Args:
        paths: From `test_files`.

    Returns:
        The sequences in which frames count, by name.

    Raises:
        DatasetError: An annotation or images are missing, damaged or do not fit each other.
        MissingTool: h5py is not installed.
    """
    dataset = []
    for path in paths:
        sequence = read_sequence(path)
        clip = _open_images(sequence)
        truth = _truth(sequence, clip.image_size)
        if truth.judged is not None and truth.judged.any():
            dataset.append(Footage(sequence.name, clip, NETWORK_FOCAL, (truth,)))
    if not dataset:
        raise DatasetError(
            f"{printable(paths[0].parents[1])}: no frame is valid with all joints in the image; "
            "get MPI-INF-3DHP's test set again"
        )
    return dataset


def read_sequence(path: Path) -> Sequence:
    """Read the annotation of a sequence of the test set.

    Args:
        path: The annot_data.mat.

    Returns:
        The sequence.

    Raises:
        DatasetError: The file is missing, damaged, incomplete, or refers to other files.
        MissingTool: h5py is not installed.
    """
    with _hdf5(path) as file:
        points = _dataset(path, file, "annot2", (None, 1, POINTS, 2))
        frames = len(points)
        joints = _dataset(path, file, "univ_annot3", (frames, 1, POINTS, 3))
        valid = _dataset(path, file, "valid_frame", (frames, 1))
    return Sequence(path, points[:, 0], joints[:, 0] / 1000, valid[:, 0] > 0)


def problem_of_images(sequence: Sequence) -> str | None:
    """Say which images of a sequence are missing, or are none of its.

    Args:
        sequence: The sequence.

    Returns:
        A line; None: all are there.
    """
    folder = sequence.path.parent / IMAGES
    expected = [f"img_{number:06d}.jpg" for number in range(1, len(sequence.points) + 1)]
    have = {path.name for path in video.pictures_in(folder)} if folder.is_dir() else set()
    missing = [name for name in expected if name not in have]
    if missing:
        return (
            f"{printable(folder)}: {len(missing)} of {counted(len(expected), 'image')} are "
            f"missing, {missing[0]} first; unpack MPI-INF-3DHP's test set there"
        )
    others = sorted(have - set(expected))
    if others:
        return (
            f"{printable(folder)}: {printable(others[0])} is none of the "
            f"{counted(len(expected), 'image')} that the truth is of; move it away"
        )
    return None


def describe_training(path: Path) -> str:
    """Say what an annotation of the training set holds, by the headers of its variables.

    Args:
        path: The annot.mat.

    Returns:
        Cameras and frames.

    Raises:
        DatasetError: The file is missing, damaged, or something else.
    """
    _check_file(path)
    try:
        shapes = {str(name): tuple(shape) for name, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # scipy raises what its parser stumbles over
        raise DatasetError(f"{printable(path)}: is damaged or no MATLAB 5 file") from error
    for name in (*OF_TRAINING, "frames"):
        if name not in shapes:
            raise DatasetError(f"{printable(path)}: has no {name}; get the annotation again")
    cameras = shapes["annot2"]
    if cameras[1:] != (1,) or any(shapes[name] != cameras for name in OF_TRAINING):
        raise DatasetError(f"{printable(path)}: {', '.join(OF_TRAINING)} have no cell a camera")
    frames = counted(max(shapes["frames"], default=0), "frame")
    return f"{counted(cameras[0], 'camera')}, {frames}; {' '.join(OF_TRAINING)}"


def read_people(paths: list[Path]) -> People:
    """Read the training set: frames of the cameras in use, with all 17 joints in the image.

    Args:
        paths: From `training_files`.

    Returns:
        The people; a track for each camera of each sequence.

    Raises:
        DatasetError: An annotation or images are missing, damaged or do not fit each other.
    """
    root = paths[0].parents[2]
    parts = []
    for path in paths:
        describe_training(path)  # a check
        points, joints = _training_cells(path)
        for camera in CAMERAS:
            folder = path.parent / FRAMES / f"video_{camera}"
            if not folder.is_dir():
                raise DatasetError(
                    f"{printable(folder)}: is missing; unpack the video there: ffmpeg -i "
                    f"imageSequence/video_{camera}.avi -q:v 2 {FRAMES}/video_{camera}/"
                    "frame_%06d.jpg"
                )
            parts.append(_of_camera(root, folder, points[camera], joints[camera]))
    return people.join(parts)


def _of_camera(root: Path, folder: Path, points: Float, joints: Float) -> People:
    """The people of a video: of 28 joints (N, 28, 2) px and (N, 28, 3) m."""
    boxed = points[:, BOXED]
    rows = np.flatnonzero(((boxed >= 0) & (boxed < TRAINING_SIZE)).all((1, 2)))
    place = folder.relative_to(root).as_posix()
    pictures = [f"{place}/frame_{row + 1:06d}.jpg" for row in rows.tolist()]
    problem = people.missing_pictures(root, pictures, place)
    if problem is not None:
        raise DatasetError(problem)
    n = len(rows)
    kp2d, kp3d = np.zeros((n, people.POINTS, 3)), np.zeros((n, people.POINTS, 4))
    kp2d[:, :14, :2], kp2d[:, :14, 2] = points[rows][:, LSP_OF_28], 1
    kp3d[:, :14, :3], kp3d[:, :14, 3] = joints[rows][:, LSP_OF_28], 1
    square = people.square_around(boxed[rows], np.ones(boxed[rows].shape[:2], bool), SQUARE)
    return people.make_people(root, pictures, square, kp2d, kp3d=kp3d, order=(np.zeros(n), rows))


def _training_cells(path: Path) -> tuple[list[Float], list[Float]]:
    """Points (N, 28, 2) px and joints (N, 28, 3) m of each camera."""
    damaged = DatasetError(f"{printable(path)}: is damaged; get the annotation again")
    try:
        if _unpacked_size(path) > LARGEST_UNPACKED:
            raise DatasetError(
                f"{printable(path)}: unpacks to more than any of MPI-INF-3DHP's annotations"
            )
        found = scipy.io.loadmat(path, variable_names=["annot2", "annot3"])
        cells = [
            [np.asarray(cell, np.float64).reshape(-1, TRAINING_POINTS, size) for cell in column]
            for column, size in ((found["annot2"][:, 0], 2), (found["annot3"][:, 0], 3))
        ]
    except DatasetError:
        raise
    except Exception as error:  # scipy raises what its parser stumbles over
        raise damaged from error
    points, joints = cells[0], [one / 1000 for one in cells[1]]
    fits = len(points) == len(joints) > max(CAMERAS) and all(
        len(a) == len(b) and np.isfinite(a).all() and np.isfinite(b).all()
        for a, b in zip(points, joints, strict=True)
    )
    if not fits:
        raise damaged
    return points, joints


def _unpacked_size(path: Path) -> int:
    """Bytes of a MATLAB 5 file's variables, as their compressed parts say before they are read."""
    size = 0
    with path.open("rb") as stream:
        stream.seek(128)
        while len(tag := stream.read(8)) == 8:
            kind, length = (int.from_bytes(tag[i : i + 4], "little") for i in (0, 4))
            end = stream.tell() + length
            if kind == 15:  # miCOMPRESSED
                inner = zlib.decompressobj().decompress(stream.read(min(length, 256)), 8)
                size += int.from_bytes(inner[4:8], "little")
            else:
                size += length
            stream.seek(end)
    return size


def _truth(sequence: Sequence, image_size: tuple[int, int]) -> Truth:
    """What is true in the frames with all joints inside the image."""
    inside = (sequence.points >= 0) & (sequence.points < np.array(image_size))
    rows = np.flatnonzero(inside.all((1, 2)))
    joints = sequence.joints[rows][:, ORDER]
    if not np.isfinite(joints).all():
        raise DatasetError(f"{printable(sequence.path)}: univ_annot3 holds no finite values")
    low, high = sequence.points[rows].min(1), sequence.points[rows].max(1)
    middle, side = (low + high) / 2, (high - low).max(1, keepdims=True)
    if (side <= 0).any():
        raise DatasetError(f"{printable(sequence.path)}: the joints of a person coincide")
    half = side * (SQUARE / CROP_SCALE / 2)
    box = np.concatenate([middle - half, middle + half], 1)
    return Truth(rows, box, None, None, None, joints, sequence.valid[rows])


def _open_images(sequence: Sequence) -> Clip:
    problem = problem_of_images(sequence)
    if problem is not None:
        raise DatasetError(problem)
    return video.probe(sequence.path.parent / IMAGES, fps=FPS)


def _check_file(path: Path) -> None:
    if not path.is_file():  # reading a pipe would wait
        raise DatasetError(f"{printable(path)}: is no file; get MPI-INF-3DHP again")
    if path.stat().st_size > LARGEST_FILE:
        raise DatasetError(f"{printable(path)}: is larger than any of MPI-INF-3DHP's annotations")


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    """Open a file of MATLAB 7.3; what goes wrong while it is read becomes a DatasetError."""
    try:
        import h5py
    except ImportError as error:
        raise MissingTool(
            "MPI-INF-3DHP's test set needs h5py: pip install 'staf-cli[datasets]'"
        ) from error
    _check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        raise DatasetError(
            f"{printable(path)}: is damaged or no HDF5 of MATLAB's; get MPI-INF-3DHP again"
        ) from error


def _dataset(path: Path, file: Any, name: str, shape: tuple[int | None, ...]) -> Float:
    """An array as float64; None in the shape is any length from 1 to `MOST_FRAMES`."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):  # others lead to other files
        raise DatasetError(f"{printable(path)}: has no {name}; it is no {ANNOTATION}")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
        raise DatasetError(f"{printable(path)}: {name} holds no numbers; it is no {ANNOTATION}")
    fits = len(found.shape) == len(shape) and all(
        (0 < have <= MOST_FRAMES if want is None else have == want)
        for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits:
        expected = str(shape).replace("None", "any")
        raise DatasetError(
            f"{printable(path)}: {name} has shape {found.shape!s:.80}, expected {expected}"
        )
    chunk = found.dtype.itemsize * np.prod(found.chunks or (1,), dtype=float)
    elsewhere = found.external or found.is_virtual
    if elsewhere or found.compression not in (None, "gzip") or chunk > LARGEST_CHUNK:
        raise DatasetError(f"{printable(path)}: {name} is stored in a way that MATLAB does not use")
    array: Float = found[()].astype(np.float64)
    return array
