"""What the landmark network says of a person, as the fit uses it: points in 2D, bones in space.

Single looks take a person's back for the front. Over a whole track the two ways of reading each
look, as it is and with front and back exchanged, are compared with the detector's keypoints and
with the looks before and after.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor

from staf_cli.core.geometry import ray_rotation
from staf_cli.core.records import (
    MIRRORED_LANDMARKS,
    Bools,
    Float,
    Ints,
    LandmarkTrack,
    Person,
    Track,
)
from staf_cli.fitting.bones import BONES_OF_LANDMARKS, bones_of_looks, unit
from staf_cli.fitting.keypoints import LEAST_CONFIDENCE, least_cost_path
from staf_cli.fitting.skeleton import Posed

# The skeleton's points, 17 COCO keypoints and then 24 joints, that landmarks show in the image,
# and how far off a landmark in full view usually is, in sides of the person's box: of 12 synthetic
# clips (tools/measure_keypoint_sigma.py), toes and hands of 480 synthetic frames.
_COCO = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_TOES, _HANDS = ((27, 31), (28, 32)), ((39, 19), (40, 20))  # point, landmark
POINTS = np.array([*enumerate(_COCO), *_TOES, *_HANDS])  # (P, 2) point, landmark
_FACE, _ARMS, _LEGS = [2.0] * 3 + [1.2] * 2, [1.3, 1.3, 1.7, 1.7, 1.6, 1.6], [1.9, 1.9, 1.8, 1.8]
_FEET, _KNUCKLES = [1.4, 1.4, 3, 3], [2, 2]
# So many times these, as the rest of the fit holds limbs back from where they are seen: of
# 1, 0.7 and 0.5 the one with the smallest median error in the image on 64 labelled photos of
# athletes, and the smallest PA-MPJPE on 20 synthetic clips.
POINTS_PREFERRED = 0.7
POINT_SIGMA = POINTS_PREFERRED * 0.01 * torch.tensor([*_FACE, *_ARMS, *_LEGS, *_FEET, *_KNUCKLES])

# sides of the box: a keypoint that is farther from its landmark is wrong. Of 950 such keypoints of
# 320 photos of athletes 0.07 were within 0.1 of the label, and 0.77 of their landmarks.
CONTRADICTED = 0.15
LONGEST_GAP = 0.35  # s between looks, over which landmarks are interpolated
# rad in the image: between two looks that are turned farther, points on straight lines would shrink
# by more than they are usually off (3 % of their distance from the middle).
MOST_TURN = 0.5
BIAS_SECONDS = 0.35  # around a look: how long its bias to one side stays the same
HIDDEN_WEIGHT = 0.2  # of a bone whose end is not visible
_TRUNK = ((5, 11), (6, 12), (11, 23), (12, 24))  # COCO's, landmark's: they show which side is left
# COCO's elbows and wrists, knees and ankles: the landmark of each, all landmarks that go with them.
_LIMBS = (((7, 8, 9, 10), range(13, 23)), ((13, 14, 15, 16), range(25, 33)))
# The COCO keypoint at or next to each landmark: what the detector sees of it.
_SEEN_AS = np.array(
    [0, 1, 1, 1, 2, 2, 2, 3, 4, 0, 0, *range(5, 11), *[9, 10] * 3, *range(11, 17), *[15, 16] * 2]
)
_OFF = 0.04  # sides of the box: a point of the trunk that is so far off costs 1/2
_LARGEST_OFF = 4.0  # squared, in _OFF: one that is farther off costs no more
# Of the detector's sides in those of arms and legs: not enough for a single look to be exchanged.
# 0.15 and 0.5 were as good on 36 synthetic clips, but 0.5 exchanged the legs of a person who sits
# on one of four photos with truth.
_DETECTORS_SIDES = 0.05
# With half of _JUMP and a quarter of _LIMB_COST 36 synthetic clips were as good, but legs that
# whirl were taken for exchanged ones.
_JUMP = 0.2  # sides of the box: a limb's point that moves so far between two looks costs 1/2
_LARGEST_JUMP = 9.0  # squared, in _JUMP
_TURN = 0.5  # rad: a person who turns so far between two looks costs 1/2
_LARGEST_TURN = 9.0  # squared, in _TURN
_EXCHANGE_COST = 0.5  # of a look whose front is taken for the back
_LIMB_COST = 2.0  # of a look whose left arm or leg is taken for the right one


@dataclass(frozen=True)
class LandmarkCue:
    """F frames of a track, float32."""

    points: Tensor  # (F, P, 2) px, see POINTS
    point_weight: Tensor  # (F, P) visibility; 0: not used
    bones: Tensor  # (F, B, 3) unit vectors in the camera frame, see BONES
    bone_weight: Tensor  # (F, B); 0: not used
    root: Tensor  # (F, 3, 3) the pelvis' rotation: what body axes are in the camera frame
    seen: Tensor  # (F,) bool; elsewhere everything else means nothing

    def rows(self, rows: slice) -> "LandmarkCue":
        """Select some of the frames."""
        return replace(
            self,
            points=self.points[rows],
            point_weight=self.point_weight[rows],
            bones=self.bones[rows],
            bone_weight=self.bone_weight[rows],
            root=self.root[rows],
            seen=self.seen[rows],
        )


def looks_within(seen: LandmarkTrack, first: int, last: int) -> LandmarkTrack:
    """Select the looks at a stretch of frames, without their masks.

    Args:
        seen: the looks at the person.
        first: the first frame, index in the video.
        last: the last one.

    Returns:
        Those at these frames and between them.
    """
    rows = slice(*np.searchsorted(seen.frame, [first, last + 1]).tolist())
    return replace(
        seen,
        frame=seen.frame[rows],
        mirrored=seen.mirrored[rows],
        kp2d=seen.kp2d[rows],
        metres=seen.metres[rows],
        score=seen.score[rows],
        region=seen.region[rows],
        mask_row=seen.mask_row[:0],
        mask=seen.mask[:0],
    )


def without_contradicted(track: Track, seen: LandmarkTrack) -> Track:
    """Drop the detector's keypoints that are not where the landmarks are.

    Args:
        track: F frames.
        seen: the looks at the person.

    Returns:
        The track, with a confidence of 0 for those keypoints.
    """
    believed = np.flatnonzero(seen.score > 0)
    if not len(believed):
        return track
    at = np.searchsorted(track.frame, seen.frame[believed])
    looks = _with_steady_limbs(seen.kp2d[believed].astype(np.float64), track, at)
    points, known = _between(looks, at, track, LONGEST_GAP)
    known &= ~_while_turning(looks, at, track)
    reach = CONTRADICTED * (track.box[:, 2:] - track.box[:, :2]).max(1)[:, None]
    coco = np.array(_COCO)
    far = [  # (F, 17), left and right as they are and exchanged: both networks mix them up
        (np.linalg.norm(points[:, order, :2] - track.kp2d[..., :2], axis=-1) > reach)
        & (points[:, order, 2] > LEAST_CONFIDENCE)
        & (track.kp2d[..., 2] >= LEAST_CONFIDENCE)
        for order in (coco, MIRRORED_LANDMARKS[coco])
    ]
    kp2d = track.kp2d.copy()
    limbs = [list(points) for points, _ in _LIMBS]
    for part in ([k for k in range(len(coco)) if k not in limbs[0] + limbs[1]], *limbs):
        one, other = far[0][:, part], far[1][:, part]
        fewer = np.where((one.sum(1) <= other.sum(1))[:, None], one, other)
        kp2d[:, part, 2] = np.where(fewer & known[:, None], 0, kp2d[:, part, 2])
    return replace(track, kp2d=kp2d)


def points_of(posed: Posed) -> Tensor:
    """Select the skeleton's points that landmarks show.

    Args:
        posed: F frames.

    Returns:
        (F, P, 3) m.
    """
    return torch.cat([posed.landmarks, posed.joints], 1)[:, POINTS[:, 0]]


def landmark_cue(seen: LandmarkTrack, track: Track, person: Person) -> LandmarkCue | None:
    """Convert a person's landmarks to what the fit compares with, in every frame of the track.

    Args:
        seen: the looks at the person.
        track: F frames, with the detector's keypoints.
        person: whose camera saw them.

    Returns:
        F frames, interpolated between looks that are not far from each other in time; None where
        no look is believed.
    """
    believed = np.flatnonzero(seen.score > 0)
    if not len(believed):
        return None
    at = np.searchsorted(track.frame, seen.frame[believed])  # rows of the track
    kp2d = seen.kp2d[believed].astype(np.float64)
    metres = seen.metres[believed].astype(np.float64)
    front = _exchanged(kp2d, metres)
    state = _front_or_back(
        np.stack([kp2d, front[0]], 1), np.stack([metres, front[1]], 1), track, at
    )
    other = (state == 1)[:, None, None]
    kp2d, metres = np.where(other, front[0], kp2d), np.where(other, front[1], metres)
    values = np.concatenate([kp2d, metres], -1)  # (L, 33, 6)
    values = _with_steady_limbs(values, track, at)
    values = _without_bias(values, seen.mirrored[believed], at, track)
    region = seen.region[believed].astype(np.float64)
    bones = bones_of_looks(values[..., :3], values[..., 3:], region)  # (L, B, 3)
    bones = unit(_between(_in_camera(bones, region, person), at, track, LONGEST_GAP)[0])
    values[..., 3:] = _in_camera(values[..., 3:], region, person)
    values[..., 2] = _agreed_visibility(values[..., 2], at, track)
    between, known = _between(values, at, track, LONGEST_GAP)
    known &= ~_while_turning(kp2d, at, track)
    hidden = np.where(BONES_OF_LANDMARKS[None] != 0, between[:, None, :, 2], 1).min(-1)  # (F, B)
    visible = between[:, POINTS[:, 1], 2]
    point_weight = np.where(visible > LEAST_CONFIDENCE, visible, 0) * known[:, None]
    bone_weight = np.clip(hidden, HIDDEN_WEIGHT, 1) * known[:, None]
    return LandmarkCue(
        points=_float(between[:, POINTS[:, 1], :2]),
        point_weight=_float(point_weight),
        bones=_float(bones),
        bone_weight=_float(bone_weight),
        root=_float(_root(between[..., 3:])),
        seen=torch.from_numpy(known),
    )


def _float(array: Float) -> Tensor:
    return torch.from_numpy(array).float()


def _exchanged(kp2d: Float, metres: Float) -> tuple[Float, Float]:
    """The same person (L, 33, 3) with front and back exchanged: it looks alike in the image."""
    return kp2d[:, MIRRORED_LANDMARKS], metres[:, MIRRORED_LANDMARKS] * (1, 1, -1)


def _front_or_back(kp2d: Float, metres: Float, track: Track, at: Ints) -> Ints:
    """Which of the two readings (L, 2, 33, 3) of each look is right, over the whole track."""
    box = track.box[at]
    size = np.maximum((box[:, 2:] - box[:, :2]).max(-1), 1)[:, None, None]
    coco, trunk = np.array(_TRUNK).T
    detected = track.kp2d[at][:, None, coco].astype(np.float64)  # (L, 1, 4, 3)
    off = np.linalg.norm(kp2d[:, :, trunk, :2] - detected[..., :2], axis=-1) / (_OFF * size)
    sure = np.where(detected[..., 2] >= LEAST_CONFIDENCE, detected[..., 2], 0)
    cost = 0.5 * (sure * np.minimum(off**2, _LARGEST_OFF)).sum(-1) + [0, _EXCHANGE_COST]
    forward = _root(metres.reshape(-1, *metres.shape[2:]))[..., 2].reshape(-1, 2, 3)
    cosine = np.einsum("fsc,ftc->fst", forward[:-1], forward[1:])
    turn = np.arccos(np.clip(cosine, -1, 1))  # (L - 1, 2, 2)
    change = 0.5 * np.minimum((turn / _TURN) ** 2, _LARGEST_TURN)
    change[np.diff(track.time[at]) > LONGEST_GAP] = 0
    return least_cost_path(cost, change)


def _with_steady_limbs(values: Float, track: Track, at: Ints) -> Float:
    """Values (L, 33, 3 or more) of looks, without exchanged arms and legs."""
    # Both arms, or legs, else end in the middle between where single looks have them. What jumps
    # least from look to look is found, at the sides that the detector mostly calls so.
    box = track.box[at]
    size = np.maximum((box[:, 2:] - box[:, :2]).max(-1), 1)
    far_apart = np.diff(track.time[at]) > LONGEST_GAP
    steady = values.copy()
    for points, landmarks in _LIMBS:
        own, order = np.array(_COCO)[list(points)], np.array(landmarks)
        ways = np.stack([own, MIRRORED_LANDMARKS[own]])  # (2, 4)
        seen = values[:, ways]  # (L, 2, 4, ...)
        detected = track.kp2d[at][:, None, points].astype(np.float64)  # (L, 1, 4, 3)
        off = (
            np.linalg.norm(seen[..., :2] - detected[..., :2], axis=-1)
            / (_OFF * size)[:, None, None]
        )
        sure = np.minimum(detected[..., 2], seen[..., 2])
        cost = _DETECTORS_SIDES * (sure * np.minimum(off**2, _LARGEST_OFF)).sum(-1)
        cost += [0, _LIMB_COST]
        before, after = seen[:-1, :, None], seen[1:, None]  # (L - 1, 2, 2, 4, ...)
        jump = np.linalg.norm((after - before)[..., :2], axis=-1)
        jump /= (_JUMP * size[1:])[:, None, None, None]
        sure = np.minimum(after[..., 2], before[..., 2])
        change = 0.5 * (sure * np.minimum(jump**2, _LARGEST_JUMP)).sum(-1)
        change[far_apart] = 0
        rows = np.flatnonzero(least_cost_path(cost, change) == 1)[:, None]
        steady[rows, order] = values[rows, MIRRORED_LANDMARKS[order]]
    return steady


def _root(metres: Float) -> Float:
    """What the body's axes (left, up, forward) are in the camera frame: (L, 3, 3), columns."""
    shoulders, hips = metres[:, [11, 12]], metres[:, [23, 24]]
    up = unit(shoulders.mean(1) - hips.mean(1))
    left = unit(shoulders[:, 0] - shoulders[:, 1]) + unit(hips[:, 0] - hips[:, 1])
    left = unit(left - (left * up).sum(-1, keepdims=True) * up)
    return np.stack([left, up, np.cross(left, up)], -1)


