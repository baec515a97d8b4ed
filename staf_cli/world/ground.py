"""Gravity and ground, from what people do: where they stand, and how they are upright.

The answer is the likeliest tilt of the camera and its height over the ground, together with how far
each person's size is off, or how much higher they stand, which raises or lowers them. What is known
beforehand is a normal distribution of each; what is seen counts by a robust function, so that a
person on a chair or lying down does not turn the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from staf_cli.core.records import Bools, Float, Ints
from staf_cli.world.feet import Feet, sole_velocity
from staf_cli.world.options import WorldOptions

# Before anybody is looked at: most cameras are held level and look down a little or not at all.
PITCH_SIGMA, ROLL_SIGMA = np.radians(20.0), np.radians(4.0)
USUAL_HEIGHT, HEIGHT_SIGMA = 1.4, 0.8  # m, of a camera over the ground; of its logarithm
LEAST_HEIGHT = 0.05  # m

SLOW = 0.3  # m/s: a sole that is slower may stand
LOW = 0.07  # m above the lowest point of a person, below which their sole may stand
SAME_PLACE = 0.4  # m: stands of a sole that are closer count once
STEP = 0.5  # s, for which a person who is upright counts once
SHORTEST = 0.1  # s, of a stand
LOWEST = 0.1  # of the frames of somebody who never stands: in these something is lower
SOLE_SIGMA = 0.03  # m, of a sole over the ground
DEPTH_SIGMA = 0.03  # of the camera's height, by the errors of distances
EACH_SOLE = 0.01  # m, of each of a person's soles: shoes, and the body's own
SIZE_SIGMA = 0.05  # of the camera's height, by a person's size that is off

# Line from the feet to the middle of hips and neck of a person who stands, off the vertical: in
# 156 motion-captured clips it leans forward by so much, and varies so much within and between them.
LEAN = np.radians(1.9)
UPRIGHT_SIGMA = np.radians(6.0)  # of half a second, which is not independent of the next one
LEAN_SIGMA = np.radians(2.2)  # of a person, however long they are seen
# All bodies together may be turned in depth, which a picture hardly shows.
DEPTH_TURN_SIGMA = np.radians(4.0)
STRAIGHT = 0.85  # of its length: a leg from hip to ankle on which a person stands upright

PITCHES = tuple(np.radians([-10.0, 5, 20, 40]))  # from which the search begins
FIRST = 4  # unknowns that all people share
STEPS = 100  # of a search; one that takes more is not on the way to the likeliest answer
AT_ONCE = 100_000  # residuals, which bounds the memory of a Jacobian
ROUNDS = 4  # what stands depends on what is down
OWN_NOISE = 3  # stands from which on their noise is that which is seen, not the usual one
LEAST_NOISE = 0.15  # times the usual
ANYWHERE = 50.0  # times the usual: stands that say nothing of the ground
EXACT = 1e-4  # sigma of what the user knows
SMALL = 1e-9


@dataclass(frozen=True)
class Ground:
    """Gravity and ground of one shot, in the frame of its first camera."""

    up: Float  # (3,) unit vector
    heights: list[float]  # m, of the camera over the ground, of each person: their size may be off
    height: float  # m, the same for all together
    tilt_sigma: float  # rad: within that the direction lies in two of three cases
    height_sigma: float  # m


@dataclass(frozen=True)
class _Stands:
    """Soles that stand, N."""

    point: Float  # (N, 3) m
    person: Ints  # (N,) index in the list
    sole: Ints  # (N,) which of the four


@dataclass(frozen=True)
class _Axes:
    """People who stand upright for half a second each, N."""

    axis: Float  # (N, 3) unit vectors from the feet to the middle of hips and neck
    along: Float  # (N, 3) unit vectors of the line of sight
    left: Float  # (N, 3) unit vectors from the right hip to the left one
    person: Ints  # (N,) index in the list


@dataclass(frozen=True)
class _Seen:
    """What people do, and the axes it is told in."""

    stands: _Stands
    axes: _Axes
    basis: Float  # (3, 3) of `_basis`


def find_ground(people: Sequence[Feet], options: WorldOptions) -> Ground:
    """Find gravity and ground of a shot.

    Args:
        people: who is in the shot, in its frames only; one at least.
        options: the camera's height and tilt, where they are known.

    Returns:
        The likeliest, and how sure it is.
    """
    return _likeliest(people, options, None)


def find_vertical(people: Sequence[Feet], options: WorldOptions) -> Float:
    """Find what is up of a shot from how people are upright, wherever their feet stand.

    Args:
        people: who is in the shot, in its frames only; one at least.
        options: the camera's height and tilt, where they are known.

    Returns:
        (3,) unit vector.
    """
    return _likeliest(people, options, ANYWHERE).up


def _likeliest(people: Sequence[Feet], options: WorldOptions, known: float | None) -> Ground:
    """The likeliest world with that noise of stands, in its usual size; None: as it is seen."""
    level = np.concatenate([one.level for one in people]).mean(0)
    basis = _basis(level / max(float(np.linalg.norm(level)), SMALL))
    speeds = [_speed(one) for one in people]
    starts = [np.array([pitch, 0, 0, *[0] * (1 + 5 * len(people))]) for pitch in PITCHES]
    noise = known or 1.0
    for _ in range(ROUNDS):
        tried = [_solve(people, speeds, basis, start, noise, options) for start in starts]
        found, seen = min(tried, key=lambda one: float(one[0].cost))
        x = found.x
        starts, noise = [x], known or _scale(_off_ground(x, seen))
    covariance = np.linalg.inv(found.jac.T @ found.jac + SMALL * np.eye(len(x)))
    sigma = np.sqrt(np.diag(covariance))
    return Ground(
        up=_up(x, basis),
        heights=[float(x[2] * (1 + x[FIRST + n])) for n in range(len(people))],
        height=float(x[2]),
        tilt_sigma=float(np.hypot(sigma[0], sigma[1])),
        height_sigma=float(sigma[2]),
    )


def _solve(
    people: Sequence[Feet],
    speeds: Sequence[Float],
    basis: Float,
    start: Float,
    noise: float,
    options: WorldOptions,
) -> tuple[OptimizeResult, _Seen]:
    """The likeliest unknowns, with what seems to stand where the search begins."""
    up = _up(start, basis)
    there = [_standing(one, speed, up) for one, speed in zip(people, speeds, strict=True)]
    seen = _Seen(_stands(people, there, up), _axes(people, there), basis)
    x = start.copy()
    x[2] = max(LEAST_HEIGHT, float(np.median(-seen.stands.point @ up)))
    args = (seen, noise, options)
    return least_squares(_residuals, x, _slopes, x_scale="jac", max_nfev=STEPS, args=args), seen


def _scale(off: Float) -> float:
    """How large residuals are, robustly, in their usual size."""
    seen = (1.4826 * np.median(np.abs(off))) ** 2 if len(off) else 1.0
    scale = np.sqrt((OWN_NOISE + len(off) * seen) / (OWN_NOISE + len(off)))
    return float(max(scale, LEAST_NOISE))


def _basis(up: Float) -> Float:
    """Rows: sideways, up and forwards of a level camera with that vertical."""
    forward = np.array([0.0, 0, 1]) - up[2] * up
    if np.linalg.norm(forward) < 1e-3:
        forward = np.array([0.0, -1, 0]) + up[1] * up
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(forward, up), up, forward])


def _up(x: Float, basis: Float) -> Float:
    """The vertical (..., 3) of a camera that looks down by x[0] and is rolled by x[1], rad."""
    pitch, roll = x[..., 0], x[..., 1]
    far = np.cos(pitch)
    level = np.stack([np.sin(roll) * far, np.cos(roll) * far, -np.sin(pitch)], -1)
    up: Float = level @ basis
    return up


def standing(feet: Feet, up: Float) -> Bools:
    """Find soles that seem to stand, on whatever level.

    Args:
        feet: F frames.
        up: (3,) unit vector.

    Returns:
        (F, 4)
    """
    return _standing(feet, _speed(feet), up)


def _speed(feet: Feet) -> Float:
    speed: Float = np.linalg.norm(sole_velocity(feet), axis=-1)
    return speed


def _standing(one: Feet, speed: Float, up: Float) -> Bools:
    """Which soles (F, 4) are slow, and as low as anything of the person."""
    height = one.soles @ up
    lowest = np.minimum(height.min(1), (one.joints @ up).min(1))
    standing: Bools = (speed < SLOW) & (height < lowest[:, None] + LOW)
    return standing


def _stands(people: Sequence[Feet], standing: Sequence[Bools], up: Float) -> _Stands:
    """Means over the soles that stand, one for each sole and place."""
    points, owners, soles = [], [], []
    for number, (one, own) in enumerate(zip(people, standing, strict=True)):
        for sole in range(own.shape[1]):
            places = _places(one.soles[:, sole], spells(own[:, sole], one, STEP))
            points += places
            owners += [number] * len(places)
            soles += [sole] * len(places)
        if number not in owners:  # nothing stands: the lowest sole when it is low, not in flight
            lowest = one.soles[np.arange(len(one.time)), (one.soles @ up).argmin(1)]
            points.append(lowest[np.argsort(lowest @ up)[int(LOWEST * len(lowest))]])
            owners.append(number)
            soles.append(0)
    return _Stands(np.array(points), np.array(owners), np.array(soles))


def _places(sole: Float, stands: Sequence[slice]) -> list[Float]:
    """Where a sole (F, 3) stands, (3,) each: those that are close to those before count once."""
    # A foot that stays where it is shows how noisy it is, but not how the ground slopes.
    places: list[list[int]] = []
    for spell in stands:
        rows = list(range(spell.start, spell.stop))
        if places and np.linalg.norm(sole[places[-1]].mean(0) - sole[rows].mean(0)) < SAME_PLACE:
            places[-1] += rows
        else:
            places.append(rows)
    return [sole[rows].mean(0) for rows in places]


def spells(there: Bools, one: Feet, longest: float) -> list[slice]:
    """Find the spells in which something is the case.

    Args:
        there: (F,) whether it is.
        one: whose frames these are.
        longest: s; what lasts longer is cut.

    Returns:
        Slices of frames without gaps, none too short to be sure.
    """
    found = []
    for run in one.runs:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], there[run], [False]]))) + run.start
        for first, last in edges.reshape(-1, 2).tolist():
            seconds = one.time[last - 1] - one.time[first]
            if seconds >= SHORTEST or last - first == run.stop - run.start:
                parts = min(last - first, max(1, round(seconds / longest)))
                cuts = np.linspace(first, last, parts + 1).round().astype(int).tolist()
                found += [slice(a, b) for a, b in pairwise(cuts)]
    return found


def _axes(people: Sequence[Feet], standing: Sequence[Bools]) -> _Axes:
    """The lines from the feet upwards of people who stand on a straight leg."""
    found, owners = [], []
    for number, (one, own) in enumerate(zip(people, standing, strict=True)):
        hips, knees, ankles = one.joints[:, 1:3], one.joints[:, 4:6], one.joints[:, 7:9]
        legs = np.linalg.norm(hips - knees, axis=-1) + np.linalg.norm(knees - ankles, axis=-1)
        straight = np.linalg.norm(hips - ankles, axis=-1) > STRAIGHT * legs
        middle = (one.joints[:, 0] + one.joints[:, 12]) / 2
        lines = np.stack([middle - one.soles.mean(1), one.ray, hips[:, 0] - hips[:, 1]], 1)
        upright = spells(straight.any(1) & own.any(1), one, STEP)
        found += [lines[rows].mean(0) for rows in upright]
        owners += [number] * len(upright)
    directions = np.array(found).reshape(-1, 3, 3)
    directions /= np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), SMALL)
    axis, along, left = directions.swapaxes(0, 1)
    return _Axes(axis, along, left, np.array(owners, np.int64))


def _slopes(x: Float, seen: _Seen, noise: float, options: WorldOptions) -> Float:
    """The Jacobian (R, U) of `_residuals` by differences, for many unknowns at once."""
    here = _residuals(x, seen, noise, options)
    step = np.sqrt(np.finfo(float).eps) * np.where(x < 0, -1, 1) * np.maximum(1, np.abs(x))
    moved = x + np.diag(step)  # (U, U)
    at_once = max(1, AT_ONCE // len(here))
    parts = [moved[k : k + at_once] for k in range(0, len(x), at_once)]
    found = np.concatenate([_residuals(part, seen, noise, options) for part in parts])
    slopes: Float = (found - here).T / (moved.diagonal() - x)
    return slopes


def _residuals(x: Float, seen: _Seen, noise: float, options: WorldOptions) -> Float:
    """What is off, in sigmas.

    Args:
        x: (..., U) pitch and roll, rad; the camera's height, m; how far all bodies are turned in
            depth, rad; what each person's size adds to the height, of it; what each of their soles
            adds to that, m.
        seen: what people do.
        noise: of stands, in its usual size.
        options: what the user knows.

    Returns:
        (..., R)
    """
    people = (x.shape[-1] - FIRST) // 5
    pitch, height = (0.0, PITCH_SIGMA), (USUAL_HEIGHT, HEIGHT_SIGMA)
    if options.tilt is not None:
        pitch = np.radians(options.tilt), EXACT
    if options.camera_height is not None:
        height = options.camera_height, EXACT
    sizes = _heavy_tailed(x[..., FIRST : FIRST + people] / SIZE_SIGMA)  # or on a roof, on stairs
    each = x[..., FIRST + people :] / EACH_SOLE
    before = [
        (x[..., 0] - pitch[0]) / pitch[1],
        x[..., 1] / ROLL_SIGMA,
        np.log(np.maximum(x[..., 2], LEAST_HEIGHT) / height[0]) / height[1],
        x[..., 3] / DEPTH_TURN_SIGMA,
    ]
    off = _robust(_off_ground(x, seen) / noise)
    return np.concatenate([np.stack(before, -1), sizes, each, off, _lean(x, seen)], -1)


def _off_ground(x: Float, seen: _Seen) -> Float:
    """How far stands are off the ground (..., N), in usual deviations."""
    # The deviation is that of the tilt that is tried, as in total least squares: with a fixed one
    # the errors of distances would pull the ground towards the line of sight.
    people, stands = (x.shape[-1] - FIRST) // 5, seen.stands
    own = x[..., 2:3] * (1 + x[..., FIRST + stands.person])
    own += x[..., FIRST + people + 4 * stands.person + stands.sole]
    below = -_up(x, seen.basis) @ stands.point.T
    off: Float = (below - own) / np.hypot(SOLE_SIGMA, DEPTH_SIGMA * below)
    return off


def _robust(off: Float) -> Float:
    """Residuals whose squares are Charbonnier's function: they grow in proportion from 1 on."""
    bent: Float = np.sign(off) * np.sqrt(2 * (np.sqrt(1 + off**2) - 1))
    return bent


def _heavy_tailed(off: Float) -> Float:
    """Residuals whose squares are Cauchy's function: far off, farther hardly costs more."""
    bent: Float = np.sign(off) * np.sqrt(2 * np.log1p(off**2 / 2))
    return bent


def _lean(x: Float, seen: _Seen) -> Float:
    """How far off the vertical upright people are (..., 2N), along and across the line of sight."""
    axes = seen.axes
    turn = _times(_up(x, seen.basis))
    off = axes.axis - LEAN * (axes.left @ turn)
    across = axes.along @ turn
    across /= np.sqrt(np.maximum((across * across).sum(-1, keepdims=True), SMALL**2))
    away = -across @ turn
    count = np.bincount(axes.person)[axes.person]
    sigma = np.sqrt(UPRIGHT_SIGMA**2 + count * LEAN_SIGMA**2)
    turned = np.stack([(off * away).sum(-1) - x[..., 3:4], (off * across).sum(-1)], -1)
    return _robust((turned / sigma[:, None]).reshape(*x.shape[:-1], -1))


def _times(up: Float) -> Float:
    """The matrices M (..., 3, 3) with v @ M = v x up: for few vectors far faster than np.cross."""
    x, y, z = up[..., 0], up[..., 1], up[..., 2]
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)
