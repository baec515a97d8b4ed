"""Stage 1 (paper 4.3.1), second half: the base model on single frames, with Eq. 11."""

from collections.abc import Callable
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
from staf_cli.model.hmr import HMR
from staf_cli.model.staf import STAF
from staf_cli.training.batches import Batches, middle_frames
from staf_cli.training.losses import LOSSES, GroundTruth, theta_loss
from staf_cli.training.samples import SampleSet

ENCODER_RATE = 0.5  # part of the schedule's rate; the encoder knows photos already
# Of samplers, regressors, TCFM and SAFM. They sum up hundreds of numbers, so that small steps of
# each weight add up to large ones of the sum.
HEAD_RATE = 0.05


Draw = Callable[[int], tuple[Tensor, GroundTruth]]  # step -> (B, C_0, 7, 7) phi_0 and its truth


def draw_encoded(network: STAF | HMR, batches: Batches) -> Draw:
    """Make the maps of augmented crops, by an encoder that is trained with the rest.

    Args:
        network: Its encoder's.
        batches: Of crops, on the network's device.

    Returns:
        What draws a step's batch.
    """

    def draw(step: int) -> tuple[Tensor, GroundTruth]:
        crops, truth = batches.draw(CROP_PIXELS, batches.generator(step))
        with torch.autocast(batches.device.type, torch.bfloat16):
            return network.encoder(crops), truth

    return draw


class Stage1Task:
    """The base model (paper 4.2) on single frames.

    STAF's starts from regressors that were solved for (least_squares.py) with BatchNorm's running
    statistics, so these are kept as they are. HMR's head starts at random, at the
    schedule's rate.
    """

    def __init__(
        self,
        network: STAF | HMR,
        draw: Draw,
        points: BodyPoints,
        held_out: dict[str, SampleSet],
        about: str,
        loss: str = "soft",
    ) -> None:
        """Move the network to the points' device.

        Args:
            network: The base model; what does not require a gradient stays as it is.
            draw: The batches.
            points: The 31 labelled points of the body, on the device.
            held_out: Sample sets to validate on, by name.
            about: What the batches are, for `about`.
            loss: A key of LOSSES.
        """
        self.draw, self.points, self.held_out = draw, points, held_out
        self.batches, self.loss = about, loss
        self.device = points.mix.device
        self.network = network
        self.modules = nn.ModuleDict({"network": network}).to(self.device)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Encoder, pyramid and heads, as far as they are trained; their parts of the rate."""
        parts: dict[float, list[nn.Parameter]] = {ENCODER_RATE: [], 1.0: [], HEAD_RATE: []}
        head = HEAD_RATE if isinstance(self.network, STAF) else 1.0
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            part = {"encoder": ENCODER_RATE, "pyramid": 1.0}.get(name.split(".")[0], head)
            parts[part].append(parameter)
        return [(parameters, part) for part, parameters in parts.items() if parameters]

    @property
    def about(self) -> str:
        """What a saved state must agree in."""
        loss = "" if self.loss == "soft" else f", loss {self.loss}"
        return f"stage 1, {self.batches}{loss}"

    def losses(self, step: int) -> dict[str, Tensor]:
        """Compute the terms of Eq. 11, each the mean over the regressors that have a loss.

        Args:
            step: Of the run.

        Returns:
            Scalars by name, each times its weight.
        """
        self.modules.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        phi_0, truth = self.draw(step)
        loss = LOSSES[self.loss]
        thetas = self.network.base_model(phi_0)[0][loss.regressors]
        terms: dict[str, Tensor] = {}
        for theta in thetas:
            for name, term in theta_loss(theta, truth, self.points, loss).items():
                terms[name] = terms.get(name, 0) + term / len(thetas)
        return terms

    def validate(self) -> dict[str, float]:
        """Measure `base_model_errors` on all held-out sets, "<set> <metric>"."""
        errors: dict[str, float] = {}
        for name, samples in self.held_out.items():
            found = base_model_errors(self.network, self.points, samples, self.device)
            for metric, value in found.items():
                errors[f"{name} {metric}"] = value
        return errors


@torch.no_grad()
def base_model_errors(
    network: STAF | HMR, points: BodyPoints, samples: SampleSet, device: torch.device
) -> dict[str, float]:
    """Measure the base model on the middle frames of a held-out set.

    Args:
        network: It is left in evaluation mode.
        points: The 31 labelled points of the body, on the device.
        samples: The held-out set.
        device: The network's.

    Returns:
        PCK@0.2 in [0, 1] and, where all poses are certain, MPJPE and PA-MPJPE in mm.
    """
    network.eval()
    found2d, true2d, found3d, true3d = [], [], [], []
    for crops, truth in middle_frames(samples, points, device):
        with torch.autocast(device.type, torch.bfloat16):
            phi_0 = network.encoder(crops)
        thetas, _ = network.base_model(phi_0.float())
        kp3d, _ = points(thetas[-1].rotmats, thetas[-1].betas)
        found2d.append(project_to_crop(kp3d, thetas[-1].pred_cam))
        true2d.append(truth.kp2d)
        found3d.append(kp3d)
        true3d.append(truth.kp3d)
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


def initialise_samplers(network: STAF) -> None:
    """Initialise the point MLPs so that a layer's outputs vary as much as its inputs.

    With torch's own initialisation many channels are zero behind their ReLU and stay so.

    Args:
        network: Its samplers are changed in place.
    """
    for sampler in network.sampler:
        for layer in sampler.layer:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def load_encoder(network: STAF | HMR, path: Path) -> None:
    """Load pretrained weights into the encoder.

    Args:
        network: Its encoder is changed in place.
        path: A safetensors file in the encoder's own names; a ResNet's fc is left out.

    Raises:
        WeightsError: The file does not fit or cannot be read.
    """
    try:
        tensors = {k: v.float() for k, v in load_file(path).items() if not k.startswith("fc.")}
        network.encoder.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: is not this encoder ({reason})") from error


def set_mean_pose(network: STAF | HMR, rotvec: Tensor) -> None:
    """Set the pose of Theta_0 to the mean of training poses, upright and facing the camera.

    Args:
        network: Its mean parameters are changed in place.
        rotvec: (N, 24, 3) rad, rotation vectors.
    """
    rotmats = axis_angle_to_matrix(rotvec.float())
    mean = rotmats.mean(0)
    mean[0] = torch.diag(torch.tensor([1.0, -1, -1]))  # the body's y is up, the camera's down
    network.mean.pose.copy_(matrix_to_rot6d(rot6d_to_matrix(matrix_to_rot6d(mean))).flatten())
