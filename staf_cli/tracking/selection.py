"""Which people are kept, and their numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import box_area
from staf_cli.core.records import Ints, Track
from staf_cli.tracking.options import TrackOptions
from staf_cli.tracking.tracklets import SEEN

FEWEST_SEEN = 3  # keypoints, on average over a track; a door frame has fewer


def select_people(
    people: Iterable[Track], frame: Ints, cuts: Sequence[int], options: TrackOptions
) -> tuple[list[Track], int]:
    """Keep the people that the options ask for, and number them.

    Args:
        people: tracks without numbers.
        frame: (T,) all frames of the clip.
        cuts: the first frame of every shot but the first.
        options: what to keep.

    Returns:
        Tracks numbered from 1 by their first frame, then from left to right; and how many people
        were left out because of `max_people`, `main` or `person`.

    Raises:
        UsageError: `options.person` has a number that no track has.
    """
    people = [track for track in people if _long_enough(track, frame, cuts, options.min_track)]
    people = [track for track in people if _believable(track, options.conf)]
    kept = _largest(people, options.max_people)[: options.main]
    chosen = _chosen(_numbered(kept), options.person)
    return chosen, len(people) - len(chosen)


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
