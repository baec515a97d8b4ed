"""The light encoder against Ultralytics' own layers, with the detector's own weights."""

import pytest
import torch

from staf_cli.checkpoints.registry import locate
from staf_cli.model.backbone import CHANNELS, build_encoder
from staf_cli.model.normalisation import IMAGENET_MEAN, IMAGENET_STD
from staf_cli.model.yolo import Yolo11
from staf_cli.tracking.detector import load_yolo

NECK = (16, 19, 22)  # the layers whose maps the detector's heads read


@pytest.fixture(scope="module")
def theirs():
    return load_yolo(locate("yolo11n-pose")).model.float().eval()


@pytest.fixture(scope="module")
def ours(theirs):
    encoder = Yolo11()
    state = theirs.state_dict()
    own = {k: state[f"model.{k}"] for k in encoder.state_dict()}
    encoder.load_state_dict(own)
    return encoder.eval()


def their_maps(theirs, images):
    """Run layer after layer, each on the outputs that it names."""
    outputs: list[torch.Tensor] = []
    x = images
    for layer in list(theirs.model)[:-1]:
        if isinstance(layer.f, list):
            x = [x if i == -1 else outputs[i] for i in layer.f]
        x = layer(x)
        outputs.append(x)
    return [outputs[i] for i in NECK]


@torch.no_grad()
def test_maps_are_ultralytics_s(ours, theirs):
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for mine, want in zip(ours.maps(images), their_maps(theirs, images), strict=True):
        assert want.abs().max() > 1
        assert (mine - want).abs().max() < 1e-3


@torch.no_grad()
def test_one_map_holds_all_three(ours):
    """Cell (i, j) of the 7 x 7 map lists the pixels in it, finest first."""
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    joined = ours((images - mean[:, None, None]) / std[:, None, None])
    fine, middle, coarse = ours.maps(images)
    assert joined.shape == (1, CHANNELS["yolo11n"], 7, 7)
    cell = joined[0, :, 2, 5]
    assert torch.allclose(cell[:1024], fine[0, :, 8:12, 20:24].flatten(), atol=1e-4)
    assert torch.allclose(cell[1024:1536], middle[0, :, 4:6, 10:12].flatten(), atol=1e-4)
    assert torch.allclose(cell[1536:], coarse[0, :, 2, 5], atol=1e-4)


def test_it_is_an_encoder_by_name():
    assert isinstance(build_encoder("yolo11n"), Yolo11)
