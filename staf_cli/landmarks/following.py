"""People's landmarks through a clip: where the network looks next, and what is kept.

As in MediaPipe, the landmarks of one look say where the next one shall be. A look that does not
fit what the detector saw is believed only if a look from a turned region sees the same, or the best
of eight does. So somebody who stands on their hands is followed where a detector of upright people
reads nothing, or the wrong thing.

Looks are made in turns at the picture and at its mirror image, and the first of a run of frames
both ways (`read` says why). Where no other frame averages its errors, as on a photo, a look is the
median of looks from regions that lie a little apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from staf_cli.core.geometry import box_area
from staf_cli.core.records import (
    MASK_PIXELS,
    Float,
    Float32,
    Frame,
    Image,
    LandmarkTrack,
    Track,
    frames_with_people,
    run_of,
)
from staf_cli.core.regions import around_boxes
from staf_cli.landmarks.agreement import (
    BELIEVED,
    CLEAR,
    in_box,
    with_detector,
    with_each_other,
)
from staf_cli.landmarks.reader import CropReader
from staf_cli.landmarks.reading import BODY, Landmarks, joined, one_by_one, read, selected

# The fit of 12 synthetic clips is as good with 10 looks a second as with 30; with 5 it is worse.
LOOKS_A_SECOND = 10
MOST_LOST = 2  # people in a frame, the largest, who are looked at more than once
LARGEST = 4  # people in a frame who are searched for in all turns; a crowd would take minutes
LONGEST_PAUSE = 16  # looks between two searches in all turns
MOST_MASKS = 64  # that are kept of a person
FAST_TURN = 0.25  # rad beside the region that was looked at: the next frame is looked at too
EIGHTH = np.pi / 4  # rad, of a circle
# How far the regions lie apart that somebody is looked at from who is seen in one frame alone: of
# their side in x and y, of the logarithm of their side, rad. With them MPJPE of 60 frames of
# synthetic people was 86.5 for 88.1 mm, PA-MPJPE 56.7 for 57.9; with twice as many regions, 1.7
# times as far apart, 86.0 and 57.3.
APART = np.array([0.03, 0.03, 0.12, 0.2])
_HALF = np.random.default_rng(0).uniform(-1, 1, (3, 4))
_AROUND = APART * np.concatenate([_HALF, -_HALF])  # (6, 4)
PROMISING = 4  # of eight turned looks: these are improved
SHOULDERS, HIPS = (5, 6), (11, 12)  # COCO's


def follow(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    reader: CropReader,
    fps: float,
    found: list[LandmarkTrack],
) -> Iterator[Frame]:
    """Look at everybody some times a second while frames pass.

    Args:
        frames: the clip's, in order.
        tracks: the people.
        reader: reads landmarks from crops.
        fps: frames a second.
        found: gets a record for each track, when the last frame has passed.

    Yields:
        The frames.
    """
    step = max(1, round(fps / LOOKS_A_SECOND))
    looks = [_Looks(step, len(track.frame)) for track in tracks]
    runs = [track.runs for track in tracks]
    for frame, places in frames_with_people(frames, tracks):
        due: list[_Due] = []
        rest: list[Float] = []  # boxes
        for number, row in places:
            track, own = tracks[number], looks[number]
            run = run_of(runs[number], row)
            # By the number of the frame: so people are due together, and more crops go at a time.
            regular = frame.index % step == 0 or row in (run.start, run.stop - 1)
            if regular or own.hurried:
                due.append(_due(track, row, own))
            else:
                rest.append(track.box[row])
        if due:
            boxes = np.stack([*(one.track.box[one.row] for one in due), *rest])
            _look_at(frame.image, due, boxes, reader)
        yield frame
    found += [own.finished(track) for own, track in zip(looks, tracks, strict=True)]


@dataclass(frozen=True)
class _Look:
    """One look at one person: N = 1."""

    seen: Landmarks
    agreement: float  # with what the detector or another look saw


class _Looks:
    """What was seen of one person so far, about 1 kB a look."""

    def __init__(self, step: int, frames: int) -> None:
        self.rows: list[int] = []  # of the track
        self.mirrored: list[bool] = []
        self.columns: dict[str, list[Float32]] = {"kp2d": [], "metres": [], "region": []}
        self.score: list[float] = []
        self.newest: _Look | None = None
        self.hurried = False  # whether to look in the next frame already
        self.masks: dict[int, Image] = {}  # by the number of the look
        self.failed = 0  # searches without success, one after the other
        self.search_again = 0  # the number of the look from which a search may be worth it
        self.masks_every = max(1, frames // (step * MOST_MASKS))

    def add(self, row: int, look: _Look, mirrored: bool) -> None:
        believed = look.agreement >= BELIEVED
        if len(self.rows) % self.masks_every == 0 and believed:
            self.masks[len(self.rows)] = look.seen.mask[0]
        self.rows.append(row)
        self.mirrored.append(mirrored)
        self.score.append(look.agreement if believed else 0.0)
        for name, column in self.columns.items():
            column.append(getattr(look.seen, name)[0].astype(np.float32))
        # Between looks at somebody who turns over, nothing in between can be guessed.
        before = self.newest
        self.hurried = (
            before is not None
            and before.agreement >= BELIEVED
            and (
                not believed or _angle_between(look.seen.region, look.seen.next_region) > FAST_TURN
            )
        )
        self.newest = look

    def note_search(self, found: bool) -> None:
        """Wait longer with each search in vain: 1, 2, 4, ... looks."""
        self.failed = 0 if found else self.failed + 1
        self.search_again = len(self.rows) + (0 if found else min(2**self.failed, LONGEST_PAUSE))

    def last(self, track: Track, row: int) -> _Look | None:
        """The last look, where it was believed and the track has no gap since."""
        if self.newest is None or self.newest.agreement < BELIEVED:
            return None
        gap = track.frame[row] - track.frame[self.rows[-1]] != row - self.rows[-1]
        return None if gap else self.newest

    def finished(self, track: Track) -> LandmarkTrack:
        count, masks = len(self.rows), np.array(list(self.masks.values()), np.uint8)
        return LandmarkTrack(
            id=track.id,
            frame=track.frame[self.rows],
            mirrored=np.array(self.mirrored, bool),
            kp2d=np.array(self.columns["kp2d"], np.float32).reshape(count, BODY, 3),
            metres=np.array(self.columns["metres"], np.float32).reshape(count, BODY, 3),
            score=np.array(self.score, np.float64),
            region=np.array(self.columns["region"], np.float64).reshape(count, 4),
            mask_row=np.array(list(self.masks), np.int64),
            mask=masks.reshape(-1, MASK_PIXELS, MASK_PIXELS),
        )


@dataclass(frozen=True)
class _Due:
    """Somebody who is looked at in a frame."""

    track: Track
    row: int
    looks: _Looks  # so far
    before: _Look | None  # the last one, where it says where to look now
    mirrored: bool

    @property
    def turn(self) -> float | None:
        """How the detector says that they are turned, rad."""
        return trunk_turn(self.track, self.row)

    @property
    def region(self) -> Float:
        """Where to look first, (1, 4)."""
        if self.before is not None:
            return self.before.seen.next_region
        return around_boxes(self.track.box[self.row : self.row + 1], self.turn or 0.0)

    def lost(self, best: _Look) -> bool:
        """Whether nothing shows how they are turned, or what was seen does not fit."""
        unclear = self.before is None and self.turn is None
        return unclear or best.agreement < BELIEVED

    @property
    def worth_searching(self) -> bool:
        """Whether the last search in vain was long ago."""
        return len(self.looks.rows) >= self.looks.search_again


def _due(track: Track, row: int, looks: _Looks) -> _Due:
    """Somebody who is to be looked at, in turns at the picture and at its mirror image."""
    before = looks.last(track, row)
    return _Due(track, row, looks, before, before is not None and not looks.mirrored[-1])


def _look_at(image: Image, due: Sequence[_Due], boxes: Float, reader: CropReader) -> None:
    """Look at some people in a frame, and add what is seen to their looks.

    Args:
        image: the frame.
        due: the people.
        boxes: (M, 4) of everybody in the frame, in which those of `due` come first.
        reader: reads landmarks from crops.
    """

    def look(people: Sequence[_Due], regions: Sequence[Float], other_way: bool) -> list[_Look]:
        across = np.array([one.mirrored != other_way for one in people])
        seen = read(reader, [image] * len(people), np.concatenate(regions), across)
        return [
            _Look(found, with_detector(found, one.track, one.row))
            for one, found in zip(people, one_by_one(seen), strict=True)
        ]

    best = look(due, [one.region for one in due], False)
    # A box is a rough guide, the landmarks know better where to look.
    new = [n for n, one in enumerate(due) if one.before is None]
    if new:
        regions = [best[n].seen.next_region for n in new]
        for n, again in zip(new, look([due[n] for n in new], regions, False), strict=True):
            best[n] = _better(best[n], again)
    _search(image, due, best, boxes, reader)
    looks = [(one, found, one.mirrored) for one, found in zip(due, best, strict=True)]
    both = [n for n in new if best[n].agreement >= BELIEVED]
    if both:
        regions = [best[n].seen.next_region for n in both]
        others = look([due[n] for n in both], regions, True)
        looks += [
            (due[n], other, not due[n].mirrored) for n, other in zip(both, others, strict=True)
        ]
    for one, found, mirrored in looks:
        one.looks.add(one.row, _from_around(image, found, one, mirrored, reader), mirrored)


def _from_around(image: Image, look: _Look, one: _Due, mirrored: bool, reader: CropReader) -> _Look:
    """A look at somebody who is in one frame alone, as the median of looks from around it."""
    if len(one.track.frame) > 1 or look.agreement < BELIEVED:
        return look
    regions = np.repeat(look.seen.next_region, len(_AROUND), 0)
    regions[:, :2] += _AROUND[:, :2] * regions[:, 2:3]
    regions[:, 2] *= np.exp(_AROUND[:, 2])
    regions[:, 3] += _AROUND[:, 3]
    around = read(reader, [image] * len(regions), regions, np.full(len(regions), mirrored))
    believed = [
        seen for seen in one_by_one(around) if with_detector(seen, one.track, one.row) >= BELIEVED
    ]
    every = joined([look.seen, *believed])
    seen = replace(
        look.seen, kp2d=np.median(every.kp2d, 0)[None], metres=np.median(every.metres, 0)[None]
    )
    return replace(look, seen=seen)


def _search(
    image: Image,
    due: Sequence[_Due],
    best: list[_Look],
    boxes: Float,
    reader: CropReader,
) -> None:
    """Look from turned regions at large people who are lost; what is better becomes their best."""

    def look(n: int, regions: Float) -> Landmarks:
        return read(reader, [image] * len(regions), regions, np.full(len(regions), due[n].mirrored))

    def lost(n: int) -> bool:
        return due[n].lost(best[n])

    rank = np.argsort(-box_area(boxes), kind="stable").tolist()
    by_size = [n for n in rank if n < len(due)]
    for n in [n for n in by_size if lost(n) and due[n].before is not None][:MOST_LOST]:
        here = best[n].seen
        turned = look(n, here.next_region + np.array([0, 0, 0, EIGHTH]))
        best[n] = _better(best[n], _agreed(joined([here, turned]), boxes, n))
    large = [n for n in rank[:LARGEST] if n < len(due)]
    for n in [n for n in large if lost(n) and due[n].worth_searching][:MOST_LOST]:
        found = _agreed(all_turns(boxes[n], partial(look, n)), boxes, n)
        believed = found.agreement >= BELIEVED
        due[n].looks.note_search(believed)
        best[n] = found if believed else _better(best[n], found)


def _better(one: _Look, other: _Look) -> _Look:
    """The look that agrees better; the first of equal ones."""
    return other if other.agreement > one.agreement else one


def all_turns(box: Float, look: Callable[[Float], Landmarks]) -> Landmarks:
    """Look at a person in eight turns.

    Args:
        box: (4,) px.
        look: reads regions (N, 4) of the frame.

    Returns:
        The most promising looks, improved.
    """
    angles: Float = EIGHTH * np.arange(8.0)
    rough = look(around_boxes(np.repeat(box[None], len(angles), 0), angles))
    promising = np.argsort(-in_box(rough, box), kind="stable")[:PROMISING]
    return look(rough.next_region[promising])


def _agreed(seen: Landmarks, boxes: Float, person: int) -> _Look:
    """The look that fits the other looks at one of the people with these boxes (M, 4) best."""
    agreement = with_each_other(seen, boxes[person], np.delete(boxes, person, 0))
    n = int(agreement.argmax())
    return _Look(selected(seen, n), float(agreement[n]))


def _angle_between(one: Float, other: Float) -> float:
    """How far two regions (1, 4) are turned from each other, rad."""
    turn = float(other[0, 3] - one[0, 3])
    return abs((turn + np.pi) % (2 * np.pi) - np.pi)


def trunk_turn(track: Track, row: int) -> float | None:
    """Compute how a trunk is turned in the picture, by the detector's shoulders and hips.

    Args:
        track: the person.
        row: of the track.

    Returns:
        rad clockwise from upright; None where the keypoints are not clear.
    """
    kp2d = track.kp2d[row].astype(np.float64)
    if min(track.score[row], kp2d[[*SHOULDERS, *HIPS], 2].min()) < CLEAR:
        return None
    x, y = kp2d[SHOULDERS, :2].mean(0) - kp2d[HIPS, :2].mean(0)
    return float(np.arctan2(x, -y))
