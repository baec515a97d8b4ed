"""Transfer of CMU's motion capture to the open body.

Both skeletons rest in a T-pose with x left, y up, z forward, but their bones have different
directions in it. Each joint of the body follows one of the recording: its orientation is the
recorded joint's times a constant rotation. The constant aligns the resting bone, and the axis
about which the next joint bends, with those of the recording. So limbs point exactly as
recorded, and elbows and knees bend about their own axes.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from staf_cli.body.format import JOINT_COUNT, SMPL_PARENTS, BodyArrays
from staf_cli.core.errors import DatasetError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.people.motion import LEGS, Motions, interpolate_rotations, join_clips

# The axes about which elbows bend, in the forearms' frames. In CMU's skeleton the elbow is a hinge
# with the same axis in all clips. Knees bend about x.
ELBOW_AXES = {"l": (-0.12, -0.858, 0.5), "r": (-0.12, 0.858, -0.5)}
BODY_ELBOW_AXES = {"l": (0.0, -1.0, 0.0), "r": (0.0, 1.0, 0.0)}
LEFT = torch.tensor([1.0, 0, 0], dtype=torch.float64)
FORWARD = torch.tensor([0.0, 0, 1], dtype=torch.float64)
ARMS = {"l": (13, 16, 18, 20, 22), "r": (14, 17, 19, 21, 23)}  # collar to hand

# How the two recorded rotations of the trunk, at abdomen and chest, are distributed over spine1..3.
# The recorded joints are between the body's: the abdomen is between spine1 and spine2.
ABDOMEN_SHARES = (0.5, 0.5, 0.0)
CHEST_SHARES = (0.0, 0.4, 0.6)
FOREARM_SHARE = 0.5  # of the hand's twist; the recording has all of it in the wrist
LARGEST_TWIST = 1.7  # rad, of the hand against the elbow
COLLAR_LIFT = 0.4  # rad by which a collar rises with an arm that points straight up

# Where the capture confused markers, joints flip. Flips of a foot are interpolated, since dancers'
# feet flip for seconds while the rest is right. Frames in which another joint flips are cut out.
LARGEST_ANKLE = 1.2  # rad
LARGEST_STEP = 0.85  # rad per frame at 30 frames per second
LARGEST_ANGLE = {4: 2.7, 5: 2.7, 12: 1.2, 15: 1.4, 18: 2.8, 19: 2.8}  # rad
LARGEST_LEG_TWIST = 1.2  # rad, of the thigh
LARGEST_BACKWARD_BEND = 0.2  # rad, of an elbow; in a few clips an arm is recorded inside out
MARGIN = 2  # frames cut besides a bad one
SHORTEST = 20  # frames of a stretch worth keeping
SOLE = 0.05  # m, height of the toes' joint above the ground


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip of motion capture on its own skeleton of J joints; m, y up."""

    name: str
    index: dict[str, int]  # joint's name to its number
    parents: tuple[int, ...]  # J, -1 for the root, parents first
    offsets: Tensor  # (J, 3) m from the parent, at rest
    rotmats: Tensor  # (T, J, 3, 3) float64, local
    root: Tensor  # (T, 3) m
    fps: float

    def bone(self, joint: str, *ends: str) -> Tensor:
        """Compute a bone's vector at rest.

        Args:
            joint: Where the bone begins.
            *ends: Names of joints whose mean position is its end.

        Returns:
            (3,) m, from the begin to the end.
        """
        rest = self.rest
        end = torch.stack([rest[self.index[name]] for name in ends]).mean(0)
        return end - rest[self.index[joint]]

    @property
    def rest(self) -> Tensor:
        """The joints (J, 3) at rest, m from the root."""
        positions = [torch.zeros(3, dtype=self.offsets.dtype)]
        for joint, parent in list(enumerate(self.parents))[1:]:
            positions.append(positions[parent] + self.offsets[joint])
        return torch.stack(positions)


