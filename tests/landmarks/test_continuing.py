"""Following people whom the detector loses: a network that sees figures at known places."""

from dataclasses import replace

import numpy as np
import pytest

from staf_cli.core.records import Track
from staf_cli.landmarks.continuing import LONGEST_ALONE, follow_lost
from staf_cli.landmarks.handover import with_followed
from tests.landmarks.figures import (
    FIGURE,
    FPS,
    SIZE,
    a_track,
    frames,
    hips,
    network,
    standing,
    walking,
)


def continued(tracks, look, count=90, cuts=()):
    def read(first):
        return (one for one in frames(count) if one.index >= first)

    followed = follow_lost(read, tracks, look, [*(c - 1 for c in cuts), count - 1], SIZE)
    return sorted(with_followed(tracks, followed), key=lambda one: int(one.frame[0]))


def test_nobody_is_looked_at_where_nobody_is_lost():
    tracks = [a_track({f: walking(f) for f in range(90)})]

    def never(image, regions):
        raise AssertionError("looked at somebody")

    def no_frames(first):
        raise AssertionError("decoded")
        yield

    assert follow_lost(no_frames, tracks, never, [89], SIZE) == []
    assert with_followed(tracks, []) == tracks


def test_who_is_lost_and_found_under_another_number_is_one_person():
    before = a_track({f: walking(f) for f in range(30)})
    after = a_track({f: walking(f) for f in range(45, 90)})
    (one,) = continued([before, after], network(walking))
    assert one.frame.tolist() == list(range(90))
    np.testing.assert_allclose(hips(one), [walking(f) for f in range(90)], atol=1e-9)
    low, high = one.box[:, :2], one.box[:, 2:]
    np.testing.assert_allclose((low + high)[:, 0] / 2, [walking(f)[0] for f in range(90)])
    assert np.abs((high - low) - (before.box[0, 2:] - before.box[0, :2])).max() < 12
    assert not one.interpolated.any()


def test_who_is_never_found_again_is_followed_for_a_second():
    (one,) = continued([a_track({f: walking(f) for f in range(30)})], network(walking))
    assert one.frame[-1] == pytest.approx(29 + LONGEST_ALONE * FPS, abs=1)


def test_who_leaves_the_picture_is_not_followed():
    def leaving(index):
        return 600 + index, 180

    tracks = [a_track({f: leaving(f) for f in range(20)})]
    tracks[0].box[:, 2] = np.minimum(tracks[0].box[:, 2], SIZE[0])
    assert continued(tracks, network(leaving)) == tracks


def test_a_cut_ends_it():
    tracks = [
        a_track({f: walking(f) for f in range(30)}),
        a_track(dict.fromkeys(range(40, 90), (500, 190))),
    ]
    one, other = continued(tracks, network(walking), cuts=[40])
    assert one.frame.tolist() == list(range(40))
    assert other is tracks[1] or other.frame.tolist() == list(range(40, 90))


def test_where_the_network_sees_nobody_it_ends():
    tracks = [a_track({f: walking(f) for f in range(30)})]
    look = network(walking, score=lambda index: 1.0 if index < 40 else 0.0)
    (one,) = continued(tracks, look)
    assert one.frame[-1] == 39


def test_where_the_network_is_unsure_for_a_moment_boxes_are_bridged():
    parts = [a_track({f: walking(f) for f in r}) for r in (range(30), range(45, 90))]
    look = network(walking, score=lambda index: 0.1 if index in (35, 36, 37) else 1.0)
    (one,) = continued(parts, look)
    assert np.flatnonzero(one.interpolated).tolist() == [35, 36, 37]
    assert not one.score[35:38].any() and not one.kp2d[35:38].any()
    centre = (one.box[35:38, 0] + one.box[35:38, 2]) / 2
    np.testing.assert_allclose(centre, [walking(f)[0] for f in (35, 36, 37)], atol=3)


def test_a_track_that_passes_to_somebody_else_leaves_the_person_theirs():
    """The detector loses the dancer, and takes the number for a spectator beside them."""

    def dancer(index):
        return 200 + index, 180

    def spectator(index):
        return 330, 200

    mixed = a_track({f: dancer(f) if f < 40 else spectator(f) for f in range(90)})
    again = a_track({f: dancer(f) for f in range(60, 90)})
    one, other = continued([mixed, again], network(dancer, spectator))
    np.testing.assert_allclose(hips(one), [dancer(f) for f in range(90)], atol=1e-9)
    assert other.frame.tolist() == list(range(40, 90))
    np.testing.assert_allclose(hips(other), [spectator(f) for f in range(40, 90)], atol=1e-9)


