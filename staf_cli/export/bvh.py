"""bvh/person_<id>.bvh: a skeleton's motion for animation programs (Biovision, 1999)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.core.files import atomic
from staf_cli.core.records import Float
from staf_cli.export.motion import JOINT_NAMES, Y_UP, Motion, at_rest, mean_shape, motion_of, steady
from staf_cli.export.scene import Scene

FILES = "bvh/person_[0-9]*.bvh"
CENTIMETRES = 100
TURN = "Zrotation Xrotation Yrotation"
TIP = 0.5  # a hand, foot or head goes on for half of the bone before it


def count(scene: Scene) -> int:
    """One file a person."""
    return len(scene.people)


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write everybody's skeleton and motion, and yield each file as it is done.

    Centimetres, y up, the video camera at the origin; degrees, R = Rz Rx Ry. A file begins with
    the person's first frame and has a constant rate (`steady`).
    """
    for person in scene.people:
        path = folder / "bvh" / f"person_{person.id}.bvh"
        _, joints = at_rest(scene.body, mean_shape(person))
        motion = steady(motion_of(person, Y_UP), person.fps)
        with atomic(path) as temporary, temporary.open("w", encoding="ascii") as stream:
            stream.write("HIERARCHY\n")
            stream.writelines(_hierarchy(joints * CENTIMETRES, 0, ""))
            stream.write(f"MOTION\nFrames: {len(motion.time)}\nFrame Time: {1 / person.fps:.8f}\n")
            np.savetxt(stream, _channels(motion), fmt="%.4f")
        yield path


def _hierarchy(joints: np.ndarray, joint: int, indent: str) -> Iterator[str]:
    """A joint and all below it. joints (24, 3) cm at rest."""
    parent = SMPL_PARENTS[joint]
    children = _children(joint)
    inner = indent + "  "
    if parent < 0:  # its channels say where it is; an offset would be added by some readers only
        yield f"ROOT {JOINT_NAMES[joint]}\n{{\n{inner}OFFSET 0 0 0\n"
        yield f"{inner}CHANNELS 6 Xposition Yposition Zposition {TURN}\n"
        bone = np.zeros(3)
    else:
        bone = joints[joint] - joints[parent]
        yield f"{indent}JOINT {JOINT_NAMES[joint]}\n{indent}{{\n{inner}OFFSET {_numbers(bone)}\n"
        yield f"{inner}CHANNELS 3 {TURN}\n"
    for child in children:
        yield from _hierarchy(joints, child, inner)
    if not children:
        yield f"{inner}End Site\n{inner}{{\n{inner}  OFFSET {_numbers(bone * TIP)}\n{inner}}}\n"
    yield f"{indent}}}\n"


def _channels(motion: Motion) -> Float:
    """(F, 3 + 24 * 3) in the order in which `_hierarchy` visits the joints."""
    frames = len(motion.time)
    turns = Rotation.from_matrix(motion.rotations[:, _order(0)].reshape(-1, 3, 3))
    angles = turns.as_euler("ZXY", degrees=True).reshape(frames, -1)
    smooth = np.unwrap(angles, period=360, axis=0)  # a jump of a turn would be interpolated
    return np.concatenate([motion.pelvis * CENTIMETRES, smooth], 1)


def _order(joint: int) -> list[int]:
    """The joint and all below it, depth first."""
    return [joint, *(below for child in _children(joint) for below in _order(child))]


def _children(joint: int) -> list[int]:
    return [child for child, parent in enumerate(SMPL_PARENTS) if parent == joint]


def _numbers(vector: Float) -> str:
    return " ".join(f"{number:.4f}" for number in vector)