def read_recording(path: Path) -> Recording:
    """Read one clip of motion capture.

    The first frame is left out: it is a mixture with the T-pose that CMU's clips start with.

    Args:
        path: An npz file with joints (J,), parents (J,), offsets (J, 3) cm, rotvec (T, J, 3)
            rad, root (T, 3) cm and fps.

    Returns:
        The clip without its first frame, in m.

    Raises:
        DatasetError: The file is missing or holds no recording.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            rotvec = torch.from_numpy(found["rotvec"][1:].astype(np.float64))
            return Recording(
                path.stem,
                {str(name): i for i, name in enumerate(found["joints"])},
                tuple(found["parents"].tolist()),
                torch.from_numpy(found["offsets"].astype(np.float64)) / 100,
                axis_angle_to_matrix(rotvec),
                torch.from_numpy(found["root"][1:].astype(np.float64)) / 100,
                round(float(found["fps"]), 3),
            )
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: there is no such file") from error
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{path}: is no recording of motion capture") from error


def prepare_motions(folder: Path, body: BodyArrays) -> Motions:
    """Transfer every recording of a folder to the body and cut out frames in which joints flip.

    If a clip is cut into several stretches, the first keeps the clip's name and the others are
    called NAME.2, NAME.3, ...

    Args:
        folder: Holds recordings such as 02_01.npz (see `read_recording`).
        body: The body that the motions are for.

    Returns:
        All stretches, sorted by the recordings' names.

    Raises:
        DatasetError: The folder holds no recordings, or one is broken or of another frame rate.
    """
    paths = sorted(path for path in folder.glob("*.npz") if re.match(r"\d+_\d+", path.stem))
    if not paths:
        raise DatasetError(f"{folder}: holds no recordings such as 02_01.npz")
    clips = []
    fps = 0.0
    for path in paths:
        recording = read_recording(path)
        if fps and abs(recording.fps - fps) > 0.01:
            raise DatasetError(f"{path}: {recording.fps} frames per second, others {fps}")
        fps = recording.fps
        rotmats, root = retarget(recording, body)
        for number, rows in enumerate(valid_stretches(rotmats), 1):
            name = recording.name if number == 1 else f"{recording.name}.{number}"
            clips.append((name, matrix_to_axis_angle(rotmats[rows]), root[rows]))
    return join_clips(clips, round(fps, 2))


def retarget(recording: Recording, body: BodyArrays) -> tuple[Tensor, Tensor]:
    """Transfer a recording to the mean body.

    The middle of the hips moves as recorded, scaled by the length of the legs and shifted so
    that the lower foot is usually on y = 0. Feet and head turn as recorded: both skeletons rest
    with flat feet and a level gaze. Feet that flip are interpolated between valid frames.
    Collars, which do not move in CMU's skeleton, rise with the arms.

    Args:
        recording: T frames of motion capture.
        body: Its mean shape sets the directions of the resting bones.

    Returns:
        Local rotations (T, 24, 3, 3) and root (T, 3) m, y up, both float64.
    """
    joints = torch.from_numpy(body.J_regressor @ body.v_template).double()  # (24, 3)
    source = _orientations(recording.rotmats, recording.parents)  # (T, J, 3, 3)
    local = torch.eye(3, dtype=torch.float64).expand(len(source), JOINT_COUNT, 3, 3).clone()
    local[:, 0] = source[:, recording.index["hip"]]
    _set_trunk(local, recording, source, joints)
    _set_legs(local, recording, source, joints)
    _set_arms(local, recording, source, joints)
    return local, _root(local, recording, source, joints)


def _set_trunk(local: Tensor, recording: Recording, source: Tensor, joints: Tensor) -> None:
    """Fill in the local rotations of spine1..3, neck and head."""
    at = recording.index
    abdomen, chest = (
        matrix_to_axis_angle(recording.rotmats[:, at[name]]) for name in ("abdomen", "chest")
    )
    for joint, low, high in zip((3, 6, 9), ABDOMEN_SHARES, CHEST_SHARES, strict=True):
        local[:, joint] = axis_angle_to_matrix(low * abdomen) @ axis_angle_to_matrix(high * chest)
    neck = source[:, at["neck"]] @ _align(
        joints[15] - joints[12], LEFT, recording.bone("neck", "head"), LEFT
    )
    local[:, 12] = source[:, at["chest"]].mT @ neck
    local[:, 15] = neck.mT @ source[:, at["head"]]


def _set_legs(local: Tensor, recording: Recording, source: Tensor, joints: Tensor) -> None:
    """Fill in the local rotations of hips, knees and ankles; the pelvis' are set already."""
    at = recording.index
    for side, (hip, knee, ankle) in zip("lr", LEGS, strict=True):
        thigh = source[:, at[f"{side}Thigh"]] @ _align(
            joints[knee] - joints[hip], LEFT, recording.bone(f"{side}Thigh", f"{side}Shin"), LEFT
        )
        shin = source[:, at[f"{side}Shin"]] @ _align(
            joints[ankle] - joints[knee], LEFT, recording.bone(f"{side}Shin", f"{side}Foot"), LEFT
        )
        local[:, hip] = local[:, 0].mT @ thigh
        local[:, knee] = thigh.mT @ shin
        local[:, ankle] = _without_flips(shin.mT @ source[:, at[f"{side}Foot"]])


