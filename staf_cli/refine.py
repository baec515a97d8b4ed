"""Fit a person's parameters to the detector's 2D keypoints, over a whole track at once.

The fit is a maximum a posteriori estimate in plain units: each term is a squared deviation
over the deviation that is usual (`*_SIGMA`), and Adam looks for the motion whose sum over the
frames is smallest. No surface is skinned: a keypoint is a point fixed in one joint's frame.

1. Where the start does not lie on the keypoints (an untrained network's mean pose), the facing
   direction is found first (`_facing`) and the limbs start from a relaxed pose.
2. Depth starts from the limbs' length in the image (`_start_depth`).
3. `_fit` moves everything together while the robust term narrows: a wrist that is far off in
   the beginning is still pulled, one that no motion explains is let go in the end.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, percentile_filter
from torch import Tensor

from staf_cli.body import Body
from staf_cli.body_format import JOINTS, SMPL_PARENTS
from staf_cli.geometry import axis_angle_to_matrix, project
from staf_cli.people import move, rotations
from staf_cli.records import Float, Person, Track

STEPS = 200
CHUNK = 2000  # frames whose graph is in memory at a time
LEAST_CONFIDENCE = 0.2  # a keypoint below it is a guess
GOOD_START = 0.05  # sides of the box: a start whose usual 2D error is below keeps its facing

# The joint in whose frame each COCO keypoint is fixed.
ANCHORS = (15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 0, 0, 4, 5, 7, 8)
# Face keypoints in the head's frame, m, for a body that does not say where its own are.
FACE = ((0, 0, 0.12), (0.03, 0.04, 0.09), (-0.03, 0.04, 0.09), (0.08, 0.03, 0), (-0.08, 0.03, 0))
FACE_NORMALS = ((0, 0, 1), (0.35, 0, 0.94), (-0.35, 0, 0.94), (0.98, 0, 0.2), (-0.98, 0, 0.2))

# How far off a detected keypoint usually is, in sides of the person's box; COCO's order.
KEYPOINT_SIGMA = 0.01 * np.array(
    [1, 1, 1, 1.2, 1.2, 1.4, 1.4, 1.2, 1.2, 1.2, 1.2, 2, 2] + [1.4] * 4
)
ROBUST_WIDTH = (40.0, 8.0)  # Geman-McClure's width, in sigmas: first, last

# Rotation vectors, radians, of the left side and the middle: rest, usual deviation, lowest, highest.
# T-pose frames: x left, y up, z forward. The right side is the mirror image: (x, -y, -z).
_SPINE = ((0.0, 0, 0), (0.15, 0.1, 0.1), (-0.4, -0.4, -0.4), (0.6, 0.4, 0.4))
LIMITS = {
    1: ((-0.15, 0, 0.0), (0.5, 0.25, 0.25), (-2.3, -0.8, -0.6), (0.6, 0.9, 1.3)),  # hip
    4: ((0.25, 0, 0), (0.6, 0.06, 0.05), (0, -0.15, -0.1), (2.6, 0.15, 0.1)),  # knee
    7: ((0, 0, 0), (0.25, 0.15, 0.12), (-0.7, -0.4, -0.4), (0.9, 0.4, 0.4)),  # ankle
    10: ((0, 0, 0), (0.05, 0.02, 0.02), (-0.2, -0.05, -0.05), (0.4, 0.05, 0.05)),  # toes
    3: _SPINE,
    6: _SPINE,
    9: _SPINE,
    12: ((0, 0, 0), (0.2, 0.25, 0.15), (-0.6, -0.8, -0.4), (0.6, 0.8, 0.4)),  # neck
    15: ((0, 0, 0), (0.2, 0.25, 0.15), (-0.6, -0.8, -0.4), (0.6, 0.8, 0.4)),  # head
    13: ((0, 0, -0.05), (0.1, 0.15, 0.15), (-0.2, -0.4, -0.3), (0.2, 0.3, 0.6)),  # collar
    16: ((0.15, -0.3, -1.0), (0.5, 0.5, 0.6), (-1.8, -2.0, -1.6), (1.5, 0.9, 1.4)),  # shoulder
    18: ((0, -0.6, 0), (0.3, 0.6, 0.15), (-0.8, -2.6, -0.4), (0.8, 0, 0.4)),  # elbow
    20: ((0, 0, 0), (0.2, 0.15, 0.2), (-0.8, -0.5, -0.8), (0.8, 0.5, 0.8)),  # wrist
    22: ((0, 0, 0), (0.05, 0.05, 0.05), (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)),  # hand
}
RIGHT_OF_LEFT = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21, 22: 23}

# Usual accelerations of the 24 joints relative to the pelvis, m/s^2; the pelvis' own is first.
ACCELERATION_SIGMA = np.array(
    [25, 12, 12, 8, 40, 40, 12, 80, 80, 16, 90, 90, 20, 16, 16, 24, 24, 24, 60, 60, 100, 100, 110, 110], np.float32
)
ROUGHNESS = 1.5  # sigmas from which an acceleration costs in proportion, not squared
DEPTH_STIFFNESS = 2.0  # how much smaller the accelerations along the line of sight are taken
SPIN_SIGMA = 40.0  # rad/s^2, every joint's own rotation
START_SIGMA = 0.3  # rad, m: how far off a good start usually is
BETAS_SIGMA = 1.0
LEAN_SIGMA = torch.tensor([0.1, 0.15])  # m of depth: neck from pelvis, feet from the trunk

YAWS = 36
TURNING = 1.5  # cost of one radian of turning


@dataclass(frozen=True)
class _Skeleton:
    """A body reduced to its joints and keypoints in the T-pose: what each beta adds to them."""

    joints: Tensor  # (24, 3) m
    joint_dirs: Tensor  # (24, 3, 10) m per unit of beta
    offsets: Tensor  # (17, 3) m, keypoints minus the joints they are fixed to
    offset_dirs: Tensor  # (17, 3, 10)

    def pose(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """rotmats (F, 24, 3, 3), betas (10,) -> joints (F, 24, 3), keypoints (F, 17, 3), m."""
        rest = self.joints + self.joint_dirs @ betas
        frames: list[Tensor] = [rotmats[:, 0]]
        places: list[Tensor] = [rest[0].expand(len(rotmats), 3)]
        for joint in range(1, JOINTS):
            parent = SMPL_PARENTS[joint]
            frames.append(frames[parent] @ rotmats[:, joint])
            places.append(places[parent] + frames[parent] @ (rest[joint] - rest[parent]))
        joints = torch.stack(places, 1)
        anchor_frames = torch.stack([frames[a] for a in ANCHORS], 1)
        offsets = self.offsets + self.offset_dirs @ betas
        return joints, joints[:, ANCHORS] + (anchor_frames @ offsets[..., None])[..., 0]


@dataclass(frozen=True)
class _Evidence:
    """What the track says, as tensors; F frames, all runs one after the other."""

    keypoints: Tensor  # (F, 17, 2) px
    weight: Tensor  # (F, 17) confidence, 0 where missing
    size: Tensor  # (F,) px, longer side of the box
    step: Tensor  # (F - 1,) s to the next frame
    joined: Tensor  # (F - 1,) bool: the next frame follows without a gap
    focal: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class _Motion:
    """The unknowns of the fit, and the only place that knows how they are written."""

    root: Tensor  # (F, 3, 3) where the pelvis' rotation starts
    turn: Tensor  # (F, 3) rad, rotation vector applied before it
    angles: Tensor  # (F, 23, 3) rad, rotation vectors of the other joints
    ray: Tensor  # (F, 2) x / z and y / z of the translation
    log_depth: Tensor  # (F,) ln of its z in metres
    betas: Tensor  # (10,)

    def rows(self, rows: slice) -> "_Motion":
        return _Motion(
            self.root[rows],
            self.turn[rows],
            self.angles[rows],
            self.ray[rows],
            self.log_depth[rows],
            self.betas,
        )

    @property
    def rotmats(self) -> Tensor:
        """(F, 24, 3, 3)"""
        root = self.root @ axis_angle_to_matrix(self.turn)
        return torch.cat([root[:, None], axis_angle_to_matrix(self.angles)], 1)

    @property
    def trans(self) -> Tensor:
        """(F, 3) m, camera frame."""
        z = self.log_depth.exp()[:, None]
        return torch.cat([self.ray * z, z], 1)


@dataclass(frozen=True)
class _Prior:
    """What is held likely before any keypoint is seen."""

    rest: Tensor  # (F or 1, 23, 3) rad
    rest_sigma: Tensor  # (23, 3) rad
    lowest: Tensor  # (23, 3) rad
    highest: Tensor  # (23, 3) rad
    turn_sigma: float  # rad, of the pelvis
    depth_sigma: float  # of ln z


def refine(person: Person, track: Track, body: Body) -> Person:
    """Move a person onto the track's keypoints; start from its own parameters.

    person and track: the same F frames. The result has one shape for the whole track, smooth
    motion within each run of frames (never across a gap) and joints within LIMITS. Where the
    fit is no better than the start, the start itself comes back.
    """
    skeleton = _skeleton(body)
    evidence = _evidence(person, track)
    if not evidence.weight.any():
        return person
    start = _as_motion(person)
    rest = _rest_keypoints(skeleton)
    evidence = _sided(evidence, _zoom(rest, evidence))
    if _usual_error(skeleton, start, evidence) < GOOD_START:
        prior = _near(start)
    else:
        prior = _relaxed()
        start = _found(skeleton, start, evidence, prior)
    fitted = _fit(skeleton, start, evidence, prior)
    with torch.no_grad():
        refined = move(
            person, body, fitted.rotmats, fitted.betas.expand(len(person.frame), -1), fitted.trans
        )
    before = _usual_error(skeleton, _as_motion(person), evidence)
    after = _usual_error(skeleton, fitted, evidence)
    return refined if after < before else person


def _skeleton(body: Body) -> _Skeleton:
    arrays = body.arrays
    joints = arrays.J_regressor @ arrays.v_template
    joint_dirs = np.einsum("jv,vck->jck", arrays.J_regressor, arrays.shapedirs)
    anchors = np.array(ANCHORS)
    if arrays.coco17_regressor is None:
        offsets = np.zeros((17, 3), np.float32)
        offsets[:5] = FACE
        hips = np.array([1, 2])
        offsets[11:13] = joints[hips] - joints[0]
        offset_dirs = np.zeros((17, 3, joint_dirs.shape[-1]), np.float32)
        offset_dirs[11:13] = joint_dirs[hips] - joint_dirs[0]
    else:
        regressor = arrays.coco17_regressor
        offsets = regressor @ arrays.v_template - joints[anchors]
        offset_dirs = np.einsum("kv,vcb->kcb", regressor, arrays.shapedirs) - joint_dirs[anchors]
    return _Skeleton(*map(torch.from_numpy, (joints, joint_dirs, offsets, offset_dirs)))


def _evidence(person: Person, track: Track) -> _Evidence:
    confidence = track.kp2d[..., 2]
    width, height = person.image_size
    return _Evidence(
        keypoints=torch.from_numpy(track.kp2d[..., :2]).float(),
        weight=torch.from_numpy(np.where(confidence < LEAST_CONFIDENCE, 0, confidence)).float(),
        size=torch.from_numpy((track.box[:, 2:] - track.box[:, :2]).max(-1)).float().clamp(min=1),
        step=torch.from_numpy(np.diff(track.time)).float().clamp(min=1e-3),
        joined=torch.from_numpy(np.diff(track.frame) == 1),
        focal=person.focal_length,
        centre=(width / 2, height / 2),
    )


def _as_motion(person: Person) -> _Motion:
    rotmats = rotations(person)
    trans = torch.from_numpy(person.trans).float()
    z = trans[:, 2].clamp(min=0.1)
    return _Motion(
        root=rotmats[:, 0],
        turn=torch.zeros(len(trans), 3),
        angles=torch.from_numpy(person.poses).float().reshape(-1, 24, 3)[:, 1:],
        ray=trans[:, :2] / z[:, None],
        log_depth=z.log(),
        betas=torch.from_numpy(np.median(person.betas, 0)).float(),
    )


def _limits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rest, usual deviation, lowest and highest rotation vector of the joints 1..23: (23, 3)."""
    table = torch.zeros(JOINTS, 4, 3)
    for left, values in LIMITS.items():
        table[left] = torch.tensor(values)
        if left in RIGHT_OF_LEFT:
            rest, sigma, low, high = table[left] * torch.tensor([1.0, -1.0, -1.0])
            right = torch.stack(
                [rest, sigma.abs(), torch.minimum(low, high), torch.maximum(low, high)]
            )
            table[RIGHT_OF_LEFT[left]] = right
    return tuple(table[1:].unbind(1))


