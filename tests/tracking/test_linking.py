"""People of known motion, cut up and disturbed the way a detector and a tracker do it."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from staf_cli.core.errors import UsageError
from staf_cli.core.records import Detections
from staf_cli.tracking.appearance import COLOURS
from staf_cli.tracking.linking import choose_people, link_people
from staf_cli.tracking.options import TrackOptions

FPS = 30.0
POSE = np.random.default_rng(1).uniform(0.1, 0.9, (17, 2))  # keypoints within the box


@dataclass
class Seen:
    """One detection: identity, centre, size, and a pose that belongs to the body."""

    identity: int
    x: float
    y: float = 200.0
    width: float = 60.0
    height: float = 160.0
    score: float = 0.8
    joints: int = 17
    flipped: bool = False
    wears: int | None = None  # a colour's number


def record(frame, people):
    box = np.array(
        [
            [p.x - p.width / 2, p.y - p.height / 2, p.x + p.width / 2, p.y + p.height / 2]
            for p in people
        ]
    ).reshape(-1, 4)
    kp2d = np.zeros((len(people), 17, 3))
    for row, p in enumerate(people):
        pose = 1 - POSE if p.flipped else POSE
        kp2d[row, :, :2] = box[row, :2] + pose * (p.width, p.height)
        kp2d[row, : p.joints, 2] = 0.9
    return Detections(
        frame=frame,
        time=frame / FPS,
        box=box,
        score=np.array([p.score for p in people], np.float64),
        track_id=np.array([p.identity for p in people], np.int64),
        colours=worn(people),
        kp2d=kp2d,
    )


def build_tracks(detections, cuts, options):
    return choose_people(link_people(detections, cuts), options)


def worn(people):
    colours = np.zeros((len(people), COLOURS), np.uint8)
    for row, p in enumerate(people):
        if p.wears is not None:
            colours[row, [p.wears, COLOURS // 2 + p.wears]] = 255
    return colours


def tracks_of(people_at, frames=90, cuts=(), **options):
    detections = [record(i, people_at(i)) for i in range(frames)]
    return build_tracks(detections, list(cuts), TrackOptions(**options)).tracks


def centre(track):
    return (track.box[:, :2] + track.box[:, 2:]) / 2


def size(track):
    return track.box[:, 2:] - track.box[:, :2]


def test_a_person_seen_all_the_time_is_one_track_as_detected():
    (track,) = tracks_of(lambda i: [Seen(7, 100 + 3 * i)])
    assert track.id == 1
    assert track.frame.tolist() == list(range(90))
    np.testing.assert_allclose(track.time, np.arange(90) / FPS)
    np.testing.assert_allclose(centre(track)[:, 0], 100 + 3 * np.arange(90), atol=1e-9)
    np.testing.assert_allclose(size(track), np.tile([60.0, 160.0], (90, 1)), atol=1e-9)
    assert not track.interpolated.any()
    assert (track.score == 0.8).all()
    assert (track.kp2d[..., 2] == 0.9).all()


def test_nobody():
    assert tracks_of(lambda i: []) == []
    assert build_tracks([], [], TrackOptions()) == ([], 0, 0)


# ── links and bridges ─────────────────────────────────────────────────────────────────────


def test_a_short_gap_is_linked_and_bridged_along_the_motion():
    """Lost for ten frames while walking, and found under a new identity."""
    (track,) = tracks_of(lambda i: [] if 40 <= i < 50 else [Seen(1 if i < 45 else 2, 50 + 5 * i)])
    assert len(track.runs) == 1
    assert np.flatnonzero(track.interpolated).tolist() == list(range(40, 50))
    np.testing.assert_allclose(centre(track)[:, 0], 50 + 5 * np.arange(90), atol=1e-6)
    assert (track.score[40:50] == 0).all()
    assert (track.kp2d[40:50] == 0).all()
    np.testing.assert_allclose(track.time, np.arange(90) / FPS)


def test_a_longer_gap_is_linked_but_stays_a_gap():
    (track,) = tracks_of(lambda i: [] if 40 <= i < 60 else [Seen(1 if i < 45 else 2, 50 + 5 * i)])
    assert [track.frame[run].tolist() for run in track.runs] == [
        list(range(40)),
        list(range(60, 90)),
    ]
    assert not track.interpolated.any()


def test_bridges_follow_time_and_not_frame_numbers():
    """At 10 frames a second a gap of six frames is longer than half a second."""
    people = [[] if 20 <= i < 26 else [Seen(1, 100 + i)] for i in range(60)]
    slow = [
        Detections(d.frame, d.frame / 10, d.box, d.score, d.track_id, d.kp2d)
        for d in (record(i, p) for i, p in enumerate(people))
    ]
    (track,) = build_tracks(slow, [], TrackOptions()).tracks
    assert len(track.runs) == 2


def test_a_person_who_returns_after_a_second_is_a_new_one():
    tracks = tracks_of(lambda i: [] if 30 <= i < 63 else [Seen(1 if i < 40 else 2, 200)])
    assert [track.id for track in tracks] == [1, 2]


def test_a_person_who_appears_elsewhere_is_a_new_one():
    tracks = tracks_of(lambda i: [Seen(1, 100)] if i < 40 else [Seen(2, 500)])
    assert [track.frame.tolist() for track in tracks] == [list(range(40)), list(range(40, 90))]


def test_two_who_cross_while_lost_keep_their_ways():
    """Both are lost where they meet; straight on is cheaper than turning round, for both."""

    def people(i):
        if 42 <= i < 49:
            return []
        late = 2 if i >= 49 else 0
        return [Seen(1 + late, 100 + 6 * i), Seen(2 + late, 640 - 6 * i, flipped=True)]

    right, left = tracks_of(people)
    assert (np.diff(centre(right)[:, 0]) > 0).all()
    assert (np.diff(centre(left)[:, 0]) < 0).all()
    assert len(right.frame) == len(left.frame) == 90


def test_two_seen_at_the_same_time_are_never_linked():
    """The second appears beside the first before the first vanishes."""
    tracks = tracks_of(
        lambda i: [Seen(1, 100)] * (i < 45) + [Seen(2, 150, flipped=True)] * (i >= 44)
    )
    assert len(tracks) == 2


def test_a_change_of_identity_that_goes_to_and_fro_is_one_person():
    """Two boxes on one body, as where arms are spread: the tracker hops between them."""

    def people(i):
        seen = [Seen(1, 200)] if i < 60 and i != 50 else []
        return seen + ([Seen(2, 205, width=72)] if i in (48, 49, 50) or i >= 60 else [])

    (track,) = tracks_of(people)
    assert track.frame.tolist() == list(range(90))
    assert not track.interpolated.any()


def test_in_company_a_doubtful_link_is_not_made():
    def people(i):
        jumped = [Seen(1, 200)] if i < 40 else [Seen(2, 285)] if i >= 43 else []
        return jumped

    assert len(tracks_of(people)) == 1  # alone, it can only be the same
    accompanied = tracks_of(lambda i: [*people(i), Seen(3, 240, flipped=True)])
    assert len(accompanied) == 3


# ── shots ─────────────────────────────────────────────────────────────────────────────────


def test_a_person_ends_at_a_cut_even_under_the_same_identity():
    tracks = tracks_of(lambda i: [Seen(1, 100 if i < 40 else 110)], cuts=[40])
    assert [track.frame.tolist() for track in tracks] == [list(range(40)), list(range(40, 90))]
    np.testing.assert_allclose(centre(tracks[0])[:, 0], 100)  # not smoothed across either
    np.testing.assert_allclose(centre(tracks[1])[:, 0], 110)


def test_no_link_across_a_cut():
    tracks = tracks_of(lambda i: [] if 38 <= i < 42 else [Seen(1 + (i > 40), 100)], cuts=[40])
    assert len(tracks) == 2


# ── boxes ─────────────────────────────────────────────────────────────────────────────────


def test_smoothing_quietens_noise_and_does_not_lag():
    random = np.random.default_rng(0)
    noise = random.normal(0, 2, 150)
    path = 300 + 150 * np.sin(2 * np.pi * np.arange(150) / 45)  # 1.5 s to and fro: fast
    (track,) = tracks_of(lambda i: [Seen(1, float(path[i] + noise[i]))], frames=150)
    error = centre(track)[:, 0] - path
    assert error.std() < 0.75 * noise.std()
    lags = range(-5, 6)
    inner = slice(10, 140)
    fit = [np.abs(centre(track)[inner, 0] - np.roll(path, lag)[inner]).mean() for lag in lags]
    assert lags[int(np.argmin(fit))] == 0


def test_a_box_that_flickers_for_two_frames_is_repaired():
    """Legs missed: half the height, and the centre moves up."""
    (track,) = tracks_of(
        lambda i: [Seen(1, 100, y=160, height=80)] if i in (30, 31) else [Seen(1, 100)]
    )
    np.testing.assert_allclose(size(track)[:, 1], 160, atol=1e-6)
    np.testing.assert_allclose(centre(track)[:, 1], 200, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 8])
def test_short_tracks_have_boxes_too(frames):
    (track,) = tracks_of(lambda i: [Seen(1, 100 + i)], frames=frames)
    np.testing.assert_allclose(centre(track)[:, 0], 100 + np.arange(frames), atol=1.0)


# ── who is kept ───────────────────────────────────────────────────────────────────────────


def test_two_boxes_on_one_body_are_one_person():
    (track,) = tracks_of(
        lambda i: [Seen(1, 200), Seen(2, 204, width=80)] if i % 9 else [Seen(1, 200)]
    )
    assert len(track.frame) == 90


def test_two_bodies_in_nearly_the_same_box_are_two_people():
    """The poses distinguish them."""
    assert len(tracks_of(lambda i: [Seen(1, 200), Seen(2, 205, flipped=True)])) == 2


def test_without_keypoints_the_boxes_decide():
    def people(i):
        return [Seen(1, 200, joints=0), Seen(2, 205, joints=0), Seen(3, 250, joints=0)]

    bare = [record(i, people(i)) for i in range(40)]
    bare = [Detections(d.frame, d.time, d.box, d.score, d.track_id, 0 * d.kp2d) for d in bare]
    assert [round(t.box[0, 0]) for t in build_tracks(bare, [], TrackOptions()).tracks] == [170, 220]


def test_something_without_joints_is_nobody():
    assert len(tracks_of(lambda i: [Seen(1, 100), Seen(2, 400, joints=1)])) == 1


def test_a_doubtful_track_is_dropped():
    def people(i):
        return [Seen(1, 100), Seen(2, 400, score=0.3 if i % 3 else 0.12)]

    assert len(tracks_of(people)) == 1
    assert len(tracks_of(people, conf=0.2)) == 2


def test_short_appearances_are_dropped():
    def people(i):
        return [Seen(1, 100)] + ([Seen(2, 400)] if 30 <= i < 41 else [])

    assert len(tracks_of(people)) == 1
    assert len(tracks_of(people, min_track=11 / FPS)) == 2


@pytest.mark.parametrize(("fps", "least"), [(10, 4), (25, 10), (30, 12), (60, 24), (240, 96)])
def test_how_long_somebody_is_seen_counts_in_seconds(fps, least):
    def selected(count):
        records = [record(i, [Seen(1, 100)] if i < count else []) for i in range(4 * least)]
        timed = [replace(one, time=one.frame / fps) for one in records]
        return build_tracks(timed, [], TrackOptions())

    assert len(selected(least).tracks) == 1
    short = selected(least - 1)
    assert short.tracks == []
    assert short.longest == pytest.approx((least - 1) / fps)


def test_a_third_of_a_short_clip_is_enough():
    assert len(tracks_of(lambda i: [Seen(1, 100)] * (i < 3), frames=9, min_track=5)) == 1
    assert len(tracks_of(lambda i: [Seen(1, 100)] * (i < 2), frames=9, min_track=5)) == 0


def test_pieces_of_one_person_count_together():
    """Hidden for a while by somebody who crosses, and seen for 0.3 s before and after."""

    def people(i):
        here = [Seen(1 if i < 20 else 7, 400, wears=5)] if 11 <= i < 20 or 26 <= i < 35 else []
        return [*here, Seen(2, 20 * i, height=250, width=100, wears=9)]

    assert len(tracks_of(people, frames=41)) == 2


def test_in_a_shot_shorter_than_min_track_the_whole_of_it_is_needed():
    assert [t.frame[-1] for t in tracks_of(lambda i: [Seen(1, 100)], frames=60, cuts=[50])] == [
        49,
        59,
    ]


def test_max_people_keeps_the_largest_at_any_time():
    def people(i):
        first = [Seen(1, 100, height=300)] if i < 45 else []
        second = [Seen(2, 100, height=300)] if i >= 80 else []
        return [Seen(3, 500, height=100), *first, *second]

    tracks = tracks_of(people, frames=130, max_people=1)
    assert [(t.id, t.frame[0], t.frame[-1]) for t in tracks] == [(1, 0, 44), (2, 80, 129)]
    assert len(tracks_of(people, frames=130, max_people=2)) == 3


def test_people_are_numbered_by_first_frame_then_from_left_to_right():
    def people(i):
        return [Seen(9, 500), Seen(4, 100)] + ([Seen(2, 300)] if i >= 20 else [])

    assert [(t.id, round(t.box[0, 0])) for t in tracks_of(people)] == [
        (1, 70),
        (2, 470),
        (3, 270),
    ]


def test_a_chosen_person_keeps_her_number():
    people = lambda i: [Seen(1, 100), Seen(2, 400), Seen(3, 600)]  # noqa: E731
    assert [t.id for t in tracks_of(people, person=(3, 1))] == [1, 3]
    with pytest.raises(UsageError, match=r"no person 4.*1 to 3"):
        tracks_of(people, person=(4,))


def test_main_people_are_those_large_and_long_in_the_picture_and_the_rest_is_counted():
    """The first is small all the time, the second large, the third large for a short while."""

    def people(i):
        passing = [Seen(3, 800, width=60, height=200)] if 30 <= i < 60 else []
        return [
            Seen(1, 100, width=20, height=50),
            Seen(2, 400, width=60, height=180, flipped=True),
            *passing,
        ]

    records = [record(i, people(i)) for i in range(120)]
    for n, kept in ((1, [400]), (2, [400, 800]), (3, [100, 400, 800]), (9, [100, 400, 800])):
        tracks, left_out, _ = build_tracks(records, [], TrackOptions(main=n))
        assert sorted(round(float(centre(track)[0, 0])) for track in tracks) == kept
        assert left_out == 3 - len(kept)


@pytest.mark.parametrize("wrong", [{"min_track": 0}, {"max_people": 0}, {"main": 0}])
def test_options_that_cannot_be_meant(wrong):
    with pytest.raises(UsageError):
        TrackOptions(**wrong)


def test_the_order_of_detections_in_a_frame_does_not_matter():
    random = np.random.default_rng(3)

    def people(i):
        return [Seen(k, 80 * k + 10 * np.sin(i / 9 + k)) for k in range(1, 7) if (i + 7 * k) % 23]

    plain = tracks_of(people)
    shuffled = tracks_of(lambda i: [people(i)[k] for k in random.permutation(len(people(i)))])
    assert len(plain) == len(shuffled) == 6
    for one, other in zip(plain, shuffled, strict=True):
        np.testing.assert_array_equal(one.frame, other.frame)
        np.testing.assert_array_equal(one.box, other.box)


def test_a_crowd_that_is_lost_again_and_again():
    """20 people for 500 frames, each lost every 25th: 400 stretches to link."""

    def people(i):
        return [
            Seen(k + 1, 90 * k + (i % 7), flipped=bool(k % 2)) for k in range(20) if (i + k) % 25
        ]

    tracks = tracks_of(people, frames=500)
    assert len(tracks) == 20
    assert all(len(track.runs) == 1 for track in tracks)


def test_a_gap_is_filled_by_whom_the_tracker_was_too_unsure_to_follow():
    """Seen off the straight line in one of five lost frames, and in one somebody else is seen."""

    def people(i):
        if i not in range(20, 25):
            return [Seen(1, 100 + i)]
        return {22: [Seen(0, 110 + i, score=0.2)], 23: [Seen(0, 300, score=0.2)]}.get(i, [])

    (track,) = tracks_of(people, frames=50)
    assert track.frame.tolist() == list(range(50))
    assert track.frame[track.interpolated].tolist() == [20, 21, 23, 24]
    assert track.score[22] == 0.2
    assert (track.kp2d[22, :, 2] > 0).all()
    assert not track.kp2d[23].any()


def test_nobody_follows_whom_the_tracker_does_not():
    assert tracks_of(lambda i: [Seen(0, 100 + i)], frames=50) == []


@pytest.mark.parametrize(("wears", "people"), [((3, 3), 2), ((3, 8), 3), ((None, None), 3)])
def test_who_is_hidden_for_two_seconds_is_known_again_by_their_clothes(wears, people):
    """Behind somebody else, and elsewhere when they come back; at 30 frames a second."""

    def seen(i):
        front = Seen(1, 300, width=90, wears=7, flipped=True)
        if i < 40:
            return [front, Seen(2, 240, wears=wears[0])]
        return [front] if i < 100 else [front, Seen(5, 380, wears=wears[1])]

    tracks = tracks_of(seen, frames=160)
    assert len(tracks) == people
    if people == 2:
        hidden = min(tracks, key=lambda track: len(track.frame))
        assert hidden.frame.tolist() == [*range(40), *range(100, 160)]


def test_two_hidden_people_come_back_as_themselves():
    """They change places behind a wall: only their clothes tell who is who."""

    def seen(i):
        if i < 40:
            return [Seen(1, 200, wears=3), Seen(2, 320, wears=9, flipped=True)]
        if i < 90:
            return []
        return [Seen(4, 200, wears=9, flipped=True), Seen(5, 320, wears=3)]

    tracks = tracks_of(seen, frames=140)
    assert len(tracks) == 2
    for track in tracks:
        places = centre(track)[[0, -1], 0].round().tolist()
        assert places in ([200, 320], [320, 200])


def test_nobody_is_taken_for_somebody_in_other_clothes():
    """Gone for a third of a second at the same place, which is near enough without colours."""

    def seen(i):
        return [] if 40 <= i < 50 else [Seen(1 if i < 40 else 2, 200, wears=3 if i < 40 else 9)]

    assert len(tracks_of(seen, frames=90)) == 2
    assert len(tracks_of(lambda i: [replace(p, wears=3) for p in seen(i)], frames=90)) == 1


@pytest.mark.parametrize(("lost", "drawn"), [(range(30, 42), 0), (range(30, 34), 4)])
def test_who_is_behind_a_larger_person_for_longer_than_a_flicker_is_not_drawn(lost, drawn):
    def people(i):
        small = [] if i in lost else [Seen(1, x=300.0, width=40.0, height=100.0)]
        return [*small, Seen(2, x=120 + 5.0 * i, width=90.0, height=220.0)]

    first, second = tracks_of(people)
    hidden, large = sorted((first, second), key=lambda one: size(one)[0].max())
    assert not large.interpolated.any() and len(large.frame) == 90
    assert hidden.interpolated.sum() == drawn
    assert len(hidden.frame) == 90 - len(lost) + drawn  # one person before and after


def test_who_is_lost_in_front_of_a_smaller_person_is_drawn():
    def people(i):
        large = [] if 30 <= i < 42 else [Seen(1, x=300.0, width=90.0, height=220.0)]
        return [*large, Seen(2, x=300.0, width=40.0, height=100.0)]

    assert [len(track.frame) for track in tracks_of(people)] == [90, 90]


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_box_that_slides_on_to_a_larger_person_ends_before(hidden, backwards):
    """In its last frames the small person is vague, and lost in the 60th."""

    def people(i):
        i = 89 - i if backwards else i
        large = Seen(2, x=300.0 if hidden else 500.0, width=90.0, height=220.0)
        score = 0.8 if i < 52 else 0.3
        small = [Seen(1, x=300.0, width=40.0, height=100.0, score=score, flipped=True)]
        return [*small, large] if i < 60 else [large]

    tracks = sorted(tracks_of(people), key=lambda one: size(one)[0].max())
    lasting = 52 if hidden else 60
    assert [len(one.frame) for one in tracks] == [lasting, 90]


def test_who_is_vague_all_the_time_stays():
    def people(i):
        small = Seen(1, x=300.0, width=40.0, height=100.0, score=0.4, flipped=True)
        return [small, Seen(2, x=300.0, width=90.0, height=220.0)]

    assert [len(one.frame) for one in tracks_of(people)] == [90, 90]
