"""Smooth a person's motion, and give a person one shape.

Every frame gets the value of a local fit: a quadratic in time through the frames around it,
which count the less the farther away they are (local regression; for even times it is a filter
like Savitzky and Golay's). It looks ahead as far as back, so nothing lags; it leaves uniform
motion and free flight as they are, up to the ends of a track; frames beyond a gap do not count.

Rotations are fitted as matrices, and the nearest rotation to the fit is taken (the chordal mean
of Hartley et al., Rotation Averaging, 2013). There are no angles that could wrap, and the result
depends neither on the camera's axes nor on the joint's. Before the fit the mean turn around the
frame is taken off, so that even a fast spin stays what it is.

The strength is the standard deviation, in seconds, of the weights around a frame. Swings slower
than 0.1 / strength hertz keep 99 % of their extent; at the cutoff, 0.32 / strength, half is left.
With 0.07 s that is 1.4 and 4.5 Hz: a walk stays as it was, and jitter from frame to frame is gone.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from staf_cli.body.posing import rotation_matrices, with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.core.records import STRETCH_FRAMES, Bools, Float, Ints, Person, join_rows, select_rows

REACH = 3  # strengths, where the weights (1 - x^2)^3 end: their standard deviation is 1/3
DEPTH_FACTOR = 2.0  # times the strength, for depth and shape: an image shows them least well
CREDIBLE_TURN = np.pi / 2  # rad from one frame to the next; beyond, its direction is unknown
LEAST_DEPTH = 0.1  # m, of the pelvis


def smooth(person: Person, body: Body, strength: float) -> Person:
    """Smooth a person's motion.

    Each joint's rotation is smoothed in its parent's frame, and the pelvis where it is seen in
    the image; with DEPTH_FACTOR times the strength the logarithm of its depth, and the shape.

    Args:
        person: F frames.
        body: the person's body model.
        strength: s, see above; 0 changes nothing.

    Returns:
        The person, smoothed.
    """
    firsts = range(0, len(person.frame), STRETCH_FRAMES)
    stretches = (select_rows(person, slice(first, first + STRETCH_FRAMES)) for first in firsts)
    return join_rows(list(smooth_stretches(stretches, body, strength)))


def smooth_stretches(stretches: Iterable[Person], body: Body, strength: float) -> Iterator[Person]:
    """Smooth a person in stretches, as if they were smoothed in one piece.

    Args:
        stretches: parts of the person, in order.
        body: the person's body model.
        strength: s, as for `smooth`.

    Yields:
        Each stretch, smoothed together with all frames within reach of it.
    """
    if strength == 0:
        yield from stretches
        return
    for window, rows in with_surroundings(stretches, REACH * DEPTH_FACTOR * strength):
        yield select_rows(_smoothed(window, body, strength), rows)


def with_surroundings(stretches: Iterable[Person], reach: float) -> Iterator[tuple[Person, slice]]:
    """Put each stretch among the frames around it.

    Args:
        stretches: parts of a person, in order.
        reach: s, of frames before and after.

    Yields:
        All frames that are within reach of a stretch, and which rows are its own.
    """
    window, first = None, 0
    waiting: deque[int] = deque()  # lengths of the stretches from `first` on
    for stretch in chain(stretches, [None]):
        if stretch is not None:
            window = stretch if window is None else join_rows([window, stretch])
            waiting.append(len(stretch.frame))
        while window is not None and waiting:
            rows = slice(first, first + waiting[0])
            last = window.time[rows.stop - 1]
            if stretch is not None and window.time[-1] < last + reach:
                break
            waiting.popleft()
            yield window, rows
            done = int(np.searchsorted(window.time, last - reach))
            window, first = select_rows(window, slice(done, None)), rows.stop - done


def _smoothed(person: Person, body: Body, strength: float) -> Person:
    window = Window.around(person.time, person.frame, strength)
    wide = Window.around(person.time, person.frame, DEPTH_FACTOR * strength)
    pelvis = person.joints3d[:, 0]
    before = np.maximum(pelvis[:, 2:], LEAST_DEPTH)
    depth = np.exp(wide.fit(np.log(before)))
    pelvis = np.concatenate([window.fit(pelvis[:, :2] / before) * depth, depth], 1)
    betas = torch.from_numpy(wide.fit(person.betas))
    rotmats = smooth_rotations(rotation_matrices(person.poses), window)
    trans = torch.from_numpy(pelvis) - _pelvis_at_rest(body, betas)
    return with_parameters(person, body, rotmats, betas, trans)


@dataclass(frozen=True)
class Window:
    """Which K frames each of F frames is fitted to, and how much they count."""

    row: Ints  # (F, K)
    ahead: Float  # (F, K) s from the frame itself
    weight: Float  # (F, K) in the fit; 0 for frames out of reach or beyond a gap
    share: Float  # (F, K) in the fitted value, sums up to 1

    @classmethod
    def around(cls, time: Float, frame: Ints, width: float) -> "Window":
        """Find the frames around each frame.

        Args:
            time: (F,) s, ascending.
            frame: (F,) ascending; a jump is a gap.
            width: s, the strength.

        Returns:
            The window of each of the F frames.
        """
        reach = REACH * width
        own = np.arange(len(time))
        before = own - np.searchsorted(time, time - reach)
        after = np.searchsorted(time, time + reach, "right") - 1 - own
        most = int(max(before.max(), after.max()))
        row = own[:, None] + np.arange(-most, most + 1)
        run = np.cumsum(np.diff(frame, prepend=frame[0]) > 1)
        inside = (row >= 0) & (row < len(time))
        row = row.clip(0, len(time) - 1)
        ahead = time[row] - time[:, None]
        inside &= (run[row] == run[:, None]) & (np.abs(ahead) < reach)
        ahead = np.where(inside, ahead, 0.0)
        weight = np.where(inside, (1 - (ahead / reach) ** 2) ** 3, 0.0)
        return cls(row, ahead, weight, _shares(ahead, weight))

    def fit(self, values: Float) -> Float:
        """Fit values frame by frame.

        Args:
            values: (F, N).

        Returns:
            (F, N).
        """
        fitted = np.zeros_like(values)
        for row, share in zip(self.row.T, self.share.T, strict=True):
            fitted += share[:, None] * values[row]
        return fitted


def _shares(ahead: Float, weight: Float) -> Float:
    """Each frame's share in the value, at 0, of the quadratic that fits best by weight."""
    scale = np.abs(ahead).max(1, keepdims=True)
    x = ahead / np.where(scale > 0, scale, 1)
    moments = np.stack([(weight * x**power).sum(1) for power in range(5)], 1)
    normal = moments[:, np.add.outer(range(3), range(3))]  # (F, 3, 3)
    # The pseudoinverse keeps the values of frames that are too few for a quadratic.
    inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    shares: Float = weight * (inverse[:, :1] @ np.stack([x**0, x, x**2], 1))[:, 0]
    return shares


