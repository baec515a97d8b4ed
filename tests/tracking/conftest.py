"""A detector's file that costs nothing to keep."""

import pytest
import torch

from staf_cli.tracking.ultralytics_import import import_ultralytics


@pytest.fixture(scope="session")
def random_detector(tmp_path_factory):
    """A file like yolo11n-pose.pt, with random weights that find something anywhere."""
    import_ultralytics()
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    model = YOLO("yolo11n-pose.yaml")
    assert isinstance(model.model, torch.nn.Module)
    model.model.names = {i: "person" if i == 0 else f"class {i}" for i in range(80)}
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            branch[-1].bias[0] = 0.5  # a score near 0.6 at every place
    path = tmp_path_factory.mktemp("detector") / "random-pose.pt"
    model.save(path)
    return path
