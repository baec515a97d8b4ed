"""A walk of a body of few vertices with known truth, and as a detector and networks see it."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.format import BETAS, JOINT_COUNT, SMPL_PARENTS, BodyArrays
from staf_cli.body.posing import rotation_matrices, with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import image_translation_to_crop
from staf_cli.core.records import Float, Person, Track
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.fitting.skeleton import reduce_body

IMAGE = (1280, 720)
FOCAL = 1400.0
FPS = 30.0

# Joints of an adult in the T-pose, m, in SMPL's order; the left side and the middle.
LEFT_AND_MIDDLE = {
    0: (0, 0, 0),
    1: (0.1, -0.02, 0),
    3: (0, 0.08, -0.03),
    4: (0.11, -0.42, 0.01),
    6: (0, 0.22, -0.03),
    7: (0.12, -0.84, -0.01),
    9: (0, 0.36, -0.03),
    10: (0.13, -0.89, 0.12),
    12: (0, 0.54, -0.01),
    13: (0.03, 0.47, 0.0),
    15: (0, 0.63, 0.03),
    16: (0.17, 0.47, 0),
    18: (0.42, 0.47, 0),
    20: (0.67, 0.47, 0),
    22: (0.76, 0.47, 0),
}
FACE = ((0, 0.01, 0.12), (0.03, 0.04, 0.09), (-0.03, 0.04, 0.09), (0.08, 0.03, 0), (-0.08, 0.03, 0))
LIMBS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)


@cache
def small_body() -> Body:
    """A body of one vertex a joint and one a face keypoint; beta 0 makes it taller."""
    joints = np.zeros((JOINT_COUNT, 3), np.float32)
    for joint, place in LEFT_AND_MIDDLE.items():
        joints[joint] = place
        if joint in RIGHT:
            joints[RIGHT[joint]] = np.array(place) * (-1, 1, 1)
    template = np.concatenate([joints, joints[15] + np.array(FACE, np.float32)])
    carriers = [*range(JOINT_COUNT), *[15] * 5]
    shapedirs = np.zeros((len(template), 3, BETAS), np.float32)
    shapedirs[:, :, 0] = 0.04 * template
    coco = np.zeros((17, len(template)), np.float32)
    coco[np.arange(17), [*range(JOINT_COUNT, JOINT_COUNT + 5), *LIMBS]] = 1
    arrays = BodyArrays(
        v_template=template,
        shapedirs=shapedirs,
        posedirs=np.zeros((len(template), 3, 207), np.float32),
        J_regressor=np.eye(JOINT_COUNT, len(template), dtype=np.float32),
        weights=np.eye(JOINT_COUNT, dtype=np.float32)[carriers],
        parents=np.array(SMPL_PARENTS),
        faces=np.array([[0, 1, 2]]),
        coco17_regressor=coco,
    )
    return Body("small", arrays)


@dataclass(frozen=True)
class Truth:
    person: Person
    keypoints: Float  # (F, 17, 2) px
    facing: Float  # (F,) rad
    seen: Float  # (F, 17, 2) px, keypoints where a detector without errors sees them


def walk(yaw: Float, fps: float = FPS) -> Truth:
    """A walk with the given yaw (F,) in every frame: 0 is towards the camera."""
    frames = len(yaw)
    time = np.arange(frames) / fps
    poses = np.zeros((frames, JOINT_COUNT, 3))
    stride = np.sin(2 * np.pi * time)
    poses[:, 1, 0], poses[:, 2, 0] = -0.1 - 0.45 * stride, -0.1 + 0.45 * stride
    poses[:, 4, 0] = 0.35 + 0.3 * np.cos(2 * np.pi * time)
    poses[:, 5, 0] = 0.35 - 0.3 * np.cos(2 * np.pi * time)
    poses[:, 16] = np.stack([0.5 * stride, 0 * stride, 0 * stride - 1.2], 1)
    poses[:, 17] = np.stack([-0.5 * stride, 0 * stride, 0 * stride + 1.2], 1)
    poses[:, 18, 1], poses[:, 19, 1] = -0.5 - 0.2 * stride, 0.5 - 0.2 * stride
    root = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(yaw[:, None] * [0, 1, 0])
    poses[:, 0] = root.as_rotvec()
    place = np.cumsum(np.stack([np.sin(yaw), 0 * yaw, -np.cos(yaw)], 1), 0) / fps
    trans = place - place.mean(0) + np.array([0, 0.1, 6.0])
    person = posed(poses.reshape(frames, 72), trans, time)
    regressor = small_body().arrays.coco17_regressor
    assert regressor is not None
    points = small_body().points(regressor)
    own, _ = points(rotation_matrices(person.poses).float(), torch.zeros(frames, BETAS))
    skeleton = reduce_body(small_body())
    detected = skeleton.pose_as_seen(rotation_matrices(poses).float(), torch.zeros(BETAS)).detected
    keypoints, seen = (
        (one + trans[:, None])[..., :2] / (one + trans[:, None])[..., 2:] * FOCAL
        + np.array(IMAGE) / 2
        for one in (own.double().numpy(), detected.double().numpy())
    )
    return Truth(person, keypoints, yaw, seen)


def posed(poses: Float, trans: Float, time: Float) -> Person:
    """A person of mean shape in these poses; the crop is a square of 600 px in the middle."""
    frames = len(poses)
    box = np.tile([IMAGE[0] / 2, IMAGE[1] / 2, 600.0], (frames, 1))
    blank = Person(
        id=1,
        frame=np.arange(frames),
        time=time,
        poses=poses,
        betas=np.zeros((frames, BETAS)),
        trans=trans,
        pred_cam=image_translation_to_crop(
            torch.from_numpy(trans), torch.from_numpy(box), IMAGE, FOCAL
        ).numpy(),
        box=box,
        joints3d=np.zeros((frames, JOINT_COUNT, 3)),
        joints2d=np.zeros((frames, JOINT_COUNT, 2)),
        score=np.ones(frames),
        interpolated=np.zeros(frames, bool),
        focal_length=FOCAL,
        image_size=IMAGE,
        fps=FPS,
        gender="neutral",
        body=small_body().identity,
        weights="none",
    )
    rotmats, betas = rotation_matrices(blank.poses).float(), torch.zeros(frames, BETAS)
    return with_parameters(blank, small_body(), rotmats, betas, torch.from_numpy(trans))


def detected(truth: Truth, seed: int) -> Track:
    """The walk as a detector sees it: 1 % noise, 5 % outliers, 5 % missing, faces by side."""
    rng = np.random.default_rng(seed)
    kp = truth.seen
    low, high = kp.min(1) - 15, kp.max(1) + 15
    size = (high - low).max(-1)[:, None, None]
    xy = kp + rng.normal(0, 0.01, kp.shape) * size
    outlier = rng.random(xy.shape[:2]) < 0.05
    xy = np.where(outlier[..., None], xy + rng.normal(0, 0.2, xy.shape) * size, xy)
    confidence = rng.uniform(0.7, 1.0, xy.shape[:2])
    # Nose and eyes vanish from behind; the ear on the far side vanishes in a side view.
    towards, sideways = np.cos(truth.facing)[:, None], np.sin(truth.facing)[:, None]
    confidence[:, :3] *= towards > -0.3
    confidence[:, 3:5] *= np.concatenate([sideways < 0.5, sideways > -0.5], 1)
    confidence[rng.random(confidence.shape) < 0.05] = 0
    return Track(
        id=1,
        frame=truth.person.frame,
        time=truth.person.time,
        box=np.concatenate([low, high], 1),
        score=np.ones(len(kp)),
        interpolated=np.zeros(len(kp), bool),
        kp2d=np.concatenate([xy, confidence[..., None]], -1),
    )


def mean_pose(truth: Truth) -> Person:
    """What an untrained network answers: upright, facing the camera, at a usual distance."""
    poses = np.zeros((len(truth.facing), JOINT_COUNT, 3))
    poses[:, 0, 0] = np.pi
    poses[:, 16, 2], poses[:, 17, 2] = -1.1, 1.1
    trans = np.tile([0.0, 0.0, 5.0], (len(poses), 1))
    return posed(poses.reshape(-1, 72), trans, truth.person.time)


def perturbed(truth: Truth, seed: int) -> Person:
    """What a trained network answers: every joint off by about 0.12 rad, jittering."""
    rng = np.random.default_rng(seed)
    true = Rotation.from_rotvec(truth.person.poses.reshape(-1, 3))
    off = Rotation.from_rotvec(rng.normal(0, 0.07, (len(true), 3)))
    trans = truth.person.trans * (1 + rng.normal(0, 0.01, (len(truth.facing), 1)))
    return posed((true * off).as_rotvec().reshape(-1, 72), trans, truth.person.time)


def error_2d(person: Person, truth: Truth) -> float:
    """Mean distance to the true keypoints that are joints, px."""
    return float(np.linalg.norm(person.joints2d[:, LIMBS] - truth.keypoints[:, 5:], axis=-1).mean())
