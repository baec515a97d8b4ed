"""The background followed through a clip: points of keyframes, found again in the frames after.

Every frame is matched to a keyframe, not to the frame before it, so that errors add up over
keyframes only. The matching knows nothing of how the camera moves.

Points are px of the working picture, a smaller grey copy of the frame, from its centre.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from staf_cli.core.records import (
    Bools,
    Float,
    Float32,
    Frame,
    Image,
    Ints,
    Track,
    frames_with_people,
)

LONGEST_SIDE = 640  # px of the working picture
CUT_DELAY = 4  # frames after which a cut before a frame is known for certain
MOST_POINTS = 160  # of a keyframe
SPACING = 12  # px, least distance between them
FEWEST_POINTS = 12  # with fewer, nothing is believed
KEPT_SHARE = 0.35  # of a keyframe's points: with fewer, another keyframe is begun
LONGEST_SHIFT = 0.25  # of the working picture's width: the same
PATIENCE = 5  # frames without a match before another keyframe is begun without a link
MARGIN = 0.1  # of a person's box, on each side
WINDOW = 15  # px, side of the patch that is found again
LEVELS = 3  # of the pyramid: shifts of about WINDOW * 2**LEVELS / 2 px are found
RETURN_ERROR = 0.7  # px by which a point, followed there and back, may miss itself
DETAIL = 31  # px: shades that vary over more than this are light, not detail
CONTRAST = 32.0  # grey levels, standard deviation of the detail in a working picture
ORB_FEATURES = 500
ORB_ERROR = 5.0  # px by which a match may miss the affine map of the others
STRONGEST_GAIN = 6.0  # by which plain pictures are amplified at most


@dataclass(frozen=True)
class View:
    """One frame as seen from its keyframe."""

    frame: int  # index in the video
    time: float  # s
    shot: int  # from 0
    key: int  # index of the keyframe; -1: it could not be matched
    seen: Ints  # (N,) which of the keyframe's points
    points: Float32  # (N, 2) where they are now


@dataclass(frozen=True)
class Keyframe:
    """A frame to which others are matched.

    Its own view is matched to the keyframe before it; that of the first in a shot, and of one
    begun after the background was lost, to itself.
    """

    view: int  # index of its own view
    points: Float32  # (K, 2)


@dataclass(frozen=True)
class Background:
    """All that was seen of a clip's background."""

    size: tuple[int, int]  # width, height of the working picture
    views: Sequence[View]  # one a frame
    keyframes: Sequence[Keyframe]


@dataclass(frozen=True)
class _Picture:
    """A frame while it is matched."""

    frame: int
    time: float
    shot: int
    people: Float  # (P, 4) x1, y1, x2, y2 of their boxes with margin, px of the working picture
    detail: Image  # (h, w)


@dataclass
class _Key:
    """The keyframe in use, and where its points were last; px from the top left pixel's centre."""

    number: int
    picture: _Picture
    points: Float32  # (K, 2)
    last: Float32  # (K, 2) NaN: not found yet
    missed: int = 0  # frames in a row without a match


def follow_background(
    frames: Iterable[Frame], tracks: Sequence[Track], cuts: Sequence[int]
) -> Background:
    """Follow points of the background through a clip.

    Args:
        frames: of the clip, in order; one at least.
        tracks: of the people, in whose boxes nothing is background.
        cuts: the index of the first frame of each new shot; may grow while the frames come, if
            no cut comes more than CUT_DELAY frames late.

    Returns:
        A view of every frame, and the keyframes.
    """
    follower = _Follower()
    for picture in _pictures(frames, tracks, cuts):
        follower.add(picture)
    height, width = picture.detail.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    return Background(
        size=(width, height),
        views=[replace(one, points=one.points - centre) for one in follower.views],
        keyframes=[replace(one, points=one.points - centre) for one in follower.keyframes],
    )


