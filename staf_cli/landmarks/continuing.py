"""People whom the detector loses, followed on by what the landmark network sees.

The network itself says where to look next, so it stays with somebody who turns over, where the
detector sees nobody or passes on to somebody else. Whoever is lost inside the picture is followed
in every frame until the detector is sure of them again. What it saw of them meanwhile, under
whichever number, is theirs (`handover.py`). Nothing here knows in which order the frames were
filmed (`both_ways.py`).
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from staf_cli.core.geometry import box_area, box_iou
from staf_cli.core.records import (
    Bools,
    Float,
    Frame,
    Image,
    Track,
    TrackRow,
    frames_with_people,
)
from staf_cli.core.regions import around_boxes
from staf_cli.landmarks.agreement import (
    BELIEVED,
    CLEAR,
    COCO,
    extent,
    in_mask,
    same_body,
    same_look,
    same_pose,
    with_detector,
    with_each_other,
)
from staf_cli.landmarks.following import EIGHTH, trunk_turn
from staf_cli.landmarks.reading import Landmarks, joined, one_by_one, selected
from staf_cli.tracking.boxes import is_covered

WARM_UP = 0.5  # s before somebody is lost, from which the network follows
LONGEST_ALONE = 1.0  # s for which the network is believed where the detector sees nobody
SPAN = 0.3  # s over which the network's scores are averaged, and in which nobody begins twice
WORST_SCORE = 0.3  # of the network, on average
SURE = 0.7  # score of a detection, or of a look, that needs no help
STAYED = 0.5  # IoU of a person's boxes in consecutive frames; less is a jump to somebody else
SAME_PLACE = 0.3  # IoU of boxes of one person, who moved, turned over, or was badly seen
LONGEST_BESIDE = 0.15  # s for which two people may look like one
ON_MASK = 0.7  # share of a detection's clear joints on the mask of a look at the same person
AT_ONCE = 3  # people
SMALLEST = 0.25  # of the largest box in the frame: whose is smaller is not followed
EDGE = 0.02  # of the picture: whoever is lost nearer to its edge has left it
LONGEST_WAIT = 30  # frames that are read in vain, before the next frame is sought
FEWEST_ALIKE, ALIKE = 3, 0.5  # frames, and share of those, in which two tracks show one person
MARGIN = 0.06  # of the size of the landmarks, by which a person's box is larger on each side

# Reads the landmarks of people in their regions (N, 4) of a frame.
Look = Callable[[Image, Float], Landmarks]


class _Loss(NamedTuple):
    """Where a track ends or jumps."""

    frame: int  # after which
    behind: tuple[int, ...]  # tracks whose larger boxes cover the person's in that frame


@dataclass
class Followed:
    """What was seen of a person who was followed by the network."""

    track: int  # number of the track that was lost
    known_as: int  # number of the track that was theirs first
    agreed: float  # s, when the detector last saw the same
    heir: int | None = None  # the track by which the person goes on after the last frame
    people: dict[int, int] = field(default_factory=dict)  # their tracks: from which frame
    rows: dict[int, TrackRow | Track] = field(default_factory=dict)  # by frame: detected, or seen
    taken: set[TrackRow] = field(default_factory=set)  # rows of others' tracks, of this person

    @property
    def first(self) -> int:
        """The first frame in which the person was followed."""
        return self.people[self.track]


@dataclass
class _Others:
    """What is known of other people's tracks while a person is followed."""

    apart: set[int] = field(default_factory=set)  # surely seen elsewhere
    intruders: set[int] = field(default_factory=set)  # jumped to the person
    # By tracks that cover the person when they are lost: in which frames they look like them.
    alike: dict[int, list[bool]] = field(default_factory=dict)
    # By tracks that look like the person: since which frame, s, and until when, s.
    beside: dict[int, tuple[int, float, float]] = field(default_factory=dict)


