"""Stage 2 (paper 4.3.2): the whole network on windows of nine frames, the encoder frozen.

Photos take part as windows of nine copies, as the frames at the ends of a track do (4.2). Windows
of a sequence are drawn in runs of neighbours, which share the maps of their frames.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core import metrics
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.network import WindowNetwork
from staf_cli.model.staf import STAF
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.training.encoded_sets import EncodedSet, select_frames
from staf_cli.training.losses import (
    LOSSES,
    GroundTruth,
    concatenate,
    ground_truth,
    labelled_points,
    theta_loss,
)
from staf_cli.training.stage1 import HEAD_RATE
from staf_cli.training.store import Store

STILL_SHARE = 0.1  # of the sequences' windows: nine copies of one frame
FEATURES = ("pyramid", "sampler")  # what makes point features of the encoder's maps


@dataclass(frozen=True)
class WindowMix:
    """What a batch of stage 2 consists of, and what it trains."""

    batch: int  # B, windows
    photo_share: float  # part of the windows that are of photos
    together: int = 1  # windows of a sequence that follow each other and share their frames' maps
    only_2d: float = 0.0  # part of the runs whose pose and 3D points do not count
    train_features: bool = True  # pyramid and point MLPs too, not only what works with features


class Stage2Task:
    """Everything but the encoder, on windows of encoded sequences and copies of photos."""

    def __init__(
        self,
        network: WindowNetwork,
        body: Body,
        sequences: EncodedSet,
        photos: EncodedSet,
        held_out: dict[str, EncodedSet],
        *,
        mix: WindowMix,
        seed: int,
        device: torch.device,
        loss: str = "soft",
    ) -> None:
        """Prepare the parts that are trained.

        Args:
            network: On the device.
            body: The body that it is for.
            sequences: Synthetic people to train on.
            photos: Photos to train on.
            held_out: Sets to validate on, by name.
            mix: The batches.
            seed: Of the run.
            device: The network's.
            loss: A key of LOSSES.
        """
        self.loss = loss
        self.network = network
        self.points = labelled_points(body).to(device)
        self.held_out = held_out
        photo_count = round(mix.batch * mix.photo_share)
        self.sources = ((sequences, mix.batch - photo_count), (photos, photo_count))
        self.stores = [Store(source.features, device) for source, _ in self.sources]
        self.mix = mix
        self.seed, self.device = seed, device
        trained = {name: child for name, child in network.named_children() if name != "encoder"}
        for name in FEATURES:
            if name in trained:
                trained[name].requires_grad_(mix.train_features)
        self.modules = nn.ModuleDict({"network": nn.ModuleDict(trained)})

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, in two parts: at the schedule's rate, and at HEAD_RATE of it.

        The first is the pyramid; where that stays as it is, what joins frames, which begins with
        nothing learned. Of HMR it is all.
        """
        first = "pyramid." if self.mix.train_features else ("tcfm.", "safm.")
        parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for name, parameter in self.modules["network"].named_parameters():
            if parameter.requires_grad:
                own = isinstance(self.network, STAF) and not name.startswith(first)
                parts[own].append(parameter)
        return [(group, rate) for group, rate in zip(parts, (1.0, HEAD_RATE), strict=True) if group]

    @property
    def about(self) -> str:
        """What a saved state must agree in."""
        about = f"stage 2, seed {self.seed}, {self.mix}, {self.network.architecture}"
        return about if self.loss == "soft" else f"{about}, loss {self.loss}"

    def losses(self, step: int) -> dict[str, Tensor]:
        """Compute the terms of Eq. 11, each the mean over the regressors that have a loss.

        Args:
            step: Of the run.

        Returns:
            Scalars by name, each times its weight.
        """
        self.modules.train()
        for module in self.modules.modules():
            if isinstance(module, nn.BatchNorm2d):  # raw and averaged maps share its statistics,
                module.eval()  # which stage 1 has measured
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        torch.manual_seed(self.seed * 1_000_003 + step)  # dropout's
        phi_0, windows, truth = self._draw(generator)
        maps = self.network.frame_maps(phi_0)
        loss = LOSSES[self.loss]
        thetas = list(self.network.recover(maps, windows))[loss.regressors]
        of_frames = truth.rows(windows.flatten().to(self.device))  # 9 B
        of_targets = truth.rows(windows[:, TARGET].to(self.device))  # B
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            own = of_targets if len(theta.betas) == len(windows) else of_frames
            for name, term in theta_loss(theta, own, self.points, loss).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, GroundTruth]:
        """Random runs of frames: phi_0 (N, C_0, 7, 7), their windows (B, 9) and ground truth."""
        features: list[Tensor] = []
        windows, labels = [], []
        for (source, count), store in zip(self.sources, self.stores, strict=True):
            length = source.features.shape[1]
            still = length < WINDOW
            together = 1 if still else min(self.mix.together, length - WINDOW + 1)
            frames = 1 if still else together + WINDOW - 1
            runs = -(-count // together)
            row = torch.randint(len(source), (runs,), generator=generator)
            first = torch.randint(length - frames + 1, (runs,), generator=generator)
            frame = first[:, None] + torch.arange(frames)  # (runs, frames)
            inside = torch.arange(together)[:, None] + (0 if still else torch.arange(WINDOW))
            inside = inside.expand(runs, together, WINDOW)  # of their own run
            copied = torch.rand(runs, together, generator=generator) < STILL_SHARE
            inside = torch.where(copied[..., None], inside[..., TARGET : TARGET + 1], inside)
            before = sum(len(part) for part in features)
            offset = before + frames * torch.arange(runs)[:, None, None]
            windows.append((inside + offset).flatten(0, 1)[:count])
            features.append(store.take(row, frame).flatten(0, 1))
            picked = select_frames(source.labels, row, frame)
            only_2d = torch.rand(runs, generator=generator) < self.mix.only_2d
            weight = torch.where(only_2d, 0.0, picked.smpl_weight)
            picked = replace(picked, smpl_weight=weight).to(self.device)
            labels.append(ground_truth(picked, self.points))
        return torch.cat(features).float(), torch.cat(windows), concatenate(labels)

    def validate(self) -> dict[str, float]:
        """Measure `window_errors` on all held-out sets, "<set> <metric>"."""
        errors: dict[str, float] = {}
        for name, encoded in self.held_out.items():
            for metric, value in window_errors(self.network, self.points, encoded).items():
                errors[f"{name} {metric}"] = value
        return errors


@torch.no_grad()
def window_errors(
    network: WindowNetwork, points: BodyPoints, encoded: EncodedSet, batch: int = 8
) -> dict[str, float]:
    """Measure the network on the frames of a held-out set that have a whole window.

    A set of single frames is measured on windows of nine copies.

    Args:
        network: It is left in evaluation mode.
        points: The 31 labelled points of the body, on the network's device.
        encoded: The held-out set.
        batch: Windows at a time.

    Returns:
        PCK@0.2 in [0, 1] and, where all poses are certain, MPJPE and PA-MPJPE in mm and Accel in
        mm / frame^2.
    """
    network.eval()
    device = network.mean.cam.device
    length = encoded.features.shape[1]
    targets = range(TARGET, length - TARGET) if length >= WINDOW else range(length)
    offsets = np.arange(WINDOW) - TARGET if length >= WINDOW else np.zeros(WINDOW, np.int64)
    pck: list[float] = []
    sums: dict[str, list[NDArray[np.float64]]] = {"MPJPE": [], "PA-MPJPE": [], "Accel": []}
    labels = encoded.labels
    certain = bool((labels.smpl_weight == 1).all())
    frames = np.array(targets)
    windows = torch.from_numpy(frames[:, None] + offsets).to(device)  # (F, 9)
    for row in range(len(encoded)):
        phi_0 = torch.from_numpy(np.array(encoded.features[row])).to(device).float()
        maps = network.frame_maps(phi_0)
        thetas = [network.recover(maps, some)[-1] for some in torch.split(windows, batch)]
        rotmats = torch.cat([theta.rotmats for theta in thetas])
        betas = torch.cat([theta.betas for theta in thetas])
        kp3d, _ = points(rotmats, betas)
        kp2d = project_to_crop(kp3d, torch.cat([theta.pred_cam for theta in thetas]))
        true_kp2d = labels.kp2d[row, frames, :14].double().numpy()
        correct = metrics.correct_keypoints(_lsp(kp2d), true_kp2d)
        if np.isfinite(correct).any():  # a labelled point in any frame
            pck.append(np.nanmean(correct).item())
        if certain:
            true_rotmats, true_betas = (
                x[row, frames].to(device) for x in (labels.rotmats, labels.betas)
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
