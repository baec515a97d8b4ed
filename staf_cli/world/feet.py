"""One person as ground and contacts are found from: in the frame of the shot's first camera."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np

from staf_cli.body.skinning import BodyPoints
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.records import Bools, Float, Ints, Person
from staf_cli.world.soles import sole_points

BLUR = 0.1  # s, on either side, over which a speed is the mean
PELVIS_BLUR = 0.4  # s, the same of a person's distance from the camera


@dataclass(frozen=True)
class Feet:
    """F frames of one person; m, in the frame of the first camera of each frame's shot."""

    id: int  # the person's
    frame: Ints  # (F,)
    time: Float  # (F,) s
    shot: Ints  # (F,)
    joints: Float  # (F, 24, 3)
    soles: Float  # (F, 4, 3) in the order of `soles.POINTS`
    ray: Float  # (F, 3) unit vectors from the camera to the pelvis
    level: Float  # (F, 3) unit vectors that are up if the camera is level in that frame

    @property
    def runs(self) -> list[slice]:
        """Slices of frames that follow each other without a gap, within one shot."""
        broken = (np.diff(self.frame) > 1) | (np.diff(self.shot) != 0)
        cuts = [0, *(np.flatnonzero(broken) + 1).tolist(), len(self.frame)]
        return [slice(a, b) for a, b in pairwise(cuts)]

    def in_shot(self, shot: int) -> "Feet":
        """Select the frames of one shot."""
        return self.rows(self.shot == shot)

    def rows(self, rows: slice | Bools) -> "Feet":
        """Select some of the frames."""
        columns: dict[str, Any] = {
            one.name: getattr(self, one.name)[rows] for one in fields(self)[1:]
        }
        return replace(self, **columns)


def feet_of(person: Person, soles: BodyPoints, camera: CameraMotion) -> Feet:
    """Collect what ground and contacts are found from.

    Args:
        person: F frames, in the camera frame.
        soles: of the person's body.
        camera: its frames include the person's.

    Returns:
        The same frames.
    """
    rows = camera_rows(camera, person.frame)
    turn, place = camera.rotation[rows], camera.position[rows]
    pelvis = person.joints3d[:, 0]
    ray = pelvis / np.linalg.norm(pelvis, axis=-1, keepdims=True)
    return Feet(
        id=person.id,
        frame=person.frame,
        time=person.time,
        shot=camera.shot[rows],
        joints=_moved(person.joints3d, turn, place),
        soles=_moved(sole_points(person.poses, person.betas, person.trans, soles), turn, place),
        ray=_moved(ray[:, None], turn, 0 * place)[:, 0],
        level=-turn[:, :, 1],
    )


def join_feet(parts: Sequence[Feet]) -> Feet:
    """Join stretches of one person.

    Args:
        parts: the stretches, in order of time; one at least.

    Returns:
        All their frames.
    """
    columns: dict[str, Any] = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(parts[0])[1:]
    }
    return replace(parts[0], **columns)


def camera_rows(camera: CameraMotion, frame: Ints) -> Ints:
    """Find the camera's rows at some frames; where it has none, those of the frame before.

    Args:
        camera: over the clip.
        frame: (F,) ascending.

    Returns:
        (F,)
    """
    rows = np.searchsorted(camera.frame, frame, side="right") - 1
    found: Ints = np.clip(rows, 0, len(camera.frame) - 1)
    return found


def _moved(points: Float, turn: Float, place: Float) -> Float:
    """Points (F, N, 3) turned by (F, 3, 3) and moved by (F, 3)."""
    moved: Float = np.einsum("fij,fnj->fni", turn, points) + place[:, None]
    return moved


def sole_velocity(feet: Feet) -> Float:
    """Compute the velocities of heels and toes.

    Along the line of sight a person's distance is noisy, but the foot's place in the body is not:
    there the velocity is that relative to the pelvis, plus the pelvis' own over a longer time.

    Args:
        feet: F frames.

    Returns:
        (F, 4, 3) m/s; zeros in runs of one frame.
    """
    pelvis, ray = feet.joints[:, :1], feet.ray[:, None]
    fast, slow, relative = (
        np.zeros_like(feet.soles),
        np.zeros_like(pelvis),
        np.zeros_like(feet.soles),
    )
    for run in feet.runs:
        fast[run] = _slopes(feet.soles[run], feet.time[run], BLUR)
        relative[run] = _slopes((feet.soles - pelvis)[run], feet.time[run], BLUR)
        slow[run] = _slopes(pelvis[run], feet.time[run], PELVIS_BLUR)
    along = ((relative + slow - fast) * ray).sum(-1, keepdims=True)
    found: Float = fast + along * ray
    return found


def _slopes(points: Float, time: Float, blur: float) -> Float:
    """Slopes (F, N, 3) of straight lines by least squares through the frames around each."""
    first = np.searchsorted(time, time - blur - 1e-6)
    last = np.searchsorted(time, time + blur + 1e-6)
    row = np.arange(len(time))
    first, last = np.minimum(first, np.maximum(row - 1, 0)), np.maximum(last, row + 2)
    last = np.minimum(last, len(time))

    def total(values: Float) -> Float:
        sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)])
        around: Float = sums[last] - sums[first]
        return around

    flat = points.reshape(len(points), -1) - points.reshape(len(points), -1)[:1]
    t = (time - time[0])[:, None]
    count = (last - first)[:, None]
    over = count * total(t * flat) - total(t) * total(flat)
    under = count * total(t * t) - total(t) ** 2
    slope: Float = np.divide(over, under, out=np.zeros_like(over), where=under > 1e-9)
    return slope.reshape(points.shape)
