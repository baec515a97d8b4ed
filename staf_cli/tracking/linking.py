"""From the tracker's raw identities to people: linked, bridged, smoothed and numbered.

Everything here is numpy on small tables; no video and no network is needed, so that it can
be redone alone. Boxes are x1, y1, x2, y2 in pixels of the upright image.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, log, sqrt

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from staf_cli.core.geometry import box_iou
from staf_cli.core.records import Bools, Detections, Float, Ints, Track, rows_by_frame, select_rows
from staf_cli.tracking.appearance import difference
from staf_cli.tracking.boxes import centre_and_size, is_covered, smooth_boxes
from staf_cli.tracking.options import TrackOptions
from staf_cli.tracking.selection import Selection, select_people
from staf_cli.tracking.tracklets import (
    NOBODY,
    SEEN,
    Table,
    Tracklet,
    collect,
    join_tracklets,
    make_tracklets,
    one_of_each_body,
    read_upside_down,
)

LONGEST_LINK = 1.0  # s: a person lost for longer is known again by their clothes alone
LONGEST_HIDDEN = 3.0  # s: a person lost for longer comes back as a new one
WORN_SPAN = 0.5  # s at either end of a stretch, from which the colours of clothes are taken
# Differences of colours, in seven clips: of one person after 1 and 2 s 0.03 in the median, below
# 0.11 in nine cases of ten, below 0.20 in 99 of 100; of two people 0.29 in the median.
ALIKE, UNLIKE = 0.11, 0.5
COLOUR_COST = 3.0  # of a difference of 1
FASTEST = 2.0  # box sizes a second, that a hidden person may have moved
LONGEST_BRIDGE = 0.5  # s: a longer gap stays a gap
SHORTEST_HIDDEN = 0.2  # s: nobody is taken for hidden in a shorter gap
LONGEST_VAGUE = 0.5  # s: who is vaguely seen for longer stays
CLEAR, HALF_SEEN = 0.5, 0.5  # score, and share of keypoints, of a person who is clearly seen
SAME_PLACE = 0.5  # IoU with the straight line, of a detection that fills a gap
VELOCITY_SPAN = 0.3  # s: the stretch from which a lost person's motion is estimated
# What a link may cost, in box sizes between the expected place and the one where a person appears.
DEAREST_LINK = 1.0
DEAREST_IN_COMPANY = 0.6  # where a third person is there too, and may be the one that appears
DEAREST_OF_TRACKER = 0.5  # the most that a link costs which the tracker made itself
WAITING = 0.5  # the cost of a second between the two


@dataclass(frozen=True)
class _End:
    """A tracklet's first or last frame. Plain numbers: pairs of ends are many."""

    time: float  # s
    x: float  # centre, px
    y: float
    width: float  # px
    height: float
    x_speed: float  # px / s
    y_speed: float


@dataclass(frozen=True)
class Linked:
    """Everybody in a clip, before it is decided who is kept."""

    people: list[Track]  # without numbers, boxes as detected
    frame: Ints  # (T,) all frames of the clip
    time: Float  # (T,) s, of these frames
    cuts: Sequence[int]  # the first frame of every shot but the first


def link_people(detections: Iterable[Detections], cuts: Sequence[int]) -> Linked:
    """Link a clip's detections to people.

    A person ends at a cut. Memory: a compact table with 364 bytes a detection.

    Args:
        detections: one record a frame, in order, also of frames without people.
        cuts: the first frame of every shot but the first.

    Returns:
        Everybody who was seen at all.
    """
    frame, time, table = collect(detections)
    tracklets = make_tracklets(table, one_of_each_body(table), cuts)
    people = [_bridge(tracklet, table, frame, time) for tracklet in _link(tracklets, table)]
    return Linked(_without_hidden(people), frame, time, cuts)


