"""Fit a person's parameters to the detector's 2D keypoints, over a long stretch at once.

The fit is a maximum a posteriori estimate in plain units: each term is a squared deviation
over the deviation that is usual (`*_SIGMA`), and Adam looks for the motion whose sum over all
frames is smallest. No surface is skinned: a keypoint is a point fixed in one joint's frame.

1. Left and right are put back where the detector took one for the other (facing.py).
2. A start that does not lie on the keypoints, such as an untrained network's mean pose, is
   replaced by a relaxed person who stands and faces as the keypoints say (`_standing`).
3. `_fit` moves everything together while the robust term narrows: a wrist that is far off in
   the beginning is still pulled, one that no motion explains is let go in the end.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from staf_cli.body.format import JOINT_COUNT
from staf_cli.body.posing import rotation_matrices, with_parameters
from staf_cli.body.skinning import Body, forward_kinematics
from staf_cli.core.geometry import axis_angle_to_matrix, project
from staf_cli.core.records import STRETCH_FRAMES, Float, Person, Track, join_rows, select_rows
from staf_cli.fitting.facing import Sighting, Stance, find_stance, find_zoom, right_sides, sight

STEPS = 200
RATE = 0.05  # rad, Adam's first step
CONTEXT = 50  # frames on either side of a stretch that are looked at as well
CHUNK = 2000  # frames whose graph is in memory at a time: about 100 MB
GOOD_START = 0.1  # sides of the box: a start with a smaller 2D error keeps its facing

# The joint in whose frame each COCO keypoint is fixed.
ANCHORS = (15, 15, 15, 15, 15, 16, 17, 18, 19, 20, 21, 0, 0, 4, 5, 7, 8)
# Nose, eyes and ears in the head's frame, m, for a body that does not say where its own are.
FACE = ((0, 0, 0.12), (0.03, 0.04, 0.09), (-0.03, 0.04, 0.09), (0.08, 0.03, 0), (-0.08, 0.03, 0))

# How far off a detected keypoint usually is, in sides of the person's box; COCO's order.
KEYPOINT_SIGMA = 0.01 * torch.tensor(
    [1, 1, 1] + [1.2] * 2 + [1.4] * 2 + [1.2] * 4 + [2, 2] + [1.4] * 4
)
ROBUST_WIDTH = (40.0, 8.0)  # Geman-McClure's width, in sigmas: first, last

# Rotation vectors in the joints' T-pose frames (x left, y up, z forward), radians: where the
# joint rests, how far it usually is from there, the lowest and the highest it can be. Left
# side and middle; the right side is the mirror image (x, -y, -z).
_SPINE = ((0, 0, 0), (0.15, 0.1, 0.1), (-0.4, -0.4, -0.4), (0.6, 0.4, 0.4))
_NECK = ((0, 0, 0), (0.2, 0.25, 0.15), (-0.6, -0.8, -0.4), (0.6, 0.8, 0.4))
JOINT_RANGES = {
    1: ((-0.15, 0, 0), (0.5, 0.25, 0.25), (-2.3, -0.8, -0.6), (0.6, 0.9, 1.3)),  # hip
    4: ((0.25, 0, 0), (0.6, 0.06, 0.05), (0, -0.15, -0.1), (2.6, 0.15, 0.1)),  # knee
    7: ((0, 0, 0), (0.25, 0.15, 0.12), (-0.7, -0.4, -0.4), (0.9, 0.4, 0.4)),  # ankle
    10: ((0, 0, 0), (0.05, 0.02, 0.02), (-0.2, -0.05, -0.05), (0.4, 0.05, 0.05)),  # toes
    3: _SPINE,
    6: _SPINE,
    9: _SPINE,
    12: _NECK,
    15: _NECK,
    13: ((0, 0, -0.05), (0.1, 0.15, 0.15), (-0.2, -0.4, -0.3), (0.2, 0.3, 0.6)),  # collar
    16: ((0.15, -0.3, -1.0), (0.5, 0.5, 0.6), (-1.8, -2.0, -1.6), (1.5, 0.9, 1.8)),  # shoulder
    18: ((0, -0.6, 0), (0.3, 0.6, 0.15), (-0.8, -2.6, -0.4), (0.8, 0, 0.4)),  # elbow
    20: ((0, 0, 0), (0.2, 0.15, 0.2), (-0.8, -0.5, -0.8), (0.8, 0.5, 0.8)),  # wrist
    22: ((0, 0, 0), (0.05, 0.05, 0.05), (-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)),  # hand
}
RIGHT = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21, 22: 23}
START_SIGMA = 0.6  # rad, how far off the joints of a good start usually are
START_TURN_SIGMA = 0.3  # rad, how far off its facing
BETAS_SIGMA = 1.0  # counted once a frame, so that a long track does not outvote it

# m of depth: neck from pelvis, ankles from the trunk. People mostly stand on their feet.
LEAN_SIGMA = torch.tensor([0.1, 0.15])

# Accelerations that a fit should not smooth away, m/s^2: the pelvis, then the other 23 joints
# relative to it. Along the line of sight, where nothing is seen, they are held smaller.
ACCELERATION_SIGMA = torch.tensor(
    [
        [12.0, 6, 6, 4, 20, 20, 6, 40],  # pelvis, hips, spine, knees, spine, ankle
        [40, 8, 45, 45, 10, 8, 8, 12],  # ankle, spine, toes, neck, collars, head
        [12, 12, 30, 30, 50, 50, 55, 55],  # shoulders, elbows, wrists, hands
    ]
).flatten()
DEPTH_STIFFNESS = 2.0
ABRUPT = 0.8  # sigmas from which an acceleration costs in proportion, not squared
SPIN_SIGMA = 40.0  # rad/s^2, of every joint in its own frame
FULL_RATE = 30.0  # frames per second at which the smoothness counts once a frame

FOOT_AT_REST = 0.4  # m/s: an ankle keypoint slower than this stands
SLIDE_SIGMA = 0.15  # m/s, of a foot that stands


@dataclass(frozen=True)
class _Skeleton:
    """A body reduced to joints and keypoints in the T-pose, and what each beta adds to them."""

    joints: Tensor  # (24, 3) m
    joint_dirs: Tensor  # (24, 3, 10) m per unit of beta
    offsets: Tensor  # (17, 3) m, keypoints from the joints they are fixed to
    offset_dirs: Tensor  # (17, 3, 10) m per unit of beta

    def pose(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """rotmats (F, 24, 3, 3), betas (10,) -> joints (F, 24, 3), keypoints (F, 17, 3), m."""
        rest = self.joints + self.joint_dirs @ betas
        frames, places = forward_kinematics(rotmats, rest[None])
        offsets = (self.offsets + self.offset_dirs @ betas)[..., None]
        return places, places[:, ANCHORS] + (frames[:, ANCHORS] @ offsets).squeeze(-1)


@dataclass(frozen=True)
class _Motion:
    """The unknowns of the fit for F frames."""

    root: Tensor  # (F, 3, 3) the pelvis' rotation before `turn`
    turn: Tensor  # (F, 3) rad, rotation vector in the pelvis' own frame
    angles: Tensor  # (F, 23, 3) rad, rotation vectors of the other joints
    ray: Tensor  # (F, 2) x / z and y / z of the translation
    log_depth: Tensor  # (F,) ln of its z in metres
    betas: Tensor  # (10,)

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

    def rows(self, rows: slice) -> "_Motion":
        return _Motion(
            self.root[rows],
            self.turn[rows],
            self.angles[rows],
            self.ray[rows],
            self.log_depth[rows],
            self.betas,
        )


@dataclass(frozen=True)
class _Evidence:
    """What the track shows, for F frames, and the camera that saw it."""

    keypoints: Tensor  # (F, 17, 2) px
    weight: Tensor  # (F, 17)
    size: Tensor  # (F,) px, longer side of the box
    step: Tensor  # (F,) s to the next frame
    joined: Tensor  # (F,) 1 where the next frame follows without a gap, 0 elsewhere
    standing: Tensor  # (F, 2) how surely the left and the right foot stands until then
    focal: float  # px
    centre: tuple[float, float]  # px

    def rows(self, rows: slice) -> "_Evidence":
        return replace(
            self,
            keypoints=self.keypoints[rows],
            weight=self.weight[rows],
            size=self.size[rows],
            step=self.step[rows],
            joined=self.joined[rows],
            standing=self.standing[rows],
        )

    def project(self, points: Tensor) -> Tensor:
        """Camera-frame points (..., 3), m, to pixels (..., 2), also from behind the camera."""
        in_front = torch.cat([points[..., :2], points[..., 2:].clamp(min=0.1)], -1)
        return project(in_front, self.focal, self.centre)


@dataclass(frozen=True)
class _Prior:
    """What is held likely before any keypoint is seen."""

    start: _Motion
    rest: Tensor  # (F, 23, 3) rad
    rest_sigma: Tensor  # (23, 3) rad
    turn_sigma: float  # rad, of the pelvis
    depth_sigma: float  # of ln z
    ray_sigma: float  # sides of the box

    def rows(self, rows: slice) -> "_Prior":
        return replace(self, start=self.start.rows(rows), rest=self.rest[rows])


def refine(person: Person, track: Track, body: Body) -> Person:
    """Move a person onto the track's keypoints, starting from the person's own parameters.

    person and track hold the same F frames. The result has one shape for the whole track,
    joints within JOINT_RANGES and smooth motion in each run of frames, never across a gap.
    The person comes back unchanged where no keypoint was seen, and where the fit lies no
    closer to the keypoints than the start did. More than STRETCH_FRAMES frames go through
    `refine_stretches`.
    """
    firsts = range(0, len(person.frame), STRETCH_FRAMES)
    if len(firsts) == 1:
        return _refined(person, track, body, 0)
    stretches = (select_rows(person, slice(first, first + STRETCH_FRAMES)) for first in firsts)
    return join_rows(list(refine_stretches(stretches, track, body)))


def refine_stretches(stretches: Iterable[Person], track: Track, body: Body) -> Iterator[Person]:
    """Refine a track's person in stretches that come and go in order.

    A stretch is fitted together with the CONTEXT frames before it, held as they came out, and
    with those after it, which are fitted again with the next one; so the motion goes on
    smoothly. The shape is that of the first stretch.
    """
    coming = iter(stretches)
    now, first, before = next(coming, None), 0, None
    while now is not None:
        after = next(coming, None)
        ahead = None if after is None else select_rows(after, slice(CONTEXT))
        window = join_rows([one for one in (before, now, ahead) if one is not None])
        held = 0 if before is None else len(before.frame)
        rows = slice(first - held, first - held + len(window.frame))
        refined = _refined(window, select_rows(track, rows), body, held)
        own = select_rows(refined, slice(held, held + len(now.frame)))
        yield own
        before = None if refined is window else select_rows(own, slice(-CONTEXT, None))
        first += len(now.frame)
        now = after


def _refined(person: Person, track: Track, body: Body, held: int) -> Person:
    """The fit of one stretch, whose first `held` frames are finished and stay as they are."""
    skeleton = _skeleton(body)
    relaxed = _relaxed_keypoints(skeleton)
    seen = sight(track, person.image_size)
    if not seen.weight.any():
        return person
    zoom = find_zoom(seen, relaxed)
    seen = right_sides(seen, zoom)
    evidence = _evidence(seen, person)

    start = _motion(person)
    if held:
        start = replace(start, betas=torch.from_numpy(person.betas[0]).float())
    new = slice(held, None)
    before = _error(skeleton, start.rows(new), evidence.rows(new))
    if before < GOOD_START:
        prior = _near(start)
    else:
        prior = _standing(find_stance(seen, relaxed, zoom), evidence)
        prior = _going_on(prior, start, held) if held else prior
    with _one_thread():
        fitted = _fit(skeleton, prior, evidence, held)
    if not _error(skeleton, fitted.rows(new), evidence.rows(new)) < before:
        return person
    betas = fitted.betas.expand(len(person.frame), -1)
    return with_parameters(person, body, fitted.rotmats, betas, fitted.trans)


def _skeleton(body: Body) -> _Skeleton:
    arrays, anchors = body.arrays, np.array(ANCHORS)
    joints = arrays.J_regressor @ arrays.v_template
    joint_dirs = np.einsum("jv,vcb->jcb", arrays.J_regressor, arrays.shapedirs)
    if arrays.coco17_regressor is not None:
        regressor = arrays.coco17_regressor
        keypoints = regressor @ arrays.v_template
        keypoint_dirs = np.einsum("kv,vcb->kcb", regressor, arrays.shapedirs)
    else:
        nearest = anchors.copy()
        nearest[11:13] = 1, 2  # hip keypoints lie on the hips, though the pelvis carries them
        keypoints, keypoint_dirs = joints[nearest], joint_dirs[nearest]
        keypoints[:5] += np.array(FACE, np.float32)
    offsets, offset_dirs = keypoints - joints[anchors], keypoint_dirs - joint_dirs[anchors]
    return _Skeleton(*map(torch.from_numpy, (joints, joint_dirs, offsets, offset_dirs)))


def _evidence(seen: Sighting, person: Person) -> _Evidence:
    keypoints, weight = torch.from_numpy(seen.keypoints), torch.from_numpy(seen.weight)
    size, step = torch.from_numpy(seen.size), torch.from_numpy(seen.step)
    joined = torch.from_numpy(seen.joined).double()
    width, height = person.image_size
    return _Evidence(
        keypoints=keypoints.float(),
        weight=weight.float(),
        size=size.float(),
        step=step.float(),
        joined=joined.float(),
        standing=_standing_feet(keypoints[:, 15:], weight[:, 15:], size, step, joined).float(),
        focal=person.focal_length,
        centre=(width / 2, height / 2),
    )


def _standing_feet(
    ankles: Tensor, weight: Tensor, size: Tensor, step: Tensor, joined: Tensor
) -> Tensor:
    """How surely each ankle (F, 2, 2) px stands still until the next frame: (F, 2) in [0, 1].

    Read from a mean over five frames, because single keypoints jitter faster than feet walk.
    """
    total = torch.cat([ankles * weight[..., None], weight[..., None]], -1)  # (F, 2, 3)
    gaps = (joined[:-1] == 0).nonzero().flatten() + 1
    summed = torch.cat([_sum_of_five(run) for run in torch.tensor_split(total, gaps.tolist())])
    mean = summed[..., :2] / summed[..., 2:].clamp(min=1e-6)
    box_height = 1.7  # m, taken for every box: only slow and fast are told apart
    speed = (mean.roll(-1, 0) - mean).norm(dim=-1) * box_height / (size * step)[:, None]
    sure = torch.minimum(weight, weight.roll(-1, 0)) * joined[:, None]
    return sure * torch.exp(-((speed / FOOT_AT_REST) ** 2))


def _sum_of_five(run: Tensor) -> Tensor:
    """Each frame of (F, 2, 3) added to its two neighbours on either side, as far as there are."""
    kernel = torch.ones(1, 1, 5, dtype=run.dtype)
    summed = torch.nn.functional.conv1d(run.flatten(1).T[:, None], kernel, padding=2)
    return summed[:, 0].T.reshape(run.shape)


def _motion(person: Person) -> _Motion:
    """A person's own parameters as the unknowns of the fit; betas become their median."""
    trans = torch.from_numpy(person.trans).float()
    z = trans[:, 2].clamp(min=0.1)
    return _Motion(
        root=rotation_matrices(person.poses).float()[:, 0],
        turn=torch.zeros(len(trans), 3),
        angles=torch.from_numpy(person.poses).float().reshape(-1, JOINT_COUNT, 3)[:, 1:],
        ray=trans[:, :2] / z[:, None],
        log_depth=z.log(),
        betas=torch.from_numpy(np.median(person.betas, 0)).float(),
    )


