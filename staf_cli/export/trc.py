"""trc/person_<id>.trc: markers for OpenSim (Motion Analysis' TRC, version 4)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from staf_cli.core.files import atomic
from staf_cli.export.markers import Markers, marker_files, markers_of
from staf_cli.export.scene import Scene

FILES = "trc/person_[0-9]*.trc"


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each person."""
    return marker_files(scene, "trc")


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the markers of all people in mm, y up, at a constant rate (`resample`).

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    for person, name in zip(scene.placed().people, names(scene), strict=True):
        path = folder / name
        markers = markers_of(person, scene.body)
        frames = len(markers.time)
        numbers = np.arange(1, frames + 1)
        table = np.column_stack([numbers, markers.time, markers.places.reshape(frames, -1)])
        with atomic(path) as temporary, temporary.open("w", encoding="ascii") as stream:
            stream.write(_header(path.name, markers, person.fps))
            formats = ["%d", "%.6f"] + ["%.3f"] * (table.shape[1] - 2)
            np.savetxt(stream, table, fmt=formats, delimiter="\t")
        yield path


def _header(name: str, markers: Markers, fps: float) -> str:
    frames, count = len(markers.time), len(markers.names)
    rate = f"{fps:.6f}"
    values = {
        "DataRate": rate,
        "CameraRate": rate,
        "NumFrames": str(frames),
        "NumMarkers": str(count),
        "Units": "mm",
        "OrigDataRate": rate,
        "OrigDataStartFrame": "1",
        "OrigNumFrames": str(frames),
    }
    axes = [f"{axis}{number}" for number in range(1, count + 1) for axis in "XYZ"]
    rows = [
        ["PathFileType", "4", "(X/Y/Z)", name],
        [*values],
        [*values.values()],
        ["Frame#", "Time", *(cell for marker in markers.names for cell in (marker, "", ""))],
        ["", "", *axes],
        [],
    ]
    return "".join("\t".join(row) + "\n" for row in rows)
