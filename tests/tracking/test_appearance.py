"""Colours of clothes."""

import numpy as np
import pytest

from staf_cli.core.records import Detections
from staf_cli.tracking.appearance import COLOURS, colours_of, difference

RED, BLUE, GREEN, GREY = (200, 30, 30), (30, 40, 190), (40, 160, 60), (120, 120, 120)


def dressed(*people, light=1.0):
    """A frame of people in a row, each (trunk, legs)."""
    image = np.full((200, 100 * len(people), 3), 220, np.uint8)
    corners, kp2d = [], np.zeros((len(people), 17, 3))
    for n, (trunk, legs) in enumerate(people):
        left = 100 * n + 20
        image[40:100, left : left + 60] = np.array(trunk) * light
        image[100:190, left : left + 60] = np.array(legs) * light
        corners.append([left, 10, left + 60, 190])
    box = np.array(corners, np.float64)
    n = len(people)
    seen = Detections(0, 0.0, box, np.ones(n), np.ones(n, np.int64), kp2d)
    return image, seen


def test_the_same_clothes_are_alike_in_other_light_and_other_clothes_are_not():
    colours = colours_of(*dressed((RED, BLUE), (GREEN, BLUE), (RED, GREY)))
    assert colours.shape == (3, COLOURS)
    darker = colours_of(*dressed((RED, BLUE), light=0.9))
    assert difference(colours[:1], colours[:1]) == pytest.approx(0, abs=0.01)
    assert difference(colours[:1], darker) < 0.1
    assert difference(colours[:1], colours[1:2]) > 0.4  # the trunk is another
    assert difference(colours[:1], colours[2:3]) > 0.4  # the legs are others
    assert difference(colours[:1], colours_of(*dressed((GREEN, GREY)))) > 0.9


def test_keypoints_show_where_trunk_and_legs_are():
    """The person lies: the box's middle is no longer the trunk."""
    image = np.full((100, 300, 3), 220, np.uint8)
    image[30:70, 60:140], image[30:70, 140:260] = RED, BLUE
    kp2d = np.zeros((1, 17, 3))
    kp2d[0, [5, 6, 11, 12]] = [(65, 35, 1), (65, 65, 1), (135, 35, 1), (135, 65, 1)]
    kp2d[0, 13:] = [(190, 40, 1), (190, 60, 1), (250, 40, 1), (250, 60, 1)]
    box = np.array([[40.0, 25, 265, 75]])
    lying = Detections(0, 0.0, box, np.ones(1), np.ones(1, np.int64), kp2d)
    standing = colours_of(*dressed((RED, BLUE)))
    assert difference(colours_of(image, lying), standing) < 0.1


def test_what_is_outside_of_the_image_is_not_known():
    image, seen = dressed((RED, BLUE))
    outside = Detections(0, 0.0, seen.box + 500, seen.score, seen.track_id, seen.kp2d)
    assert not colours_of(image, outside).any()
    assert np.isnan(difference(colours_of(image, outside), colours_of(image, seen)))
