"""bvh/person_<id>.bvh: a skeleton's motion for animation programs (Biovision, 1999)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.core.files import atomic
from staf_cli.core.records import Float
from staf_cli.export.motion import (
    Y_UP,
    Motion,
    mean_betas,
    motion_of,
    resample,
    rest_pose,
)
from staf_cli.export.rigs import bone_names
from staf_cli.export.scene import Scene

FILES = "bvh/person_[0-9]*.bvh"
CENTIMETRES = 100
ROTATION_CHANNELS = "Zrotation Xrotation Yrotation"
END_SITE = 0.5  # length of hand, foot and head over that of the bone before them


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each person."""
    return [f"bvh/person_{person.id}.bvh" for person in scene.people]


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the skeleton and the motion of all people.

    Centimetres, y up, the origin on the ground or at the video camera; degrees, R = Rz Rx Ry. A
    file begins with the person's first frame and has a constant frame rate (`resample`).

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    for person, name in zip(scene.placed().people, names(scene), strict=True):
        path = folder / name
        _, joints = rest_pose(scene.body, mean_betas(person))
        motion = resample(motion_of(person, Y_UP), person.fps)
        with atomic(path) as temporary, temporary.open("w", encoding="ascii") as stream:
            stream.write("HIERARCHY\n")
            stream.writelines(_hierarchy(joints * CENTIMETRES, bone_names(scene.rig), 0, ""))
            stream.write(f"MOTION\nFrames: {len(motion.time)}\nFrame Time: {1 / person.fps:.8f}\n")
            np.savetxt(stream, _channels(motion), fmt="%.4f")
        yield path


def _hierarchy(joints: np.ndarray, bones: Sequence[str], joint: int, indent: str) -> Iterator[str]:
    """Yield the lines of a joint and of all below it; joints: (24, 3) cm in the rest pose."""
    parent = SMPL_PARENTS[joint]
    children = _children(joint)
    inner = indent + "  "
    if parent < 0:  # no offset: some readers add it to the position channels, others do not
        yield f"ROOT {bones[joint]}\n{{\n{inner}OFFSET 0 0 0\n"
        yield f"{inner}CHANNELS 6 Xposition Yposition Zposition {ROTATION_CHANNELS}\n"
        bone = np.zeros(3)
    else:
        bone = joints[joint] - joints[parent]
        yield f"{indent}JOINT {bones[joint]}\n{indent}{{\n{inner}OFFSET {_format(bone)}\n"
        yield f"{inner}CHANNELS 3 {ROTATION_CHANNELS}\n"
    for child in children:
        yield from _hierarchy(joints, bones, child, inner)
    if not children:
        tip = _format(bone * END_SITE)
        yield f"{inner}End Site\n{inner}{{\n{inner}  OFFSET {tip}\n{inner}}}\n"
    yield f"{indent}}}\n"


def _channels(motion: Motion) -> Float:
    """Return the table (F, 3 + 24 * 3), in the order in which `_hierarchy` visits the joints."""
    frames = len(motion.time)
    rotations = Rotation.from_matrix(motion.rotations[:, _depth_first(0)].reshape(-1, 3, 3))
    angles = rotations.as_euler("ZXY", degrees=True).reshape(frames, -1)
    # Programs interpolate the angles, so they must not jump by 360 degrees.
    continuous = np.unwrap(angles, period=360, axis=0)
    return np.concatenate([motion.pelvis * CENTIMETRES, continuous], 1)


def _depth_first(joint: int) -> list[int]:
    """Return the joint and all below it."""
    return [joint, *(below for child in _children(joint) for below in _depth_first(child))]


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(SMPL_PARENTS) if parent == joint]


def _format(vector: Float) -> str:
    return " ".join(f"{number:.4f}" for number in vector)
