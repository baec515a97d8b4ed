"""meshes/person_<id>/<frame>.*: a person's posed meshes one after another, one a file.

Metres, the video camera at the origin, y up. Files are named by the frame's index, six digits.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from staf_cli.body.posing import vertices
from staf_cli.body.skinning import Body
from staf_cli.core.files import atomic
from staf_cli.core.records import Person
from staf_cli.export.motion import Y_UP
from staf_cli.export.scene import Scene

CHUNK = 16  # meshes computed at a time


def count(scene: Scene) -> int:
    """One file a person and frame."""
    return sum(len(person.frame) for person in scene.people)


def write(
    folder: Path, scene: Scene, suffix: str, encode: Callable[[trimesh.Trimesh], bytes]
) -> Iterator[Path]:
    """Write everybody's meshes into a result folder, and yield each file as it is done."""
    for person in scene.people:
        for frame, posed in _posed(person, scene.body):
            path = folder / "meshes" / f"person_{person.id}" / f"{frame:06d}{suffix}"
            solid = trimesh.Trimesh(posed, scene.body.faces, process=False)
            with atomic(path) as temporary:
                temporary.write_bytes(encode(solid))
            yield path


def _posed(person: Person, body: Body) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each frame's index and vertices (V, 3)."""
    for start in range(0, len(person.frame), CHUNK):
        rows = slice(start, start + CHUNK)
        posed = vertices(person, body, rows) @ Y_UP.astype(np.float32)
        yield from zip(person.frame[rows].tolist(), posed, strict=True)
