"""camera.csv: the camera's path, a line for each frame; for spreadsheets and other programs."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.errors import UsageError
from staf_cli.core.files import atomic
from staf_cli.export.scene import Scene

FILES = "camera.csv"
COLUMNS = ["frame", "shot", "known", "x", "y", "z", "qx", "qy", "qz", "qw", "pan", "tilt", "roll"]


def names(scene: Scene) -> list[str]:
    """Return the file's name. Raises UsageError where the camera's path is not known."""
    _path_of(scene)
    return [FILES]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write where the camera is and how it is turned, in the frame of its shot's first camera.

    Columns: known is 1 where the rotation was measured, else 0; x, y, z in m; qx to qw the unit
    quaternion of the rotation from the frame's camera to the first; pan to the right, tilt up and
    roll clockwise in degrees, turned in this order.

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        The file's path.
    """
    motion = _path_of(scene)
    turns = Rotation.from_matrix(motion.rotation)
    quaternions = turns.as_quat(canonical=True)
    angles = turns.as_euler("YXZ", degrees=True)
    numbers = np.concatenate([motion.position, quaternions, angles], 1)
    path = folder / FILES
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, values in enumerate(numbers.tolist()):
            start = [motion.frame[row], motion.shot[row], int(motion.known[row])]
            writer.writerow(start + [f"{value + 0.0:.6f}" for value in values])
    yield path


def _path_of(scene: Scene) -> CameraMotion:
    """The camera's motion. Raises UsageError where it is not known."""
    if scene.camera is None:
        raise UsageError("camera: nothing is known of its motion; run the clip with --camera auto")
    return scene.camera
