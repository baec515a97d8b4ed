"""Where a person is and which way they face, from 2D keypoints alone.

Where the network's answer is far from the keypoints, the fit starts from this instead (refine.py).
Everything here is numpy on the (F, 17) COCO keypoints of one track; `body` is the (17, 3)
keypoints of a relaxed body in its own frame, metres (x left, y up, z forward). Runs of frames
between gaps are treated one by one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, percentile_filter

from staf_cli.core.records import Float
from staf_cli.fitting.keypoints import USUAL_HEIGHT, SeenKeypoints, least_cost_path

CLEAR = 0.4  # confidence above which a keypoint shows a place or a length

_NOSE, _LEFT_EYE, _RIGHT_EYE, _LEFT_EAR, _RIGHT_EAR = range(5)
_SHOULDERS, _HIPS = [5, 6], [11, 12]
_LIMBS = np.array(
    [
        *([5, 6], [5, 11], [6, 12]),  # trunk
        *([5, 7], [7, 9], [6, 8], [8, 10]),  # arms
        *([11, 13], [13, 15], [12, 14], [14, 16]),  # legs
    ]
)
_SCALE_WINDOW = 0.5  # s, on either side, over which the scale is smoothed
_BLUR = 0.1  # s, sigma of the Gaussian that smooths place, roll and yaw
_UPRIGHT = 0.15  # trunk lengths added upwards: decides where a trunk is seen from its end

# Normals of nose, eyes and ears in the head's frame: each is seen from where its normal points.
_FACE_NORMALS = np.array(
    [[0, 0, 1], [0.35, 0, 0.94], [-0.35, 0, 0.94], [0.98, 0, 0.2], [-0.98, 0, 0.2]]
)
# Pairs whose distance across the torso shows the yaw, and its usual error, m.
_WIDTHS = (
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
_BEND_OFFSET = 0.1  # m off the straight limb, from which a bend counts in full

_YAWS = np.arange(36) * (2 * np.pi / 36)  # rad, (Y,) that are compared
_TURN_COST = 2.5  # of a yaw that changes by one radian
_FACE_COST = 2.0  # of a confidence that is wrong by 1
_BEND_COST = 0.7  # of a limb that is clearly bent the wrong way


@dataclass(frozen=True)
class Stance:
    """Where a person is in every frame."""

    pelvis: Float  # (F, 2) px
    scale: Float  # (F,) px per metre at the person
    roll: Float  # (F,) rad, of the torso in the image, clockwise; 0 is upright
    yaw: Float  # (F,) rad; 0 faces the camera, pi / 2 the image's right


def estimate_scale(seen: SeenKeypoints, body: Float) -> Float:
    """Estimate how many pixels a metre at the person has.

    A limb is never longer in the image than in space; so the longest of them, relative to the
    body's own, show the scale whatever the pose is.

    Args:
        seen: F frames.
        body: (17, 3) m, keypoints of the relaxed body.

    Returns:
        (F,) px per metre.
    """
    first, second = _LIMBS.T
    length = np.linalg.norm(body[first] - body[second], axis=-1)
    shown = np.linalg.norm(seen.keypoints[:, first] - seen.keypoints[:, second], axis=-1)
    clear = np.minimum(seen.weight[:, first], seen.weight[:, second]) > CLEAR
    enough = clear.sum(1) >= 4
    scale = np.full(len(shown), np.nan)
    scale[enough] = np.nanquantile(np.where(clear, shown / length, np.nan)[enough], 0.75, axis=1)
    height = np.nanmedian(seen.size / scale) if enough.any() else USUAL_HEIGHT
    half = seen.frames_in(_SCALE_WINDOW)
    smooth = np.empty_like(scale)
    for run in seen.runs:
        log = np.log(np.maximum(_interpolated(scale[run], seen.size[run] / height), 1e-3))
        log = percentile_filter(log, 60, 2 * max(1, round(half)) + 1, mode="nearest")
        smooth[run] = np.exp(gaussian_filter1d(log, half / 2, mode="nearest"))
    return smooth


def estimate_stance(seen: SeenKeypoints, body: Float, scale: Float) -> Stance:
    """Estimate where the person is and which way they face in every frame.

    Args:
        seen: F frames, sides corrected.
        body: (17, 3) m, keypoints of the relaxed body.
        scale: (F,) px per metre, from `estimate_scale`.

    Returns:
        F frames.
    """
    clear = seen.weight > CLEAR
    hips = np.where(
        (clear[:, 11] & clear[:, 12])[:, None], seen.keypoints[:, _HIPS].mean(1), np.nan
    )
    neck = np.where(
        (clear[:, 5] & clear[:, 6])[:, None], seen.keypoints[:, _SHOULDERS].mean(1), np.nan
    )
    length = float(body[_SHOULDERS, 1].mean() - body[_HIPS, 1].mean()) * scale[:, None]
    below = neck + np.concatenate([np.zeros_like(length), length], 1)
    upwards = (neck - hips) / length
    blur = seen.frames_in(_BLUR)
    pelvis, roll = np.empty_like(hips), np.empty(len(hips))
    for run in seen.runs:
        place = np.where(np.isfinite(hips[run]), hips[run], below[run])
        place = _interpolated(place, seen.centre[run])
        pelvis[run] = gaussian_filter1d(place, blur, axis=0, mode="nearest")
        up = np.nan_to_num(upwards[run]) + np.array([0, -_UPRIGHT])
        up = gaussian_filter1d(up, blur, axis=0, mode="nearest")
        roll[run] = np.arctan2(up[:, 0], -up[:, 1])
    yaw = _estimate_yaw(seen, body, scale, pelvis, roll)
    return Stance(pelvis, scale, roll, yaw)


def _estimate_yaw(
    seen: SeenKeypoints, body: Float, scale: Float, pelvis: Float, roll: Float
) -> Float:
    """The yaws (F,) whose costs and whose turning together are least in each run."""
    cost = _width_cost(seen, body, scale, pelvis, roll) + _face_cost(seen) + _bend_cost(seen, scale)
    turn = np.abs((_YAWS[:, None] - _YAWS + np.pi) % (2 * np.pi) - np.pi)
    blur = seen.frames_in(_BLUR)
    yaw = np.empty(len(cost))
    for run in seen.runs:
        path = _YAWS[least_cost_path(cost[run], _TURN_COST * turn)]
        sine, cosine = gaussian_filter1d([np.sin(path), np.cos(path)], blur, mode="nearest")
        yaw[run] = np.arctan2(sine, cosine)
    return yaw


def _width_cost(
    seen: SeenKeypoints, body: Float, scale: Float, pelvis: Float, roll: Float
) -> Float:
    """(F, Y): how badly the widths of shoulders, hips and face fit each yaw."""
    turned = np.cos(_YAWS)[:, None] * body[:, 0] + np.sin(_YAWS)[:, None] * body[:, 2]  # (Y, 17)
    sideways = np.stack([np.cos(roll), np.sin(roll)], 1)[:, None]
    across = ((seen.keypoints - pelvis[:, None]) * sideways).sum(-1) / scale[:, None]  # (F, 17) m
    cost = np.zeros((len(scale), len(_YAWS)))
    for a, b, sigma in _WIDTHS:
        shown, wanted = across[:, a] - across[:, b], turned[:, a] - turned[:, b]
        sure = np.minimum(seen.weight[:, a], seen.weight[:, b])
        if [a, b] in (_SHOULDERS, _HIPS) and (sure > CLEAR).sum() > 10:
            # People differ from the body: the person's own width is the widest that is ever seen.
            widest = np.quantile(np.abs(shown[sure > CLEAR]), 0.9)
            wanted = wanted * np.clip(widest / (body[a, 0] - body[b, 0]), 0.7, 1)
        square = ((shown[:, None] - wanted) / sigma) ** 2
        cost += sure[:, None] * square / (1 + square / 6) / 2
    return cost


def _face_cost(seen: SeenKeypoints) -> Float:
    """(F, Y): how badly the confidences of nose, eyes and ears fit what each yaw shows."""
    towards = np.cos(_YAWS)[:, None] * _FACE_NORMALS[:, 2]
    towards = towards - np.sin(_YAWS)[:, None] * _FACE_NORMALS[:, 0]
    visible = 1 / (1 + np.exp(-8 * (towards + 0.3)))  # (Y, 5)
    known = seen.weight.max(1, keepdims=True) > 0
    return np.asarray(_FACE_COST * known * ((seen.weight[:, None, :5] - visible) ** 2).sum(-1))


def _bend_cost(seen: SeenKeypoints, scale: Float) -> Float:
    """(F, Y): knees point to where the person faces, elbows away from it."""
    cost = np.zeros((len(scale), len(_YAWS)))
    for upper, middle, lower, way in _BENDS:
        chord = seen.keypoints[:, lower] - seen.keypoints[:, upper]
        bend = seen.keypoints[:, middle] - seen.keypoints[:, upper]
        twice_area = bend[:, 0] * chord[:, 1] - bend[:, 1] * chord[:, 0]
        # m; positive where the joint is to the image's right of a limb that hangs down.
        offset = twice_area / (np.linalg.norm(chord, axis=-1) + 1e-6) / scale
        sure = seen.weight[:, [upper, middle, lower]].min(1)
        clear = np.clip(way * offset / _BEND_OFFSET, -1, 1)
        cost -= (_BEND_COST * sure * clear)[:, None] * np.sin(_YAWS)
    return cost


def _interpolated(values: Float, fallback: Float) -> Float:
    """Fill NaN rows of (n, ...) linearly from their neighbours; all of them: the fallback."""
    known = np.flatnonzero(np.isfinite(values).reshape(len(values), -1).all(1))
    if len(known) == 0:
        return fallback
    columns = values.reshape(len(values), -1).T
    at = np.arange(len(values))
    return np.stack([np.interp(at, known, c[known]) for c in columns], 1).reshape(values.shape)
