"""meshes/person_<id>/<frame>.ply: one binary mesh a person and frame, through trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.ply import export_ply

from staf_cli.body import Body
from staf_cli.export.meshes import meshes
from staf_cli.export.scene import Scene
from staf_cli.files import atomic
from staf_cli.records import Person

FILES = "meshes/person_[0-9]*/[0-9]*.ply"


def count(scene: Scene) -> int:
    """One file a person and frame."""
    return sum(len(person.frame) for person in scene.people)


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody's meshes one by one, and yield each file as it is done."""
    for person in scene.people:
        yield from save(folder / "meshes", person, scene.body)


def save(folder: Path, person: Person, body: Body) -> Iterator[Path]:
    """Write a person's meshes one by one: metres, the video camera at the origin, y up.

    Files are named by the frame's index, six digits. Yields each file as it is done.
    """
    for frame, vertices in meshes(person, body):
        path = folder / f"person_{person.person}" / f"{frame:06d}.ply"
        solid = trimesh.Trimesh(vertices, body.faces, process=False)
        with atomic(path) as temporary:
            temporary.write_bytes(export_ply(solid, vertex_normal=False))
        yield path
