"""The path of a camera that travels: such that the lowest foot of each person stands still."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.ndimage import gaussian_filter1d, median_filter

from staf_cli.body.skinning import Body
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import Float, Ints, Person
from staf_cli.world.feet import Feet, feet_of, sole_velocity
from staf_cli.world.soles import soles_of

RISING = 0.5  # m/s, up or down: a lowest foot that is faster does not stand
WALKING = 0.6  # share of the frames in which one must stand, or nothing is believed
USUAL = 0.25  # s, on either side, of which the camera's velocity is the median
SMOOTH = 0.15  # s, standard deviation over which it is averaged then
SHORTEST_STEP = 1e-3  # s, from one frame to the next; damaged files may have less


@dataclass(frozen=True)
class _Seen:
    """F frames of one person."""

    frame: Ints  # (F,)
    time: Float  # (F,) s
    velocity: Float  # (F, 3) m/s, of the camera if the lowest foot stands
    weight: Float  # (F,) 0: it does not


def with_path(camera: CameraMotion, people: Iterable[Iterable[Person]], body: Body) -> CameraMotion:
    """Find where a camera was that travels.

    Args:
        camera: its rotation over the clip.
        people: stretches of each person in the clip, in order.
        body: theirs.

    Returns:
        The camera with positions in the shots in which it travels and people walk; zeros elsewhere.
    """
    if not camera.travels.any():
        return camera
    soles = soles_of(body)
    seen = [_seen(feet_of(one, soles, camera)) for person in people for one in person]
    position = camera.position.copy()
    for shot in np.unique(camera.shot[camera.travels]).tolist():
        rows = np.flatnonzero(camera.shot == shot)
        position[rows] = _path(camera.frame[rows], seen)
    return replace(camera, position=position)


def _seen(feet: Feet) -> _Seen:
    """What the lowest foot says of the camera's velocity."""
    up = feet.level.mean(0)
    up /= max(float(np.linalg.norm(up)), 1e-9)
    lowest = (feet.soles @ up).argmin(1)
    foot = sole_velocity(feet)[np.arange(len(lowest)), lowest]
    distance = np.linalg.norm(feet.joints[:, 0], axis=1)
    weight = (np.abs(foot @ up) < RISING) / np.maximum(distance, 0.1) ** 2
    for run in feet.runs:
        if run.stop - run.start < 2:  # too short for a speed
            weight[run] = 0
    return _Seen(feet.frame, feet.time, -foot, weight)


def _path(frame: Ints, people: Sequence[_Seen]) -> Float:
    """Positions (F, 3) m at the frames of a shot, from its first one on; zeros: not known."""
    total, weight = np.zeros((len(frame), 3)), np.zeros(len(frame))
    time = np.full(len(frame), np.nan)
    for one in people:
        rows, own = np.searchsorted(frame, one.frame), np.isin(one.frame, frame)
        rows = rows[own]
        time[rows] = one.time[own]
        total[rows] += one.velocity[own] * one.weight[own, None]
        weight[rows] += one.weight[own]
    seen, known = np.isfinite(time), weight > 0
    if seen.sum() < 2 or known.sum() < WALKING * seen.sum():
        return np.zeros_like(total)
    time = np.interp(frame, frame[seen], time[seen])
    step = max(float(np.median(np.diff(time[seen]))), SHORTEST_STEP)
    mean = total[known] / weight[known, None]
    filled = [np.interp(frame, frame[known], column) for column in mean.T]
    usual = median_filter(np.stack(filled, 1), (2 * round(USUAL / step) + 1, 1), mode="nearest")
    velocity = gaussian_filter1d(usual, SMOOTH / step, axis=0, mode="nearest")
    path: Float = cumulative_trapezoid(velocity, time, axis=0, initial=0)
    return path