@dataclass
class _Following:
    """Somebody who is being followed."""

    person: Followed
    loss: _Loss  # after which they are followed on
    within: bool  # whether what is seen before counts too, and tracks may jump
    look: Landmarks  # N = 1, the newest
    time: float  # s, of it
    others: _Others = field(default_factory=_Others)
    scores: list[tuple[float, float]] = field(default_factory=list)  # s, the network's
    sure_since: float | None = None  # s, from when the detector needs no help


def follow_lost(
    read: Callable[[int], Iterable[Frame]],
    people: Sequence[Track],
    look: Look,
    ends: Collection[int],
    size: tuple[int, int],
    within: bool = True,
) -> list[Followed]:
    """Follow people on where their tracks end or jump inside the picture.

    Args:
        read: gives the clip's frames from one on, by its index, in order; of each stretch only
            once, the earlier ones first.
        people: tracks, boxes not smoothed.
        look: the landmark network.
        ends: the last frame of every shot.
        size: (width, height) of the frames, px.
        within: whether also where tracks jump or have gaps, and what they hold may be somebody
            else's; if not, only what comes after their ends is looked for.

    Returns:
        Who was followed, by their first frame.
    """
    doubtful = _losses(people, ends, size, within)
    due = sorted({int(people[n].frame[row]) for n, row in doubtful})
    finished: list[Followed] = []
    again: dict[int, tuple[int, int]] = {}  # tracks not found: the row to try again, the pause
    while due:
        running: list[_Following] = []
        for frame, places in frames_with_people(read(due[0]), people):
            if frame.index - 1 in ends:
                running = []
            here = {n: row for n, row in places if not people[n].interpolated[row]}
            running = _follow(running, frame, here, people, doubtful, look)
            for n, row in here.items():
                if (n, row) not in doubtful or len(running) == AT_ONCE:
                    continue
                next_row, pause = again.get(n, (row, 1))
                if row < next_row or any(n in one.person.people for one in running):
                    continue
                found = _found(people[n], row, frame, look)
                if found is None:
                    again[n] = row + 2 * pause, 2 * pause
                elif not _known(found, n, running, here, people):
                    one = Followed(n, n, frame.time, people={n: frame.index})
                    one.rows[frame.index] = n, row
                    running.append(_Following(one, doubtful[n, row], within, found, frame.time))
                    finished.append(one)
            due = due[bisect_right(due, frame.index) :]
            if not running and (not due or due[0] > frame.index + LONGEST_WAIT):
                break
        else:
            due = []
    return [one for one in finished if one.rows]


def _follow(
    running: Sequence[_Following],
    frame: Frame,
    here: dict[int, int],
    people: Sequence[Track],
    doubtful: dict[TrackRow, _Loss],
    look: Look,
) -> list[_Following]:
    """Follow people into a frame; those who are to be followed into the next one."""
    kept: list[_Following] = []
    for one, seen in zip(running, _look_on(running, frame, look), strict=True):
        seen = _corrected(one, seen, frame, here, people, look)
        twice = any(same_look(seen, other.look) for other in kept)
        if (
            not twice
            and _take(one, seen, frame, here, people)
            and _goes_on(one, frame, people, doubtful)
        ):
            kept.append(one)
        if not one.within and frame.index <= one.loss.frame:
            one.person.rows.clear()
            one.person.taken.clear()
            one.person.people = dict.fromkeys(one.person.people, frame.index + 1)
    return kept


