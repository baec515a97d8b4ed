"""Refine on people whose true motion is known."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.format import BETAS, JOINT_COUNT, SMPL_PARENTS, BodyArrays
from staf_cli.body.posing import rotation_matrices, with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import image_translation_to_crop
from staf_cli.core.records import Float, Person, Track
from staf_cli.fitting import refine
from staf_cli.fitting.facing import estimate_scale
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.fitting.keypoints import OTHER_SIDE, correct_sides, seen_keypoints
from staf_cli.fitting.skeleton import reduce_body, relaxed_keypoints

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
    points = small_body().points(small_body().arrays.coco17_regressor)
    own, _ = points(rotation_matrices(person.poses).float(), torch.zeros(frames, BETAS))
    spatial = own.double().numpy() + trans[:, None]
    keypoints = spatial[..., :2] / spatial[..., 2:] * FOCAL + np.array(IMAGE) / 2
    return Truth(person, keypoints, yaw)


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
    kp = truth.keypoints
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


def pa_mpjpe(person: Person, truth: Truth) -> float:
    """Mean distance of the joints after the best similarity transform of each frame, m."""
    return float(
        np.mean(
            [aligned(a, b) for a, b in zip(person.joints3d, truth.person.joints3d, strict=True)]
        )
    )


def aligned(points: Float, target: Float) -> float:
    a, b = points - points.mean(0), target - target.mean(0)
    rotation, _ = Rotation.align_vectors(b, a)
    turned = rotation.apply(a)
    scale = (turned * b).sum() / (turned * turned).sum()
    return float(np.linalg.norm(scale * turned - b, axis=-1).mean())


def jitter(person: Person) -> float:
    """Mean acceleration of the joints, m/s^2."""
    return float(np.linalg.norm(np.diff(person.joints3d, 2, axis=0) * FPS**2, axis=-1).mean())


def yaw_error(person: Person, truth: Truth) -> Float:
    """How far the pelvis faces from where it should, (F,) degrees."""
    forward = Rotation.from_rotvec(person.poses[:, :3]).apply([0, 0, 1])
    yaw = np.arctan2(forward[:, 0], -forward[:, 2])
    return np.degrees(np.abs((yaw - truth.facing + np.pi) % (2 * np.pi) - np.pi))


def test_procrustes_of_the_tests_undoes_a_similarity() -> None:
    points = np.random.default_rng(0).normal(size=(24, 3))
    moved = 1.7 * Rotation.from_rotvec([0.3, -1.0, 2.0]).apply(points) + [1, 2, 3]
    assert aligned(points, moved) < 1e-9
    assert aligned(points * [-1, 1, 1], moved) > 0.5  # a mirror image is not similar


def test_skeleton_poses_as_the_body_does() -> None:
    body, rng = small_body(), np.random.default_rng(3)
    vectors = rng.normal(0, 0.5, (4, JOINT_COUNT, 3))
    vectors[:, [1, 2]] = 0  # hip keypoints are fixed to the pelvis: exact while the thighs hang
    rotmats = torch.from_numpy(Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix())
    rotmats = rotmats.float().reshape(4, JOINT_COUNT, 3, 3)
    betas = torch.linspace(-1, 1, BETAS)
    points, joints = body.points(body.arrays.coco17_regressor)(rotmats, betas.expand(4, -1))
    own_joints, own_points = reduce_body(body).pose(rotmats, betas)
    torch.testing.assert_close(own_joints, joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(own_points, points, atol=1e-5, rtol=0)


def test_a_body_without_keypoint_regressor_gets_usual_keypoints() -> None:
    body = small_body()
    plain = Body("plain", replace(body.arrays, coco17_regressor=None))
    known, guessed = reduce_body(body), reduce_body(plain)
    torch.testing.assert_close(guessed.offsets[5:], known.offsets[5:])
    assert (guessed.offsets - known.offsets).norm(dim=-1).max() < 0.03


@pytest.mark.parametrize("yaw", [0.4, 3.0, -1.4])
def test_walk_from_the_mean_pose(yaw: float) -> None:
    truth = walk(np.full(60, yaw))
    start, track = mean_pose(truth), detected(truth, 1)
    refined = refine.refine(start, track, small_body())
    assert error_2d(refined, truth) < error_2d(start, truth) / 2
    assert error_2d(refined, truth) < 0.015 * np.ptp(truth.keypoints[..., 1], 1).mean()
    assert pa_mpjpe(refined, truth) < pa_mpjpe(start, truth)
    assert np.median(yaw_error(refined, truth)) < 20
    assert jitter(refined) < 4 * jitter(truth.person)  # the noise alone: more than 15 times


def test_walk_from_a_good_start() -> None:
    truth = walk(np.full(60, 0.8))
    start, track = perturbed(truth, 2), detected(truth, 2)
    refined = refine.refine(start, track, small_body())
    assert error_2d(refined, truth) < error_2d(start, truth) / 2
    assert pa_mpjpe(refined, truth) < pa_mpjpe(start, truth)
    assert jitter(refined) < jitter(start)
    assert (refined.betas == refined.betas[0]).all()


def test_a_person_who_turns_around_is_followed() -> None:
    truth = walk(np.linspace(-0.3, 2 * np.pi - 0.3, 90))
    refined = refine.refine(mean_pose(truth), detected(truth, 3), small_body())
    assert np.median(yaw_error(refined, truth)) < 20
    assert (yaw_error(refined, truth) < 60).all()


def test_joints_stay_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 60)
    truth = walk(np.full(40, 1.2))
    track = detected(truth, 4)
    legs = [13, 14, 15, 16]
    kp2d = track.kp2d.copy()
    kp2d[:, legs, 0] = 2 * kp2d[:, [11, 12, 11, 12], 0] - kp2d[:, legs, 0]  # knees bent forwards
    refined = refine.refine(mean_pose(truth), replace(track, kp2d=kp2d), small_body())
    angles = refined.poses.reshape(-1, JOINT_COUNT, 3)
    assert angles[:, [4, 5], 0].min() > -1e-5
    assert angles[:, 18, 1].max() < 1e-5 and angles[:, 19, 1].min() > -1e-5


def test_gaps_and_missing_keypoints() -> None:
    """Ten frames without keypoints are bridged smoothly; across a gap nothing is smooth."""
    truth = walk(np.full(70, 1.4))
    track = detected(truth, 5)
    kp2d = track.kp2d.copy()
    kp2d[20:30, :, 2] = 0
    frame = np.where(np.arange(70) < 50, np.arange(70), np.arange(70) + 200)
    time = frame / FPS
    kp2d[50:, :, 0] += 250  # another person's place after the gap
    box = track.box + np.where(np.arange(70) < 50, 0, 250)[:, None] * [1, 0, 1, 0]
    track = replace(track, kp2d=kp2d, frame=frame, time=time, box=box)
    start = replace(mean_pose(truth), frame=frame, time=time)
    refined = refine.refine(start, track, small_body())
    shown = truth.keypoints[:, 5:].copy()
    shown[50:, :, 0] += 250
    off = np.linalg.norm(refined.joints2d[:, LIMBS] - shown, axis=-1).mean(1)
    height = np.ptp(truth.keypoints[..., 1], 1).mean()
    assert off[[*range(19), *range(31, 70)]].max() < 0.03 * height
    assert off[20:30].max() < 0.15 * height
    fastest = np.linalg.norm(np.diff(refined.joints3d[15:35], axis=0), axis=-1).max() * FPS
    assert fastest < 6


def test_runs_do_not_feel_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes right after a gap does not move what comes before it."""
    monkeypatch.setattr(refine, "STEPS", 60)
    truth = walk(np.full(30, 1.4))
    track, after = detected(truth, 14), np.arange(30) >= 15
    frame = np.arange(30) + after
    start = replace(mean_pose(truth), frame=frame, time=frame / FPS)
    ends = []
    for shift in (-250, 250):
        aside = np.where(after, shift, 0)[:, None]
        kp2d = track.kp2d + aside[..., None] * [1, 0, 0]
        box = track.box + aside * [1, 0, 1, 0]
        moved = replace(track, frame=frame, time=frame / FPS, kp2d=kp2d, box=box)
        ends.append(refine.refine(start, moved, small_body()).joints3d[10:15, :, :2])
    assert np.abs(ends[0] - ends[1]).max() < 0.02


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_tracks(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 60)
    truth = walk(np.full(frames, 0.3))
    start = mean_pose(truth)
    refined = refine.refine(start, detected(truth, 6), small_body())
    assert error_2d(refined, truth) < error_2d(start, truth) / 2