def _without_bias(values: Float, mirrored: Bools, at: Ints, track: Track) -> Float:
    """Values (L, ...) of looks both ways, freed of what the mirror turns into its opposite."""
    if not mirrored.any() or mirrored.all():
        return values
    gap = 2 * LONGEST_GAP
    plain, in_plain = _between(values[~mirrored], at[~mirrored], track, gap)
    mirror, in_mirror = _between(values[mirrored], at[mirrored], track, gap)
    bias = (plain - mirror)[at] / 2  # (L, ...) of the picture as it is; opposite in the mirror
    known = (in_plain & in_mirror)[at]
    seconds = track.time[at]
    smooth = np.zeros_like(bias)
    for row, looks in enumerate(_around(seconds, seconds, BIAS_SECONDS)):
        if known[looks].any():
            smooth[row] = bias[looks][known[looks]].mean(0)
    freed: Float = values - smooth * np.where(mirrored, -1, 1).reshape(-1, *[1] * (values.ndim - 1))
    return freed


def _agreed_visibility(visible: Float, at: Ints, track: Track) -> Float:
    """Visibilities (L, 33) of looks, lowered where other looks and the detector do not see them."""
    # Of a leg behind a table single looks say that they see it, or all that are not mirrored. Where
    # the detector sees it now and then, the person moves fast, and the looks that see it are right.
    seconds = track.time[at]
    agreed = np.empty_like(visible)
    parts = (_around(seconds, seconds, LONGEST_GAP), _around(seconds, track.time, LONGEST_GAP))
    for row, (looks, frames) in enumerate(zip(*parts, strict=True)):
        detected = track.kp2d[frames][:, _SEEN_AS, 2].max(0)
        agreed[row] = np.maximum(visible[looks].min(0), detected)
    return np.minimum(visible, agreed)