def _relaxed() -> _Prior:
    rest, sigma, low, high = _limits()
    return _Prior(rest[None], sigma, low, high, turn_sigma=1.0, depth_sigma=0.3)


def _near(start: _Motion) -> _Prior:
    _, sigma, low, high = _limits()
    return _Prior(start.angles, sigma.clamp(max=START_SIGMA), low, high, START_SIGMA, 0.1)


def _projected(keypoints: Tensor, trans: Tensor, evidence: _Evidence) -> Tensor:
    points = keypoints + trans[:, None]
    points = torch.cat([points[..., :2], points[..., 2:].clamp(min=0.1)], -1)
    return project(points, evidence.focal, evidence.centre)


def _usual_error(skeleton: _Skeleton, motion: _Motion, evidence: _Evidence) -> float:
    """Weighted mean 2D error over the keypoints, in sides of the box; large ones count as 0.2."""
    with torch.no_grad():
        _, keypoints = skeleton.pose(motion.rotmats, motion.betas)
        off = _projected(keypoints, motion.trans, evidence) - evidence.keypoints
        error = (off.norm(dim=-1) / evidence.size[:, None]).nan_to_num(1.0).clamp(max=0.2)
        return float((error * evidence.weight).sum() / evidence.weight.sum())


def _fit(
    skeleton: _Skeleton, start: _Motion, evidence: _Evidence, prior: _Prior, steps: int = STEPS
) -> _Motion:
    """Adam from a start, every frame at once; limits are kept after every step."""
    turn, ray, log_depth, betas = (
        x.clone().requires_grad_() for x in (start.turn, start.ray, start.log_depth, start.betas)
    )
    angles = start.angles.clamp(prior.lowest, prior.highest).requires_grad_()
    motion = replace(start, turn=turn, angles=angles, ray=ray, log_depth=log_depth, betas=betas)
    pixel = float((evidence.size / evidence.focal).median())  # the ray's size of a box
    adam = torch.optim.Adam(
        [
            {"params": [turn, angles], "lr": 0.05},
            {"params": [ray], "lr": 0.02 * pixel},
            {"params": [log_depth, betas], "lr": 0.02},
        ],
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: 0.02 + 0.98 * math.cos(0.5 * math.pi * step / steps) ** 2
    )
    still = _still_feet(evidence)
    first, last = ROBUST_WIDTH
    for step in range(steps):
        width = last * (first / last) ** max(0.0, 1 - step / (0.6 * steps))
        adam.zero_grad()
        for rows, own in _chunks(len(start.root)):
            _energy(skeleton, motion, start, evidence, prior, still, width, rows, own).backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            angles.clamp_(prior.lowest, prior.highest)
    return replace(
        motion,
        **{n: getattr(motion, n).detach() for n in ("turn", "angles", "ray", "log_depth", "betas")},
    )


