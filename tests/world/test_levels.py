"""People who change levels, who walk off a roof, up a step, or fall: are they where they are?"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.core.camera_motion import still_camera
from staf_cli.world.axes import levels_at
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import find_axes, place_in_world, survey
from staf_cli.world.soles import sole_points, soles_of
from tests.support.made_walks import FPS, as_recovered, body, filmed, looking, walk

ALONG = np.pi / 2  # heading, to the camera's right
CAMERA = still_camera(np.arange(120))


def changing(heights, begin, end):
    """A walk on the first height until `begin` s, on the second from `end` s, in a fall between."""
    made = walk(4.0, ALONG, (-2, -7))
    time = np.arange(len(made.poses)) / FPS
    part = np.clip((time - begin) / (end - begin), 0, 1)
    part = part**2 if heights[1] < heights[0] else part
    up = heights[0] + (heights[1] - heights[0]) * part
    flying = (time > begin) & (time < end)
    pelvis = made.pelvis + np.outer(up, [0, 1, 0])
    return replace(made, pelvis=pelvis, stands=made.stands & ~flying[:, None]), up


def levels_found(person):
    axes = find_axes([survey([person], 120, body(), CAMERA)], WorldOptions())
    return levels_at(person.id, person.frame, CAMERA, axes)


@pytest.mark.parametrize(
    ("heights", "begin", "end", "seed"),
    [((1.8, 0), 1.7, 2.3, 1), ((0, 0.4), 1.75, 1.95, 0), ((0.5, 0), 2, 2.3, 1)],
)
def test_who_changes_levels_is_on_each_in_its_time(heights, begin, end, seed):
    made, up = changing(heights, begin, end)
    person = as_recovered(filmed(made, *looking(8, 0, 2.2)), seed)
    found, sure = levels_found(person), made.stands.any(1)
    assert np.allclose(found[sure], up[sure], atol=0.15)
    assert (found[~sure & (up < max(up) - 0.2)] == 0).all()


@pytest.mark.parametrize(("seed", "pitch"), [(0, 0), (1, 20), (2, 0), (3, 20)])
def test_who_stays_on_the_ground_has_one_level(seed, pitch):
    axes, place = looking(pitch, 0, 1.6)
    person = filmed(walk(4.0, 0.6 * seed, (-1, -8)), axes, place)
    assert (levels_found(as_recovered(person, seed)) == 0).all()


def test_feet_stand_on_both_levels_and_do_not_sink_into_either():
    made, _ = changing((1.8, 0), 1.7, 2.3)
    person = as_recovered(filmed(made, *looking(8, 0, 2.2)), 1)
    (found,) = place_in_world([person], [None], body(), CAMERA, WorldOptions())
    assert found.world_poses is not None
    assert found.world_trans is not None
    assert found.world_contacts is not None
    points = sole_points(found.world_poses, person.betas, found.world_trans, soles_of(body()))
    there = np.asarray(found.world_contacts > 0.5)
    over = points[..., 1] - levels_found(person)[:, None]
    assert there[:45].any()
    assert there[75:].any()
    assert over.min() > -0.01
    assert np.abs(over[there]).max() < 0.05


def test_who_falls_and_rolls_is_on_the_ground_and_not_below():
    """No sole stands after the fall, and the distance is off by a seventh then."""
    made, _ = changing((1.8, 0), 1.7, 2.3)
    axes, place = looking(8, 0, 2.2)
    rolling = np.clip(np.arange(120) / FPS - 2.2, 0, None)
    turn = Rotation.from_rotvec(made.poses[:, 0]) * Rotation.from_euler("x", 7 * rolling[:, None])
    poses = made.poses.copy()
    poses[:, 0] = turn.as_rotvec()
    person = filmed(replace(made, poses=poses), axes, place)
    lowest = (person.joints3d @ axes.T + place)[..., 1].min(1) * (rolling > 0)
    pelvis = made.pelvis - np.outer(lowest, [0, 1, 0])
    pelvis = place + (pelvis - place) * np.where(rolling > 0, 1.14, 1)[:, None]
    people = [
        filmed(replace(made, poses=poses, pelvis=pelvis), axes, place),
        filmed(walk(4.0, ALONG, (-2, -5)), axes, place, number=2),
    ]
    found, _ = place_in_world(people, [None] * 2, body(), CAMERA, WorldOptions(lock_feet=False))
    assert found.world_joints3d is not None
    lowest = found.world_joints3d[..., 1].min(1)
    assert abs(np.median(lowest[:45]) - 1.85) < 0.15
    assert np.abs(lowest[75:]).max() < 0.2
