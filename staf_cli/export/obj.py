"""meshes/person_<id>/<frame>.obj: one Wavefront mesh a person and frame, through trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.obj import export_obj

from staf_cli.body import Body
from staf_cli.files import atomic
from staf_cli.people import vertices
from staf_cli.records import Person

CHUNK = 16  # meshes computed at a time
TO_Y_UP = (1, -1, -1)  # the camera's y points down and z away; 3D programs expect y up


def save(folder: Path, person: Person, body: Body) -> Iterator[Path]:
    """Write a person's meshes one by one: metres, the video camera at the origin, y up.

    Files are named by the frame's index, six digits. Yields each file as it is done.
    """
    for start in range(0, len(person.frame), CHUNK):
        rows = slice(start, start + CHUNK)
        meshes = vertices(person, body, rows) * TO_Y_UP
        for frame, mesh in zip(person.frame[rows].tolist(), meshes, strict=True):
            path = folder / f"person_{person.person}" / f"{frame:06d}.obj"
            solid = trimesh.Trimesh(mesh, body.faces, process=False)
            text = export_obj(solid, include_normals=False, include_color=False, digits=5)
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            yield path