def test_nothing_seen_leaves_the_person_as_it_was() -> None:
    truth = walk(np.zeros(5))
    track = detected(truth, 7)
    unseen = replace(track, kp2d=track.kp2d * [1, 1, 0])
    assert refine.refine(truth.person, unseen, small_body()) is truth.person


def test_never_worse_than_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 2)
    truth = walk(np.zeros(5))
    exact = detected(truth, 8)
    kp2d = np.concatenate([truth.keypoints, np.ones((5, 17, 1))], -1)
    kept = refine.refine(truth.person, replace(exact, kp2d=kp2d), small_body())
    assert error_2d(kept, truth) <= error_2d(truth.person, truth)


def test_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 20)
    truth = walk(np.full(20, 0.5))
    start, track = mean_pose(truth), detected(truth, 9)
    once, again = (refine.refine(start, track, small_body()) for _ in range(2))
    np.testing.assert_array_equal(once.poses, again.poses)
    np.testing.assert_array_equal(once.trans, again.trans)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = walk(np.full(25, 0.5))
    start, track = mean_pose(truth), detected(truth, 10)
    monkeypatch.setattr(refine, "STEPS", 20)
    whole = refine.refine(start, track, small_body())
    monkeypatch.setattr(refine, "CHUNK", 7)
    parts = refine.refine(start, track, small_body())
    np.testing.assert_allclose(parts.joints3d, whole.joints3d, atol=2e-3)


