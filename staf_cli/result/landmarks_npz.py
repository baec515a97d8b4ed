"""landmarks_<id>.npz: what the landmark network saw of one person, without pickles."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.body.format import read_npz
from staf_cli.core.errors import StafError, TracksError
from staf_cli.core.files import atomic
from staf_cli.core.records import LandmarkTrack

FIELDS = [field.name for field in fields(LandmarkTrack)]
MOST_BYTES = 2**30  # of a file, unpacked: a day of video


def path_of(folder: Path, person: int) -> Path:
    """Name the file of a person's landmarks.

    Args:
        folder: of the clip's results.
        person: the person's id.

    Returns:
        The path.
    """
    return folder / f"landmarks_{person}.npz"


def save(path: Path, seen: LandmarkTrack) -> None:
    """Write a person's landmarks, every field under its name; the id is "person".

    Args:
        path: of the npz.
        seen: to write.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays = {_key(name): np.asarray(getattr(seen, name)) for name in FIELDS}
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load(path: Path) -> LandmarkTrack:
    """Read what `save` wrote.

    Args:
        path: of the npz.

    Returns:
        The landmarks.

    Raises:
        TracksError: the file is missing, damaged, or holds something else.
    """
    try:
        found = read_npz(path, [_key(name) for name in FIELDS], MOST_BYTES)
        arrays: dict[str, Any] = {name: found[_key(name)] for name in FIELDS}
        return LandmarkTrack(**{**arrays, "id": int(arrays["id"])})
    except KeyError as error:
        raise TracksError(f"{path}: has no {error}; run the clip again") from error
    except StafError as error:
        raise TracksError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error


def _key(field: str) -> str:
    return "person" if field == "id" else field
