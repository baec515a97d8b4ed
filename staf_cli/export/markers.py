"""Markers on a person's skeleton: the joints, and points on heels, toes and head."""

from dataclasses import dataclass

import numpy as np

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.body.skinning import Body
from staf_cli.core.records import Float, Person
from staf_cli.export.anatomy import world_rotations
from staf_cli.export.motion import JOINT_NAMES, Y_UP, mean_betas, motion_of, resample, rest_pose
from staf_cli.export.scene import Scene

MILLIMETRES = 1000


@dataclass(frozen=True)
class Markers:
    """M named points over F frames."""

    names: tuple[str, ...]
    time: Float  # (F,) s, on the clip's clock, at a constant rate
    places: Float  # (F, M, 3) mm, y up


def markers_of(person: Person, body: Body) -> Markers:
    """Compute a person's markers; those on the skin move with one joint, as on a skeleton.

    Args:
        person: The recovered person.
        body: The body model of the person.

    Returns:
        SMPL's 24 joints, then heels, toes and the top of the head.
    """
    vertices, joints = rest_pose(body, mean_betas(person))
    motion = resample(motion_of(person, Y_UP), person.fps)
    turned = world_rotations(motion.rotations)
    places = np.repeat(motion.pelvis[:, None], len(JOINT_NAMES), 1)
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            bone = joints[joint] - joints[parent]
            places[:, joint] = places[:, parent] + turned[:, parent] @ bone
    skin = skin_markers(body)
    carriers = [JOINT_NAMES.index(joint) for joint, _ in skin.values()]
    offsets = vertices[[vertex for _, vertex in skin.values()]] - joints[carriers]
    on_skin = places[:, carriers] + (turned[:, carriers] @ offsets[..., None])[..., 0]
    everything = np.concatenate([places, on_skin], 1) * MILLIMETRES
    return Markers((*JOINT_NAMES, *skin), motion.time, everything)


def skin_markers(body: Body) -> dict[str, tuple[str, int]]:
    """Find the heels, toes and top of the head of a body: by marker its joint and its vertex."""
    rest, owner = body.arrays.v_template, body.arrays.weights.argmax(1)
    found = {}
    for marker, joint, axis, sign in (
        ("left_heel", "left_ankle", 2, -1),
        ("right_heel", "right_ankle", 2, -1),
        ("left_toe", "left_foot", 2, 1),
        ("right_toe", "right_foot", 2, 1),
        ("head_top", "head", 1, 1),
    ):
        own = np.flatnonzero(owner == JOINT_NAMES.index(joint))
        found[marker] = (joint, int(own[(sign * rest[own, axis]).argmax()]))
    return found


def marker_files(scene: Scene, ending: str) -> list[str]:
    """Return the names of files of one ending: one for each person."""
    return [f"{ending}/person_{person.id}.{ending}" for person in scene.people]