def _around(seconds: Float, time: Float, reach: float) -> Iterator[slice]:
    """Which of some times (F,), ascending, are near each of others (L,)."""
    first = np.searchsorted(time, seconds - reach, "left")
    last = np.searchsorted(time, seconds + reach, "right")
    return (slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True))


def _in_camera(vectors: Float, region: Float, person: Person) -> Float:
    """What was seen in crops (L, N, 3) of these regions, turned into the camera's frame."""
    # The network sees the crop alone: as if its camera looked at the crop's centre.
    width, height = person.image_size
    turn = ray_rotation(region[:, :2], person.focal_length, (width / 2, height / 2))  # (L, 3, 3)
    turned: Float = vectors @ turn.transpose(0, 2, 1)
    return turned


def _between(values: Float, at: Ints, track: Track, gap: float) -> tuple[Float, Bools]:
    """Values (L, ...) of some of a track's rows in all of them (F, ...), and where they hold."""
    time, seconds = track.time, track.time[at]
    columns = values.reshape(len(values), -1).T
    filled = np.stack([np.interp(time, seconds, column) for column in columns], 1)
    after = np.clip(np.searchsorted(seconds, time, "left"), 0, len(at) - 1)
    before = np.clip(np.searchsorted(seconds, time, "right") - 1, 0, len(at) - 1)
    near = (seconds[after] >= time) & (seconds[before] <= time)
    known = near & (seconds[after] - seconds[before] <= gap)
    return filled.reshape(len(time), *values.shape[1:]), known


