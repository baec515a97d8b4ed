"""Detectors' files that cost nothing to keep."""

from pathlib import Path

import pytest
import torch

from staf_cli.core import compiled
from staf_cli.tracking.ultralytics_import import import_networks

EVERYWHERE, NOWHERE = 0.5, -9.0  # a score near 0.6 at every place, or near 0


def save_random_detector(path: Path, *biases: float) -> Path:
    """Save a network like yolo11n-pose.pt with random weights; a bias for each of its 3 scales."""
    import_networks()
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    model = YOLO("yolo11n-pose.yaml")
    assert isinstance(model.model, torch.nn.Module)
    model.model.names = {i: "person" if i == 0 else f"class {i}" for i in range(80)}
    with torch.no_grad():
        for branch, bias in zip(model.model.model[-1].cv3, biases, strict=True):
            branch[-1].bias[0] = bias
    model.save(path)
    return path


@pytest.fixture(autouse=True, scope="session")
def compiled_apart(tmp_path_factory):
    """Networks with random weights are not kept among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compiled")
        patch.setattr(compiled, "data_folder", lambda: folder)
        yield


@pytest.fixture(scope="session")
def random_detector(tmp_path_factory):
    """It finds something anywhere, at every scale."""
    path = tmp_path_factory.mktemp("detector") / "random-pose.pt"
    return save_random_detector(path, EVERYWHERE, EVERYWHERE, EVERYWHERE)


@pytest.fixture(scope="session")
def sparing_detector(tmp_path_factory):
    """It finds nothing at the finest scale: a quarter as many, each of whom is looked at again."""
    path = tmp_path_factory.mktemp("detector") / "sparing-pose.pt"
    return save_random_detector(path, NOWHERE, EVERYWHERE, EVERYWHERE)
