"""Stage 2 (paper 4.3.2): the whole network on windows of nine frames, the encoder frozen.

A frozen encoder says the same of the same crop every time, so its maps are computed once for a
few random views of every sample and kept on disk. Photos take part as windows of nine copies,
as the frames at a track's ends do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core import metrics
from staf_cli.core.files import atomic
from staf_cli.core.geometry import CROP_PIXELS, project_to_crop
from staf_cli.model.backbone import CHANNELS
from staf_cli.model.normalisation import normalise
from staf_cli.model.staf import STAF
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.training.augmentation import (
    Truth,
    View,
    cut,
    hide,
    plain_view,
    random_view,
    see,
)
from staf_cli.training.base import READING_RATE
from staf_cli.training.losses import Target, labelled_points, target_of, theta_loss
from staf_cli.training.samples import SampleSet
from staf_cli.training.store import Store
from staf_cli.training.studio.degradation import degrade

ENCODED = 32  # crops encoded at a time
STILL = 0.1  # share of sequences' windows that are nine copies of one frame


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """What the encoder says of M views of samples of T frames, and the truth of each."""

    features: NDArray[np.float16]  # (M, T, C, 7, 7), memory-mapped
    truth: Truth  # M rows, on the CPU

    def __len__(self) -> int:
        return len(self.features)


@torch.no_grad()
def encode(
    network: STAF, samples: SampleSet, path: Path, views: int, seed: int, device: torch.device
) -> EncodedSet:
    """Encode every sample `views` times, looked at at random; plainly and once where views is 0.

    The maps go to `path`, a .npy file; one that is there already is taken for them, so name it
    after all that decides them. Raises OutputError where it cannot be written.
    """
    network.encoder.eval()
    total = len(samples) * max(1, views)
    frames = samples.images.shape[1]
    at_once = max(1, ENCODED // frames)
    starts = range(0, total, at_once)
    looks = [
        (np.arange(start, min(start + at_once, total)) % len(samples), seed * 1_000_003 + start)
        for start in starts
    ]
    if not path.exists():
        channels = CHANNELS[network.architecture.encoder]
        with atomic(path) as temporary:
            shape = (total, frames, channels, CROP_PIXELS // 32, CROP_PIXELS // 32)
            features = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
            for start, (rows, own_seed) in zip(starts, looks, strict=True):
                crops = _crops(samples, rows, views > 0, own_seed, device)
                with torch.autocast(device.type, torch.bfloat16):
                    maps = network.encoder(normalise(crops.permute(0, 2, 3, 1) * 255))
                piece = maps.half().numpy(force=True)
                features[start : start + len(rows)] = piece.reshape(len(rows), *shape[1:])
            features.flush()
    truths = [see(samples.labels[rows], _view(len(rows), views > 0, s)) for rows, s in looks]
    truth = Truth(*(torch.cat([getattr(t, f.name) for t in truths]) for f in fields(Truth)))
    return EncodedSet(np.load(path, mmap_mode="r"), truth)


def _view(count: int, at_random: bool, seed: int) -> View:
    generator = torch.Generator().manual_seed(seed)
    return random_view(count, generator) if at_random else plain_view(count)


def _crops(
    samples: SampleSet, rows: NDArray[np.int64], at_random: bool, seed: int, device: torch.device
) -> Tensor:
    """Crops (rows * T, 3, 224, 224) in 0..1; each sample's frames share whatever befalls them."""
    images = torch.from_numpy(samples.images[rows]).to(device)
    frames = images.shape[1]
    view = _view(len(rows), at_random, seed)
    crops = cut(images, samples.labels.box[rows], view, CROP_PIXELS)
    if at_random:
        generator = torch.Generator().manual_seed(seed + 500_000)
        group = torch.arange(len(rows)).repeat_interleave(frames)
        crops = hide(degrade(crops, generator, group), frames, generator)
    return crops


