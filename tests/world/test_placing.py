"""People of a known world, filmed: is the world found again, and do their feet stand in it?"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import joints, rotation_matrices
from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import UsageError
from staf_cli.core.records import LandmarkTrack, select_rows
from staf_cli.fitting.joint_limits import joint_limits
from staf_cli.report.measures import motion
from staf_cli.world import placing
from staf_cli.world.axes import raised
from staf_cli.world.options import WorldOptions
from staf_cli.world.picture import distance_from_keypoints, eased
from staf_cli.world.placing import above_ground, locked, place_in_world
from staf_cli.world.seen_feet import seen_speed
from staf_cli.world.soles import sole_points, soles_of
from staf_cli.world.standing import plan_stand
from tests.support.made_walks import (
    FPS,
    as_recovered,
    body,
    detected,
    filmed,
    looking,
    moving_camera,
    walk,
)

PLAIN = WorldOptions(lock_feet=False)
CAMERA = still_camera(np.arange(30))
TOWARDS, ALONG = 0.0, np.pi / 2  # headings: towards the camera, to its right


def placed(people, options=PLAIN, camera=None):
    frames = max(len(person.frame) for person in people)
    camera = still_camera(np.arange(frames)) if camera is None else camera
    return place_in_world(people, [None] * len(people), body(), camera, options)


def off_vertical(person, axes, row=0):
    """Degrees between the found vertical, in the camera's frame, and the true one."""
    found = person.world_camera[row, 1, :3]
    return np.degrees(np.arccos(np.clip(found @ axes[1], -1, 1)))


def soles(person):
    return sole_points(person.world_poses, person.betas, person.world_trans, soles_of(body()))


def off_path(person, truth):
    """m, largest distance of the pelvis from its true path; the heading of the axes is free."""
    found, true = (path - path.mean(0) for path in (person.world_joints3d[:, 0], truth))
    ahead = [
        np.array([path[-1, 0] - path[0, 0], path[-1, 2] - path[0, 2]]) for path in (found, true)
    ]
    heading = [np.arctan2(*way) for way in ahead]
    turn = Rotation.from_rotvec([0, heading[1] - heading[0], 0])
    return np.linalg.norm(turn.apply(found) - true, axis=1).max()


def skate(person):
    """m/s, mean speed over the ground of what is in contact."""
    points, there = soles(person), person.world_contacts > 0.5
    speed = np.linalg.norm(np.diff(points[..., [0, 2]], axis=0), axis=-1) * FPS
    return speed[there[1:] & there[:-1]].mean()


@pytest.mark.parametrize(
    ("pitch", "roll", "height"), [(0, 0, 1.5), (12, 2, 1.7), (25, -3, 3.0), (-8, 0, 0.6)]
)
@pytest.mark.parametrize("heading", [TOWARDS, 0.8])
def test_a_still_camera_of_any_tilt_is_found(pitch, roll, height, heading):
    made = walk(4.0, heading, (-1.5 * (heading != TOWARDS), -9.0))
    axes, place = looking(pitch, roll, height)
    (person,) = placed([filmed(made, axes, place)])
    assert off_vertical(person, axes) < 2
    standing = np.repeat(made.stands, 2, 1)
    assert abs(np.median(soles(person)[..., 1][standing])) < 0.03
    assert off_path(person, made.pelvis) < 0.04 * 4.4
    assert np.allclose(person.world_joints3d[0, 0, [0, 2]], 0, atol=1e-9)
    assert person.world_sigma[0, 0] < np.radians(4)


def test_without_noise_the_pose_in_the_world_is_the_one_that_was_filmed():
    made = walk(3.0, 0.5, (0, -7))
    axes, place = looking(10, 0, 1.6)
    person = filmed(made, axes, place)
    (moved,) = placed([person])
    points = np.einsum("fij,fnj->fni", moved.world_camera[..., :3], person.joints3d)
    points += moved.world_camera[:, None, :, 3]
    assert np.allclose(points, moved.world_joints3d, atol=1e-6)
    assert np.array_equal(moved.poses, person.poses)
    rotmats, betas = rotation_matrices(moved.world_poses), torch.from_numpy(moved.betas)
    trans = torch.from_numpy(moved.world_trans)
    found, _ = joints(body(), rotmats, betas, trans, moved.image_size, moved.focal_length)
    assert np.allclose(found, moved.world_joints3d, atol=1e-5)