def _chunks(frames: int) -> Iterator[tuple[slice, int]]:
    """Rows to be seen together, and how many of them a chunk owns: it sees two more if it can."""
    for first in range(0, frames, CHUNK):
        yield slice(first, min(first + CHUNK + 2, frames)), min(CHUNK, frames - first)


def _energy(
    skeleton: _Skeleton,
    motion: _Motion,
    start: _Motion,
    evidence: _Evidence,
    prior: _Prior,
    still: Tensor,
    width: float,
    rows: slice,
    own: int,
) -> Tensor:
    """Minus the log probability of a chunk's own frames, up to a constant."""
    part = motion.rows(rows)
    begin = start.rows(rows)
    rotmats, trans = part.rotmats, part.trans
    joints, keypoints = skeleton.pose(rotmats, motion.betas)

    sigma = torch.from_numpy(KEYPOINT_SIGMA).float()
    size = evidence.size[rows, None]
    off = (_projected(keypoints, trans, evidence) - evidence.keypoints[rows]) / (size * sigma)[
        ..., None
    ]
    square = (off * off).sum(-1)
    robust = square * width**2 / (square + width**2)
    energy = 0.5 * (evidence.weight[rows] * robust)[:own].sum()

    rest = prior.rest if len(prior.rest) == 1 else prior.rest[rows]
    energy = energy + 0.5 * ((part.angles - rest) / prior.rest_sigma)[:own].square().sum()
    energy = energy + 0.5 * (part.turn / prior.turn_sigma)[:own].square().sum()
    energy = (
        energy + 0.5 * ((part.log_depth - begin.log_depth) / prior.depth_sigma)[:own].square().sum()
    )
    drift = (part.ray - begin.ray) * evidence.focal / size / 0.3
    energy = energy + 0.5 * drift[:own].square().sum()
    energy = energy + 0.3 * own * (motion.betas / BETAS_SIGMA).square().sum()

    z = joints[..., 2]
    feet_z, neck_z = z[:, [7, 8]].mean(1), z[:, 12]
    lean = torch.stack([neck_z - z[:, 0], feet_z - 0.5 * (z[:, 0] + neck_z)], 1) / LEAN_SIGMA
    energy = energy + 2.25 * ((1 + lean.square() / 2.25).sqrt() - 1)[:own].sum()

    step = evidence.step[rows.start : rows.stop - 1]
    joined = evidence.joined[rows.start : rows.stop - 1]
    if len(step) > 1:
        pelvis = joints[:, :1] + trans[:, None]
        places = torch.cat([pelvis, joints[:, 1:] - joints[:, :1]], 1)
        wanted = torch.from_numpy(ACCELERATION_SIGMA)[:, None] / torch.tensor(
            [1, 1, DEPTH_STIFFNESS]
        )
        both = joined[1:] & joined[:-1]
        span = (step[1:] + step[:-1]) / 2
        weight = (both * span * 30)[:own, None]
        shake = (_acceleration(places, step, span) / wanted).square().sum(-1)[:own]
        energy = energy + (weight * ROUGHNESS**2 * ((1 + shake / ROUGHNESS**2).sqrt() - 1)).sum()
        spin = _acceleration(part.angles, step, span) / SPIN_SIGMA
        energy = energy + 0.5 * (weight * spin.square().sum(-1)[:own]).sum()
        feet = joints[:, [7, 8, 10, 11]] + trans[:, None]
        slide = (feet[1:] - feet[:-1]) / step[:, None, None] / 0.15
        slide = slide.square().sum(-1)
        stay = still[rows.start : rows.stop - 1].repeat(1, 2)
        energy = energy + 0.5 * (stay * slide / (1 + slide / 9))[:own].sum()
    return energy


