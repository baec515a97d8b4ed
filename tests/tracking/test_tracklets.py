"""Two readings of one body in a frame, one of them upside down."""

import numpy as np
import pytest

from staf_cli.core.records import COCO_KEYPOINTS, Track
from staf_cli.tracking.linking import Linked, choose_people
from staf_cli.tracking.options import TrackOptions
from staf_cli.tracking.tracklets import read_upside_down

# From the middle of the hips, in px.
BODY = {"shoulder": (15, -50), "hip": (10, 0), "knee": (10, 40), "ankle": (10, 80)}


def pose(x, y, turn):
    """COCO keypoints (17, 3) of somebody with the hips at (x, y), turned by some rad."""
    places = np.tile([0.0, -70.0], (len(COCO_KEYPOINTS), 1))
    for row, name in enumerate(COCO_KEYPOINTS):
        side, _, joint = name.partition("_")
        if joint in BODY:
            places[row] = np.array(BODY[joint]) * (1 if side == "left" else -1, 1)
    cosine, sine = np.cos(turn), np.sin(turn)
    places = places @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)
    return np.concatenate([places, np.ones((len(places), 1))], 1)


def detections(poses):
    kp2d = np.stack(poses)
    low, high = kp2d[..., :2].min(1) - 5, kp2d[..., :2].max(1) + 5
    return np.concatenate([low, high], 1), kp2d


def same(*poses):
    return read_upside_down(*detections(poses)).tolist()


@pytest.mark.parametrize("turn", [np.pi, 2.8, -2.8])
def test_who_is_read_both_ways_up_is_one(turn):
    found = same(pose(100, 100, 0), pose(300, 100, 0), pose(104, 103, turn))
    assert found == [[False, False, True], [False] * 3, [True, False, False]]


def test_a_turned_reading_elsewhere_is_somebody_else():
    assert not np.any(same(pose(100, 100, 0), pose(140, 100, np.pi)))
    assert not np.any(same(pose(100, 100, 0), pose(100, 100, 1.5)))
    vague = pose(104, 103, np.pi)
    vague[11:13, 2] = 0.3  # whose hips are hidden
    assert not np.any(same(pose(100, 100, 0), vague))


def test_a_person_of_the_longer_track_stays():
    """Read the other way up in three frames, under another number."""

    def track(frames, turn):
        box, kp2d = detections([pose(100 + f, 100, turn) for f in frames])
        n = len(frames)
        frame = np.array(frames)
        return Track(0, frame, frame / 30, box, np.full(n, 0.8), np.zeros(n, bool), kp2d)

    people = [track(range(3, 20), np.pi), track(range(40), 0.0)]
    linked = Linked(people, np.arange(40), np.arange(40) / 30, [])
    (one,) = choose_people(linked, TrackOptions()).tracks
    assert one.frame.tolist() == list(range(40))