def test_people_share_the_ground_and_a_wrong_size_is_raised_or_lowered_to_it():
    axes, place = looking(15, 0, 2.0)
    walks = [walk(4.0, TOWARDS, (-1, -9)), walk(4.0, ALONG, (-2, -6)), walk(4.0, 2.0, (1, -5))]
    people = [filmed(made, axes, place, n + 1) for n, made in enumerate(walks)]
    far = people[1]  # a child of 0.92 times the size seems farther away by that
    people[1] = replace(
        far,
        trans=far.trans + 0.08 * far.joints3d[:, 0],
        joints3d=far.joints3d + 0.08 * far.joints3d[:, :1],
    )
    found = placed(people)
    for person, made in zip(found, walks, strict=True):
        assert abs(np.median(soles(person)[..., 1][np.repeat(made.stands, 2, 1)])) < 0.03
    assert off_vertical(found[0], axes) < 2
    assert np.array_equal(found[0].world_camera[0, :, :3], found[2].world_camera[0, :, :3])


def test_people_on_two_levels_do_not_tilt_the_world_and_keep_their_levels():
    """As in the demo: one on a roof, in the upper part of the picture, one on the grass."""
    axes, place = looking(3, 0, 3.0)
    low, high = walk(4.0, ALONG, (-2, -8)), walk(4.0, ALONG, (-1, -9.5))
    high = replace(high, pelvis=high.pelvis + np.array([0, 1.9, 0]))
    people = [filmed(made, axes, place, n + 1) for n, made in enumerate((low, high))]
    found = placed([as_recovered(person, person.id) for person in people])
    assert off_vertical(found[0], axes) < 6
    for one, made, level in zip(found, (low, high), (0, 1.9), strict=True):
        there = soles(one)[..., 1][np.repeat(made.stands, 2, 1)]
        assert abs(np.median(there) - level) < (0.3 if level else 0.03)


def test_of_a_crowd_some_show_the_ground_and_all_stand_on_it(monkeypatch):
    monkeypatch.setattr(placing, "MOST_PEOPLE", 1)
    axes, place = looking(12, 0, 1.8)
    walks = [walk(4.0, TOWARDS, (0, -9)), walk(2.0, ALONG, (-1, -6))]
    found = placed([filmed(one, axes, place, n + 1) for n, one in enumerate(walks)])
    assert off_vertical(found[1], axes) < 2
    for person, made in zip(found, walks, strict=True):
        assert abs(np.median(soles(person)[..., 1][np.repeat(made.stands, 2, 1)])) < 0.03


def test_frames_at_the_same_time_break_nothing():
    axes, place = looking(5, 0, 1.5)
    person = filmed(walk(2.0, ALONG, (-1, -6)), axes, place)
    (moved,) = placed([replace(person, time=np.repeat(person.time[::2], 2))], WorldOptions())
    assert np.isfinite(moved.world_joints3d).all()
    (frozen,) = placed([replace(person, time=0 * person.time)], WorldOptions())
    assert np.isfinite(frozen.world_joints3d).all()


@pytest.mark.parametrize("seconds", [1.3, 60.0])
def test_frames_far_apart_break_nothing(seconds):
    axes, place = looking(5, 0, 1.5)
    person = filmed(walk(2.0, ALONG, (-1, -6)), axes, place)
    (moved,) = placed([replace(person, time=seconds * np.arange(len(person.time)))], WorldOptions())
    assert np.isfinite(moved.world_joints3d).all()


@pytest.mark.parametrize("step", [0.04, 0.3, 60.0])
def test_an_envelope_is_nowhere_below_its_values(step):
    values = np.random.default_rng(2).random(50)
    envelope = placing._envelope(values, step * np.arange(50.0), placing.DROP_SECONDS)
    assert (envelope >= values - 1e-12).all()
    assert envelope.max() <= values.max() + 1e-12


def test_what_the_user_knows_holds():
    axes, place = looking(20, 0, 2.5)
    person = filmed(walk(2.0, ALONG, (-1, -7)), axes, place)
    (tilted,) = placed([person], replace(PLAIN, tilt=5.0))
    pitch = np.degrees(np.arcsin(-tilted.world_camera[0, 1, 2]))
    assert pitch == pytest.approx(5, abs=0.1)
    (known,) = placed([person], replace(PLAIN, tilt=20.0, camera_height=2.5))
    assert off_vertical(known, axes) < 1
    assert known.world_camera[0, 1, 3] == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize("wrong", [{"tilt": 90.0}, {"camera_height": 0.0}, {"tilt": float("nan")}])