def _rows(evidence: _Evidence, rows: slice) -> _Evidence:
    return evidence


def _acceleration(x: Tensor, step: Tensor, span: Tensor) -> Tensor:
    """Second differences of (F, ...) over uneven steps, for the F - 2 inner frames."""
    shape = (-1, *[1] * (x.ndim - 1))
    speed = (x[1:] - x[:-1]) / step.reshape(shape)
    return (speed[1:] - speed[:-1]) / span.reshape(shape)


def _still_feet(evidence: _Evidence) -> Tensor:
    """How surely each ankle keypoint stands still until the next frame, (F - 1, 2) in [0, 1]."""
    ankles, weight = evidence.keypoints[:, 15:], evidence.weight[:, 15:]
    smooth = _running_mean(ankles, weight, 2)
    speed = (
        (smooth[1:] - smooth[:-1]).norm(dim=-1) / evidence.size[:-1, None] / evidence.step[:, None]
    )
    sure = torch.minimum(weight[1:], weight[:-1]) * evidence.joined[:, None]
    return sure * torch.exp(-((1.7 * speed / 0.4) ** 2))


def _running_mean(x: Tensor, weight: Tensor, reach: int) -> Tensor:
    """Weighted mean of x (F, K, C) with weights (F, K) over 2 reach + 1 frames."""
    total = torch.cat([x * weight[..., None], weight[..., None]], -1)
    kernel = torch.ones(1, 1, 2 * reach + 1)
    flat = total.flatten(1).T[:, None]
    summed = torch.nn.functional.conv1d(flat, kernel, padding=reach)[:, 0].T.reshape(total.shape)
    return summed[..., :-1] / summed[..., -1:].clamp(min=1e-6)


