"""The colours that encoders expect: ImageNet's mean and deviation taken out."""

import torch
from torch import Tensor

from staf_cli.core.devices import send

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(crops: Tensor) -> Tensor:
    """Crops (B, H, W, 3) uint8 RGB to the encoder's input (B, 3, H, W) float32."""
    mean, std = (send(torch.tensor(c), crops.device) for c in (IMAGENET_MEAN, IMAGENET_STD))
    return ((crops.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def denormalise(images: Tensor) -> Tensor:
    """The encoder's input (B, 3, H, W) back to RGB in 0..1, same dtype."""
    mean, std = (
        send(torch.tensor(c, dtype=images.dtype), images.device)
        for c in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return images * std[:, None, None] + mean[:, None, None]
