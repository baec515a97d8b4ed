"""What is measured of a result, frame by frame: no truth is needed.

How far the body's joints are from the keypoints that the detector saw, how far the fit says that
they may be off in space, how fast joints move, how abruptly, and what was not seen at all. Also
where keypoints are often wrong, which the distance from them does not show: how far a person is
from upright, how small in the picture, and how much another person's box covers theirs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from staf_cli.core import metrics
from staf_cli.core.errors import TracksError, one_line
from staf_cli.core.geometry import box_area
from staf_cli.core.records import (
    Bools,
    Float,
    Float32,
    Ints,
    Person,
    Track,
    TrackRow,
    join_rows,
    select_rows,
)
from staf_cli.export.anatomy import clinical_angles
from staf_cli.export.motion import Y_UP, in_level_camera, motion_of
from staf_cli.world.standing import CONTACT

# Parts of a body: joints in SMPL's order, and the COCO keypoints that show the same points.
LIMBS = {
    "head": ((15,), ()),
    "body": ((16, 17, 1, 2), (5, 6, 11, 12)),
    "left arm": ((18, 20), (7, 9)),
    "right arm": ((19, 21), (8, 10)),
    "left leg": ((4, 7), (13, 15)),
    "right leg": ((5, 8), (14, 16)),
}
PELVIS, NECK = 0, 12  # joints
BENT = ("hip_flexion", "knee_flexion", "shoulder_elevation", "elbow_flexion")
ANGLES = tuple(f"{side}_{name}" for name in BENT for side in ("left", "right"))  # of angles.csv
SHOULDERS, HIPS = (5, 6), (11, 12)  # keypoints
SHORTEST_TRUNK = 0.1  # sides of the box: one that is shorter has no direction
SEEN = 0.5  # confidence from which a keypoint counts as seen

Shorts = NDArray[np.int8]


@dataclass(frozen=True)
class Measures:
    """One person frame by frame; NaN marks what cannot be measured."""

    id: int
    name: str  # for the reader
    frame: Ints  # (F,)
    time: Float  # (F,) s
    interpolated: Bools  # (F,)
    error: Float32  # (F,) 2D distance from the keypoints, mean of those seen, sides of the box
    limb_error: Float32  # (F, limbs) the same for each of LIMBS
    hidden: Bools  # (F, limbs) no keypoint of it seen, though it is within the picture
    outside: Bools  # (F, limbs) it reaches out of the picture
    speed: Float32  # (F,) m/s, of the fastest joint
    fastest: Shorts  # (F,) which one
    acceleration: Float32  # (F,) m/s^2, of the joint where it is largest
    most_abrupt: Shorts  # (F,) which one
    mean_acceleration: Float32  # (F,) m/s^2, of all joints
    sigma: Float32  # (F,) m, mean of the person's joint_sigma, the pelvis aside
    tilt: Float32  # (F,) degrees, trunk from upright in the picture: body or keypoints, the larger
    size: Float32  # (F,) px, longer side of the box
    stands: Bools  # (F, 2) left and right foot are on the ground; nowhere where no world is known
    angles: Float32  # (F, len(ANGLES)) degrees
    covered: Float32  # (F,) largest share of the box that another person's box covers

    @property
    def subject(self) -> str:
        """The name with a capital, for the beginning of a sentence."""
        return self.name[:1].upper() + self.name[1:]


def measure(track: Track, stretches: Iterable[Person], others: Iterable[Track] = ()) -> Measures:
    """Measure a person who is read in stretches; only two of them are in memory.

    Args:
        track: F frames, left and right as they should be.
        stretches: of the same person, in order; together they have the same frames.
        others: the clip's other people.

    Returns:
        F frames.

    Raises:
        TracksError: the stretches do not have the track's frames.
    """
    n = len(track.frame)
    error, speed, acceleration, mean_acceleration, sigma, tilt = np.full((6, n), np.nan, np.float32)
    limb_error = np.full((n, len(LIMBS)), np.nan, np.float32)
    hidden, outside = np.zeros((2, n, len(LIMBS)), bool)
    fastest, most_abrupt = np.zeros((2, n), np.int8)
    stands, angles = np.zeros((n, 2), bool), np.zeros((n, len(ANGLES)), np.float32)
    end, before = 0, None
    for stretch in stretches:
        rows = slice(end, end + len(stretch.frame))
        end = rows.stop
        if not np.array_equal(track.frame[rows], stretch.frame):
            break
        own = select_rows(track, rows)
        error[rows], limb_error[rows] = reprojection_error(stretch.joints2d, own)
        outside[rows] = _outside(stretch)
        hidden[rows] = _hidden(own) & ~outside[rows]
        tilt[rows] = np.fmax(_tilt_of_body(stretch), _tilt_of_keypoints(own))
        if stretch.joint_sigma is not None:
            sigma[rows] = stretch.joint_sigma[:, 1:].mean(1)
        if stretch.world_contacts is not None:
            stands[rows] = stretch.world_contacts.reshape(-1, 2, 2).max(2) > CONTACT
        angles[rows] = _angles(stretch)
        near = stretch if before is None else join_rows([before, stretch])
        inner = slice(end - len(near.frame) + 1, end - 1)  # both neighbours are in `near`
        fast, abrupt = motion(near.joints3d, near.time, near.frame)
        speed[inner], fastest[inner] = fast.max(1), fast.argmax(1)
        acceleration[inner], most_abrupt[inner] = abrupt.max(1), abrupt.argmax(1)
        mean_acceleration[inner] = abrupt.mean(1)
        before = select_rows(near, slice(-2, None))
    if end != n or before is None or before.frame[-1] != track.frame[-1]:
        raise TracksError(
            f"person {track.id}: tracks.csv no longer fits the person; run the clip again"
        )
    return Measures(
        track.id,
        one_line(track.name) or f"person {track.id}",
        track.frame,
        track.time,
        track.interpolated,
        error,
        limb_error,
        hidden,
        outside,
        speed,
        fastest,
        acceleration,
        most_abrupt,
        mean_acceleration,
        sigma,
        tilt,
        (track.box[:, 2:] - track.box[:, :2]).max(1).astype(np.float32),
        stands,
        angles,
        _covered(track, others),
    )


def reprojection_error(joints2d: Float, track: Track) -> tuple[Float, Float]:
    """Compute the 2D distance of joints from the keypoints that the detector saw.

    Args:
        joints2d: (F, 24, 2) px.
        track: the same frames.

    Returns:
        In longer sides of the box: the mean over all keypoints that show a joint (F,), and over
        those of each limb (F, limbs); NaN where the detector saw none of them.
    """
    joints = [joint for joints, keypoints in LIMBS.values() if keypoints for joint in joints]
    keypoints = [keypoint for _, keypoints in LIMBS.values() for keypoint in keypoints]
    kp2d = track.kp2d[:, keypoints].astype(np.float64)
    kp2d[..., 2] *= kp2d[..., 2] >= SEEN
    each = metrics.error_2d(joints2d[:, joints], kp2d, track.box)
    limbs = [
        _mean(each[:, [keypoints.index(keypoint) for keypoint in own]]) for _, own in LIMBS.values()
    ]
    return _mean(each), np.stack(limbs, 1)


def motion(joints: Float, time: Float, frame: Ints) -> tuple[Float, Float]:
    """Compute the speeds and accelerations of joints, from parabolas through three frames each.

    Args:
        joints: (F, 24, 3) m.
        time: (F,) s, at uneven steps.
        frame: (F,) a jump is a gap.

    Returns:
        Speeds, m/s, and accelerations, m/s^2, (F - 2, 24) each, of all frames but the first and
        the last; NaN beside a gap.
    """
    if len(frame) < 3:
        return np.zeros((2, 0, joints.shape[1]))  # type: ignore[return-value]
    step = np.diff(time)[:, None, None]
    velocity = np.diff(joints, axis=0) / step
    into, out_of, both = step[:-1], step[1:], step[:-1] + step[1:]
    speed = np.linalg.norm((velocity[:-1] * out_of + velocity[1:] * into) / both, axis=-1)
    acceleration = np.linalg.norm(2 * np.diff(velocity, axis=0) / both, axis=-1)
    broken = frame[2:] - frame[:-2] != 2
    speed[broken] = acceleration[broken] = np.nan
    return speed, acceleration


def median_error(people: Sequence[Measures]) -> tuple[Float, Float]:
    """Compute the median over the people of each frame's 2D error.

    Args:
        people: all of a clip.

    Returns:
        Times (N,) s and medians (N,), of the frames in which an error can be measured.
    """
    frame = np.concatenate([one.frame for one in people])
    time = np.concatenate([one.time for one in people])
    error = np.concatenate([one.error for one in people]).astype(np.float64)
    order = np.lexsort((error, frame))
    order = order[np.isfinite(error[order])]
    frame, time, error = frame[order], time[order], error[order]
    first = np.flatnonzero(np.diff(frame, prepend=-1))
    last = np.append(first[1:], len(frame)) - 1
    middle = (error[(first + last) // 2] + error[(first + last + 1) // 2]) / 2
    return time[first], middle


def worst(people: Sequence[Measures], count: int, apart: float) -> list[TrackRow]:
    """Find the frames that agree least with what the detector saw.

    Without any keypoint: the most abrupt frames.

    Args:
        people: all of a clip.
        count: how many frames at most.
        apart: s, least between two frames of one person.

    Returns:
        Pairs (index in `people`, row of that person), the worst first.
    """
    measured = any(np.isfinite(one.error).any() for one in people)
    found: list[tuple[float, int, int]] = []
    for number, one in enumerate(people):
        value = np.nan_to_num(one.error if measured else one.mean_acceleration, nan=-1.0)
        taken: list[float] = []
        for row in np.argsort(-value, kind="stable").tolist():
            if value[row] < 0 or len(taken) == count:
                break
            if all(abs(one.time[row] - time) >= apart for time in taken):
                taken.append(float(one.time[row]))
                found.append((-float(value[row]), number, row))
    return [(number, row) for _, number, row in sorted(found)[:count]]


def _tilt_of_body(person: Person) -> Float:
    """The angle (F,) degrees between the body's trunk and the picture's upright."""
    trunk = person.joints3d[:, NECK] - person.joints3d[:, PELVIS]
    tilt: Float = np.degrees(np.arctan2(np.hypot(trunk[:, 0], trunk[:, 2]), -trunk[:, 1]))
    return tilt


def _tilt_of_keypoints(track: Track) -> Float:
    """The same in the picture's plane; NaN where shoulders or hips are unseen, or in one place."""
    shoulders, hips = track.kp2d[:, SHOULDERS], track.kp2d[:, HIPS]
    trunk = (shoulders - hips)[..., :2].astype(np.float64).mean(1)
    seen = (track.kp2d[:, SHOULDERS + HIPS, 2] >= SEEN).all(1)
    side = (track.box[:, 2:] - track.box[:, :2]).max(1)
    seen &= np.linalg.norm(trunk, axis=1) > SHORTEST_TRUNK * side
    tilt: Float = np.where(seen, np.degrees(np.arctan2(np.abs(trunk[:, 0]), -trunk[:, 1])), np.nan)
    return tilt


