"""Networks for tests: the golden one, and small ones with random weights that do something."""

from dataclasses import fields
from functools import cache

import numpy as np
import torch
from torch import nn

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import Checkpoint
from staf_cli.checkpoints.release import convert_temporal
from staf_cli.fitting.bones import BoneNetwork
from staf_cli.model.regressor import Regressor
from staf_cli.model.staf import STAF, Architecture, load_network, mean_pose_network
from staf_cli.recovery.cadence import EVERY_FRAME
from staf_cli.recovery.engine import infer_tracks
from staf_cli.recovery.placement import Estimate
from tests.support import golden


def zero_bone_network() -> BoneNetwork:
    """A network that puts nothing right: the directions of landmarks stay as they are."""
    network = BoneNetwork().eval().requires_grad_(False)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    return network


@cache
def golden_body() -> Body:
    """The random body behind the golden values."""
    return Body("golden", golden.body())


@cache
def _encoder_tensors() -> dict[str, torch.Tensor]:
    network = mean_pose_network(golden_body())
    return {f"encoder.{name}": value for name, value in network.encoder.state_dict().items()}


def golden_checkpoint() -> Checkpoint:
    """The golden weights as one of our checkpoints; its dictionary may be changed."""
    return Checkpoint(
        tensors={**convert_temporal(dict(golden.release_state())), **_encoder_tensors()},
        name="golden",
        architecture={"encoder": "resnet50", "apm": True, "tcfm": 1, "safm": 2},
        body=golden_body().identity,
        crop_scale=1.1,
        licence="none",
        sha256="0" * 64,
    )


def golden_network() -> STAF:
    """The network behind the golden values; its encoder's weights are random."""
    network = load_network(golden_checkpoint(), golden_body())
    assert isinstance(network, STAF)
    return network


def random_network(architecture: Architecture) -> STAF:
    """A network whose output depends visibly on its input, the same at every call."""
    torch.manual_seed(0)
    network = STAF(architecture, golden_body().sample_points())
    for norm in network.pyramid.norm:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.01, 0.1)
    for regressor in network.regressor:
        assert isinstance(regressor, Regressor)
        regressor.decpose.weight.data.mul_(0.3)
    return network.eval()


def with_quick_encoder(network: STAF) -> STAF:
    """Put an encoder into a network that sees colours and places, in a hundredth of the time."""
    channels = network.pyramid.deconv[0].in_channels
    assert isinstance(channels, int)
    network.encoder = nn.Sequential(nn.AvgPool2d(32), nn.Conv2d(3, channels, 1), nn.ReLU()).eval()
    return network


def estimates_of(
    frames, tracks, network, crop_scale, settings, cadence=EVERY_FRAME
) -> list[Estimate]:
    """What the network estimates of each track, its stretches joined."""
    parts: list[list[Estimate]] = [[] for _ in tracks]
    for number, _, estimate in infer_tracks(frames, tracks, network, crop_scale, settings, cadence):
        parts[number].append(estimate)
    names = [field.name for field in fields(Estimate)]
    return [
        Estimate(*(np.concatenate([getattr(one, name) for one in own]) for name in names))
        for own in parts
    ]
