"""The colours that encoders expect: ImageNet's mean and deviation taken out."""

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(crops: Tensor) -> Tensor:
    """Crops (B, H, W, 3) uint8 RGB to the encoder's input (B, 3, H, W) float32."""
    mean = torch.tensor(IMAGENET_MEAN, device=crops.device)
    std = torch.tensor(IMAGENET_STD, device=crops.device)
    return ((crops.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def denormalise(images: Tensor) -> Tensor:
    """The encoder's input (B, 3, H, W) back to RGB in 0..1, same dtype."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device, dtype=images.dtype)
    std = torch.tensor(IMAGENET_STD, device=images.device, dtype=images.dtype)
    return images * std[:, None, None] + mean[:, None, None]
