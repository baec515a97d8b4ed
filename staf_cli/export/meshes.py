"""A person's posed meshes one after another, for the formats that hold one mesh a file."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from staf_cli.body import Body
from staf_cli.export.motion import Y_UP
from staf_cli.people import vertices
from staf_cli.records import Person

CHUNK = 16  # meshes computed at a time


def meshes(person: Person, body: Body) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each frame's index and vertices (V, 3), metres, the video camera at the origin, y up."""
    for start in range(0, len(person.frame), CHUNK):
        rows = slice(start, start + CHUNK)
        posed = vertices(person, body, rows) @ Y_UP.astype(np.float32)
        yield from zip(person.frame[rows].tolist(), posed, strict=True)
