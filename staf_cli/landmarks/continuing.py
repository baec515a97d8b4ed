"""People whom the detector loses, followed on by what the landmark network sees.

The network itself says where to look next, so it stays with somebody who turns over, where the
detector sees nobody or passes on to somebody else. Whoever is lost inside the picture is followed
in every frame until the detector is sure of them again. What it saw of them meanwhile, under
whichever number, is theirs (`handover.py`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

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
    select_rows,
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
MARGIN = 0.06  # of the size of the landmarks, by which a person's box is larger on each side

# Reads the landmarks of people in their regions (N, 4) of a frame.
Look = Callable[[Image, Float], Landmarks]


@dataclass
class Followed:
    """A person who is followed by the network."""

    track: int  # number of the track that is lost
    lost: int  # the frame after which it is
    first: int  # the first frame
    known_as: int  # number of the track that was theirs first
    look: Landmarks  # N = 1, the newest
    time: float  # s, of it
    agreed: float  # s, when the detector last saw the same
    heir: int | None = None  # the track by which the person goes on after the last frame
    people: dict[int, int] = field(default_factory=dict)  # their tracks: from which frame
    rows: dict[int, TrackRow | Track] = field(default_factory=dict)  # by frame: detected, or seen
    apart: set[int] = field(default_factory=set)  # tracks of others, surely seen elsewhere
    intruders: set[int] = field(default_factory=set)  # other people's tracks that jumped here
    taken: set[TrackRow] = field(default_factory=set)  # rows of those that show this person
    # By tracks of others who look like this person: since which frame, s, and until when, s.
    beside: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    scores: list[tuple[float, float]] = field(default_factory=list)  # s, the network's
    sure_since: float | None = None  # s, from when the detector needs no help


def follow_lost(
    frames: Iterable[Frame],
    people: Sequence[Track],
    look: Look,
    ends: Collection[int],
    size: tuple[int, int],
) -> list[Followed]:
    """Follow people on where their tracks end or jump inside the picture.

    Args:
        frames: the clip's, in order; none is asked for where nobody is lost.
        people: tracks, boxes not smoothed.
        look: the landmark network.
        ends: the last frame of every shot.
        size: (width, height) of the frames, px.

    Returns:
        Who was followed, by their first frame.
    """
    doubtful = _doubtful(people, ends, size)
    running: list[Followed] = []
    finished: list[Followed] = []
    if not doubtful:
        return []
    again: dict[int, tuple[int, int]] = {}  # tracks not found: the row to try again, the pause
    for frame, places in frames_with_people(frames, people):
        if frame.index - 1 in ends:
            finished, running = finished + running, []
        here = {n: row for n, row in places if not people[n].interpolated[row]}
        kept: list[Followed] = []
        for one, seen in zip(running, _look_on(running, frame, look), strict=True):
            seen = _corrected(one, seen, frame, here, people, look)
            twice = any(same_look(seen, other.look) for other in kept)
            goes_on = not twice and _take(one, seen, frame, here, people)
            goes_on = goes_on and _goes_on(one, frame, people, doubtful)
            (kept if goes_on else finished).append(one)
        running = kept
        for n, row in here.items():
            due, pause = again.get(n, (row, 1))
            known = any(n in one.people for one in running)
            if known or len(running) == AT_ONCE or (n, row) not in doubtful or row < due:
                continue
            found = _found(people[n], row, frame, look)
            if found is None:
                again[n] = row + 2 * pause, 2 * pause
            elif not _known(found, n, running, here, people):
                lost = doubtful[n, row]
                one = Followed(n, lost, frame.index, n, found, frame.time, frame.time)
                one.people[n], one.rows[frame.index] = frame.index, (n, row)
                running.append(one)
    return sorted((one for one in finished + running if one.rows), key=lambda one: one.first)


def _doubtful(
    people: Sequence[Track], ends: Collection[int], size: tuple[int, int]
) -> dict[TrackRow, int]:
    """Rows from which to follow, and the frames after which their tracks end or jump."""
    doubtful: dict[TrackRow, int] = {}
    largest: dict[int, float] = {}
    for one in people:
        for f, area in zip(one.frame.tolist(), box_area(one.box).tolist(), strict=True):
            largest[f] = max(largest.get(f, 0.0), area)
    edge = EDGE * np.array(size)
    for n, one in enumerate(people):
        large = box_area(one.box) >= SMALLEST * np.array([largest[f] for f in one.frame.tolist()])
        clear = large & (one.score >= CLEAR)
        for run in one.runs:
            seen = np.flatnonzero(~one.interpolated[run]) + run.start
            lost = seen[:-1][~_stayed(one.box[seen[:-1]], one.box[seen[1:]])].tolist()
            for row in seen[-1:].tolist():
                inside = (one.box[row, :2] > edge).all() and one.box[row, 2] < size[0] - edge[0]
                lost += [row] if inside and int(one.frame[row]) not in ends else []
            for row in lost:
                first = np.searchsorted(one.time, one.time[row] - WARM_UP)
                for before in seen[(seen >= first) & (seen <= row) & clear[seen]].tolist():
                    doubtful[n, before] = int(one.frame[row])
    return doubtful


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
    running: Sequence[Followed],
    here: dict[int, int],
    people: Sequence[Track],
) -> bool:
    """Whether a person, found by track n, is followed already, or has an older track."""
    return any(same_look(found, other.look) for other in running) or any(
        same_body(found, people[m].box[row], people[m].kp2d[row])
        for m, row in here.items()
        if people[m].frame[0] < people[n].frame[0]
    )


def _look_on(running: Sequence[Followed], frame: Frame, look: Look) -> list[Landmarks]:
    """Look at people where the last looks say; doubtful ones also from regions turned both ways."""
    if not running:
        return []
    regions = np.concatenate([one.look.next_region for one in running])
    seen = list(one_by_one(look(frame.image, regions)))
    for n, one in enumerate(running):
        alone = one.agreed < one.time
        if alone or seen[n].score[0] < SURE:
            sides = seen[n].region + np.array([[0, 0, 0, -EIGHTH], [0, 0, 0, EIGHTH]])
            looks = joined([seen[n], look(frame.image, sides)])
            agreement = with_each_other(looks, extent(one.look)[0], np.zeros((0, 4)))
            seen[n] = selected(looks, int(agreement.argmax()))
    return seen


def _corrected(
    one: Followed,
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
            (n in one.people or _is_new(n, row, one, people))
            and turn is not None
            and other.score[row] >= SURE
            and not same_body(seen, other.box[row], other.kp2d[row])
            and in_mask(seen, other.kp2d[None, row, clear, :2].astype(np.float64)).mean() >= ON_MASK
        ):
            again = look(frame.image, around_boxes(other.box[row : row + 1], turn))
            if with_detector(again, other, row) >= BELIEVED:
                return again
    return seen


def _take(
    one: Followed, seen: Landmarks, frame: Frame, here: dict[int, int], people: Sequence[Track]
) -> bool:
    """Take what was seen for the person's; False where it is somebody else who was there before."""
    boxes = {n: people[n].box[row] for n, row in here.items()}
    same = [n for n, row in here.items() if same_body(seen, boxes[n], people[n].kp2d[row])]
    for n in same:
        if n not in one.people and not _meet(one, n, here[n], seen, frame, people):
            return False
    for n, row in here.items():
        if people[n].score[row] >= SURE and not _overlaps(seen, boxes[n]):
            one.apart.add(n)
    own = [n for n in same if n in one.people]
    one.taken |= {(n, here[n]) for n in (*own, *one.intruders.intersection(same))}
    one.look, one.time = seen, frame.time
    as_seen = _as_track(seen, frame)
    one.rows[frame.index] = as_seen
    if own:
        one.agreed = frame.time
        n = max(own, key=lambda n: float(people[n].score[here[n]]))
        one.rows[frame.index] = (n, here[n])
        if not same_pose(seen, boxes[n], people[n].kp2d[here[n]]):
            detected = select_rows(people[n], np.array([here[n]]))
            one.rows[frame.index] = replace(detected, kp2d=as_seen.kp2d)
    return True


