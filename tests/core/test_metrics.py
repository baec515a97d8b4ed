"""Metrics against closed forms, scipy's Procrustes and plain loops."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from staf_cli.core import metrics

RNG = np.random.default_rng(0)


def bodies(frames, points=14):
    return RNG.normal(0, 0.4, (frames, points, 3))


def noisy(frames):
    """Points and a target that a turn about any axis, a scale, a move and noise lie between."""
    points = bodies(frames)
    turns = Rotation.random(frames, random_state=1).as_matrix()
    scale = RNG.uniform(0.5, 2, (frames, 1, 1))
    moved = scale * points @ turns.swapaxes(1, 2) + RNG.normal(0, 3, (frames, 1, 3))
    return points, moved + RNG.normal(0, 0.03, points.shape)


def test_joints_are_compared_from_the_middle_of_the_hips():
    true = bodies(3)
    moved = true + np.array([0.5, -2, 9])
    np.testing.assert_allclose(metrics.mpjpe(moved, true), 0, atol=1e-9)
    one_wrist = true.copy()
    one_wrist[1, 6] += [0, 0.03, 0.04]
    np.testing.assert_allclose(metrics.mpjpe(one_wrist, true), [0, 50 / 14, 0], atol=1e-9)
    one_hip = true.copy()
    one_hip[:, 2] += [0.02, 0, 0]  # moves the pelvis, so 13 joints by 10 mm and this one by 10
    np.testing.assert_allclose(metrics.mpjpe(one_hip, true), 10, atol=1e-9)


def test_vertices_are_compared_from_the_joints_pelvis():
    joints, vertices = bodies(2), bodies(2, 50)
    shift = np.array([0.1, 0.2, 0.3])
    together = metrics.pve(vertices + shift, vertices, joints + shift, joints)
    np.testing.assert_allclose(together, 0, atol=1e-9)
    alone = metrics.pve(vertices + np.array([0, 0.003, 0.004]), vertices, joints, joints)
    np.testing.assert_allclose(alone, 5, atol=1e-9)


def test_a_similarity_is_aligned_away_and_a_mirror_image_is_not():
    true = bodies(5)
    turns = Rotation.random(5, random_state=0).as_matrix()
    similar = 0.3 * true @ turns.swapaxes(1, 2) + [3, -1, 8]
    np.testing.assert_allclose(metrics.pa_mpjpe(similar, true), 0, atol=1e-9)
    assert (metrics.pa_mpjpe(similar * [-1, 1, 1], true) > 50).all()


def test_alignment_in_closed_form():
    """A cross whose arms are half as long: the best scale is sum a b / sum a^2."""
    cross = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    target = cross * [1, 1, 0.5]
    points = 10 * cross @ Rotation.from_euler("z", 30, degrees=True).as_matrix() + [1, 2, 3]
    aligned = metrics.align(points[None], target[None])[0]
    np.testing.assert_allclose(aligned, cross * 5 / 6, atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 14])
def test_a_batch_of_any_size_is_aligned_as_its_frames_alone(frames):
    """Two and three above all: there a transposed array has a shape that is just as good."""
    points, target = noisy(frames)
    together = metrics.align(points, target)
    for n in range(frames):
        a, b = points[n] - points[n].mean(0), target[n] - target[n].mean(0)
        turn, stretch = orthogonal_procrustes(a, b)
        assert np.linalg.det(turn) > 0
        expected = a @ turn * stretch / (a**2).sum() + target[n].mean(0)
        np.testing.assert_allclose(together[n], expected, atol=1e-10)
        alone = metrics.align(points[n : n + 1], target[n : n + 1])[0]
        np.testing.assert_allclose(together[n], alone, atol=1e-12)


def test_where_a_mirror_image_would_fit_best_the_best_turn_is_found():
    points = bodies(3)
    target = points * [1, 1, -1] + RNG.normal(0, 0.05, points.shape)
    aligned = metrics.align(points, target)
    for n in range(3):
        a, b = points[n] - points[n].mean(0), target[n] - target[n].mean(0)
        assert np.linalg.det(orthogonal_procrustes(a, b)[0]) < 0
        turned = Rotation.align_vectors(b, a)[0].apply(a)
        expected = turned * (turned * b).sum() / (a**2).sum() + target[n].mean(0)
        np.testing.assert_allclose(aligned[n], expected, atol=1e-7)


def test_points_that_coincide_are_aligned_without_nan():
    aligned = metrics.align(np.ones((2, 14, 3)), bodies(2))
    assert np.isfinite(aligned).all()


def test_acceleration_error_is_the_field_s_and_stops_at_gaps():
    frame = np.array([0, 1, 2, 3, 10, 11, 12, 20, 21])
    true, found = bodies(9), bodies(9)
    error = metrics.acceleration_error(found, true, frame)
    x = found - (found[:, 2:3] + found[:, 3:4]) / 2
    y = true - (true[:, 2:3] + true[:, 3:4]) / 2
    expected = np.full(9, np.nan)
    for t in (1, 2, 5):
        a = x[t + 1] - 2 * x[t] + x[t - 1]
        a_true = y[t + 1] - 2 * y[t] + y[t - 1]
        expected[t] = 1000 * np.mean([np.hypot.reduce(off) for off in a - a_true])
    np.testing.assert_allclose(error, expected)


def test_acceleration_error_in_closed_form():
    """A fall of one wrist by g t^2 / 2 that the recovered body takes no part in."""
    t = np.arange(10.0)
    true, still = np.zeros((2, 10, 14, 3))
    true[:, 6, 1] = 0.5 * 0.0109 * t**2  # 9.81 m/s^2 at 30 frames/s, in m / frame^2
    error = metrics.acceleration_error(still, true, np.arange(10))
    np.testing.assert_allclose(error[1:-1], 10.9 / 14)
    assert np.isnan(error[[0, -1]]).all()
    moving = still + 0.1 * t[:, None, None] ** 2  # the whole body speeds up: none relative to it
    np.testing.assert_allclose(metrics.acceleration_error(moving, true, np.arange(10)), error)
    two = metrics.acceleration_error(still[:2], true[:2], np.arange(2))
    assert len(two) == 2
    assert np.isnan(two).all()


def labelled(frames=1):
    """Joints on a circle; left shoulder to right hip 100 px, right shoulder to left hip 50."""
    kp2d = np.ones((frames, 14, 3))
    kp2d[..., :2] = RNG.uniform(0, 500, (frames, 14, 2))
    kp2d[:, [9, 2, 8, 3], :2] = [[60, 80], [0, 0], [30, 40], [0, 0]]
    return kp2d


def test_torso_is_left_shoulder_to_right_hip_or_the_other_diagonal():
    kp2d = labelled(3)
    kp2d[1, 9, 2] = 0
    kp2d[2, [9, 8], 2] = 0
    np.testing.assert_allclose(metrics.torso(kp2d), [100, 50, np.nan])


def test_keypoints_within_a_fifth_of_the_torso_are_correct():
    kp2d = labelled(2)
    kp2d[1, [2, 3], 2] = 0  # no torso: nothing can be computed for this frame
    kp2d[0, 0, 2] = 0
    points = kp2d[..., :2].copy()
    points[:, 4] += [12, 15.9]  # 19.92 px
    points[:, 5] += [12, 16.1]  # 20.08 px
    correct = metrics.correct_keypoints(points, kp2d)
    expected = np.ones(14)
    expected[[0, 5]] = np.nan, 0
    np.testing.assert_array_equal(correct[0], expected)
    assert np.isnan(correct[1]).all()


def test_error_2d_counts_sides_of_the_box():
    kp2d = labelled(2)
    kp2d[1, 3, 2] = 0
    points = kp2d[..., :2] + [3, 4]
    box = np.array([[10.0, 10, 60, 110], [0, 0, 200, 50]])
    error = metrics.error_2d(points, kp2d, box)
    np.testing.assert_allclose(error[0], 0.05)
    np.testing.assert_allclose(np.delete(error[1], 3), 0.025)
    assert np.isnan(error[1, 3])
