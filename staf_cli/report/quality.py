"""How far a result can be trusted: what is good and what to distrust, and where, in words.

Nearly all of it is about the picture's plane or about motion (measures.py). Depth, which one
camera cannot see, is judged only by how far the fit says that joints may be off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from staf_cli.core.records import Bools, Float
from staf_cli.report.measures import LIMBS, Measures

PAIRS = (("left arm", "right arm", "arms"), ("left leg", "right leg", "legs"))
CLOSE = 0.03  # sides of the box: what the detector itself is off by now and then
FAR = 0.06  # sides of the box, about 10 cm on an upright person: not the pose that was seen
UNSURE = 0.2  # m, mean of the joints' sigma: about twice the usual
ABRUPT = 60.0  # m/s^2, mean over the joints: a body that does this is thrown, or jumps in error
SHORTEST = 0.2  # s: an interval that is shorter is not reported
LONGEST_BREAK = 0.2  # s: two intervals closer than this are one
GOOD, FAIR = 0.95, 0.8  # shares of poses that agree
LONGEST_LIST = 200  # remarks
MOST_PICTURES = 10  # that one remark names
JUMP_WEIGHT = 1.0  # s that a jump counts for beyond its length


@dataclass(frozen=True)
class Remark:
    """Something to distrust, and where."""

    person: int | None  # None: the whole clip
    start: float  # s
    end: float  # s
    text: str
    extra: float = 0.0  # s added to its length where only the longest remarks are kept


@dataclass(frozen=True)
class Verdict:
    """What to think of a result."""

    grade: str  # good, fair, poor or unknown
    headline: str
    good: tuple[str, ...]
    doubts: tuple[Remark, ...]  # in the order of the clip
    omitted: int  # doubts left out because they are too many


def judge(
    people: Sequence[Measures], packets: int, missing: int, pictures: Sequence[str] = ()
) -> Verdict:
    """Judge a result.

    Args:
        people: all of a clip.
        packets: of the video that are damaged.
        missing: of the video's packets, how many the file lacks at its end.
        pictures: of a folder, which ones are damaged and why.

    Returns:
        The verdict.
    """
    poses = sum(len(one.frame) for one in people)
    agreeing = sum(int(_agrees(one).sum()) for one in people)
    if not any(np.isfinite(one.error).any() for one in people):
        grade, headline = "unknown", "The detector gave no keypoints: nothing to compare with"
    else:
        share = agreeing / poses
        grade = "good" if share >= GOOD else "fair" if share >= FAIR else "poor"
        words = {"good": "Good", "fair": "Mostly good", "poor": "To be looked at closely"}[grade]
        # Never rounded up: 100 % means all.
        headline = f"{words}: {int(100 * share)} % of {poses} poses agree with the picture"
    doubts = [*_damage(people, packets, missing, pictures)]
    for one in people:
        doubts += [*_gaps(one), *_doubtful_intervals(one)]
    longest = sorted(doubts, key=lambda doubt: doubt.start - doubt.end - doubt.extra)
    kept = longest[:LONGEST_LIST]
    kept.sort(key=lambda doubt: (doubt.start, doubt.person or 0))
    good = tuple(_praise(people))
    return Verdict(grade, headline, good, tuple(kept), len(doubts) - len(kept))


def readable_time(time: float) -> str:
    """Format a time in seconds: 3.2 s, or 1:03.2 from a minute on."""
    tenths = round(time * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}" if minutes else f"{rest / 10:.1f} s"


def _agrees(one: Measures) -> Bools:
    """Whether the pose of each frame (F,) is what the detector saw, and moves like a body."""
    # NaN compares as False: without keypoints nothing agrees, beside a gap nothing is abrupt.
    calm = ~(one.mean_acceleration > ABRUPT)
    agreeing: Bools = (one.error <= FAR) & calm
    return agreeing


def _praise(people: Sequence[Measures]) -> Iterator[str]:
    """What is good about a result."""
    for one in people:
        error = one.error[np.isfinite(one.error)]
        if len(error) and np.median(error) <= CLOSE:
            yield (
                f"{one.subject} lies on the keypoints that the detector saw: usually off by "
                f"{100 * np.median(error):.1f} % of the box around them."
            )
    if people and not any((one.mean_acceleration > ABRUPT).any() for one in people):
        yield "Nobody jumps: all accelerations are such as bodies make."


def _damage(
    people: Sequence[Measures], packets: int, missing: int, pictures: Sequence[str]
) -> Iterator[Remark]:
    """Damage of the video file itself, or of the pictures of its folder."""
    start = min((float(one.time[0]) for one in people), default=0.0)
    end = max((float(one.time[-1]) for one in people), default=0.0)
    if pictures:
        names = ", ".join(pictures[:MOST_PICTURES]) + ", ..." * (len(pictures) > MOST_PICTURES)
        text = f"Pictures that cannot be read in full are missing or incomplete: {names}."
        yield Remark(None, start, end, text)
    elif packets:
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
    """Gaps in a person's track."""
    jumps = np.flatnonzero(np.diff(one.frame) > 1)
    for row in jumps.tolist():
        start, end = float(one.time[row]), float(one.time[row + 1])
        where = _where(start, end, between=True)
        yield Remark(one.id, start, end, f"{one.subject} was lost {where}.")


