"""What is measured of a result, against closed forms; and its remarks, word by word."""

import statistics
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from staf_cli.core.errors import TracksError
from staf_cli.core.records import Clip, select_rows
from staf_cli.report import measures, quality
from staf_cli.report.measures import ANGLES, LIMBS, Measures
from staf_cli.report.quality import FAR
from tests.support.made_people import make_person, make_track, open_body

CLIP = Clip(Path("clip.mp4"), 640, 480, 30.0, Fraction(1, 30), 20, False)
NAMES = list(LIMBS)


def flawless(frames=150, person=1, fps=30.0):
    """A person without a flaw."""
    n, limbs = frames, len(LIMBS)
    return Measures(
        id=person,
        name=f"person {person}",
        frame=np.arange(n),
        time=np.arange(n) / fps,
        interpolated=np.zeros(n, bool),
        error=np.full(n, 0.01, np.float32),
        limb_error=np.full((n, limbs), 0.01, np.float32),
        hidden=np.zeros((n, limbs), bool),
        outside=np.zeros((n, limbs), bool),
        speed=np.ones(n, np.float32),
        fastest=np.zeros(n, np.int8),
        acceleration=np.ones(n, np.float32),
        most_abrupt=np.zeros(n, np.int8),
        mean_acceleration=np.ones(n, np.float32),
        sigma=np.full(n, 0.08, np.float32),
        tilt=np.full(n, 5, np.float32),
        size=np.full(n, 400, np.float32),
        stands=np.zeros((n, 2), bool),
        angles=np.zeros((n, len(ANGLES)), np.float32),
        covered=np.zeros(n, np.float32),
    )


def marked(where, *limbs, frames=150):
    """A mask (F, limbs) that holds for some limbs in a slice."""
    mask = np.zeros((frames, len(LIMBS)), bool)
    for limb in limbs:
        mask[where, NAMES.index(limb)] = True
    return mask


def remarks(*people, packets=0, missing=0):
    return [doubt.text for doubt in quality.judge(people, packets, missing).doubts]


# ── what is measured ──────────────────────────────────────────────────────────────────────────


def test_motion_is_exact_on_parabolas_at_uneven_times():
    """x = x0 + v t + a t^2 / 2, so that speed and acceleration are known at every time."""
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.uniform(0.02, 0.06, 12))
    x0, v, a = rng.normal(size=(3, 24, 3))
    t = time[:, None, None]
    joints = x0 + v * t + a * t**2 / 2
    speed, acceleration = measures.motion(joints, time, np.arange(12))
    assert np.allclose(speed, np.linalg.norm(v + a * t, axis=-1)[1:-1], rtol=1e-9)
    assert np.allclose(acceleration, np.linalg.norm(a, axis=-1), rtol=1e-7)


def test_motion_across_a_gap_is_unknown():
    frame = np.array([0, 1, 2, 5, 6, 7])
    joints = np.random.default_rng(0).normal(size=(6, 24, 3))
    for values in measures.motion(joints, frame / 30, frame):
        assert np.isfinite(values).all(1).tolist() == [True, False, False, True]
    assert all(
        len(values) == 0 for values in measures.motion(joints[:2], frame[:2] / 30, frame[:2])
    )


def test_reprojection_error_is_a_distance_in_sides_of_the_box():
    """Joints 3 and 4 px off in a box of 50 x 100 px are off by 5 / 100; the unseen do not count."""
    track = make_track(1, 3)
    track = replace(track, box=np.tile([10.0, 20, 60, 120], (3, 1)))
    joints2d = np.random.default_rng(0).uniform(0, 1000, (3, 24, 2))
    kp2d = track.kp2d.copy()
    for joints, keypoints in LIMBS.values():
        if keypoints:
            kp2d[:, keypoints, :2] = joints2d[:, joints] + (3, 4)
    kp2d[1, 9] = (0, 0, measures.SEEN / 2)  # the left wrist is somewhere else, and not believed
    kp2d[2, :, 2] = 0
    error, limbs = measures.reprojection_error(joints2d, replace(track, kp2d=kp2d))
    assert error[:2] == pytest.approx(0.05)
    assert np.isnan(error[2])
    assert limbs[:2, 1:] == pytest.approx(np.full((2, 5), 0.05))
    assert np.isnan(limbs[2]).all()
    assert np.isnan(limbs[:, NAMES.index("head")]).all()
    kp2d[0, 9, 0] += 50  # one of two keypoints of an arm, one of twelve in all
    error, limbs = measures.reprojection_error(joints2d, replace(track, kp2d=kp2d))
    arm = (np.hypot(53, 4) + 5) / 2 / 100
    assert limbs[0, NAMES.index("left arm")] == pytest.approx(arm)
    assert error[0] == pytest.approx((11 * 5 + np.hypot(53, 4)) / 12 / 100)


