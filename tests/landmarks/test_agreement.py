"""Looks that agree: made ones, whose agreement is known."""

import numpy as np
import pytest

from staf_cli.core.records import LANDMARKS, MIRRORED_LANDMARKS
from staf_cli.landmarks.agreement import LIMBS, in_box, with_each_other
from staf_cli.landmarks.reading import Landmarks

BOX = np.array([0.0, 0, 100, 200])
NOBODY = np.zeros((0, 4))
PERSON = np.random.default_rng(0).uniform((0, 0), (100, 200), (len(LANDMARKS), 2))
PERSON[:2] = (0, 0), (100, 200)  # fills the box


def looks(places, score=1.0, mask=255):
    count = len(places)
    return Landmarks(
        kp2d=np.concatenate([np.stack(places), np.ones((count, len(LANDMARKS), 1))], -1),
        metres=np.zeros((count, len(LANDMARKS), 3)),
        score=np.full(count, score),
        region=np.tile([50.0, 100, 256, 0.3], (count, 1)),
        next_region=np.zeros((count, 4)),
        mask=np.full((count, 64, 64), mask, np.uint8),
    )


def test_looks_that_see_the_same_are_believed_and_the_odd_one_is_not():
    other = PERSON.copy()
    other[LIMBS] = PERSON[LIMBS] + [300, 0]
    agreement = with_each_other(looks([PERSON, other, PERSON + 5]), BOX, NOBODY)
    assert agreement[0] == pytest.approx(0.5) and agreement[1] == 0  # of two others one agrees
    assert with_each_other(looks([PERSON, PERSON]), BOX, NOBODY) == pytest.approx(1)
    sides = PERSON[MIRRORED_LANDMARKS]
    assert with_each_other(looks([PERSON, sides]), BOX, NOBODY) == pytest.approx(1)


def test_a_look_alone_or_outside_its_mask_is_not_believed():
    assert with_each_other(looks([PERSON]), BOX, NOBODY).tolist() == [0]
    assert with_each_other(looks([PERSON, PERSON], mask=0), BOX, NOBODY).tolist() == [0, 0]


def test_who_fits_somebody_else_s_box_better_is_somebody_else():
    wide = np.array([0.0, 0, 140, 200])
    two = looks([PERSON, PERSON], score=0.9)
    assert in_box(two, wide) == pytest.approx(0.9 * 100 / 140)
    assert with_each_other(two, wide, NOBODY) == pytest.approx(0.81 * 100 / 140 / 0.9)
    assert with_each_other(two, wide, BOX[None]).tolist() == [0, 0]