def smooth_rotations(rotmats: Tensor, window: Window) -> Tensor:
    """Smooth the rotations of joints.

    Args:
        rotmats: (F, J, 3, 3), float64.
        window: of the F frames.

    Returns:
        (F, J, 3, 3).
    """
    velocity = _velocity(rotmats, window)
    fitted = torch.zeros_like(rotmats)
    for row, ahead, share in zip(window.row.T, window.ahead.T, window.share.T, strict=True):
        back = axis_angle_to_matrix(velocity * -torch.from_numpy(ahead)[:, None, None])
        fitted += torch.from_numpy(share)[:, None, None, None] * (rotmats[row] @ back)
    return _nearest_rotations(fitted)


def _velocity(rotmats: Tensor, window: Window) -> Tensor:
    """Mean angular velocity around each frame, (F, J, 3) rad/s, in the joint's own axes."""
    turn = torch.zeros(*rotmats.shape[:2], 3, dtype=rotmats.dtype)
    seconds = torch.zeros_like(turn[..., :1])
    after = window.row.shape[1] // 2 + 1  # the column of the next frame
    if after < window.row.shape[1]:
        joined = torch.from_numpy(window.weight[:-1, after] > 0)[:, None, None]
        step = torch.from_numpy(window.ahead[:-1, after])[:, None, None]
        turned = matrix_to_axis_angle(rotmats[:-1].mT @ rotmats[1:])
        sure = joined & (turned.norm(dim=-1, keepdim=True) < CREDIBLE_TURN)
        turned, step = turned * sure, step * sure
        turn[:-1], seconds[:-1] = turned, step
        turn[1:], seconds[1:] = turn[1:] + turned, seconds[1:] + step
    total, time = torch.zeros_like(turn), torch.zeros_like(seconds)
    for row, column in zip(window.row.T, window.weight.T, strict=True):
        weight = torch.from_numpy(column)[:, None, None]
        total += weight * turn[row]
        time += weight * seconds[row]
    return torch.where(time > 0, total / time, 0)


