"""People's landmarks through a clip: where the network looks next, and what is kept.

As in MediaPipe, the landmarks of one look say where the next one shall be. A look that does not
fit what the detector saw is not believed: then all four turns of the box are looked at. So somebody
who stands on their hands is followed where a detector of upright people reads nothing.

Looks are made in turns at the picture and at its mirror image, and the first of a run of frames
both ways (`read` says why).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from staf_cli.core.geometry import box_area, box_iou
from staf_cli.core.records import (
    COCO_KEYPOINTS,
    LANDMARKS,
    MASK_PIXELS,
    Bools,
    Float,
    Float32,
    Frame,
    Image,
    LandmarkTrack,
    Track,
    TrackRow,
    frames_with_people,
    run_of,
)
from staf_cli.core.regions import around_boxes
from staf_cli.landmarks.network import PoseLandmarkNetwork
from staf_cli.landmarks.reading import BODY, Landmarks, read

# The fit of 12 synthetic clips is as good with 10 looks a second as with 30; with 5 it is worse.
LOOKS_A_SECOND = 10
BELIEVED = 0.35  # agreement (`_agreement`) from which a look is the person of the box
MOST_LOST = 2  # people in a frame, the largest, who are looked at in all turns
LONGEST_PAUSE = 16  # looks between two searches in all turns
MOST_MASKS = 64  # that are kept of a person
FAST_TURN = 0.25  # rad beside the region that was looked at: the next frame is looked at too
TURNS = np.arange(4) * np.pi / 2  # rad
VISIBLE = 0.3  # visibility of a landmark that counts
CLEAR = 0.5  # score of a person and confidence of keypoints, from which these are taken for right
FEWEST_COMPARED = 6  # clear keypoints, for their places to decide
NEAR = 0.15  # sides of the box: a landmark that is nearer to a keypoint shows the same
COCO = np.array([LANDMARKS.index(name) for name in COCO_KEYPOINTS])  # the landmark of each
COCO_MIRRORED = COCO[[0, *(k + (1 if k % 2 else -1) for k in range(1, len(COCO)))]]
SHOULDERS, HIPS = (5, 6), (11, 12)  # COCO's


def follow(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    network: PoseLandmarkNetwork,
    fps: float,
    found: list[LandmarkTrack],
) -> Iterator[Frame]:
    """Look at everybody some times a second while frames pass.

    Args:
        frames: the clip's, in order.
        tracks: the people.
        network: on the device that computes, in float32.
        fps: frames a second.
        found: gets a record for each track, when the last frame has passed.

    Yields:
        The frames.
    """
    step = max(1, round(fps / LOOKS_A_SECOND))
    looks = [_Looks(step, len(track.frame)) for track in tracks]
    runs = [track.runs for track in tracks]
    for frame, places in frames_with_people(frames, tracks):
        due = []
        for number, row in places:
            run = run_of(runs[number], row)
            regular = (row - run.start) % step == 0 or row == run.stop - 1
            if regular or looks[number].hurried:
                due.append((number, row))
        if due:
            _look_at(frame.image, due, tracks, looks, network)
        yield frame
    found += [own.finished(track) for own, track in zip(looks, tracks, strict=True)]


@dataclass(frozen=True)
class _Look:
    """One look at one person: N = 1."""

    seen: Landmarks
    agreement: float  # with what the detector saw


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


def _look_at(
    image: Image,
    due: Sequence[TrackRow],
    tracks: Sequence[Track],
    looks: Sequence[_Looks],
    network: PoseLandmarkNetwork,
) -> None:
    """Look at some people in a frame, and add what is seen to their looks."""

    def box_of(n: int) -> Float:
        number, row = due[n]
        box: Float = tracks[number].box[row]
        return box

    def look(people: Sequence[int], regions: Float, across: Bools) -> list[_Look]:
        seen = read(network, [image] * len(people), regions, across[people])
        return [
            _Look(one, _agreement(one, tracks[due[n][0]], due[n][1]))
            for n, one in zip(people, _one_by_one(seen), strict=True)
        ]

    best: dict[int, _Look] = {}  # by the index in `due`
    before = [looks[number].last(tracks[number], row) for number, row in due]
    mirrored = np.array(
        [
            last is not None and not looks[number].mirrored[-1]
            for (number, _), last in zip(due, before, strict=True)
        ]
    )

    def keep_better(people: Sequence[int], new: Sequence[_Look]) -> None:
        for n, one in zip(people, new, strict=True):
            if n not in best or one.agreement > best[n].agreement:
                best[n] = one

    def next_regions(people: Sequence[int]) -> Float:
        return np.stack([best[n].seen.next_region[0] for n in people])

    first: dict[int, Float] = {}  # regions
    followed = set()
    for n, (number, row) in enumerate(due):
        last, turn = before[n], _trunk_turn(tracks[number], row)
        if last is not None:
            first[n] = last.seen.next_region[0]
            followed.add(n)
        elif turn is not None:
            first[n] = around_boxes(box_of(n)[None], turn)[0]
    if first:
        keep_better(list(first), look(list(first), np.stack(list(first.values())), mirrored))
    lost = [n for n in range(len(due)) if n not in best or best[n].agreement < BELIEVED]
    lost.sort(key=lambda n: -float(box_area(box_of(n))))
    worth = [n for n in lost if len(looks[due[n][0]].rows) >= looks[due[n][0]].search_again]
    unseen = [n for n in lost if n not in best and n not in worth[:MOST_LOST]]
    if unseen:
        regions = around_boxes(np.stack([box_of(n) for n in unseen]))
        keep_better(unseen, look(unseen, regions, mirrored))
    lost = worth[:MOST_LOST]
    if lost:
        again = np.repeat(lost, len(TURNS)).tolist()
        boxes = np.stack([box_of(n) for n in again])
        regions = around_boxes(boxes, np.tile(TURNS, len(lost)))
        keep_better(again, look(again, regions, mirrored))
    # A box is a rough guide, the landmarks know better where to look.
    new = sorted({*lost, *(n for n in first if n not in followed)})
    if new:
        keep_better(new, look(new, next_regions(new), mirrored))
    for n in lost:
        looks[due[n][0]].note_search(best[n].agreement >= BELIEVED)
    for n, (number, row) in enumerate(due):
        looks[number].add(row, best[n], bool(mirrored[n]))
    both = [n for n, last in enumerate(before) if last is None and best[n].agreement >= BELIEVED]
    if both:
        for n, one in zip(both, look(both, next_regions(both), ~mirrored), strict=True):
            looks[due[n][0]].add(due[n][1], one, not mirrored[n])


def _one_by_one(seen: Landmarks) -> Iterator[Landmarks]:
    for n in range(len(seen.score)):
        own = {field.name: getattr(seen, field.name)[n : n + 1] for field in fields(Landmarks)}
        yield Landmarks(**own)


def _agreement(one: Landmarks, track: Track, row: int) -> float:
    """How well a look (N = 1) fits what the detector saw of the person, in [0, 1]."""
    # The network's score, times the IoU of what it saw with the box, times the share of clear
    # keypoints that are where it saw them. Left and right do not count: both mix them up.
    box, kp2d = track.box[row], track.kp2d[row]
    points, visible = one.kp2d[0, :, :2], one.kp2d[0, :, 2] > VISIBLE
    if visible.sum() < len(points) // 4:
        visible[:] = True
    ends = np.concatenate([points[visible].min(0), points[visible].max(0)])
    fits = float(one.score[0] * box_iou(ends[None], box[None])[0, 0])
    clear = (kp2d[:, 2] >= CLEAR) & (track.score[row] >= CLEAR)
    if clear.sum() < FEWEST_COMPARED:
        return fits
    near = NEAR * (box[2:] - box[:2]).max()
    shares = [
        (np.linalg.norm(points[order] - kp2d[:, :2], axis=1)[clear] < near).mean()
        for order in (COCO, COCO_MIRRORED)
    ]
    return float(fits * max(shares))


def _angle_between(one: Float, other: Float) -> float:
    """How far two regions (1, 4) are turned from each other, rad."""
    turn = float(other[0, 3] - one[0, 3])
    return abs((turn + np.pi) % (2 * np.pi) - np.pi)


def _trunk_turn(track: Track, row: int) -> float | None:
    """How a trunk is turned, rad clockwise, as the detector's keypoints show it; None: unclear."""
    kp2d = track.kp2d[row].astype(np.float64)
    if min(track.score[row], kp2d[[*SHOULDERS, *HIPS], 2].min()) < CLEAR:
        return None
    x, y = kp2d[SHOULDERS, :2].mean(0) - kp2d[HIPS, :2].mean(0)
    return float(np.arctan2(x, -y))
