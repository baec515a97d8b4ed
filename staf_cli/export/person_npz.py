"""person_<id>.npz: everything about one person, without pickles."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from staf_cli.body_format import read_npz
from staf_cli.errors import StafError, TracksError
from staf_cli.files import atomic
from staf_cli.records import Person


def path_of(folder: Path, person: int) -> Path:
    """Where a person's file lies in a result folder."""
    return folder / f"person_{person}.npz"


def save(path: Path, person: Person) -> None:
    """Write every field of Person under its own name; text as unicode scalars."""
    arrays = {field.name: np.asarray(getattr(person, field.name)) for field in fields(Person)}
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load(path: Path) -> Person:
    """Read what `save` wrote. Raises TracksError when the file is missing, damaged or foreign."""
    names = [field.name for field in fields(Person)]
    try:
        found = read_npz(path, names)
        missing = [name for name in names if name not in found]
        if missing:
            raise TracksError(f"{path}: has no {missing[0]}; it was not written by staf run")
        plain = {name: array if array.ndim else array.item() for name, array in found.items()}
        plain["image_size"] = tuple(found["image_size"].tolist())
        return Person(**plain)  # type: ignore[arg-type]
    except TracksError:
        raise
    except StafError as error:
        raise TracksError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error
