"""Stage 1 (paper 4.3.1): the base model, single frames, encoder and all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from staf_cli import metrics
from staf_cli.body import Body, BodyPoints
from staf_cli.errors import WeightsError
from staf_cli.geometry import (
    CROP_PIXELS,
    axis_angle_to_matrix,
    matrix_to_rot6d,
    project_to_crop,
    rot6d_to_matrix,
)
from staf_cli.model.normalisation import normalise
from staf_cli.model.pyramid import WIDTH
from staf_cli.model.staf import STAF
from staf_cli.training.augmentation import cut, hide, plain_view, random_view, see
from staf_cli.training.losses import (
    KeypointMaps,
    LimbMaps,
    Target,
    join,
    labelled_points,
    target_of,
    theta_loss,
)
from staf_cli.training.samples import Labels, SampleSet
from staf_cli.training.store import Store
from staf_cli.training.studio.degradation import degrade

VALIDATION_BATCH = 32
# Samplers and regressors read hundreds of positive numbers at once. At the rate that the others
# bear, their first steps push all point features below zero, where the ReLU lets none come back.
READING_RATE = 0.1  # of the rate


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
    regresses: bool  # else only the keypoints' maps are learned


class BaseTask:
    """The network's single-frame half on augmented samples of all sources."""

    def __init__(
        self,
        network: STAF,
        body: Body,
        sources: Sequence[Source],
        held_out: dict[str, SampleSet],
        *,
        steps: int,
        batch: int,
        phases: Sequence[Phase],
        frozen: Sequence[str],
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = network
        self.points: BodyPoints = labelled_points(body).to(device)
        self.maps = nn.ModuleDict({str(p.levels): KeypointMaps(WIDTH) for p in phases})
        self.limbs = nn.ModuleDict({str(p.levels): LimbMaps(WIDTH) for p in phases})
        aids = {"maps": self.maps, "limbs": self.limbs}
        self.modules = nn.ModuleDict({"network": network, **aids}).to(device)
        self.sources = sources
        self.stores = [Store(source.samples.images, device) for source in sources]
        self.held_out = held_out
        self.steps, self.batch, self.phases = steps, batch, phases
        self.seed, self.device = seed, device
        self.frozen = [network.encoder.get_submodule(name) for name in frozen]
        for module in self.frozen:
            module.requires_grad_(False)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Encoder, pyramid and maps at the full rate; what reads them more slowly."""
        reading = ("sampler.", "regressor.")
        slow = [p for name, p in self.network.named_parameters() if name.startswith(reading)]
        known = {id(p) for p in slow}
        fast = [p for p in self.modules.parameters() if id(p) not in known and p.requires_grad]
        return [(fast, 1.0), (slow, READING_RATE)]

    @property
    def about(self) -> str:
        return f"stage 1, seed {self.seed}, batches of {self.batch}"

    def losses(self, step: int) -> dict[str, Tensor]:
        self.modules.train()
        for module in self.frozen:
            module.eval()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        torch.manual_seed(self.seed * 1_000_003 + step)  # dropout's
        phase = next(p for p in self.phases if step < p.until * self.steps)
        crops, target = self._draw(phase.pixels, generator)
        with torch.autocast(self.device.type, torch.bfloat16):
            features = self.network.encoder(crops)
        thetas, phi = self.network.climb(features, phase.levels)
        level = str(phase.levels)
        terms = {
            "maps": self.maps[level](phi, target.kp2d),
            "limbs": self.limbs[level](phi, target),
        }
        if not phase.regresses:
            return terms
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

    def _draw(self, pixels: int, generator: torch.Generator) -> tuple[Tensor, Target]:
        """A batch of random frames of all sources, looked at at random: crops (B, 3, S, S)."""
        crops, targets = [], []
        total = sum(source.share for source in self.sources)
        for source, store in zip(self.sources, self.stores, strict=True):
            count = round(self.batch * source.share / total)
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


@torch.no_grad()
def look_at(
    network: STAF, points: BodyPoints, samples: SampleSet, device: torch.device
) -> dict[str, float]:
    """The base model's errors on the middle frames of a held-out set, seen as a tracker does.

    PCK@0.2, and where poses are certain MPJPE and PA-MPJPE, mm.
    """
    network.eval()
    middle = samples.images.shape[1] // 2
    found2d, true2d, found3d, true3d = [], [], [], []
    for start in range(0, len(samples), VALIDATION_BATCH):
        rows = slice(start, start + VALIDATION_BATCH)
        labels = samples.labels.frames(slice(middle, middle + 1))[rows]
        images = torch.from_numpy(samples.images[rows, middle : middle + 1]).to(device)
        view = plain_view(len(labels))
        crops = cut(images, labels.box, view, CROP_PIXELS)
        crops = normalise(crops.permute(0, 2, 3, 1) * 255)
        with torch.autocast(device.type, torch.bfloat16):
            features = network.encoder(crops)
        thetas, _ = network.climb(features.float())
        kp3d, _ = points(thetas[-1].rotmats, thetas[-1].betas)
        target = target_of(see(labels, view).to(device), points)
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
    """Point features that pass half of what they see, regressors that change next to nothing.

    With torch's own beginnings the regressors first learn to ignore features that say nothing
    yet: the five channels of every point die behind their ReLU and never come back.
    """
    for sampler in network.sampler:
        for layer in sampler.layer:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    for regressor in network.regressor:
        for name in ("decpose", "decshape", "deccam"):
            nn.init.xavier_uniform_(regressor.get_parameter(f"{name}.weight"), gain=0.01)


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
