"""One shape for a person, from masks of them and from the pose that is already fitted.

The outline of a mask is that of the body with clothes on. How far it is from the body's own is
measured all around the body (silhouette.py) in several frames. As long as the pose stays, vertices
move in proportion to the betas, so this is a linear regression, with the prior N(0, 1) of the
betas, for

- the betas and the thickness of the clothes on each of PARTS, shared by all frames,
- in each frame a shift of the body and one of each of LIMBS, because a pose is not exact.

Clothes keep a loose top from making its wearer fat: how thick they are is known of other people
(CLOTHES), and where a mask is still wider than that it counts less than where it is narrower.
Joints stay where they are seen in the image, so girths change and bones hardly do. Masks do not
show size, as a person twice as large and twice as far away looks the same: of the height, only
what proportions say about it is new.

Shapes: V vertices of the body, R on a rim, P parts, L limbs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.posing import rotation_matrices
from staf_cli.body.skinning import Body, joint_transforms
from staf_cli.core.records import Float, Ints, LandmarkTrack, Person
from staf_cli.fitting.silhouette import Rim, find_rim

BETAS = 10
LEAST_SCORE = 0.5  # of a frame whose mask is used
LEAST_DEPTH = 1.0  # m, of all joints: nearer, parts of the body are hardly ever in the picture
CANDIDATES = 30  # frames that are drawn, evenly over the track
FRAMES = 16  # of these, how many are used: those whose masks agree best with the body
LEAST_FRAMES = 3  # fewer say too little
LEAST_OVERLAP = 0.5  # intersection over union of mask and drawn body
LEAST_RIM, MOST_RIM = 30, 250  # vertices of a frame
ROUNDS = 2  # of drawing the body: as it was given, and as the masks say
REWEIGHTINGS = 3  # of the rims in each round

# Joints whose vertices are used. Hair, hands and shoes say nothing about the girth of a body.
PARTS = ((0,), (3, 6), (9, 13, 14), (1, 2), (4, 5), (16, 17), (18, 19))
LIMBS = ((0, 3, 6, 9, 13, 14), (1,), (2,), (4,), (5,), (16,), (17,), (18,), (19,))

# Thickness of clothes on PARTS: hips, belly, chest, thighs, shins, upper arms, forearms. Of 68
# dressed people of `staf train clips`, by their true bodies and masks of the landmark network.
CLOTHES = np.array([0.020, 0.026, 0.020, 0.010, 0.010, 0.012, 0.010])  # m, mean
CLOTHES_SIGMA = np.array([0.015, 0.022, 0.013, 0.007, 0.009, 0.011, 0.012])  # m, between people
CLOTHES_TAIL = 2.0  # sigmas from which thicker ones, as coats are, are less unlikely than normal
CLOTHES_CORRELATION = 0.6  # between any two parts of a person

RIM_SIGMA = 0.012  # m, of the offsets on one part of a person, of the same people
NARROWER_TAIL, WIDER_TAIL = 2.0, 1.0  # sigmas from which a rim counts less, by where its mask is
JOINT_SIGMA = 0.015  # m, across the line of sight; of a usual keypoint
LIMB_SIGMA = 0.02  # m, by which a limb of a good fit is off
PLACE_SIGMA = 0.3  # m, of the whole body; most of it is along the line of sight
# Neighbouring vertices and frames have the same errors: all frames together say as much as
# EVIDENCE independent ones would, each vertex and joint by itself. From people as above.
EVIDENCE = 0.16
ENOUGH = 8  # frames; fewer say less in proportion


@dataclass(frozen=True)
class Shape:
    """A shape, and how far it can be trusted."""

    betas: Float  # (10,)
    sigma: Float  # (10,) standard deviation of each; made people are off by 1.15 times as much
    clothes: Float  # (7,) m, thickness on PARTS
    overlap: float  # mean intersection over union of the masks and the body as it was given
    frames: int  # how many were used; 0: the betas are the given ones


@dataclass(frozen=True)
class _View:
    """What one frame shows of a body that is drawn with some betas."""

    rim: Rim
    rim_by_beta: Float  # (R, 10) m by which the rim's offsets shrink
    part: Ints  # (R,)
    limb: Ints  # (R,)
    joints: Float  # (24, 3) m, camera frame
    joints_by_beta: Float  # (24, 3, 10) m


@dataclass(frozen=True)
class _Equations:
    """Weighted sums of products of the unknowns' coefficients, and of these with the offsets.

    The U shared unknowns are the betas and the clothes; the own ones are those of one frame.
    """

    shared: Float  # (U, U)
    mixed: Float  # (U, N)
    own: Float  # (N, N)
    shared_off: Float  # (U,)
    own_off: Float  # (N,)


def shape_from_masks(person: Person, seen: LandmarkTrack, body: Body) -> Shape:
    """Find the shape with which a person fills their masks.

    Give it to the person by `with_shape` (smoothing.py), which keeps the joints in place.

    Args:
        person: F frames, fitted.
        seen: Masks of some of these frames, and of others.
        body: The person's body model.

    Returns:
        The shape; the given betas (their median) if masks and body agree in too few frames.
    """
    betas = np.median(person.betas, 0)
    unknown = Shape(betas, np.ones(BETAS), CLOTHES.copy(), 0.0, 0)
    row = np.searchsorted(person.frame, seen.frame[seen.mask_row])  # the person's
    row[row == len(person.frame)] = 0
    used = (person.frame[row] == seen.frame[seen.mask_row]) & (
        seen.score[seen.mask_row] >= LEAST_SCORE
    )
    used &= person.joints3d[row, :, 2].min(1) >= LEAST_DEPTH
    masks = np.flatnonzero(used)
    if len(masks) < LEAST_FRAMES:
        return unknown
    masks = masks[np.unique(np.linspace(0, len(masks) - 1, CANDIDATES).astype(int))]
    views = _look(person, row[masks], seen, masks, body, betas, person.trans[row[masks]])
    overlap = np.array([view.rim.overlap for view in views])
    rims = np.array([len(view.rim.vertex) for view in views])
    best = np.argsort(-overlap, kind="stable")[:FRAMES]
    best = best[(overlap[best] >= LEAST_OVERLAP) & (rims[best] >= LEAST_RIM)]
    if len(best) < LEAST_FRAMES:
        return unknown

    masks, views = masks[best], [views[k] for k in best]
    pins = [view.joints for view in views]
    trans = person.trans[row[masks]]
    found = replace(unknown, overlap=float(overlap[best].mean()), frames=len(best))
    for turn in range(ROUNDS):
        if turn:
            views = _look(person, row[masks], seen, masks, body, found.betas, trans)
        found, shifts = _regress(views, pins, found)
        trans = trans + shifts
    return found


def _look(
    person: Person,
    rows: Ints,
    seen: LandmarkTrack,
    masks: Ints,
    body: Body,
    betas: Float,
    trans: Float,
) -> list[_View]:
    """What some masks (n,) show of the person in some rows, with these betas and trans (n, 3)."""
    rotmats = rotation_matrices(person.poses[rows]).float()
    with torch.no_grad():
        shape = torch.from_numpy(betas).float().expand(len(rows), -1)
        meshes, joints = (one.numpy() + trans[:, None] for one in body(rotmats, shape))
        # A posed body is linear in the joints at rest: each beta's are posed by themselves.
        directions = body.skin.joint_dirs.permute(2, 0, 1)  # (10, 24, 3)
        posed = joint_transforms(
            rotmats.repeat_interleave(BETAS, 0), directions.repeat(len(rows), 1, 1)
        )
    transforms, moved = (one.numpy().reshape(len(rows), BETAS, 24, 3, -1) for one in posed)
    part, limb = (_group(body, groups) for groups in (PARTS, LIMBS))
    views = []
    for n, mask in enumerate(masks):
        rim = _thinned(
            find_rim(
                meshes[n].astype(np.float32),
                body.faces,
                part >= 0,
                seen.mask[mask],
                seen.region[seen.mask_row[mask]],
                person.focal_length,
                person.image_size,
            )
        )
        views.append(
            _View(
                rim,
                _rim_by_beta(rim, body, transforms[n]),
                part[rim.vertex],
                limb[rim.vertex],
                joints[n].astype(float),
                moved[n, ..., 0].transpose(1, 2, 0).astype(float),
            )
        )
    return views


def _rim_by_beta(rim: Rim, body: Body, transforms: NDArray[np.float32]) -> Float:
    """How a rim's offsets shrink per unit of beta (R, 10), by transforms (10, 24, 3, 4)."""
    weights = body.arrays.weights[rim.vertex]
    turned = np.einsum("rj,jab->rab", weights, transforms[0, ..., :3])
    carried = np.einsum("rj,bja->rab", weights, transforms[..., 3])
    vertices = turned @ body.arrays.shapedirs[rim.vertex] + carried  # (R, 3, 10) m
    shrink: Float = np.einsum("ra,rab->rb", rim.across, vertices)
    return shrink


