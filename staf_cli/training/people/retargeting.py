"""CMU's motion capture on the open body: directions of bones kept, joints bending their way.

Both skeletons rest in a T-pose with x left, y up, z forward, but their bones point elsewhere in
it. A joint of the body follows one of the recording's: its orientation is the recorded joint's
times a constant that lays the resting bone, and the axis about which the next joint bends, onto
the recorded ones. So limbs point exactly as recorded, and elbows and knees bend about their axes.
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
from staf_cli.training.people.motion import Motions, interpolate, join_clips

# The axes about which a recording's elbows bend, in the forearms' frames: in CMU's skeleton the
# elbow is a hinge, and this its direction in all clips. Knees bend about x.
ELBOW_AXES = {"l": (-0.12, -0.858, 0.5), "r": (-0.12, 0.858, -0.5)}
BODY_ELBOW_AXES = {"l": (0.0, -1.0, 0.0), "r": (0.0, 1.0, 0.0)}
LEGS = {"l": (1, 4, 7), "r": (2, 5, 8)}  # hip, knee, ankle
ARMS = {"l": (13, 16, 18, 20, 22), "r": (14, 17, 19, 21, 23)}  # collar to hand

# Shares of the two recorded turns of the trunk, at the abdomen and at the chest, in spine1..3.
# The recorded joints lie between the body's: the abdomen between spine1 and spine2.
ABDOMEN_SHARES = (0.5, 0.5, 0.0)
CHEST_SHARES = (0.0, 0.4, 0.6)
FOREARM_SHARE = 0.5  # of the hand's turn about the forearm; the recording has it all in the wrist
LARGEST_TWIST = 1.7  # rad, of the hand against the elbow
LIFT = 0.4  # rad by which a collar rises with an arm that points straight up

# Where markers were taken for others, joints flip. A foot's flips are bridged: dancers' feet flip
# for seconds while the rest is sound. Frames in which another joint flips are cut out.
LARGEST_ANKLE = 1.2  # rad
LARGEST_STEP = 0.85  # rad a frame at 30 frames per second
LARGEST_ANGLE = {4: 2.7, 5: 2.7, 12: 1.2, 15: 1.4, 18: 2.8, 19: 2.8}  # rad
LARGEST_LEG_TWIST = 1.2  # rad, of the thigh
LARGEST_BACKWARD_BEND = 0.2  # rad, of an elbow; in a few clips an arm is recorded inside out
MARGIN = 2  # frames cut besides a bad one
SHORTEST = 20  # frames of a piece worth keeping
SOLE = 0.05  # m from the ground up to the joint at the toes


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip of motion capture on its own skeleton of J joints, metres, y up."""

    name: str
    index: dict[str, int]  # joint's name to its place
    parents: tuple[int, ...]  # J, -1 for the root, parents first
    offsets: Tensor  # (J, 3) m from the parent, at rest
    rotmats: Tensor  # (T, J, 3, 3) float64, local
    root: Tensor  # (T, 3) m
    fps: float

    def bone(self, joint: str, *ends: str) -> Tensor:
        """From a joint to the mean of others below it, at rest: (3,) m."""
        places = self.rest
        return (
            torch.stack([places[self.index[end]] for end in ends]).mean(0)
            - places[self.index[joint]]
        )

    @property
    def rest(self) -> Tensor:
        """The joints (J, 3) at rest, m from the root."""
        places = [torch.zeros(3, dtype=self.offsets.dtype)]
        for joint, parent in list(enumerate(self.parents))[1:]:
            places.append(places[parent] + self.offsets[joint])
        return torch.stack(places)


def read_recording(path: Path) -> Recording:
    """Read one clip's npz: joints, parents, offsets (cm), rotvec (T, J, 3), root (cm), fps.

    The first frame is left out: it is a mixture with the T-pose that CMU's clips start with.
    Raises DatasetError for a file that is missing or something else.
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
    """Every recording of a folder on the body, cut where joints flip.

    A clip cut into pieces keeps its name for the first; the others are NAME.2, NAME.3, ...
    Raises DatasetError where the folder holds no recordings.
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
        for number, rows in enumerate(sound_pieces(rotmats), 1):
            name = recording.name if number == 1 else f"{recording.name}.{number}"
            clips.append((name, matrix_to_axis_angle(rotmats[rows]), root[rows]))
    return join_clips(clips, round(fps, 2))