# Pairs of keypoints whose distance is a length of the body.
LIMBS = (
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
)


def _found(skeleton: _Skeleton, start: _Motion, evidence: _Evidence, prior: _Prior) -> _Motion:
    """A relaxed person of the body's mean shape, placed and turned as the keypoints say."""
    frames = len(start.root)
    angles = prior.rest.expand(frames, -1, -1)
    body = _rest_keypoints(skeleton)
    keypoints = evidence.keypoints.numpy().astype(np.float64)
    weight = evidence.weight.numpy().astype(np.float64)
    runs = _runs(evidence)

    zoom = _zoom(body, evidence)  # px per metre
    middle, roll = _torso(body, keypoints, weight, evidence, runs, zoom)
    yaw = _facing(body, keypoints, weight, middle, roll, zoom, evidence, runs)
    z = evidence.focal / zoom
    ray = (middle - np.array(evidence.centre)) / evidence.focal
    bearing = np.arctan(ray[:, 0])
    root = (
        _about("y", bearing)
        @ _about("z", roll)
        @ _about("x", np.full(frames, np.pi))
        @ _about("y", yaw)
    )
    return _Motion(
        root=torch.from_numpy(root).float(),
        turn=torch.zeros(frames, 3),
        angles=angles.clone(),
        ray=torch.from_numpy(ray).float(),
        log_depth=torch.from_numpy(np.log(z)).float(),
        betas=torch.zeros_like(start.betas),
    )


