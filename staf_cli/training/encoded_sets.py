"""Encoder maps of whole sample sets, computed once and kept on disk.

The encoder is frozen in stage 2, so its maps of a crop never change. They are computed for a few
random views of every sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.body.skinning import BodyPoints
from staf_cli.core.files import atomic
from staf_cli.core.geometry import CROP_PIXELS
from staf_cli.core.large_arrays import create_array
from staf_cli.model.backbone import CHANNELS
from staf_cli.model.hmr import HMR
from staf_cli.model.normalisation import normalise
from staf_cli.model.staf import STAF
from staf_cli.training.augmentation import (
    CropLabels,
    CropView,
    crop_images,
    crop_labels,
    occlude,
    plain_view,
    random_view,
)
from staf_cli.training.losses import GroundTruth, ground_truth
from staf_cli.training.samples import SampleSet
from staf_cli.training.studio.degradation import degrade

AT_ONCE = 32  # crops encoded at a time


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """The encoder's maps of M views of samples of T frames, and their labels."""

    features: NDArray[np.float16]  # (M, T, C_0, 7, 7) phi_0, memory-mapped
    labels: CropLabels  # of M samples, on the CPU

    def __len__(self) -> int:
        """Return M, the number of views."""
        return len(self.features)


@torch.no_grad()
def encode(
    network: STAF | HMR, samples: SampleSet, path: Path, views: int, seed: int, device: torch.device
) -> EncodedSet:
    """Encode random views of every sample, or open the file of a former call.

    Args:
        network: Its encoder is left in evaluation mode.
        samples: To encode.
        path: A .npy file for the maps. One that exists is taken as it is, so its name must depend
            on the network and on all other arguments.
        views: Random views of every sample; 0: the tracker's own, once.
        seed: Of the views.
        device: The network's.

    Returns:
        M = N * max(1, views) views, all samples once, then all again.

    Raises:
        OutputError: The file cannot be written.
    """
    network.encoder.eval()
    total = len(samples) * max(1, views)
    frames = samples.images.shape[1]
    at_once = max(1, AT_ONCE // frames)
    starts = range(0, total, at_once)
    chunks = [
        (np.arange(start, min(start + at_once, total)) % len(samples), seed * 1_000_003 + start)
        for start in starts
    ]
    if not path.exists():
        channels = CHANNELS[network.architecture.encoder]
        with atomic(path) as temporary:
            shape = (total, frames, channels, CROP_PIXELS // 32, CROP_PIXELS // 32)
            features = create_array(temporary, np.float16, shape)
            for start, (rows, own_seed) in zip(starts, chunks, strict=True):
                crops = _crops(samples, rows, views > 0, own_seed, device)
                with torch.autocast(device.type, torch.bfloat16):
                    maps = network.encoder(normalise(crops.permute(0, 2, 3, 1) * 255))
                piece = maps.half().numpy(force=True)
                features[start : start + len(rows)] = piece.reshape(len(rows), *shape[1:])
            features.flush()
    parts = [
        crop_labels(samples.labels[rows], _view(len(rows), views > 0, s)) for rows, s in chunks
    ]
    return EncodedSet(np.load(path, mmap_mode="r"), concatenate_labels(parts))


def _view(count: int, at_random: bool, seed: int) -> CropView:
    generator = torch.Generator().manual_seed(seed)
    return random_view(count, generator) if at_random else plain_view(count)


def _crops(
    samples: SampleSet, rows: NDArray[np.int64], at_random: bool, seed: int, device: torch.device
) -> Tensor:
    """Crops (rows * T, 3, 224, 224) in [0, 1]; a sample's frames are all augmented alike."""
    images = torch.from_numpy(samples.images[rows]).to(device)
    frames = images.shape[1]
    view = _view(len(rows), at_random, seed)
    crops = crop_images(images, samples.labels.box[rows], view, CROP_PIXELS)
    if at_random:
        generator = torch.Generator().manual_seed(seed + 500_000)
        group = torch.arange(len(rows)).repeat_interleave(frames)
        crops = occlude(degrade(crops, generator, group), frames, generator)
    return crops


def encoded_frames(
    encoded: EncodedSet, points: BodyPoints, at_once: int, every: int, device: torch.device
) -> Iterator[tuple[Tensor, GroundTruth]]:
    """Iterate over the frames of all samples in chunks.

    Args:
        encoded: The set.
        points: The 31 labelled points of the body, on the device.
        at_once: About how many frames to return at a time.
        every: Take every so many frames of a sample.
        device: Where they are needed.

    Yields:
        Maps (N, C_0, 7, 7) float32 and their ground truth.
    """
    frames = torch.arange(0, encoded.features.shape[1], every)
    rows = max(1, at_once // len(frames))
    for row in torch.split(torch.arange(len(encoded)), rows):
        features = torch.from_numpy(encoded.features[row.numpy()][:, frames.numpy()])
        labels = select_frames(encoded.labels, row, frames.expand(len(row), -1))
        yield features.flatten(0, 1).float().to(device), ground_truth(labels.to(device), points)


def select_frames(labels: CropLabels, row: Tensor, frame: Tensor) -> CropLabels:
    """Select frames of samples.

    Args:
        labels: Of a set.
        row: (B,) int64, samples.
        frame: (B, F) int64, frames of each.

    Returns:
        The labels of B samples of F frames.
    """
    return CropLabels(
        labels.kp2d[row[:, None], frame],
        labels.rotmats[row[:, None], frame],
        labels.betas[row[:, None], frame],
        labels.smpl_weight[row],
    )


def concatenate_labels(parts: list[CropLabels]) -> CropLabels:
    """Join the labels of several samples in order."""
    return CropLabels(
        *(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(CropLabels))
    )
