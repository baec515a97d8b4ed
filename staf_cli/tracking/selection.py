"""Which people are kept, and their numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import box_area
from staf_cli.core.records import Float, Ints, Track
from staf_cli.tracking.options import TrackOptions
from staf_cli.tracking.tracklets import SEEN

LARGEST_SHARE = 1 / 3  # of a clip, for which nobody needs to be seen longer
LONGEST_FRAME = 3  # times the usual frame, that one frame counts; what lies beyond was not seen
FEWEST_SEEN = 3  # keypoints, on average over a track; a door frame has fewer
ROUNDING = 1e-6  # s


class Selection(NamedTuple):
    """The people who are kept, and what is worth telling of the others."""

    tracks: list[Track]  # numbered from 1 by their first frame, then from left to right
    left_out: int  # people whom `max_people`, `main` or `person` leave out
    longest: float  # s, for which anybody was seen, kept or not; 0 where nobody was


def select_people(
    people: Sequence[Track], frame: Ints, time: Float, cuts: Sequence[int], options: TrackOptions
) -> Selection:
    """Keep the people that the options ask for, and number them.

    Args:
        people: tracks without numbers.
        frame: (T,) all frames of the clip.
        time: (T,) s, of these frames.
        cuts: the first frame of every shot but the first.
        options: what to keep.

    Returns:
        Who is kept.

    Raises:
        UsageError: `options.person` has a number that no track has.
    """
    lasts = _durations(time)
    seen = [float(lasts[np.searchsorted(frame, track.frame)].sum()) for track in people]
    least = min(options.min_track, LARGEST_SHARE * float(lasts.sum()))
    long = [
        track
        for track, seconds in zip(people, seen, strict=True)
        if seconds > min(least, _shot_of(track, frame, lasts, cuts)) - ROUNDING
    ]
    believed = [track for track in long if _believable(track, options.conf)]
    kept = _largest(believed, options.max_people)[: options.main]
    chosen = _chosen(_numbered(kept), options.person)
    return Selection(chosen, len(believed) - len(chosen), max(seen, default=0.0))


def _durations(time: Float) -> Float:
    """How long each frame is seen, s: (T,)."""
    if len(time) == 1:
        return np.ones(1)
    steps = np.diff(time)
    usual = float(np.median(steps))
    return np.append(np.minimum(steps, LONGEST_FRAME * usual), usual)


def _shot_of(track: Track, frame: Ints, lasts: Float, cuts: Sequence[int]) -> float:
    """How long the shot lasts in which a track begins, s."""
    edges = [int(frame[0]), *sorted(cuts), int(frame[-1]) + 1]
    first, end = next((a, b) for a, b in pairwise(edges) if a <= track.frame[0] < b)
    return float(lasts[(frame >= first) & (frame < end)].sum())


def _believable(track: Track, conf: float) -> bool:
    """Whether the detector was sure enough on the whole, and saw joints if it sees any."""
    seen = (track.kp2d[~track.interpolated, :, 2] >= SEEN).sum(-1)
    plain_detector = not track.kp2d.any()
    return bool(track.score.mean() >= conf and (plain_detector or seen.mean() >= FEWEST_SEEN))


def _largest(people: Iterable[Track], most: int | None) -> list[Track]:
    """The people of whom no more than `most` are ever there at once, the largest first."""
    ranked = sorted(people, key=lambda track: -float((box_area(track.box) * track.score).sum()))
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


def _numbered(people: Iterable[Track]) -> list[Track]:
    """The people with numbers from 1, by first frame, then from left to right."""
    ordered = sorted(people, key=lambda track: (int(track.frame[0]), float(track.box[0, 0])))
    return [replace(track, id=number) for number, track in enumerate(ordered, 1)]


def _chosen(people: list[Track], person: tuple[int, ...]) -> list[Track]:
    """The people with these numbers, or all."""
    missing = sorted(set(person) - {track.id for track in people})
    if missing and people:
        raise UsageError(
            f"there is no person {missing[0]}: this clip has the people 1 to {len(people)}"
        )
    return [track for track in people if not person or track.id in person]