def _angles(person: Person) -> Float:
    """The angles of ANGLES, (F, 8) degrees; of legs as they stand in the world, if it is known."""
    placed = person if person.world_poses is None else in_level_camera(person)
    angles = clinical_angles(motion_of(placed, Y_UP))
    return np.stack([angles[name] for name in ANGLES], 1)


def _covered(track: Track, others: Iterable[Track]) -> Float32:
    """The largest share (F,) of a person's box that the box of any one of the others covers."""
    share = np.zeros(len(track.frame), np.float32)
    for other in others:
        _, own, its = np.intersect1d(track.frame, other.frame, True, True)
        box, near = track.box[own], other.box[its]
        common = np.minimum(box[:, 2:], near[:, 2:]) - np.maximum(box[:, :2], near[:, :2])
        share[own] = np.maximum(share[own], common.clip(0).prod(1) / box_area(box))
    return share


def _outside(person: Person) -> Bools:
    """Whether any of a limb's joints is outside the picture: (F, limbs)."""
    past = (person.joints2d < 0) | (person.joints2d > person.image_size)
    beyond = np.asarray(past.any(-1))
    return np.stack([beyond[:, joints].any(1) for joints, _ in LIMBS.values()], 1)


def _hidden(track: Track) -> Bools:
    """Whether the detector saw none of a limb's keypoints: (F, limbs)."""
    unseen = track.kp2d[..., 2] < SEEN
    return np.stack([unseen[:, own].all(1) & bool(own) for _, own in LIMBS.values()], 1)


def _mean(values: Float) -> Float:
    """The mean of each row of (F, K) without its NaNs; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(1)
    total = np.where(known, values, 0).sum(1)
    mean: Float = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
