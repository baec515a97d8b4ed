"""The files `*_db.pt` of VIBE, TCMR, MEVA and MPS-Net: arrays of people's frames, by joblib.

joblib pickles a dictionary and puts the bytes of each array right behind the place where it is
named. The pickle is read by the unpickler of SMPL files, which runs nothing; the arrays stay on the
disk. Compressed files and arrays of objects are refused.

    vid_name (N,) text, frame_id (N,), img_name (N,) text, bbox (N, 4), features (N, 2048),
    joints2D (N, 49, 3), joints3D (N, 49, 3) or (N, 14, 3), pose (N, 72), shape (N, 10), valid (N,)
"""

import math
import os
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.smpl_pickle import ArraysOnly, DType, StandIn, load_dictionary
from staf_cli.core.errors import DatasetError, StafError
from staf_cli.core.files import printable
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.evaluation.datasets.people import (
    People,
    make_people,
    missing_pictures,
    points_of_49,
)

PICTURES = "img_name"
NAMES = "vid_name"  # the entry that every such file has
KIND = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|U[1-9]\d{0,3})")
WRAPPERS = (
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper"),
)


@dataclass(frozen=True)
class Stored:
    """An array's place in a file."""

    path: Path
    offset: int  # bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    def mapped(self) -> NDArray[Any]:
        """The array, read from the disk where it is used."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


@dataclass(frozen=True)
class Contents:
    """What such a file holds."""

    entries: dict[str, Stored]
    people: int  # clips of one person each
    frames: int  # of people


class _Wrapper(StandIn):
    """joblib's NumpyArrayWrapper. State: {"shape", "order", "dtype", ...}."""

    __slots__ = ("offset",)

    offset: int


class _Joblib(ArraysOnly):  # typeshed does not tell the parts of Python's own unpickler
    """The unpickler of SMPL files, which steps over the arrays that joblib put between."""

    known = ArraysOnly.known | dict.fromkeys(WRAPPERS, _Wrapper)
    dispatch = dict(ArraysOnly.dispatch)  # noqa: RUF012

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__(stream)
        self.stream = stream
        self.size = size  # bytes of the file

    def load_build(self: Any) -> None:
        """Set an object's state; behind that of an array come its bytes."""
        ArraysOnly.dispatch[pickle.BUILD[0]](self)
        made = self.stack[-1]
        if isinstance(made, _Wrapper):
            self._step_over(made)

    dispatch[pickle.BUILD[0]] = load_build

    def _step_over(self: Any, made: _Wrapper) -> None:
        frame = self._unframer.current_frame
        if frame is not None and frame.read(1):
            raise pickle.UnpicklingError("an array within a frame")
        dtype, shape, _ = _described(made.state)
        if made.state.get("numpy_array_alignment_bytes") is not None:
            self.stream.seek(int.from_bytes(self.stream.read(1), "little"), os.SEEK_CUR)
        made.offset = self.stream.tell()
        end = made.offset + math.prod(shape) * dtype.itemsize
        if end > self.size:
            raise pickle.UnpicklingError("an array that is cut off")
        self.stream.seek(end)


def _described(state: Any) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """The dtype, shape and order of an array. Raises UnpicklingError for anything but numbers."""
    match state:
        case {
            "dtype": DType() as described,
            "shape": tuple() as shape,
            "order": "C" | "F" as order,
        }:
            text = described.arguments[0] if described.arguments else None
        case _:
            raise pickle.UnpicklingError("an array without its shape")
    if not isinstance(text, str) or not KIND.fullmatch(text):
        raise pickle.UnpicklingError("an array of something else than numbers or text")
    if not all(type(n) is int and 0 <= n < 2**40 for n in shape) or len(shape) > 8:
        raise pickle.UnpicklingError("an array of no sensible shape")
    dtype = np.dtype(text)
    match described.state:
        case (_, "<" | ">" as endian, *_):
            dtype = dtype.newbyteorder(endian)
    return dtype, shape, order


