"""Small tables of labelled images as SPIN publishes them, with their images."""

from pathlib import Path

import cv2
import numpy as np

J17_OF_24 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 14, 16, 17]  # SPIN's J24_TO_J17
SIZE = 108, 96  # width, height px
H36M_NAMES = [
    f"images/{clip}_{number:06d}.jpg"
    for clip in ("S9_Directions_1.54138969", "S11_Walking.60457274")
    for number in range(1, 36, 5)
]
DHP_NAMES = [
    f"mpi_inf_3dhp_test_set/TS{subject}/imageSequence/img_{number:06d}.jpg"
    for subject in (1, 5)
    for number in (3, 4, 5, 6, 9, 10, 11)
]


def write_images(root: Path, names: list[str]) -> None:
    """Grey images."""
    grey = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), grey)


def entries_of(names: list[str], own: np.ndarray) -> dict[str, np.ndarray]:
    """The entries of a table, of 14 or 17 joints (N, J, 3) m; the pelvis is the origin."""
    rng = np.random.default_rng(5)
    joints = np.zeros((len(names), 24, 4))
    joints[:, J17_OF_24[: own.shape[1]], :3] = own
    joints[:, J17_OF_24, 3] = 1
    return {
        "imgname": np.array(names),
        "center": rng.uniform(40, 60, (len(names), 2)),
        "scale": rng.uniform(0.3, 0.4, len(names)),
        "part": np.ones((len(names), 24, 3)),
        "S": joints,
    }