def test_frames_per_second_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the frames of the same motion have the same joints: the smoothness is per second."""
    monkeypatch.setattr(refine, "STEPS", 120)
    truth = walk(np.full(60, 0.9))
    track = detected(truth, 11)
    half = slice(None, None, 2)
    fewer = replace(
        track,
        **{name: getattr(track, name)[half] for name in ("time", "box", "score", "interpolated")},
        frame=track.frame[:30],
        kp2d=track.kp2d[half],
    )
    sparse = walk(np.full(30, 0.9), FPS / 2)
    every = refine.refine(mean_pose(truth), track, small_body())
    second = refine.refine(mean_pose(sparse), fewer, small_body())
    off = np.linalg.norm(every.joints3d[half] - second.joints3d, axis=-1)
    assert np.median(off) < 0.06


def test_exchanged_sides_are_put_back() -> None:
    truth = walk(np.full(40, 0.4))
    track = detected(truth, 12)
    seen = seen_keypoints(track, IMAGE)
    mistaken = seen.keypoints.copy()
    mistaken[[5, 6, 20]] = mistaken[[5, 6, 20]][:, OTHER_SIDE]
    weight = seen.weight.copy()
    weight[[5, 6, 20]] = weight[[5, 6, 20]][:, OTHER_SIDE]
    scale = np.full(40, FOCAL / 6)
    corrected = correct_sides(replace(seen, keypoints=mistaken, weight=weight), scale)
    shoulders = slice(5, 7)
    np.testing.assert_array_equal(corrected.keypoints[:, shoulders], seen.keypoints[:, shoulders])


def test_exchanged_sides_do_not_turn_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 60)
    truth = walk(np.full(40, 0.2))
    track = detected(truth, 15)
    kp2d = track.kp2d.copy()
    kp2d[10:17] = kp2d[10:17][:, OTHER_SIDE]
    refined = refine.refine(mean_pose(truth), replace(track, kp2d=kp2d), small_body())
    assert yaw_error(refined, truth)[10:17].max() < 35


def test_scale_is_seen_whatever_the_pose() -> None:
    truth = walk(np.full(60, 1.3))
    seen = seen_keypoints(detected(truth, 13), IMAGE)
    scale = estimate_scale(seen, relaxed_keypoints(reduce_body(small_body())))
    np.testing.assert_allclose(scale, FOCAL / truth.person.trans[:, 2], rtol=0.12)
