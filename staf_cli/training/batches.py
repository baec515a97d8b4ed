"""Batches of random crops for stage 1: frames of all sources, looked at at random."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.body.skinning import BodyPoints
from staf_cli.core.geometry import CROP_PIXELS
from staf_cli.model.normalisation import normalise
from staf_cli.training.augmentation import cut, hide, plain_view, random_view, see
from staf_cli.training.losses import Target, join, target_of
from staf_cli.training.samples import Labels, SampleSet
from staf_cli.training.store import Store
from staf_cli.training.studio.degradation import degrade

VALIDATION_BATCH = 32


@dataclass(frozen=True)
class Source:
    """A sample set and the share of every batch that comes from it."""

    samples: SampleSet
    share: float


@dataclass(frozen=True)
class Phase:
    """What is trained up to `until`, a part of all steps: small and coarse first, which is fast."""

    until: float
    pixels: int  # a crop's side
    levels: int  # of the pyramid


def phase_at(phases: Sequence[Phase], step: int, steps: int) -> Phase:
    """The phase that a step belongs to."""
    return next(phase for phase in phases if step < phase.until * steps)


class Batches:
    """Step k's batch depends on the seed and k alone, on every device the same."""

    def __init__(
        self,
        sources: Sequence[Source],
        points: BodyPoints,
        size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.sources = sources
        self.stores = [Store(source.samples.images, device) for source in sources]
        self.points, self.size, self.seed, self.device = points, size, seed, device

    def generator(self, step: int) -> torch.Generator:
        """Where a step's random numbers come from; torch's own, dropout's, are set as well."""
        torch.manual_seed(self.seed * 1_000_003 + step)
        return torch.Generator().manual_seed(self.seed * 1_000_003 + step)

    def draw(self, pixels: int, generator: torch.Generator) -> tuple[Tensor, Target]:
        """Normalised crops (B, 3, S, S) and the truth of their B frames."""
        crops, targets = [], []
        total = sum(source.share for source in self.sources)
        for source, store in zip(self.sources, self.stores, strict=True):
            count = round(self.size * source.share / total)
            images, labels = draw_frames(source.samples.labels, store, count, generator)
            view = random_view(count, generator)
            own = cut(images, labels.box, view, pixels)
            worse = degrade(own[: count // 2], generator)
            own = hide(torch.cat([worse, own[count // 2 :]]), 1, generator)
            crops.append(normalise(own.permute(0, 2, 3, 1) * 255))
            targets.append(target_of(see(labels, view).to(self.device), self.points))
        return torch.cat(crops), join(targets)


def draw_frames(
    labels: Labels, images: Store, count: int, generator: torch.Generator
) -> tuple[Tensor, Labels]:
    """Random frames of random samples as samples of one frame: images (count, 1, ...), labels."""
    row = torch.randint(len(labels), (count,), generator=generator)
    frame = torch.randint(labels.box.shape[1], (count,), generator=generator)
    rows, frames = row.numpy(), frame.numpy()
    one = Labels(
        kp2d=labels.kp2d[rows, frames][:, None],
        box=labels.box[rows, frames][:, None],
        poses=labels.poses[rows, frames][:, None],
        betas=labels.betas[rows, frames][:, None],
        smpl_weight=labels.smpl_weight[rows],
    )
    return images.take(row, frame)[:, None], one


def middle_frames(
    samples: SampleSet, points: BodyPoints, device: torch.device, most: int | None = None
) -> Iterator[tuple[Tensor, Target]]:
    """The middle frames of a held-out set, seen as a tracker does: normalised crops, their truth.

    Of the first `most` samples, VALIDATION_BATCH at a time.
    """
    middle = samples.images.shape[1] // 2
    count = len(samples) if most is None else min(most, len(samples))
    for start in range(0, count, VALIDATION_BATCH):
        rows = slice(start, min(start + VALIDATION_BATCH, count))
        labels = samples.labels.frames(slice(middle, middle + 1))[rows]
        images = torch.from_numpy(samples.images[rows, middle : middle + 1].copy()).to(device)
        view = plain_view(len(labels))
        crops = cut(images, labels.box, view, CROP_PIXELS)
        target = target_of(see(labels, view).to(device), points)
        yield normalise(crops.permute(0, 2, 3, 1) * 255), target
