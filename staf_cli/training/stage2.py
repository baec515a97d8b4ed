"""Stage 2 (paper 4.3.2): the whole network on windows of nine frames, the encoder frozen.

Photos take part as windows of nine copies, as the frames at the ends of a track do (4.2).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core import metrics
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.network import WindowNetwork, separate_windows
from staf_cli.model.staf import STAF
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.training.encoded_sets import EncodedSet, concatenate_labels, select_frames
from staf_cli.training.losses import (
    LOSSES,
    GroundTruth,
    ground_truth,
    labelled_points,
    theta_loss,
)
from staf_cli.training.stage1 import HEAD_RATE
from staf_cli.training.store import Store

STILL_SHARE = 0.1  # of the sequences' windows: nine copies of one frame


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
        batch: int,
        photo_share: float,
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
            batch: B, windows in a batch.
            photo_share: Part of the windows that are of photos.
            seed: Of the run.
            device: The network's.
            loss: A key of LOSSES.
        """
        self.loss = loss
        self.network = network
        self.points = labelled_points(body).to(device)
        self.held_out = held_out
        photo_count = round(batch * photo_share)
        self.sources = ((sequences, batch - photo_count), (photos, photo_count))
        self.stores = [Store(source.features, device) for source, _ in self.sources]
        self.batch = batch
        self.seed, self.device = seed, device
        trained = {name: child for name, child in network.named_children() if name != "encoder"}
        self.modules = nn.ModuleDict({"network": nn.ModuleDict(trained)})

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Pyramid and heads, and their parts of the schedule's rate; HMR's head has all of it."""
        parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for name, parameter in self.modules.named_parameters():
            parts["pyramid." not in name].append(parameter)
        head = HEAD_RATE if isinstance(self.network, STAF) else 1.0
        groups = ((parts[0], 1.0), (parts[1], head))
        return [(parameters, part) for parameters, part in groups if parameters]

    @property
    def about(self) -> str:
        """What a saved state must agree in."""
        about = f"stage 2, seed {self.seed}, batches of {self.batch}, {self.network.architecture}"
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
        phi_0, truth = self._draw(generator)
        maps = self.network.frame_maps(phi_0)
        loss = LOSSES[self.loss]
        thetas = list(self.network.recover(maps, separate_windows(len(phi_0))))[loss.regressors]
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            all_frames = len(theta.betas) == len(truth.betas)
            own = truth if all_frames else truth.rows(slice(TARGET, None, WINDOW))
            for name, term in theta_loss(theta, own, self.points, loss).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, GroundTruth]:
        """Random windows: phi_0 (9 B, C_0, 7, 7), a window's together, and their ground truth."""
        features, labels = [], []
        for (source, count), store in zip(self.sources, self.stores, strict=True):
            length = source.features.shape[1]
            row = torch.randint(len(source), (count,), generator=generator)
            first = torch.randint(max(1, length - WINDOW + 1), (count,), generator=generator)
            offsets = torch.arange(WINDOW) if length >= WINDOW else torch.zeros(WINDOW).long()
            frame = first[:, None] + offsets  # (count, 9)
            still = torch.rand(count, generator=generator) < STILL_SHARE
            frame = torch.where(still[:, None], frame[:, TARGET : TARGET + 1], frame)
            features.append(store.take(row, frame))
            labels.append(select_frames(source.labels, row, frame))
        joined = concatenate_labels(labels).to(self.device)
        return torch.cat(features).flatten(0, 1).float(), ground_truth(joined, self.points)

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
