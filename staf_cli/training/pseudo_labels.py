"""Pseudo-labels: the body fitted to the 2D points of many single people at once.

Photos have 2D labels alone. As in EFT (Joo et al. 2021), which the paper uses for its own photos
(4.1), poses are fitted to them, here by optimisation and not by fine-tuning a network. Energies
are minus log probabilities, as in staf_cli/fitting/energy.py: squared deviations over usual ones.
Since the body's skinning is linear, a point is exactly a mixture of the joints' frames, so no
vertex is computed.

1. Several starts per person: the torso rolled as in the image, facing four ways; upright, tilted
   towards the camera, away from it or not at all; crouching. A short fit from each.
2. The best few are fitted to the end. The best of them is the result; its distance to others that
   explain the points as well is the result's `doubt`.
3. `confidence` rates a fit.

Points are in pixels of a square image around the person, whose side is MARGIN times the longer
side of the person's box. The camera is the network's (`project_to_crop`) for this square.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.body.format import BETAS, JOINT_COUNT
from staf_cli.body.skinning import Body, forward_kinematics
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle, project_to_crop
from staf_cli.fitting.energy import BETAS_SIGMA
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.training.people.pose_prior import PosePrior
from staf_cli.training.samples import MARGIN, PIXELS

YAWS = (0.0, math.pi / 2, math.pi, -math.pi / 2)  # rad; 0 faces the camera
TILTS = (0.0, 0.9, -0.9)  # rad, about the image's horizontal, of an upright torso
SCREENING_STEPS, STEPS = 70, 250
FINALISTS = 4  # starts per person that are fitted to the end
RATE = 0.06  # rad, Adam's first step
ROBUST_WIDTH = (40.0, 6.0)  # Geman-McClure's width, in sigmas: first, last
CHUNK = 8000  # rows whose autograd graph is in memory at a time: about 1 GB

# Usual error of a human label, in sides of the person's box; LSP's order.
LABEL_SIGMA = 0.01 * torch.tensor([2, 2, 2.5, 2.5, 2, 2, 1.8, 1.8, 2, 2, 1.8, 1.8, 2, 2])
START_SIGMA = 0.3  # rad, usual error of the joints of a given estimate

# COCO's; detected hips are lower on clothed people than on the bare body.
DETECTED_SIGMA = 0.01 * torch.tensor(
    [1, 1, 1] + [1.2] * 2 + [1.4] * 2 + [1.2] * 4 + [3.5] * 2 + [1.4] * 4
)
# m of depth: neck from pelvis, ankles from the trunk. Tighter than for a track: perspective makes
# legs look short, as if they leaned, and a single image has no motion that shows the difference.
LEAN_SIGMA = torch.tensor([0.07, 0.1])
LEAN_BEND = 2.0  # sigmas

# Upright with lowered arms: rare in recorded motion, frequent in photos. Mean and usual deviation
# of the joints' angles (rad, as in joint_limits.py: left side and middle).
_UPRIGHT = {
    **dict.fromkeys((1, 7), ((0, 0, 0), (0.15, 0.2, 0.12))),  # hips, ankles
    4: ((0.08, 0, 0), (0.12, 0.05, 0.05)),  # knee
    **dict.fromkeys((3, 6, 9), ((0, 0, 0), (0.1, 0.1, 0.1))),
    **dict.fromkeys((12, 15), ((0, 0, 0), (0.2, 0.25, 0.15))),
    **dict.fromkeys((10, 22), ((0, 0, 0), (0.15, 0.15, 0.15))),
    13: ((0, 0, -0.05), (0.1, 0.15, 0.15)),
    16: ((0.15, -0.3, -1.1), (0.4, 0.4, 0.4)),
    18: ((0, -0.5, 0), (0.3, 0.5, 0.15)),
    20: ((0, 0, 0), (0.2, 0.15, 0.2)),
}

_CROUCHING = {1: -1.5, 4: 1.7, 7: -0.3}  # rad about x: hip, knee, ankle
UPRIGHT_LOG_WEIGHT = 7.0  # of the upright pose against the most frequent recorded one

# Full confidence up to the first number, none from the second on.
ERROR_RANGE = (0.04, 0.065)  # m, mean distance of the points at the person's scale
WORST_RANGE = (0.1, 0.2)  # m, of the second worst labelled point
STRAIN_RANGE = (35.0, 60.0)  # energy of pose and shape
DOUBT_RANGE = (0.04, 0.12)  # m, expected distance of the joints in other explanations
DEPTH_RANGE = (0.7, 1.0)  # spread of the joints along the line of sight over that across it
LEAST_POINTS = 8  # joints that must be seen for any confidence

_ANKLES_TO_NECK = ((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11))
_LIMBS = torch.tensor([*_ANKLES_TO_NECK, (2, 8), (3, 9), (8, 9)])  # pairs of LSP joints
_LIMBS_IN_COCO = [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9]  # LSP's first 12 joints there


@dataclass(frozen=True)
class InitialBodies:
    """An estimate of N people to start from, such as a network's."""

    rotmats: Tensor  # (N, 24, 3, 3), the root in the camera's frame
    betas: Tensor  # (N, 10)