def _rest_keypoints(skeleton: _Skeleton) -> Float:
    """The keypoints (17, 3) of the relaxed body of mean shape, m."""
    rotmats = torch.cat([torch.eye(3)[None, None], axis_angle_to_matrix(_relaxed().rest)], 1)
    return skeleton.pose(rotmats, torch.zeros(10))[1][0].double().numpy()


def _runs(evidence: _Evidence) -> list[slice]:
    cuts = (np.flatnonzero(~evidence.joined.numpy()) + 1).tolist()
    edges = [0, *cuts, len(evidence.size)]
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _about(axis: str, angle: Float) -> Float:
    """Rotations (..., 3, 3) about one axis."""
    vector = np.zeros((*angle.shape, 3))
    vector[..., "xyz".index(axis)] = angle
    return axis_angle_to_matrix(torch.from_numpy(vector)).numpy()


SIDES = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
GROUPS = (tuple(range(1, 17)), (7, 8, 9, 10), (11, 12, 13, 14, 15, 16))


def _sided(evidence: _Evidence, zoom: Float) -> _Evidence:
    """The same evidence with left and right exchanged back where the detector took one for the other.

    A detector sees somebody's front for the back, or one leg for the other, for single frames;
    then all of the keypoints concerned jump. The path of exchanges with the least jumping is found
    by dynamic programming, for the whole body first, then for the arms and for the legs.
    """
    both = (
        torch.cat([evidence.keypoints, evidence.weight[..., None]], -1).numpy().astype(np.float64)
    )
    dt, joined = evidence.step.numpy(), evidence.joined.numpy()
    for group in GROUPS:
        columns = np.array(group)
        swapped = both.copy()
        swapped[:, columns] = both[:, SIDES[columns]]
        options = np.stack([both, swapped], 1)[:, :, columns]  # (F, 2, K, 3)
        jump = options[1:, None] - options[:-1, :, None]  # (F - 1, before, after, K, 3)
        sure = np.minimum(options[1:, None, :, :, 2], options[:-1, :, None, :, 2])
        square = (jump[..., :2] ** 2).sum(-1) / (0.1 * zoom[1:, None, None, None]) ** 2
        change = 0.5 * (sure * np.minimum(square, 9)).sum(-1)
        change[~joined] = 0
        state = _cheapest(np.tile([0.0, 0.5], (len(both), 1)), change)
        both = np.where((state == 1)[:, None, None], swapped, both)
    return replace(
        evidence,
        keypoints=torch.from_numpy(both[..., :2]).float(),
        weight=torch.from_numpy(both[..., 2]).float(),
    )