def _set_arms(local: Tensor, recording: Recording, source: Tensor, joints: Tensor) -> None:
    """Fill in the local rotations of collars, shoulders, elbows and wrists."""
    at = recording.index
    trunk = source[:, at["chest"]]
    for side, (collar, shoulder, elbow, wrist, hand) in ARMS.items():
        own, recorded = (
            torch.tensor(axes[side], dtype=torch.float64) for axes in (BODY_ELBOW_AXES, ELBOW_AXES)
        )
        upper = source[:, at[f"{side}Shldr"]] @ _align(
            joints[elbow] - joints[shoulder],
            own,
            recording.bone(f"{side}Shldr", f"{side}ForeArm"),
            recorded,
        )
        fore = source[:, at[f"{side}ForeArm"]] @ _align(
            joints[wrist] - joints[elbow],
            own,
            recording.bone(f"{side}ForeArm", f"{side}Hand"),
            recorded,
        )
        fingers = (f"{side}Index1", f"{side}Mid1", f"{side}Ring1", f"{side}Pinky1")
        palm = source[:, at[f"{side}Hand"]] @ _align(
            joints[hand] - joints[wrist],
            FORWARD,
            recording.bone(f"{side}Hand", *fingers),
            recording.bone(f"{side}Pinky1", f"{side}Index1"),
        )
        axis = normalize(joints[wrist] - joints[elbow], dim=0)
        local[:, elbow], local[:, wrist] = _share_twist(upper.mT @ fore, fore.mT @ palm, axis)
        local[:, collar] = _raised_collar(trunk.mT @ upper, axis)
        local[:, shoulder] = local[:, collar].mT @ trunk.mT @ upper


def _root(local: Tensor, recording: Recording, source: Tensor, joints: Tensor) -> Tensor:
    """Compute the root's path (T, 3) m from the recorded hips, with the feet on the ground."""
    at, rest = recording.index, recording.rest
    hips = rest[[at["lThigh"], at["rThigh"]]].mean(0)
    scale = _leg_length(joints[[1, 4, 7]]) / _leg_length(
        rest[[at["lThigh"], at["lShin"], at["lFoot"]]]
    )
    root = scale * (recording.root + (source[:, 0] @ hips)) - local[:, 0] @ joints[[1, 2]].mean(0)
    feet = _joint_positions(local, joints)[:, [7, 8, 10, 11]] + root[:, None]
    ground = feet[:, 2:, 1].amin(1).quantile(0.1) - SOLE
    return root - torch.tensor([0, 1, 0]) * ground


def valid_stretches(rotmats: Tensor) -> Iterator[slice]:
    """Find the stretches of at least SHORTEST frames in which no joint flips.

    A frame is bad if a joint turns by more than LARGEST_STEP from the frame before or after, or
    is bent further than the other limits allow. MARGIN frames on both sides are bad as well.

    Args:
        rotmats: (T, 24, 3, 3) local rotations of the body.

    Yields:
        The rows of one stretch.
    """
    rotvec = matrix_to_axis_angle(rotmats)
    step = matrix_to_axis_angle(rotmats[:-1].mT @ rotmats[1:]).norm(dim=-1).amax(-1)
    bad = torch.zeros(len(rotmats), dtype=torch.bool)
    bad[1:] |= step > LARGEST_STEP
    bad[:-1] |= step > LARGEST_STEP
    for joint, limit in LARGEST_ANGLE.items():
        bad |= rotvec[:, joint].norm(dim=-1) > limit
    down = torch.tensor([0.0, -1, 0], dtype=rotmats.dtype)
    for hip in (1, 2):
        bad |= _twist(rotmats[:, hip], down).abs() > LARGEST_LEG_TWIST
    for elbow, axis in zip((18, 19), BODY_ELBOW_AXES.values(), strict=True):
        bend = rotvec[:, elbow] @ torch.tensor(axis, dtype=rotmats.dtype)
        bad |= bend < -LARGEST_BACKWARD_BEND
    for row in bad.nonzero().flatten().tolist():
        bad[max(row - MARGIN, 0) : row + MARGIN + 1] = True
    edges = np.flatnonzero(np.diff(np.r_[1, bad.numpy().astype(int), 1]))
    for begin, end in edges.reshape(-1, 2).tolist():
        if end - begin >= SHORTEST:
            yield slice(begin, end)