def test_options_nobody_can_mean_are_refused(wrong):
    with pytest.raises(UsageError):
        WorldOptions(**wrong)


def test_a_camera_that_turns_and_walks_leaves_people_where_they_are():
    made = walk(4.0, ALONG, (-2.5, -7))
    axes, place = looking(8, 0, 1.6)
    frames = len(made.poses)
    pan = Rotation.from_rotvec(np.linspace(0.35, -0.3, frames)[:, None] * [0, 1, 0]).as_matrix()
    turned = pan @ axes
    places = place + np.linspace(0, 1, frames)[:, None] * [1.5, 0.1, 0]
    camera = moving_camera(turned, places)
    (person,) = placed([filmed(made, turned, places)], camera=camera)
    assert off_vertical(person, turned[0]) < 2
    assert off_path(person, made.pelvis) < 0.04 * 4.4


def test_a_cut_begins_a_new_world():
    made = [walk(2.0, TOWARDS, (0, -7)), walk(2.0, ALONG, (-1, -6))]
    views = [looking(5, 0, 1.5), looking(25, 0, 3.0)]
    people = [
        filmed(one, *view, n + 1) for n, (one, view) in enumerate(zip(made, views, strict=True))
    ]
    people[1] = replace(people[1], frame=people[1].frame + 60)
    still = still_camera(np.arange(120))
    camera = replace(still, shot=np.arange(120) // 60)
    found = placed(people, camera=camera)
    for person, (axes, _) in zip(found, views, strict=True):
        assert off_vertical(person, axes) < 3
        assert np.allclose(person.world_joints3d[0, 0, [0, 2]], 0, atol=1e-9)


def test_contacts_are_those_of_the_walk():
    made = walk(4.0, ALONG, (-2, -6))
    axes, place = looking(5, 0, 1.5)
    for seed in (None, 3):
        person = filmed(made, axes, place)
        person = person if seed is None else as_recovered(person, seed)
        (moved,) = placed([person])
        found = moved.world_contacts > 0.5
        agree = (found == np.repeat(made.stands, 2, 1)).mean()
        assert agree > (0.85 if seed is None else 0.75)


def test_landmarks_say_how_fast_feet_are():
    """With looks the same way round; the mirror image shows everything elsewhere."""
    made = walk(4.0, ALONG, (-2, -6))
    axes, place = looking(0, 0, 1.4)
    pan = Rotation.from_rotvec(np.linspace(0.2, -0.2, 120)[:, None] * [0, 1, 0]).as_matrix()
    person = filmed(made, pan @ axes, place)
    camera = moving_camera(pan @ axes, np.tile(place, (120, 1)))
    points = sole_points(person.poses, person.betas, person.trans, soles_of(body()))
    pixels = points[..., :2] / points[..., 2:] * person.focal_length
    pixels += np.array(person.image_size) / 2
    frame = np.arange(0, 120, 3)
    count, mirrored = len(frame), np.arange(len(frame)) % 2 == 1
    kp2d = np.zeros((count, 33, 3), np.float32)
    kp2d[:, [29, 31, 30, 32], :2] = pixels[frame] + 9 * mirrored[:, None, None]
    kp2d[:, [29, 31, 30, 32], 2] = np.array([1, 1, 1, 0.1])
    seen = LandmarkTrack(
        id=1,
        frame=frame,
        mirrored=mirrored,
        kp2d=kp2d,
        metres=np.zeros((count, 33, 3), np.float32),
        score=np.ones(count),
        region=np.zeros((count, 4)),
        mask_row=np.zeros(0, np.int64),
        mask=np.zeros((0, 64, 64), np.uint8),
    )
    speed = seen_speed(seen, person, camera)
    assert np.isnan(speed[:, 3]).all()  # hidden
    stands = np.repeat(made.stands, 2, 1)
    inside = np.stack([np.convolve(one, np.ones(9), "same") == 9 for one in stands.T], 1)
    assert speed[:, :3][inside[:, :3]].max() < 0.2
    assert np.nanmax(speed[:, :3]) > 1.5


@pytest.mark.parametrize(
    ("heading", "pitch", "seed"), [(TOWARDS, 20, 3), (ALONG, 12, 0), (2.2, 0, 2)]
)
def test_standing_feet_neither_slide_nor_sink(heading, pitch, seed):
    axes, place = looking(pitch, 0, 1.6)
    start = {TOWARDS: (0, -8), ALONG: (-2, -6)}.get(heading, (-1, -5))
    person = filmed(walk(4.0, heading, start), axes, place)
    noisy = as_recovered(person, seed)
    (before,), (after,) = placed([noisy]), placed([noisy], WorldOptions())
    assert skate(before) > 0.15
    assert skate(after) < 0.02
    assert soles(after)[..., 1].min() > -0.01
    rough = [
        np.nanmean(motion(one.world_joints3d, one.time, one.frame)[1]) for one in (before, after)
    ]
    assert rough[1] < 1.03 * rough[0]
    off = [
        np.linalg.norm(_pixels(one) - person.joints2d, axis=-1).mean() for one in (before, after)
    ]
    assert off[1] < 1.05 * off[0]
    assert np.array_equal(before.world_contacts, after.world_contacts)


def test_feet_stand_no_firmer_than_the_picture_allows_and_do_not_sink_either():
    axes, place = looking(20, 0, 1.6)
    true = filmed(walk(4.0, ALONG, (-2, -6)), axes, place)
    noisy, track = as_recovered(true, 3), detected(true)
    camera = still_camera(np.arange(len(true.frame)))
    place_with = partial(place_in_world, [noisy], [None], body(), camera)
    (before,), (firm,), (after,) = (
        place_with(PLAIN),
        place_with(WorldOptions()),
        place_with(WorldOptions(), [track]),
    )
    off = [distance_from_keypoints(one, track).mean() for one in (before, firm, after)]
    assert off[1] > 1.05 * off[0]
    assert off[2] <= 1.05 * off[0]
    assert skate(after) < 0.5 * skate(before)
    assert soles(after)[..., 1].min() > -0.01


def test_a_body_that_sinks_is_raised_and_stands_all_the_same():
    """Its vertical is off, so it walks into the ground; bending legs out of it costs too much."""
    axes, place = looking(12, 0, 1.6)
    true = filmed(walk(10.0, ALONG, (-5.5, -9)), axes, place)
    noisy, track = as_recovered(true, 2), detected(true)
    camera = still_camera(np.arange(len(true.frame)))
    place_with = partial(place_in_world, [noisy], [None], body(), camera)
    (before,), (after,) = place_with(PLAIN), place_with(WorldOptions(), [track])
    assert soles(before)[..., 1].min() < -0.05
    assert skate(after) < 0.1 * skate(before)
    assert soles(after)[..., 1].min() > -0.01
    off = [distance_from_keypoints(one, track).mean() for one in (before, after)]
    assert off[1] <= 1.05 * off[0]


def test_only_where_feet_that_stand_cost_most_they_stand_less():
    time = np.arange(100) / FPS
    before, after = np.full(100, 0.03), np.full(100, 0.03)
    assert eased(np.ones(100), before, after, time) is None
    assert eased(np.ones(100), np.full(100, np.nan), after, time) is None
    after[60:70] = 0.06
    less = eased(np.ones(100), before, after, time)
    assert less is not None
    assert np.allclose(less[:38], 1, atol=1e-3)
    assert 0.3 < less[65] < 0.9
    assert np.abs(np.diff(less)).max() < 0.2
    paid = before + less**2 * (after - before)  # as costs go with the square
    assert eased(less, before, paid, time) is None
    assert (paid - before).mean() > 0.5 * 0.05 * before.mean()  # and no more is lost than needed
    assert less.mean() > 0.8  # as much everywhere would leave 0.71
    nothing = eased(np.zeros(100), before, after, time)
    assert nothing is not None
    assert not nothing.any()


def test_where_nothing_helps_the_picture_stays_as_it_is_and_nothing_sinks():
    """A body that is below the ground, and that lies on its keypoints."""
    axes, place = looking(5, 0, 1.6)
    true = filmed(walk(0.5, ALONG, (-1, -6)), axes, place)
    (person,) = placed([true])
    low = raised(person, np.full(len(person.frame), -0.1))
    found = locked(low, detected(true), body(), soles_of(body()), CAMERA)
    assert soles(found)[..., 1].min() > -0.01
    off = [distance_from_keypoints(one, detected(true)).mean() for one in (low, found)]
    assert off[1] <= 1.05 * off[0]


def test_a_body_far_below_the_ground_is_raised_with_its_camera():
    """As if the camera had risen unseen by 2 m."""
    made = walk(2.0, TOWARDS, (0, -8))
    axes, place = looking(5, 0, 1.6)
    places = place + np.outer(2.0 * (np.arange(len(made.poses)) > 40), [0, 1, 0])
    true = filmed(made, axes, places)
    (found,) = placed([true])
    assert soles(found)[..., 1].min() > -0.16
    assert np.allclose(_pixels(found), true.joints2d, atol=1e-2)


def test_sinking_bodies_are_lifted_smoothly_and_by_enough():
    axes, place = looking(5, 0, 1.6)
    (person,) = placed([filmed(walk(1.0, ALONG, (-1, -6)), axes, place)])
    sunk = raised(person, -0.05 * np.sin(np.linspace(0, np.pi, len(person.frame))) ** 2)
    lifted = above_ground(sunk, soles_of(body()), [slice(0, len(person.frame))])
    assert soles(lifted)[..., 1].min() > -0.01
    path = soles(lifted)[:, 0, 1] - soles(sunk)[:, 0, 1]
    assert np.abs(np.diff(path, 2)).max() < 0.004


def _pixels(person):
    turn, place = person.world_camera[..., :3], person.world_camera[..., 3]
    points = np.einsum("fji,fnj->fni", turn, person.world_joints3d - place[:, None])
    return points[..., :2] / points[..., 2:] * person.focal_length + np.array(person.image_size) / 2


def test_legs_stay_within_their_ranges_and_the_rest_as_it_was():
    axes, place = looking(5, 0, 1.6)
    person = as_recovered(filmed(walk(3.0, ALONG, (-2, -6)), axes, place), 4)
    (before,), (after,) = placed([person]), placed([person], WorldOptions())
    limits = joint_limits()
    one, other = (each.world_poses.reshape(-1, 24, 3) for each in (before, after))
    legs = [1, 2, 4, 5, 7, 8]
    rest = [joint for joint in range(24) if joint not in legs]
    assert np.allclose(one[:, rest], other[:, rest], atol=1e-6)
    own = [joint - 1 for joint in legs]
    low = np.minimum(limits.lowest[own].numpy(), one[:, legs])
    high = np.maximum(limits.highest[own].numpy(), one[:, legs])
    assert (other[:, legs] > low - 1e-4).all()
    assert (other[:, legs] < high + 1e-4).all()


def test_it_looks_ahead_as_far_as_back():
    """A motion played backwards is planned backwards."""
    rng = np.random.default_rng(0)
    frames = 60
    points = np.cumsum(rng.normal(0, 0.01, (frames, 4, 3)), 0)
    contacts = rng.random((frames // 10, 4)).repeat(10, axis=0)
    ray = np.tile([0.0, -0.2, -0.98], (frames, 1)) / np.hypot(0.2, 0.98)
    time = np.arange(frames) / FPS
    forth = plan_stand(points, contacts, ray, time, [slice(0, frames)])
    back = plan_stand(points[::-1], contacts[::-1], ray, time, [slice(0, frames)])
    assert np.allclose(forth.shift, back.shift[::-1], atol=1e-6)
    assert np.allclose(forth.soles, back.soles[::-1], atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_picture_and_a_moment_have_a_world_too(frames):
    axes, place = looking(10, 0, 1.5)
    person = select_rows(filmed(walk(1.0, TOWARDS, (0, -5)), axes, place), slice(frames))
    (moved,) = placed([person], WorldOptions())
    assert off_vertical(moved, axes) < 8
    assert abs(soles(moved)[..., 1].min()) < 0.05


def test_gaps_and_uneven_times_are_no_motion():
    axes, place = looking(5, 0, 1.5)
    whole = filmed(walk(4.0, ALONG, (-2, -6)), axes, place)
    kept = np.r_[0:40, 70:120]
    uneven = whole.time + np.random.default_rng(0).uniform(-0.01, 0.01, len(whole.time))
    person = select_rows(replace(whole, time=uneven), kept)
    camera = still_camera(np.arange(120))
    (moved,) = placed([person], WorldOptions(), camera)
    assert off_vertical(moved, axes) < 2
    assert np.isfinite(moved.world_joints3d).all()


def test_cameras_that_look_straight_down_have_axes():
    person = filmed(walk(1.0, TOWARDS, (0, 0)), *looking(89, 0, 6.0))
    (moved,) = placed([person], replace(PLAIN, tilt=89.0))
    turn = moved.world_camera[0, :, :3]
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9)
