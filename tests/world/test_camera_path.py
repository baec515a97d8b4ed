"""A camera that travels with people: is it where their feet say, with rotations alone known?"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.world.camera_path import with_path
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import place_in_world
from tests.support.made_walks import (
    FPS,
    Walk,
    as_recovered,
    body,
    filmed,
    looking,
    moving_camera,
    walk,
)


def blind(axes, places):
    """A camera whose rotations are known, and that it travels."""
    camera = moving_camera(axes, places)
    travels = np.ones(len(places), bool)
    return replace(camera, position=np.zeros_like(places), travels=travels)


def crossed(people, camera):
    """m, over the ground, from first to last frame."""
    lengths = []
    for one in place_in_world(people, [None] * len(people), body(), camera, WorldOptions()):
        assert one.world_joints3d is not None
        first, last = one.world_joints3d[[0, -1], 0]
        lengths.append(float(np.linalg.norm(last - first)))
    return lengths


@pytest.mark.parametrize("speed", [0.0, 1.2, 2.0])
@pytest.mark.parametrize("noise", [False, True])
def test_a_followed_walk_is_as_long_as_it_was(speed, noise):
    made = walk(4.0, np.pi / 2, (-3, -6.0))
    time = np.arange(len(made.poses)) / FPS
    turn = Rotation.from_euler("y", 3 * np.sin(time)[:, None], degrees=True).as_matrix()
    axes, place = looking(8, 0, 1.6)
    places = place + speed * time[:, None] * [1, 0, -0.3]
    person = filmed(made, turn @ axes, places)
    person = as_recovered(person, 1) if noise else person
    length = float(np.linalg.norm(made.pelvis[-1] - made.pelvis[0]))
    assert crossed([person], blind(turn @ axes, places)) == pytest.approx([length], rel=0.06)


def test_who_stands_stays_there_while_the_camera_circles_them():
    made = walk(3.0, 0.0, (0, 0))
    count = len(made.poses)
    still = Walk(
        *(np.repeat(part[:1], count, 0) for part in (made.poses, made.pelvis, made.stands))
    )
    turn = Rotation.from_euler("y", np.linspace(0, 60, count)[:, None], degrees=True).as_matrix()
    axes, _ = looking(8, 0, 1.6)
    places = turn @ np.array([0, 1.6, 5.0])
    camera = blind(turn @ axes, places)
    people = [as_recovered(filmed(still, turn @ axes, places), 2)]
    assert crossed(people, camera)[0] < 0.5
    assert crossed(people, replace(camera, travels=np.zeros(count, bool)))[0] > 3


def test_nothing_is_believed_of_who_jumps_nor_of_a_camera_that_only_turns():
    made = walk(3.0, np.pi / 2, (-2, -6.0))
    count = len(made.poses)
    jump = 0.5 * np.abs(np.sin(4 * np.arange(count) / FPS))
    axes, place = looking(8, 0, 1.6)
    axes, places = np.tile(axes, (count, 1, 1)), np.tile(place, (count, 1))
    camera = blind(axes, places)
    jumper = filmed(replace(made, pelvis=made.pelvis + jump[:, None] * [0, 1, 0]), axes, places)
    assert not with_path(camera, [[jumper]], body()).position.any()
    assert with_path(camera, [[filmed(made, axes, places)]], body()).position.any()
    at_rest = replace(camera, travels=np.zeros(count, bool))
    assert with_path(at_rest, [[filmed(made, axes, places)]], body()) is at_rest
    assert not with_path(camera, [], body()).position.any()
