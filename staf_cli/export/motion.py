"""A person as a moving skeleton of one shape: what animation formats can hold.

Recovery may estimate another shape in every frame; a skeleton has one. It is the mean over the
person's frames, and the pelvis stays where the recovered one was.
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

# Rotations from the camera's axes (x right, y down, z forward); the camera stays the origin.
Y_UP = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])  # x right, y up, z towards the camera
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y away from the camera, z up

TIME_TOLERANCE = 0.002  # s: containers round times to milliseconds, which is no change of rate


@dataclass(frozen=True)
class Motion:
    """The motion of one skeleton, in the axes that `motion_of` was called with."""

    time: Float  # (F,) s, on the clip's clock
    rotations: Float  # (F, 24, 3, 3) relative to the parent joint; the pelvis's to the axes
    pelvis: Float  # (F, 3) m


def motion_of(person: Person, axes: Float) -> Motion:
    """Compute the motion of a person's skeleton at the person's own frames.

    Args:
        person: The recovered person, in the camera frame.
        axes: (3, 3) `Y_UP`, `Z_UP`, or another rotation of the camera frame.

    Returns:
        The motion in these axes.
    """
    rotations = Rotation.from_rotvec(person.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations[:, 0] = axes @ rotations[:, 0]
    return Motion(person.time, rotations, person.joints3d[:, 0] @ axes.T)


def in_level_camera(person: Person) -> Person:
    """Move a person from the world to the frame of a level camera that stands at its origin.

    Args:
        person: F frames, placed in the world.

    Returns:
        The person with the motion in the world, but axes as a camera has them: x right, y down.
    """
    assert person.world_poses is not None and person.world_trans is not None
    assert person.world_joints3d is not None
    poses = person.world_poses.copy()
    turn = Rotation.from_matrix(Y_UP.T)
    poses[:, :3] = (turn * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
    rest = person.world_joints3d[:, 0] - person.world_trans  # where the pelvis is in the T-pose
    joints = person.world_joints3d @ Y_UP
    return replace(person, poses=poses, trans=joints[:, 0] - rest, joints3d=joints)


def resample(motion: Motion, fps: float) -> Motion:
    """Resample a motion at a constant frame rate, gaps filled.

    Rotations are interpolated by slerp, the pelvis linearly. A motion that has this rate
    already is returned as it is.

    Args:
        motion: F frames with ascending times, at least one.
        fps: The rate, frames per second.

    Returns:
        Frames from `time[0]` on, every 1 / fps s, up to the one nearest to `time[-1]`.
    """
    time = motion.time
    steps = round((time[-1] - time[0]) * fps) + 1
    even = time[0] + np.arange(steps) / fps
    if steps == len(time) and np.abs(even - time).max() < TIME_TOLERANCE:
        return motion
    wanted = np.minimum(even, time[-1])  # the last step may be half a frame behind the motion
    rotations = [
        Slerp(time, Rotation.from_matrix(motion.rotations[:, joint]))(wanted).as_matrix()
        for joint in range(len(JOINT_NAMES))
    ]
    pelvis = [np.interp(wanted, time, motion.pelvis[:, axis]) for axis in range(3)]
    return replace(motion, time=even, rotations=np.stack(rotations, 1), pelvis=np.stack(pelvis, 1))


def mean_betas(person: Person) -> Float:
    """Return the shape of the person's skeleton, the mean of its betas: (10,) float64."""
    return np.asarray(person.betas.mean(0, dtype=np.float64))


def rest_pose(body: Body, betas: Float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute a body in its T-pose.

    Args:
        body: The body model.
        betas: (10,).

    Returns:
        Vertices (V, 3) and joints (24, 3), m, in the body's own frame.
    """
    identity = torch.eye(3).expand(1, len(JOINT_NAMES), 3, 3)
    with torch.no_grad():
        vertices, joints = body(identity, torch.from_numpy(betas).float()[None])
    return vertices[0].numpy(), joints[0].numpy()