@pytest.fixture(scope="module")
def walker():
    track = make_track(1, 40)
    frame = np.where(np.arange(40) < 25, track.frame, track.frame + 7)
    track = replace(track, frame=frame, time=frame / 30)
    return track, make_person(track, open_body(), CLIP)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
def test_stretches_measure_like_the_whole(walker, length):
    track, person = walker
    whole = measures.measure(track, [person])
    stretches = (select_rows(person, slice(k, k + length)) for k in range(0, 40, length))
    found = measures.measure(track, stretches)
    for name in vars(whole):
        assert np.array_equal(
            getattr(found, name), getattr(whole, name), equal_nan=name not in ("person", "name")
        )
    speed, _ = measures.motion(person.joints3d, person.time, person.frame)
    assert np.allclose(whole.speed[1:-1], speed.max(1), equal_nan=True)
    assert np.isnan(whole.speed[[0, 24, 25, 39]]).all()
    assert np.isfinite(whole.speed).sum() == 36


def test_another_track_s_person_is_refused(walker):
    track, person = walker
    for foreign in (select_rows(person, slice(0, 39)), replace(person, frame=person.frame + 1)):
        with pytest.raises(TracksError, match="person 1"):
            measures.measure(track, [foreign])
    with pytest.raises(TracksError):
        measures.measure(track, [person, select_rows(person, slice(0, 1))])


def test_limbs_are_outside_or_hidden(walker):
    track, person = walker
    joints2d = np.full((40, 24, 2), 100.0)
    joints2d[3, 7] = (100, 480.5)  # below a picture of 640 x 480
    joints2d[4, 20] = (-0.5, 100)
    kp2d = track.kp2d.copy()
    kp2d[5, [8, 10], 2] = 0.1
    kp2d[6, 8, 2] = 0.1  # the wrist is seen
    kp2d[3, [13, 15], 2] = 0.1  # outside, so no wonder
    found = measures.measure(replace(track, kp2d=kp2d), [replace(person, joints2d=joints2d)])
    assert np.argwhere(found.outside).tolist() == [
        [3, NAMES.index("left leg")],
        [4, NAMES.index("left arm")],
    ]
    assert np.argwhere(found.hidden).tolist() == [[5, NAMES.index("right arm")]]


def test_tilt_is_that_of_body_or_keypoints_the_larger(walker):
    track, person = walker
    joints3d, kp2d = person.joints3d.copy(), track.kp2d.copy()
    joints3d[:, [0, 12]] = [[0, 0, 5], [0, -0.5, 5]]  # upright: y is down
    kp2d[:, :, 2] = 0
    joints3d[3, 12] = (0.5, 0, 5)  # lies across
    joints3d[4, 12] = (0, 0, 4.5)  # and towards the camera
    kp2d[5:8, 5:13] = (100, 200, 1)
    kp2d[5, [5, 6], :2] = (100, 300)  # shoulders below the hips
    kp2d[6, [5, 6], :2] = (100, 210)  # and too near to tell
    kp2d[7, [5, 6], :2] = (200, 100)
    found = measures.measure(replace(track, kp2d=kp2d), [replace(person, joints3d=joints3d)])
    expected = np.zeros(40)
    expected[3:8] = 90, 90, 180, 0, 45
    assert found.tilt == pytest.approx(expected)


def test_another_s_box_covers_a_share_in_the_frames_they_share(walker):
    track, person = walker
    aside = np.array([50, 0, 50, 0])  # of 200 px
    near = replace(track, box=track.box + aside)
    near = select_rows(near, slice(4, 9))
    far = replace(track, box=track.box + 20 * aside)
    found = measures.measure(track, [person], [near, far])
    assert np.flatnonzero(found.covered).tolist() == [4, 5, 6, 7, 8]
    assert found.covered[4:9] == pytest.approx(0.75)
    assert found.size == pytest.approx(400)


def test_median_is_that_of_each_frame():
    rng = np.random.default_rng(0)
    people = []
    for number, (first, frames) in enumerate([(0, 30), (10, 15), (5, 40), (50, 3)], 1):
        one = flawless(frames, number)
        error = rng.uniform(0, 1, frames).astype(np.float32)
        error[rng.uniform(size=frames) < 0.2] = np.nan
        frame = one.frame + first
        people.append(replace(one, frame=frame, time=frame / 30, error=error))
    by_frame: dict[int, list[float]] = {}
    for one in people:
        for frame, error in zip(one.frame.tolist(), one.error.tolist(), strict=True):
            by_frame.setdefault(frame, []).extend([error] if error == error else [])
    expected = {f / 30: statistics.median(es) for f, es in sorted(by_frame.items()) if es}
    time, median = measures.median_error(people)
    assert time.tolist() == list(expected)
    assert median == pytest.approx(list(expected.values()))


