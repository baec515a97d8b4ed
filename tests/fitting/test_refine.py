"""Refine on people whose true motion is known."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.format import BETAS, JOINT_COUNT
from staf_cli.body.skinning import Body
from staf_cli.core.records import Float, Person
from staf_cli.fitting import energy, keypoints, refine
from staf_cli.fitting.facing import estimate_scale
from staf_cli.fitting.keypoints import (
    OTHER_SIDE,
    correct_sides,
    seen_keypoints,
    with_steady_sides,
)
from staf_cli.fitting.skeleton import (
    DETECTED_SHIFT,
    LANDMARK_SHIFT,
    reduce_body,
    relaxed_keypoints,
)
from tests.support.simple_walk import (
    FOCAL,
    FPS,
    IMAGE,
    LIMBS,
    Truth,
    detected,
    error_2d,
    mean_pose,
    perturbed,
    posed,
    small_body,
    walk,
)


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
    return np.asarray(np.degrees(np.abs((yaw - truth.facing + np.pi) % (2 * np.pi) - np.pi)))


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
    assert body.arrays.coco17_regressor is not None
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
    # The noise is 1 %; of legs the fit expects more, as it is on real photos.
    assert error_2d(refined, truth) < 0.02 * np.ptp(truth.keypoints[..., 1], 1).mean()
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


@pytest.mark.parametrize(("bottom", "stands"), [(IMAGE[1], True), (IMAGE[1] - 60, False)])
def test_legs_below_the_picture_stand(bottom: int, stands: bool) -> None:
    """The network takes the person for sitting, and no knee is seen; behind a table they may."""
    truth = walk(np.full(20, 0.3))
    start = perturbed(truth, 5)
    poses = start.poses.reshape(-1, JOINT_COUNT, 3).copy()
    poses[:, [1, 2], 0], poses[:, [4, 5], 0] = -1.4, 1.5
    start = posed(poses.reshape(-1, 72), start.trans, truth.person.time)
    track = detected(truth, 5)
    kp2d, box = track.kp2d.copy(), track.box.copy()
    kp2d[:, 13:, 2] = 0
    box[:, 3] = bottom
    refined = refine.refine(start, replace(track, kp2d=kp2d, box=box), small_body())
    angles = refined.poses.reshape(-1, JOINT_COUNT, 3)
    bent = np.stack([-angles[:, [1, 2], 0], angles[:, [4, 5], 0]])
    assert (bent < 0.5).all() if stands else (bent > 0.8).all()


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


@pytest.mark.parametrize(("sigma", "farthest"), [(1e6, (1.5, 9)), (energy.APPROACH_SIGMA, (0, 1))])
def test_who_looks_small_for_a_moment_is_not_far_away(
    sigma: float, farthest: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keypoints drawn together for 0.4 s: without the width of speeds the person leaps away."""
    monkeypatch.setattr(energy, "APPROACH_SIGMA", sigma)
    truth = walk(np.full(50, 1.57))
    track, small = detected(truth, 5), slice(20, 32)
    kp2d = track.kp2d.copy()
    middle = kp2d[small, 5:, :2].mean(1, keepdims=True)
    kp2d[small, :, :2] = middle + 0.6 * (kp2d[small, :, :2] - middle)
    refined = refine.refine(truth.person, replace(track, kp2d=kp2d), small_body())
    leap = np.abs(refined.joints3d[:, 0, 2] - truth.person.joints3d[:, 0, 2]).max()
    assert farthest[0] < leap < farthest[1]


def test_who_walks_towards_the_camera_keeps_the_speed() -> None:
    truth = walk(np.full(60, 0.0))
    refined = refine.refine(mean_pose(truth), detected(truth, 11), small_body())
    speed, wanted = (
        np.polyfit(truth.person.time, one.joints3d[:, 0, 2], 1)[0]
        for one in (refined, truth.person)
    )
    assert wanted == pytest.approx(-1, abs=0.05)
    assert 0.75 < speed / wanted < 1.1


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
    kept = refine.refine(truth.person, unseen, small_body())
    for field in fields(kept):
        if field.name != "joint_sigma":
            have, want = getattr(kept, field.name), getattr(truth.person, field.name)
            np.testing.assert_array_equal(have, want, field.name)


def test_never_worse_than_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "STEPS", 2)
    truth = walk(np.zeros(5))
    exact = detected(truth, 8)
    kp2d = np.concatenate([truth.seen, np.ones((5, 17, 1))], -1)
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


def test_a_tracks_exchanged_sides_are_put_back() -> None:
    track = detected(walk(np.full(40, 0.4)), 12)
    steady = with_steady_sides(track, IMAGE)
    kp2d = track.kp2d.copy()
    kp2d[[5, 6, 20]] = kp2d[[5, 6, 20]][:, OTHER_SIDE]
    corrected = with_steady_sides(replace(track, kp2d=kp2d), IMAGE)
    np.testing.assert_array_equal(corrected.kp2d, steady.kp2d)
    assert (steady.kp2d[:, 5:11] == track.kp2d[:, 5:11]).all()  # shoulders and arms


@pytest.mark.parametrize("together", [1, 7, 39])
def test_sides_of_long_tracks_are_found_in_parts(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    track = detected(walk(np.full(40, 0.4)), 12)
    kp2d = track.kp2d + np.random.default_rng(0).normal(0, 20, track.kp2d.shape) * (1, 1, 0)
    kp2d[3:30] = kp2d[3:30][:, OTHER_SIDE]
    whole = with_steady_sides(replace(track, kp2d=kp2d), IMAGE)
    assert (whole.kp2d != kp2d).any()
    monkeypatch.setattr(keypoints, "_TOGETHER", together)
    parts = with_steady_sides(replace(track, kp2d=kp2d), IMAGE)
    np.testing.assert_array_equal(parts.kp2d, whole.kp2d)


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


def test_points_as_seen_turn_with_their_bones_and_are_symmetric() -> None:
    skeleton = reduce_body(small_body())
    rotmats = torch.eye(3).repeat(2, JOINT_COUNT, 1, 1)
    rotmats[1, 0] = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])  # faces away
    betas = torch.zeros(BETAS)
    joints, keypoints = skeleton.pose(rotmats, betas)
    posed = skeleton.pose_as_seen(rotmats, betas)
    torch.testing.assert_close(posed.joints, joints)
    for seen, shift in ((posed.detected, DETECTED_SHIFT), (posed.landmarks, LANDMARK_SHIFT)):
        torch.testing.assert_close(seen[0], keypoints[0] + shift, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            seen[1] - keypoints[1], shift * torch.tensor([-1.0, 1, -1]), atol=1e-6, rtol=0
        )
        other_side = shift[torch.from_numpy(OTHER_SIDE)] * torch.tensor([-1.0, 1, 1])
        torch.testing.assert_close(shift[1:], other_side[1:])
