"""What reads landmarks from crops: the landmark network, as fast as the machine can run it."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from staf_cli.checkpoints.registry import POSE_LANDMARKS, locate
from staf_cli.core.compiled import Compiled, compiled
from staf_cli.core.convolution import fuse
from staf_cli.core.devices import send
from staf_cli.core.files import sha256
from staf_cli.core.records import MASK_PIXELS, Float, Image
from staf_cli.core.regions import CROP_PIXELS
from staf_cli.landmarks.network import POINTS, PoseLandmarkNetwork
from staf_cli.landmarks.weights import load_landmarks


class CropReader(Protocol):
    """Whatever reads landmarks from crops."""

    def __call__(self, crops: Image) -> tuple[Float, Image]:
        """Read crops.

        Args:
            crops: (N, 256, 256, 3) RGB.

        Returns:
            (N, 39, 7) x, y px of the crop, visibility, the crop's score, and x, y, z m; and the
            masks (N, 64, 64), 255 times the probability that a part shows the person.
        """
        ...


class Reading(nn.Module):
    """The landmark network, with a picture before it and readings behind it."""

    def __init__(self, network: PoseLandmarkNetwork) -> None:
        """Wrap the network."""
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Read crops (N, 256, 256, 3) uint8: points (N, 39, 7) and masks (N, 64, 64) uint8."""
        images = crops.permute(0, 3, 1, 2).float() / 255  # channels last in memory
        points, logits = self.network.points_and_mask(images)
        score = points.score[:, None, None].expand(-1, POINTS, 1)
        visibility = points.landmarks[..., 3:4].sigmoid()
        columns = [points.landmarks[..., :2], visibility, score, points.metres]
        mask = avg_pool2d(logits.sigmoid(), CROP_PIXELS // MASK_PIXELS)
        return torch.cat(columns, -1), (255 * mask).round().to(torch.uint8)


class TorchReader:
    """The landmark network on a device."""

    def __init__(self, network: PoseLandmarkNetwork, device: torch.device) -> None:
        """Take the network.

        Args:
            network: In float32; it is moved to the device.
            device: Where it will run.
        """
        self.reading = Reading(network.to(device))
        self.device = device
        fuse(network)

    @torch.inference_mode()
    def __call__(self, crops: Image) -> tuple[Float, Image]:
        """Read crops, see `CropReader`."""
        pixels = send(torch.from_numpy(np.ascontiguousarray(crops)), self.device)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # it moves points by cm
            points, mask = self.reading(pixels)
        return points.double().cpu().numpy(), mask.cpu().numpy()


class CompiledReader:
    """The landmark network, compiled."""

    def __init__(self, reading: Compiled) -> None:
        """Take the network, compiled from `Reading`."""
        self.reading = reading

    def __call__(self, crops: Image) -> tuple[Float, Image]:
        """Read crops, see `CropReader`."""
        points, mask = self.reading(crops)
        return points.astype(np.float64), mask


def load_reader(device: torch.device) -> CropReader:
    """Load the landmark network.

    Args:
        device: Where it will run.

    Returns:
        What reads crops, in float32.

    Raises:
        WeightsError: The weights are absent, altered or damaged.
    """
    if device.type == "cpu":
        example = torch.zeros(1, CROP_PIXELS, CROP_PIXELS, 3, dtype=torch.uint8)
        reading = compiled(
            lambda: (Reading(load_landmarks()).eval(), {}),
            sha256(locate(POSE_LANDMARKS)),
            example,
            [-1, CROP_PIXELS, CROP_PIXELS, 3],
            torch.float32,
        )
        if reading is not None:
            return CompiledReader(reading)
    return TorchReader(load_landmarks(), device)
