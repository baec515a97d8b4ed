"""The encoder that computes phi_0 (paper 3.2): a ResNet as in the paper, or one that saw people."""

from collections import OrderedDict

from torch import nn

from staf_cli.core import torchvision_ops
from staf_cli.core.errors import WeightsError
from staf_cli.model import blazepose, yolo

CHANNELS = {  # C_0
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "yolo11n": yolo.CHANNELS,
    blazepose.NAME: blazepose.CHANNELS,
}


def build_encoder(name: str) -> nn.Module:
    """Build an encoder with random weights.

    It maps normalised RGB (N, 3, 224, 224) to phi_0 (N, CHANNELS[name], 7, 7). A ResNet keeps
    its last map, without pooling and classifier; its parameters have torchvision's names
    (conv1, bn1, layer1.0.conv1, ...).

    Args:
        name: A key of CHANNELS.

    Returns:
        The encoder.

    Raises:
        WeightsError: There is no encoder of that name.
    """
    if name not in CHANNELS:
        raise WeightsError(f"encoder {name!r} is unknown; choose one of {', '.join(CHANNELS)}")
    if name == "yolo11n":
        return yolo.Yolo11()
    if name == blazepose.NAME:
        return blazepose.BlazePoseYolo11()
    torchvision_ops.ensure()
    from torchvision.models import get_model

    children = OrderedDict(get_model(name, weights=None).named_children())
    del children["avgpool"], children["fc"]
    return nn.Sequential(children)
