"""From the tracker's raw identities to people: linked, bridged, smoothed and numbered.

Everything here is numpy on small tables; no video and no network is needed, so that it can
be redone alone. Boxes are x1, y1, x2, y2 in pixels of the upright image.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from staf_cli.core.errors import UsageError
from staf_cli.core.records import COCO_KEYPOINTS, Bools, Detections, Float, Float32, Ints, Track
from staf_cli.tracking.options import TrackOptions

LONGEST_LINK = 1.0  # s: somebody lost for longer comes back as somebody new
LONGEST_BRIDGE = 0.5  # s: a longer gap stays a gap
VELOCITY_SPAN = 0.3  # s: the stretch from which a lost person's motion is estimated
DEAREST_LINK = 1.0  # box sizes between where somebody was expected and where somebody appears
DEAREST_IN_COMPANY = 0.6  # the same where somebody else stood there too and may be meant
WAITING = 0.5  # the cost of a second between the two
TRUST = 0.5  # the most that a link costs which the tracker made itself
SMOOTHING_SPAN = 0.3  # s: window of the quadratic that smooths boxes
FLICKER = 5  # frames: a box that jumps for less than half of this is an outlier
SAME_POSE = 0.15  # mean distance of keypoints over the box's size, up to which they are one body
SAME_BOX = 0.6  # IoU from which two boxes hold one body, where keypoints cannot tell
SEEN = 0.5  # confidence from which a keypoint counts as seen
FEWEST_COMPARED = 6  # keypoints seen in both poses, for them to tell
FEWEST_SEEN = 3  # keypoints, on average over a track; a door frame has fewer

# One detection. Keypoints, which take most of the room, in float32 as the detector gives them.
ROW = np.dtype(
    [
        ("frame", np.int64),
        ("time", np.float64),
        ("identity", np.int64),
        ("box", np.float64, 4),
        ("score", np.float64),
        ("kp2d", np.float32, (len(COCO_KEYPOINTS), 3)),
    ]
)
Table = NDArray[np.void]  # of ROW


@dataclass(frozen=True)
class _Tracklet:
    """Detections of one person in one shot; frames ascend."""

    identity: tuple[int, int]  # number of the shot, the tracker's number (of the first part)
    row: Ints  # (F,) where in the table of detections they are
    frame: Ints  # (F,)
    time: Float  # (F,) s
    box: Float  # (F, 4) px
    score: Float  # (F,)


def build_tracks(
    detections: Iterable[Detections], cuts: Sequence[int], options: TrackOptions
) -> list[Track]:
    """Make people of a clip's detections (one record a frame, empty ones too).

    Keeps no more of them than a compact table: 268 bytes a detection.

    cuts: the first frame of every shot but the first. A person ends at a cut. People are
    numbered from 1 by their first frame, then from left to right; `options.person` picks
    among these numbers. The list is empty where nobody was seen for long enough.

    Raises UsageError for a person that is not there.
    """
    frame, time, table = _collected(detections)
    if not len(frame):
        return []
    tracklets = _tracklets(table, _one_a_body(table), cuts)
    people = [_bridge(tracklet, table["kp2d"], frame, time) for tracklet in _link(tracklets)]
    people = [track for track in people if _long_enough(track, frame, cuts, options.min_track)]
    people = [track for track in people if _believable(track, options.conf)]
    people = _number(_largest(people, options.max_people))
    return [_smooth(track) for track in _chosen(people, options.person)]


# ── raw identities ────────────────────────────────────────────────────────────────────────


def _collected(detections: Iterable[Detections]) -> tuple[Ints, Float, Table]:
    """The clip's frames (T,), their times (T,) s, and everything detected in them, in order."""
    frames: array[int] = array("q")
    times: array[float] = array("d")
    rows = bytearray()  # grows in place, where joining arrays would hold everything twice
    for seen in detections:
        frames.append(seen.frame)
        times.append(seen.time)
        table = np.zeros(len(seen.box), ROW)
        table["frame"], table["time"] = seen.frame, seen.time
        table["identity"], table["box"] = seen.track_id, seen.box
        table["score"], table["kp2d"] = seen.score, seen.kp2d
        rows += table.tobytes()
    return (
        np.frombuffer(frames, np.int64),
        np.frombuffer(times, np.float64),
        np.frombuffer(rows, ROW),
    )