def _while_turning(kp2d: Float, at: Ints, track: Track) -> Bools:
    """Which rows of the track (F,) are between two looks (L, 33, 3) that are turned far apart."""
    weight = kp2d[..., 2]
    points = kp2d[..., 0] + 1j * kp2d[..., 1]
    middle = (weight * points).sum(1) / np.maximum(weight.sum(1), 1e-6)
    arms = points - middle[:, None]  # (L, 33)
    sure = np.minimum(weight[1:], weight[:-1])
    turn = np.angle((sure * arms[:-1].conj() * arms[1:]).sum(1))  # (L - 1,) rad, of Procrustes
    row = np.arange(len(track.frame))
    gap = np.searchsorted(at, row, "right") - 1  # the look before each row
    inside = (gap >= 0) & (gap < len(at) - 1) & ~np.isin(row, at)
    turning = np.zeros(len(row), bool)
    turning[inside] = np.abs(turn[gap[inside]]) > MOST_TURN
    return turning


def far_turned(one: Tensor, other: Tensor, limit: float) -> Tensor:
    """Tell where two rotations differ by more than a limit, but for flickers of two frames.

    Args:
        one: (F, 3, 3)
        other: (F, 3, 3)
        limit: rad

    Returns:
        (F,) bool.
    """
    trace = (one * other).sum((-2, -1))
    far = ((trace - 1) / 2).clamp(-1, 1).acos() > limit
    return torch.from_numpy(median_filter(far.numpy(), 5, mode="nearest"))
