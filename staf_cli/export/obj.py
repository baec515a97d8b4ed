"""meshes/person_<id>/<frame>.obj: one Wavefront OBJ mesh for each person and frame; by trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.obj import export_obj

from staf_cli.export import meshes
from staf_cli.export.scene import Scene

FILES = "meshes/person_[0-9]*/[0-9]*.obj"
SUFFIX = ".obj"


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each person and frame."""
    return meshes.names(scene, SUFFIX)


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the meshes of all people (axes and names: meshes.py).

    Args:
        folder: The result folder.
        scene: What to write.

    Returns:
        An iterator that writes: it yields each file's path once the file is complete.
    """
    return meshes.write(folder, scene, SUFFIX, _encode)


def _encode(mesh: trimesh.Trimesh) -> bytes:
    text: str = export_obj(mesh, include_normals=False, include_color=False, digits=5)
    return text.encode()