def _one_a_body(table: Table) -> Ints:
    """The rows to keep: where two identities hold one body in a frame, the longer one's only."""
    _, identity, lengths = np.unique(table["identity"], return_inverse=True, return_counts=True)
    length = lengths[identity]
    kept = np.ones(len(table), bool)
    starts = np.flatnonzero(np.diff(table["frame"], prepend=-1, append=-1))
    for first, end in pairwise(starts.tolist()):
        if end - first < 2:
            continue
        same = _same_body(table["box"][first:end], table["kp2d"][first:end].astype(np.float64))
        ahead: list[int] = []
        for row in sorted(range(end - first), key=lambda k: (-length[first + k], k)):
            if not same[row, ahead].any():
                ahead.append(row)
        kept[first:end] = np.isin(np.arange(end - first), ahead)
    return np.flatnonzero(kept)


def _same_body(box: Float, kp2d: Float) -> Bools:
    """For every two of N detections in a frame: do the poses agree, or else the boxes? (N, N)"""
    low = np.maximum(box[:, None, :2], box[None, :, :2])
    high = np.minimum(box[:, None, 2:], box[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    area = _area(box)
    same_box = shared > SAME_BOX * (area[:, None] + area[None] - shared)

    seen = np.minimum(kp2d[:, None, :, 2], kp2d[None, :, :, 2]) >= SEEN  # (N, N, 17)
    distance = np.linalg.norm(kp2d[:, None, :, :2] - kp2d[None, :, :, :2], axis=-1)
    mean = (distance * seen).sum(-1) / np.maximum(seen.sum(-1), 1)
    same_pose = mean < SAME_POSE * np.sqrt(np.minimum(area[:, None], area[None]))
    same: Bools = np.where(seen.sum(-1) >= FEWEST_COMPARED, same_pose, same_box)
    return same


def _tracklets(table: Table, kept: Ints, cuts: Sequence[int]) -> list[_Tracklet]:
    """The unbroken stretches of every raw identity in every shot, ordered by first frame.

    kept: rows of the table. Unbroken, so that another identity's frames may fill a gap.
    """
    shot = np.searchsorted(np.sort(np.asarray(cuts, np.int64)), table["frame"][kept], "right")
    order = np.lexsort((table["frame"][kept], table["identity"][kept], shot))
    rows, shot = kept[order], shot[order]
    frame, number = table["frame"][rows], table["identity"][rows]
    broken = (np.diff(shot) != 0) | (np.diff(number) != 0) | (np.diff(frame) != 1)
    edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(rows)] if len(rows) else []
    tracklets = [
        _Tracklet(
            identity=(int(shot[first]), int(number[first])),
            row=rows[first:end],
            frame=frame[first:end],
            time=table["time"][rows[first:end]],
            box=table["box"][rows[first:end]],
            score=table["score"][rows[first:end]],
        )
        for first, end in pairwise(edges)
    ]
    return sorted(tracklets, key=lambda one: (int(one.frame[0]), one.identity))


# ── the same person, lost and found ───────────────────────────────────────────────────────


def _link(tracklets: Sequence[_Tracklet]) -> list[_Tracklet]:
    """Join the tracklets of one person, the cheapest way for all of them together.

    Each is followed by one other at most, in the same shot, that begins after it ends.
    """
    n = len(tracklets)
    links = list(_affordable_links(tracklets))
    # Column n + i is the choice that nobody follows i; it makes every assignment possible.
    rows = [i for i, _, _ in links] + list(range(n))
    columns = [j for _, j, _ in links] + list(range(n, 2 * n))
    costs = [cost for _, _, cost in links] + [DEAREST_LINK] * n
    graph = coo_array((costs, (rows, columns)), shape=(n, 2 * n)).tocsr()
    chosen = zip(*min_weight_full_bipartite_matching(graph), strict=True) if n else ()
    follower = {int(i): int(j) for i, j in chosen if j < n}
    led = set(follower.values())
    return [
        _join([tracklets[k] for k in _chain(first, follower)])
        for first in range(n)
        if first not in led
    ]


def _affordable_links(tracklets: Sequence[_Tracklet]) -> Iterator[tuple[int, int, float]]:
    """Pairs (earlier, later, cost) of tracklets, ordered by first frame, that may be joined."""
    ends = [_end(one, -1) for one in tracklets]
    starts = [_end(one, 0) for one in tracklets]
    start_times = np.array([start.time for start in starts])
    latest: dict[tuple[int, int], int] = {}
    for j, later in enumerate(tracklets):
        if (i := latest.get(later.identity)) is not None:
            yield i, j, min(TRUST, _link_cost(ends[i], starts[j]))
        latest[later.identity] = j
    for i, earlier in enumerate(tracklets):
        within = [ends[i].time, ends[i].time + LONGEST_LINK]
        for j in range(*np.searchsorted(start_times, within, side="right").tolist()):
            later = tracklets[j]
            if earlier.identity[0] != later.identity[0] or earlier.identity == later.identity:
                continue
            cost = _link_cost(ends[i], starts[j])
            if cost < DEAREST_IN_COMPANY or (
                cost < DEAREST_LINK and not _in_company(earlier, later, tracklets)
            ):
                yield i, j, cost


def _in_company(earlier: _Tracklet, later: _Tracklet, everybody: Iterable[_Tracklet]) -> bool:
    """Whether a third person touches the two boxes between which somebody was lost."""
    low = np.minimum(earlier.box[-1, :2], later.box[0, :2])
    high = np.maximum(earlier.box[-1, 2:], later.box[0, 2:])
    lost, found = earlier.frame[-1], later.frame[0]
    for other in everybody:
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


def _join(parts: Sequence[_Tracklet]) -> _Tracklet:
    return _Tracklet(
        identity=parts[0].identity,
        row=np.concatenate([part.row for part in parts]),
        frame=np.concatenate([part.frame for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        box=np.concatenate([part.box for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )


@dataclass(frozen=True)
class _End:
    """A tracklet's first or last sight of somebody. Plain numbers: pairs of ends are many."""

    time: float  # s
    x: float  # centre, px
    y: float
    width: float  # px
    height: float
    x_speed: float  # px / s
    y_speed: float


def _end(tracklet: _Tracklet, end: int) -> _End:
    """The end at frame 0 or -1, its velocity taken from the stretch next to it."""
    near = np.abs(tracklet.time - tracklet.time[end]) <= VELOCITY_SPAN
    time, box = tracklet.time[near], _centre_and_size(tracklet.box[near])
    offset = time - time.mean()
    velocity = offset @ box[:, :2] / (offset @ offset) if len(time) > 2 else np.zeros(2)
    return _End(*(float(v) for v in (tracklet.time[end], *box[end], *velocity)))


def _link_cost(last: _End, first: _End) -> float:
    """How far, in box sizes, somebody appears from where somebody lost would be.

    Either motion may have gone on, or, less likely, both stood still meanwhile; a change of
    size counts like a distance; waiting costs a little.
    """
    gap = first.time - last.time
    x, y = first.x - last.x, first.y - last.y
    speed = max(hypot(last.x_speed, last.y_speed), hypot(first.x_speed, first.y_speed))
    miss = min(
        hypot(x - gap * last.x_speed, y - gap * last.y_speed),
        hypot(x - gap * first.x_speed, y - gap * first.y_speed),
        hypot(x, y) + gap * speed / 2,
    )
    size = sqrt(sqrt(last.width * last.height * first.width * first.height))
    resized = max(abs(log(first.width / last.width)), abs(log(first.height / last.height)))
    return miss / size + resized / 2 + WAITING * gap


# ── boxes ─────────────────────────────────────────────────────────────────────────────────


def _bridge(tracklet: _Tracklet, kp2d: Float32, frame: Ints, time: Float) -> Track:
    """A track, not yet numbered, with boxes put into its short gaps along a straight line.

    kp2d: (N, 17, 3) the table's. frame, time (T,): the clip's, so that a bridged frame gets
    its own time.
    """
    jumps = (np.diff(tracklet.frame) > 1) & (np.diff(tracklet.time) <= LONGEST_BRIDGE)
    bridged = [
        number
        for last in np.flatnonzero(jumps).tolist()
        for number in range(int(tracklet.frame[last]) + 1, int(tracklet.frame[last + 1]))
    ]
    known = np.isin(frame, bridged)
    frames = np.concatenate([tracklet.frame, frame[known]])
    times = np.concatenate([tracklet.time, time[known]])
    between = [np.interp(time[known], tracklet.time, side) for side in tracklet.box.T]
    n, order = int(known.sum()), np.argsort(frames)
    interpolated = np.concatenate([np.zeros(len(tracklet.frame), bool), np.ones(n, bool)])[order]
    keypoints = np.zeros((len(frames), *kp2d.shape[1:]), np.float32)
    keypoints[~interpolated] = kp2d[tracklet.row]
    return Track(
        id=0,
        frame=frames[order],
        time=times[order],
        box=np.concatenate([tracklet.box, np.stack(between, -1)])[order],
        score=np.concatenate([tracklet.score, np.zeros(n)])[order],
        interpolated=interpolated,
        kp2d=keypoints,
    )


def _smooth(track: Track) -> Track:
    """The track with quieter boxes: outliers removed, then a quadratic over a short window.

    Neither step shifts anything in time, and a quadratic follows acceleration. Every run is
    smoothed by itself; centre and size, not edges, so that a flicker in size moves nothing.
    """
    box = np.empty_like(track.box)
    for run in track.runs:
        centre_and_size = _centre_and_size(track.box[run])
        n = len(centre_and_size)
        if n >= FLICKER:
            centre_and_size = median_filter(centre_and_size, (FLICKER, 1), mode="nearest")
            seconds = (track.time[run][-1] - track.time[run][0]) / (n - 1)
            window = min(_odd(SMOOTHING_SPAN / seconds), _odd(n - 1))
            if window > 3:
                centre_and_size = savgol_filter(centre_and_size, window, 2, axis=0)
        centre, half = centre_and_size[:, :2], np.maximum(centre_and_size[:, 2:], 1) / 2
        box[run] = np.concatenate([centre - half, centre + half], -1)
    return replace(track, box=box)


def _odd(number: float) -> int:
    """The nearest odd number at or above."""
    return int(number) // 2 * 2 + 1


def _centre_and_size(box: Float) -> Float:
    """Boxes (..., 4) to centre x, centre y, width, height (..., 4), px."""
    low, high = box[..., :2], box[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def _area(box: Float) -> Float:
    area: Float = (box[..., 2:] - box[..., :2]).prod(-1)
    return area


# ── who is kept ───────────────────────────────────────────────────────────────────────────


def _long_enough(track: Track, frame: Ints, cuts: Sequence[int], min_track: int) -> bool:
    """Whether the track has min_track frames, or lasts the whole shot where that is shorter."""
    edges = [int(frame[0]), *sorted(cuts), int(frame[-1]) + 1]
    shot = next(b - a for a, b in pairwise(edges) if a <= track.frame[0] < b)
    return len(track.frame) >= min(min_track, shot)


def _believable(track: Track, conf: float) -> bool:
    """Whether the detector was sure enough on the whole, and saw joints if it sees any."""
    seen = (track.kp2d[~track.interpolated, :, 2] >= SEEN).sum(-1)
    plain_detector = not track.kp2d.any()
    return bool(track.score.mean() >= conf and (plain_detector or seen.mean() >= FEWEST_SEEN))


def _largest(people: Iterable[Track], most: int | None) -> list[Track]:
    """The people of whom no more than `most` are ever there at once, the largest first."""
    ranked = sorted(people, key=lambda track: -float((_area(track.box) * track.score).sum()))
    if most is None:
        return ranked
    kept: list[Track] = []
    for track in ranked:
        together = np.zeros(len(track.frame), np.int64)
        for other in kept:
            together += np.isin(track.frame, other.frame)
        if together.max() < most:
            kept.append(track)
    return kept


def _number(people: Iterable[Track]) -> list[Track]:
    """Numbered from 1 by first frame, then from left to right."""
    ordered = sorted(people, key=lambda track: (int(track.frame[0]), float(track.box[0, 0])))
    return [replace(track, id=number) for number, track in enumerate(ordered, 1)]


def _chosen(people: list[Track], person: tuple[int, ...]) -> list[Track]:
    missing = sorted(set(person) - {track.id for track in people})
    if missing and people:
        raise UsageError(
            f"there is no person {missing[0]}: this clip has the people 1 to {len(people)}"
        )
    return [track for track in people if not person or track.id in person]