def _without_flips(ankle: Tensor) -> Tensor:
    """Interpolate an ankle's rotations (T, 3, 3) where they bend too far."""
    rotvec = matrix_to_axis_angle(ankle)
    valid = (rotvec.norm(dim=-1) < LARGEST_ANKLE).nonzero().flatten().numpy()
    if not len(valid):
        return torch.eye(3, dtype=ankle.dtype).expand_as(ankle)
    times = np.interp(np.arange(len(ankle)), valid, np.arange(len(valid)))  # rows of valid ones
    filled = interpolate_rotations(rotvec[valid, None], torch.from_numpy(times))
    return axis_angle_to_matrix(filled[:, 0])


def collar_lift(height: Tensor) -> Tensor:
    """Compute how far a collar rises with the upper arm.

    Args:
        height: Upward component of the upper arm's unit vector, any shape.

    Returns:
        rad, the same shape; 0 for an arm that is level or lower.
    """
    height = height.clamp(0, 1)
    return COLLAR_LIFT * height * height * (3 - 2 * height)  # smooth at both ends


def _align(bone: Tensor, across: Tensor, target: Tensor, target_across: Tensor) -> Tensor:
    """Return the rotation (3, 3) of a bone's direction to another's, `across` nearly so."""
    return _frame(target, target_across) @ _frame(bone, across).mT


def _frame(bone: Tensor, across: Tensor) -> Tensor:
    """Return an orthonormal frame (3, 3) in columns: bone, `across` perpendicular to it, cross."""
    x = normalize(bone, dim=0)
    y = normalize(across - (across @ x) * x, dim=0)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def _share_twist(elbow: Tensor, wrist: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Move FOREARM_SHARE of the wrist's twist about the forearm (T, 3, 3) to the elbow."""
    twist = _twist(wrist, axis)
    swing = axis_angle_to_matrix(-twist[:, None] * axis) @ wrist
    twist = twist.clamp(-LARGEST_TWIST, LARGEST_TWIST)
    half = axis_angle_to_matrix(FOREARM_SHARE * twist[:, None] * axis)
    rest = axis_angle_to_matrix((1 - FOREARM_SHARE) * twist[:, None] * axis)
    return elbow @ half, rest @ swing


def _twist(rotmats: Tensor, axis: Tensor) -> Tensor:
    """Return the angle (T,) in [-pi, pi] by which rotations (T, 3, 3) turn about an axis (3,)."""
    rotvec = matrix_to_axis_angle(rotmats)
    angle = rotvec.norm(dim=-1)
    sine = torch.sinc(angle / (2 * torch.pi)) / 2 * (rotvec @ axis)
    return 2 * torch.atan2(sine, (angle / 2).cos())


def _raised_collar(arm: Tensor, axis: Tensor) -> Tensor:
    """Return the collar's rotation (T, 3, 3) for an upper arm (T, 3, 3) in the chest's frame."""
    up = torch.zeros(len(arm), 3, dtype=arm.dtype)
    up[:, 2] = collar_lift((arm @ axis)[:, 1]) * axis[0].sign()
    return axis_angle_to_matrix(up)


def _leg_length(hip_knee_ankle: Tensor) -> Tensor:
    lengths: Tensor = (hip_knee_ankle[1:] - hip_knee_ankle[:-1]).norm(dim=-1)
    return lengths.sum()


def _orientations(local: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Convert local rotations (T, J, 3, 3) to rotations from rest to world."""
    world = [local[:, 0]]
    for joint, parent in list(enumerate(parents))[1:]:
        world.append(world[parent] @ local[:, joint])
    return torch.stack(world, 1)


def _joint_positions(local: Tensor, joints: Tensor) -> Tensor:
    """Compute the posed body's joints (T, 24, 3), m from the pelvis."""
    world = _orientations(local, SMPL_PARENTS)
    positions = [torch.zeros(len(local), 3, dtype=local.dtype)]
    for joint, parent in list(enumerate(SMPL_PARENTS))[1:]:
        positions.append(positions[parent] + world[:, parent] @ (joints[joint] - joints[parent]))
    return torch.stack(positions, 1)
