"""The encoder of two: its halves are the originals, and a checkpoint brings it back."""

from dataclasses import asdict

import pytest
import torch

from staf_cli.checkpoints.format import load_checkpoint, save_checkpoint
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.landmarks.weights import load_landmarks
from staf_cli.model import yolo
from staf_cli.model.backbone import CHANNELS, build_encoder
from staf_cli.model.blazepose import TRUNK_SCALE, BlazePoseYolo11
from staf_cli.model.normalisation import normalise
from staf_cli.model.staf import STAF, Architecture, load_network
from tests.support.made_people import open_body

NAME = "blazepose+yolo11n"
BODY = open_body()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    built = build_encoder(NAME)
    assert isinstance(built, BlazePoseYolo11)
    shipped = load_landmarks().state_dict()
    built.trunk.load_state_dict({key: shipped[key] for key in built.trunk.state_dict()})
    return built.eval()


@torch.no_grad()
def test_each_half_has_its_own_channels(encoder):
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(256, (2, 224, 224, 3), generator=generator, dtype=torch.uint8)
    phi_0 = encoder(normalise(colours))
    assert phi_0.shape == (2, CHANNELS[NAME], 7, 7)
    assert torch.equal(phi_0[:, : yolo.CHANNELS], encoder.yolo(normalise(colours)))
    network = load_landmarks()
    *_, at14, _ = network.encode(colours.permute(0, 3, 1, 2) / 255)
    deepest = network.stage8[:-1](at14)
    assert deepest.std() > 0.1
    assert torch.allclose(phi_0[:, yolo.CHANNELS :], deepest * TRUNK_SCALE, atol=1e-4)


@torch.no_grad()
def test_a_checkpoint_brings_it_back(encoder, tmp_path):
    architecture = Architecture(encoder=NAME)
    network = STAF(architecture, BODY.sample_points()).eval()
    network.encoder.load_state_dict(encoder.state_dict())
    assert BODY.arrays.sample_index is not None and BODY.arrays.sample_weight is not None
    samples = {
        "samples.index": torch.from_numpy(BODY.arrays.sample_index),
        "samples.weight": torch.from_numpy(BODY.arrays.sample_weight),
    }
    left_out = ("num_batches", "encoder.trunk")
    state = {k: v for k, v in network.state_dict().items() if not any(o in k for o in left_out)}
    save_checkpoint(
        tmp_path / "both.safetensors",
        state | samples,
        name="both",
        architecture=asdict(architecture),
        body=BODY.identity,
        crop_scale=CROP_SCALE,
        licence="none",
    )
    again = load_network(load_checkpoint(tmp_path / "both.safetensors"), BODY)
    assert again.architecture == architecture
    crops = torch.randn(1, 3, 224, 224)
    assert torch.allclose(again.encoder(crops), network.encoder(crops), atol=1e-4)