def _losses(
    people: Sequence[Track], ends: Collection[int], size: tuple[int, int], within: bool
) -> dict[TrackRow, _Loss]:
    """Rows from which to follow, and where their tracks end or jump."""
    doubtful: dict[TrackRow, _Loss] = {}
    largest: dict[int, float] = {}
    for one in people:
        for f, area in zip(one.frame.tolist(), box_area(one.box).tolist(), strict=True):
            largest[f] = max(largest.get(f, 0.0), area)
    edge = EDGE * np.array(size)
    for n, one in enumerate(people):
        large = box_area(one.box) >= SMALLEST * np.array([largest[f] for f in one.frame.tolist()])
        clear = large & (one.score >= CLEAR)
        for run in one.runs if within else one.runs[-1:]:
            seen = np.flatnonzero(~one.interpolated[run]) + run.start
            jumps = ~_stayed(one.box[seen[:-1]], one.box[seen[1:]]) & within
            lost = seen[:-1][jumps].tolist()
            for row in seen[-1:].tolist():
                inside = (one.box[row, :2] > edge).all() and one.box[row, 2] < size[0] - edge[0]
                lost += [row] if inside and int(one.frame[row]) not in ends else []
            for row in lost:
                first = np.searchsorted(one.time, one.time[row] - WARM_UP)
                loss = _Loss(int(one.frame[row]), _covering(n, row, people))
                for before in seen[(seen >= first) & (seen <= row) & clear[seen]].tolist():
                    doubtful[n, before] = loss
    return doubtful


def _covering(n: int, row: int, people: Sequence[Track]) -> tuple[int, ...]:
    """Tracks whose larger boxes cover a person's in a row of theirs."""
    box, frame = people[n].box[row], people[n].frame[row]
    found = []
    for m, other in enumerate(people):
        there = int(np.searchsorted(other.frame, frame))
        here = m != n and there < len(other.frame) and other.frame[there] == frame
        if here and not other.interpolated[there] and is_covered(box, other.box[[there]]):
            found.append(m)
    return tuple(found)


def _stayed(before: Float, then: Float) -> Bools:
    """Whether a person's boxes (N, 4), and the next ones (N, 4), are near enough: (N,)."""
    low, high = np.maximum(before[:, :2], then[:, :2]), np.minimum(before[:, 2:], then[:, 2:])
    common = (high - low).clip(0).prod(1)
    stayed: Bools = common >= STAYED * (box_area(before) + box_area(then) - common)
    return stayed


def _found(track: Track, row: int, frame: Frame, look: Look) -> Landmarks | None:
    """What the network sees of a person, if that is what the detector sees."""
    turn = trunk_turn(track, row)
    if turn is None:
        return None
    seen = look(frame.image, around_boxes(track.box[row : row + 1], turn))
    if with_detector(seen, track, row) < BELIEVED:
        seen = look(frame.image, seen.next_region)
    return seen if with_detector(seen, track, row) >= BELIEVED else None


def _known(
    found: Landmarks,
    n: int,
    running: Sequence[_Following],
    here: dict[int, int],
    people: Sequence[Track],
) -> bool:
    """Whether a person, found by track n, is followed already, or has an older track."""
    return any(same_look(found, other.look) for other in running) or any(
        same_body(found, people[m].box[row], people[m].kp2d[row])
        for m, row in here.items()
        if people[m].frame[0] < people[n].frame[0]
    )


def _look_on(running: Sequence[_Following], frame: Frame, look: Look) -> list[Landmarks]:
    """Look at people where the last looks say; doubtful ones also from regions turned both ways."""
    if not running:
        return []
    regions = np.concatenate([one.look.next_region for one in running])
    seen = list(one_by_one(look(frame.image, regions)))
    for n, one in enumerate(running):
        alone = one.person.agreed < one.time
        if alone or seen[n].score[0] < SURE:
            sides = seen[n].region + np.array([[0, 0, 0, -EIGHTH], [0, 0, 0, EIGHTH]])
            looks = joined([seen[n], look(frame.image, sides)])
            agreement = with_each_other(looks, extent(one.look)[0], np.zeros((0, 4)))
            seen[n] = selected(looks, int(agreement.argmax()))
    return seen