@dataclass(frozen=True)
class FittedBodies:
    """N fitted people, float32; joints and points are those of the body with these parameters."""

    rotmats: Tensor  # (N, 24, 3, 3), the root in the camera's frame
    betas: Tensor  # (N, 10)
    pred_cam: Tensor  # (N, 3) s, tx, ty of the square image, as `project_to_crop` takes them
    energy: Tensor  # (N,) minus log probability, up to a constant
    error: Tensor  # (N,) m, mean 2D distance of the points by weight, at the person's scale
    worst: Tensor  # (N,) m, 2D distance of the second worst point, at the person's scale
    strain: Tensor  # (N,) the part of the energy that pose and shape have
    doubt: Tensor  # (N,) m, expected distance of the joints in other explanations; 0: no other
    depth: Tensor  # (N,) spread of the joints along the line of sight over that across it
    seen: Tensor  # (N,) number of the 12 limb joints that were labelled or detected

    @property
    def poses(self) -> NDArray[np.float32]:
        """The pose as axis-angle (N, 72), rad."""
        return np.asarray(matrix_to_axis_angle(self.rotmats).flatten(1).numpy())


@dataclass(frozen=True)
class LinearPoints:
    """P points of a body as mixtures of its joints' frames: exact for linear skinning."""

    rest: Tensor  # (24, 3) m, joints in the T-pose
    rest_dirs: Tensor  # (24, 3, 10) m per unit of beta
    joint: Tensor  # (K,) int64, a joint that carries a point
    mix: Tensor  # (P, K) 1 where the pair belongs to the point
    share: Tensor  # (K,) the joint's share of the point
    offset: Tensor  # (K, 3) m, share times the point's place in the joint's frame
    offset_dirs: Tensor  # (K, 3, 10) m per unit of beta

    def pose(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose the points.

        Args:
            rotmats: (N, 24, 3, 3) local rotations.
            betas: (N, 10)

        Returns:
            Points (N, P, 3) and joints (N, 24, 3), m.
        """
        rest = self.rest + torch.einsum("jcb,nb->njc", self.rest_dirs, betas)
        frames, joints = forward_kinematics(rotmats, rest)
        offset = self.offset + torch.einsum("kcb,nb->nkc", self.offset_dirs, betas)
        parts = (frames[:, self.joint] @ offset[..., None]).squeeze(-1)
        parts = parts + self.share[:, None] * joints[:, self.joint]
        return self.mix @ parts, joints


def photo_points(body: Body) -> LinearPoints:
    """Build the 31 points of sample sets: LSP's joints, then COCO's keypoints.

    Args:
        body: With linear skinning: no pose correctives.

    Returns:
        The points.

    Raises:
        BodyError: The body lacks their regressors or has pose correctives.
    """
    arrays = body.arrays
    if arrays.lsp14_regressor is None or arrays.coco17_regressor is None or arrays.posedirs.any():
        raise BodyError(f"body {body.name} cannot be fitted to photos; use the open body")
    return linear_points(body, np.concatenate([arrays.lsp14_regressor, arrays.coco17_regressor]))


def linear_points(body: Body, regressor: NDArray[np.float32]) -> LinearPoints:
    """Build points of a body from their vertices.

    Args:
        body: With linear skinning: no pose correctives.
        regressor: (P, V) weights of the vertices in each point.

    Returns:
        The points.
    """
    arrays = body.arrays
    rest = arrays.J_regressor @ arrays.v_template
    rest_dirs = np.einsum("jv,vcb->jcb", arrays.J_regressor, arrays.shapedirs)
    share = regressor @ arrays.weights  # (P, 24)
    point, joint = np.nonzero(share)
    weighted = regressor[point] * arrays.weights[:, joint].T  # (K, V)
    own = share[point, joint]
    offset = weighted @ arrays.v_template - own[:, None] * rest[joint]
    offset_dirs = np.einsum("kv,vcb->kcb", weighted, arrays.shapedirs)
    offset_dirs -= own[:, None, None] * rest_dirs[joint]
    mix = np.zeros((len(regressor), len(point)), np.float32)
    mix[point, np.arange(len(point))] = 1
    return LinearPoints(
        *map(torch.from_numpy, (rest, rest_dirs, joint, mix, own, offset, offset_dirs))
    )


@dataclass(frozen=True)
class _Unknowns:
    """The unknowns of the fit for R rows."""

    root: Tensor  # (R, 3, 3) the pelvis' rotation before `turn`
    turn: Tensor  # (R, 3) rad, rotation vector in the pelvis' own frame
    angles: Tensor  # (R, 23, 3) rad, rotation vectors of the other joints
    betas: Tensor  # (R, 10)
    log_scale: Tensor  # (R,) ln s
    move: Tensor  # (R, 2) tx, ty

    @property
    def rotmats(self) -> Tensor:
        """The pose (R, 24, 3, 3)."""
        root = self.root @ axis_angle_to_matrix(self.turn)
        return torch.cat([root[:, None], axis_angle_to_matrix(self.angles)], 1)

    @property
    def pred_cam(self) -> Tensor:
        """The camera (R, 3)."""
        return torch.cat([self.log_scale.exp()[:, None], self.move], 1)

    def rows(self, rows: Tensor | slice) -> "_Unknowns":
        return _Unknowns(
            self.root[rows],
            self.turn[rows],
            self.angles[rows],
            self.betas[rows],
            self.log_scale[rows],
            self.move[rows],
        )


@dataclass(frozen=True)
class _Model:
    """The body's points and the prior of its poses."""

    points: LinearPoints
    prior: PosePrior


@dataclass(frozen=True)
class _Evidence:
    """The observations of R rows, and the estimate to stay near, if there is one."""

    points: Tensor  # (R, 31, 2) the square's [-1, 1] coordinates
    weight: Tensor  # (R, 31)
    near: Tensor | None  # (R, 23, 3) rad, rotation vectors of the estimate's joints

    def rows(self, rows: Tensor | slice) -> "_Evidence":
        near = None if self.near is None else self.near[rows]
        return _Evidence(self.points[rows], self.weight[rows], near)


def fit_bodies(
    kp2d: Tensor,
    body: Body,
    prior: PosePrior,
    start: InitialBodies | None = None,
    size: int = PIXELS,
) -> FittedBodies:
    """Fit people to their 2D points.

    Args:
        kp2d: (N, 31, 3) x, y px of a square image around each person; weight.
        body: With linear skinning.
        prior: Of its poses.
        start: Estimates of the people: their facing is kept and their joints are held near. None:
            several starts are tried.
        size: px, side of the image.

    Returns:
        A fit for every person; `confidence` rates them.

    Raises:
        BodyError: The body lacks the points' regressors or has pose correctives.
    """
    model = _Model(photo_points(body), add_upright_pose(prior))
    points, weight = kp2d[..., :2].float() / size * 2 - 1, kp2d[..., 2].float()
    people = len(points)
    if start is None:
        unknowns = _starts(model, points, weight)
        count = len(unknowns.root) // people
        evidence = _Evidence(points, weight, None)
        evidence = evidence.rows(torch.arange(people).repeat_interleave(count))
        unknowns = _descend(model, unknowns, evidence, SCREENING_STEPS, settle=False)
        energy = _energies(model, unknowns, evidence).reshape(people, count)
        best = energy.topk(FINALISTS, 1, largest=False).indices
        chosen = (torch.arange(people)[:, None] * count + best).flatten()
        unknowns, evidence = unknowns.rows(chosen), evidence.rows(chosen)
    else:
        angles = matrix_to_axis_angle(start.rotmats[:, 1:].float())
        root, betas = start.rotmats[:, 0].float(), start.betas.float()
        unknowns = _place(model, points, weight, root, angles, betas)
        evidence = _Evidence(points, weight, angles)
    unknowns = _descend(model, unknowns, evidence, STEPS, settle=True)
    return _best(model, unknowns, evidence, people)


def confidence(fitted: FittedBodies) -> Tensor:
    """Rate fits: the product of linear ramps.

    The points must fit the image (on average, and all but one), pose and shape must be usual, no
    other explanation as good, and little hidden in depth.

    Args:
        fitted: N people.

    Returns:
        (N,) in [0, 1]; 0 where fewer than LEAST_POINTS joints were seen.
    """
    rating = (fitted.seen >= LEAST_POINTS).float()
    for value, (whole, none) in (
        (fitted.error, ERROR_RANGE),
        (fitted.worst, WORST_RANGE),
        (fitted.strain, STRAIN_RANGE),
        (fitted.doubt, DOUBT_RANGE),
        (fitted.depth, DEPTH_RANGE),
    ):
        rating = rating * ((none - value) / (none - whole)).clamp(0, 1)
    return rating


def add_upright_pose(prior: PosePrior) -> PosePrior:
    """Add a Gaussian around upright poses, which photos show more often than recordings do.

    Args:
        prior: Of recorded motion.

    Returns:
        A prior for photos.
    """
    table = torch.zeros(JOINT_COUNT, 2, 3)
    for joint, values in _UPRIGHT.items():
        table[joint] = torch.tensor(values)
        if joint in RIGHT:
            table[RIGHT[joint]] = table[joint] * torch.tensor([[1, -1, -1], [1, 1, 1]])
    mean, sigma = table[1:].flatten(2).transpose(0, 1).flatten(1)
    return replace(
        prior,
        mean=torch.cat([prior.mean, mean[None]]),
        whiten=torch.cat([prior.whiten, torch.diag(1 / sigma)[None]]),
        log_weight=torch.cat([prior.log_weight, torch.tensor([UPRIGHT_LOG_WEIGHT])]),
    )


def _starts(model: _Model, points: Tensor, weight: Tensor) -> _Unknowns:
    """Upright and crouching people with their torsos as in the image: several rows per person."""
    up = _torso(points, weight)
    roll = torch.atan2(up[:, 0], -up[:, 1])
    upright_pose = model.prior.mean[-1].reshape(-1, 3)
    crouching = upright_pose.clone()
    for joint, angle in _CROUCHING.items():
        crouching[[joint - 1, RIGHT[joint] - 1], 0] = angle
    upright = torch.cartesian_prod(torch.tensor(YAWS), torch.tensor(TILTS))
    low = torch.cartesian_prod(torch.tensor(YAWS), torch.zeros(1))
    people, count = len(points), len(upright) + len(low)
    yaw, tilt = torch.cat([upright, low]).repeat(people, 1).unbind(1)
    angles = torch.stack([*[upright_pose] * len(upright), *[crouching] * len(low)])
    # The body's y is up and the camera's down: half a turn about x makes it face the camera.
    root = _about(2, roll.repeat_interleave(count)) @ _about(0, math.pi + tilt) @ _about(1, yaw)
    return _place(
        model,
        points.repeat_interleave(count, 0),
        weight.repeat_interleave(count, 0),
        root,
        angles.repeat(people, 1, 1),
        torch.zeros(people * count, BETAS),
    )


def _torso(points: Tensor, weight: Tensor) -> Tensor:
    """From the hips' middle to the shoulders' in the image (N, 2); upwards where unseen."""
    joints, sure = _joints(points, weight)
    upwards = (joints[:, 8:10] - joints[:, 2:4]).mean(1)
    known = (sure[:, [2, 3, 8, 9]] > 0).all(1)
    return torch.where(known[:, None], upwards, torch.tensor([0.0, -1.0]))


def _joints(points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The 12 limb joints (N, 12, 2) and their weights, labelled or else detected."""
    labelled = weight[:, :12] > 0
    joints = torch.where(labelled[..., None], points[:, :12], points[:, 14:][:, _LIMBS_IN_COCO])
    sure = torch.where(labelled, weight[:, :12], weight[:, 14:][:, _LIMBS_IN_COCO])
    return joints, sure


def _place(
    model: _Model, points: Tensor, weight: Tensor, root: Tensor, angles: Tensor, betas: Tensor
) -> _Unknowns:
    """Place posed people in front of the camera so that their longest limbs have the right size."""
    with torch.no_grad():
        rotmats = torch.cat([root[:, None], axis_angle_to_matrix(angles)], 1)
        body_points, _ = model.points.pose(rotmats, betas)
        joints, sure = _joints(points, weight)
        first, second = _LIMBS.T
        length = (body_points[:, first] - body_points[:, second]).norm(dim=-1)
        shown = (joints[:, first] - joints[:, second]).norm(dim=-1)
        known = torch.minimum(sure[:, first], sure[:, second]) > 0
        ratio = torch.where(known, shown / length, torch.nan)
        # A limb is never longer in the image than in space, so the largest ratios show the scale.
        scale = ratio.nanquantile(0.8, dim=1).nan_to_num(0.8).clamp(0.1, 5)
        trunk = sure[:, [2, 3, 8, 9], None].clamp(min=1e-3)
        off = joints[:, [2, 3, 8, 9]] / scale[:, None, None] - body_points[:, [2, 3, 8, 9], :2]
        move = (off * trunk).sum(1) / trunk.sum(1)
    return _Unknowns(root, torch.zeros(len(root), 3), angles, betas, scale.log(), move)


def _about(axis: int, angle: Tensor) -> Tensor:
    """Rotations (N, 3, 3) by angles (N,) about one axis."""
    vectors = torch.zeros(len(angle), 3)
    vectors[:, axis] = angle
    return axis_angle_to_matrix(vectors)


def _descend(
    model: _Model, start: _Unknowns, evidence: _Evidence, steps: int, *, settle: bool
) -> _Unknowns:
    """Minimise the energy by Adam; with `settle` the robust term narrows, which drops outliers."""
    done = [
        _descend_some(model, start.rows(rows), evidence.rows(rows), steps, settle)
        for rows in _chunks(len(start.root))
    ]
    return _Unknowns(
        *(
            torch.cat([getattr(one, name) for one in done])
            for name in ("root", "turn", "angles", "betas", "log_scale", "move")
        )
    )


def _chunks(rows: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, rows, CHUNK)]


def _descend_some(
    model: _Model, start: _Unknowns, evidence: _Evidence, steps: int, settle: bool
) -> _Unknowns:
    free = _Unknowns(
        start.root,
        *(
            part.clone().requires_grad_()
            for part in (start.turn, start.angles, start.betas, start.log_scale, start.move)
        ),
    )
    adam = torch.optim.Adam(
        [
            {"params": [free.turn, free.angles], "lr": RATE},
            {"params": [free.betas, free.log_scale, free.move], "lr": 0.4 * RATE},
        ],
        betas=(0.9, 0.99),
    )
    slowing = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: 0.02 + 0.98 * math.cos(0.5 * math.pi * step / steps) ** 2
    )
    first, last = ROBUST_WIDTH
    for step in range(steps):
        width = last * (first / last) ** max(0.0, 1 - step / (0.6 * steps)) if settle else first
        adam.zero_grad()
        energy = _energy(model, free, evidence, width).sum()
        energy.backward()  # type: ignore[no-untyped-call]
        adam.step()
        slowing.step()
    return _Unknowns(
        free.root,
        free.turn.detach(),
        free.angles.detach(),
        free.betas.detach(),
        free.log_scale.detach(),
        free.move.detach(),
    )


def _energies(model: _Model, unknowns: _Unknowns, evidence: _Evidence) -> Tensor:
    """Energies (R,) at the last, narrow width."""
    with torch.no_grad():
        return torch.cat(
            [
                _energy(model, unknowns.rows(rows), evidence.rows(rows), ROBUST_WIDTH[1])
                for rows in _chunks(len(unknowns.root))
            ]
        )


def _energy(model: _Model, unknowns: _Unknowns, evidence: _Evidence, width: float) -> Tensor:
    """Minus the log probability (R,), up to a constant."""
    points, joints = model.points.pose(unknowns.rotmats, unknowns.betas)
    off = project_to_crop(points, unknowns.pred_cam) - evidence.points
    square = (off / _sigma()[:, None]).square().sum(-1)
    away = 0.5 * (evidence.weight * square * width**2 / (square + width**2)).sum(-1)
    parts = [away, _strain(model, unknowns), _leaning(joints)]
    if evidence.near is not None:
        parts.append(0.5 * ((unknowns.angles - evidence.near) / START_SIGMA).square().sum((1, 2)))
    return torch.stack(parts).sum(0)


def _leaning(joints: Tensor) -> Tensor:
    """Energy (R,) of trunk and legs that tilt in depth: squared up to LEAN_BEND, then linear."""
    pelvis, ankles, neck = joints[:, 0, 2], joints[:, [7, 8], 2].mean(1), joints[:, 12, 2]
    lean = torch.stack([neck - pelvis, ankles - (neck + pelvis) / 2], 1) / LEAN_SIGMA
    return (LEAN_BEND**2 * ((1 + lean.square() / LEAN_BEND**2).sqrt() - 1)).sum(1)


def _sigma() -> Tensor:
    """Usual errors of the points (31,) in the square's [-1, 1] coordinates."""
    return torch.cat([LABEL_SIGMA, DETECTED_SIGMA]) * 2 / MARGIN


def _strain(model: _Model, unknowns: _Unknowns) -> Tensor:
    """Energy (R,) of unusual poses and shapes."""
    shape = 0.5 * (unknowns.betas / BETAS_SIGMA).square().sum(1)
    return model.prior.energy(unknowns.angles) + shape


def _best(model: _Model, unknowns: _Unknowns, evidence: _Evidence, people: int) -> FittedBodies:
    """The best of each person's rows, with the measures of how good it is."""
    energy = _energies(model, unknowns, evidence).reshape(people, -1)
    count = energy.shape[1]
    with torch.no_grad():
        points, joints = model.points.pose(unknowns.rotmats, unknowns.betas)
        best = energy.argmin(1)
        rows = torch.arange(people) * count + best
        centred = (joints - joints[:, :1]).reshape(people, count, JOINT_COUNT, 3)
        apart = (centred - centred[torch.arange(people), best][:, None]).norm(dim=-1).mean(-1)
        doubt = ((energy.min(1, keepdim=True).values - energy).softmax(1) * apart).sum(1)
        chosen, seen = unknowns.rows(rows), evidence.rows(rows)
        off = (project_to_crop(points[rows], chosen.pred_cam) - seen.points).norm(dim=-1)
        off = off / chosen.pred_cam[:, :1]
        spread = joints[rows].std(1)  # (N, 3)
        return FittedBodies(
            rotmats=chosen.rotmats,
            betas=chosen.betas,
            pred_cam=chosen.pred_cam,
            energy=energy.min(1).values,
            error=(off * seen.weight).sum(1) / seen.weight.sum(1).clamp(min=1e-6),
            worst=(off * seen.weight).topk(2, 1).values[:, 1],
            strain=_strain(model, chosen),
            doubt=doubt,
            depth=spread[:, 2] / spread[:, :2].square().mean(1).sqrt(),
            seen=(_joints(seen.points, seen.weight)[1] > 0).sum(1),
        )
