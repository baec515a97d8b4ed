"""Results as files, one module a format; each says what it writes and reads it back if it can.

`FORMATS` are those that --export and `staf export` know by name. person_npz and tracks_csv
are the result itself and always written.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from staf_cli.export import amass, bvh, glb, joints_csv, obj, openpose, ply
from staf_cli.export.scene import Scene

__all__ = ["FORMATS", "Format", "Scene"]


class Format(Protocol):
    """What a format's module offers."""

    FILES: str  # a glob in the result folder for every file it may have written there

    def count(self, scene: Scene) -> int:
        """How many files `write` will make."""

    def write(self, folder: Path, scene: Scene) -> Iterator[Path]:
        """Write a scene into a result folder, and yield each file as it is done.

        Raises OutputError where that cannot be written to.
        """


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "amass": amass,
        "bvh": bvh,
        "csv": joints_csv,
        "glb": glb,
        "obj": obj,
        "openpose": openpose,
        "ply": ply,
    }
)