def _corrected(
    one: _Following,
    seen: Landmarks,
    frame: Frame,
    here: dict[int, int],
    people: Sequence[Track],
    look: Look,
) -> Landmarks:
    """What was seen of a person, or what is seen where a sure detection has them otherwise."""
    for n, row in here.items():
        other = people[n]
        turn = trunk_turn(other, row)
        clear = other.kp2d[row, :, 2] >= CLEAR
        if (
            (n in one.person.people or _is_new(n, row, one, people))
            and turn is not None
            and other.score[row] >= SURE
            and not same_pose(seen, other.box[row], other.kp2d[row])
            and in_mask(seen, other.kp2d[None, row, clear, :2].astype(np.float64)).mean() >= ON_MASK
        ):
            again = look(frame.image, around_boxes(other.box[row : row + 1], turn))
            if with_detector(again, other, row) >= BELIEVED:
                return _surer(seen, again, other.box[row], frame, look)
    return seen


def _surer(one: Landmarks, other: Landmarks, box: Float, frame: Frame, look: Look) -> Landmarks:
    """Of two looks at a person with this box (4,) the one that looks turned both ways confirm."""
    sides = np.concatenate([one.region, other.region])
    turns = np.array([[0, 0, 0, -EIGHTH], [0, 0, 0, EIGHTH]])
    looks = joined([one, other, look(frame.image, (sides[:, None] + turns).reshape(-1, 4))])
    agreement = with_each_other(looks, box, np.zeros((0, 4)))
    return selected(looks, int(agreement.argmax()))


def _take(
    one: _Following, seen: Landmarks, frame: Frame, here: dict[int, int], people: Sequence[Track]
) -> bool:
    """Take what was seen for the person's; False where it is somebody else who was there before."""
    person, others = one.person, one.others
    boxes = {n: people[n].box[row] for n, row in here.items()}
    same = [n for n, row in here.items() if same_body(seen, boxes[n], people[n].kp2d[row])]
    if not _uncovered(one, same, frame.index, here, people):
        person.rows.clear()
        return False
    alone = not any(n in person.people for n in same)
    if not alone:
        others.beside.clear()  # it is still them
    for n in same:
        if n not in person.people and not _meet(one, n, here[n], seen, frame, people, alone):
            return False
    for n, row in here.items():
        if people[n].score[row] >= SURE and not _overlaps(seen, boxes[n]):
            others.apart.add(n)
    own = [n for n in same if n in person.people]
    person.taken |= {(n, here[n]) for n in (*own, *others.intruders.intersection(same))}
    one.look, one.time = seen, frame.time
    as_seen = _as_track(seen, frame)
    person.rows[frame.index] = as_seen
    if own:
        person.agreed = frame.time
        n = max(own, key=lambda n: float(people[n].score[here[n]]))
        person.rows[frame.index] = (n, here[n])
        if not same_pose(seen, boxes[n], people[n].kp2d[here[n]]):
            person.rows[frame.index] = as_seen
    return True


def _uncovered(
    one: _Following, same: Sequence[int], frame: int, here: dict[int, int], people: Sequence[Track]
) -> bool:
    """Whether a person, when lost, is all that is there; False where somebody hides them."""
    # A track that covers them shows the same person if it looked like them for long, and had been
    # somewhere else: it slid from one to the other. Whoever stands close stays where they are.
    covering = [n for n in one.loss.behind if n not in one.person.people]
    if frame <= one.loss.frame:
        for n in here.keys() & covering:
            one.others.alike.setdefault(n, []).append(n in same)
    if frame == one.loss.frame:
        for n in covering:
            alike, other = one.others.alike[n], people[n]
            if not alike[-1] or sum(alike) < max(FEWEST_ALIKE, ALIKE * len(alike)):
                return False
            start = int(np.searchsorted(other.time, other.time[here[n]] - WARM_UP))
            if _stayed(other.box[[start]], other.box[[here[n]]])[0]:
                return False
            one.person.people[n] = frame
    return True


