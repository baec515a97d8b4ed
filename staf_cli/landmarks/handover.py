"""Tracks put together anew from what was followed on: each person gets what was seen of them."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count, groupby

import numpy as np

from staf_cli.core.geometry import box_iou
from staf_cli.core.records import Float, Track, TrackRow, join_rows, select_rows
from staf_cli.landmarks.agreement import CLEAR, SAME_BOX
from staf_cli.landmarks.continuing import LONGEST_ALONE, SAME_PLACE, Followed

Rows = dict[int, TrackRow | Track]  # of a person, by frame: a row of a track, or a track of one row


def with_followed(people: Sequence[Track], followed: Sequence[Followed]) -> list[Track]:
    """Put what was followed into people's tracks, and take it from whoever had it before.

    Args:
        people: tracks without numbers.
        followed: some of these people, by their first frame.

    Returns:
        Tracks without numbers. What is left of a track that passed from one person to another
        becomes a track of its own.
    """
    if not followed:
        return list(people)
    owners, person = _owners(people, followed)
    rows: dict[int, Rows] = {}
    taken = {row for one in followed for row in one.taken}
    there: dict[int, list[tuple[Float, Collection[int]]]] = {}  # by frame: box, and whose it was
    for one, who in zip(followed, person, strict=True):
        for f, what in _believed(people, one).items():
            rows.setdefault(who, {})[f] = what
            if isinstance(what, tuple):
                taken.add(what)
            there.setdefault(f, []).append((_box(people, what), one.people))
    for n, track in enumerate(people):
        since = [f for f, _ in owners[n]]
        for row, f in enumerate(track.frame.tolist()):
            twice = any(
                _overlap(track.box[row], box) >= (SAME_PLACE if n in theirs else SAME_BOX)
                for box, theirs in there.get(f, [])
            )
            if not twice and (n, row) not in taken:
                owner = owners[n][bisect_right(since, f) - 1][1]
                rows.setdefault(owner, {}).setdefault(f, (n, row))
    return [_track_of(people, own) for own in rows.values()]


def _owners(
    people: Sequence[Track], followed: Sequence[Followed]
) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """Who owns the tracks, and who is followed.

    Returns:
        For each track pairs (from which frame, number of the person), ascending; and for everybody
        who is followed the number of the person.
    """
    owners = [[(int(track.frame[0]) - 1, n)] for n, track in enumerate(people)]
    person = [-1] * len(followed)
    new = count(len(people))
    ends = [(max(one.rows) + 1, 0, k) for k, one in enumerate(followed)]
    for f, begins, k in sorted(ends + [(one.first, 1, k) for k, one in enumerate(followed)]):
        one = followed[k]
        if begins:
            person[k] = owners[one.known_as][-1][1]
            owners[one.track].append((f, next(new)))
            continue
        for n, joined in one.people.items():
            if n not in (one.track, one.known_as):
                owners[n].append((joined, next(new)))
        if one.heir is not None:
            owners[one.heir].append((f, person[k]))
    return [sorted(own) for own in owners], person


def _believed(people: Sequence[Track], one: Followed) -> Rows:
    """The rows of somebody who was followed; bridged where the network was unsure too."""
    sure: Rows = {}
    unsure: dict[int, Track] = {}
    for f, what in one.rows.items():
        if isinstance(what, tuple) or what.score[0] >= CLEAR:
            if isinstance(what, tuple) or what.time[0] - one.agreed <= LONGEST_ALONE:
                sure[f] = what
        else:
            unsure[f] = what
    known = sorted(sure)
    boxes = np.array([_box(people, sure[f]) for f in known])
    for f, what in unsure.items():
        if known and known[0] < f < known[-1]:
            sides = [float(np.interp(f, known, side)) for side in boxes.T]
            sure[f] = replace(
                what,
                box=np.array([sides]),
                score=np.zeros(1),
                interpolated=np.ones(1, bool),
                kp2d=np.zeros_like(what.kp2d),
            )
    return sure


def _box(people: Sequence[Track], what: TrackRow | Track) -> Float:
    box: Float = what.box[0] if isinstance(what, Track) else people[what[0]].box[what[1]]
    return box


def _overlap(one: Float, other: Float) -> float:
    return float(box_iou(one[None], other[None])[0, 0])


def _track_of(people: Sequence[Track], rows: Rows) -> Track:
    """A track without a number from rows of several."""
    parts: list[Track] = []
    ordered = [what for _, what in sorted(rows.items())]
    for n, some in groupby(ordered, lambda what: -1 if isinstance(what, Track) else what[0]):
        if n < 0:
            parts += [what for what in some if isinstance(what, Track)]
        else:
            own = [what[1] for what in some if not isinstance(what, Track)]
            parts.append(select_rows(people[n], np.array(own)))
    return join_rows([replace(part, id=0) for part in parts])
