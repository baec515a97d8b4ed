"""How far a result can be trusted: what is good and what to distrust, and where, in words.

Nearly all of it is about the picture's plane or about motion (measures.py). Depth, which one
camera cannot see, is judged only by how far the fit says that joints may be off. Poses are compared
with detected keypoints, so that where these are often wrong a pose counts as hard to check.
"""

from collections.abc import Iterable, Iterator, Sequence
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
TILTED = 60.0  # degrees from upright: detectors and networks have seen few such people
SMALL = 100.0  # px, longer side of the box: the network's crop is enlarged more than twice
CROWDED = 0.3  # share of the box that another's covers: limbs may be taken for each other's
SHORTEST = 0.2  # s: an interval that is shorter is not reported
LONGEST_BREAK = 0.2  # s: two intervals closer than this are one
GOOD, FAIR = 0.95, 0.8  # shares of poses that agree
LONGEST_LIST = 200  # remarks
MOST_DETAILS = 10  # findings that one remark gives times and numbers of
MOST_PICTURES = 10  # that one remark names
JUMP_WEIGHT = 1.0  # s that a jump counts for beyond its length


@dataclass(frozen=True)
class Remark:
    """Something to distrust, and where."""

    person: int | None  # None: the whole clip
    start: float  # s
    end: float  # s
    text: str
    detail: str = ""  # times and numbers of what it sums up, in lines
    extra: float = 0.0  # s added to its length where only the longest remarks are kept


@dataclass(frozen=True)
class _Finding:
    """One thing that is wrong with one person for a while."""

    start: float  # s
    end: float  # s
    what: str
    limb: str = ""  # that it is true of
    number: str = ""
    extra: float = 0.0  # as of a Remark


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
    doubts = [*_damage(people, packets, missing, pictures)]
    for one in people:
        doubts += [
            *_remarks(one, (*_gaps(one), *_faults(one))),
            *_remarks(one, _hard_to_check(one), "hard to check ({})"),
        ]
    longest = sorted(doubts, key=lambda doubt: doubt.start - doubt.end - doubt.extra)
    kept = longest[:LONGEST_LIST]
    kept.sort(key=lambda doubt: (doubt.start, doubt.person or 0))
    good = tuple(_praise(people))
    return Verdict(*_grade(people), good, tuple(kept), len(doubts) - len(kept))


def readable_time(time: float) -> str:
    """Format a time in seconds: 3.2 s, or 1:03.2 from a minute on."""
    tenths = round(time * 10)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}" if minutes else f"{rest / 10:.1f} s"


def _grade(people: Sequence[Measures]) -> tuple[str, str]:
    """The grade of a result, and its headline."""
    if not any(np.isfinite(one.error).any() for one in people):
        return "unknown", "The detector gave no keypoints: nothing to compare with"
    poses = sum(len(one.frame) for one in people)
    agreeing = sum(int(_agrees(one).sum()) for one in people)
    hard = sum(int(_is_hard(one).sum()) for one in people)
    checked = sum(int((_agrees(one) & ~_is_hard(one)).sum()) for one in people)
    # Agreement is never rounded up, so that 100 % means all; the rest is never rounded down.
    headline = f"{100 * agreeing // poses} % of {poses} poses agree with the detected keypoints"
    if hard:
        headline += f"; {-(-100 * hard // poses)} % are hard to check"
    if agreeing < FAIR * poses:
        return "poor", f"To be looked at closely: {headline}"
    return "good" if checked >= GOOD * poses else "fair", headline


def _agrees(one: Measures) -> Bools:
    """Whether the pose of each frame (F,) is what the detector saw, and moves like a body."""
    # NaN compares as False: without keypoints nothing agrees, beside a gap nothing is abrupt.
    calm = ~(one.mean_acceleration > ABRUPT)
    agreeing: Bools = (one.error <= FAR) & calm
    return agreeing


def _is_hard(one: Measures) -> Bools:
    """Whether the keypoints of each frame (F,) may be wrong without anything that shows it."""
    hard: Bools = (one.tilt > TILTED) | (one.size < SMALL) | (one.covered > CROWDED)
    return hard


def _praise(people: Sequence[Measures]) -> Iterator[str]:
    """What is good about a result."""
    for one in people:
        error = one.error[np.isfinite(one.error) & ~_is_hard(one)]
        if 2 * len(error) > len(one.error) and np.median(error) <= CLOSE:
            yield f"{one.subject} usually lies on the keypoints that the detector saw."
    if people and not any((one.mean_acceleration > ABRUPT).any() for one in people):
        yield "Nobody jumps: people move no more abruptly than bodies do."


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


def _gaps(one: Measures) -> Iterator[_Finding]:
    """Gaps in a person's track."""
    for row in np.flatnonzero(np.diff(one.frame) > 1).tolist():
        yield _Finding(float(one.time[row]), float(one.time[row + 1]), "lost")


