"""Stage 1, first half (`seeing`): encoder, pyramid and samplers learn to localise joints.

The paper trains its base model on Eq. 11 alone (4.3.1), for days. Here the point features are
pretrained on joint fields (joint_fields.py), within the steps that two cores can make.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from staf_cli.model.pyramid import MESH_POINTS, POINT_FEATURES, WIDTH, sample, sampling_grid
from staf_cli.model.staf import STAF
from staf_cli.training.batches import Batches, Phase, middle_frames, phase_at
from staf_cli.training.joint_fields import JointFields, field_loss, points_near_joints
from staf_cli.training.losses import GroundTruth, KeypointMaps
from staf_cli.training.samples import SampleSet

VALIDATED = 96  # samples of a held-out set
# Parts of the schedule's rate: the encoder knows photos already, the samplers learn a fixed goal.
ENCODER_RATE, PYRAMID_RATE, SAMPLER_RATE = 0.4, 1.0, 2.0
MAPS_LEVEL = 2  # of the pyramid, for the keypoint maps


class PretrainingTask:
    """Encoder, pyramid and samplers on joint fields, with keypoint maps as an auxiliary loss."""

    def __init__(
        self,
        network: STAF,
        batches: Batches,
        held_out: dict[str, SampleSet],
        steps: int,
        phases: Sequence[Phase],
    ) -> None:
        """Move everything to the batches' device.

        Args:
            network: The base model; its regressors are not used.
            batches: To train on.
            held_out: Sample sets to validate on, by name.
            steps: Of the schedule.
            phases: Crop sizes and levels over the steps.
        """
        self.network, self.batches, self.held_out = network, batches, held_out
        self.steps, self.phases = steps, phases
        self.device = batches.device
        self.maps = KeypointMaps(WIDTH)
        self.fields = JointFields().to(self.device)
        self.modules = nn.ModuleDict({"network": network, "maps": self.maps}).to(self.device)

    @property
    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Encoder, pyramid and samplers, and their parts of the schedule's rate."""
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
        """What a saved state must agree in."""
        return f"stage 1, seeing, seed {self.batches.seed}, batches of {self.batches.size}"

    def losses(self, step: int) -> dict[str, Tensor]:
        """Compute the loss of the fields at each level, and that of the keypoint maps.

        Args:
            step: Of the run.

        Returns:
            Scalars by name, each times its weight.
        """
        self.modules.train()
        generator = self.batches.generator(step)
        phase = phase_at(self.phases, step, self.steps)
        crops, truth = self.batches.draw(phase.pixels, generator)
        with torch.autocast(self.device.type, torch.bfloat16):
            phi = self.network.encoder(crops)
        terms = {}
        for level in range(1, phase.levels + 1):
            phi = self.network.pyramid(level, phi)
            found, goal = self._fields(level, phi, truth, generator)
            terms[f"field {level}"] = field_loss(found, goal, truth)
            if level == MAPS_LEVEL:
                terms["maps"] = self.maps(phi, truth.kp2d)
        return terms

    def _fields(
        self, level: int, phi: Tensor, truth: GroundTruth, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The sampler's features at points of phi_k and the fields there, both (N, P, 5)."""
        if level == 1:
            where = sampling_grid().to(phi.device).expand(len(phi), -1, -1)
        else:
            where = points_near_joints(truth, MESH_POINTS, generator)
        flat = self.network.sampler[level - 1](sample(phi.float(), where))  # channel-major
        found = flat.reshape(len(phi), POINT_FEATURES, -1).transpose(1, 2)
        return found, self.fields(level, truth, where)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Measure how much of the fields' variance is explained on held-out people.

        Returns:
            "<set> field <level>": 1 is perfect, 0 as good as the mean.
        """
        self.network.eval()
        errors = {}
        for name, samples in self.held_out.items():
            off, spread = torch.zeros(3), torch.zeros(3)
            generator = torch.Generator().manual_seed(self.batches.seed)
            held_out = middle_frames(samples, self.batches.points, self.device, VALIDATED)
            for crops, truth in held_out:
                with torch.autocast(self.device.type, torch.bfloat16):
                    phi = self.network.encoder(crops)
                known = truth.smpl_weight
                for level in (1, 2, 3):
                    phi = self.network.pyramid(level, phi.float())
                    found, goal = self._fields(level, phi, truth, generator)
                    missed = (found - goal).square().mean((1, 2))
                    varies = (goal - goal.mean((0, 1))).square().mean((1, 2))
                    off[level - 1] += float((missed * known).sum())
                    spread[level - 1] += float((varies * known).sum())
            for level, share in enumerate((1 - off / spread.clamp(min=1e-6)).tolist(), 1):
                errors[f"{name} field {level}"] = share
        return errors
