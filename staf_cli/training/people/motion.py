"""Recorded motions of the open body: one file of clips, mirroring, random sequences from them."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.chance import chance, uniform

HELD_OUT_SUBJECTS = ("13", "14")  # CMU's subject numbers; a clip's name starts with one
# For each joint the one on the other side of the body.
MIRROR_OF = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
SPEEDS = (0.7, 1.5)  # range of playback speeds, relative to the recording
OFFSET_SHARE = 0.5  # share of random sequences in which some joints get a constant offset
OFFSET_JOINTS = 0.3  # share of the joints that are offset in such a sequence
OFFSET_SIGMA = 0.15  # rad, standard deviation of each component of an offset
STRAIGHTENED_SHARE = 0.7  # share of random sequences whose legs are straighter than recorded
LEGS = ((1, 4, 7), (2, 5, 8))  # hip, knee, ankle
FIXED = (10, 11, 22, 23)  # toes and hands, which no recording moves


@dataclass(frozen=True, eq=False)
class Motions:
    """C clips of one body, stored one after the other in R rows, one row per frame.

    Rotations are local, in SMPL's joint order. Joint 0 turns the body's own frame (x left, y up,
    z forward) into the world's (y up). `root` is the pelvis' position; the ground is near y = 0.
    """

    names: tuple[str, ...]  # C, each starting with its subject's number and "_"
    start: NDArray[np.int64]  # (C + 1,) clip i has the rows start[i] to start[i + 1]
    rotvec: NDArray[np.float16]  # (R, 24, 3) rad
    root: NDArray[np.float32]  # (R, 3) m
    fps: float

    def __post_init__(self) -> None:
        """Check the arrays' shapes against each other."""
        rows, start = len(self.root), self.start
        if self.rotvec.shape != (rows, 24, 3) or self.root.shape != (rows, 3):
            raise DatasetError(f"motions: {self.rotvec.shape} rotations for {rows} rows")
        whole = len(start) == len(self.names) + 1 and start[0] == 0 and start[-1] == rows
        if not whole or (np.diff(start) <= 0).any():
            raise DatasetError("motions: the clips' starts do not fit their rows")

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.names)

    def clip(self, i: int) -> tuple[Tensor, Tensor]:
        """Return one clip.

        Args:
            i: Number of the clip, 0 to C - 1.

        Returns:
            Rotation vectors (T, 24, 3) in rad and root positions (T, 3) in m, both float32.
        """
        rows = slice(int(self.start[i]), int(self.start[i + 1]))
        return torch.from_numpy(self.rotvec[rows]).float(), torch.from_numpy(self.root[rows])

    def clips(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield every clip's name and what `clip` returns for it."""
        for i, name in enumerate(self.names):
            yield name, *self.clip(i)

    @property
    def training(self) -> "Motions":
        """The clips of all other subjects, for training.

        Raises:
            DatasetError: There are none.
        """
        return self._with_held_out(False)

    @property
    def held_out(self) -> "Motions":
        """The clips of HELD_OUT_SUBJECTS, for evaluation.

        Raises:
            DatasetError: There are none.
        """
        return self._with_held_out(True)

    def _with_held_out(self, held_out: bool) -> "Motions":
        chosen = [
            i
            for i, name in enumerate(self.names)
            if (name.split("_")[0] in HELD_OUT_SUBJECTS) == held_out
        ]
        if not chosen:
            raise DatasetError("motions: no clip is left; prepare all the recordings")
        rows = np.concatenate([np.arange(self.start[i], self.start[i + 1]) for i in chosen])
        lengths = np.diff(self.start)[chosen]
        return Motions(
            tuple(self.names[i] for i in chosen),
            np.r_[0, np.cumsum(lengths)].astype(np.int64),
            self.rotvec[rows],
            self.root[rows],
            self.fps,
        )


def join_clips(clips: list[tuple[str, Tensor, Tensor]], fps: float) -> Motions:
    """Join single clips into `Motions`.

    Args:
        clips: For each clip its name, rotation vectors (T, 24, 3) in rad and root (T, 3) in m.
        fps: Frames per second of all clips.

    Returns:
        The clips in the given order.

    Raises:
        DatasetError: The list is empty.
    """
    if not clips:
        raise DatasetError("motions: there are no clips")
    return Motions(
        tuple(name for name, _, _ in clips),
        np.cumsum([0] + [len(root) for _, _, root in clips]).astype(np.int64),
        torch.cat([rotvec for _, rotvec, _ in clips]).numpy().astype(np.float16),
        torch.cat([root for _, _, root in clips]).numpy().astype(np.float32),
        fps,
    )


def write_motions(motions: Motions, path: Path) -> None:
    """Write motions into the npz file that `read_motions` reads.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            names=np.array(motions.names),
            start=motions.start,
            rotvec=motions.rotvec,
            root=motions.root,
            fps=np.float64(motions.fps),
        )


def read_motions(path: Path) -> Motions:
    """Read motions from an npz file that `write_motions` wrote.

    Returns:
        All clips of the file.

    Raises:
        DatasetError: The file is missing or holds no motions.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return Motions(
                tuple(str(name) for name in found["names"]),
                found["start"],
                found["rotvec"],
                found["root"],
                float(found["fps"]),
            )
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: there is no such file; prepare the motions") from error
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DatasetError(f"{path}: holds no motions; prepare them again") from error


def mirror_pose(rotvec: Tensor) -> Tensor:
    """Exchange left and right of poses.

    The reflection x -> -x turns a rotation by (x, y, z) into one by (x, -y, -z).

    Args:
        rotvec: (..., 24, 3) rad, joint 0 the body's orientation.

    Returns:
        The mirrored rotation vectors, (..., 24, 3) rad.
    """
    return rotvec[..., list(MIRROR_OF), :] * rotvec.new_tensor([1, -1, -1])


def mirror_motion(rotvec: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Reflect a motion, x -> -x.

    Args:
        rotvec: (T, 24, 3) rad.
        root: (T, 3) m.

    Returns:
        The mirrored rotation vectors (T, 24, 3) and root (T, 3).
    """
    return mirror_pose(rotvec), root * root.new_tensor([-1, 1, 1])


def interpolate_rotations(rotvec: Tensor, times: Tensor) -> Tensor:
    """Interpolate rotations between frames, along the shortest turns.

    Args:
        rotvec: (T, J, 3) rad.
        times: (N,) fractional rows in [0, T - 1].

    Returns:
        (N, J, 3) rad.
    """
    low, high, share = _neighbour_rows(times, len(rotvec))
    first, second = axis_angle_to_matrix(rotvec[low]), axis_angle_to_matrix(rotvec[high])
    turn = matrix_to_axis_angle(first.transpose(-1, -2) @ second)  # (N, J, 3)
    return matrix_to_axis_angle(
        first @ axis_angle_to_matrix(turn * share.to(rotvec)[:, None, None])
    )


def random_sequence(
    motions: Motions, frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a window of a motion and vary it, so that no two sequences are the same.

    The speed is drawn from SPEEDS. Half of the sequences are mirrored; in OFFSET_SHARE of them
    some joints are turned by the same small amount in every frame. In STRAIGHTENED_SHARE of them
    legs are straightened, because recorded people hardly ever straighten theirs. Clips are drawn in
    proportion to the number of windows that fit into them.

    Args:
        motions: The clips to draw from.
        frames: Length of the sequence, at the frame rate of the motions.
        generator: On the CPU.

    Returns:
        Rotation vectors (frames, 24, 3) in rad, joint 0 as recorded, and root (frames, 3) in m.

    Raises:
        DatasetError: No clip is long enough.
    """
    steps = torch.from_numpy(np.diff(motions.start) - 1).double()  # (C,) from first row to last
    fastest = float(steps.max()) / max(frames - 1, 1)
    if fastest < SPEEDS[0]:
        raise DatasetError(f"motions: no clip is long enough for {frames} frames; ask for fewer")
    speed = min(uniform(generator, *SPEEDS), fastest)
    slack = steps - (frames - 1) * speed  # (C,) rows left over
    i = int(torch.multinomial((slack + 1) * (slack >= 0), 1, generator=generator))
    times = uniform(generator, 0, float(slack[i])) + speed * torch.arange(frames).double()
    times = times.clamp(max=float(steps[i]))
    first = int(times[0])
    rows = slice(first, int(times[-1]) + 2)
    times -= first
    whole_rotvec, whole_root = motions.clip(i)
    rotvec = interpolate_rotations(whole_rotvec[rows], times)
    low, high, share = _neighbour_rows(times, len(whole_root[rows]))
    root = torch.lerp(whole_root[rows][low], whole_root[rows][high], share[:, None].float())
    if chance(generator, 0.5):
        rotvec, root = mirror_motion(rotvec, root)
    if chance(generator, STRAIGHTENED_SHARE):
        rotvec = straightened(rotvec, uniform(generator, 0, 1))
    if chance(generator, OFFSET_SHARE):
        offset = OFFSET_SIGMA * torch.randn(24, 3, generator=generator)
        offset[torch.rand(24, generator=generator) > OFFSET_JOINTS] = 0
        offset[[0, *FIXED]] = 0
        turned = axis_angle_to_matrix(offset) @ axis_angle_to_matrix(rotvec)
        rotvec = matrix_to_axis_angle(turned)
    return rotvec, root


def straightened(rotvec: Tensor, share: float) -> Tensor:
    """Take away from a motion's knees what they are bent all the time, and keep feet as they are.

    Args:
        rotvec: (T, 24, 3) rad.
        share: In [0, 1], of the least bend of each knee.

    Returns:
        (T, 24, 3) rad. Thigh and shin turn by half of it each; hips and ankles make up for that.
    """
    rotvec = rotvec.clone()
    for hip, knee, ankle in LEGS:
        bend = share * rotvec[:, knee, 0].min().clamp(min=0)
        half = axis_angle_to_matrix(torch.stack([bend / 2, 0 * bend, 0 * bend]))
        whole = half @ half
        thigh, shin, foot = (axis_angle_to_matrix(rotvec[:, joint]) for joint in (hip, knee, ankle))
        rotvec[:, hip] = matrix_to_axis_angle(thigh @ half)
        rotvec[:, knee] = matrix_to_axis_angle(shin @ whole.mT)
        rotvec[:, ankle] = matrix_to_axis_angle(half @ foot)
    return rotvec


def _neighbour_rows(times: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows (N,) before and after fractional rows (N,), and the weight of the later."""
    low = times.floor().long().clamp(0, max(rows - 2, 0))
    return low, (low + 1).clamp(max=rows - 1), times - low