def read_contents(path: Path) -> Contents:
    """Read what a file holds, without its arrays' numbers.

    Args:
        path: The file.

    Returns:
        Its arrays' places, and how many people and frames they are of.

    Raises:
        DatasetError: The file is missing, damaged, compressed or something else, or needs code to
            be run.
    """
    if not path.is_file():  # reading a pipe would wait
        raise DatasetError(f"{printable(path)}: is no file; get it again")
    try:
        with path.open("rb") as stream:
            if stream.read(1) != b"\x80":
                raise DatasetError(
                    f"{printable(path)}: is compressed or no file of joblib; if you trust it, "
                    "write it again by joblib.dump(joblib.load(FILE), FILE)"
                )
            stream.seek(0)
            unpickler = _Joblib(stream, path.stat().st_size)
            found = load_dictionary(unpickler, path, "VIBE")
    except DatasetError:
        raise
    except (StafError, OSError) as error:
        raise DatasetError(str(error)) from error
    try:
        entries = {
            str(name): Stored(path, made.offset, *_described(made.state))
            for name, made in found.items()
            if isinstance(made, _Wrapper)
        }
    except (pickle.UnpicklingError, AttributeError) as error:  # named, but never described
        raise DatasetError(f"{printable(path)}: is damaged; get the file again") from error
    names = entries.get(NAMES)
    if names is None or names.dtype.kind != "U" or len(names.shape) != 1 or not names.shape[0]:
        raise DatasetError(f"{printable(path)}: has no {NAMES} (text); it is no file of VIBE's")
    frames = names.shape[0]
    for name, stored in entries.items():
        if stored.shape[:1] != (frames,):
            raise DatasetError(
                f"{printable(path)}: {name!a:.40} is of {stored.shape[:1]} frames, "
                f"{NAMES} of {frames}"
            )
    letters = names.mapped().view(f"V{names.dtype.itemsize}")
    return Contents(entries, len(np.unique(letters)), frames)


def read_people(path: Path) -> People:
    """Read a file for training: its images, which lie in its folder, and what it knows of people.

    Args:
        path: The file.

    Returns:
        The people, with 2D points, and where the file has them with 3D joints and fits.

    Raises:
        DatasetError: The file is missing, damaged or something else, names no images, or they
            are not there.
    """
    contents = read_contents(path)
    missing = [name for name in (PICTURES, "bbox", "joints2D") if name not in contents.entries]
    if missing:
        raise DatasetError(
            f"{printable(path)}: has no {' and no '.join(missing)}; training needs pictures, "
            "not features of another encoder: leave the set out, or make the file again with it"
        )
    n = contents.frames
    box = _numbers(path, contents, "bbox", (n, 4))
    square = np.concatenate([box[:, :2], CROP_SCALE * box[:, 2:].max(1, keepdims=True)], 1)
    points = _numbers(path, contents, "joints2D", (n, 49, 3))
    kp3d = None
    if "joints3D" in contents.entries and contents.entries["joints3D"].shape == (n, 49, 3):
        joints = _numbers(path, contents, "joints3D", (n, 49, 3))
        known = joints.any(-1, keepdims=True)
        kp3d = points_of_49(np.concatenate([joints, known], -1))
    smpl = None
    if {"pose", "shape"} <= contents.entries.keys():
        poses = _numbers(path, contents, "pose", (n, 72))
        smpl = (
            poses,
            _numbers(path, contents, "shape", (n, 10)),
            np.any(poses, 1, keepdims=True)[:, 0],
        )
    names = contents.entries[NAMES].mapped()
    track = np.concatenate([[0], np.cumsum(names[1:] != names[:-1])])
    return make_people(
        path.parent,
        _pictures(path, contents),
        square,
        points_of_49(points),
        kp3d=kp3d,
        smpl=smpl,
        order=(track, np.arange(n)),
    )


def _pictures(path: Path, contents: Contents) -> list[str]:
    """The images' names from the file's folder on; authors' own folders before that are cut off."""
    stored = contents.entries[PICTURES]
    if stored.dtype.kind != "U" or len(stored.shape) != 1:
        raise DatasetError(f"{printable(path)}: {PICTURES} is no list of image files")
    letters = np.ascontiguousarray(stored.mapped()).view(stored.dtype.str[0] + "u4")
    if letters.max(initial=0) > sys.maxunicode:  # Python aborts on a number that is no letter
        raise DatasetError(f"{printable(path)}: {PICTURES} holds what is no text")
    names = [
        tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/")
        for name in stored.mapped().tolist()
    ]
    if not all(names) or any(".." in parts or "\0" in "".join(parts) for parts in names):
        raise DatasetError(f"{printable(path)}: {PICTURES} names what is no image in its folder")
    first = names[0]
    cut = next((at for at in range(len(first)) if path.parent.joinpath(*first[at:]).is_file()), 0)
    found = ["/".join(parts[cut:]) for parts in names]
    problem = missing_pictures(path.parent, found, path.name)
    if problem is not None:
        raise DatasetError(problem)
    return found


def _numbers(
    path: Path, contents: Contents, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    stored = contents.entries.get(name)
    if stored is None or stored.shape != shape or stored.dtype.kind not in "iufb":
        raise DatasetError(f"{printable(path)}: {name} holds no numbers {shape}")
    numbers = stored.mapped().astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DatasetError(f"{printable(path)}: {name} holds values that are not finite")
    return numbers
