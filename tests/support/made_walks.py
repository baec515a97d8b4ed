"""Walks of the open body over a level floor with feet planted exactly, filmed by any camera."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import rotation_matrices, with_parameters
from staf_cli.core.camera_motion import CameraMotion, still_camera
from staf_cli.core.records import Float, Person, Track
from staf_cli.world.picture import JOINTS, KEYPOINTS
from staf_cli.world.soles import soles_of
from tests.support.made_people import open_body

FPS = 30.0
STEP = 0.6  # m
STRIDE_SECONDS = 1.1  # of two steps
STANCE = 0.6  # share of a stride for which a foot stands
CAMERA_AXES = np.diag([1.0, -1, -1])  # of a level camera, in the world


@cache
def body():
    return open_body()


@dataclass(frozen=True)
class Walk:
    """A walk in the world: y up, m, the ground at 0."""

    poses: Float  # (F, 24, 3)
    pelvis: Float  # (F, 3) m
    stands: np.ndarray  # (F, 2) bool, left and right foot


def walk(seconds: float, heading: float = 0.0, place=(0.0, 0.0)) -> Walk:
    """A walk towards z, turned by `heading` (rad about y), that begins at x, z.

    Each foot stands for 60 % of its stride exactly where it is; legs follow from hips and ankles
    by the law of cosines.
    """
    with torch.no_grad():
        soles, joints = soles_of(body())(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    rest, sole = joints[0].double().numpy(), soles[0].double().numpy()
    thigh, shin = rest[4] - rest[1], rest[7] - rest[4]
    ankle_height = rest[7, 1] - sole[:2, 1].mean()
    time = np.arange(round(seconds * FPS)) / FPS
    frames, speed = len(time), 2 * STEP / STRIDE_SECONDS
    pelvis = np.stack([0 * time, 0 * time + 0.96 * -sole[:, 1].mean(), speed * time], 1)
    poses, stands = np.zeros((frames, 24, 3)), np.zeros((frames, 2), bool)
    poses[:, 16, 2], poses[:, 17, 2] = -1.2, 1.2
    for side, (hip, knee, ankle) in enumerate(((1, 4, 7), (2, 5, 8))):
        phase = time / STRIDE_SECONDS + 0.5 * side
        stride, part = np.floor(phase), phase % 1
        swing = np.clip((part - STANCE) / (1 - STANCE), 0, 1)
        ahead = swing**2 * (3 - 2 * swing)
        foot = (stride + ahead + 0.5 * (STANCE - side)) * 2 * STEP
        height = ankle_height + 0.12 * np.sin(np.pi * swing) ** 2
        away = np.stack([height - (pelvis[:, 1] + rest[hip, 1]), foot - pelvis[:, 2]], 1)
        a, b = np.hypot(*thigh[1:]), np.hypot(*shin[1:])
        reach = np.minimum(np.hypot(*away.T), a + b - 1e-4)
        bend = np.pi - np.arccos((a * a + b * b - reach**2) / (2 * a * b))
        lift = np.arccos((a * a + reach**2 - b * b) / (2 * a * reach))
        line = np.arctan2(away[:, 1], -away[:, 0])
        tilt = [np.arctan2(one[2], -one[1]) for one in (thigh, shin)]
        first = line + lift  # of the thigh, forwards from straight down
        poses[:, hip, 0] = -(first - tilt[0])
        poses[:, knee, 0] = -(first - bend - tilt[1]) - poses[:, hip, 0]
        poses[:, ankle, 0] = -(poses[:, hip, 0] + poses[:, knee, 0])  # the sole stays level
        stands[:, side] = part < STANCE
    turn = Rotation.from_rotvec([0, heading, 0])
    poses[:, 0] = [0, heading, 0]
    return Walk(poses, turn.apply(pelvis) + np.array([place[0], 0, place[1]]), stands)


def looking(pitch: float, roll: float, height: float) -> tuple[Float, Float]:
    """A camera that looks along -z, down by `pitch` and rolled, degrees: axes (3, 3) and place."""
    turn = Rotation.from_euler("x", -pitch, degrees=True) * Rotation.from_euler(
        "z", roll, degrees=True
    )
    return CAMERA_AXES @ turn.as_matrix(), np.array([0, height, 0.0])


def filmed(made: Walk, axes: Float, place: Float, number: int = 1) -> Person:
    """The walk in the frames of a camera: axes (3, 3) or (F, 3, 3) in the world, place (3,)."""
    frames = len(made.poses)
    axes = np.broadcast_to(axes, (frames, 3, 3))
    poses = made.poses.copy()
    inverse = Rotation.from_matrix(axes).inv()
    poses[:, 0] = (inverse * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    pelvis = inverse.apply(made.pelvis - place)
    return _person(poses.reshape(frames, 72), pelvis, number)


def _person(poses: Float, pelvis: Float, number: int) -> Person:
    frames = len(poses)
    size = (1280, 720)
    blank = Person(
        id=number,
        frame=np.arange(frames),
        time=np.arange(frames) / FPS,
        poses=poses,
        betas=np.zeros((frames, 10)),
        trans=np.zeros((frames, 3)),
        pred_cam=np.zeros((frames, 3)),
        box=np.tile([size[0] / 2, size[1] / 2, 600.0], (frames, 1)),
        joints3d=np.zeros((frames, 24, 3)),
        joints2d=np.zeros((frames, 24, 2)),
        score=np.ones(frames),
        interpolated=np.zeros(frames, bool),
        focal_length=1468.0,
        image_size=size,
        fps=FPS,
        gender="neutral",
        body=body().identity,
        weights="none",
    )
    rest = body().skeleton(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))[1][0, 0]
    trans = torch.from_numpy(pelvis - rest.double().numpy())
    return with_parameters(blank, body(), rotation_matrices(poses), torch.zeros(frames, 10), trans)


def as_recovered(person: Person, seed: int) -> Person:
    """With errors as recovery makes them: joints off by 3 cm, distance by 3 %, both slowly."""
    rng = np.random.default_rng(seed)
    frames = len(person.frame)

    def drift(seconds: float, *shape: int) -> Float:
        white = rng.normal(size=(frames, *shape))
        slow = gaussian_filter1d(white, seconds * FPS, axis=0, mode="nearest")
        return np.asarray(slow / slow.std())

    off = 0.043 * drift(0.2, 24, 3) + 0.0015 * rng.normal(size=(frames, 24, 3))
    poses = Rotation.from_rotvec(person.poses.reshape(-1, 3)) * Rotation.from_rotvec(
        off.reshape(-1, 3)
    )
    pelvis = person.joints3d[:, 0] * (1 + 0.03 * drift(0.8, 1))
    return _person(poses.as_rotvec().reshape(frames, 72), pelvis, person.id)


def detected(person: Person) -> Track:
    """What a detector sees of a person: keypoints that are off by 3 px."""
    frames = len(person.frame)
    kp2d = np.zeros((frames, 17, 3))
    noise = np.random.default_rng(0).normal(0, 3, (frames, len(JOINTS), 2))
    kp2d[:, KEYPOINTS, :2] = person.joints2d[:, JOINTS] + noise
    kp2d[:, KEYPOINTS, 2] = 0.9
    low, high = person.joints2d.min(1), person.joints2d.max(1)
    box, score = np.concatenate([low, high], 1), np.ones(frames)
    return Track(person.id, person.frame, person.time, box, score, np.zeros(frames, bool), kp2d)


def moving_camera(axes: Float, places: Float) -> CameraMotion:
    """The record of a camera with axes (F, 3, 3) and places (F, 3) in the world."""
    still = still_camera(np.arange(len(axes)))
    first = axes[0].T
    return CameraMotion(
        still.frame,
        first @ axes,
        (places - places[0]) @ first.T,
        still.shot,
        still.known,
        still.travels,
        moving=True,
    )
