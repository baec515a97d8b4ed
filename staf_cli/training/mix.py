"""Batches for the paper's training: people of several datasets in fixed ratios, not augmented.

Pictures are decoded where they lie, by threads, for one step ahead. What step k draws depends on
the seed and k alone.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from staf_cli import video
from staf_cli.body.skinning import BodyPoints
from staf_cli.core.crop import crop_image
from staf_cli.core.devices import send
from staf_cli.core.errors import DatasetError
from staf_cli.core.files import printable
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import Image
from staf_cli.evaluation.datasets.people import Ints, People
from staf_cli.model.normalisation import normalise
from staf_cli.training.losses import GroundTruth, from_hips

MOST_READERS = 16  # threads
LSP_HIPS = [2, 3]

Rows = list[tuple[People, Ints]]  # of a batch, in order


@dataclass(frozen=True, eq=False)
class Group:
    """Datasets that share a part of every batch, each in proportion to its size.

    A start is the first row of a window of frames; of single frames every row is one.
    """

    share: float  # relative to the other groups'
    people: tuple[People, ...]
    starts: tuple[Ints, ...]  # of each dataset

    def take(self, number: int) -> tuple[People, int]:
        """Return a start of the group by its number, from 0."""
        for people, starts in zip(self.people, self.starts, strict=True):
            if number < len(starts):
                return people, int(starts[number])
            number -= len(starts)
        raise IndexError(number)

    def __len__(self) -> int:
        """Return how many starts there are."""
        return sum(len(starts) for starts in self.starts)


def make_group(share: float, sets: Mapping[str, People], length: int) -> Group:
    """Make a group of windows.

    Args:
        share: Of batches.
        sets: By name.
        length: Frames of a window; 1: single frames.

    Returns:
        The group.

    Raises:
        DatasetError: A set has no window.
    """
    starts = {name: people.windows(length) for name, people in sets.items()}
    for name, found in starts.items():
        if not len(found):
            raise DatasetError(
                f"{name}: no {length} labelled frames of a person follow each other; leave it out"
            )
    return Group(share, tuple(sets.values()), tuple(starts.values()))


class Mix:
    """Random batches of B windows of T frames."""

    def __init__(
        self,
        groups: Sequence[Group],
        points: BodyPoints,
        size: int,
        length: int,
        seed: int,
    ) -> None:
        """Start the threads that read.

        Args:
            groups: What batches are drawn from; none is empty.
            points: The 31 labelled points of the body, on the device.
            size: B.
            length: T.
            seed: Of the run.
        """
        self.groups, self.points = groups, points
        self.size, self.length, self.seed = size, length, seed
        self.readers = open_readers()
        self._ahead: tuple[int, Rows, list[Future[Image]]] | None = None

    def rows(self, step: int) -> Rows:
        """Choose the people of a step.

        A group gets its share of B, rounded down or up so that the mean over many steps is exact.

        Args:
            step: Of the run.

        Returns:
            B windows, each as T rows of a dataset, group by group.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        shares = torch.tensor([group.share for group in self.groups], dtype=torch.float64)
        ends = (shares / shares.sum()).cumsum(0)[:-1]
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        places = (torch.arange(self.size) + offset) / self.size
        chosen = []
        for which in torch.bucketize(places, ends, right=True).tolist():
            group = self.groups[which]
            number = int(torch.randint(len(group), (), generator=generator))
            people, start = group.take(number)
            chosen.append((people, np.arange(start, start + self.length)))
        return chosen

    def draw(self, step: int) -> tuple[Tensor, GroundTruth]:
        """Read the batch of a step.

        Args:
            step: Of the run.

        Returns:
            Normalised crops (B T, 3, 224, 224), a window's together, and their ground truth.
        """
        torch.manual_seed(self.seed * 1_000_003 + step)  # dropout's
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = self._begin(step)
        _, chosen, crops = self._ahead
        self._ahead = self._begin(step + 1)
        images = torch.from_numpy(np.stack([crop.result() for crop in crops]))
        return normalise(send(images, self.points.mix.device)), truth_of(chosen, self.points)

    def _begin(self, step: int) -> tuple[int, Rows, list[Future[Image]]]:
        chosen = self.rows(step)
        return step, chosen, begin_reading(self.readers, chosen)


def open_readers() -> ThreadPoolExecutor:
    """Start threads that read pictures."""
    return ThreadPoolExecutor(min(MOST_READERS, os.cpu_count() or 1), thread_name_prefix="read")


def begin_reading(pool: ThreadPoolExecutor, rows: Rows) -> list[Future[Image]]:
    """Let threads read the crops (224, 224, 3) of all rows, in order."""
    return [pool.submit(read_crop, people, row) for people, some in rows for row in some.tolist()]


def read_crop(people: People, row: int) -> Image:
    """Cut a person out of the picture.

    Args:
        people: Of a dataset.
        row: Whom.

    Returns:
        (224, 224, 3) RGB uint8.

    Raises:
        DatasetError: The picture cannot be read.
    """
    path = people.root / people.pictures[row]
    picture = video.read_picture(path)
    if picture is None:
        raise DatasetError(f"{printable(path)}: is no picture that can be read; get it again")
    return crop_image(picture, people.square[row].astype(np.float64))


def truth_of(rows: Rows, points: BodyPoints) -> GroundTruth:
    """Compute the ground truth of people: 3D joints as labelled, else those of the fit.

    Args:
        rows: Of datasets, N together.
        points: The 31 labelled points of the body, on the device.

    Returns:
        N frames, on the device. 3D joints without both hips count as unknown.
    """
    kp2d, kp3d, poses, betas, known, square = (
        send(
            torch.from_numpy(
                np.concatenate([getattr(people, name)[some] for people, some in rows])
            ),
            points.mix.device,
        )
        for name in ("kp2d", "kp3d", "poses", "betas", "smpl_weight", "square")
    )
    rotmats = axis_angle_to_matrix(poses.reshape(-1, 24, 3))
    with torch.no_grad():
        fitted, _ = points(rotmats, betas)
    labelled = kp3d[..., 3] * (kp3d[:, LSP_HIPS, 3] > 0).all(1, keepdim=True)  # (N, 31)
    by_label = labelled.any(1)[:, None]
    joints = torch.where(by_label[..., None], kp3d[..., :3], fitted)
    places = (kp2d[..., :2] - square[:, None, :2]) / (square[:, None, 2:] / 2)
    return GroundTruth(
        kp2d=torch.cat([places, kp2d[..., 2:]], -1),
        kp3d=from_hips(joints),
        rotmats=rotmats,
        betas=betas,
        smpl_weight=known,
        kp3d_weight=torch.where(by_label, labelled, known[:, None].expand_as(labelled)),
    )