def _group(body: Body, groups: Sequence[tuple[int, ...]]) -> Ints:
    """The group of the joint that moves each vertex most (V,); -1 for joints in none."""
    of_joint = np.full(body.arrays.weights.shape[1], -1)
    for number, members in enumerate(groups):
        of_joint[list(members)] = number
    group: Ints = of_joint[body.arrays.weights.argmax(1)]
    return group


def _thinned(rim: Rim) -> Rim:
    """At most MOST_RIM of a rim's vertices."""
    count = len(rim.vertex)
    some = np.unique(np.linspace(0, count - 1, min(count, MOST_RIM)).astype(int))
    return replace(rim, vertex=rim.vertex[some], offset=rim.offset[some], across=rim.across[some])


def _regress(views: Sequence[_View], pins: Sequence[Float], before: Shape) -> tuple[Shape, Float]:
    """The likeliest shape, and how the body is shifted in each of n frames: (n, 3) m."""
    rims = [_rim_rows(view, before.betas) for view in views]
    joints = [
        _equations(*_joint_rows(view, pin, before.betas), JOINT_SIGMA**-2)
        for view, pin in zip(views, pins, strict=True)
    ]
    weights = [np.ones(len(offset)) for _, _, offset in rims]
    counted = EVIDENCE / max(len(views), ENOUGH)
    clothes = before.clothes
    for _ in range(REWEIGHTINGS):
        inverse, right = _prior(clothes)
        solved = []
        for rim, joint, weight in zip(rims, joints, weights, strict=True):
            frame = _added(_equations(*rim, weight / RIM_SIGMA**2), joint)
            own = np.linalg.solve(frame.own, np.column_stack([frame.mixed.T, frame.own_off]))
            inverse += counted * (frame.shared - frame.mixed @ own[:, :-1])
            right += counted * (frame.shared_off - frame.mixed @ own[:, -1])
            solved.append(own)
        covariance = np.linalg.inv(inverse)
        shared = covariance @ right
        clothes = shared[BETAS:]
        owns = [own[:, -1] - own[:, :-1] @ shared for own in solved]
        weights = [
            _robust(offset - by_shared @ shared - by_own @ own)
            for (by_shared, by_own, offset), own in zip(rims, owns, strict=True)
        ]
    found = replace(
        before,
        betas=shared[:BETAS],
        sigma=np.sqrt(np.diag(covariance))[:BETAS],
        clothes=clothes,
    )
    return found, np.array([own[:3] for own in owns])


