"""Stage 1 (paper 4.3.1), second half: the base model, single frames, all of it on Eq. 11."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from staf_cli.body.skinning import BodyPoints
from staf_cli.core import metrics
from staf_cli.core.errors import WeightsError
from staf_cli.core.geometry import (
    CROP_PIXELS,
    axis_angle_to_matrix,
    matrix_to_rot6d,
    project_to_crop,
    rot6d_to_matrix,
)
from staf_cli.model.staf import STAF
from staf_cli.training.batches import Batches, middle_frames
from staf_cli.training.losses import theta_loss
from staf_cli.training.samples import SampleSet

ENCODER_RATE = 0.5  # of the schedule's
# Samplers and regressors sum up hundreds of numbers, so that small steps add up to large ones.
READING_RATE = 0.05


class BaseTask:
    """The network's single-frame half on augmented samples of all sources.

    It starts from regressors that were solved for (reading.py) with BatchNorm's running
    statistics, so these are kept as they are.
    """

    def __init__(self, network: STAF, batches: Batches, held_out: dict[str, SampleSet]) -> None:
        self.network, self.batches, self.held_out = network, batches, held_out
        self.points, self.device = batches.points, batches.device
        self.modules = nn.ModuleDict({"network": network}).to(self.device)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The pyramid at the full rate; what was solved for, and what knows photos, more slowly."""
        parts: dict[float, list[nn.Parameter]] = {ENCODER_RATE: [], 1.0: [], READING_RATE: []}
        for name, parameter in self.network.named_parameters():
            part = {"encoder": ENCODER_RATE, "pyramid": 1.0}.get(name.split(".")[0], READING_RATE)
            parts[part].append(parameter)
        return [(parameters, part) for part, parameters in parts.items()]

    @property
    def about(self) -> str:
        return f"stage 1, seed {self.batches.seed}, batches of {self.batches.size}"

    def losses(self, step: int) -> dict[str, Tensor]:
        self.modules.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        crops, target = self.batches.draw(CROP_PIXELS, self.batches.generator(step))
        with torch.autocast(self.device.type, torch.bfloat16):
            features = self.network.encoder(crops)
        thetas, _ = self.network.base_model(features)
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            for name, term in theta_loss(theta, target, self.points).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    def validate(self) -> dict[str, float]:
        errors: dict[str, float] = {}
        for name, samples in self.held_out.items():
            for key, value in look_at(self.network, self.points, samples, self.device).items():
                errors[f"{name} {key}"] = value
        return errors


@torch.no_grad()
def look_at(
    network: STAF, points: BodyPoints, samples: SampleSet, device: torch.device
) -> dict[str, float]:
    """The base model's errors on the middle frames of a held-out set, seen as a tracker does.

    PCK@0.2, and where poses are certain MPJPE and PA-MPJPE, mm.
    """
    network.eval()
    found2d, true2d, found3d, true3d = [], [], [], []
    for crops, target in middle_frames(samples, points, device):
        with torch.autocast(device.type, torch.bfloat16):
            features = network.encoder(crops)
        thetas, _ = network.base_model(features.float())
        kp3d, _ = points(thetas[-1].rotmats, thetas[-1].betas)
        found2d.append(project_to_crop(kp3d, thetas[-1].pred_cam))
        true2d.append(target.kp2d)
        found3d.append(kp3d)
        true3d.append(target.kp3d)
    lsp = slice(0, 14)
    kp2d, true_kp2d, kp3d, true_kp3d = (
        torch.cat(parts)[:, lsp].double().numpy(force=True)
        for parts in (found2d, true2d, found3d, true3d)
    )
    errors = {"PCK": float(np.nanmean(metrics.correct_keypoints(kp2d, true_kp2d)))}
    if (samples.labels.smpl_weight == 1).all():
        errors["MPJPE"] = float(metrics.mpjpe(kp3d, true_kp3d).mean())
        errors["PA-MPJPE"] = float(metrics.pa_mpjpe(kp3d, true_kp3d).mean())
    return errors


def initialise(network: STAF) -> None:
    """Point features that pass half of what they see.

    With torch's own beginning many channels die behind their ReLU and never come back.
    """
    for sampler in network.sampler:
        for layer in sampler.layer:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def load_encoder(network: STAF, path: Path) -> None:
    """Start from the encoder's own names in a safetensors file (a ResNet's fc is left out).

    Raises WeightsError for a file that does not fit.
    """
    try:
        tensors = {k: v.float() for k, v in load_file(path).items() if not k.startswith("fc.")}
        network.encoder.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: is not this encoder ({reason})") from error


def set_mean(network: STAF, rotvec: Tensor) -> None:
    """Theta_0 from training poses, rotation vectors (N, 24, 3): upright, facing the camera."""
    rotmats = axis_angle_to_matrix(rotvec.float())
    mean = rotmats.mean(0)
    mean[0] = torch.diag(torch.tensor([1.0, -1, -1]))  # the body's y is up, the camera's down
    network.mean.pose.copy_(matrix_to_rot6d(rot6d_to_matrix(matrix_to_rot6d(mean))).flatten())
