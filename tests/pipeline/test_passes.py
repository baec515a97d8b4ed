"""What the passes decide, without a video or a network."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.pipeline.passes import Source, follow_camera
from tests.support.made_panorama import FOCAL, SIZE, look_around, painted_sphere

PART = 0.6  # of the usual focal length, the image's diagonal


def turned(degrees):
    return Rotation.from_euler("y", np.reshape(degrees, (-1, 1)), degrees=True).as_matrix()


def motion_of(rotations, given):
    frames = look_around(painted_sphere(), rotations, PART * FOCAL)
    clip = SimpleNamespace(image_size=SIZE, frames=len(frames))
    source = cast(Source, SimpleNamespace(clip=clip, decode=lambda: iter(frames)))
    return follow_camera(source, [], given, True, lambda _, items, __: items)


def test_turns_are_right_where_they_tell_the_focal_length():
    rotations = turned(np.linspace(0, 20, 30))
    motion = motion_of(rotations, None)
    assert motion.focal_length == pytest.approx(PART * FOCAL, rel=0.03)
    off = Rotation.from_matrix(motion.rotation.transpose(0, 2, 1) @ rotations).magnitude()
    assert np.degrees(off).max() < 0.6


def test_a_focal_length_that_is_given_is_believed():
    motion = motion_of(turned(np.linspace(0, 20, 30)), FOCAL)
    assert np.isnan(motion.focal_length)
    turn = np.degrees(Rotation.from_matrix(motion.rotation[-1]).magnitude())
    assert turn == pytest.approx(PART * 20, rel=0.1)


def test_a_camera_at_rest_tells_none():
    motion = motion_of(turned(np.zeros(10)), None)
    assert np.isnan(motion.focal_length)
    assert not motion.moving
