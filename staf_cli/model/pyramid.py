"""Feature down-sampling (paper 3.2): the feature pyramid, Eq. 1, and point features on it, Eq. 2.

Shapes: N frames, P points, H = 7 * 2^k the side of the map at level k.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, leaky_relu, relu

WIDTH = 256  # C_k: channels of every pyramid level
POINT_FEATURES = 5  # C_m: numbers that the MLP f keeps of a point
GRID_POINTS = 21 * 21
MESH_POINTS = 431  # N~: vertices of the down-sampled mesh


def sampling_grid() -> Tensor:
    """Make the points at which phi_1 is sampled, a 21 x 21 grid over the crop.

    Returns:
        (441, 2) x, y in [-1, 1]; y runs first.
    """
    line = torch.linspace(-1, 1, 21)
    x, y = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], -1)  # (441, 2)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps at points, bilinearly: phi^p_k(x) of Eq. 2.

    Args:
        maps: (N, C, H, H)
        points: (N, P, 2) x, y in [-1, 1]: the CENTRES of the outermost pixels, as the authors do.

    Returns:
        (N, P, C); outside of the map everything is zero.
    """
    sampled = grid_sample(
        maps, points[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=True
    )  # (N, C, P, 1)
    return sampled[..., 0].transpose(1, 2)


class Pyramid(nn.Module):
    """DeConv_1 to DeConv_3 of Eq. 1, each doubling the resolution: 7 -> 14 -> 28 -> 56.

    In training they multiply in bfloat16.
    """

    def __init__(self, encoder_channels: int) -> None:
        """Build the three levels.

        Args:
            encoder_channels: C_0, channels of phi_0.
        """
        super().__init__()
        self.deconv = nn.ModuleList(
            nn.ConvTranspose2d(channels, WIDTH, kernel_size=4, stride=2, padding=1, bias=False)
            for channels in (encoder_channels, WIDTH, WIDTH)
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(3))

    def deconvolve(self, level: int, below: Tensor) -> Tensor:
        """Compute the linear half of DeConv_k.

        Args:
            level: k, 1 to 3.
            below: (N, C_{k-1}, H / 2, H / 2) phi_{k-1}.

        Returns:
            (N, 256, H, H), for `activate`.
        """
        with torch.autocast(below.device.type, torch.bfloat16, enabled=self.training):
            linear: Tensor = self.deconv[level - 1](below)
        return linear

    def activate(self, level: int, linear: Tensor) -> Tensor:
        """Compute the other half of DeConv_k, BatchNorm and ReLU.

        Args:
            level: k, 1 to 3.
            linear: (N, 256, H, H) what `deconvolve` returned.

        Returns:
            (N, 256, H, H) phi_k.
        """
        return relu(self.norm[level - 1](linear))

    def forward(self, level: int, below: Tensor) -> Tensor:
        """Compute phi_k = DeConv_k(phi_{k-1}), Eq. 1.

        Args:
            level: k, 1 to 3.
            below: (N, C_{k-1}, H / 2, H / 2) phi_{k-1}.

        Returns:
            (N, 256, H, H) phi_k.
        """
        return self.activate(level, self.deconvolve(level, below))


class PointMLP(nn.Module):
    """The MLP f of Eq. 2: a point's 256 channels -> 5 numbers; every layer gets the channels again.

    What a layer computes of the channels is linear, and so is bilinear sampling. So `multiply` may
    run on a map's pixels, once for all windows, and `finish` on its samples, with equal results.
    """

    def __init__(self) -> None:
        """Build the three layers."""
        super().__init__()
        self.hidden = [128, 64, POINT_FEATURES]
        inputs = (WIDTH, 128 + WIDTH, 64 + WIDTH)
        layers = [nn.Linear(i, o) for i, o in zip(inputs, self.hidden, strict=True)]
        self.layer = cast("list[nn.Linear]", nn.ModuleList(layers))

    def multiply(self, channels: Tensor) -> Tensor:
        """Multiply channels with those weights of all three layers that belong to them.

        Args:
            channels: (..., 256) of points or pixels.

        Returns:
            (..., 197) products, 128 + 64 + 5; no bias added.
        """
        weights = [layer.weight[:, -WIDTH:] for layer in self.layer]
        return channels @ torch.cat(weights).t()

    def finish(self, products: Tensor) -> Tensor:
        """Compute the features of points from their products.

        Args:
            products: (N, P, 197) what `multiply` returned, or samples of it.

        Returns:
            (N, 5 P) phi^m_k, channel-major: the index is c * P + p.
        """
        parts = torch.split(products, self.hidden, -1)
        first, second, third = (
            part + layer.bias for part, layer in zip(parts, self.layer, strict=True)
        )
        x = leaky_relu(first, 0.01)  # (N, P, 128)
        x = leaky_relu(second + x @ self.layer[1].weight[:, :-WIDTH].t(), 0.01)  # (N, P, 64)
        x = relu(third + x @ self.layer[2].weight[:, :-WIDTH].t())  # (N, P, 5)
        return x.transpose(1, 2).flatten(1)

    def forward(self, channels: Tensor) -> Tensor:
        """Compute phi^m_k of Eq. 2 from sampled points.

        Args:
            channels: (N, P, 256) phi^p_k at the points.

        Returns:
            (N, 5 P) phi^m_k, channel-major.
        """
        return self.finish(self.multiply(channels))