def _joint_ranges() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rest, usual deviation, lowest and highest rotation vectors (23, 3) of the joints 1 to 23."""
    table = torch.zeros(JOINT_COUNT, 4, 3)
    mirror = torch.tensor([1.0, -1.0, -1.0])
    for joint, values in JOINT_RANGES.items():
        table[joint] = torch.tensor(values)
        if joint in RIGHT:
            rest, sigma, low, high = table[joint]
            ends = torch.stack([low * mirror, high * mirror])
            table[RIGHT[joint]] = torch.stack([rest * mirror, sigma, *ends.sort(0).values])
    rest, sigma, low, high = table[1:].unbind(1)
    return rest, sigma, low, high


def _relaxed_keypoints(skeleton: _Skeleton) -> Float:
    """The keypoints (17, 3) of the mean body at rest in its own frame, m."""
    rest, *_ = _joint_ranges()
    rotmats = torch.cat([torch.eye(3)[None], axis_angle_to_matrix(rest)])[None]
    _, keypoints = skeleton.pose(rotmats, torch.zeros(skeleton.joint_dirs.shape[-1]))
    return np.asarray(keypoints[0].double().numpy())


def _near(start: _Motion) -> _Prior:
    """The start is right but for small errors."""
    _, sigma, _, _ = _joint_ranges()
    return _Prior(start, start.angles, sigma.clamp(max=START_SIGMA), START_TURN_SIGMA, 0.1, 0.3)


def _standing(stance: Stance, evidence: _Evidence) -> _Prior:
    """A relaxed person of mean shape stands there, with limbs that may be anywhere in range."""
    frames = len(stance.yaw)
    rest, sigma, _, _ = _joint_ranges()
    ray = (stance.pelvis - np.array(evidence.centre)) / evidence.focal
    # The body's y is up and the camera's down: half a turn about x makes it face the camera.
    root = (
        _about(1, np.arctan(ray[:, 0]))  # yaw counts from the line of sight
        @ _about(2, stance.roll)
        @ _about(0, np.full(frames, np.pi))
        @ _about(1, stance.yaw)
    )
    start = _Motion(
        root=root.float(),
        turn=torch.zeros(frames, 3),
        angles=rest.repeat(frames, 1, 1),
        ray=torch.from_numpy(ray).float(),
        log_depth=torch.from_numpy(np.log(evidence.focal / stance.zoom)).float(),
        betas=torch.zeros(10),
    )
    return _Prior(start, start.angles, sigma, turn_sigma=1.0, depth_sigma=0.3, ray_sigma=0.3)


def _going_on(prior: _Prior, done: _Motion, held: int) -> _Prior:
    """The prior with the first `held` frames, and the shape, as they are in what is done."""
    start, was, will = prior.start, slice(held), slice(held, None)
    start = _Motion(
        root=torch.cat([done.root[was], start.root[will]]),
        turn=torch.cat([done.turn[was], start.turn[will]]),
        angles=torch.cat([done.angles[was], start.angles[will]]),
        ray=torch.cat([done.ray[was], start.ray[will]]),
        log_depth=torch.cat([done.log_depth[was], start.log_depth[will]]),
        betas=done.betas,
    )
    return replace(prior, start=start)


def _about(axis: int, angle: Float) -> Tensor:
    """Rotations (F, 3, 3), float64, by angles (F,) about one axis."""
    vectors = torch.zeros(len(angle), 3, dtype=torch.float64)
    vectors[:, axis] = torch.from_numpy(angle)
    return axis_angle_to_matrix(vectors)


def _error(skeleton: _Skeleton, motion: _Motion, evidence: _Evidence) -> float:
    """Mean 2D error in sides of the box, by confidence, outliers as 0.2; inf if not finite."""
    with torch.no_grad():
        _, keypoints = skeleton.pose(motion.rotmats, motion.betas)
        off = evidence.project(keypoints + motion.trans[:, None]) - evidence.keypoints
        if not off.isfinite().all():
            return math.inf
        error = (off.norm(dim=-1) / evidence.size[:, None]).clamp(max=0.2)
        return float((error * evidence.weight).sum() / evidence.weight.sum())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: for tensors this small, others cost more in waiting than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(skeleton: _Skeleton, prior: _Prior, evidence: _Evidence, held: int) -> _Motion:
    """The likeliest motion, by Adam from the prior's start; joints are kept in range throughout.

    Where frames are held, the first so many and the shape stay at the start.
    """
    _, _, lowest, highest = _joint_ranges()
    start = prior.start
    motion = _Motion(
        root=start.root,
        turn=start.turn.clone().requires_grad_(),
        angles=start.angles.clamp(lowest, highest).requires_grad_(),
        ray=start.ray.clone().requires_grad_(),
        log_depth=start.log_depth.clone().requires_grad_(),
        betas=start.betas.clone().requires_grad_(),
    )
    box = float((evidence.size / evidence.focal).median())  # side of the box as a ray
    adam = torch.optim.Adam(
        [
            {"params": [motion.turn, motion.angles], "lr": RATE},
            {"params": [motion.ray], "lr": 0.4 * RATE * box},
            {"params": [motion.log_depth, motion.betas], "lr": 0.4 * RATE},
        ],
        betas=(0.9, 0.99),
    )
    slowing = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: 0.02 + 0.98 * math.cos(0.5 * math.pi * step / STEPS) ** 2
    )
    first, last = ROBUST_WIDTH
    for step in range(STEPS):
        width = last * (first / last) ** max(0.0, 1 - step / (0.6 * STEPS))
        adam.zero_grad()
        for rows, own in _chunks(len(start.root)):
            energy = _energy(
                skeleton, motion.rows(rows), prior.rows(rows), evidence.rows(rows), width, own
            )
            energy.backward()  # type: ignore[no-untyped-call]
        if held:
            _hold(motion, held)
        adam.step()
        slowing.step()
        with torch.no_grad():
            motion.angles.clamp_(lowest, highest)
    return _Motion(
        root=start.root,
        turn=motion.turn.detach(),
        angles=motion.angles.detach(),
        ray=motion.ray.detach(),
        log_depth=motion.log_depth.detach(),
        betas=motion.betas.detach(),
    )


def _hold(motion: _Motion, held: int) -> None:
    """Leave the first frames and the shape without a gradient: Adam then never moves them."""
    for unknown in (motion.turn, motion.angles, motion.ray, motion.log_depth):
        if unknown.grad is not None:
            unknown.grad[:held] = 0
    if motion.betas.grad is not None:
        motion.betas.grad.zero_()


def _chunks(frames: int) -> Iterator[tuple[slice, int]]:
    """Rows to be seen together and how many of them are a chunk's own.

    A chunk sees the two frames after its own, so that the sum over chunks is the whole energy.
    """
    for first in range(0, frames, CHUNK):
        yield slice(first, min(first + CHUNK + 2, frames)), min(CHUNK, frames - first)


def _energy(
    skeleton: _Skeleton,
    motion: _Motion,
    prior: _Prior,
    evidence: _Evidence,
    width: float,
    own: int,
) -> Tensor:
    """Minus the log probability of the first `own` frames, but for a constant."""
    rotmats, trans = motion.rotmats, motion.trans
    joints, keypoints = skeleton.pose(rotmats, motion.betas)
    shape = 0.5 * own * (motion.betas / BETAS_SIGMA).square().sum()
    terms = [
        _off_keypoints(evidence, keypoints + trans[:, None], width),
        _off_prior(prior, motion, evidence),
        _leaning(joints),
        _shaking(evidence, joints, trans, motion.angles),
        _sliding(evidence, joints, trans),
    ]
    return torch.stack([shape, *(term[:own].sum() for term in terms)]).sum()


def _off_keypoints(evidence: _Evidence, keypoints: Tensor, width: float) -> Tensor:
    """(F,): the keypoints (F, 17, 3), m, away from the seen ones, by Geman and McClure."""
    off = evidence.project(keypoints) - evidence.keypoints
    sigma = evidence.size[:, None] * KEYPOINT_SIGMA
    square = (off / sigma[..., None]).square().sum(-1)
    return 0.5 * (evidence.weight * square * width**2 / (square + width**2)).sum(-1)


def _off_prior(prior: _Prior, motion: _Motion, evidence: _Evidence) -> Tensor:
    """(F,): pose and place away from where they are expected."""
    start = prior.start
    box = (evidence.size / evidence.focal)[:, None]
    pose = ((motion.angles - prior.rest) / prior.rest_sigma).flatten(1)
    turn = motion.turn / prior.turn_sigma
    depth = (motion.log_depth - start.log_depth)[:, None] / prior.depth_sigma
    ray = (motion.ray - start.ray) / (box * prior.ray_sigma)
    return 0.5 * torch.cat([pose, turn, depth, ray], 1).square().sum(-1)


def _leaning(joints: Tensor) -> Tensor:
    """(F,): trunk and legs tilted along the line of sight, where keypoints hardly show it."""
    pelvis, ankles, neck = joints[:, 0, 2], joints[:, [7, 8], 2].mean(1), joints[:, 12, 2]
    lean = torch.stack([neck - pelvis, ankles - (neck + pelvis) / 2], 1) / LEAN_SIGMA
    return _soft(lean.square()).sum(-1)


def _shaking(evidence: _Evidence, joints: Tensor, trans: Tensor, angles: Tensor) -> Tensor:
    """(F - 2,): accelerations of the joints in space and of their rotations.

    Joints count relative to the pelvis, so that a moving camera shakes one of them, not all.
    """
    if len(joints) < 3:
        return joints.new_zeros(0)
    pelvis = joints[:, :1] + trans[:, None]
    places = torch.cat([pelvis, joints[:, 1:] - joints[:, :1]], 1)
    step = evidence.step[:-1]
    span = (step[1:] + step[:-1]) / 2
    weight = evidence.joined[:-2] * evidence.joined[1:-1] * span * FULL_RATE
    sigma = ACCELERATION_SIGMA[:, None] / torch.tensor([1, 1, DEPTH_STIFFNESS])
    moved = _soft((_acceleration(places, step, span) / sigma).square().sum(-1), ABRUPT).sum(-1)
    spun = 0.5 * (_acceleration(angles, step, span) / SPIN_SIGMA).flatten(1).square().sum(-1)
    return weight * (moved + spun)


def _sliding(evidence: _Evidence, joints: Tensor, trans: Tensor) -> Tensor:
    """(F - 1,): ankles and toes that move while the ankle's keypoint stands still."""
    ankles_and_toes = joints[:, [7, 8, 10, 11]] + trans[:, None]
    speed = (ankles_and_toes[1:] - ankles_and_toes[:-1]) / evidence.step[:-1, None, None]
    slide = _soft((speed / SLIDE_SIGMA).square().sum(-1))  # (F - 1, 4): left, right, left, right
    return (evidence.standing[:-1].repeat(1, 2) * slide).sum(-1)


def _acceleration(x: Tensor, step: Tensor, span: Tensor) -> Tensor:
    """Second derivatives (F - 2, ...) of x (F, ...) over uneven steps (F - 1,), s."""
    ones = (1,) * (x.ndim - 1)
    speed = (x[1:] - x[:-1]) / step.reshape(-1, *ones)
    return (speed[1:] - speed[:-1]) / span.reshape(-1, *ones)


def _soft(square: Tensor, bend: float = 1.5) -> Tensor:
    """Half of a square that grows in proportion, not squared, from `bend` sigmas on."""
    return bend**2 * ((1 + square / bend**2).sqrt() - 1)
