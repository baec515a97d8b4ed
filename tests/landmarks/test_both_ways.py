"""Following people back from where they appear: a network that sees figures at known places."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from staf_cli.landmarks.both_ways import follow_both_ways, in_reverse
from staf_cli.landmarks.continuing import LONGEST_ALONE
from tests.landmarks.figures import (
    FPS,
    SIZE,
    a_track,
    frames,
    hips,
    network,
    standing,
    walking,
)


def followed(tracks, look, count=90, cuts=()):
    def read(first, backwards):
        taken = [f for f in frames(count) if (f.index <= first if backwards else f.index >= first)]
        return taken[::-1] if backwards else taken

    shots = list(pairwise([0, *cuts, count]))
    people = follow_both_ways(tracks, shots, read, look, SIZE)
    return sorted(people, key=lambda one: (int(one.frame[0]), -len(one.frame)))


def test_who_appears_inside_the_picture_is_followed_back_for_a_second():
    (one,) = followed([a_track({f: walking(f) for f in range(50, 90)})], network(walking))
    assert one.frame[0] == pytest.approx(50 - LONGEST_ALONE * FPS, abs=1)
    assert one.frame.tolist() == list(range(one.frame[0], 90))
    np.testing.assert_allclose(hips(one), [walking(f) for f in one.frame], atol=1e-9)
    np.testing.assert_allclose(one.time, one.frame / FPS)


def test_who_was_seen_shortly_before_under_another_number_is_one_person():
    """The earlier track is too short to be followed on from: its keypoints are never clear."""
    before = a_track({f: walking(f) for f in range(30)})
    before.kp2d[..., 2] = 0.2
    after = a_track({f: walking(f) for f in range(45, 90)})
    (one,) = followed([before, after], network(walking))
    assert one.frame.tolist() == list(range(90))


def test_who_comes_into_the_picture_is_not_followed_back():
    def coming(index):
        return 20 + index, 180

    tracks = [a_track({f: coming(f) for f in range(20, 90)})]
    tracks[0].box[0, 0] = 0

    def never(image, regions):
        raise AssertionError("looked at somebody")

    assert followed(tracks, never) == tracks


@pytest.mark.parametrize("cuts", [(), (40,)])
def test_who_is_there_when_a_shot_begins_is_not_followed_back(cuts):
    tracks = [a_track({f: walking(f) for f in range(cuts[0] if cuts else 0, 90)})]

    def never(image, regions):
        raise AssertionError("looked at somebody")

    assert followed(tracks, never, cuts=cuts) == tracks


@pytest.mark.parametrize("speed", [1, 2, 6])
def test_who_comes_out_from_behind_somebody_is_not_followed_onto_them(speed):
    """From behind the one who stands in front the network sees nobody but them."""

    def coming(index):
        return 500 + 10 + speed * max(index - 45, 0), 190

    front = a_track({f: standing(f) for f in range(90)})
    front.box[:] += [-30, -10, 30, 10]
    behind = a_track({f: coming(f) for f in range(45, 90)})
    look = network(standing, lambda index: coming(index) if index >= 45 else None)
    one, other = followed([front, behind], look)
    assert one.frame.tolist() == list(range(90))
    np.testing.assert_array_equal(one.kp2d, front.kp2d)
    assert other.frame.tolist() == list(range(45, 90))


def test_a_number_that_slid_from_the_person_to_somebody_else_is_theirs_where_it_was_on_them():
    """Both numbers are on the dancer for half a second; the first slides to a spectator."""

    def dancer(index):
        return 200, 180

    def spectator(index):
        return 330, 180

    def slid(index):
        return float(np.interp(index, [16, 28], [200, 330])), 180

    first = a_track({f: slid(f) for f in range(90)})
    first.box[:] += [-15, -15, 15, 15]
    second = a_track({f: dancer(f) for f in range(10, 90)})
    one, other = followed([first, second], network(dancer, spectator))
    assert one.frame.tolist() == list(range(90))
    np.testing.assert_allclose(hips(one), [dancer(f) for f in range(90)], atol=16)
    assert other.frame.tolist() == list(range(10, 90))


def test_time_turned_twice_is_time():
    track = a_track({f: walking(f) for f in (3, 4, 7)})
    turned = in_reverse(track)
    assert turned.frame.tolist() == [-7, -4, -3]
    assert turned.time.tolist() == [-7 / FPS, -4 / FPS, -3 / FPS]
    np.testing.assert_array_equal(hips(turned), [walking(f) for f in (7, 4, 3)])
    assert in_reverse(turned).digest == replace(track).digest


def test_frames_are_read_once_and_only_where_somebody_is_lost():
    """Two are lost far apart in time; between them nothing is read that is not needed."""
    read_on: list[int] = []
    stream = frames(240)

    def read(first, backwards):
        if backwards:
            return
        for frame in stream:
            if frame.index >= first:
                read_on.append(frame.index)
                yield frame

    def near(index):
        return 150, 180

    one = a_track({f: near(f) for f in range(60)})
    other = a_track({f: standing(f) for f in range(170, 220)})
    network_ = network(near, standing)
    people = follow_both_ways([one, other], [(0, 240)], read, network_, SIZE)
    assert [len(track.frame) > 65 for track in people] == [True, True]
    assert len(read_on) == len(set(read_on)) < 190
    assert not set(read_on) & set(range(125, 155))
