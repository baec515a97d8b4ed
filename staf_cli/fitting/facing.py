"""Where a person stands and which way they face, read off 2D keypoints alone.

For a start that knows nothing of the image. Everything here is numpy on the (F, 17) COCO
keypoints of one track; `body` is the (17, 3) keypoints of a relaxed body in its own frame,
metres (x left, y up, z forward). Runs of frames between gaps are treated one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, percentile_filter

from staf_cli.core.records import Bools, Float, Ints, Track

LEAST_CONFIDENCE = 0.2  # a keypoint below it is a guess
BORDER = 0.01  # of the image's longer side: what is cut off is guessed to lie on the border
CLEARLY = 0.4  # confidence of a keypoint that a place or a length is read from
USUAL_HEIGHT = 1.7  # m, of a box whose keypoints show nothing

_NOSE, _LEFT_EYE, _RIGHT_EYE, _LEFT_EAR, _RIGHT_EAR = range(5)
_SHOULDERS, _HIPS = [5, 6], [11, 12]
_OTHER_SIDE = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
_MISTAKEN_TOGETHER = (range(1, 17), range(7, 11), range(11, 17))  # everything, arms, legs
_LIMBS = np.array(
    [
        *([5, 6], [5, 11], [6, 12]),  # trunk
        *([5, 7], [7, 9], [6, 8], [8, 10]),  # arms
        *([11, 13], [13, 15], [12, 14], [14, 16]),  # legs
    ]
)
_FACE_NORMALS = np.array(
    [[0, 0, 1], [0.35, 0, 0.94], [-0.35, 0, 0.94], [0.98, 0, 0.2], [-0.98, 0, 0.2]]
)

# Pairs whose distance across the torso tells the yaw, and its usual error, m.
_ACROSS = (
    (5, 6, 0.08),
    (11, 12, 0.08),
    (_NOSE, _LEFT_EAR, 0.05),
    (_NOSE, _RIGHT_EAR, 0.05),
    (_LEFT_EAR, _RIGHT_EAR, 0.05),
    (_LEFT_EYE, _RIGHT_EYE, 0.03),
    (_NOSE, _LEFT_EYE, 0.03),
    (_NOSE, _RIGHT_EYE, 0.03),
)
# Three keypoints along a limb, and whether its middle one points forwards (1) or back (-1).
_BENDS = ((11, 13, 15, 1), (12, 14, 16, 1), (5, 7, 9, -1), (6, 8, 10, -1))
_YAWS = np.arange(36) * (2 * np.pi / 36)
_TURNING = 2.5  # cost of turning by one radian


@dataclass(frozen=True)
class Sighting:
    """A track's keypoints as they are to be believed."""

    keypoints: Float  # (F, 17, 2) px
    weight: Float  # (F, 17) confidence, 0 where not to be believed
    size: Float  # (F,) px, longer side of the box
    centre: Float  # (F, 2) px, of the box
    step: Float  # (F,) s to the next frame; 1 at the end
    joined: Bools  # (F,) the next frame follows without a gap; False at the end
    runs: list[slice]

    def window(self, seconds: float) -> float:
        """A stretch of time in frames."""
        return seconds / float(np.median(self.step[self.joined])) if self.joined.any() else 1.0


@dataclass(frozen=True)
class Stance:
    """Where a person is in every frame."""

    pelvis: Float  # (F, 2) px
    zoom: Float  # (F,) px per metre at the person
    roll: Float  # (F,) rad, of the torso in the image, clockwise; 0 is upright
    yaw: Float  # (F,) rad; 0 faces the camera, pi / 2 the image's right


def sight(track: Track, image_size: tuple[int, int]) -> Sighting:
    """Take a track's keypoints; drop guesses and what the image's border cuts off."""
    kp2d = track.kp2d.astype(np.float64)
    confidence, keypoints = kp2d[..., 2], kp2d[..., :2]
    low, high = track.box[:, :2], track.box[:, 2:]
    margin = BORDER * max(image_size)
    inside = ((keypoints > margin) & (keypoints < np.array(image_size) - margin)).all(-1)
    joined = np.append(np.diff(track.frame) == 1, False)
    return Sighting(
        keypoints=keypoints,
        weight=np.where((confidence >= LEAST_CONFIDENCE) & inside, confidence, 0),
        size=np.maximum((high - low).max(-1), 1),
        centre=(low + high) / 2,
        step=np.append(np.maximum(np.diff(track.time), 1e-3), 1.0),
        joined=joined,
        runs=track.runs,
    )


