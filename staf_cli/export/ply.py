"""meshes/person_<id>/<frame>.ply: one binary mesh a person and frame, through trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.ply import export_ply

from staf_cli.export import meshes
from staf_cli.export.meshes import count
from staf_cli.export.scene import Scene

__all__ = ["FILES", "count", "write"]

FILES = "meshes/person_[0-9]*/[0-9]*.ply"


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody's meshes (meshes.py) one by one, and yield each file as it is done."""
    return meshes.write(folder, scene, ".ply", _encode)


def _encode(solid: trimesh.Trimesh) -> bytes:
    data: bytes = export_ply(solid, vertex_normal=False)
    return data
