"""angles.csv: joint angles by the ISB's convention, one line for each person and frame."""

import csv
from collections.abc import Iterator
from pathlib import Path

from staf_cli.core.files import atomic
from staf_cli.export.anatomy import clinical_angles
from staf_cli.export.motion import Y_UP, motion_of
from staf_cli.export.scene import Scene

FILES = "angles.csv"


def names(_: Scene) -> list[str]:
    """Return the file's name."""
    return [FILES]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the angles of all people in degrees, sorted by person and frame.

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        The file's path.
    """
    path = folder / FILES
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for number, person in enumerate(scene.placed().people):
            angles = clinical_angles(motion_of(person, Y_UP))
            if number == 0:
                writer.writerow(["person", "frame", "time", *angles])
            for row, frame in enumerate(person.frame.tolist()):
                values = [f"{values[row]:.3f}" for values in angles.values()]
                writer.writerow([person.id, frame, f"{person.time[row]:.6f}", *values])
    yield path
