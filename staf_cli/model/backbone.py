"""The encoder: a torchvision ResNet without its pooling and classifier (paper 3.2, phi_0)."""

from collections import OrderedDict

from torch import nn

from staf_cli import torchvision_ops
from staf_cli.errors import WeightsError

CHANNELS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
}


def build_encoder(name: str) -> nn.Sequential:
    """A ResNet that keeps its last map: (B, 3, 224, 224) normalised RGB -> (B, C, 7, 7).

    Parameters carry torchvision's names (conv1, bn1, layer1.0.conv1, ...). C is
    CHANNELS[name]. Raises WeightsError for a name that is not a ResNet of torchvision's.
    """
    if name not in CHANNELS:
        raise WeightsError(f"encoder {name!r} is unknown; choose one of {', '.join(CHANNELS)}")
    torchvision_ops.ensure()
    from torchvision.models import get_model

    children = OrderedDict(get_model(name, weights=None).named_children())
    del children["avgpool"], children["fc"]
    return nn.Sequential(children)