def choose_people(linked: Linked, options: TrackOptions) -> Selection:
    """Choose who is kept, number them, and smooth their boxes.

    Args:
        linked: everybody in the clip.
        options: who is kept.

    Returns:
        Who is kept; `options.person` selects among their numbers. No tracks where nobody was
        seen for long enough.

    Raises:
        UsageError: `options.person` has a number that no track has.
    """
    if not linked.people:
        return Selection([], 0, 0.0)
    people = _without_vague_ends(_without_upside_down(linked.people))
    selected = select_people(people, linked.frame, linked.time, linked.cuts, options)
    return selected._replace(tracks=[smooth_boxes(track) for track in selected.tracks])


def _link(tracklets: Sequence[Tracklet], table: Table) -> list[Tracklet]:
    """Join the tracklets of one person, the cheapest way for all of them together."""
    # Each is followed by one other at most, in the same shot, that begins after it ends.
    n = len(tracklets)
    links = list(_affordable_links(tracklets, table))
    # Column n + i is the choice that nobody follows i; it makes every assignment possible.
    rows = [i for i, _, _ in links] + list(range(n))
    columns = [j for _, j, _ in links] + list(range(n, 2 * n))
    costs = [cost for _, _, cost in links] + [DEAREST_LINK] * n
    graph = coo_array((costs, (rows, columns)), shape=(n, 2 * n)).tocsr()
    chosen = zip(*min_weight_full_bipartite_matching(graph), strict=True) if n else ()
    follower = {int(i): int(j) for i, j in chosen if j < n}
    followers = set(follower.values())
    return [
        join_tracklets([tracklets[k] for k in _chain(first, follower)])
        for first in range(n)
        if first not in followers
    ]


def _affordable_links(
    tracklets: Sequence[Tracklet], table: Table
) -> Iterator[tuple[int, int, float]]:
    """Pairs (earlier, later, cost) of tracklets, ordered by first frame, that may be joined."""
    ends = [_end(one, -1) for one in tracklets]
    starts = [_end(one, 0) for one in tracklets]
    start_times = np.array([start.time for start in starts])
    latest: dict[tuple[int, int], int] = {}
    for j, later in enumerate(tracklets):
        if (i := latest.get(later.identity)) is not None:
            yield i, j, min(DEAREST_OF_TRACKER, _link_cost(ends[i], starts[j]))
        latest[later.identity] = j
    for i, earlier in enumerate(tracklets):
        within = [ends[i].time, ends[i].time + LONGEST_HIDDEN]
        for j in range(*np.searchsorted(start_times, within, side="right").tolist()):
            later = tracklets[j]
            if earlier.identity[0] != later.identity[0] or earlier.identity == later.identity:
                continue
            hidden = starts[j].time - ends[i].time > LONGEST_LINK
            if hidden:
                cost = _cost_of_hidden(earlier, later, ends[i], starts[j], table)
            else:
                cost = _link_cost(ends[i], starts[j])
            if cost < DEAREST_LINK and not hidden:
                differing = _differing(earlier, later, table)
                unclear = cost >= DEAREST_IN_COMPANY and not differing < ALIKE
                long = min(one.time[-1] - one.time[0] for one in (earlier, later)) >= WORN_SPAN
                if (long and differing > UNLIKE) or (
                    unclear and _in_company(earlier, later, tracklets)
                ):
                    continue
            if cost < DEAREST_LINK:
                yield i, j, cost


def _cost_of_hidden(
    earlier: Tracklet, later: Tracklet, last: _End, first: _End, table: Table
) -> float:
    """What it costs that a person who was lost for long comes back: how differently they look."""
    gap = first.time - last.time
    size = sqrt(sqrt(last.width * last.height * first.width * first.height))
    if hypot(first.x - last.x, first.y - last.y) > FASTEST * gap * size:
        return DEAREST_LINK
    differing = _differing(earlier, later, table)
    return DEAREST_IN_COMPANY + COLOUR_COST * differing if differing < ALIKE else DEAREST_LINK


def _differing(earlier: Tracklet, later: Tracklet, table: Table) -> float:
    """How differently two stretches' people are dressed where the stretches meet; NaN: unknown."""
    ending = earlier.time >= earlier.time[-1] - WORN_SPAN
    beginning = later.time <= later.time[0] + WORN_SPAN
    rows = earlier.row[ending], later.row[beginning]
    return difference(*(table["colours"][own] for own in rows))