def _nearest_rotations(matrices: Tensor) -> Tensor:
    """The rotations with the least squared distance from matrices (..., 3, 3)."""
    u, _, vh = torch.linalg.svd(matrices)
    mirrored = torch.linalg.det(u @ vh) < 0
    u[..., 2] = torch.where(mirrored[..., None], -u[..., 2], u[..., 2])
    nearest: Tensor = u @ vh
    return nearest


def common_shape(betas: Float, score: Float, interpolated: Bools) -> Float:
    """Find one shape for a whole track: the median, weighted by score, of its frames' betas.

    Args:
        betas: (F, 10).
        score: (F,) of the detections.
        interpolated: (F,) frames that do not count, unless there are no others.

    Returns:
        (10,), each the value up to which the scores make half of their sum.
    """
    weight = np.where(interpolated, 0, score)
    weight = weight if weight.any() else np.ones(len(betas))
    order = betas.argsort(0)
    summed = weight[order].cumsum(0)
    middle = (summed < summed[-1] / 2).sum(0)
    return np.take_along_axis(betas, order, 0)[middle, range(betas.shape[1])]


def with_shape(person: Person, body: Body, shape: Float) -> Person:
    """Give a person one shape; place and height in the image stay the same.

    The pelvis stays where it is seen. Its depth changes so that the joints' offsets from the
    pelvis, across the line of sight, keep their size in the image, by least squares.

    Args:
        person: F frames.
        body: the person's body model.
        shape: (10,) betas of all frames.

    Returns:
        The person with that shape.
    """
    rotmats = rotation_matrices(person.poses)
    betas = torch.from_numpy(shape).expand(len(person.frame), -1)
    shaped = with_parameters(person, body, rotmats, betas, torch.from_numpy(person.trans))
    was, now = (
        (one.joints3d - one.joints3d[:, :1])[..., :2].reshape(len(betas), -1)
        for one in (person, shaped)
    )
    size = (now * now).sum(1) / (now * was).sum(1)
    pelvis = torch.from_numpy(person.joints3d[:, 0] * size[:, None])
    return with_parameters(person, body, rotmats, betas, pelvis - _pelvis_at_rest(body, betas))


def _pelvis_at_rest(body: Body, betas: Tensor) -> Tensor:
    """Where the pelvis is in the body's own frame, whatever the pose: (F, 3) m."""
    skin = body.skeleton.skin
    return skin.joints[0].double() + betas @ skin.joint_dirs[0].double().mT


@dataclass(frozen=True)
class Effect:
    """What smoothing did to a person's 24 joints: means over the frames and joints."""

    frames: int
    acceleration_before: float  # m/s^2, in the camera's frame
    acceleration_after: float
    jitter_before: float  # m/s^3, the change of the acceleration
    jitter_after: float
    shift: float  # px in the image


def effect(before: Person, after: Person) -> Effect:
    """Compare some of a person's frames with the same frames smoothed.

    Args:
        before: F frames.
        after: the same frames, smoothed.

    Returns:
        What has changed.
    """
    shift = np.linalg.norm(after.joints2d - before.joints2d, axis=-1).mean()
    acceleration, jitter = _acceleration_and_jitter(before)
    acceleration_after, jitter_after = _acceleration_and_jitter(after)
    return Effect(
        len(before.frame), acceleration, acceleration_after, jitter, jitter_after, float(shift)
    )


def mean_effect(effects: Sequence[Effect]) -> Effect:
    """Compute the effect on several stretches or people together.

    Args:
        effects: of each of them.

    Returns:
        Means over all their frames.
    """
    frames = [one.frames for one in effects]
    rows = [astuple(one)[1:] for one in effects]
    return Effect(sum(frames), *np.average(rows, 0, frames).tolist())


def _acceleration_and_jitter(person: Person) -> tuple[float, float]:
    """Mean size of the joints' acceleration, m/s^2, and of its change, m/s^3, without gaps."""
    step = np.maximum(np.diff(person.time), 1e-3)[:, None, None]
    joined = np.diff(person.frame) == 1
    velocity = np.diff(person.joints3d, axis=0) / step
    acceleration = np.diff(velocity, axis=0) * 2 / (step[1:] + step[:-1])
    jitter = np.diff(acceleration, axis=0) / step[1:-1]
    three = joined[1:] & joined[:-1]
    four = three[1:] & three[:-1]
    return _mean_size(acceleration[three]), _mean_size(jitter[four])


def _mean_size(vectors: Float) -> float:
    return float(np.linalg.norm(vectors, axis=-1).mean()) if vectors.size else 0.0
