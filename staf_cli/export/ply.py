"""meshes/person_<id>/<frame>.ply: one binary PLY mesh for each person and frame; by trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.ply import export_ply

from staf_cli.export import meshes
from staf_cli.export.scene import Scene

FILES = "meshes/person_[0-9]*/[0-9]*.ply"
SUFFIX = ".ply"


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
    content: bytes = export_ply(mesh, vertex_normal=False)
    return content