def right_sides(seen: Sighting, zoom: Float) -> Sighting:
    """Exchange left and right back where the detector took one for the other.

    For single frames a detector sees somebody's front for the back, or one leg for the other;
    then the keypoints concerned jump, there and back. The sequence of exchanges with the least
    jumping is found, for the whole body first, then for the arms and for the legs.
    """
    both = np.concatenate([seen.keypoints, seen.weight[..., None]], -1)
    reach = 0.1 * zoom[1:, None, None, None]  # px: a jump by 10 cm costs 1/2
    for group in _MISTAKEN_TOGETHER:
        columns = np.array(group)
        exchanged = both.copy()
        exchanged[:, columns] = both[:, _OTHER_SIDE[columns]]
        states = np.stack([both, exchanged], 1)[:, :, columns]  # (F, 2, K, 3)
        before, after = states[:-1, :, None], states[1:, None]  # (F - 1, 2, 2, K, 3)
        jump = ((after - before)[..., :2] ** 2).sum(-1) / reach**2
        sure = np.minimum(after[..., 2], before[..., 2])
        change = 0.5 * (sure * np.minimum(jump, 9)).sum(-1)
        change[~seen.joined[:-1]] = 0
        state = _cheapest(np.tile([0.0, 0.5], (len(both), 1)), change)
        both = np.where((state == 1)[:, None, None], exchanged, both)
    return replace(seen, keypoints=both[..., :2], weight=both[..., 2])


def find_zoom(seen: Sighting, body: Float) -> Float:
    """Pixels per metre at the person, (F,).

    A limb is never longer in the image than in space; so the longest of them, relative to the
    body's own, show the scale whatever the pose is.
    """
    first, second = _LIMBS.T
    length = np.linalg.norm(body[first] - body[second], axis=-1)
    shown = np.linalg.norm(seen.keypoints[:, first] - seen.keypoints[:, second], axis=-1)
    clear = np.minimum(seen.weight[:, first], seen.weight[:, second]) > CLEARLY
    enough = clear.sum(1) >= 4
    zoom = np.full(len(shown), np.nan)
    zoom[enough] = np.nanquantile(np.where(clear, shown / length, np.nan)[enough], 0.75, axis=1)
    height = np.nanmedian(seen.size / zoom) if enough.any() else USUAL_HEIGHT
    half = seen.window(0.5)
    smooth = np.empty_like(zoom)
    for run in seen.runs:
        log = np.log(np.maximum(_bridged(zoom[run], seen.size[run] / height), 1e-3))
        log = percentile_filter(log, 60, 2 * max(1, round(half)) + 1, mode="nearest")
        smooth[run] = np.exp(gaussian_filter1d(log, half / 2, mode="nearest"))
    return smooth


def find_stance(seen: Sighting, body: Float, zoom: Float) -> Stance:
    """Where the person is and which way they face in every frame."""
    clear = seen.weight > CLEARLY
    hips = np.where(
        (clear[:, 11] & clear[:, 12])[:, None], seen.keypoints[:, _HIPS].mean(1), np.nan
    )
    neck = np.where(
        (clear[:, 5] & clear[:, 6])[:, None], seen.keypoints[:, _SHOULDERS].mean(1), np.nan
    )
    length = float(body[_SHOULDERS, 1].mean() - body[_HIPS, 1].mean()) * zoom[:, None]
    below = neck + np.concatenate([np.zeros_like(length), length], 1)
    upwards = (neck - hips) / length
    blur = seen.window(0.1)
    pelvis, roll = np.empty_like(hips), np.empty(len(hips))
    for run in seen.runs:
        place = np.where(np.isfinite(hips[run]), hips[run], below[run])
        place = _bridged(place, seen.centre[run])
        pelvis[run] = gaussian_filter1d(place, blur, axis=0, mode="nearest")
        # A torso seen from its end has no direction: upright is what is left then.
        up = np.nan_to_num(upwards[run]) + np.array([0, -0.15])
        up = gaussian_filter1d(up, blur, axis=0, mode="nearest")
        roll[run] = np.arctan2(up[:, 0], -up[:, 1])
    yaw = _find_yaw(seen, body, zoom, pelvis, roll)
    return Stance(pelvis, zoom, roll, yaw)


