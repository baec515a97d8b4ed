"""How far a result can be trusted, judged by itself: no truth is needed.

Three things are measured in every frame of a person: how far the body's joints lie from the
keypoints that the detector saw, how fast joints move, and how abruptly. From these, and from
what was not seen at all, `judge` says in words what is good and what to distrust, and where.

All of it looks at the picture's plane or at motion. Depth, which one camera cannot see, is
judged by nothing here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from staf_cli.core import metrics
from staf_cli.core.errors import TracksError, one_line
from staf_cli.core.records import Bools, Float, Float32, Ints, Person, Track, join_rows, select_rows

# Parts of a body: joints in SMPL's order, and the COCO keypoints that show the same points.
LIMBS = {
    "head": ((15,), ()),
    "body": ((16, 17, 1, 2), (5, 6, 11, 12)),
    "left arm": ((18, 20), (7, 9)),
    "right arm": ((19, 21), (8, 10)),
    "left leg": ((4, 7), (13, 15)),
    "right leg": ((5, 8), (14, 16)),
}
PAIRS = (("left arm", "right arm", "arms"), ("left leg", "right leg", "legs"))
SEEN = 0.5  # confidence from which a keypoint counts as seen
CLOSE = 0.03  # sides of the box: what the detector itself is off by now and then
FAR = 0.06  # sides of the box, about 10 cm on somebody who stands: not the pose that was seen
ABRUPT = 60.0  # m/s^2, mean over the joints: a body that does this is thrown, or jumps in error
SHORTEST = 0.2  # s: less is not told in words
MEND = 0.2  # s: two spells closer than this are one
GOOD, FAIR = 0.95, 0.8  # shares of poses that agree
LONGEST_LIST = 200  # remarks
JUMP_WEIGHT = 1.0  # s that a jump counts for beyond its length

Shorts = NDArray[np.int8]


@dataclass(frozen=True)
class Measures:
    """One person frame by frame; NaN marks what cannot be measured."""

    id: int
    name: str  # what to call them
    frame: Ints  # (F,)
    time: Float  # (F,) s
    interpolated: Bools  # (F,)
    error: Float32  # (F,) 2D distance from the keypoints, mean of those seen, sides of the box
    limb_error: Float32  # (F, limbs) the same for each of LIMBS
    hidden: Bools  # (F, limbs) no keypoint of it seen, though it is within the picture
    outside: Bools  # (F, limbs) it reaches out of the picture
    speed: Float32  # (F,) m/s, of the fastest joint
    fastest: Shorts  # (F,) which one
    acceleration: Float32  # (F,) m/s^2, of the joint where it is largest
    most_abrupt: Shorts  # (F,) which one
    unrest: Float32  # (F,) m/s^2, the mean of all joints' accelerations

    @property
    def subject(self) -> str:
        """The name as a sentence begins with it."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def agrees(self) -> Bools:
        """Whether the pose of each frame (F,) is what the detector saw, and moves like a body.

        Where it saw nothing there is nothing to agree with.
        """
        calm = ~(self.unrest > ABRUPT)  # NaN, beside a gap, is no objection
        agreeing: Bools = (self.error <= FAR) & calm
        return agreeing


@dataclass(frozen=True)
class Remark:
    """Something to distrust, and where."""

    person: int | None  # None: the whole clip
    start: float  # s
    end: float  # s
    text: str
    more: float = 0.0  # s by which it counts for more than it lasts, where not all can be told


@dataclass(frozen=True)
class Verdict:
    """What to think of a result."""

    grade: str  # good, fair, poor or unknown
    headline: str
    good: tuple[str, ...]
    doubts: tuple[Remark, ...]  # in the order of the clip
    untold: int  # doubts left out because they are too many