def test_worst_frames_are_apart():
    one, other = flawless(60, 1), flawless(60, 2)
    one.error[[10, 11, 12, 40]] = 0.3, 0.5, 0.4, 0.2
    other.error[11] = 0.35
    other.error[20:] = np.nan
    assert measures.worst([one, other], 3, 0.25) == [(0, 11), (1, 11), (0, 40)]
    assert measures.worst([one, other], 4, 0.01)[:3] == [(0, 11), (0, 12), (1, 11)]
    blind = replace(one, error=np.full(60, np.nan, np.float32))
    blind.mean_acceleration[33] = 7
    assert measures.worst([blind], 1, 0.25) == [(0, 33)]


# ── remarks ─────────────────────────────────────────────────────────────────────────────────────


def test_where_nothing_is_wrong_nothing_is_doubted():
    verdict = quality.judge([flawless()], 0, 0)
    assert verdict.grade == "good"
    assert verdict.headline == "100 % of 150 poses agree with the detected keypoints"
    assert verdict.doubts == ()
    assert len(verdict.good) == 2


SECOND_2 = np.arange(150) // 30 == 2


@pytest.mark.parametrize(
    ("flaw", "text", "detail"),
    [
        (
            {"outside": marked(slice(96, 121), "left leg", "right leg")},
            "Person 1, from 3.2 s to 4.0 s: legs out of the picture.",
            "left leg out of the picture from 3.2 s to 4.0 s\n"
            "right leg out of the picture from 3.2 s to 4.0 s",
        ),
        (
            {"outside": marked(slice(96, 121), "right leg")},
            "Person 1, from 3.2 s to 4.0 s: right leg out of the picture.",
            "",
        ),
        (
            {"hidden": marked(slice(30, 61), "head")},
            "Person 1, from 1.0 s to 2.0 s: head hidden.",
            "",
        ),
        (
            {"limb_error": np.where(marked(slice(30, 61), "left arm"), 0.12, 0.01)},
            "Person 1, from 1.0 s to 2.0 s: left arm off the detected keypoints.",
            "left arm off the detected keypoints from 1.0 s to 2.0 s: off by up to 12 % of the box",
        ),
        (
            {"interpolated": SECOND_2},
            "Person 1, from 2.0 s to 3.0 s: not detected, so that place and pose are guesses.",
            "",
        ),
        (
            {"sigma": np.where(SECOND_2, 0.31, 0.1)},
            "Person 1, from 2.0 s to 3.0 s: pose unsure.",
            "pose unsure from 2.0 s to 3.0 s: joints may be off by 31 cm",
        ),
        (
            {"mean_acceleration": np.where(np.arange(150) == 90, 200.0, 1)},
            "Person 1, at 3.0 s: jumps.",
            "jumps at 3.0 s: all joints at 200 m/s²",
        ),
        (
            {
                "frame": np.arange(150) + 60 * (np.arange(150) >= 60),
                "time": (np.arange(150) + 60 * (np.arange(150) >= 60)) / 30,
            },
            "Person 1, from 2.0 s to 4.0 s: lost.",
            "",
        ),
        (
            {"tilt": np.where(SECOND_2, 95.0, 5)},
            "Person 1, from 2.0 s to 3.0 s: hard to check (far from upright).",
            "far from upright from 2.0 s to 3.0 s: trunk at up to 95°",
        ),
        (
            {"size": np.where(SECOND_2, 61.0, 400)},
            "Person 1, from 2.0 s to 3.0 s: hard to check (small in the picture).",
            "small in the picture from 2.0 s to 3.0 s: down to 61 pixels",
        ),
        (
            {"covered": np.where(SECOND_2, 0.45, 0)},
            "Person 1, from 2.0 s to 3.0 s: hard to check (overlaps with another person).",
            "overlaps with another person from 2.0 s to 3.0 s: up to 45 % of the box",
        ),
    ],
)
def test_each_flaw_has_its_words(flaw, text, detail):
    (doubt,) = quality.judge([replace(flawless(), **flaw)], 0, 0).doubts
    assert (doubt.text, doubt.detail) == (text, detail)


