"""mot/person_<id>.mot: coordinates of OpenSim's full-body model (Rajagopal et al. 2016)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from staf_cli.core.files import atomic
from staf_cli.core.records import Float
from staf_cli.export.anatomy import (
    SIDES,
    TRUNK,
    continuous,
    euler,
    limb_rotations,
    trunk_rotations,
    world_rotations,
)
from staf_cli.export.motion import Y_UP, Motion, motion_of, resample
from staf_cli.export.scene import Scene

FILES = "mot/person_[0-9]*.mot"
# By joint its coordinates: place in the angles about Z, X, Y, sign, and the value at our zero.
LIMB_COORDINATES = {
    "hip": {"hip_flexion": (0, 1, 0), "hip_adduction": (1, 1, 0), "hip_rotation": (2, 1, 0)},
    "knee": {"knee_angle": (0, -1, 0)},
    "ankle": {"ankle_angle": (0, 1, 0), "subtalar_angle": (1, 1, 0)},
    "toes": {"mtp_angle": (0, 1, 0)},
    "shoulder": {"arm_flex": (0, 1, 0), "arm_add": (1, 1, 0), "arm_rot": (2, 1, 0)},
    "elbow": {"elbow_flex": (0, 1, 0), "pro_sup": (2, 1, 90)},
}


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each person."""
    return [f"mot/person_{person.id}.mot" for person in scene.people]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the coordinates of all people: degrees and metres, y up, constant rate (`resample`).

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    for person, name in zip(scene.placed().people, names(scene), strict=True):
        path = folder / name
        motion = resample(motion_of(person, Y_UP), person.fps)
        columns = {"time": motion.time, **coordinates(motion)}
        with atomic(path) as temporary, temporary.open("w", encoding="ascii") as stream:
            stream.write(f"{Path(name).stem}\nversion=1\nnRows={len(motion.time)}\n")
            stream.write(f"nColumns={len(columns)}\ninDegrees=yes\nendheader\n")
            stream.write("\t".join(columns) + "\n")
            np.savetxt(stream, np.stack(list(columns.values()), 1), fmt="%.6f", delimiter="\t")
        yield path


def coordinates(motion: Motion) -> dict[str, Float]:
    """Compute the model's coordinates, in degrees and metres.

    Args:
        motion: F frames, y up.

    Returns:
        By the model's names (F,). Angles go on beyond 180 degrees rather than jump.
    """
    turned = world_rotations(motion.rotations)
    pelvis, trunk = turned[:, 0] @ TRUNK, trunk_rotations(turned)
    values: dict[str, Float] = {}
    for names, rotations in (
        (("pelvis_tilt", "pelvis_list", "pelvis_rotation"), pelvis),
        (("lumbar_extension", "lumbar_bending", "lumbar_rotation"), trunk),
    ):
        values |= zip(names, np.degrees(continuous(euler(rotations, "ZXY"))).T, strict=True)
    values |= zip(("pelvis_tx", "pelvis_ty", "pelvis_tz"), motion.pelvis.T, strict=True)
    for side in SIDES:
        for joint, parts in LIMB_COORDINATES.items():
            solved = continuous(euler(limb_rotations(turned, joint, side), "ZXY"))
            for part, (place, sign, zero) in parts.items():
                values[f"{part}_{side[0]}"] = sign * np.degrees(solved[:, place]) + zero
    return values