def _zoom(body: Float, evidence: _Evidence) -> Float:
    """Pixels per metre at the person, (F,).

    A limb is never longer in the image than in space, so the longest of them, relative to
    the body's own, show the scale whatever the pose is.
    """
    keypoints, weight = evidence.keypoints.numpy(), evidence.weight.numpy()
    size, runs = evidence.size.numpy(), _runs(evidence)
    dt = float(evidence.step.median()) if len(evidence.step) else 1.0
    a, b = np.array(LIMBS).T
    length = np.linalg.norm(body[a] - body[b], axis=-1)
    ratio = np.linalg.norm(keypoints[:, a] - keypoints[:, b], axis=-1) / length
    seen = np.minimum(weight[:, a], weight[:, b]) > 0.4
    ratio = np.where(seen, ratio, np.nan)
    enough = seen.sum(1) >= 4
    zoom = np.full(len(size), np.nan)
    zoom[enough] = np.nanquantile(ratio[enough], 0.75, axis=1)
    fallback = np.nanmedian(zoom / size) if enough.any() else 1 / 1.7
    out = np.empty(len(size))
    reach = max(1, round(0.5 / dt))
    for run in runs:
        z = np.log(_bridged(zoom[run], fallback * size[run]))
        z = percentile_filter(z, 60, 2 * reach + 1, mode="nearest")
        out[run] = np.exp(gaussian_filter1d(z, reach / 2, mode="nearest"))
    return out


def _bridged(x, fallback):
    """x with its NaNs filled linearly from their neighbours, or by a fallback where all are."""
    known = np.flatnonzero(np.isfinite(x).reshape(len(x), -1).all(1))
    if len(known) == 0:
        return fallback
    columns = x.reshape(len(x), -1).T
    filled = [np.interp(np.arange(len(x)), known, column[known]) for column in columns]
    return np.stack(filled, 1).reshape(x.shape)


def _torso(body, keypoints, weight, evidence, runs, zoom):
    """The pelvis in the image (F, 2) px, and the torso's angle from upright (F,) rad, clockwise."""
    dt = float(evidence.step.median()) if len(evidence.step) else 1.0
    seen = weight > 0.3
    hips = np.where((seen[:, 11] & seen[:, 12])[:, None], keypoints[:, [11, 12]].mean(1), np.nan)
    neck = np.where((seen[:, 5] & seen[:, 6])[:, None], keypoints[:, [5, 6]].mean(1), np.nan)
    up = neck - hips
    length = np.linalg.norm(body[[5, 6]].mean(0) - body[[11, 12]].mean(0))
    some = np.where(seen[..., None], keypoints, 0).sum(1) / np.maximum(seen.sum(1), 1)[:, None]
    some = np.where(seen.any(1)[:, None], some, np.nan)
    below = some + 0 * hips
    middle, roll = np.empty_like(hips), np.empty(len(hips))
    for run in runs:
        rest = _bridged(some[run], np.tile(evidence.centre, (run.stop - run.start, 1)))
        guess = np.where(
            np.isfinite(neck[run]), neck[run] + zoom[run, None] * np.array([0, length]), rest
        )
        middle[run] = np.where(np.isfinite(hips[run]), hips[run], guess)
        u = up[run] / (length * zoom[run, None])
        u = np.where(np.isfinite(u), u, 0) + np.array([0, -0.15])  # weakly upright
        sigma = 0.1 / dt
        u = gaussian_filter1d(u, sigma, axis=0, mode="nearest")
        roll[run] = np.arctan2(u[:, 0], -u[:, 1])
        middle[run] = gaussian_filter1d(middle[run], sigma, axis=0, mode="nearest")
    return middle, roll