def _in_company(earlier: Tracklet, later: Tracklet, tracklets: Iterable[Tracklet]) -> bool:
    """Whether a third person touches the two boxes between which a person was lost."""
    low = np.minimum(earlier.box[-1, :2], later.box[0, :2])
    high = np.maximum(earlier.box[-1, 2:], later.box[0, 2:])
    lost, found = earlier.frame[-1], later.frame[0]
    for other in tracklets:
        if other is earlier or other is later or other.frame[0] > found or other.frame[-1] < lost:
            continue
        box = other.box[(other.frame >= lost) & (other.frame <= found)]
        if ((box[:, :2] < high) & (box[:, 2:] > low)).all(-1).any():
            return True
    return False


def _chain(first: int, follower: dict[int, int]) -> Iterator[int]:
    link: int | None = first
    while link is not None:
        yield link
        link = follower.get(link)


def _end(tracklet: Tracklet, end: int) -> _End:
    """The end at frame 0 or -1, its velocity taken from the stretch next to it."""
    near = np.abs(tracklet.time - tracklet.time[end]) <= VELOCITY_SPAN
    time, box = tracklet.time[near], centre_and_size(tracklet.box[near])
    offset = time - time.mean()
    velocity = offset @ box[:, :2] / (offset @ offset) if len(time) > 2 else np.zeros(2)
    return _End(*(float(v) for v in (tracklet.time[end], *box[end], *velocity)))


def _link_cost(last: _End, first: _End) -> float:
    """How far, in box sizes, a person appears from where a lost one would be."""
    gap = first.time - last.time
    x, y = first.x - last.x, first.y - last.y
    speed = max(hypot(last.x_speed, last.y_speed), hypot(first.x_speed, first.y_speed))
    # Either motion may have gone on, or, less likely, the person stopped meanwhile.
    miss = min(
        hypot(x - gap * last.x_speed, y - gap * last.y_speed),
        hypot(x - gap * first.x_speed, y - gap * first.y_speed),
        hypot(x, y) + gap * speed / 2,
    )
    size = sqrt(sqrt(last.width * last.height * first.width * first.height))
    # A change of size counts like a distance.
    resized = max(abs(log(first.width / last.width)), abs(log(first.height / last.height)))
    return miss / size + resized / 2 + WAITING * gap


def _bridge(tracklet: Tracklet, table: Table, frame: Ints, time: Float) -> Track:
    """A track without a number, its short gaps filled: by unsure detections, or straight lines."""
    jumps = (np.diff(tracklet.frame) > 1) & (np.diff(tracklet.time) <= LONGEST_BRIDGE)
    bridged = [
        number
        for last in np.flatnonzero(jumps).tolist()
        for number in range(int(tracklet.frame[last]) + 1, int(tracklet.frame[last + 1]))
    ]
    known = np.isin(frame, bridged)  # a bridged frame has its own time, from the clip's frames
    between = np.stack([np.interp(time[known], tracklet.time, side) for side in tracklet.box.T], -1)
    frames = np.concatenate([tracklet.frame, frame[known]])
    order = np.argsort(frames)
    rows = np.concatenate([tracklet.row, _seen_there(table, frame[known], between)])[order]
    seen = rows >= 0
    box = np.concatenate([tracklet.box, between])[order]
    box[seen] = table["box"][rows[seen]]
    keypoints = np.zeros((len(frames), *table["kp2d"].shape[1:]), np.float32)
    keypoints[seen] = table["kp2d"][rows[seen]]
    return Track(
        id=0,
        frame=frames[order],
        time=np.concatenate([tracklet.time, time[known]])[order],
        box=box,
        score=np.where(seen, table["score"][rows], 0.0),
        interpolated=~seen,
        kp2d=keypoints,
    )


def _without_hidden(people: Sequence[Track]) -> list[Track]:
    """Tracks without bridged frames of people behind larger ones: they would be drawn in front."""
    kept = [np.ones(len(one.frame), bool) for one in people]
    for number, one in enumerate(people):
        for row in np.flatnonzero(one.interpolated & ~_briefly(one)).tolist():
            kept[number][row] = not _is_hidden(one, row, people)
    return [
        one if kept[number].all() else select_rows(one, np.flatnonzero(kept[number]))
        for number, one in enumerate(people)
    ]