def frames_of(
    encoded: EncodedSet, points: BodyPoints, at_once: int, every: int, device: torch.device
) -> Iterator[tuple[Tensor, Target]]:
    """Every so many frames of all samples, about `at_once` at a time: maps (N, C, 7, 7), truth."""
    frames = torch.arange(0, encoded.features.shape[1], every)
    rows = max(1, at_once // len(frames))
    for row in torch.split(torch.arange(len(encoded)), rows):
        features = torch.from_numpy(encoded.features[row.numpy()][:, frames.numpy()])
        truth = pick(encoded.truth, row, frames.expand(len(row), -1))
        yield features.flatten(0, 1).float().to(device), target_of(truth.to(device), points)


class TemporalTask:
    """Everything but the encoder, on windows of encoded sequences and copies of photos."""

    def __init__(
        self,
        network: STAF,
        body: Body,
        sequences: EncodedSet,
        photos: EncodedSet,
        held_out: dict[str, EncodedSet],
        *,
        batch: int,
        photo_share: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = network
        self.points = labelled_points(body).to(device)
        self.held_out = held_out
        photo_count = round(batch * photo_share)
        self.sources = ((sequences, batch - photo_count), (photos, photo_count))
        self.stores = [Store(source.features, device) for source, _ in self.sources]
        self.batch = batch
        self.seed, self.device = seed, device
        heads = {name: child for name, child in network.named_children() if name != "encoder"}
        self.modules = nn.ModuleDict({"network": nn.ModuleDict(heads)})

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The pyramid at the full rate; what reads it more slowly, as in stage 1."""
        parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for name, parameter in self.modules.named_parameters():
            parts["pyramid." not in name].append(parameter)
        return [(parts[0], 1.0), (parts[1], READING_RATE)]

    @property
    def about(self) -> str:
        return f"stage 2, seed {self.seed}, batches of {self.batch}, {self.network.architecture}"

    def losses(self, step: int) -> dict[str, Tensor]:
        self.modules.train()
        for norm in self.network.pyramid.norm:
            norm.eval()  # raw and averaged maps share its statistics, which stage 1 has measured
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        torch.manual_seed(self.seed * 1_000_003 + step)  # dropout's
        features, target = self._draw(generator)
        thetas = self.network.recover(self.network.frame_maps(features))
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            every = len(theta.betas) == len(target.betas)
            truth = target if every else target.rows(slice(TARGET, None, WINDOW))
            for name, term in theta_loss(theta, truth, self.points).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Target]:
        """Random windows: maps (9 B, C, 7, 7), each window's together, and their truth."""
        features, rows, frames = [], [], []
        for (source, count), store in zip(self.sources, self.stores, strict=True):
            length = source.features.shape[1]
            row = torch.randint(len(source), (count,), generator=generator)
            first = torch.randint(max(1, length - WINDOW + 1), (count,), generator=generator)
            frame = first[:, None] + torch.arange(WINDOW)  # (count, 9)
            still = torch.rand(count, generator=generator) < STILL
            if length < WINDOW:
                frame, still = first[:, None].expand(-1, WINDOW), still & False
            frame = torch.where(still[:, None], frame[:, TARGET : TARGET + 1], frame)
            features.append(store.take(row, frame))
            rows.append(row)
            frames.append(frame)
        truths = [
            pick(source.truth, row, frame)
            for (source, _), row, frame in zip(self.sources, rows, frames, strict=True)
        ]
        truth = Truth(*(torch.cat([getattr(t, f.name) for t in truths]) for f in fields(Truth)))
        stacked = torch.cat(features).flatten(0, 1).float()
        return stacked, target_of(truth.to(self.device), self.points)

    def validate(self) -> dict[str, float]:
        errors: dict[str, float] = {}
        for name, encoded in self.held_out.items():
            for key, value in windows_errors(self.network, self.points, encoded).items():
                errors[f"{name} {key}"] = value
        return errors


def pick(truth: Truth, row: Tensor, frame: Tensor) -> Truth:
    """The truth of windows: row (B,) and frame (B, 9) of each."""
    return Truth(
        truth.kp2d[row[:, None], frame],
        truth.rotmats[row[:, None], frame],
        truth.betas[row[:, None], frame],
        truth.smpl_weight[row],
    )


@torch.no_grad()
def windows_errors(
    network: STAF, points: BodyPoints, encoded: EncodedSet, batch: int = 8
) -> dict[str, float]:
    """Errors of the frames that have a whole window (of copies where there is one frame).

    PCK@0.2, and where all poses are certain MPJPE and PA-MPJPE, mm, and Accel, mm / frame^2.
    """
    network.eval()
    device = network.mean.cam.device
    length = encoded.features.shape[1]
    targets = range(TARGET, length - TARGET) if length >= WINDOW else range(length)
    offsets = np.arange(WINDOW) - TARGET if length >= WINDOW else np.zeros(WINDOW, np.int64)
    pck: list[float] = []
    sums: dict[str, list[NDArray[np.float64]]] = {"MPJPE": [], "PA-MPJPE": [], "Accel": []}
    certain = bool((encoded.truth.smpl_weight == 1).all())
    frames = np.array(targets)
    windows = torch.from_numpy(frames[:, None] + offsets).to(device)  # (F, 9)
    for row in range(len(encoded)):
        maps = torch.from_numpy(np.array(encoded.features[row])).to(device).float()
        shared = network.frame_maps(maps)
        thetas = [
            network.recover(shared[some.flatten()])[-1] for some in torch.split(windows, batch)
        ]
        rotmats = torch.cat([theta.rotmats for theta in thetas])
        betas = torch.cat([theta.betas for theta in thetas])
        kp3d, _ = points(rotmats, betas)
        kp2d = project_to_crop(kp3d, torch.cat([theta.pred_cam for theta in thetas]))
        truth = encoded.truth
        true_kp2d = truth.kp2d[row, frames, :14].double().numpy()
        correct = metrics.correct_keypoints(_lsp(kp2d), true_kp2d)
        if np.isfinite(correct).any():  # somebody's points are known
            pck.append(np.nanmean(correct).item())
        if certain:
            true_rotmats, true_betas = (
                x[row, frames].to(device) for x in (truth.rotmats, truth.betas)
            )
            true3d, _ = points(true_rotmats, true_betas)
            lsp, true_lsp = _lsp(kp3d), _lsp(true3d)
            sums["MPJPE"].append(metrics.mpjpe(lsp, true_lsp))
            sums["PA-MPJPE"].append(metrics.pa_mpjpe(lsp, true_lsp))
            sums["Accel"].append(metrics.acceleration_error(lsp, true_lsp, frames))
    errors = {"PCK": float(np.mean(pck))}
    return errors | {
        name: float(np.nanmean(np.concatenate(values))) for name, values in sums.items() if values
    }


def _lsp(points: Tensor) -> NDArray[np.float64]:
    return points[:, :14].double().numpy(force=True)
