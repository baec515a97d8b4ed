"""Other programs' file formats, as --export and `staf export` know them by name.

`FORMATS` is the one place where a format is added. A format is a module of this package with a
glob and two functions, and a record in `FORMATS` that names them. For example, for a text file
with each person's path over the ground, the module staf_cli/export/paths.py:

    FILES = "paths/person_[0-9]*.txt"

    def names(scene: Scene) -> list[str]:
        return [f"paths/person_{person.id}.txt" for person in scene.people]

    def write(folder: Path, scene: Scene) -> Iterator[Path]:
        for person, name in zip(scene.people, names(scene), strict=True):
            path = folder / name
            with atomic(path) as temporary:
                np.savetxt(temporary, person.joints3d[:, 0, [0, 2]])
            yield path

and the record:

    "paths": Format(paths.FILES, paths.names, paths.write),

The name is repeated in `EXPORT_FORMATS` (pipeline/options.py), from which `--help` is made. The
result folder and `staf_cli.api` read `FORMATS`. CONTRIBUTING.md lists what else a format needs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from staf_cli.export import (
    amass,
    angles,
    bvh,
    c3d,
    camera_csv,
    glb,
    joints_csv,
    mot,
    obj,
    openpose,
    ply,
    trc,
)
from staf_cli.export.scene import Scene

__all__ = ["FORMATS", "WORLD_FORMATS", "Format", "Scene"]

# Those that are written in the world, if asked to.
WORLD_FORMATS = ("amass", "angles", "bvh", "c3d", "csv", "glb", "mot", "trc")


@dataclass(frozen=True)
class Format:
    """A file format: which files it consists of, and how they are written."""

    files: str  # a glob in the result folder that matches all that `write` makes
    # Names exactly the files that `write` will make, by their paths in the result folder. Raises
    # UsageError where the scene lacks what the format needs.
    names: Callable[[Scene], list[str]]
    # Writes into a result folder and yields each file's path once the file is complete. Raises
    # OutputError where it cannot be written.
    write: Callable[[Path, Scene], Iterator[Path]]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "amass": Format(amass.FILES, amass.names, amass.write),
        "angles": Format(angles.FILES, angles.names, angles.write),
        "bvh": Format(bvh.FILES, bvh.names, bvh.write),
        "c3d": Format(c3d.FILES, c3d.names, c3d.write),
        "camera": Format(camera_csv.FILES, camera_csv.names, camera_csv.write),
        "csv": Format(joints_csv.FILES, joints_csv.names, joints_csv.write),
        "glb": Format(glb.FILES, glb.names, glb.write),
        "mot": Format(mot.FILES, mot.names, mot.write),
        "obj": Format(obj.FILES, obj.names, obj.write),
        "openpose": Format(openpose.FILES, openpose.names, openpose.write),
        "ply": Format(ply.FILES, ply.names, ply.write),
        "trc": Format(trc.FILES, trc.names, trc.write),
    }
)