def _faults(one: Measures) -> Iterator[_Finding]:
    """What was measured of a person and is wrong for a while."""
    for start, end, _ in _intervals(one.interpolated, one.time):
        yield _Finding(start, end, "not detected, so that place and pose are guesses")
    for start, end, rows in _intervals((one.sigma > UNSURE) & ~one.interpolated, one.time):
        number = f"joints may be off by {100 * np.nanmax(one.sigma[rows]):.0f} cm"
        yield _Finding(start, end, "pose unsure", number=number)
    for start, end, rows in _intervals(one.mean_acceleration > ABRUPT, one.time, shortest=0.0):
        number = f"all joints at {np.nanmax(one.mean_acceleration[rows]):.0f} m/s²"
        yield _Finding(start, end, "jumps", number=number, extra=JUMP_WEIGHT)
    hidden = one.hidden & ~one.interpolated[:, None]
    for k, limb in enumerate(LIMBS):
        for start, end, _ in _intervals(one.outside[:, k], one.time):
            yield _Finding(start, end, "out of the picture", limb)
        for start, end, _ in _intervals(hidden[:, k], one.time):
            yield _Finding(start, end, "hidden", limb)
        for start, end, rows in _intervals(one.limb_error[:, k] > FAR, one.time):
            off = 100 * np.nanmax(one.limb_error[rows, k])
            number = f"off by up to {off:.0f} % of the box"
            yield _Finding(start, end, "off the detected keypoints", limb, number)


def _hard_to_check(one: Measures) -> Iterator[_Finding]:
    """Where a person's keypoints are often wrong, which no measure shows."""
    for start, end, rows in _intervals(one.tilt > TILTED, one.time):
        number = f"trunk at up to {np.nanmax(one.tilt[rows]):.0f}°"
        yield _Finding(start, end, "far from upright", number=number)
    for start, end, rows in _intervals(one.size < SMALL, one.time):
        yield _Finding(
            start, end, "small in the picture", number=f"down to {one.size[rows].min():.0f} pixels"
        )
    for start, end, rows in _intervals(one.covered > CROWDED, one.time):
        number = f"up to {100 * one.covered[rows].max():.0f} % of the box"
        yield _Finding(start, end, "overlaps with another person", number=number)


def _remarks(one: Measures, findings: Iterable[_Finding], form: str = "{}") -> Iterator[Remark]:
    """One remark for each stretch of findings that overlap or follow each other at once."""
    stretch: list[_Finding] = []
    end = -np.inf
    for finding in sorted(findings, key=lambda finding: finding.start):
        if stretch and finding.start > end + LONGEST_BREAK:
            yield _remark(one, stretch, form)
            stretch = []
        stretch.append(finding)
        end = max(end, finding.end)
    if stretch:
        yield _remark(one, stretch, form)


def _remark(one: Measures, stretch: Sequence[_Finding], form: str) -> Remark:
    """Put the findings of one stretch in one sentence, and each with its numbers in the detail."""
    start, end = stretch[0].start, max(finding.end for finding in stretch)
    limbs: dict[str, set[str]] = {}
    for finding in stretch:
        limbs.setdefault(finding.what, set()).add(finding.limb)
    clauses = [f"{_list_of(own)} {what}".strip() for what, own in limbs.items()]
    details = [
        f"{finding.limb} {finding.what} {_where(finding.start, finding.end)}".strip()
        + f": {finding.number}" * bool(finding.number)
        for finding in stretch
        if finding.number or len(stretch) > 1
    ]
    return Remark(
        one.id,
        start,
        end,
        f"{one.subject}, {_where(start, end)}: {form.format('; '.join(clauses))}.",
        "\n".join(details[:MOST_DETAILS]) + "\n..." * (len(details) > MOST_DETAILS),
        max(finding.extra for finding in stretch),
    )


def _list_of(limbs: set[str]) -> str:
    """Name limbs, two arms or legs in one word: left arm and legs."""
    names = [limb for limb in LIMBS if limb in limbs]
    for left, right, both in PAIRS:
        if left in limbs and right in limbs:
            names[names.index(left)] = both
            names.remove(right)
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _intervals(
    mask: Bools, time: Float, shortest: float = SHORTEST
) -> Iterator[tuple[float, float, slice]]:
    """Where a mask (F,) holds at times (F,) s, short breaks aside: start, end, and the rows."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    shortest = min(shortest, float(time[-1] - time[0]))  # what is true all the time is reported
    breaks = np.flatnonzero(np.diff(time[rows]) > LONGEST_BREAK) + 1
    for first, end in pairwise([0, *breaks.tolist(), len(rows)]):
        start, stop = float(time[rows[first]]), float(time[rows[end - 1]])
        if stop - start >= shortest:
            yield start, stop, slice(int(rows[first]), int(rows[end - 1]) + 1)


def _where(start: float, end: float) -> str:
    if readable_time(start) == readable_time(end):
        return f"at {readable_time(start)}"
    return f"from {readable_time(start)} to {readable_time(end)}"
