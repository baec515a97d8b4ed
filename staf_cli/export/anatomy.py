"""Joint angles as movement science defines them (ISB: Wu et al. 2002, 2005; Grood & Suntay 1983).

Segment frames are ISB's: X forward, Y up along the segment, Z to the person's right. Zero is the
body at rest with its arms lowered to its sides and its palms facing the thighs. Left joints are
mirrored at the sagittal plane, so that the same sign means the same movement on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.core.records import Float
from staf_cli.export.motion import JOINT_NAMES, Motion

TRUNK = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # columns X, Y, Z in the body's own axes
ARM = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # of the right arm, which points to -x at rest
SIDES = ("right", "left")
LOCKED = np.cos(np.radians(0.5))  # nearer to gimbal lock the first and third angle are not told


@dataclass(frozen=True)
class Joint:
    """A joint between two segments, which turn with SMPL's joints `proximal` and `distal`."""

    proximal: str
    distal: str
    proximal_axes: Float  # (3, 3)
    distal_axes: Float  # (3, 3)


LIMBS: Mapping[str, Joint] = {
    "hip": Joint("pelvis", "{side}_hip", TRUNK, TRUNK),
    "knee": Joint("{side}_hip", "{side}_knee", TRUNK, TRUNK),
    "ankle": Joint("{side}_knee", "{side}_ankle", TRUNK, TRUNK),
    "toes": Joint("{side}_ankle", "{side}_foot", TRUNK, TRUNK),
    "shoulder": Joint("spine3", "{side}_shoulder", TRUNK, ARM),
    "elbow": Joint("{side}_shoulder", "{side}_elbow", ARM, ARM),
}
CARDAN: Mapping[str, Mapping[str, tuple[int, int]]] = {  # angle: its place in Z, X, Y, and sign
    "hip": {"flexion": (0, 1), "abduction": (1, -1), "rotation": (2, 1)},
    "knee": {"flexion": (0, -1), "abduction": (1, -1), "rotation": (2, 1)},
    "ankle": {"dorsiflexion": (0, 1), "inversion": (1, 1), "rotation": (2, 1)},
    "elbow": {"flexion": (0, 1), "abduction": (1, -1), "pronation": (2, 1)},
}


def clinical_angles(motion: Motion) -> dict[str, Float]:
    """Compute the angles of pelvis, trunk, hips, knees, ankles, shoulders and elbows.

    Cardan angles are taken in the order Z, X, Y (flexion, abduction, rotation), those of the
    pelvis in the order Y, X, Z (Baker 2001), those of the shoulder as Y, X, Y.

    Args:
        motion: F frames, y up.

    Returns:
        By column of angles.csv (F,) degrees in (-180, 180].
    """
    turned = world_rotations(motion.rotations)
    heading, obliquity, tilt = euler(TRUNK.T @ turned[:, 0] @ TRUNK, "YXZ").T
    extension, bending, twist = euler(trunk_rotations(turned), "ZXY").T
    angles = {"pelvis_tilt": -tilt, "pelvis_obliquity": obliquity, "pelvis_rotation": heading}
    angles |= {"trunk_flexion": -extension, "trunk_bending": bending, "trunk_rotation": twist}
    for side in SIDES:
        for joint, parts in CARDAN.items():
            solved = euler(limb_rotations(turned, joint, side), "ZXY")
            for part, (place, sign) in parts.items():
                angles[f"{side}_{joint}_{part}"] = sign * solved[:, place]
        # ISB raises the arm about -X: half a turn about Y before, and back after, is the same.
        plane, elevation, rotation = euler(limb_rotations(turned, "shoulder", side), "YXY").T
        angles[f"{side}_shoulder_plane"] = plane + np.pi
        angles[f"{side}_shoulder_elevation"] = elevation
        angles[f"{side}_shoulder_rotation"] = rotation - np.pi
    return {name: 180 - (180 - np.degrees(values)) % 360 for name, values in angles.items()}


def world_rotations(rotations: Float) -> Float:
    """Chain rotations relative to the parents (F, 24, 3, 3) to those relative to the world."""
    turned = rotations.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            turned[:, joint] = turned[:, parent] @ rotations[:, joint]
    return turned


def trunk_rotations(turned: Float) -> Float:
    """Return the thorax relative to the pelvis (F, 3, 3) from world rotations (F, 24, 3, 3)."""
    thorax = turned[:, JOINT_NAMES.index("spine3")]
    return np.asarray(TRUNK.T @ turned[:, 0].transpose(0, 2, 1) @ thorax @ TRUNK)


def limb_rotations(turned: Float, joint: str, side: str) -> Float:
    """Compute how the distal segment of a joint is turned in the frame of the proximal one.

    Args:
        turned: (F, 24, 3, 3) world rotations.
        joint: Of `LIMBS`.
        side: Of `SIDES`; the left is mirrored.

    Returns:
        (F, 3, 3), as of a right limb.
    """
    limb = LIMBS[joint]
    ends = (limb.proximal.format(side=side), limb.distal.format(side=side))
    proximal, distal = (turned[:, JOINT_NAMES.index(name)] for name in ends)
    relative = proximal.transpose(0, 2, 1) @ distal
    if side == "left":
        mirror = np.diag([-1.0, 1, 1])
        relative = mirror @ relative @ mirror
    return np.asarray(limb.proximal_axes.T @ relative @ limb.distal_axes)


def euler(rotations: Float, order: str) -> Float:
    """Solve R = R_first R_second R_third for three angles.

    Within half a degree of gimbal lock, where only the sum of the first and third angle is told,
    the third stays what it was in the frame before, and is 0 in the first.

    Args:
        rotations: (F, 3, 3).
        order: Axes as scipy names intrinsic ones, such as "ZXY"; the second differs from both.

    Returns:
        (F, 3) rad.
    """
    first, second, third = ("XYZ".index(axis) for axis in order)
    locked = np.abs(rotations[:, first, third]) > LOCKED
    angles = np.zeros((len(rotations), 3))
    if not locked.all():
        angles[~locked] = Rotation.from_matrix(rotations[~locked]).as_euler(order)
    for frame in np.flatnonzero(locked):
        kept = angles[frame - 1, 2] if frame else 0.0
        both = rotations[frame] @ Rotation.from_euler(order[2], -kept).as_matrix()
        across = np.cross(np.eye(3)[first], np.eye(3)[second])
        angle = np.arctan2(across @ both[:, second], both[second, second])
        rest = Rotation.from_euler(order[0], -angle) * Rotation.from_matrix(both)
        angles[frame] = angle, rest.as_rotvec()[second], kept
    return angles


def continuous(angles: Float) -> Float:
    """Choose among the angles of the same Cardan rotations those that do not jump.

    Args:
        angles: (F, 3) rad, about three different axes.

    Returns:
        (F, 3) rad, of the same rotations.
    """
    chosen = angles.copy()
    for frame in range(1, len(angles)):
        one, two, three = angles[frame]
        same = np.array([[one, two, three], [one + np.pi, np.pi - two, three + np.pi]])
        before = chosen[frame - 1]
        same -= 2 * np.pi * np.round((same - before) / (2 * np.pi))
        chosen[frame] = same[np.abs(same - before).sum(1).argmin()]
    return chosen
