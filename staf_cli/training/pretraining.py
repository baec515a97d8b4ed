"""Stage 1, first half: encoder, pyramid and samplers learn to see joints, before any pose.

The paper trains its base model on Eq. 11 alone (4.3.1), for days. Here the point features are
told what to say first (fields.py), which they learn within the steps that two cores can make.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from staf_cli.model.pyramid import MESH_POINTS, POINT_FEATURES, WIDTH, sample, sampling_grid
from staf_cli.model.staf import STAF
from staf_cli.training.batches import Batches, Phase, middle_frames, phase_at
from staf_cli.training.fields import Fields, field_loss, near_spots
from staf_cli.training.losses import KeypointMaps, Target
from staf_cli.training.samples import SampleSet

VALIDATED = 96  # samples of a held-out set
ENCODER_RATE, PYRAMID_RATE, SAMPLER_RATE = 0.4, 1.0, 2.0  # of the schedule's
MAPS_LEVEL = 2


class SeeingTask:
    """Encoder, pyramid and samplers on augmented samples of all sources."""

    def __init__(
        self,
        network: STAF,
        batches: Batches,
        held_out: dict[str, SampleSet],
        steps: int,
        phases: Sequence[Phase],
    ) -> None:
        self.network, self.batches, self.held_out = network, batches, held_out
        self.steps, self.phases = steps, phases
        self.device = batches.device
        self.maps = KeypointMaps(WIDTH)
        self.fields = Fields().to(self.device)
        self.modules = nn.ModuleDict({"network": network, "maps": self.maps}).to(self.device)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """What knows photos already more slowly, what reads a fixed meaning faster."""
        network = self.network
        middle = [*network.pyramid.parameters(), *self.maps.parameters()]
        samplers = [p for sampler in network.sampler for p in sampler.parameters()]
        return [
            (list(network.encoder.parameters()), ENCODER_RATE),
            (middle, PYRAMID_RATE),
            (samplers, SAMPLER_RATE),
        ]

    @property
    def about(self) -> str:
        return f"stage 1, seeing, seed {self.batches.seed}, batches of {self.batches.size}"

    def losses(self, step: int) -> dict[str, Tensor]:
        self.modules.train()
        generator = self.batches.generator(step)
        phase = phase_at(self.phases, step, self.steps)
        crops, target = self.batches.draw(phase.pixels, generator)
        with torch.autocast(self.device.type, torch.bfloat16):
            phi = self.network.encoder(crops)
        terms = {}
        for level in range(1, phase.levels + 1):
            phi = self.network.pyramid(level, phi)
            said, goal = self._fields(level, phi, target, generator)
            terms[f"field {level}"] = field_loss(said, goal, target)
            if level == MAPS_LEVEL:
                terms["maps"] = self.maps(phi, target.kp2d)
        return terms

    def _fields(
        self, level: int, phi: Tensor, target: Target, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What the sampler says at points of phi_k and what it should, both (N, P, 5)."""
        if level == 1:
            where = sampling_grid().to(phi.device).expand(len(phi), -1, -1)
        else:
            where = near_spots(target, MESH_POINTS, generator)
        flat = self.network.sampler[level - 1](sample(phi.float(), where))  # channel-major
        said = flat.reshape(len(phi), POINT_FEATURES, -1).transpose(1, 2)
        return said, self.fields(level, target, where)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """How much of the fields' variance is explained where the pose is known, at each level."""
        self.network.eval()
        errors = {}
        for name, samples in self.held_out.items():
            off, spread = torch.zeros(3), torch.zeros(3)
            generator = torch.Generator().manual_seed(self.batches.seed)
            held_out = middle_frames(samples, self.batches.points, self.device, VALIDATED)
            for crops, target in held_out:
                with torch.autocast(self.device.type, torch.bfloat16):
                    phi = self.network.encoder(crops)
                known = target.smpl_weight
                for level in (1, 2, 3):
                    phi = self.network.pyramid(level, phi.float())
                    said, goal = self._fields(level, phi, target, generator)
                    missed = (said - goal).square().mean((1, 2))
                    varies = (goal - goal.mean((0, 1))).square().mean((1, 2))
                    off[level - 1] += float((missed * known).sum())
                    spread[level - 1] += float((varies * known).sum())
            for level, share in enumerate((1 - off / spread.clamp(min=1e-6)).tolist(), 1):
                errors[f"{name} field {level}"] = share
        return errors