def test_whoever_vanishes_does_not_become_somebody_else():
    """The network passes on to the nearest other person: nothing of them is taken."""
    gone = a_track(dict.fromkeys(range(30), (400, 180)))
    there = a_track({f: standing(f) for f in range(90)})
    look = network(lambda index: (400, 180) if index < 30 else None, standing)
    one, other = continued([gone, there], look)
    assert one.frame[-1] < 36 and (np.abs(hips(one) - (400, 180)).max(1) < 1)[:30].all()
    assert other.frame.tolist() == there.frame.tolist()
    np.testing.assert_array_equal(other.kp2d, there.kp2d)


def test_a_pose_that_the_detector_misreads_is_the_networks():
    """Its keypoints are of somebody upside down, and its box lacks the legs."""
    right = a_track({f: walking(f) for f in range(90)})
    wrong = right.kp2d.copy()
    hip = np.array([walking(f) for f in range(90)])[:, None]
    wrong[40:50, :, :2] = (2 * hip - right.kp2d[..., :2])[40:50]
    box = right.box.copy()
    box[40:50, 3] -= 30
    before = replace(right, kp2d=wrong, box=box)
    parts = [
        Track(
            0,
            *(
                getattr(before, name)[rows]
                for name in ("frame", "time", "box", "score", "interpolated", "kp2d")
            ),
        )
        for rows in (slice(0, 36), slice(38, 90))
    ]
    (one,) = continued(parts, network(walking))
    np.testing.assert_allclose(hips(one)[36:50], hip[36:50, 0], atol=1e-9)
    nose = one.kp2d[36:50, 0, :2] - hip[36:50, 0]
    np.testing.assert_allclose(nose, np.tile(FIGURE["nose"], (14, 1)), atol=1e-9)
    np.testing.assert_allclose(one.box[40:50], right.box[40:50], atol=5)


def test_a_misread_moment_does_not_turn_the_person_over():
    """From a region that is turned over, as the detector is for a frame, so is the network."""
    before = a_track({f: walking(f) for f in range(44)})
    after = a_track({f: walking(f) for f in range(44, 90)})
    hip = np.array([walking(f) for f in range(44, 90)])[:, None]
    over, box = after.kp2d.copy(), after.box.copy()
    over[0, :, :2] = (2 * hip - over[..., :2])[0]
    box[0, [1, 3]] = hip[0, 0, 1] - 40, hip[0, 0, 1] + 50
    plain = network(walking)

    def look(image, regions):
        """Surer of people who are the right way up."""
        seen = plain(image, regions)
        turned = np.cos(regions[:, 3]) < -0.5
        kp2d, region = seen.kp2d.copy(), seen.next_region.copy()
        place = np.array(walking(int(image[0, 0, 0])))
        kp2d[turned, :, :2] = (2 * place - kp2d[..., :2])[turned]
        region[turned, 3] += np.pi
        score = np.where(turned, 0.9, 1.0)
        return replace(seen, kp2d=kp2d, next_region=region, score=score)

    (one,) = continued([before, replace(after, kp2d=over, box=box)], look)
    noses = one.kp2d[45:, 0, :2] - hip[1:, 0]
    np.testing.assert_allclose(noses, np.tile(FIGURE["nose"], (45, 1)), atol=1e-9)


def test_two_detections_of_one_body_do_not_become_two_people():
    whole = a_track({f: walking(f) for f in range(90)})
    double = a_track({f: walking(f) for f in range(50, 56)})
    one, *rest = continued([whole, double], network(walking))
    assert one.frame.tolist() == list(range(90))
    assert sum(len(other.frame) for other in rest) <= len(double.frame)


def test_everybody_is_new_when_a_clip_begins_but_nobody_is_taken_for_another():
    """The network passes on from somebody who vanishes to somebody who was there from the start."""
    gone = a_track(dict.fromkeys(range(10), (400, 180)))
    there = a_track({f: standing(f) for f in range(90)})
    look = network(lambda index: (400, 180) if index < 6 else None, standing)
    tracks = continued([gone, there], look)
    assert max(len(one.frame) for one in tracks) == 90
    np.testing.assert_array_equal(max(tracks, key=lambda one: len(one.frame)).kp2d, there.kp2d)