def _find_yaw(seen: Sighting, body: Float, zoom: Float, pelvis: Float, roll: Float) -> Float:
    """The yaws (F,) whose costs and whose turning together are least in each run."""
    cost = _width_cost(seen, body, zoom, pelvis, roll) + _face_cost(seen) + _bend_cost(seen, zoom)
    turn = np.abs((_YAWS[:, None] - _YAWS + np.pi) % (2 * np.pi) - np.pi)
    blur = seen.window(0.1)
    yaw = np.empty(len(cost))
    for run in seen.runs:
        path = _YAWS[_cheapest(cost[run], _TURNING * turn)]
        sine, cosine = gaussian_filter1d([np.sin(path), np.cos(path)], blur, mode="nearest")
        yaw[run] = np.arctan2(sine, cosine)
    return yaw


def _width_cost(seen: Sighting, body: Float, zoom: Float, pelvis: Float, roll: Float) -> Float:
    """(F, Y): how badly the widths of shoulders, hips and face fit each yaw."""
    turned = np.cos(_YAWS)[:, None] * body[:, 0] + np.sin(_YAWS)[:, None] * body[:, 2]  # (Y, 17)
    sideways = np.stack([np.cos(roll), np.sin(roll)], 1)[:, None]
    across = ((seen.keypoints - pelvis[:, None]) * sideways).sum(-1) / zoom[:, None]  # (F, 17) m
    cost = np.zeros((len(zoom), len(_YAWS)))
    for a, b, sigma in _ACROSS:
        shown, wanted = across[:, a] - across[:, b], turned[:, a] - turned[:, b]
        sure = np.minimum(seen.weight[:, a], seen.weight[:, b])
        if [a, b] in (_SHOULDERS, _HIPS) and (sure > CLEARLY).sum() > 10:
            # People differ from the body; the widest that this one is ever seen is her own width.
            widest = np.quantile(np.abs(shown[sure > CLEARLY]), 0.9)
            wanted = wanted * np.clip(widest / (body[a, 0] - body[b, 0]), 0.7, 1)
        square = ((shown[:, None] - wanted) / sigma) ** 2
        cost += sure[:, None] * square / (1 + square / 6) / 2
    return cost


def _face_cost(seen: Sighting) -> Float:
    """(F, Y): how badly the confidences of nose, eyes and ears fit what each yaw shows."""
    towards = np.cos(_YAWS)[:, None] * _FACE_NORMALS[:, 2]
    towards = towards - np.sin(_YAWS)[:, None] * _FACE_NORMALS[:, 0]
    visible = 1 / (1 + np.exp(-8 * (towards + 0.3)))  # (Y, 5)
    known = seen.weight.max(1, keepdims=True) > 0
    return np.asarray(2 * known * ((seen.weight[:, None, :5] - visible) ** 2).sum(-1))


def _bend_cost(seen: Sighting, zoom: Float) -> Float:
    """(F, Y): knees point to where somebody faces, elbows away from it."""
    cost = np.zeros((len(zoom), len(_YAWS)))
    for upper, middle, lower, way in _BENDS:
        chord = seen.keypoints[:, lower] - seen.keypoints[:, upper]
        bend = seen.keypoints[:, middle] - seen.keypoints[:, upper]
        twice_area = bend[:, 0] * chord[:, 1] - bend[:, 1] * chord[:, 0]
        # m; positive where the joint lies to the image's right of a limb that hangs down.
        offset = twice_area / (np.linalg.norm(chord, axis=-1) + 1e-6) / zoom
        sure = seen.weight[:, [upper, middle, lower]].min(1)
        cost -= (0.7 * sure * np.clip(way * offset / 0.1, -1, 1))[:, None] * np.sin(_YAWS)
    return cost


def _cheapest(cost: Float, change: Float) -> Ints:
    """The states (F,) with the least sum of cost (F, S) and change ((F - 1,) S, S)."""
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


def _bridged(values: Float, fallback: Float) -> Float:
    """values (n, ...) with NaN rows filled linearly from their neighbours; fallback if all are."""
    known = np.flatnonzero(np.isfinite(values).reshape(len(values), -1).all(1))
    if len(known) == 0:
        return fallback
    columns = values.reshape(len(values), -1).T
    at = np.arange(len(values))
    return np.stack([np.interp(at, known, c[known]) for c in columns], 1).reshape(values.shape)
