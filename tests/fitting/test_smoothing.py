"""Smoothing against closed forms, scipy's rotations and numpy's polynomials."""

from dataclasses import fields, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import crop_to_image_translation
from staf_cli.core.records import Clip, Person, join_rows, select_rows
from staf_cli.fitting import smoothing
from staf_cli.fitting.smoothing import Window, smooth, smooth_rotations
from staf_cli.recovery.options import RecoveryOptions
from tests.support.made_people import make_person, make_track, open_body
from tests.support.simple_walk import small_body, walk

FPS = 30.0
SECOND = np.arange(30) / FPS
CLIP = Clip(Path("clip.mp4"), 640, 480, FPS, Fraction(1, 30), None, False)
ARRAYS = ("poses", "betas", "trans", "pred_cam", "joints3d", "joints2d")


def smoothed(turns, time=None, strength=0.1, frame=None):
    """scipy's rotations, one a frame, of a single joint."""
    time = np.arange(len(turns)) / FPS if time is None else time
    frame = np.arange(len(turns)) if frame is None else frame
    rotmats = torch.from_numpy(turns.as_matrix())[:, None]
    smooth = smooth_rotations(rotmats, Window.around(time, frame, strength))[:, 0].numpy()
    assert np.abs(np.linalg.det(smooth) - 1).max() < 1e-12
    assert np.abs(smooth @ smooth.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    return Rotation.from_matrix(smooth)


def apart(one, other):
    """Largest angle between rotations, rad."""
    return (one.inv() * other).magnitude().max()


def jittering(frames, size=0.3, seed=0):
    rng = np.random.default_rng(seed)
    swing = 0.8 * np.sin(np.arange(frames)[:, None] / 9 + [0, 1, 2])
    return Rotation.from_rotvec(swing) * Rotation.from_rotvec(rng.normal(0, size, (frames, 3)))


@cache
def body() -> Body:
    return open_body()


def standing_person(frames: int) -> Person:
    """A person who keeps a pose, 5 m away."""
    person = make_person(make_track(1, frames), body(), CLIP)
    one = torch.from_numpy(Rotation.from_rotvec(person.poses[0].reshape(-1, 3)).as_matrix())
    trans = torch.tensor([0.3, -0.2, 5.0]).expand(frames, 3)
    return with_parameters(
        person, body(), one.expand(frames, 24, 3, 3), torch.from_numpy(person.betas), trans
    )


def moved(person: Person, poses=None, betas=None, trans=None, of=None) -> Person:
    """The person with some other parameters."""
    poses = person.poses if poses is None else poses
    rotmats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    betas = person.betas if betas is None else betas
    trans = person.trans if trans is None else trans
    return with_parameters(person, of or body(), *map(torch.from_numpy, (rotmats, betas, trans)))


def assert_same(one: Person, other: Person, within: float) -> None:
    for name in ARRAYS:
        off = np.abs(getattr(one, name) - getattr(other, name)).max()
        assert off <= within, f"{name}: {off}"


def uneven(frames, seed=0):
    return np.cumsum(np.random.default_rng(seed).uniform(0.5, 1.5, frames)) / FPS


@pytest.mark.parametrize("speed", [0.0, 3.0, 20.0])
@pytest.mark.parametrize("strength", [0.03, 0.15])
def test_a_uniform_turn_is_kept_to_its_ends(speed, strength):
    """20 rad/s is more than half a turn within reach of a fit."""
    time = uneven(60)
    axis = np.array([0.6, 0.0, 0.8])
    first = Rotation.from_rotvec([1.0, 2.0, -0.5])
    turns = first * Rotation.from_rotvec(speed * time[:, None] * axis)
    assert apart(smoothed(turns, time, strength), turns) < 1e-7


def test_it_depends_on_no_axes():
    turns = jittering(50)
    for left, right in (
        Rotation.random(10, rng=np.random.default_rng(1)).as_matrix().reshape(5, 2, 3, 3)
    ):
        left, right = Rotation.from_matrix(left), Rotation.from_matrix(right)
        assert apart(smoothed(left * turns * right), left * smoothed(turns) * right) < 1e-7


def test_nothing_wraps_at_half_a_turn():
    """Rotation vectors jump from pi to -pi there; the rotations hardly differ."""
    turns = Rotation.from_rotvec(np.pi * np.array([0, 0, 1])) * jittering(60, 0.05, 1)
    vectors = turns.as_rotvec()
    assert np.abs(np.diff(vectors, axis=0)).max() > 4  # so they do jump
    steps = smoothed(turns)[:-1].inv() * smoothed(turns)[1:]
    assert steps.magnitude().max() < 0.25


def test_time_may_run_backwards():
    turns, time = jittering(50), uneven(50)
    backwards = smoothed(turns[::-1], (time[-1] - time)[::-1])
    assert apart(backwards[::-1], smoothed(turns, time)) < 1e-7


def test_small_turns_are_fitted_by_quadratics():
    """numpy's weighted least squares has the same value at every frame."""
    rng, time, strength = np.random.default_rng(3), uneven(40), 0.08
    vectors = 1e-4 * rng.normal(size=(40, 3))
    smooth = smoothed(Rotation.from_rotvec(vectors), time, strength).as_rotvec()
    for row in range(40):
        x = (time - time[row]) / (3 * strength)
        near = np.abs(x) < 1
        weight = (1 - x[near] ** 2) ** 1.5  # polyfit squares it
        fit = np.polyfit(x[near], vectors[near], 2, w=weight)[-1]
        assert np.abs(smooth[row] - fit).max() < 1e-8  # the square of the turns


@pytest.mark.parametrize(("times_strength", "left"), [(0.1, 0.99), (0.316, 0.5)])
def test_the_strength_sets_the_cutoff(times_strength, left):
    strength, fps = 0.1, 200
    time = np.arange(2 * fps) / fps
    swing = 0.01 * np.sin(2 * np.pi * times_strength / strength * time)[:, None] * [1, 0, 0]
    smooth = smoothed(Rotation.from_rotvec(swing), time, strength).as_rotvec()
    inner = slice(fps // 2, -fps // 2)
    assert np.abs(smooth[inner] - left * swing[inner]).max() < 0.005 * 0.01


def test_a_frame_turned_about_is_put_right():
    """Half a turn in one frame, as when front and back are taken for each other."""
    turns = jittering(41, 0.0)
    wrong = turns.as_matrix()
    wrong[20] = wrong[20] @ np.diag([-1.0, 1, -1])
    assert apart(smoothed(Rotation.from_matrix(wrong), strength=0.1), turns) < 0.1


def test_whatever_comes_in_rotations_come_out():
    turns = Rotation.random(60, rng=np.random.default_rng(2))
    assert np.isfinite(smoothed(turns).as_quat()).all()  # `smoothed` checks the rest


def test_gaps_part_what_is_smoothed():
    turns, time = jittering(40), SECOND[0] + np.arange(40) / FPS
    frame = np.arange(40) + 2 * (np.arange(40) >= 17)
    both = smoothed(turns, time, frame=frame)
    assert apart(both[:17], smoothed(turns[:17])) < 1e-7
    assert apart(both[17:], smoothed(turns[17:])) < 1e-7
    assert apart(both, smoothed(turns)) > 0.05


def test_three_frames_alone_stay():
    for frames in (1, 2, 3):
        turns = jittering(frames)
        assert apart(smoothed(turns, strength=0.15), turns) < 1e-7


def test_frames_at_one_moment_share_their_value():
    """Some files have two frames at the same time."""
    turns = Rotation.from_rotvec([[0.2, 0, 0], [-0.2, 0, 0]])
    assert apart(smoothed(turns, np.zeros(2)), Rotation.identity(2)) < 1e-7


def test_strength_0_changes_nothing():
    person = make_person(make_track(1, 12), body(), CLIP)
    same = smooth(person, body(), 0)
    for field in fields(Person):
        assert np.array_equal(getattr(same, field.name), getattr(person, field.name))


def test_a_person_who_stands_still_stays():
    person = standing_person(40)
    assert_same(smooth(person, body(), 0.1), person, 1e-5)


def test_free_flight_stays():
    """A jump at one depth, turning over evenly: a parabola in the image."""
    person, time = standing_person(30), SECOND[:, None]
    trans = np.array([0.3, -0.2, 5.0]) + time * [0.8, -4.0, 0] + 9.81 / 2 * time**2 * [0, 1, 0]
    poses = person.poses.copy()
    turned = Rotation.from_rotvec(6 * time * [1, 0, 0]) * Rotation.from_rotvec(poses[:, :3])
    poses[:, :3] = turned.as_rotvec()
    flying = moved(person, poses=poses, trans=trans)
    after = smooth(flying, body(), 0.1)
    assert np.abs(after.trans - flying.trans).max() < 1e-5
    assert np.abs(after.joints3d - flying.joints3d).max() < 1e-5


def test_the_result_is_consistent():
    person = make_person(make_track(1, 30), body(), CLIP)
    after = smooth(person, body(), 0.1)
    rotmats = Rotation.from_rotvec(after.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    _, joints = body()(torch.from_numpy(rotmats).float(), torch.from_numpy(after.betas).float())
    assert np.abs(joints.numpy() + after.trans[:, None] - after.joints3d).max() < 1e-5
    placed = crop_to_image_translation(
        torch.from_numpy(after.pred_cam), torch.from_numpy(after.box), (640, 480), 900.0
    )
    assert np.abs(placed.numpy() - after.trans).max() < 1e-9
    assert np.abs(after.poses - person.poses).max() > 0.1  # something was smoothed


def test_depth_jitters_less_and_nobody_leaves_their_place_in_the_image():
    """A walk whose depth is 3 % off, another way in every frame, along the line of sight."""
    truth = walk(np.full(240, 0.7)).person
    rng = np.random.default_rng(0)
    shaking = moved(
        truth, trans=truth.trans * np.exp(rng.normal(0, 0.03, (240, 1))), of=small_body()
    )
    after = smooth(shaking, small_body(), 0.07)
    was, remains = (np.log(one.trans[:, 2] / truth.trans[:, 2]) for one in (shaking, after))
    inner = slice(10, -10)  # at the ends less can be known
    assert remains[inner].std() < 0.4 * was[inner].std()
    assert np.abs(after.joints2d[:, 0] - truth.joints2d[:, 0]).max() < 0.2  # px, pelvis
    feet = np.linalg.norm(after.joints2d - truth.joints2d, axis=-1)[:, [7, 8, 10, 11]]
    unsmoothed = np.linalg.norm(shaking.joints2d - truth.joints2d, axis=-1)[:, [7, 8, 10, 11]]
    assert feet.mean() < 0.6 * unsmoothed.mean()


def test_in_the_image_a_walk_stays_where_it_is():
    truth = walk(np.full(90, 0.7)).person
    after = smooth(truth, small_body(), 0.05)
    shift = np.linalg.norm(after.joints2d - truth.joints2d, axis=-1)
    assert shift.mean() < 0.2 and shift.max() < 2  # px, of a person 400 px tall


@pytest.mark.parametrize(
    "lengths", [(60,), (1, 2, 57), (30, 1, 1, 1, 27), (13, 13, 13, 13, 8), (4,) * 15]
)
def test_stretches_come_out_as_if_they_were_one(lengths):
    person = make_person(make_track(1, 60), body(), CLIP)
    rng = np.random.default_rng(4)
    person = moved(
        person,
        betas=rng.normal(0, 1, (60, 10)),
        trans=person.trans * rng.uniform(0.9, 1.1, (60, 1)),
    )
    frame = person.frame + 3 * (np.arange(60) >= 33)  # a gap, in the middle of a stretch
    person = replace(person, frame=frame, time=frame / FPS)
    ends = np.cumsum(lengths)
    stretches = [select_rows(person, slice(b - a, b)) for a, b in zip(lengths, ends, strict=True)]
    out = list(smoothing.smooth_stretches(stretches, body(), 0.06))
    assert tuple(len(one.frame) for one in out) == lengths
    assert_same(join_rows(out), smooth(person, body(), 0.06), 1e-9)


def test_long_people_are_smoothed_in_stretches(monkeypatch):
    person = make_person(make_track(1, 50), body(), CLIP)
    whole = smooth(person, body(), 0.05)
    monkeypatch.setattr(smoothing, "STRETCH_FRAMES", 20)
    assert_same(smooth(person, body(), 0.05), whole, 1e-9)


def test_no_more_is_in_memory_than_has_a_part():
    """Stretches of 10 frames; within reach of 0.05 s lie 9 frames on either side."""
    person = make_person(make_track(1, 200), body(), CLIP)
    begun = 0

    def stretches():
        nonlocal begun
        for begun in range(20):
            yield select_rows(person, slice(10 * begun, 10 * begun + 10))

    for given, one in enumerate(smoothing.smooth_stretches(stretches(), body(), 0.05)):
        assert len(one.frame) == 10
        assert begun <= given + 2
    assert given == 19
    windows = smoothing.with_surroundings(stretches(), 0.3)
    assert max(len(window.frame) for window, _ in windows) <= 10 + 10 + 2 * 10


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_strength_nobody_can_mean_is_refused(strength):
    with pytest.raises(UsageError, match="choose seconds from 0"):
        RecoveryOptions(smooth=strength)


def test_common_shape_is_a_median_by_score():
    betas = np.zeros((5, 10))
    betas[:, 0] = [3, 1, 2, 50, 9]
    betas[:, 1] = [-1, -3, -2, 4, 5]
    score = np.array([1, 1, 1, 0.5, 1])
    interpolated = np.array([False, False, False, False, True])
    shape = smoothing.common_shape(betas, score, interpolated)
    assert shape.tolist() == [2, -2, *[0] * 8]
    even = smoothing.common_shape(betas, score, np.ones(5, bool))
    assert even.tolist() == [3, -1, *[0] * 8]  # nothing but interpolated ones: all count alike


def test_one_shape_looks_as_tall():
    """Beta 0 of this body makes everything larger by 4 %: farther away it looks the same."""
    truth = walk(np.full(20, 0.7)).person
    betas = np.zeros((20, 10))
    betas[:, 0] = np.linspace(-2, 3, 20)
    various = moved(truth, betas=betas, of=small_body())
    shape = np.eye(10)[0]
    same = smoothing.with_shape(various, small_body(), shape)
    assert (same.betas == shape).all()
    assert np.abs(same.joints2d - various.joints2d).max() < 1e-2
    larger = 1.04 / (1 + 0.04 * betas[:, 0])
    assert same.joints3d[:, 0, 2] == pytest.approx(various.joints3d[:, 0, 2] * larger, rel=1e-5)


def test_one_shape_stays_where_it_stood():
    person = make_person(make_track(1, 20), body(), CLIP)
    rng = np.random.default_rng(5)
    various = moved(person, betas=person.betas + rng.normal(0, 1, (20, 10)))
    shape = smoothing.common_shape(various.betas, various.score, various.interpolated)
    same = smoothing.with_shape(various, body(), shape)
    assert np.abs(same.joints2d[:, 0] - various.joints2d[:, 0]).max() < 1e-3
    naive = moved(various, betas=np.tile(shape, (20, 1)))
    off, naively_off = (
        np.linalg.norm(one.joints2d - various.joints2d, axis=-1).mean() for one in (same, naive)
    )
    assert off < 0.5 * naively_off


def test_effect_in_closed_form():
    """Falling freely in 3D, then 2 px to the right; a gap counts for nothing."""
    person, time = standing_person(30), SECOND[:, None]
    frame = np.arange(30) + 10 * (np.arange(30) >= 12)
    trans = person.trans + 9.81 / 2 * time**2 * [0, 1, 0]
    trans[12:, 0] += 1
    falling = replace(moved(person, trans=trans), frame=frame)
    sideways = replace(falling, joints2d=falling.joints2d + np.array([2, 0]))
    seen = smoothing.effect(falling, sideways)
    assert seen.acceleration_before == seen.acceleration_after == pytest.approx(9.81, rel=1e-3)
    assert seen.jitter_before < 0.05
    assert seen.shift == pytest.approx(2)
    resting = smoothing.effect(person, person)
    assert resting.acceleration_after < 1e-3
    both = smoothing.mean_effect([seen, seen, resting])
    assert both.frames == 90
    assert both.shift == pytest.approx(4 / 3)
    assert both.acceleration_before == pytest.approx(9.81 * 2 / 3, rel=1e-3)


def test_effect_shows_what_smoothing_is_for():
    person = make_person(make_track(1, 60), body(), CLIP)
    seen = smoothing.effect(person, smooth(person, body(), 0.07))
    assert seen.acceleration_after < 0.5 * seen.acceleration_before
    assert seen.jitter_after < 0.3 * seen.jitter_before
    alone = select_rows(person, slice(2))
    assert smoothing.effect(alone, alone).acceleration_before == 0