def _meet(
    one: Followed, n: int, row: int, seen: Landmarks, frame: Frame, people: Sequence[Track]
) -> bool:
    """Decide whose a track is that looks like a person; False where the network passed to it."""
    other = people[n]
    before = _before_jump(other, row)
    if _is_new(n, row, one, people):
        one.people[n] = frame.index
    elif n not in one.apart and before is not None and _overlaps(seen, other.box[before]):
        one.people[n] = frame.index
        if other.frame[0] < people[one.known_as].frame[0]:
            one.known_as = n
    elif before is not None or n in one.intruders:
        one.intruders.add(n)
    else:
        first, since, until = one.beside.get(n, (frame.index, frame.time, frame.time))
        if frame.time - until > SPAN:
            first, since = frame.index, frame.time
        one.beside[n] = first, since, frame.time
        if frame.time - since >= LONGEST_BESIDE:
            one.rows = {f: what for f, what in one.rows.items() if f < first}
            return False
    return True


def _is_new(n: int, row: int, one: Followed, people: Sequence[Track]) -> bool:
    """Whether a track began after the person's own, and a moment ago or since they are followed."""
    began, other = people[n].frame[0], people[n]
    recent = other.time[row] - other.time[0] <= SPAN or began >= one.first
    return bool(recent and began > people[one.track].frame[0] and n not in one.apart)


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
    one: Followed, frame: Frame, people: Sequence[Track], doubtful: dict[TrackRow, int]
) -> bool:
    """Whether a person has to be followed into the next frame; if not, who goes on for them."""
    seen, row = one.look, one.rows[frame.index]
    one.scores.append((frame.time, float(seen.score[0])))
    sure = (
        isinstance(row, tuple)  # the detector saw them
        and people[row[0]].score[row[1]] >= SURE
        and with_detector(seen, people[row[0]], row[1]) >= BELIEVED
        and row not in doubtful
    )
    one.sure_since = (one.sure_since or frame.time) if sure else None
    if frame.index <= one.lost:
        return True
    if isinstance(row, tuple) and sure and frame.time - (one.sure_since or 0.0) >= SPAN:
        one.heir = row[0]
        return False
    height, width = frame.image.shape[:2]
    x, y = seen.next_region[0, :2]
    recent = [score for time, score in one.scores if time > frame.time - SPAN]
    return bool(
        0 < x < width
        and 0 < y < height
        and np.mean(recent) >= WORST_SCORE
        and frame.time - one.agreed <= LONGEST_ALONE
    )