def _pictures(
    frames: Iterable[Frame], tracks: Sequence[Track], cuts: Sequence[int]
) -> Iterator[_Picture]:
    """Working pictures of the frames, held back until it is known to which shot each belongs."""
    waiting: deque[_Picture] = deque()
    for frame, here in frames_with_people(frames, tracks):
        boxes = np.array([tracks[number].box[row] for number, row in here]).reshape(-1, 4)
        waiting.append(_working_picture(frame, boxes))
        if len(waiting) > CUT_DELAY:
            yield _of_shot(waiting.popleft(), cuts)
    for picture in waiting:
        yield _of_shot(picture, cuts)


def _of_shot(picture: _Picture, cuts: Sequence[int]) -> _Picture:
    return replace(picture, shot=sum(cut <= picture.frame for cut in cuts))


def zoom_of(image_size: tuple[int, int]) -> float:
    """Pixels of the working picture per pixel of a frame (width, height)."""
    return min(1.0, LONGEST_SIDE / max(image_size))


def _working_picture(frame: Frame, boxes: Float) -> _Picture:
    """The detail of a frame, at one contrast, so that light that changes makes no difference."""
    height, width = frame.image.shape[:2]
    zoom = zoom_of((width, height))
    grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    if zoom < 1:
        size = max(1, round(width * zoom)), max(1, round(height * zoom))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    margin = MARGIN * np.tile(boxes[:, 2:] - boxes[:, :2], 2) * [-1, -1, 1, 1]
    people = (boxes + margin) * zoom
    detail = cv2.subtract(grey, cv2.boxFilter(grey, -1, (DETAIL, DETAIL)), dtype=cv2.CV_16S)
    spread = float(cv2.meanStdDev(detail, mask=_outside(people, grey.shape))[1][0, 0])
    gain = min(CONTRAST / max(spread, 1e-6), STRONGEST_GAIN)
    level = cv2.convertScaleAbs(detail, alpha=gain, beta=128.0)
    return _Picture(frame.index, frame.time, 0, people, np.asarray(level, np.uint8))


def _outside(people: Float, shape: tuple[int, ...]) -> Image:
    """A mask of what is outside of boxes: 255, else 0."""
    mask = np.full(shape, 255, np.uint8)
    for x1, y1, x2, y2 in np.clip(people, 0, max(shape)).round().astype(int).tolist():
        mask[y1:y2, x1:x2] = 0
    return mask


