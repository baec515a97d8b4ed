"""Motions of the open body: clips in one file, mirrored, and short varied sequences of them."""

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

HELD_OUT_SUBJECTS = ("13", "14")  # CMU's numbers; a clip's name starts with its subject's
OTHER_SIDE = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
SPEEDS = (0.7, 1.5)  # times the speed of the recording
SHIFTED = 0.5  # share of varied sequences in which some joints are held differently
SHIFTED_JOINTS = 0.3  # share of the joints in such a sequence
SHIFT_SIGMA = 0.15  # rad, of each component
FIXED = (10, 11, 22, 23)  # toes and hands: no recording moves them


@dataclass(frozen=True, eq=False)
class Motions:
    """C clips, one after the other in R rows, of one body.

    Local rotations in SMPL order; joint 0 turns the body's own frame (y up, facing z, left arm
    along x) into the world (y up). `root` is where the pelvis is; the ground is near y = 0.
    """

    names: tuple[str, ...]  # C, each starting with its subject's number and "_"
    start: NDArray[np.int64]  # (C + 1,) the rows of clip i are start[i] to start[i + 1]
    rotvec: NDArray[np.float16]  # (R, 24, 3) rad
    root: NDArray[np.float32]  # (R, 3) m
    fps: float

    def __post_init__(self) -> None:
        rows, start = len(self.root), self.start
        if self.rotvec.shape != (rows, 24, 3) or self.root.shape != (rows, 3):
            raise DatasetError(f"motions: {self.rotvec.shape} rotations for {rows} rows")
        whole = len(start) == len(self.names) + 1 and start[0] == 0 and start[-1] == rows
        if not whole or (np.diff(start) <= 0).any():
            raise DatasetError("motions: the clips' starts do not fit their rows")

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, i: int) -> tuple[Tensor, Tensor]:
        """Clip i: rotation vectors (T, 24, 3), rad, and root (T, 3), m, float32."""
        rows = slice(int(self.start[i]), int(self.start[i + 1]))
        return torch.from_numpy(self.rotvec[rows]).float(), torch.from_numpy(self.root[rows])

    def clips(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Every clip's name, rotation vectors and root."""
        for i, name in enumerate(self.names):
            yield name, *self.clip(i)

    @property
    def training(self) -> "Motions":
        """The clips of the subjects to learn from."""
        return self._where(False)

    @property
    def held_out(self) -> "Motions":
        """The clips of HELD_OUT_SUBJECTS, never learned from."""
        return self._where(True)

    def _where(self, held_out: bool) -> "Motions":
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
    """Motions from names, rotation vectors (T, 24, 3) and roots (T, 3)."""
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
    """Write the npz that `read_motions` reads. Raises OutputError where it cannot be written."""
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
    """Read motions.npz. Raises DatasetError where it is missing or something else."""
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
    """Left and right exchanged: rotation vectors (..., 24, 3), joint 0 the body's orientation.

    The reflection x -> -x turns a rotation by (x, y, z) into one by (x, -y, -z).
    """
    return rotvec[..., list(OTHER_SIDE), :] * rotvec.new_tensor([1, -1, -1])


def mirror_motion(rotvec: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """A motion seen in a mirror: rotation vectors (T, 24, 3) and root (T, 3), x -> -x."""
    return mirror_pose(rotvec), root * root.new_tensor([-1, 1, 1])


def interpolate(rotvec: Tensor, times: Tensor) -> Tensor:
    """Rotation vectors (T, J, 3) at fractional rows (N,) in [0, T - 1], along the shortest turns.

    Returns (N, J, 3).
    """
    low, high, share = _between(times, len(rotvec))
    first, second = axis_angle_to_matrix(rotvec[low]), axis_angle_to_matrix(rotvec[high])
    turn = matrix_to_axis_angle(first.transpose(-1, -2) @ second)  # (N, J, 3)
    return matrix_to_axis_angle(
        first @ axis_angle_to_matrix(turn * share.to(rotvec)[:, None, None])
    )


def random_sequence(
    motions: Motions, frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A window of `frames` frames at the motions' own rate, varied so that no two are the same.

    Its speed is drawn from SPEEDS; half are mirrored; in half some joints are turned by the same
    small amount in every frame. Clips are drawn in proportion to their length. Returns rotation
    vectors (frames, 24, 3), rad, and root (frames, 3), m; joint 0 as recorded. Raises
    DatasetError where no clip is long enough.
    """
    steps = torch.from_numpy(np.diff(motions.start) - 1).double()  # from a clip's first row on
    fastest = float(steps.max()) / max(frames - 1, 1)
    if fastest < SPEEDS[0]:
        raise DatasetError(f"motions: no clip is long enough for {frames} frames; ask for fewer")
    speed = min(_uniform(*SPEEDS, generator), fastest)
    room = steps - (frames - 1) * speed
    i = int(torch.multinomial((room + 1) * (room >= 0), 1, generator=generator))
    times = _uniform(0, float(room[i]), generator) + speed * torch.arange(frames).double()
    times = times.clamp(max=float(steps[i]))
    first = int(times[0])
    rows = slice(first, int(times[-1]) + 2)
    times -= first
    whole_rotvec, whole_root = motions.clip(i)
    rotvec = interpolate(whole_rotvec[rows], times)
    low, high, share = _between(times, len(whole_root[rows]))
    root = torch.lerp(whole_root[rows][low], whole_root[rows][high], share[:, None].float())
    if _uniform(0, 1, generator) < 0.5:
        rotvec, root = mirror_motion(rotvec, root)
    if _uniform(0, 1, generator) < SHIFTED:
        shift = SHIFT_SIGMA * torch.randn(24, 3, generator=generator)
        shift[torch.rand(24, generator=generator) > SHIFTED_JOINTS] = 0
        shift[[0, *FIXED]] = 0
        turned = axis_angle_to_matrix(shift) @ axis_angle_to_matrix(rotvec)
        rotvec = matrix_to_axis_angle(turned)
    return rotvec, root


def _between(times: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (N,) before and after fractional rows (N,), and how far each is on its way."""
    low = times.floor().long().clamp(0, max(rows - 2, 0))
    return low, (low + 1).clamp(max=rows - 1), times - low


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