def _meet(
    one: _Following,
    n: int,
    row: int,
    seen: Landmarks,
    frame: Frame,
    people: Sequence[Track],
    alone: bool,
) -> bool:
    """Decide whose a track is that looks like a person; False where the network passed to it."""
    person, others, other = one.person, one.others, people[n]
    before = _before_jump(other, row) if one.within else None
    if _is_new(n, row, one, people):
        person.people[n] = frame.index
    elif n not in others.apart and before is not None and _overlaps(seen, other.box[before]):
        person.people[n] = frame.index
        if other.frame[0] < people[person.known_as].frame[0]:
            person.known_as = n
    elif before is not None or n in others.intruders:
        others.intruders.add(n)
    elif alone:
        first, since, until = others.beside.get(n, (frame.index, frame.time, frame.time))
        if frame.time - until > SPAN:
            first, since = frame.index, frame.time
        others.beside[n] = first, since, frame.time
        if frame.time - since >= LONGEST_BESIDE:
            person.rows = {f: what for f, what in person.rows.items() if f < first}
            return False
    return True


def _is_new(n: int, row: int, one: _Following, people: Sequence[Track]) -> bool:
    """Whether a track began after the person's own, and a moment ago or since they are followed."""
    began, other = people[n].frame[0], people[n]
    recent = other.time[row] - other.time[0] <= SPAN or began >= one.person.first
    later = began > people[one.person.track].frame[0]
    return bool(recent and later and n not in one.others.apart)


def _before_jump(other: Track, row: int) -> int | None:
    """The row after which a track jumped a moment ago, if it did."""
    first = int(np.searchsorted(other.time, other.time[row] - SPAN))
    jumps = np.flatnonzero(~_stayed(other.box[first:row], other.box[first + 1 : row + 1]))
    return first + int(jumps[0]) if len(jumps) else None


def _overlaps(seen: Landmarks, box: Float) -> bool:
    """Whether a person is where a box (4,) is."""
    return bool(box_iou(extent(seen), box[None])[0, 0] >= SAME_PLACE)


def _as_track(seen: Landmarks, frame: Frame) -> Track:
    """What the network saw of a person, as one row of a track."""
    low, high = extent(seen)[0, :2], extent(seen)[0, 2:]
    margin = MARGIN * (high - low).max()
    height, width = frame.image.shape[:2]
    box = np.clip(np.concatenate([low - margin, high + margin]), 0, [width, height] * 2)
    kp2d = seen.kp2d[:, COCO].astype(np.float32)
    kp2d[..., 2] *= seen.score[0]
    return Track(
        id=0,
        frame=np.array([frame.index]),
        time=np.array([frame.time]),
        box=box[None],
        score=seen.score,
        interpolated=np.zeros(1, bool),
        kp2d=kp2d,
    )


def _goes_on(
    one: _Following, frame: Frame, people: Sequence[Track], doubtful: dict[TrackRow, _Loss]
) -> bool:
    """Whether a person has to be followed into the next frame; if not, who goes on for them."""
    seen, row = one.look, one.person.rows[frame.index]
    one.scores.append((frame.time, float(seen.score[0])))
    sure = (
        isinstance(row, tuple)  # the detector saw them
        and people[row[0]].score[row[1]] >= SURE
        and with_detector(seen, people[row[0]], row[1]) >= BELIEVED
        and row not in doubtful
    )
    if not sure:
        one.sure_since = None
    elif one.sure_since is None:
        one.sure_since = frame.time
    if frame.index <= one.loss.frame:
        return True
    if (
        isinstance(row, tuple)
        and one.sure_since is not None
        and frame.time - one.sure_since >= SPAN
    ):
        one.person.heir = row[0]
        return False
    height, width = frame.image.shape[:2]
    x, y = seen.next_region[0, :2]
    recent = [score for time, score in one.scores if time > frame.time - SPAN]
    return bool(
        0 < x < width
        and 0 < y < height
        and np.mean(recent) >= WORST_SCORE
        and frame.time - one.person.agreed <= LONGEST_ALONE
    )
