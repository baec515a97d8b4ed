"""The camera's rotation from made pictures, whose true rotation is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.camera.background import Background, Keyframe, View, follow_background, zoom_of
from staf_cli.camera.estimate import estimate
from staf_cli.core.records import Frame
from staf_cli.tracking.shots import find_cuts
from tests.support.made_panorama import (
    FOCAL,
    FPS,
    HEIGHT,
    SIZE,
    WIDTH,
    disturb,
    look_around,
    painted_sphere,
    put_people,
)

TIME = np.arange(10 * FPS) / FPS


def motion_of(frames, tracks, tripod=True):
    cuts: list[int] = []
    background = follow_background(find_cuts(iter(frames), cuts), tracks, cuts)
    return estimate(background, FOCAL * zoom_of(SIZE), tripod)


def turns(axes, degrees):
    angles = np.asarray(degrees).reshape(len(degrees), -1)
    return Rotation.from_euler(axes, angles, degrees=True).as_matrix()


def error(motion, true):
    """Degrees between the rotations and the true ones, both from the first frame on."""
    relative = motion.rotation.transpose(0, 2, 1) @ true[0].T @ true
    return np.degrees(Rotation.from_matrix(relative).magnitude())


@pytest.fixture(scope="module")
def sphere():
    return painted_sphere()


@pytest.mark.parametrize(
    ("name", "true", "share"),
    [
        ("pan", turns("y", 9 * TIME), 0.5),
        ("tilt", turns("x", 20 * np.sin(TIME)), 0.4),
        ("roll", turns("z", 25 * np.sin(TIME)), 0.4),
        (
            "shake",
            Rotation.from_rotvec(
                0.02 * np.stack([np.sin(k * TIME + k) for k in (5, 3, 7)], 1)
            ).as_matrix(),
            0.3,
        ),
    ],
)
def test_a_turning_camera_is_followed_behind_people(sphere, name, true, share):
    frames = look_around(sphere, true)
    tracks = put_people(frames, share)
    motion = motion_of(disturb(frames, noise=3, flicker=0.1), tracks)
    assert motion.moving
    assert motion.known.mean() > 0.95
    assert error(motion, true).max() < 0.5  # over 10 s
    assert not motion.position.any()
    assert not motion.travels.any()


def test_a_tripod_is_left_alone_exactly(sphere):
    frames = look_around(sphere, np.tile(np.eye(3), (60, 1, 1)))
    tracks = put_people(frames, 0.7)
    motion = motion_of(disturb(frames, noise=6, flicker=0.2), tracks)
    assert not motion.moving
    assert motion.known.all()
    assert (motion.rotation == np.eye(3)).all()


def test_a_tripod_stays_within_a_twentieth_degree_if_it_is_said_to_move(sphere):
    true = np.tile(np.eye(3), (60, 1, 1))
    frames = look_around(sphere, true)
    tracks = put_people(frames, 0.5)
    motion = motion_of(disturb(frames, noise=3, flicker=0.1), tracks, tripod=False)
    assert motion.moving
    assert error(motion, true).max() < 0.05


def test_a_knocked_tripod_is_still_one_and_a_slow_pan_is_none(sphere):
    knocked = np.tile(np.eye(3), (30, 1, 1))
    knocked[12:14] = turns("x", [1.0, 0.5])
    assert not motion_of(look_around(sphere, knocked), []).moving
    slow = turns("y", np.linspace(0, 1, 30))
    motion = motion_of(look_around(sphere, slow), [])
    assert motion.moving
    assert error(motion, slow).max() < 0.05


def test_people_without_a_box_do_not_turn_the_camera(sphere):
    frames = look_around(sphere, np.tile(np.eye(3), (40, 1, 1)))
    put_people(frames, 0.4)
    assert not motion_of(frames, []).moving


def test_a_cut_begins_anew(sphere):
    before, after = turns("y", np.linspace(0, 8, 20)), turns("x", np.linspace(0, 6, 20))
    other = look_around(255 - painted_sphere(7) // 2, after)
    late = [Frame(one.index + 20, one.pts + 20, one.time + 2, one.image) for one in other]
    motion = motion_of([*look_around(sphere, before), *late], [])
    assert motion.shot.tolist() == [0] * 20 + [1] * 20
    assert np.degrees(Rotation.from_matrix(motion.rotation[20]).magnitude()) < 1e-6
    both = motion.rotation.transpose(0, 2, 1) @ np.concatenate([before, after])
    assert np.degrees(Rotation.from_matrix(both).magnitude()).max() < 0.2


def test_a_blank_wall_is_said_not_to_be_known():
    chance = np.random.default_rng(0)
    frames = [
        Frame(k, k, k / FPS, chance.normal(120, 0.4, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        for k in range(12)
    ]
    motion = motion_of(frames, [])
    assert not motion.known.any()
    assert not motion.moving
    assert (motion.rotation == np.eye(3)).all()


def test_what_is_lost_for_a_moment_is_found_again(sphere):
    true = turns("y", np.linspace(0, 10, 30))
    frames = look_around(sphere, true)
    for frame in frames[14:17]:
        frame.image[:] = 90
    motion = motion_of(frames, [])
    assert np.flatnonzero(~motion.known).tolist() == [14, 15, 16]
    assert error(motion, true).max() < 0.2


@pytest.mark.parametrize(
    ("heading", "last"),
    [
        ((1, 0, 0), [1, 6, 2]),
        ((0.2, 0.1, 1), [1, 6, 2]),
        ((0.8, 0, -0.6), [1, 6, 2]),
        ((1, 0, 0), [0, 0, 0]),
    ],
)
def test_a_camera_that_travels_turns_as_far_points_say(heading, last):
    """Hills at 300 m over ground and walls at 3 to 15 m, one metre's way, 6 degrees, noise."""
    chance = np.random.default_rng(1)
    key = chance.uniform([-300, -160], [300, 160], (200, 2)).astype(np.float32)
    depth = np.where(key[:, 1] < -60, 300.0, chance.uniform(3, 15, 200))
    place = np.concatenate([key / 700, np.ones((200, 1))], 1) * depth[:, None]
    views, true = [], turns("xyz", np.linspace([0, 0, 0], last, 10))
    for number, turn in enumerate(true):
        moved = (place - number / 9 * np.array(heading)) @ turn
        points = 700 * moved[:, :2] / moved[:, 2:] + chance.normal(0, 0.2, (200, 2))
        points[:30] += chance.normal(0, 20, (30, 2))
        views.append(View(number, number / FPS, 0, 0, np.arange(200), points.astype(np.float32)))
    motion = estimate(Background((640, 360), views, [Keyframe(0, key)]), 700.0)
    assert motion.travels.all()
    assert error(motion, true).max() < 0.5