def measure(track: Track, stretches: Iterable[Person]) -> Measures:
    """Measure a person who is read in stretches, in order; only two of them are in memory.

    Raises TracksError where the stretches are not those of the track.
    """
    n = len(track.frame)
    error, speed, acceleration, unrest = np.full((4, n), np.nan, np.float32)
    limb_error = np.full((n, len(LIMBS)), np.nan, np.float32)
    hidden, outside = np.zeros((2, n, len(LIMBS)), bool)
    fastest, most_abrupt = np.zeros((2, n), np.int8)
    end, before = 0, None
    for stretch in stretches:
        rows = slice(end, end + len(stretch.frame))
        end = rows.stop
        if not np.array_equal(track.frame[rows], stretch.frame):
            break
        own = select_rows(track, rows)
        error[rows], limb_error[rows] = reprojection_error(stretch.joints2d, own)
        outside[rows] = _outside(stretch)
        hidden[rows] = _hidden(own) & ~outside[rows]
        near = stretch if before is None else join_rows([before, stretch])
        inner = slice(end - len(near.frame) + 1, end - 1)  # both neighbours are in `near`
        fast, abrupt = motion(near.joints3d, near.time, near.frame)
        speed[inner], fastest[inner] = fast.max(1), fast.argmax(1)
        acceleration[inner], most_abrupt[inner] = abrupt.max(1), abrupt.argmax(1)
        unrest[inner] = abrupt.mean(1)
        before = select_rows(near, slice(-2, None))
    if end != n or before is None or before.frame[-1] != track.frame[-1]:
        raise TracksError(
            f"person {track.id}: tracks.csv no longer fits the person; run the clip again"
        )
    return Measures(
        track.id,
        one_line(track.name) or f"person {track.id}",
        track.frame,
        track.time,
        track.interpolated,
        error,
        limb_error,
        hidden,
        outside,
        speed,
        fastest,
        acceleration,
        most_abrupt,
        unrest,
    )


def reprojection_error(joints2d: Float, track: Track) -> tuple[Float, Float]:
    """Distance of joints2d (F, 24, 2) px from the keypoints seen, in longer sides of the box.

    Gives the mean over all keypoints that show a joint (F,), and over those of each limb
    (F, limbs); NaN where the detector saw none of them.
    """
    joints = [joint for joints, keypoints in LIMBS.values() if keypoints for joint in joints]
    keypoints = [keypoint for _, keypoints in LIMBS.values() for keypoint in keypoints]
    kp2d = track.kp2d[:, keypoints].astype(np.float64)
    kp2d[..., 2] *= kp2d[..., 2] >= SEEN
    each = metrics.error_2d(joints2d[:, joints], kp2d, track.box)
    limbs = [
        _mean(each[:, [keypoints.index(keypoint) for keypoint in own]]) for _, own in LIMBS.values()
    ]
    return _mean(each), np.stack(limbs, 1)


def motion(joints: Float, time: Float, frame: Ints) -> tuple[Float, Float]:
    """Speeds m/s and accelerations m/s^2 of joints (F, 24, 3) m at times (F,) s: (F - 2, 24) each.

    Those of the parabola through a frame and its two neighbours, however far apart in time;
    the first and the last frame have none. NaN beside a gap in `frame` (F,).
    """
    if len(frame) < 3:
        return np.zeros((2, 0, joints.shape[1]))  # type: ignore[return-value]
    step = np.diff(time)[:, None, None]
    velocity = np.diff(joints, axis=0) / step
    into, out_of, both = step[:-1], step[1:], step[:-1] + step[1:]
    speed = np.linalg.norm((velocity[:-1] * out_of + velocity[1:] * into) / both, axis=-1)
    acceleration = np.linalg.norm(2 * np.diff(velocity, axis=0) / both, axis=-1)
    broken = frame[2:] - frame[:-2] != 2
    speed[broken] = acceleration[broken] = np.nan
    return speed, acceleration