class _Follower:
    """Matches one picture after the other, and chooses the keyframes."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.keyframes: list[Keyframe] = []
        self._key: _Key | None = None
        self._previous: _Picture | None = None  # if it was matched

    def add(self, picture: _Picture) -> None:
        """Match the next picture."""
        if self.views and picture.shot != self.views[-1].shot:
            self._key = self._previous = None
        matched = self._key is not None and self._continue(self._key, picture)
        if not matched and (self._key is None or self._key.missed > PATIENCE):
            matched = self._begin(picture)
        if not matched:
            self._keep(picture, -1, np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
        self._previous = picture if matched else None

    def _continue(self, key: _Key, picture: _Picture) -> bool:
        """Match a picture to the keyframe, or to a newer one. Returns whether it could be."""
        points = _find(key, picture)
        if not _is_good(key, points, picture.detail.shape[1]):
            newer = self._newer_key()
            found = None if newer is None else _find(newer, picture)
            if newer is not None and found is not None and _count(found) > _count(points):
                self.keyframes.append(Keyframe(len(self.views) - 1, newer.points))
                self._key, key, points = newer, newer, found
        if _count(points) < FEWEST_POINTS:
            points = _find_far(key, picture)
        if _count(points) < FEWEST_POINTS:
            key.missed += 1
            return False
        key.last, key.missed = points, 0
        seen = np.flatnonzero(np.isfinite(points[:, 0]))
        self._keep(picture, key.number, seen, points[seen])
        return True

    def _newer_key(self) -> _Key | None:
        """The previous picture as a keyframe, where it is none and has enough points."""
        last = self._previous
        if last is None or self._key is None or last is self._key.picture:
            return None
        return _new_key(len(self.keyframes), last)

    def _begin(self, picture: _Picture) -> bool:
        """Begin with a keyframe that has no link. Returns whether it has enough points."""
        self._key = _new_key(len(self.keyframes), picture)
        if self._key is None:
            return False
        self.keyframes.append(Keyframe(len(self.views), self._key.points))
        self._keep(picture, self._key.number, np.arange(len(self._key.points)), self._key.points)
        return True

    def _keep(self, picture: _Picture, key: int, seen: Ints, points: Float32) -> None:
        self.views.append(View(picture.frame, picture.time, picture.shot, key, seen, points))


def _new_key(number: int, picture: _Picture) -> _Key | None:
    """A picture as a keyframe; None where its background has too little to see."""
    corners = cv2.goodFeaturesToTrack(
        picture.detail,
        MOST_POINTS,
        0.01,
        SPACING,
        mask=_outside(picture.people, picture.detail.shape),
    )
    if corners is None or len(corners) < FEWEST_POINTS:
        return None
    points = np.asarray(corners, np.float32).reshape(-1, 2)
    return _Key(number, picture, points, points.copy())


def _count(points: Float32) -> int:
    return int(np.isfinite(points[:, 0]).sum())


def _is_good(key: _Key, points: Float32, width: int) -> bool:
    """Whether a keyframe need not be changed yet."""
    if _count(points) < max(FEWEST_POINTS, KEPT_SHARE * len(points)):
        return False
    shift = np.linalg.norm(points - key.points, axis=1)
    return bool(np.nanmedian(shift) < LONGEST_SHIFT * width)


def _find(key: _Key, picture: _Picture) -> Float32:
    """Where the points of a keyframe are in a picture (K, 2); NaN: not found."""
    # Each is looked for where it was last, or where the others say that it must be.
    guess = key.last.copy()
    known = np.isfinite(guess[:, 0])
    if not known.all():
        affine = None
        if known.sum() >= FEWEST_POINTS:
            affine, _ = cv2.estimateAffine2D(key.points[known], guess[known])
        moved = key.points if affine is None else cv2.transform(key.points[None], affine)[0]
        guess[~known] = moved[~known]
    return _flow(key, picture, guess)


def _flow(key: _Key, picture: _Picture, guess: Float32) -> Float32:
    """Optical flow from a keyframe and back to it, from a guess on; NaN: not found."""
    there, found = _lucas_kanade(key.picture.detail, picture.detail, key.points, guess)
    start = key.points - (there - guess)
    back, returned = _lucas_kanade(picture.detail, key.picture.detail, there, start)
    height, width = picture.detail.shape
    good = found & returned & (np.linalg.norm(back - key.points, axis=1) < RETURN_ERROR)
    good &= (there >= 0).all(1) & (there <= [width - 1, height - 1]).all(1)
    for x1, y1, x2, y2 in picture.people:
        x, y = there.T
        good &= (x < x1) | (x > x2) | (y < y1) | (y > y2)
    there[~good] = np.nan
    return there


def _lucas_kanade(
    first: Image, second: Image, points: Float32, guess: Float32
) -> tuple[Float32, Bools]:
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        points,
        guess.copy(),
        winSize=(WINDOW, WINDOW),
        maxLevel=LEVELS,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.05),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(moved, np.float32), np.asarray(status[:, 0] == 1, bool)


def _find_far(key: _Key, picture: _Picture) -> Float32:
    """The same where the flow is lost: the guess comes from ORB features of both pictures."""
    nothing = np.full_like(key.points, np.nan)
    orb = cv2.ORB.create(ORB_FEATURES)
    pairs = [
        orb.detectAndCompute(one.detail, _outside(one.people, one.detail.shape))
        for one in (key.picture, picture)
    ]
    (ours, described), (theirs, others) = pairs
    if described is None or others is None:
        return nothing
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(described, others)
    if len(matches) < FEWEST_POINTS:
        return nothing
    source = np.array([ours[one.queryIdx].pt for one in matches], np.float32)
    target = np.array([theirs[one.trainIdx].pt for one in matches], np.float32)
    affine, agree = cv2.estimateAffine2D(source, target, ransacReprojThreshold=ORB_ERROR)
    if affine is None or agree.sum() < FEWEST_POINTS:
        return nothing
    return _flow(key, picture, cv2.transform(key.points[None], affine)[0])
