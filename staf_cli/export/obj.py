"""meshes/person_<id>/<frame>.obj: one Wavefront mesh a person and frame, through trimesh."""

from collections.abc import Iterator
from pathlib import Path

import trimesh
from trimesh.exchange.obj import export_obj

from staf_cli.export import meshes
from staf_cli.export.meshes import count
from staf_cli.export.scene import Scene

__all__ = ["FILES", "count", "write"]

FILES = "meshes/person_[0-9]*/[0-9]*.obj"


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody's meshes (meshes.py) one by one, and yield each file as it is done."""
    return meshes.write(folder, scene, ".obj", _encode)


def _encode(solid: trimesh.Trimesh) -> bytes:
    text: str = export_obj(solid, include_normals=False, include_color=False, digits=5)
    return text.encode()