def _facing(body, keypoints, weight, middle, roll, zoom, evidence, runs):
    """Each frame's yaw (F,) rad: 0 faces the camera, +pi/2 the image's right.

    Every frame has a cost for each of YAWS directions; the cheapest path that does not turn
    more than it must is found by dynamic programming.
    """
    yaws = np.arange(YAWS) * (2 * np.pi / YAWS)
    rotated = np.einsum("yab,kb->yka", _about("y", yaws), body)  # x is the image's right
    aside = np.stack([np.cos(roll), np.sin(roll)], 1)  # the torso's right side in the image
    across = ((keypoints - middle[:, None]) * aside[:, None]).sum(-1) / zoom[:, None]  # m
    cost = np.zeros((len(keypoints), YAWS))

    for a, b, sigma in (
        (5, 6, 0.08),
        (11, 12, 0.08),
        (0, 3, 0.05),
        (0, 4, 0.05),
        (3, 4, 0.05),
        (1, 2, 0.03),
        (0, 1, 0.03),
        (0, 2, 0.03),
    ):
        seen = across[:, a] - across[:, b]
        wanted = rotated[:, a, 0] - rotated[:, b, 0]
        if (a, b) in ((5, 6), (11, 12)):
            wide = np.abs(seen[np.minimum(weight[:, a], weight[:, b]) > 0.5])
            usual = np.quantile(wide, 0.9) if len(wide) > 10 else np.inf
            wanted = wanted * np.clip(usual / (body[a, 0] - body[b, 0]), 0.7, 1)
        square = ((seen[:, None] - wanted) / sigma) ** 2
        both = np.minimum(weight[:, a], weight[:, b])[:, None]
        cost += both * square / (1 + square / 6) / 2

    normals = np.einsum("yab,kb->yka", _about("y", yaws), np.array(FACE_NORMALS))
    visible = 1 / (1 + np.exp(-8 * (normals[..., 2] + 0.3)))  # (YAWS, 5)
    confidence = weight[:, None, :5]
    cost += 2 * ((confidence - visible) ** 2).sum(-1)

    # Knees point to where somebody faces, elbows away from it.
    for upper, mid, lower, way in ((11, 13, 15, 1), (12, 14, 16, 1), (5, 7, 9, -1), (6, 8, 10, -1)):
        chord = keypoints[:, lower] - keypoints[:, upper]
        bend = keypoints[:, mid] - keypoints[:, upper]
        length = np.linalg.norm(chord, axis=-1) + 1e-6
        # Positive where the joint lies to the image's right of the limb that hangs down.
        offset = (bend[:, 0] * chord[:, 1] - bend[:, 1] * chord[:, 0]) / length / zoom
        sure = weight[:, [upper, mid, lower]].min(1)
        cost -= (sure * np.clip(way * offset / 0.1, -1, 1) * 0.7)[:, None] * np.sin(yaws)

    yaw = np.empty(len(keypoints))
    turning = TURNING * np.abs((yaws[:, None] - yaws + np.pi) % (2 * np.pi) - np.pi)
    for run in runs:
        path = _cheapest(cost[run], turning)
        dt = float(evidence.step.median()) if len(evidence.step) else 1.0
        unit = np.exp(1j * yaws[path])
        smooth = gaussian_filter1d(unit.real, 0.1 / dt, mode="nearest") + 1j * gaussian_filter1d(
            unit.imag, 0.1 / dt, mode="nearest"
        )
        yaw[run] = np.angle(smooth)
    return yaw


def _cheapest(cost, change):
    """The path (F,) through costs (F, S) with the least sum of cost and change (S, S)."""
    best = cost[0]
    back = []
    for row, step in zip(
        cost[1:], np.broadcast_to(change, (len(cost) - 1, *change.shape[-2:])), strict=True
    ):
        total = best[:, None] + step
        back.append(total.argmin(0))
        best = total.min(0) + row
    path = [int(best.argmin())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])