def test_flaws_that_overlap_or_touch_are_one_sentence():
    hidden = marked(slice(30, 61), "left arm", "right arm", "head") | marked(slice(61, 80), "body")
    sigma = np.where(np.arange(150) // 30 == 1, 0.31, 0.1)
    one = replace(flawless(), hidden=hidden, sigma=sigma, tilt=np.full(150, 90.0))
    one.mean_acceleration[120] = 200  # well after
    assert remarks(one) == [
        "Person 1, from 0.0 s to 5.0 s: hard to check (far from upright).",
        "Person 1, from 1.0 s to 2.6 s: pose unsure; head, body and arms hidden.",
        "Person 1, at 4.0 s: jumps.",
    ]
    assert quality.judge([one], 0, 0).doubts[1].detail.split("\n") == [
        "pose unsure from 1.0 s to 2.0 s: joints may be off by 31 cm",
        "head hidden from 1.0 s to 2.0 s",
        "left arm hidden from 1.0 s to 2.0 s",
        "right arm hidden from 1.0 s to 2.0 s",
        "body hidden from 2.0 s to 2.6 s",
    ]


def test_one_picture_is_doubted_as_a_long_clip_is():
    one = replace(flawless(1), tilt=np.array([90.0]))
    assert remarks(one) == ["Person 1, at 0.0 s: hard to check (far from upright)."]


def test_named_people_are_called_by_their_names(walker):
    track, person = walker
    one = measures.measure(replace(track, name="anna"), [person])
    assert all(text.startswith("Anna") for text in remarks(one))
    assert remarks(one)


def test_arms_at_different_times_are_two_remarks():
    mask = marked(slice(0, 31), "left arm") | marked(slice(90, 121), "right arm")
    first, second = remarks(replace(flawless(), outside=mask))
    assert "left arm out" in first
    assert "right arm out" in second


def test_short_intervals_are_not_reported_and_near_ones_are_one():
    mask = marked(slice(30, 34), "head") | marked(slice(60, 67), "body")
    mask |= marked(slice(70, 80), "body")
    assert remarks(replace(flawless(), outside=mask)) == [
        "Person 1, from 2.0 s to 2.6 s: body out of the picture."
    ]


def test_damage_is_reported():
    texts = remarks(flawless(), packets=3, missing=20)
    assert "damaged in 3 places" in texts[0]
    assert "20 pictures are missing at the end" in texts[1]


@pytest.mark.parametrize(
    ("bad", "grade", "percent"), [(1, "good", 99), (15, "fair", 90), (75, "poor", 50)]
)
def test_grade_is_the_share_of_poses_that_agree(bad, grade, percent):
    one = flawless()
    one.error[:bad] = 2 * FAR
    verdict = quality.judge([one], 0, 0)
    assert verdict.grade == grade
    assert f"{percent} % of 150" in verdict.headline


@pytest.mark.parametrize("flaw", [{"tilt": 95.0}, {"size": 61.0}, {"covered": 0.45}])
def test_agreement_with_keypoints_that_are_often_wrong_is_not_good(flaw):
    """A body on the keypoints of who lies, is small or is in a crowd may be beside the person."""
    ((name, value),) = flaw.items()
    whole = replace(flawless(), **{name: np.full(150, value)})
    verdict = quality.judge([whole], 0, 0)
    assert verdict.grade == "fair"
    assert verdict.headline == (
        "100 % of 150 poses agree with the detected keypoints; 100 % are hard to check"
    )
    assert not any("keypoints" in text for text in verdict.good)
    moment = replace(
        flawless(), **{name: np.where(np.arange(150) < 4, value, vars(flawless())[name])}
    )
    verdict = quality.judge([moment], 0, 0)
    assert verdict.grade == "good"
    assert verdict.headline.endswith("; 3 % are hard to check")
    assert len(verdict.good) == 2


def test_without_keypoints_nothing_is_judged():
    blind = np.full(150, np.nan, np.float32)
    verdict = quality.judge([replace(flawless(), error=blind)], 0, 0)
    assert verdict.grade == "unknown"
    assert "no keypoints" in verdict.headline


def test_a_list_that_is_too_long_keeps_the_longest():
    lost = flawless(40_000)
    frame = np.arange(40_000) + np.arange(40_000) // 20  # lost for a frame after each twenty
    frame[20_000:] += 90
    lost.mean_acceleration[10_010] = 200
    verdict = quality.judge([replace(lost, frame=frame, time=frame / 30)], 0, 0)
    assert len(verdict.doubts) == quality.LONGEST_LIST
    assert verdict.omitted == 2000 - quality.LONGEST_LIST
    assert any(doubt.end - doubt.start > 3 for doubt in verdict.doubts)
    assert any("jumps" in doubt.text for doubt in verdict.doubts)


@pytest.mark.parametrize(
    ("time", "text"), [(0, "0.0 s"), (3.24, "3.2 s"), (59.97, "1:00.0"), (3723.4, "62:03.4")]
)
def test_clock(time, text):
    assert quality.readable_time(time) == text
