"""joints.csv: one line for each person, frame and joint; for spreadsheets and statistics."""

import csv
from collections.abc import Iterator
from pathlib import Path

from staf_cli.body.format import JOINT_COUNT
from staf_cli.core.files import atomic
from staf_cli.core.options import Space
from staf_cli.core.records import Person
from staf_cli.export.motion import JOINT_NAMES
from staf_cli.export.scene import Scene

FILES = "joints.csv"
COLUMNS = [
    *("person", "frame", "time", "joint", "x", "y", "z", "u", "v", "score", "sigma"),
    "contact",
]
CONTACTS = {"left_ankle": 0, "left_foot": 1, "right_ankle": 2, "right_foot": 3}  # heels and toes


def names(_: Scene) -> list[str]:
    """Return the file's name."""
    return [FILES]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write all joints of all people, sorted by person, frame and SMPL's order of joints.

    Columns: time in s; x, y, z in m, in the world (y up) or the camera frame (x right, y down,
    z forward); u, v in px; score is that of the person's detection, 0 where there was none; sigma
    in m is empty where the person was not fitted; contact is the probability that the heel (at the
    ankle) or the toes (at the foot) are on the ground, empty for other joints and where the person
    is not placed in the world.

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        The file's path.
    """
    path = folder / FILES
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for person in scene.people:
            writer.writerows(_rows(person, scene.space))
    yield path


def _rows(person: Person, space: Space) -> Iterator[list[str]]:
    places = person.world_joints3d if space == "world" else person.joints3d
    assert places is not None
    for row, frame in enumerate(person.frame.tolist()):
        start = [str(person.id), str(frame), f"{person.time[row]:.6f}"]
        score = f"{person.score[row]:.3f}"
        known = person.joint_sigma
        sigmas = [""] * JOINT_COUNT if known is None else [f"{sigma:.4f}" for sigma in known[row]]
        joints = zip(JOINT_NAMES, places[row], person.joints2d[row], sigmas, strict=True)
        for name, point, pixel, sigma in joints:
            place = [f"{value:.5f}" for value in point] + [f"{value:.3f}" for value in pixel]
            yield [*start, name, *place, score, sigma, _contact(person, row, name)]


def _contact(person: Person, row: int, joint: str) -> str:
    if person.world_contacts is None or joint not in CONTACTS:
        return ""
    return f"{person.world_contacts[row, CONTACTS[joint]]:.3f}"