def _doubtful_intervals(one: Measures) -> Iterator[Remark]:
    """Everything to distrust about a person that lasts for a while."""
    who = one.subject
    for start, end, _ in _intervals(one.interpolated, one.time):
        where = _where(start, end)
        text = f"{who} was not detected {where}: the place is bridged, the pose is a guess."
        yield Remark(one.id, start, end, text)
    for start, end, rows in _intervals((one.sigma > UNSURE) & ~one.interpolated, one.time):
        off = 100 * np.nanmax(one.sigma[rows])
        text = f"{who}'s pose is unsure {_where(start, end)}: joints may be off by {off:.0f} cm."
        yield Remark(one.id, start, end, text)
    for start, end, rows in _intervals(one.mean_acceleration > ABRUPT, one.time, shortest=0.0):
        peak = np.nanmax(one.mean_acceleration[rows])
        text = f"{who} jumps {_where(start, end)} (all joints at {peak:.0f} m/s²)."
        yield Remark(one.id, start, end, text, JUMP_WEIGHT)
    for name, plural, start, end, _ in _limb_intervals(one.outside, one.time):
        verb = "reach" if plural else "reaches"
        text = f"{who}'s {name} {verb} out of the picture {_where(start, end)}: guessed there."
        yield Remark(one.id, start, end, text)
    hidden = one.hidden & ~one.interpolated[:, None]
    for name, plural, start, end, _ in _limb_intervals(hidden, one.time):
        verb = "are" if plural else "is"
        text = f"{who}'s {name} {verb} hidden {_where(start, end)}: guessed there."
        yield Remark(one.id, start, end, text)
    for name, plural, start, end, rows in _limb_intervals(one.limb_error > FAR, one.time):
        off = 100 * np.nanmax(one.limb_error[rows])
        verb = "disagree" if plural else "disagrees"
        text = (
            f"{who}'s {name} {verb} with the detector {_where(start, end)} "
            f"(by up to {off:.0f} % of the box)."
        )
        yield Remark(one.id, start, end, text)


def _limb_intervals(limbs: Bools, time: Float) -> Iterator[tuple[str, bool, float, float, slice]]:
    """Intervals of a mask (F, limbs): name, whether it is a plural, start, end, rows."""
    names = list(LIMBS)
    paired = {name for left, right, _ in PAIRS for name in (left, right)}
    for name in names:
        if name not in paired:
            for start, end, rows in _intervals(limbs[:, names.index(name)], time):
                yield name, False, start, end, rows
    # Two arms, or legs, at the same time are one remark.
    for left, right, both in PAIRS:
        sides = limbs[:, [names.index(left), names.index(right)]]
        for start, end, rows in _intervals(np.asarray(sides.any(1)), time):
            share = sides[rows].sum(0)
            together = 2 * share.min() > share.max()
            name = both if together else (left, right)[int(share.argmax())]
            yield name, bool(together), start, end, rows


def _intervals(
    mask: Bools, time: Float, shortest: float = SHORTEST
) -> Iterator[tuple[float, float, slice]]:
    """Where a mask (F,) holds at times (F,) s, short breaks aside: start, end, and the rows."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    breaks = np.flatnonzero(np.diff(time[rows]) > LONGEST_BREAK) + 1
    for first, end in pairwise([0, *breaks.tolist(), len(rows)]):
        start, stop = float(time[rows[first]]), float(time[rows[end - 1]])
        if stop - start >= shortest:
            yield start, stop, slice(int(rows[first]), int(rows[end - 1]) + 1)


def _where(start: float, end: float, between: bool = False) -> str:
    if readable_time(start) == readable_time(end):
        return f"at {readable_time(start)}"
    words = ("between", "and") if between else ("from", "to")
    return f"{words[0]} {readable_time(start)} {words[1]} {readable_time(end)}"
