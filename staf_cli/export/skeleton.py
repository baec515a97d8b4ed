"""A person as a moving skeleton whose joints turn about their parents, as glTF holds it.

`with_root` puts a joint above the pelvis that carries the person's place and heading, which game
engines call root motion.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.core.records import Float, Person
from staf_cli.export.motion import JOINT_NAMES, Y_UP, motion_of

FEET = tuple(
    JOINT_NAMES.index(f"{side}_{part}") for side in ("left", "right") for part in ("ankle", "foot")
)


@dataclass(frozen=True)
class Skeleton:
    """J joints, parents before their children, over F frames; y up."""

    names: tuple[str, ...]  # J
    parents: tuple[int, ...]  # J, -1 for the first
    rest: Float  # (J, 3) m, places at rest, where no joint is turned
    time: Float  # (F,) s
    turns: Mapping[int, Float]  # by joint (F, 3, 3), relative to the parent; others stay at rest
    places: Mapping[int, Float]  # by joint (F, 3) m, relative to the parent; others stay at rest


def skeleton_of(person: Person, rest: NDArray[np.float32]) -> Skeleton:
    """Make a person's skeleton of SMPL's joints; the pelvis carries the place.

    Args:
        person: The recovered person.
        rest: (24, 3) m, the joints at rest.

    Returns:
        The skeleton.
    """
    motion = motion_of(person, Y_UP)
    turns = {joint: motion.rotations[:, joint] for joint in range(len(JOINT_NAMES))}
    places = {0: motion.pelvis}
    return Skeleton(JOINT_NAMES, SMPL_PARENTS, rest.astype(float), motion.time, turns, places)


def with_root(skeleton: Skeleton, sole: float, floor: float) -> Skeleton:
    """Put a joint `root` on the floor under the pelvis, which moves along and turns about y only.

    The pelvis keeps its height over the floor and how it is tilted. At the frames the other joints
    are where they were.

    Args:
        skeleton: Of SMPL's joints.
        sole: m, height of the lowest point of the body at rest.
        floor: m, height of the floor.

    Returns:
        A skeleton with one joint more, the first.
    """
    pelvis, turn = skeleton.places[0], skeleton.turns[0]
    heading = _heading(turn)
    under = pelvis * [1, 0, 1] + [0, floor, 0]
    turns = {joint + 1: turns for joint, turns in skeleton.turns.items()}
    return Skeleton(
        names=("root", *skeleton.names),
        parents=(-1, *(parent + 1 for parent in skeleton.parents)),
        rest=np.concatenate([[skeleton.rest[0] * [1, 0, 1] + [0, sole, 0]], skeleton.rest]),
        time=skeleton.time,
        turns=turns | {0: heading, 1: heading.transpose(0, 2, 1) @ turn},
        places={0: under, 1: pelvis - under},
    )


def floor_under(person: Person, rest: NDArray[np.float32], sole: float) -> float:
    """Estimate the floor's height from the lower foot: its median over the frames.

    Args:
        person: The recovered person.
        rest: (24, 3) m, the joints at rest.
        sole: m, height of the lowest point of the body at rest.

    Returns:
        m, y up, the camera at 0.
    """
    height = (person.joints3d[:, FEET] @ Y_UP.T)[..., 1].min(1)
    return float(np.median(height) - rest[list(FEET), 1].min() + sole)


def _heading(turns: Float) -> Float:
    """Return the part of rotations (F, 3, 3) that turns about y; for who is upside down, none."""
    quaternions = Rotation.from_matrix(turns).as_quat() * [0, 1, 0, 1]
    quaternions[np.linalg.norm(quaternions, axis=1) < 1e-6] = [0, 0, 0, 1]
    return np.asarray(Rotation.from_quat(quaternions).as_matrix())