def _prior(clothes: Float) -> tuple[Float, Float]:
    """Inverse covariance (U, U) of the shared unknowns near clothes (P,) m; it times their mean."""
    thicker = (clothes - CLOTHES).clip(0) / (CLOTHES_TAIL * CLOTHES_SIGMA)
    sigma = CLOTHES_SIGMA * np.sqrt(1 + thicker**2)
    parts = len(PARTS)
    correlation = np.full((parts, parts), CLOTHES_CORRELATION)
    np.fill_diagonal(correlation, 1)
    inverse = np.eye(BETAS + parts)
    inverse[BETAS:, BETAS:] = np.linalg.inv(correlation * np.outer(sigma, sigma))
    return inverse, inverse @ np.concatenate([np.zeros(BETAS), CLOTHES])


def _rim_rows(view: _View, betas: Float) -> tuple[Float, Float, Float]:
    """Coefficients of shared (R, U) and own (R, N) unknowns, and what they add up to (R,), m."""
    count = len(view.rim.vertex)
    by_own = np.zeros((count, 1 + len(LIMBS), 3))
    by_own[:, 0] = view.rim.across
    by_own[np.arange(count), 1 + view.limb] = view.rim.across
    by_shared = np.concatenate([view.rim_by_beta, np.eye(len(PARTS))[view.part]], 1)
    return by_shared, by_own.reshape(count, -1), view.rim.offset + view.rim_by_beta @ betas


def _joint_rows(view: _View, pin: Float, betas: Float) -> tuple[Float, Float, Float]:
    """The same of the joints: they are to be seen where those of `pin` (24, 3) m are."""
    depth = view.joints[:, 2:]
    slopes = view.joints[:, :2] / depth
    across = np.zeros((len(pin), 2, 3))  # m across the line of sight
    across[:, [0, 1], [0, 1]] = 1
    across[:, :, 2] = -slopes
    by_own = np.zeros((2 * len(pin), 1 + len(LIMBS), 3))
    by_own[:, 0] = across.reshape(-1, 3)
    by_beta = (across @ view.joints_by_beta).reshape(-1, BETAS)
    by_shared = np.pad(by_beta, ((0, 0), (0, len(PARTS))))
    off = ((pin[:, :2] / pin[:, 2:] - slopes) * depth).ravel()
    return by_shared, by_own.reshape(len(by_own), -1), off + by_beta @ betas


def _equations(by_shared: Float, by_own: Float, offset: Float, weight: Float | float) -> _Equations:
    """The normal equations of some rows with their weights, 1 / m^2."""
    weight = np.broadcast_to(weight, len(offset))[:, None]
    shared, own = weight * by_shared, weight * by_own
    return _Equations(
        shared.T @ by_shared, shared.T @ by_own, own.T @ by_own, shared.T @ offset, own.T @ offset
    )


def _added(rim: _Equations, joint: _Equations) -> _Equations:
    """The equations of a frame, with the prior of its own shifts."""
    sigma = np.full((1 + len(LIMBS), 3), LIMB_SIGMA)
    sigma[0] = PLACE_SIGMA
    return _Equations(
        rim.shared + joint.shared,
        rim.mixed + joint.mixed,
        rim.own + joint.own + np.diag(sigma.ravel() ** -2),
        rim.shared_off + joint.shared_off,
        rim.own_off + joint.own_off,
    )


def _robust(residual: Float) -> Float:
    """How much rims count (R,) whose masks are so many m wider than expected: Cauchy's weights."""
    tail = RIM_SIGMA * np.where(residual > 0, WIDER_TAIL, NARROWER_TAIL)
    weight: Float = 1 / (1 + (residual / tail) ** 2)
    return weight
