"""Batches of single frames for stage 1: augmented crops from several sample sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.body.skinning import BodyPoints
from staf_cli.core.geometry import CROP_PIXELS
from staf_cli.model.normalisation import normalise
from staf_cli.training.augmentation import (
    crop_images,
    crop_labels,
    occlude,
    plain_view,
    random_view,
)
from staf_cli.training.losses import GroundTruth, concatenate, ground_truth
from staf_cli.training.samples import Labels, SampleSet
from staf_cli.training.store import Store
from staf_cli.training.studio.degradation import degrade

VALIDATION_BATCH = 32


@dataclass(frozen=True)
class SampleSource:
    """A sample set and its share of every batch."""

    samples: SampleSet
    share: float  # relative to the other sources'


@dataclass(frozen=True)
class Phase:
    """A part of the pretraining: fast at first, with small crops and few pyramid levels."""

    until: float  # where it ends, as a part of all steps
    pixels: int  # a crop's side
    levels: int  # of the pyramid


def phase_at(phases: Sequence[Phase], step: int, steps: int) -> Phase:
    """Find the phase of a step.

    Args:
        phases: In order; the last one ends at 1.
        step: 0 to steps - 1.
        steps: Of all phases.

    Returns:
        The first phase that ends after the step.
    """
    return next(phase for phase in phases if step < phase.until * steps)


class Batches:
    """Random batches; that of step k depends on the seed and k alone, the same on every device."""

    def __init__(
        self,
        sources: Sequence[SampleSource],
        points: BodyPoints,
        size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Open the sources.

        Args:
            sources: What batches are drawn from.
            points: The 31 labelled points of the body (`labelled_points`), on the device.
            size: B, crops in a batch.
            seed: Of the run.
            device: Where batches are needed.
        """
        self.sources = sources
        self.stores = [Store(source.samples.images, device) for source in sources]
        self.points, self.size, self.seed, self.device = points, size, seed, device

    def generator(self, step: int) -> torch.Generator:
        """Return the generator of a step; it also seeds torch's own, which dropout draws from."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        return torch.Generator().manual_seed(self.seed * 1_000_003 + step)

    def draw(self, pixels: int, generator: torch.Generator) -> tuple[Tensor, GroundTruth]:
        """Draw a batch.

        Args:
            pixels: S, a crop's side.
            generator: Of the step.

        Returns:
            Normalised crops (B, 3, S, S), and the ground truth of their B frames.
        """
        crops, truths = [], []
        total = sum(source.share for source in self.sources)
        for source, store in zip(self.sources, self.stores, strict=True):
            count = round(self.size * source.share / total)
            images, labels = draw_frames(source.samples.labels, store, count, generator)
            view = random_view(count, generator)
            own = crop_images(images, labels.box, view, pixels)
            worse = degrade(own[: count // 2], generator)
            own = occlude(torch.cat([worse, own[count // 2 :]]), 1, generator)
            crops.append(normalise(own.permute(0, 2, 3, 1) * 255))
            truths.append(ground_truth(crop_labels(labels, view).to(self.device), self.points))
        return torch.cat(crops), concatenate(truths)


def draw_frames(
    labels: Labels, images: Store, count: int, generator: torch.Generator
) -> tuple[Tensor, Labels]:
    """Draw single frames of a sample set.

    Args:
        labels: Of the set.
        images: Of the set.
        count: B, frames to draw.
        generator: On the CPU.

    Returns:
        Images (B, 1, 288, 288, 3) uint8, and the labels of B samples of one frame.
    """
    row = torch.randint(len(labels), (count,), generator=generator)
    frame = torch.randint(labels.box.shape[1], (count,), generator=generator)
    rows, frames = row.numpy(), frame.numpy()
    drawn = Labels(
        kp2d=labels.kp2d[rows, frames][:, None],
        box=labels.box[rows, frames][:, None],
        poses=labels.poses[rows, frames][:, None],
        betas=labels.betas[rows, frames][:, None],
        smpl_weight=labels.smpl_weight[rows],
    )
    return images.take(row, frame)[:, None], drawn


def middle_frames(
    samples: SampleSet, points: BodyPoints, device: torch.device, most: int | None = None
) -> Iterator[tuple[Tensor, GroundTruth]]:
    """Iterate over the middle frames of a held-out set, in the tracker's own crops.

    Args:
        samples: The set.
        points: The 31 labelled points of the body, on the device.
        device: Where the batches are needed.
        most: Stop after so many samples.

    Yields:
        Normalised crops (n, 3, 224, 224) and their ground truth, n = VALIDATION_BATCH or fewer.
    """
    middle = samples.images.shape[1] // 2
    count = len(samples) if most is None else min(most, len(samples))
    for start in range(0, count, VALIDATION_BATCH):
        rows = slice(start, min(start + VALIDATION_BATCH, count))
        labels = samples.labels.frames(slice(middle, middle + 1))[rows]
        images = torch.from_numpy(samples.images[rows, middle : middle + 1].copy()).to(device)
        view = plain_view(len(labels))
        crops = crop_images(images, labels.box, view, CROP_PIXELS)
        truth = ground_truth(crop_labels(labels, view).to(device), points)
        yield normalise(crops.permute(0, 2, 3, 1) * 255), truth
