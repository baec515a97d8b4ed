"""The feature pyramid and point sampling on it (paper 3.2, Eq. 1 and 2)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, leaky_relu, relu

WIDTH = 256  # channels of every pyramid level
POINT_FEATURES = 5  # C_m: what the MLP f keeps of a point
GRID_POINTS = 21 * 21
MESH_POINTS = 431


def sampling_grid() -> Tensor:
    """The 21 x 21 grid over the crop, (441, 2) as x, y in [-1, 1]; x is the slower index."""
    line = torch.linspace(-1, 1, 21)
    x, y = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], -1)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps (B, C, H, W) at points (B, N, 2) in [-1, 1] -> (B, N, C).

    -1 and +1 are the CENTRES of the outermost pixels; outside of the map is zero.
    """
    taken = grid_sample(
        maps, points[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=True
    )  # (B, C, N, 1)
    return taken[..., 0].transpose(1, 2)


class Pyramid(nn.Module):
    """Three deconvolutions, each doubling the resolution: 7 -> 14 -> 28 -> 56 (Eq. 1).

    While it is trained they multiply in bfloat16.
    """

    def __init__(self, encoder_channels: int) -> None:
        super().__init__()
        self.deconv = nn.ModuleList(
            nn.ConvTranspose2d(channels, WIDTH, kernel_size=4, stride=2, padding=1, bias=False)
            for channels in (encoder_channels, WIDTH, WIDTH)
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(3))

    def expand(self, level: int, below: Tensor) -> Tensor:
        """The linear half of DeConv_k: phi_{k-1} (B, C, S, S) -> (B, 256, 2S, 2S)."""
        with torch.autocast(below.device.type, torch.bfloat16, enabled=self.training):
            expanded: Tensor = self.deconv[level - 1](below)
        return expanded

    def activate(self, level: int, expanded: Tensor) -> Tensor:
        """The rest of DeConv_k, BatchNorm and ReLU: gives phi_k, same shape."""
        return relu(self.norm[level - 1](expanded))

    def forward(self, level: int, below: Tensor) -> Tensor:
        """DeConv_k of Eq. 1: phi_{k-1} (B, C, S, S) -> phi_k (B, 256, 2S, 2S)."""
        return self.activate(level, self.expand(level, below))


class PointMLP(nn.Module):
    """f of Eq. 2: 256 channels of a point -> 5, the point's channels fed to every layer.

    Its first products are linear, and so is bilinear sampling: `project` computes them on the
    map's pixels, where nine windows share them, and `finish` goes on from sampled projections.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [128, 64, POINT_FEATURES]
        inputs = (WIDTH, 128 + WIDTH, 64 + WIDTH)
        layers = [nn.Linear(i, o) for i, o in zip(inputs, self.hidden, strict=True)]
        self.layer = cast("list[nn.Linear]", nn.ModuleList(layers))

    def project(self, points: Tensor) -> Tensor:
        """Channels (..., 256) -> their products with all three layers (..., 197), no bias."""
        weights = [layer.weight[:, -WIDTH:] for layer in self.layer]
        return points @ torch.cat(weights).t()

    def finish(self, projected: Tensor) -> Tensor:
        """Projected points (B, N, 197) -> features (B, 5 N), channel-major: index = c * N + n."""
        parts = torch.split(projected, self.hidden, -1)
        first, second, third = (
            part + layer.bias for part, layer in zip(parts, self.layer, strict=True)
        )
        x = leaky_relu(first, 0.01)
        x = leaky_relu(second + x @ self.layer[1].weight[:, :-WIDTH].t(), 0.01)
        x = relu(third + x @ self.layer[2].weight[:, :-WIDTH].t())
        return x.transpose(1, 2).flatten(1)

    def forward(self, points: Tensor) -> Tensor:
        """Points' channels (B, N, 256) -> features (B, 5 N), channel-major."""
        return self.finish(self.project(points))
