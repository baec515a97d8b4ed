"""The focal length from turns, of made pictures and of points of known cameras."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.camera.background import Background, Keyframe, View, follow_background
from staf_cli.camera.focal import LEAST_SIGMA, find_focal, turned_pairs
from staf_cli.tracking.shots import find_cuts
from tests.support.made_panorama import (
    FOCAL,
    FPS,
    disturb,
    look_around,
    painted_sphere,
    put_people,
)

TIME = np.arange(4 * FPS) / FPS
SIZE = (640, 360)
DIAGONAL = float(np.hypot(*SIZE))


def turns(axes, degrees):
    return Rotation.from_euler(axes, np.reshape(degrees, (-1, len(axes))), degrees=True).as_matrix()


def background_of(rotations, focal):
    frames = look_around(painted_sphere(), rotations, focal)
    tracks = put_people(frames, 0.4)
    cuts: list[int] = []
    disturbed = disturb(frames, noise=3, flicker=0.1)
    return follow_background(find_cuts(iter(disturbed), cuts), tracks, cuts)


def seen_points(rotations, places, focal, depth, noise=0.2):
    """A background of points whose depth (m) is that of the ray through each pixel of the first."""
    chance = np.random.default_rng(1)
    key = chance.uniform(-0.5, 0.5, (200, 2)) * SIZE
    rays = np.concatenate([key / focal, np.ones((200, 1))], 1)
    points = rays * np.broadcast_to(depth, 200)[:, None]
    views = []
    for number, (turn, place) in enumerate(zip(rotations, places, strict=True)):
        seen = (points - place) @ turn
        flat = focal * seen[:, :2] / seen[:, 2:] + chance.normal(0, noise, (200, 2))
        views.append(View(number, number / FPS, 0, 0, np.arange(200), flat.astype(np.float32)))
    return Background(SIZE, views, [Keyframe(0, key.astype(np.float32))])


@pytest.mark.parametrize("part", [0.6, 1.0, 1.6])
@pytest.mark.parametrize(
    "rotations",
    [turns("y", 9 * TIME), turns("yx", np.stack([7 * TIME, 6 * np.sin(2 * TIME)], 1))],
)
def test_a_turning_camera_tells_its_focal_length(part, rotations):
    found = find_focal(background_of(rotations, part * FOCAL))
    assert found is not None
    assert found.pixels == pytest.approx(part * FOCAL, rel=0.04)
    assert found.sigma < 0.04


@pytest.mark.parametrize(
    "rotations",
    [turns("z", 25 * np.sin(TIME)), turns("y", 0.4 * TIME), np.tile(np.eye(3), (20, 1, 1))],
)
def test_a_roll_a_short_turn_and_a_tripod_tell_nothing(rotations):
    assert find_focal(background_of(rotations, FOCAL)) is None


def test_its_deviation_is_that_of_many_trials():
    """With noise of half a pixel and a turn just large enough, by points alone."""
    rotations, places = turns("y", np.linspace(0, 5, 6)), np.zeros((6, 3))
    background = seen_points(rotations, places, DIAGONAL, 10.0)
    chance, found = np.random.default_rng(5), []
    last, key = background.views[-1], background.keyframes[0]
    for _ in range(30):
        points = last.points + chance.normal(0, 0.5, last.points.shape).astype(np.float32)
        view = View(1, 0.1, 0, 0, last.seen, points)
        found.append(find_focal(Background(SIZE, [background.views[0], view], [key])))
    kept = [one for one in found if one is not None]
    assert len(kept) > 20
    off = np.log([one.pixels / DIAGONAL for one in kept])
    assert abs(off.mean()) < 0.02
    of_noise = np.sqrt(np.square([one.sigma for one in kept]) - LEAST_SIGMA**2)
    assert 0.5 < off.std() / of_noise.mean() < 1.5


@pytest.mark.parametrize("heading", [(1, 0, 0), (0.3, 0.1, 1), (0, 0, 1)])
def test_a_camera_that_travels_tells_nothing(heading):
    """Walls and ground at 3 to 15 m: one metre's way, with a turn."""
    depth = np.random.default_rng(2).uniform(3, 15, 200)
    places = np.linspace(0, 1, 10)[:, None] * heading
    for last in (0, 6):
        rotations = turns("y", np.linspace(0, last, 10))
        assert find_focal(seen_points(rotations, places, DIAGONAL, depth)) is None


def test_outliers_do_not_change_it():
    rotations, places = turns("y", np.linspace(0, 8, 10)), np.zeros((10, 3))
    background = seen_points(rotations, places, 0.7 * DIAGONAL, 10.0)
    for view in background.views[1:]:
        view.points[:50] += np.random.default_rng(view.frame).normal(0, 20, (50, 2))
    found = find_focal(background)
    assert found is not None
    assert found.pixels == pytest.approx(0.7 * DIAGONAL, rel=0.03)


def test_one_shot_of_many_does_not_tell_the_lens_of_all():
    rotations, places = turns("y", np.linspace(0, 8, 10)), np.zeros((10, 3))
    turning = seen_points(rotations, places, DIAGONAL, 10.0)
    lost = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    for count, told in ((8, True), (12, False)):
        still = [View(10 + k, 1 + k / FPS, 1, -1, *lost) for k in range(count)]
        both = Background(SIZE, [*turning.views, *still], turning.keyframes)
        assert (find_focal(both) is not None) == told


def test_a_keyframe_counts_with_the_view_that_moved_farthest():
    rotations, places = turns("y", np.linspace(0, 10, 11)), np.zeros((11, 3))
    (pair,) = turned_pairs(seen_points(rotations, places, DIAGONAL, 10.0, noise=0.0))
    moved = np.median(np.linalg.norm(pair.second - pair.first, axis=1))
    assert moved == pytest.approx(DIAGONAL * np.tan(np.radians(10)), rel=0.1)
