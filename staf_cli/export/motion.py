"""A person as a moving skeleton of one shape: what animation formats can hold.

Recovery may give every frame a shape of its own; a skeleton has one. It gets the mean over the
person's frames, and its pelvis stays where the recovered one was.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from staf_cli.body.skinning import Body
from staf_cli.core.records import Float, Person

JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)  # SMPL's order and names

# From the camera's axes (x right, y down, z forward) to others; the camera stays the origin.
Y_UP = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])  # x right, y up, z towards the camera
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y away from the camera, z up

CLOCK = 0.002  # s: containers round times to milliseconds; that is no change of rate


@dataclass(frozen=True)
class Motion:
    """How a skeleton moves, in whatever axes it was asked for."""

    time: Float  # (F,) s, of the clip
    rotations: Float  # (F, 24, 3, 3) of each joint in its parent's frame; the pelvis's in space
    pelvis: Float  # (F, 3) m, where the pelvis is


def motion_of(person: Person, axes: Float) -> Motion:
    """A person's motion at its own frames; axes is one of the turns above."""
    rotations = Rotation.from_rotvec(person.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations[:, 0] = axes @ rotations[:, 0]
    return Motion(person.time, rotations, person.joints3d[:, 0] @ axes.T)


def steady(motion: Motion, fps: float) -> Motion:
    """The same motion at a constant rate from its first moment on, gaps bridged.

    Where the frames come at that rate already they stay as they are. Elsewhere rotations turn
    evenly along the shortest way (slerp), and the pelvis moves straight.
    """
    time = motion.time
    steps = round((time[-1] - time[0]) * fps) + 1
    even = time[0] + np.arange(steps) / fps
    if steps == len(time) and np.abs(even - time).max() < CLOCK:
        return motion
    asked = np.minimum(even, time[-1])  # the last step may lie half a frame behind the motion
    turns = [
        Slerp(time, Rotation.from_matrix(motion.rotations[:, joint]))(asked).as_matrix()
        for joint in range(len(JOINT_NAMES))
    ]
    places = [np.interp(asked, time, motion.pelvis[:, axis]) for axis in range(3)]
    return replace(motion, time=even, rotations=np.stack(turns, 1), pelvis=np.stack(places, 1))


def mean_shape(person: Person) -> Float:
    """The shape of the person's skeleton: the mean of its betas, (10,)."""
    return np.asarray(person.betas.mean(0, dtype=np.float64))


def at_rest(body: Body, betas: Float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The body in its T-pose with a shape (10,): vertices (V, 3) and joints (24, 3), m."""
    straight = torch.eye(3).expand(1, len(JOINT_NAMES), 3, 3)
    with torch.no_grad():
        vertices, joints = body(straight, torch.from_numpy(betas).float()[None])
    return vertices[0].numpy(), joints[0].numpy()
