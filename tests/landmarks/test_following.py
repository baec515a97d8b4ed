"""Following people with the landmark network: drawn people at known places, turned and hidden."""

import cv2
import numpy as np
import pytest
import torch

from staf_cli.core.records import LANDMARKS, Frame, LandmarkTrack, Track
from staf_cli.landmarks import agreement, following, reading
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.reader import load_reader
from tests.landmarks.pictures import drawn_person

SIZE = (360, 640)  # height, width of the frames
NOSE = LANDMARKS.index("nose")


@pytest.fixture(scope="module")
def network():
    return load_reader(torch.device("cpu"))


def frames(places, turned=0):
    """The drawn person, 200 px high, with the centre at (x, y) in each frame; None: nobody."""
    person = np.rot90(cv2.resize(drawn_person(0), (200, 200)), turned)
    for index, place in enumerate(places):
        image = np.full((*SIZE, 3), 128, np.uint8)
        if place is not None:
            x, y = place
            image[y - 100 : y + 100, x - 100 : x + 100] = person
        yield Frame(index, index, index / 30, image)


def track(places, kp2d=None, frame=None):
    count = len(places)
    centre = np.array(places, float)
    half = np.array([60, 90])
    frame = np.arange(count) if frame is None else np.array(frame)
    return Track(
        id=7,
        frame=frame,
        time=frame / 30,
        box=np.concatenate([centre - half, centre + half], 1),
        score=np.full(count, 0.9),
        interpolated=np.zeros(count, bool),
        kp2d=np.zeros((count, 17, 3)) if kp2d is None else kp2d,
    )


def followed(pictures, tracks, network, fps=30.0):
    found: list[LandmarkTrack] = []
    passed = list(follow(pictures, tracks, network, fps, found))
    assert [frame.index for frame in passed] == list(range(len(passed)))
    return found


def test_a_walking_person_is_looked_at_ten_times_a_second(network):
    places = [(200 + 4 * n, 180) for n in range(8)]
    (seen,) = followed(frames(places), [track(places)], network)
    assert seen.id == 7
    # The first one both ways; the last one too, so that nothing is guessed.
    assert seen.frame.tolist() == [0, 0, 3, 6, 7]
    assert seen.mirrored.tolist() == [False, True, False, True, False]
    assert (seen.score >= agreement.BELIEVED).all()
    nose = seen.kp2d[:, NOSE, :2] - np.array(places)[seen.frame]
    assert np.abs(nose - [0, -64]).max() < 14  # where it was drawn, at any place
    assert seen.mask_row.tolist() == [0, 1, 2, 3, 4] and seen.mask.shape == (5, 64, 64)


def test_errors_are_averaged_where_there_is_one_frame_alone(network):
    noise = np.random.default_rng(0)

    def noisy(crops):
        points, mask = network(crops)
        points = points.copy()
        points[..., 4:] += noise.normal(0, 0.05, points[..., 4:].shape)  # m
        return points, mask

    places = [(300, 180)] * 2
    for count, least, most in ((1, 0, 0.028), (2, 0.035, 1)):
        own = track(places[:count])
        clean, seen = (followed(frames(places[:count]), [own], net)[0] for net in (network, noisy))
        assert seen.frame.tolist() == [0] * 2 + [1] * (count - 1)  # both ways
        off = np.abs(seen.metres - clean.metres)[:2].mean()  # of normal noise: 0.8 times 0.05
        assert least < off < most


