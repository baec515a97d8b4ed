"""The world's axes in the cameras' frames, and people moved into them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import Float, Ints, Person
from staf_cli.world.feet import Feet, camera_rows
from staf_cli.world.ground import Ground
from staf_cli.world.levels import Level


@dataclass(frozen=True)
class ShotAxes:
    """From the frame of a shot's first camera to the world: y up, m, the ground at 0."""

    rotation: Float  # (3, 3)
    origin: Float  # (3,) m, of that camera in the world, for a person whose size is right
    levels: Mapping[int, Sequence[Level]]  # by person, in order of time
    sigma: Float  # (2,) rad and m: of tilt and height of the camera

    def level(self, person: int, frame: Ints) -> Float:
        """Tell on which level a person is, (F,) m above the ground, at frames (F,)."""
        own = self.levels[person]
        begin, height = [one.begin for one in own], np.array([one.height for one in own])
        there: Float = height[np.maximum(np.searchsorted(begin, frame, side="right") - 1, 0)]
        return there

    def camera_height(self, person: int, frame: Ints) -> Float:
        """Tell how high (F,) m the first camera is if a person stands on their levels."""
        own = self.levels[person]
        touched = [end for one in own for end in (one.first, one.last)]
        height: Float = np.interp(frame, touched, [one.camera for one in own for _ in range(2)])
        return height


def shot_axes(
    ground: Ground, people: Sequence[Feet], levels: Mapping[int, Sequence[Level]]
) -> ShotAxes:
    """Choose the world's axes of a shot: the origin is on the ground under who comes first.

    Args:
        ground: of the shot.
        people: who is in the shot, in its frames only.
        levels: on which they are, by person.

    Returns:
        The axes: x to the right of the shot's first camera, z towards it.
    """
    first = min(people, key=lambda one: (one.frame[0], one.id))
    forward = np.array([0.0, 0, 1])
    back = ground.up[2] * ground.up - forward
    if np.linalg.norm(back) < 1e-6:  # it looks straight down or up: what is above is behind
        back = np.array([0.0, 1, 0])
    back = back / np.linalg.norm(back)
    rotation = np.stack([np.cross(ground.up, back), ground.up, back])
    under = rotation @ first.joints[0, 0]
    return ShotAxes(
        rotation=rotation,
        origin=np.array([-under[0], ground.height, -under[2]]),
        levels=levels,
        sigma=np.array([ground.tilt_sigma, ground.height_sigma]),
    )


def camera_to_world(
    person: int, frame: np.ndarray, camera: CameraMotion, axes: Mapping[int, ShotAxes]
) -> Float:
    """Compute how points of the camera frame are moved into the world.

    The height is that which puts the person on the ground: a body whose size is off is too near or
    too far, and so its ground is too high or too low.

    Args:
        person: whose.
        frame: (F,) indices in the video.
        camera: its motion.
        axes: by shot.

    Returns:
        (F, 3, 4): X_world = M[:, :3] @ X_camera + M[:, 3].
    """
    rows = camera_rows(camera, frame)
    moved = np.zeros((len(frame), 3, 4))
    for shot in np.unique(camera.shot[rows]).tolist():
        here = camera.shot[rows] == shot
        own = axes[shot]
        moved[here, :, :3] = own.rotation @ camera.rotation[rows[here]]
        moved[here, :, 3] = camera.position[rows[here]] @ own.rotation.T + own.origin
        moved[here, 1, 3] += own.camera_height(person, frame[here]) - own.origin[1]
    return moved


def levels_at(
    person: int, frame: Ints, camera: CameraMotion, axes: Mapping[int, ShotAxes]
) -> Float:
    """Tell on which level a person is: the ground, a roof, stairs, a table.

    Args:
        person: whose.
        frame: (F,) indices in the video.
        camera: its motion.
        axes: by shot.

    Returns:
        (F,) m above the ground.
    """
    shots = camera.shot[camera_rows(camera, frame)]
    level = np.zeros(len(frame))
    for shot in np.unique(shots).tolist():
        here = shots == shot
        level[here] = axes[shot].level(person, frame[here])
    return level


def in_world(person: Person, to_world: Float, sigma: Float) -> Person:
    """Add the same motion in the world to a person.

    Args:
        person: F frames.
        to_world: (F, 3, 4) from `camera_to_world`.
        sigma: (F, 2) rad and m: how sure gravity and ground are.

    Returns:
        The person with the keys of the world, contacts not known yet.
    """
    turn, place = to_world[..., :3], to_world[..., 3]
    poses = person.poses.copy()
    poses[:, :3] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
    joints = np.einsum("fij,fnj->fni", turn, person.joints3d) + place[:, None]
    rest = person.joints3d[:, 0] - person.trans  # the pelvis turns about its place in the T-pose
    return replace(
        person,
        world_poses=poses,
        world_trans=joints[:, 0] - rest,
        world_joints3d=joints,
        world_contacts=np.zeros((len(sigma), 4), np.float32),
        world_camera=to_world,
        world_sigma=sigma.astype(np.float32),
    )


def raised(person: Person, level: Float) -> Person:
    """Raise a person who is placed in the world.

    Args:
        person: F frames, with the keys of the world.
        level: (F,) m.

    Returns:
        The person there.
    """
    assert person.world_trans is not None and person.world_joints3d is not None
    assert person.world_camera is not None
    up = np.stack([0 * level, level, 0 * level], 1)  # (F, 3)
    camera = person.world_camera.copy()
    camera[:, :, 3] += up
    return replace(
        person,
        world_trans=person.world_trans + up,
        world_joints3d=person.world_joints3d + up[:, None],
        world_camera=camera,
    )