def retarget(recording: Recording, body: BodyArrays) -> tuple[Tensor, Tensor]:
    """A recording on the mean body: local rotations (T, 24, 3, 3) and root (T, 3) m, float64.

    The middle of the hips moves as recorded, scaled by the length of the legs, and so that the
    lower foot usually stands on y = 0. Feet and head turn as recorded: both skeletons rest with
    flat feet and a level gaze. Feet that flip are turned evenly between sound frames.
    Collars, which CMU's skeleton holds still, rise with the arms.
    """
    joints = torch.from_numpy(body.J_regressor @ body.v_template).double()  # (24, 3)
    source = _orientations(recording.rotmats, recording.parents)  # (T, J, 3, 3)
    at = recording.index
    local = torch.eye(3, dtype=torch.float64).expand(len(source), JOINT_COUNT, 3, 3).clone()
    local[:, 0] = source[:, at["hip"]]

    abdomen, chest = (
        matrix_to_axis_angle(recording.rotmats[:, at[name]]) for name in ("abdomen", "chest")
    )
    for joint, low, high in zip((3, 6, 9), ABDOMEN_SHARES, CHEST_SHARES, strict=True):
        local[:, joint] = axis_angle_to_matrix(low * abdomen) @ axis_angle_to_matrix(high * chest)

    trunk = source[:, at["chest"]]
    forward = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    left = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    neck = source[:, at["neck"]] @ _onto(
        joints[15] - joints[12], left, recording.bone("neck", "head"), left
    )
    local[:, 12] = trunk.mT @ neck
    local[:, 15] = neck.mT @ source[:, at["head"]]

    for side, (hip, knee, ankle) in LEGS.items():
        thigh = source[:, at[f"{side}Thigh"]] @ _onto(
            joints[knee] - joints[hip], left, recording.bone(f"{side}Thigh", f"{side}Shin"), left
        )
        shin = source[:, at[f"{side}Shin"]] @ _onto(
            joints[ankle] - joints[knee], left, recording.bone(f"{side}Shin", f"{side}Foot"), left
        )
        local[:, hip] = local[:, 0].mT @ thigh
        local[:, knee] = thigh.mT @ shin
        local[:, ankle] = _bridge(shin.mT @ source[:, at[f"{side}Foot"]])

    for side, (collar, shoulder, elbow, wrist, hand) in ARMS.items():
        own, recorded = (
            torch.tensor(axes[side], dtype=torch.float64) for axes in (BODY_ELBOW_AXES, ELBOW_AXES)
        )
        upper = source[:, at[f"{side}Shldr"]] @ _onto(
            joints[elbow] - joints[shoulder],
            own,
            recording.bone(f"{side}Shldr", f"{side}ForeArm"),
            recorded,
        )
        fore = source[:, at[f"{side}ForeArm"]] @ _onto(
            joints[wrist] - joints[elbow],
            own,
            recording.bone(f"{side}ForeArm", f"{side}Hand"),
            recorded,
        )
        fingers = (f"{side}Index1", f"{side}Mid1", f"{side}Ring1", f"{side}Pinky1")
        palm = source[:, at[f"{side}Hand"]] @ _onto(
            joints[hand] - joints[wrist],
            forward,
            recording.bone(f"{side}Hand", *fingers),
            recording.bone(f"{side}Pinky1", f"{side}Index1"),
        )
        axis = normalize(joints[wrist] - joints[elbow], dim=0)
        local[:, elbow], local[:, wrist] = _share_twist(upper.mT @ fore, fore.mT @ palm, axis)
        local[:, collar] = _lift(trunk.mT @ upper, axis)
        local[:, shoulder] = local[:, collar].mT @ trunk.mT @ upper

    hips = recording.rest[[at["lThigh"], at["rThigh"]]].mean(0)
    legs = joints[[1, 2]].mean(0)
    scale = _leg_length(joints[[1, 4, 7]]) / _leg_length(
        recording.rest[[at["lThigh"], at["lShin"], at["lFoot"]]]
    )
    root = scale * (recording.root + (source[:, 0] @ hips)) - local[:, 0] @ legs
    feet = _places(local, joints)[:, [7, 8, 10, 11]] + root[:, None]
    ground = feet[:, 2:, 1].amin(1).quantile(0.1) - SOLE
    return local, root - torch.tensor([0, 1, 0]) * ground