def median_error(people: Sequence[Measures]) -> tuple[Float, Float]:
    """The median over the people of each frame's 2D error: times (N,) s, medians (N,).

    Only frames in which somebody's can be measured.
    """
    frame = np.concatenate([one.frame for one in people])
    time = np.concatenate([one.time for one in people])
    error = np.concatenate([one.error for one in people]).astype(np.float64)
    order = np.lexsort((error, frame))
    order = order[np.isfinite(error[order])]
    frame, time, error = frame[order], time[order], error[order]
    first = np.flatnonzero(np.diff(frame, prepend=-1))
    last = np.append(first[1:], len(frame)) - 1
    middle = (error[(first + last) // 2] + error[(first + last + 1) // 2]) / 2
    return time[first], middle


def worst(people: Sequence[Measures], count: int, apart: float) -> list[tuple[int, int]]:
    """The frames that agree least with what the detector saw, the worst first.

    Gives at most `count` times somebody's number in the list and a row, of each person no two
    less than `apart` seconds from each other. Without any keypoint: the most abrupt frames.
    """
    measured = any(np.isfinite(one.error).any() for one in people)
    found: list[tuple[float, int, int]] = []
    for number, one in enumerate(people):
        value = np.nan_to_num(one.error if measured else one.unrest, nan=-1.0)
        taken: list[float] = []
        for row in np.argsort(-value, kind="stable").tolist():
            if value[row] < 0 or len(taken) == count:
                break
            if all(abs(one.time[row] - time) >= apart for time in taken):
                taken.append(float(one.time[row]))
                found.append((-float(value[row]), number, row))
    return [(number, row) for _, number, row in sorted(found)[:count]]


def judge(people: Sequence[Measures], packets: int, missing: int) -> Verdict:
    """Say what is good and what is not. packets, missing: the video's damage, as it is counted."""
    poses = sum(len(one.frame) for one in people)
    agreeing = sum(int(one.agrees.sum()) for one in people)
    if not any(np.isfinite(one.error).any() for one in people):
        grade, headline = "unknown", "The detector gave no keypoints: nothing to compare with"
    else:
        share = agreeing / poses
        grade = "good" if share >= GOOD else "fair" if share >= FAIR else "poor"
        words = {"good": "Good", "fair": "Mostly good", "poor": "To be looked at closely"}[grade]
        # Never rounded up: 100 % means all.
        headline = f"{words}: {int(100 * share)} % of {poses} poses agree with the picture"
    doubts = [*_damage(people, packets, missing)]
    for one in people:
        doubts += [*_gaps(one), *_spells_of(one)]
    longest = sorted(doubts, key=lambda doubt: doubt.start - doubt.end - doubt.more)
    kept = longest[:LONGEST_LIST]
    kept.sort(key=lambda doubt: (doubt.start, doubt.person or 0))
    good = tuple(_praise(people))
    return Verdict(grade, headline, good, tuple(kept), len(doubts) - len(kept))


def clock(time: float) -> str:
    """A time as people read it: 3.2 s, or 1:03.2 from a minute on."""
    tenths = round(time * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}" if minutes else f"{rest / 10:.1f} s"


def _praise(people: Sequence[Measures]) -> Iterator[str]:
    """Who lies well on the picture."""
    for one in people:
        error = one.error[np.isfinite(one.error)]
        if len(error) and np.median(error) <= CLOSE:
            yield (
                f"{one.subject} lies on the keypoints that the detector saw: usually off by "
                f"{100 * np.median(error):.1f} % of the box around them."
            )
    if people and not any((one.unrest > ABRUPT).any() for one in people):
        yield "Nobody jumps: all accelerations are such as bodies make."


def _damage(people: Sequence[Measures], packets: int, missing: int) -> Iterator[Remark]:
    """What the file itself lacks."""
    start = min((float(one.time[0]) for one in people), default=0.0)
    end = max((float(one.time[-1]) for one in people), default=0.0)
    if packets:
        yield Remark(
            None,
            start,
            end,
            f"The video is damaged in {packets} places; pictures there are conjectures.",
        )
    if missing:
        yield Remark(
            None, end, end, f"About {missing} pictures are missing at the end of the video."
        )


def _gaps(one: Measures) -> Iterator[Remark]:
    """When the person is not there between two times of being there."""
    jumps = np.flatnonzero(np.diff(one.frame) > 1)
    for row in jumps.tolist():
        start, end = float(one.time[row]), float(one.time[row + 1])
        where = _where(start, end, between=True)
        yield Remark(one.id, start, end, f"{one.subject} was lost {where}.")


def _spells_of(one: Measures) -> Iterator[Remark]:
    """Everything about a person that lasts for a while."""
    who = one.subject
    for start, end, _ in _spells(one.interpolated, one.time):
        where = _where(start, end)
        text = f"{who} was not detected {where}: the place is bridged, the pose is a guess."
        yield Remark(one.id, start, end, text)
    for start, end, rows in _spells(one.unrest > ABRUPT, one.time, shortest=0.0):
        peak = np.nanmax(one.unrest[rows])
        text = f"{who} jumps {_where(start, end)} (all joints at {peak:.0f} m/s²)."
        yield Remark(one.id, start, end, text, JUMP_WEIGHT)
    for name, plural, start, end, _ in _limb_spells(one.outside, one.time):
        verb = "reach" if plural else "reaches"
        text = f"{who}'s {name} {verb} out of the picture {_where(start, end)}: guessed there."
        yield Remark(one.id, start, end, text)
    seen = one.hidden & ~one.interpolated[:, None]
    for name, plural, start, end, _ in _limb_spells(seen, one.time):
        verb = "are" if plural else "is"
        text = f"{who}'s {name} {verb} hidden {_where(start, end)}: guessed there."
        yield Remark(one.id, start, end, text)
    for name, plural, start, end, rows in _limb_spells(one.limb_error > FAR, one.time):
        off = 100 * np.nanmax(one.limb_error[rows])
        verb = "disagree" if plural else "disagrees"
        text = (
            f"{who}'s {name} {verb} with the detector {_where(start, end)} "
            f"(by up to {off:.0f} % of the box)."
        )
        yield Remark(one.id, start, end, text)


def _limb_spells(limbs: Bools, time: Float) -> Iterator[tuple[str, bool, float, float, slice]]:
    """Spells of a mask (F, limbs): name, whether it is a plural, start, end, rows.

    Two arms, or legs, at the same time are told together.
    """
    names = list(LIMBS)
    paired = {name for left, right, _ in PAIRS for name in (left, right)}
    for name in names:
        if name not in paired:
            for start, end, rows in _spells(limbs[:, names.index(name)], time):
                yield name, False, start, end, rows
    for left, right, both in PAIRS:
        sides = limbs[:, [names.index(left), names.index(right)]]
        for start, end, rows in _spells(np.asarray(sides.any(1)), time):
            share = sides[rows].sum(0)
            together = 2 * share.min() > share.max()
            name = both if together else (left, right)[int(share.argmax())]
            yield name, bool(together), start, end, rows


def _spells(
    mask: Bools, time: Float, shortest: float = SHORTEST
) -> Iterator[tuple[float, float, slice]]:
    """Where a mask (F,) holds at times (F,) s, short breaks aside: start, end, and the rows."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    breaks = np.flatnonzero(np.diff(time[rows]) > MEND) + 1
    for first, end in pairwise([0, *breaks.tolist(), len(rows)]):
        start, stop = float(time[rows[first]]), float(time[rows[end - 1]])
        if stop - start >= shortest:
            yield start, stop, slice(int(rows[first]), int(rows[end - 1]) + 1)


def _where(start: float, end: float, between: bool = False) -> str:
    if clock(start) == clock(end):
        return f"at {clock(start)}"
    words = ("between", "and") if between else ("from", "to")
    return f"{words[0]} {clock(start)} {words[1]} {clock(end)}"


def _outside(person: Person) -> Bools:
    """Whether any of a limb's joints lies outside the picture: (F, limbs)."""
    past = (person.joints2d < 0) | (person.joints2d > person.image_size)
    beyond = np.asarray(past.any(-1))
    return np.stack([beyond[:, joints].any(1) for joints, _ in LIMBS.values()], 1)


def _hidden(track: Track) -> Bools:
    """Whether the detector saw none of a limb's keypoints: (F, limbs)."""
    unseen = track.kp2d[..., 2] < SEEN
    return np.stack([unseen[:, own].all(1) & bool(own) for _, own in LIMBS.values()], 1)


def _mean(values: Float) -> Float:
    """The mean of each row of (F, K) without its NaNs; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(1)
    total = np.where(known, values, 0).sum(1)
    mean: Float = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
