"""person_<id>.npz: everything about one person, without pickles.

A person of a long clip is written from stretches of frames and read back in them, so that no more
than one stretch is in memory.
"""

import math
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from staf_cli.body.format import HEADER_ERRORS, open_zip, read_npz
from staf_cli.core.errors import StafError, TracksError
from staf_cli.core.files import atomic
from staf_cli.core.records import Person

# Fields with one value for all frames; the others have a row for each frame.
CONSTANT = (
    *("id", "focal_length", "image_size", "fps", "gender", "body", "weights"),
    *("damaged_packets", "missing_packets"),
)
# Absent where Person has None, as in files of version 0.2.0.
OPTIONAL = (
    *("joint_sigma", "world_poses", "world_trans", "world_joints3d", "world_contacts"),
    *("world_camera", "world_sigma"),
)
MOST_BYTES = 4096  # of a frame, all in float64; also of all headers together
FRAMES_IN_MEMORY = 250  # of a person whose file is read in stretches, about 800 kB
LARGEST_CONSTANTS = 2**16  # bytes
FIELDS = [field.name for field in fields(Person)]
COLUMNS = [name for name in FIELDS if name not in CONSTANT]


def _key(field: str) -> str:
    """The NPZ key of a field of Person: its name, but for the id."""
    return "person" if field == "id" else field


def path_of(folder: Path, person: int) -> Path:
    """Name a person's file.

    Args:
        folder: of the clip's results.
        person: the person's id.

    Returns:
        The path.
    """
    return folder / f"person_{person}.npz"


def save(path: Path, person: Person) -> None:
    """Write a person, every field under its NPZ key; text as unicode scalars.

    Args:
        path: of the npz.
        person: to write.

    Raises:
        OutputError: the file cannot be written.
    """
    known = [name for name in FIELDS if getattr(person, name) is not None]
    arrays = {_key(name): np.asarray(getattr(person, name)) for name in known}
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load(path: Path, frames: int | None = None) -> Person:
    """Read what `save` wrote.

    Args:
        path: of the npz.
        frames: how many the person has, where that is known: a file that unpacks to more is
            not read.

    Returns:
        The person.

    Raises:
        TracksError: the file is missing, damaged, or not a person's.
    """
    with _naming(path):
        found = _read(path, FIELDS, sys.maxsize if frames is None else MOST_BYTES * (frames + 32))
        plain: dict[str, Any] = {
            name: array if array.ndim or name in COLUMNS else array.item()
            for name, array in found.items()
        }
        return Person(**{**plain, "image_size": tuple(found["image_size"].tolist())})


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a person's file into a TracksError that names it."""
    try:
        yield
    except KeyError as error:
        raise TracksError(f"{path}: has no {error}; it was not written by staf run") from error
    except TracksError:
        raise
    except StafError as error:
        raise TracksError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error


def join(path: Path, parts: Sequence[Path]) -> None:
    """Write what `save` would write of a whole person, from the files of the stretches.

    Args:
        path: of the npz.
        parts: the stretches' files, in order.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as out:
        for name in list(_read(parts[0], FIELDS)):
            arrays = (_array(part, name) for part in (parts if name in COLUMNS else parts[:1]))
            first = next(arrays)
            shape = first.shape
            if name in COLUMNS:
                shape = (sum(len(_array(part, "frame")) for part in parts), *shape[1:])
            header = {"descr": npy.dtype_to_descr(first.dtype), "fortran_order": False}
            with out.open(f"{_key(name)}.npy", "w", force_zip64=True) as stream:
                npy.write_array_header_1_0(stream, {**header, "shape": shape})
                stream.write(first.tobytes())
                for array in arrays:
                    stream.write(array.tobytes())


def _read(path: Path, names: Sequence[str], limit: int = sys.maxsize) -> dict[str, NDArray[Any]]:
    """Arrays of a person's file under the names of Person's fields; optional ones may lack."""
    found = read_npz(path, [_key(name) for name in names], limit)
    absent = [name for name in names if name in OPTIONAL and _key(name) not in found]
    return {name: found[_key(name)] for name in names if name not in absent}


def _array(path: Path, name: str) -> NDArray[np.generic]:
    return _read(path, [name])[name]


def stretches(path: Path, most: int = FRAMES_IN_MEMORY) -> Iterator[Person]:
    """Read what `save` or `join` wrote, some frames at a time.

    Args:
        path: of the npz.
        most: frames that are read together.

    Yields:
        The person in stretches, in order.

    Raises:
        TracksError: the file is missing, damaged, or not a person's; a damaged end is found
            only when reading gets there.
    """
    with _naming(path):
        constant = _constant(path)
        with open_zip(path) as archive, ExitStack() as stack:
            present = archive.namelist()
            columns = {
                name: _Column.opened(stack.enter_context(archive.open(f"{_key(name)}.npy")))
                for name in COLUMNS
                if name not in OPTIONAL or f"{_key(name)}.npy" in present
            }
            frames = columns["frame"].shape[0]
            if any(column.shape[0] != frames for column in columns.values()):
                raise TracksError(f"{path}: its arrays differ in length; run the clip again")
            for first in range(0, frames, most):
                rows = min(most, frames - first)
                found: dict[str, Any] = {
                    name: column.read(rows) for name, column in columns.items()
                }
                yield Person(**found, **constant)


def _constant(path: Path) -> dict[str, Any]:
    """What holds for all frames. Raises KeyError for a file without it."""
    found = _read(path, CONSTANT, LARGEST_CONSTANTS)
    plain: dict[str, Any] = {name: found[name].tolist() for name in CONSTANT}
    return {**plain, "image_size": tuple(plain["image_size"])}


@dataclass(frozen=True)
class _Column:
    """An array in a zip, read from its first row on."""

    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def opened(cls, stream: IO[bytes]) -> "_Column":
        """Raises ValueError for anything but numbers with a row a frame."""
        try:
            npy.read_magic(stream)
            shape, fortran, dtype = npy.read_array_header_1_0(stream)
        except HEADER_ERRORS as error:
            raise ValueError("is no numpy array") from error
        row = math.prod(shape[1:]) * dtype.itemsize
        if dtype.kind not in "biuf" or fortran or not shape or min(shape) < 0 or row > MOST_BYTES:
            raise ValueError(f"holds {dtype!s:.40}, not numbers with a row a frame")
        return cls(stream, shape, dtype)

    def read(self, rows: int) -> NDArray[Any]:
        """The next rows. Raises ValueError where the file has fewer."""
        size = rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        data = self.stream.read(size)
        if len(data) < size:
            raise ValueError("is cut off")
        return np.frombuffer(bytearray(data), self.dtype).reshape(rows, *self.shape[1:])
