"""Where feet stand: paths of pelvis, heels and toes on which contacts neither slide nor sink.

First the whole body is moved, smoothly and mostly along the line of sight, where a picture shows
least, so that its feet slide as little as they can; then heels and toes get the places where they
stand, and between contacts what moved them fades. Everything looks ahead as far as back.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import spsolve

from staf_cli.core.records import Float

CONTACT = 0.5  # probability from which a point is held where it stands

# Usual deviations of the correction of the whole body: across the line of sight, m in a frame, and
# along it, where errors of a distance last. On 20 synthetic clips the fit's vary by 1 to 1.7 % of
# it within two seconds, half of that within a third of one.
ACROSS_SIGMA = 0.005
ALONG_SIGMA, ALONG_SECONDS = 0.015, 1.4  # of the distance, and for how long one error counts once
ACCELERATION_SIGMA = 2.0  # m/s^2
SLIDE_SIGMA = 0.02  # m, of a point from where it stands, at a probability of 1
HOVER = 0.01  # m, over the ground, at which a point may stand: shoes, and the body's own soles
HELD = 1e3  # times as stiff as what fades: a held point is where it shall be
FADE = 0.15  # s, in which a foot's own correction fades between contacts

NEAREST = 0.1  # m, of a body from the camera
SHORTEST_STEP = 1e-3  # s, from one frame to the next; damaged files may have less


@dataclass(frozen=True)
class Stand:
    """Where a person's pelvis, heels and toes shall be, F frames, m, world."""

    shift: Float  # (F, 3) of the whole body
    soles: Float  # (F, 4, 3)
    held: Float  # (F, 4) probability of the contact that is held; 0 between contacts

    def eased(self, soles: Float, strength: Float) -> "Stand":
        """Go only a part of the way to where feet stand; nothing goes below the ground.

        Args:
            soles: (F, 4, 3) m, as planned from.
            strength: (F,) from 0: as they were, to 1: as planned.

        Returns:
            The plan.
        """
        part = soles + strength[:, None, None] * (self.soles - soles)
        part[..., 1] = np.maximum(part[..., 1], 0)
        return Stand(strength[:, None] * self.shift, part, self.held)


@dataclass(frozen=True)
class _Contact:
    """A point that stands for a while."""

    point: int  # of the four
    rows: slice


def plan_stand(
    soles: Float, contacts: Float, sight: Float, time: Float, runs: list[slice]
) -> Stand:
    """Plan where feet stand.

    Args:
        soles: (F, 4, 3) m, heels and toes in the world.
        contacts: (F, 4) probabilities.
        sight: (F, 3) m, from the camera to the body, in the world.
        time: (F,) s.
        runs: slices of frames without a gap.

    Returns:
        The plan.
    """
    shift, planned, held = np.zeros_like(sight), soles.copy(), np.zeros_like(contacts)
    for run in runs:
        found = _contacts(contacts[run])
        if not found:
            continue
        shift[run] = _shift(soles[run], contacts[run], sight[run], time[run], found)
        moved = soles[run] + shift[run][:, None]
        planned[run] = moved + _own(moved, contacts[run], time[run], found)
        for one in found:
            rows = slice(run.start + one.rows.start, run.start + one.rows.stop)
            held[rows, one.point] = contacts[rows, one.point]
    planned[..., 1] = np.maximum(planned[..., 1], 0)
    return Stand(shift, planned, held)


def _contacts(contacts: Float) -> list[_Contact]:
    """The spells (of a run without gaps) in which a point stands."""
    found = []
    for point in range(contacts.shape[1]):
        there = np.concatenate([[False], contacts[:, point] > CONTACT, [False]])
        for first, last in np.flatnonzero(np.diff(there)).reshape(-1, 2).tolist():
            found.append(_Contact(point, slice(first, last)))
    return found


