"""How far joints may be off: what makes a sigma larger, on people and cues that are made here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from staf_cli.core.records import Track
from staf_cli.fitting import refine
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.fitting.landmark_cue import LandmarkCue
from staf_cli.fitting.skeleton import reduce_body
from staf_cli.fitting.uncertainty import joint_sigma, network_sigma, usual
from tests.support.simple_walk import Truth, detected, mean_pose, small_body, walk

FRAMES = 4
LIMBS = [1, 2, 4, 5, 7, 8, 10, 11, 16, 17, 18, 19, 20, 22]  # all but the right wrist and hand
SKELETON = reduce_body(small_body())


@pytest.fixture(scope="module")
def truth() -> Truth:
    return walk(np.full(FRAMES, 0.3))


@pytest.fixture(scope="module")
def track(truth: Truth) -> Track:
    """Every keypoint of the body is seen, about 5 cm from where it is."""
    kp2d = np.concatenate([truth.seen + np.array([8.0, 0.0]), np.ones((FRAMES, 17, 1))], -1)
    return replace(detected(truth, 1), kp2d=kp2d)


def looked(*frames: int) -> LandmarkCue:
    """Landmarks that were seen in some frames; what they say does not matter here."""
    nothing = torch.zeros(FRAMES, 0, 3)
    seen = torch.zeros(FRAMES, dtype=torch.bool)
    seen[list(frames)] = True
    return LandmarkCue(nothing, nothing, nothing, nothing, nothing, seen)


def test_usual_distances_are_the_same_on_both_sides() -> None:
    sigma = network_sigma(2)
    assert sigma.shape == (2, 24) and sigma.dtype == np.float32
    assert (sigma[:, 0] == 0).all() and (sigma[:, 1:] > 0).all()
    for left, right in RIGHT.items():
        assert usual()[left] == usual()[right]


def test_only_a_joint_on_which_cues_disagree_is_less_sure(truth: Truth, track: Track) -> None:
    person = truth.person
    sure = joint_sigma(person, person, track, None, SKELETON)
    assert sure.shape == (FRAMES, 24) and sure.dtype == np.float32 and (sure[:, 0] == 0).all()

    joints3d = person.joints3d.copy()
    joints3d[:, 18] += 0.1  # the network had the left elbow somewhere else
    moved = joint_sigma(replace(person, joints3d=joints3d), person, track, None, SKELETON)
    assert np.flatnonzero((moved > sure).all(0)).tolist() == [18]

    kp2d = track.kp2d.copy()
    kp2d[:, 10, :2] += 60  # the detector saw the right wrist somewhere else
    off = joint_sigma(person, person, replace(track, kp2d=kp2d), None, SKELETON)
    assert (off[:, [21, 23]] > 1.5 * sure[:, [21, 23]]).all()  # wrist and hand
    np.testing.assert_array_equal(off[:, LIMBS], sure[:, LIMBS])

    kp2d = track.kp2d.copy()
    kp2d[:, 10, 2] = 0  # ... or did not see it
    unseen = joint_sigma(person, person, replace(track, kp2d=kp2d), None, SKELETON)
    assert (unseen[:, [21, 23]] > sure[:, [21, 23]]).all()
    np.testing.assert_array_equal(unseen[:, LIMBS], sure[:, LIMBS])


def test_where_a_whole_person_moves_nothing_is_less_sure(truth: Truth, track: Track) -> None:
    person = truth.person
    farther = replace(person, joints3d=person.joints3d + np.array([0.3, 0.0, 1.0]))
    np.testing.assert_allclose(
        joint_sigma(farther, person, track, None, SKELETON),
        joint_sigma(person, person, track, None, SKELETON),
        rtol=1e-6,
    )


def test_what_is_missing_makes_everything_less_sure(truth: Truth, track: Track) -> None:
    person = truth.person
    sure = joint_sigma(person, person, track, looked(*range(FRAMES)), SKELETON)[:, 1:]
    partly = joint_sigma(person, person, track, looked(1), SKELETON)[:, 1:]
    alone = joint_sigma(person, person, track, None, SKELETON)[:, 1:]
    assert (alone > sure).all()
    np.testing.assert_array_equal(partly, np.where(np.arange(FRAMES)[:, None] == 1, sure, alone))
    lost = replace(
        track, kp2d=0 * track.kp2d, score=0 * track.score, interpolated=np.ones(FRAMES, bool)
    )
    blind = joint_sigma(person, person, lost, looked(*range(FRAMES)), SKELETON)[:, 1:]
    assert np.isfinite(blind).all() and (blind > sure).all()


def test_the_fit_says_how_sure_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In stretches as well; where it does not fit, it says what is known of the network."""
    monkeypatch.setattr(refine, "STEPS", 10)
    monkeypatch.setattr(refine, "STRETCH_FRAMES", 8)
    whole = walk(np.full(20, 0.3))
    seen = detected(whole, 2)
    kp2d = seen.kp2d.copy()
    kp2d[12:, :, 2] = 0  # nothing is seen in the last stretch and the end of the one before
    start = mean_pose(whole)
    assert start.joint_sigma is None
    sigma = refine.refine(start, replace(seen, kp2d=kp2d), small_body()).joint_sigma
    assert sigma is not None and sigma.shape == (20, 24) and sigma.dtype == np.float32
    assert (sigma[:8, 1:] != network_sigma(8)[:, 1:]).all()
    unseen = refine.refine(start, replace(seen, kp2d=0 * kp2d), small_body())
    np.testing.assert_array_equal(unseen.joint_sigma, network_sigma(20))
