"""meshes/person_<id>/<frame>.obj: one Wavefront mesh a person and frame, through trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.obj import export_obj

from staf_cli.body import Body
from staf_cli.export.meshes import meshes
from staf_cli.export.scene import Scene
from staf_cli.files import atomic
from staf_cli.records import Person

FILES = "meshes/person_[0-9]*/[0-9]*.obj"


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
        path = folder / f"person_{person.person}" / f"{frame:06d}.obj"
        solid = trimesh.Trimesh(vertices, body.faces, process=False)
        text = export_obj(solid, include_normals=False, include_color=False, digits=5)
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        yield path
