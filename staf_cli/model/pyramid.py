"""Feature down-sampling (paper 3.2): the feature pyramid, Eq. 1, and point features on it, Eq. 2.

Shapes: N frames, P points, H = 7 * 2^k the side of the map at level k.
"""

from itertools import product
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, grid_sample, leaky_relu, pad, relu

WIDTH = 256  # C_k: channels of every pyramid level
POINT_FEATURES = 5  # C_m: numbers that the MLP f keeps of a point
GRID_POINTS = 21 * 21
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # down, right
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


def pixels_around(points: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The pixels between which points are interpolated bilinearly.

    Args:
        points: (M, P, 2) x, y in [-1, 1]: the CENTRES of the outermost pixels.
        side: H, of the map.

    Returns:
        (M, P, 4) int64 pixels, y H + x, and their shares (M, P, 4); 0 for a pixel outside.
    """
    corner = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=points.device)  # x, y
    position = (points + 1) * ((side - 1) / 2)  # (M, P, 2) px
    pixel = position.floor().long()[..., None, :] + corner  # (M, P, 4, 2)
    share = (1 - (position[..., None, :] - pixel).abs()).prod(-1)  # (M, P, 4)
    inside = ((pixel >= 0) & (pixel < side)).all(-1)
    x, y = pixel.clamp(0, side - 1).unbind(-1)
    return y * side + x, share * inside


def mix_rows(table: Tensor, row: Tensor, share: Tensor) -> Tensor:
    """Weighted sums of rows of a table.

    Args:
        table: (R, C)
        row: (M, P, 4) int64
        share: (M, P, 4)

    Returns:
        (M, P, C)
    """
    mixed = embedding_bag(
        row.flatten(0, 1), table, per_sample_weights=share.flatten(0, 1), mode="sum"
    )  # (M P, C)
    return mixed.view(*row.shape[:2], -1)


def sample_rows(maps: Tensor, row: Tensor, points: Tensor) -> Tensor:
    """Sample maps at points as `sample` does, each map at any number of sets of points.

    No map is copied: what several windows sample from the same frame is read where it lies, and
    a point's channels lie together, which is five times as fast on a CPU.

    Args:
        maps: (N, H, H, C)
        row: (M,) int64: which map each set of points is for.
        points: (M, P, 2) x, y in [-1, 1]: the CENTRES of the outermost pixels.

    Returns:
        (M, P, C); outside of the map everything is zero.
    """
    side = maps.shape[1]
    pixel, share = pixels_around(points, side)  # (M, P, 4)
    return mix_rows(maps.flatten(0, 2), pixel + row[:, None, None] * side**2, share)


class ManyChannels(nn.ConvTranspose2d):
    """A deconvolution of kernel 4 with stride 2 and padding 1, for maps of many channels.

    On a CPU it is computed as four matrix products, one for each parity of the result's pixels,
    in a third of the time.
    """

    def forward(self, below: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Compute the map (N, C, H, H) of (N, C_0, H / 2, H / 2)."""
        if below.device.type != "cpu":
            return super().forward(below, output_size)
        if torch.is_autocast_enabled("cpu"):
            below = below.to(torch.get_autocast_dtype("cpu"))
        count, _, half, _ = below.shape
        kernel = self.weight.to(below.dtype)  # (C_0, C, 4, 4)
        padded = pad(below, (1, 1, 1, 1)).movedim(1, -1).contiguous()  # (N, 9, 9, C_0)
        rows = []
        for odd_y in (0, 1):  # as `Pyramid.sample` does
            row = []
            for odd_x in (0, 1):
                seen, weight = [], []
                for down, right in CORNERS:
                    top, left = odd_y + down, odd_x + right
                    seen.append(padded[:, top : top + half, left : left + half])
                    weight.append(kernel[..., 3 - odd_y - 2 * down, 3 - odd_x - 2 * right])
                row.append(torch.cat(seen, -1) @ torch.cat(weight))  # (N, 7, 7, C)
            rows.append(torch.stack(row, 3))  # (N, 7, 7, 2, C)
        linear = torch.stack(rows, 2)  # (N, 7, 2, 7, 2, C)
        return linear.reshape(count, 2 * half, 2 * half, -1).movedim(-1, 1)


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
            kind(channels, WIDTH, kernel_size=4, stride=2, padding=1, bias=False)
            for kind, channels in (
                (ManyChannels, encoder_channels),
                (nn.ConvTranspose2d, WIDTH),
                (nn.ConvTranspose2d, WIDTH),
            )
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

    def sample(self, level: int, below: Tensor, points: Tensor) -> Tensor:
        """Sample phi_k = DeConv_k(phi_{k-1}) at points; only the pixels around them are computed.

        The points of a body lie close together: they touch about a fifth of the map. BatchNorm
        must not measure: it would see these pixels alone.

        Args:
            level: k, 1 to 3.
            below: (N, C_{k-1}, H / 2, H / 2) phi_{k-1}.
            points: (N, P, 2) x, y in [-1, 1]: the CENTRES of the outermost pixels.

        Returns:
            (N, P, 256) in float32; outside of the map everything is zero.
        """
        count, half = len(below), below.shape[-1]
        side = 2 * half
        pixel, share = pixels_around(points, side)  # (N, P, 4)
        frame = torch.arange(count, device=below.device)[:, None, None]
        wanted, row = torch.unique(pixel + frame * side**2, return_inverse=True)  # (R,)
        frame, y, x = wanted // side**2, wanted // side % side, wanted % side
        padded = pad(below, (1, 1, 1, 1)).movedim(1, -1)  # (N, H / 2 + 2, H / 2 + 2, C_{k-1})
        kernel = cast("nn.ConvTranspose2d", self.deconv[level - 1]).weight  # (C_{k-1}, 256, 4, 4)
        # A kernel of 4 with stride 2 and padding 1: an even pixel 2 i sees i - 1 and i through the
        # kernel's 3 and 1, an odd one 2 i + 1 sees i and i + 1 through 2 and 0.
        linear, order = [], []
        for odd_y, odd_x in product((0, 1), (0, 1)):
            some = ((y % 2 == odd_y) & (x % 2 == odd_x)).nonzero()[:, 0]  # (R',)
            at, top, left = frame[some], y[some] // 2 + odd_y, x[some] // 2 + odd_x
            seen, weight = [], []
            for down, right in CORNERS:
                seen.append(padded[at, top + down, left + right])  # (R', C_{k-1})
                weight.append(kernel[..., 3 - odd_y - 2 * down, 3 - odd_x - 2 * right])
            with torch.autocast(below.device.type, torch.bfloat16, enabled=self.training):
                linear.append(torch.cat(seen, 1) @ torch.cat(weight))  # (R', 256)
            order.append(some)
        phi = self.activate(level, torch.cat(linear)[..., None, None])[..., 0, 0]  # (R, 256)
        row = torch.cat(order).argsort()[row]  # of phi
        return mix_rows(phi.float(), row, share)


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
        return channels @ torch.cat(weights).t().to(channels.dtype)

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
        x = leaky_relu(first, 0.01, inplace=True)  # (N, P, 128)
        x = second.add_(x @ self.layer[1].weight[:, :-WIDTH].t())
        x = leaky_relu(x, 0.01, inplace=True)  # (N, P, 64)
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