@pytest.mark.parametrize("turned", [1, 2, 3])
def test_whoever_is_turned_is_found_and_followed(turned, network):
    places = [(300, 180)] * 4
    own = track(places)
    if turned % 2:
        own.box[:] = (210, 120, 390, 240)
    (seen,) = followed(frames(places, turned), [own], network)
    assert (seen.score >= agreement.BELIEVED).all()
    angle = seen.region[:, 3]  # np.rot90 turns counterclockwise, angles count clockwise
    apart = (angle + turned * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(apart).max() < 0.4
    up = {1: (-64, 0), 2: (0, 64), 3: (64, 0)}[turned]
    assert np.abs(seen.kp2d[:, NOSE, :2] - (300, 180) - up).max() < 16


def test_keypoints_say_how_a_trunk_is_turned():
    kp2d = np.zeros((1, 17, 3))
    kp2d[0, [5, 6, 11, 12]] = (10, 0, 1), (10, 10, 1), (50, 0, 1), (50, 10, 1)  # head to the left
    assert following.trunk_turn(track([(0, 0)], kp2d), 0) == pytest.approx(-np.pi / 2)
    kp2d[0, 5, 2] = 0.4
    assert following.trunk_turn(track([(0, 0)], kp2d), 0) is None


def test_where_nobody_is_nothing_is_believed(network):
    places = [(300, 180), (300, 180), (300, 180), (300, 180)]
    shown = [*places[:3], None]
    (seen,) = followed(frames(shown), [track(places)], network)
    assert seen.score[0] > 0 and seen.score[-1] == 0
    assert seen.mask_row.tolist() == [0, 1]


def test_somebody_else_in_the_box_of_a_small_person_is_not_believed(network):
    places = [(300, 180)]
    own = track(places)
    own.box[:] = (200, 250, 240, 290)
    (seen,) = followed(frames(places), [own], network)
    assert seen.score[0] == 0


def test_after_a_gap_the_box_counts_not_the_last_look(network):
    shown = [(150, 180)] * 4 + [(480, 180)] * 4
    where = [shown[n] for n in (0, 3, 6, 7)]
    (seen,) = followed(frames(shown), [track(where, frame=[0, 3, 6, 7])], network)
    assert (seen.score >= agreement.BELIEVED).all()
    nose = seen.kp2d[:, NOSE, 0]
    assert np.abs(nose[seen.frame < 4] - 150).max() < 14
    assert np.abs(nose[seen.frame > 4] - 480).max() < 14


def test_masks_are_kept_of_a_few_looks(network, monkeypatch):
    monkeypatch.setattr(following, "MOST_MASKS", 2)
    places = [(300, 180)] * 12
    (seen,) = followed(frames(places), [track(places)], network)
    assert len(seen.frame) == 6 and seen.mask_row.tolist() == [0, 2, 4]


def test_several_people_each_get_their_own(network):
    one, other = [(150, 180)] * 2, [(480, 180)] * 2
    person = np.asarray(next(frames(one)).image)
    both = person.copy()
    both[:, 330:] = next(frames(other)).image[:, 330:]
    pictures = (Frame(n, n, n / 30, both) for n in range(2))
    first, second = followed(pictures, [track(one), track(other)], network)
    assert abs(first.kp2d[0, NOSE, 0] - 150) < 14 and abs(second.kp2d[0, NOSE, 0] - 480) < 14


def test_searches_in_vain_become_rare(network, monkeypatch):
    looked = []

    def counted(network, images, regions, mirrored):
        looked.append(len(images))
        return reading.read(network, images, regions, mirrored)

    monkeypatch.setattr(following, "read", counted)
    places = [(300, 180)] * 7
    (seen,) = followed(frames([None] * 7), [track(places)], network, fps=10.0)
    assert (seen.score == 0).all() and len(seen.frame) == 7
    assert looked.count(8) == 3  # all turns: at the looks 0, 2 and 6


def test_only_the_largest_of_a_crowd_are_searched_for(monkeypatch):
    looked = []

    def nobody(network, images, regions, mirrored):
        looked.append(len(images) if np.ptp(regions[:, 3]) else 0)
        n = len(images)
        return reading.Landmarks(
            kp2d=np.zeros((n, 33, 3)),
            metres=np.zeros((n, 33, 3)),
            score=np.zeros(n),
            region=regions,
            next_region=regions,
            mask=np.zeros((n, 64, 64), np.uint8),
        )

    monkeypatch.setattr(following, "read", nobody)
    places = [(300, 180)] * 40
    crowd = [track(places) for _ in range(7)]
    for n, one in enumerate(crowd):
        one.box[:, 3] += n
    searches = []
    for people in (crowd, crowd[3:]):
        looked.clear()
        followed(frames([None] * 40), people, None, fps=10.0)
        searches.append(looked.count(8))
    assert searches[0] == searches[1] > 0


def keypoints_of(seen, row=0):
    """COCO keypoints where the landmarks are."""
    kp2d = seen.kp2d[row][agreement.COCO].astype(float)
    kp2d[:, 2] = 0.9
    return kp2d


def test_a_look_is_believed_where_the_keypoints_are_seen_whichever_side_is_left(network):
    places = [(300, 180)]
    (seen,) = followed(frames(places), [track(places)], network)
    right = keypoints_of(seen)
    other_side = [0, *(k + (1 if k % 2 else -1) for k in range(1, 17))]
    elsewhere = right.copy()
    elsewhere[:, :2] = right[::-1, :2]  # the head at the feet
    scores = []
    for kp2d in (right, right[other_side]):
        (one,) = followed(frames(places), [track(places, kp2d[None])], network)
        scores.append(one.score[0])
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
    assert min(scores) > seen.score[0]
    # Turned looks see the same as the first one: the keypoints are wrong, however sure they are.
    (one,) = followed(frames(places), [track(places, elsewhere[None])], network)
    assert one.score[0] >= agreement.BELIEVED
    assert np.abs(one.kp2d[0, NOSE, :2] - (300, 116)).max() < 16
    unsure = elsewhere * [1, 1, 0.4]
    (one,) = followed(frames(places), [track(places, unsure[None])], network)
    assert one.score[0] == pytest.approx(seen.score[0], abs=0.05)


@pytest.mark.parametrize(("turn", "looked"), [(0.3, [0, *range(10)]), (0.1, [0, 0, 3, 6, 9])])
def test_somebody_who_turns_over_is_looked_at_in_every_frame(turn, looked, monkeypatch):
    def turning(network, images, regions, mirrored):
        count = len(images)
        corners = np.tile([[240.0, 90, 1], [360, 270, 1], [300, 180, 1]], (count, 11, 1))
        return reading.Landmarks(
            kp2d=corners,
            metres=np.zeros((count, 33, 3)),
            score=np.ones(count),
            region=regions,
            next_region=regions + np.array([0, 0, 0, turn]),
            mask=np.zeros((count, 64, 64), np.uint8),
        )

    monkeypatch.setattr(following, "read", turning)
    places = [(300, 180)] * 10
    (seen,) = followed(frames(places), [track(places)], None)
    assert seen.frame.tolist() == looked
    assert np.allclose(np.diff(seen.region[:, 3]), turn)
