"""The encoder phi_0: a torchvision ResNet as in the paper (3.2), or a lighter one."""

from collections import OrderedDict

from torch import nn

from staf_cli.core import torchvision_ops
from staf_cli.core.errors import WeightsError
from staf_cli.model import yolo

CHANNELS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "yolo11n": yolo.CHANNELS,
}


def build_encoder(name: str) -> nn.Sequential:
    """An encoder by name: (B, 3, 224, 224) normalised RGB -> (B, CHANNELS[name], 7, 7).

    A ResNet keeps its last map, without pooling and classifier; its parameters carry
    torchvision's names (conv1, bn1, layer1.0.conv1, ...). Raises WeightsError for other names.
    """
    if name not in CHANNELS:
        raise WeightsError(f"encoder {name!r} is unknown; choose one of {', '.join(CHANNELS)}")
    if name == "yolo11n":
        return yolo.Yolo11()
    torchvision_ops.ensure()
    from torchvision.models import get_model

    children = OrderedDict(get_model(name, weights=None).named_children())
    del children["avgpool"], children["fc"]
    return nn.Sequential(children)