def _shift(
    soles: Float, contacts: Float, sight: Float, time: Float, found: list[_Contact]
) -> Float:
    """The likeliest smooth correction (F, 3) of the whole body, by linear least squares."""
    # Unknown are the correction in each frame, and x and z of the place of each contact.
    frames = len(time)
    blocks = [_near_start(sight, time), _smooth(time)]
    rows, columns, values, wanted = [], [], [], []
    count = 0
    for number, one in enumerate(found):
        frame = np.arange(one.rows.start, one.rows.stop)
        weight = np.sqrt(contacts[frame, one.point]) / SLIDE_SIGMA
        for axis in range(3):
            row = count + np.arange(len(frame))
            rows.append(row)
            columns.append(3 * frame + axis)
            values.append(weight)
            if axis != 1:
                rows.append(row)
                columns.append(np.full(len(frame), 3 * frames + 2 * number + axis // 2))
                values.append(-weight)
            wanted.append(-weight * soles[frame, one.point, axis])
            count += len(frame)
    width = 3 * frames + 2 * len(found)
    stand = coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, width)
    ).tocsc()
    normal = stand.T @ stand + _padded(sum(block.T @ block for block in blocks), width)
    solved = spsolve(normal.tocsc(), stand.T @ np.concatenate(wanted))
    shift: Float = solved[: 3 * frames].reshape(frames, 3)
    return shift


def _near_start(sight: Float, time: Float) -> csc_array:
    """(3F, 3F): a correction in its usual deviations, across and along the line of sight."""
    distance = np.maximum(np.linalg.norm(sight, axis=1), NEAREST)
    ray = sight / distance[:, None]
    along = ray[:, :, None] * ray[:, None]
    step = np.gradient(time) if len(time) > 1 else np.ones(1)
    share = np.clip(step / ALONG_SECONDS, SHORTEST_STEP, 1)
    weight = np.sqrt(share) / (ALONG_SIGMA * distance)
    weights = (np.eye(3) - along) / ACROSS_SIGMA + along * weight[:, None, None]
    row = 3 * np.arange(len(sight))[:, None, None] + np.arange(3)[:, None]
    column = 3 * np.arange(len(sight))[:, None, None] + np.arange(3)
    row, column = np.broadcast_to(row, weights.shape), np.broadcast_to(column, weights.shape)
    size = 3 * len(sight)
    return coo_array((weights.ravel(), (row.ravel(), column.ravel())), (size, size)).tocsc()


def _smooth(time: Float) -> csc_array:
    """(3F - 6, 3F): accelerations of a correction, in their usual deviations."""
    frames = len(time)
    size = (3 * max(frames - 2, 0), 3 * frames)
    if frames < 3:
        return csc_array(size)
    step = np.maximum(np.diff(time), SHORTEST_STEP)
    into, out_of = step[:-1], step[1:]
    mean = (into + out_of) / 2
    parts = np.stack([1 / (into * mean), -1 / mean * (1 / into + 1 / out_of), 1 / (out_of * mean)])
    axis = np.arange(3)
    row = 3 * np.arange(frames - 2)[:, None] + axis
    columns = [(row + 3 * step).ravel() for step in range(3)]
    values = np.repeat(parts / ACCELERATION_SIGMA, 3, axis=1)
    rows = np.tile(row.ravel(), 3)
    return coo_array((values.ravel(), (rows, np.concatenate(columns))), size).tocsc()


def _padded(square: csc_array, width: int) -> csc_array:
    """A square matrix with columns and rows of zeros after its own."""
    own = square.tocoo()
    return coo_array((own.data, own.coords), (width, width)).tocsc()


def _own(soles: Float, contacts: Float, time: Float, found: list[_Contact]) -> Float:
    """What moves each point (F, 4, 3) to where it stands; between contacts it fades."""
    wanted = np.zeros_like(soles)
    weight = np.zeros(soles.shape[:2])
    for one in found:
        points, own = soles[one.rows, one.point], contacts[one.rows, one.point]
        place = (points * own[:, None]).sum(0) / own.sum()
        place[1] = np.clip(place[1], 0, HOVER)
        wanted[one.rows, one.point] = place - points
        weight[one.rows, one.point] = 1
    return np.stack([_faded(wanted[:, point], weight[:, point], time) for point in range(4)], 1)


def _faded(wanted: Float, held: Float, time: Float) -> Float:
    """A correction (F, 3) that is as wanted where held, and fades smoothly elsewhere."""
    frames = len(time)
    if frames < 3:
        return wanted * held[:, None]
    step = max(float(np.median(np.diff(time))), SHORTEST_STEP)
    stiff = (FADE / step) ** 4
    differences = np.array([1.0, -2, 1])
    band = np.zeros((3, frames))  # upper form of a symmetric matrix with five diagonals
    for first in range(frames - 2):
        for i in range(3):
            for j in range(i, 3):
                band[2 - (j - i), first + j] += stiff * differences[i] * differences[j]
    weight = np.where(held > 0, HELD * stiff, 1.0)
    band[2] += weight
    faded: Float = solveh_banded(band, weight[:, None] * wanted * (held > 0)[:, None])
    return faded
