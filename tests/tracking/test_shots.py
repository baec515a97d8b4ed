"""Synthetic scenes: blurred noise has shapes and colours like a photo has, and moves exactly."""

import cv2
import numpy as np
import pytest

from staf_cli.core.records import Frame
from staf_cli.tracking.shots import find_cuts

WIDTH, HEIGHT = 320, 180


def scene(seed):
    """A picture larger than the frame, so that the camera can move over it. (H, W, 3) uint8"""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (9, 16, 3)).astype(np.uint8)
    tint = random.uniform(0.3, 1, 3)
    smooth = cv2.resize(coarse, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    return (smooth * tint).astype(np.uint8)


def view(picture, x=0.0, y=0.0):
    x, y = round(x) % WIDTH, round(y) % HEIGHT
    return picture[y : y + HEIGHT, x : x + WIDTH].copy()


def cuts_in(images):
    cuts: list[int] = []
    frames = (Frame(i, i, i / 30, image) for i, image in enumerate(images))
    for i, frame in enumerate(find_cuts(frames, cuts)):
        assert frame.index == i
        assert frame.image is images[i]
    return cuts


@pytest.mark.parametrize("pair", range(8))
def test_a_hard_cut_is_found_at_its_first_frame(pair):
    one, other = scene(2 * pair), scene(2 * pair + 1)
    assert cuts_in([view(one, i) for i in range(17)] + [view(other, 2 * i) for i in range(9)]) == [
        17
    ]


def test_cuts_that_follow_closely_and_are_at_the_ends():
    pictures = [0] * 2 + [1] * 9 + [2] * 3 + [3] * 8 + [4] * 2
    assert cuts_in([view(scene(k)) for k in pictures]) == [2, 11, 14, 22]


def test_cut_to_and_from_black():
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert cuts_in([view(scene(0))] * 10 + [black] * 10 + [view(scene(1))] * 10) == [10, 20]


def test_a_flash_is_no_cut():
    images = [view(scene(3), i) for i in range(30)]
    for i in (12, 13):
        images[i] = np.full_like(images[i], 250)
    assert cuts_in(images) == []


def test_a_lamp_switched_on_is_no_cut():
    images = [view(scene(3)) // 2 for _ in range(10)] + [view(scene(3)) // 2 + 40] * 10
    assert cuts_in(images) == []


def test_a_fade_is_no_cut():
    one, other = view(scene(4)).astype(float), view(scene(5)).astype(float)
    weights = [0.0] * 8 + list(np.linspace(0, 1, 15)) + [1.0] * 8
    assert cuts_in([(one * (1 - w) + other * w).astype(np.uint8) for w in weights]) == []


def test_a_fast_pan_is_no_cut():
    assert cuts_in([view(scene(6), 30 * i) for i in range(10)]) == []


def test_a_shaken_camera_is_no_cut():
    random = np.random.default_rng(7)
    shakes = random.integers(-20, 21, (40, 2))
    assert cuts_in([view(scene(7), 100 + x, 60 + y) for x, y in shakes]) == []


def test_a_person_who_rushes_past_is_no_cut():
    images = [view(scene(8)) for _ in range(30)]
    for i in range(30):
        left = -200 + 40 * i
        images[i][:, max(0, left) : max(0, left + 180)] = (180, 120, 60)
    assert cuts_in(images) == []


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_clips(length):
    assert cuts_in([view(scene(9))] * length) == []
