"""A track's 2D keypoints without guesses, and with left and right as they should be."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.records import Bools, Float, Ints, Track

LEAST_CONFIDENCE = 0.2  # a keypoint below it is a guess
UNSURE = 0.5  # score of a detection below which its keypoints are mostly wrong
UNSURE_WEIGHT = 0.3  # share of right ones there (PCK@0.2 0.15) over that of surer people (0.5)
BORDER = 0.01  # of the image's longer side: keypoints of what is cut off are guessed to be there
USUAL_HEIGHT = 1.7  # m, of the person in a box, where nothing else shows the scale

OTHER_SIDE = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
_SWAPPED_TOGETHER = (range(1, 17), range(7, 11), range(11, 17))  # everything, arms, legs
_JUMP = 0.1  # m: a keypoint that moves so far from frame to frame costs 1/2
_LARGEST_JUMP = 9.0  # squared, in _JUMP: a longer one costs no more
_SWAP_COST = 0.5  # of each frame whose sides are exchanged
_TOGETHER = 10_000  # frames that are compared at a time: memory


@dataclass(frozen=True)
class SeenKeypoints:
    """A track's keypoints as far as they are to be believed, F frames."""

    keypoints: Float  # (F, 17, 2) px
    weight: Float  # (F, 17) confidence, 0 where not to be believed
    size: Float  # (F,) px, longer side of the box
    centre: Float  # (F, 2) px, of the box
    step: Float  # (F,) s to the next frame; 1 at the end
    joined: Bools  # (F,) the next frame follows without a gap; False at the end
    runs: list[slice]  # rows of the frames between gaps

    def frames_in(self, seconds: float) -> float:
        """Convert a time to frames; 1 where no two frames follow each other."""
        return seconds / float(np.median(self.step[self.joined])) if self.joined.any() else 1.0


def seen_keypoints(track: Track, image_size: tuple[int, int]) -> SeenKeypoints:
    """Take a track's keypoints; drop guesses and what the image's border cuts off.

    Args:
        track: F frames.
        image_size: (width, height) px.

    Returns:
        F frames.
    """
    kp2d = track.kp2d.astype(np.float64)
    believed = np.where(track.score < UNSURE, UNSURE_WEIGHT, 1.0)
    confidence, keypoints = kp2d[..., 2] * believed[:, None], kp2d[..., :2]
    low, high = track.box[:, :2], track.box[:, 2:]
    margin = BORDER * max(image_size)
    inside = ((keypoints > margin) & (keypoints < np.array(image_size) - margin)).all(-1)
    joined = np.append(np.diff(track.frame) == 1, False)
    return SeenKeypoints(
        keypoints=keypoints,
        weight=np.where((confidence >= LEAST_CONFIDENCE) & inside, confidence, 0),
        size=np.maximum((high - low).max(-1), 1),
        centre=(low + high) / 2,
        step=np.append(np.maximum(np.diff(track.time), 1e-3), 1.0),
        joined=joined,
        runs=track.runs,
    )


def correct_sides(seen: SeenKeypoints, scale: Float) -> SeenKeypoints:
    """Exchange left and right back where the detector took one for the other.

    In single frames a detector takes a person's front for the back, or one leg for the other;
    then the keypoints concerned jump, there and back. The sequence of exchanges with the least
    jumping is found, for the whole body first, then for the arms and for the legs.

    Args:
        seen: F frames.
        scale: (F,) px per metre at the person.

    Returns:
        The same frames, some with keypoints and weights exchanged.
    """
    order = _sides(seen, scale)
    return replace(
        seen,
        keypoints=np.take_along_axis(seen.keypoints, order[..., None], 1),
        weight=np.take_along_axis(seen.weight, order, 1),
    )


def with_steady_sides(track: Track, image_size: tuple[int, int]) -> Track:
    """Exchange a track's left and right back where the detector took one for the other.

    Args:
        track: F frames.
        image_size: (width, height) px.

    Returns:
        The same frames.
    """
    seen = seen_keypoints(track, image_size)
    order = _sides(seen, seen.size / USUAL_HEIGHT)
    return replace(track, kp2d=track.kp2d[np.arange(len(order))[:, None], order])


def _sides(seen: SeenKeypoints, scale: Float) -> NDArray[np.int8]:
    """Which detected keypoint is each of the person's, (F, 17); scale (F,) px per metre."""
    frames, count = seen.weight.shape
    order = np.tile(np.arange(count, dtype=np.int8), (frames, 1))
    reach = _JUMP * scale[1:, None, None, None]  # px
    for group in _SWAPPED_TOGETHER:
        columns = np.array(group)
        exchanged = order.copy()
        exchanged[:, columns] = order[:, OTHER_SIDE[columns]]
        ways = np.stack([order, exchanged], 1)[..., columns]  # (F, 2, K)
        change = np.empty((frames - 1, 2, 2))
        for first in range(0, len(change), _TOGETHER):
            own, more = slice(first, first + _TOGETHER), slice(first, first + _TOGETHER + 1)
            both = np.concatenate([seen.keypoints[more], seen.weight[more, :, None]], -1)
            change[own] = _jumps(both, ways[more], reach[own])
        change[~seen.joined[:-1]] = 0
        state = least_cost_path(np.tile([0.0, _SWAP_COST], (frames, 1)), change)
        order = np.where((state == 1)[:, None], exchanged, order)
    return order


def _jumps(both: Float, ways: NDArray[np.int8], reach: Float) -> Float:
    """What it costs (F - 1, 2, 2) that keypoints (F, 17, 3), in two orders (F, 2, K), jump."""
    states = np.take_along_axis(both[:, None], ways[..., None], 2)  # (F, 2, K, 3)
    before, after = states[:-1, :, None], states[1:, None]  # (F - 1, 2, 2, K, 3)
    jump = ((after - before)[..., :2] ** 2).sum(-1) / reach**2
    sure = np.minimum(after[..., 2], before[..., 2])
    cost: Float = 0.5 * (sure * np.minimum(jump, _LARGEST_JUMP)).sum(-1)
    return cost


def least_cost_path(cost: Float, change: Float) -> Ints:
    """Find the sequence of states with the least total cost (Viterbi's algorithm).

    Args:
        cost: (F, S) of each state in each frame.
        change: (F - 1, S, S), or (S, S) for all frames, of going from one state to another.

    Returns:
        (F,) numbers of the states.
    """
    changes: Iterator[Float] = iter(np.broadcast_to(change, (len(cost) - 1, *change.shape[-2:])))
    best = cost[0]
    came_from: list[NDArray[np.intp]] = []
    for row, step in zip(cost[1:], changes, strict=True):
        total = best[:, None] + step
        came_from.append(total.argmin(0))
        best = total.min(0) + row
    path = [int(best.argmin())]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1], np.int64)