def _without_upside_down(people: Sequence[Track]) -> list[Track]:
    """Tracks without the rows in which a person of a longer track is read the other way up."""
    kept = [np.ones(len(one.frame), bool) for one in people]
    for here in rows_by_frame(people).values():
        clear = [(n, row) for n, row in here if not people[n].interpolated[row]]
        if len(clear) < 2:
            continue
        box = np.stack([people[n].box[row] for n, row in clear])
        kp2d = np.stack([people[n].kp2d[row] for n, row in clear]).astype(np.float64)
        for pair in np.argwhere(np.triu(read_upside_down(box, kp2d))).tolist():
            n, row = min((clear[k] for k in pair), key=lambda at: len(people[at[0]].frame))
            kept[n][row] = False
    return [
        select_rows(one, np.flatnonzero(rows))
        for one, rows in zip(people, kept, strict=True)
        if rows.any()
    ]


def _without_vague_ends(people: Sequence[Track]) -> list[Track]:
    """Tracks without what was vaguely seen behind larger people before they were lost, or after."""
    # A box that loses its person slides on to whoever stands before them.
    trimmed = []
    for one in people:
        vague = one.interpolated | (one.score < CLEAR)
        if one.kp2d.any():
            vague |= (one.kp2d[..., 2] >= SEEN).mean(1) < HALF_SEEN
        kept = np.ones(len(vague), bool)
        gaps = np.flatnonzero(np.diff(one.time) > SHORTEST_HIDDEN) + 1
        for first, end in pairwise([0, *gaps.tolist(), len(vague)]):
            for rows in (range(first, end), range(first, end)[::-1]):
                kept[rows[: _hidden_at_first(one, vague, rows, people)]] = False
        trimmed.append(select_rows(one, np.flatnonzero(kept)) if kept.any() else one)
    return trimmed


def _hidden_at_first(one: Track, vague: Bools, rows: Sequence[int], people: Sequence[Track]) -> int:
    """How many of a track's rows come before one that is clear, or behind nobody larger."""
    for count, row in enumerate(rows):
        if abs(one.time[row] - one.time[rows[0]]) > LONGEST_VAGUE:
            return 0  # they are seen no better
        if not vague[row] or not _is_hidden(one, row, people):
            return count
    return len(rows)


def _is_hidden(one: Track, row: int, people: Sequence[Track]) -> bool:
    """Whether a person is behind a larger one who is seen in that frame."""
    others = [other.box[_seen_in(other, one.frame[row])] for other in people]
    return is_covered(one.box[row], np.concatenate(others))


def _seen_in(track: Track, frame: int) -> Bools:
    """Which row of a track is a detection in this frame: (F,), none or one is True."""
    seen: Bools = (track.frame == frame) & ~track.interpolated
    return seen


def _briefly(track: Track) -> Bools:
    """Which frames are in a gap so short that a body which vanishes would only flicker: (F,)."""
    seen = np.flatnonzero(~track.interpolated)
    after = np.clip(np.searchsorted(seen, np.arange(len(track.frame))), 1, len(seen) - 1)
    brief: Bools = track.time[seen[after]] - track.time[seen[after - 1]] <= SHORTEST_HIDDEN
    return brief


def _seen_there(table: Table, frame: Ints, box: Float) -> Ints:
    """Rows of detections that nobody follows at boxes (N, 4) in frames (N,), else -1: (N,)."""
    rows = np.full(len(frame), -1, np.int64)
    first = np.searchsorted(table["frame"], frame, "left").tolist()
    end = np.searchsorted(table["frame"], frame, "right").tolist()
    for n, (a, b) in enumerate(zip(first, end, strict=True)):
        loose = a + np.flatnonzero(table["identity"][a:b] == NOBODY)
        overlap = box_iou(box[n, None], table["box"][loose])[0]
        if len(loose) and overlap.max() >= SAME_PLACE:
            rows[n] = loose[overlap.argmax()]
    return rows