def sound_pieces(rotmats: Tensor) -> Iterator[slice]:
    """The runs of at least SHORTEST rows of local rotations (T, 24, 3, 3) in which nothing flips.

    A row is bad where a joint turns by more than LARGEST_STEP from the row before, or is bent
    further than the other limits allow. MARGIN rows beside it go as well.
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


def _bridge(ankle: Tensor) -> Tensor:
    """Replace an ankle's rotations (T, 3, 3) that bend too far by what lies between the others."""
    rotvec = matrix_to_axis_angle(ankle)
    sound = (rotvec.norm(dim=-1) < LARGEST_ANKLE).nonzero().flatten().numpy()
    if not len(sound):
        return torch.eye(3, dtype=ankle.dtype).expand_as(ankle)
    places = np.interp(np.arange(len(ankle)), sound, np.arange(len(sound)))  # among the sound rows
    return axis_angle_to_matrix(interpolate(rotvec[sound, None], torch.from_numpy(places))[:, 0])


def collar_lift(height: Tensor) -> Tensor:
    """How far a collar rises, rad, with an upper arm whose unit vector points `height` upwards."""
    height = height.clamp(0, 1)
    return LIFT * height * height * (3 - 2 * height)  # smooth at both ends


def _onto(bone: Tensor, across: Tensor, target: Tensor, target_across: Tensor) -> Tensor:
    """The rotation (3, 3) that lays one bone's direction onto another, and `across` nearly so."""
    return _frame(target, target_across) @ _frame(bone, across).mT


def _frame(bone: Tensor, across: Tensor) -> Tensor:
    x = normalize(bone, dim=0)
    y = normalize(across - (across @ x) * x, dim=0)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def _share_twist(elbow: Tensor, wrist: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Take FOREARM_SHARE of the wrist's turn about the forearm (T, 3, 3) into the elbow."""
    twist = _twist(wrist, axis)
    swing = axis_angle_to_matrix(-twist[:, None] * axis) @ wrist
    twist = twist.clamp(-LARGEST_TWIST, LARGEST_TWIST)
    half = axis_angle_to_matrix(FOREARM_SHARE * twist[:, None] * axis)
    rest = axis_angle_to_matrix((1 - FOREARM_SHARE) * twist[:, None] * axis)
    return elbow @ half, rest @ swing


def _twist(rotmats: Tensor, axis: Tensor) -> Tensor:
    """The angle (T,) in [-pi, pi] by which rotations (T, 3, 3) turn about a unit axis (3,)."""
    rotvec = matrix_to_axis_angle(rotmats)
    angle = rotvec.norm(dim=-1)
    sine = torch.sinc(angle / (2 * torch.pi)) / 2 * (rotvec @ axis)
    return 2 * torch.atan2(sine, (angle / 2).cos())


def _lift(arm: Tensor, axis: Tensor) -> Tensor:
    """The collar's rotation (T, 3, 3) for an upper arm (T, 3, 3) in the chest's frame."""
    up = torch.zeros(len(arm), 3, dtype=arm.dtype)
    up[:, 2] = collar_lift((arm @ axis)[:, 1]) * axis[0].sign()
    return axis_angle_to_matrix(up)


def _leg_length(hip_knee_ankle: Tensor) -> Tensor:
    lengths: Tensor = (hip_knee_ankle[1:] - hip_knee_ankle[:-1]).norm(dim=-1)
    return lengths.sum()


def _orientations(local: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Local rotations (T, J, 3, 3) to rotations from rest to world."""
    whole = [local[:, 0]]
    for joint, parent in list(enumerate(parents))[1:]:
        whole.append(whole[parent] @ local[:, joint])
    return torch.stack(whole, 1)


def _places(local: Tensor, joints: Tensor) -> Tensor:
    """The posed body's joints (T, 24, 3), m from the pelvis."""
    whole = _orientations(local, SMPL_PARENTS)
    places = [torch.zeros(len(local), 3, dtype=local.dtype)]
    for joint, parent in list(enumerate(SMPL_PARENTS))[1:]:
        places.append(places[parent] + whole[:, parent] @ (joints[joint] - joints[parent]))
    return torch.stack(places, 1)
