"""Colours as the encoders expect them: ImageNet's mean subtracted, divided by its deviation."""

import torch
from torch import Tensor

from staf_cli.core.devices import send

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(crops: Tensor) -> Tensor:
    """Convert crops to the encoder's input.

    Args:
        crops: (N, H, W, 3) uint8 RGB.

    Returns:
        (N, 3, H, W) float32, normalised.
    """
    mean, std = (send(torch.tensor(c), crops.device) for c in (IMAGENET_MEAN, IMAGENET_STD))
    return ((crops.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def denormalise(images: Tensor) -> Tensor:
    """Convert the encoder's input back to colours.

    Args:
        images: (N, 3, H, W) normalised RGB.

    Returns:
        (N, 3, H, W) RGB in [0, 1], same dtype.
    """
    mean, std = (
        send(torch.tensor(c, dtype=images.dtype), images.device)
        for c in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return images * std[:, None, None] + mean[:, None, None]
