"""looks.npz: looks of the landmark network at people who were followed while tracks were found.

The pass that reads landmarks does not make them again. Without pickles.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from staf_cli.body.format import read_npz
from staf_cli.core.errors import StafError, TracksError
from staf_cli.core.files import atomic
from staf_cli.landmarks.reading import Landmarks, joined

FILE = "looks.npz"
FIELDS = [field.name for field in fields(Landmarks)]
MOST_BYTES = 2**31  # of the file, unpacked


def save(path: Path, looks: Mapping[int, Landmarks]) -> None:
    """Write looks, every field under its name.

    Args:
        path: of the npz.
        looks: by frame, at least one.

    Raises:
        OutputError: the file cannot be written.
    """
    everybody = joined(list(looks.values()))
    frame = np.repeat(list(looks), [len(some.score) for some in looks.values()])
    arrays = {name: getattr(everybody, name) for name in FIELDS}
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, frame=frame, **arrays)


def load(path: Path) -> dict[int, Landmarks]:
    """Read what `save` wrote.

    Args:
        path: of the npz.

    Returns:
        The looks by frame.

    Raises:
        TracksError: the file is missing, damaged, or holds something else.
    """
    try:
        arrays = read_npz(path, ["frame", *FIELDS], MOST_BYTES)
    except KeyError as error:
        raise TracksError(f"{path}: has no {error}; run the clip again") from error
    except StafError as error:
        raise TracksError(str(error)) from error
    looks: dict[int, Landmarks] = {}
    try:
        for frame in np.unique(arrays["frame"]).tolist():
            here = arrays["frame"] == frame
            looks[frame] = Landmarks(**{name: arrays[name][here] for name in FIELDS})
    except (IndexError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error
    return looks
