"""meshes/person_<id>/<frame>.*: the posed meshes of all people, one file a person and frame.

The part that obj.py and ply.py share. Metres, y up, the video camera at the origin. Files are
named by the frame's index, six digits.
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


def names(scene: Scene, suffix: str) -> list[str]:
    """Return the files' names: one for each person and frame."""
    return [
        _name(person, frame, suffix) for person in scene.people for frame in person.frame.tolist()
    ]


def _name(person: Person, frame: int, suffix: str) -> str:
    return f"meshes/person_{person.id}/{frame:06d}{suffix}"


def write(
    folder: Path, scene: Scene, suffix: str, encode: Callable[[trimesh.Trimesh], bytes]
) -> Iterator[Path]:
    """Write the meshes of all people.

    Args:
        folder: The result folder.
        scene: What to write.
        suffix: Of the files' names, with its dot.
        encode: Makes a file's content from a mesh.

    Yields:
        Each file's path, once the file is complete.
    """
    for person in scene.people:
        for frame, posed in _posed(person, scene.body):
            path = folder / _name(person, frame, suffix)
            mesh = trimesh.Trimesh(posed, scene.body.faces, process=False)
            with atomic(path) as temporary:
                temporary.write_bytes(encode(mesh))
            yield path


def _posed(person: Person, body: Body) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each frame's index and vertices (V, 3)."""
    for start in range(0, len(person.frame), CHUNK):
        rows = slice(start, start + CHUNK)
        posed = vertices(person, body, rows) @ Y_UP.astype(np.float32)
        yield from zip(person.frame[rows].tolist(), posed, strict=True)
