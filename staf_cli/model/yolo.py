"""A lighter encoder than the paper's: backbone and neck of YOLO11 nano.

A ResNet-50 that has only seen ImageNet must learn what a limb is; the features of the pose
detector have learned it already, and take about a fifth of the time on a CPU. The neck's three
maps (28 x 28, 14 x 14 and 7 x 7) are put into one of 7 x 7, in which each cell keeps the pixels
of the finer maps as channels, so that the pyramid can unfold them.

Architecture: Ultralytics YOLO11, yolo11.yaml, scale n (2024). The blocks have Ultralytics' names;
the names of their layers, and a layer's number in `Yolo11`, are keys of its checkpoints.

Shapes: N frames, C channels, H the height of a map, W its width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pixel_unshuffle

from staf_cli.model.normalisation import denormalise

CHANNELS = 16 * 64 + 4 * 128 + 256  # C_0, 1792


class Yolo11(nn.Sequential):
    """Backbone and neck of YOLO11 nano, pretrained for people's poses where weights are loaded."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__(
            Conv(3, 16, 3, 2),  # 0
            Conv(16, 32, 3, 2),
            C3k2(32, 64, 16),  # 2: 1/4 of the input's size
            Conv(64, 64, 3, 2),
            C3k2(64, 128, 32),  # 4: 1/8
            Conv(128, 128, 3, 2),
            DeepC3k2(128, 128, 64),  # 6: 1/16
            Conv(128, 256, 3, 2),
            DeepC3k2(256, 256, 128),  # 8: 1/32
            SPPF(256),
            C2PSA(256),  # 10
            nn.Identity(),  # 11, 12: doubled and joined with 6
            nn.Identity(),
            C3k2(256 + 128, 128, 64),  # 13: 1/16
            nn.Identity(),  # 14, 15: doubled and joined with 4
            nn.Identity(),
            C3k2(128 + 128, 64, 32),  # 16: 1/8
            Conv(64, 64, 3, 2),
            nn.Identity(),  # 18: joined with 13
            C3k2(64 + 128, 128, 64),  # 19: 1/16
            Conv(128, 128, 3, 2),
            nn.Identity(),  # 21: joined with 10
            DeepC3k2(128 + 256, 256, 128),  # 22: 1/32
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute phi_0.

        Args:
            images: (N, 3, 224, 224) normalised RGB.

        Returns:
            (N, 1792, 7, 7)
        """
        fine, middle, coarse = self.maps(denormalise(images))
        return torch.cat([pixel_unshuffle(fine, 4), pixel_unshuffle(middle, 2), coarse], 1)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the neck's three maps.

        Args:
            images: (N, 3, 224, 224) RGB in [0, 1].

        Returns:
            (N, 64, 28, 28), (N, 128, 14, 14) and (N, 256, 7, 7).
        """
        at4 = self[4](self[3](self[2](self[1](self[0](images)))))  # (N, 128, 28, 28)
        at6 = self[6](self[5](at4))  # (N, 128, 14, 14)
        at10 = self[10](self[9](self[8](self[7](at6))))  # (N, 256, 7, 7)
        at13 = self[13](torch.cat([interpolate(at10, scale_factor=2.0), at6], 1))
        fine = self[16](torch.cat([interpolate(at13, scale_factor=2.0), at4], 1))
        middle = self[19](torch.cat([self[17](fine), at13], 1))
        coarse = self[22](torch.cat([self[20](middle), at10], 1))
        return fine, middle, coarse


class Conv(nn.Module):
    """Convolution, BatchNorm and SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            outputs: Channels.
            kernel: Side of the kernel, px.
            stride: Of the convolution.
            groups: Of the convolution.
        """
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def linear(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H, W) without the SiLU."""
        normed: Tensor = self.bn(self.conv(x))
        return normed

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H, W)."""
        return nn.functional.silu(self.linear(x))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions with fewer channels between them, added to the input."""

    def __init__(self, width: int, middle: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out.
            middle: Channels between the two convolutions.
        """
        super().__init__()
        self.cv1 = Conv(width, middle, 3)
        self.cv2 = Conv(middle, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        return x + self.cv2(self.cv1(x))  # type: ignore[no-any-return]


class C3k2(nn.Module):
    """Split the channels in two halves, send one through a block, and join all three."""

    def __init__(self, inputs: int, outputs: int, half: int) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            outputs: Channels.
            half: Channels of a half.
        """
        super().__init__()
        self.cv1 = Conv(inputs, 2 * half, 1)
        self.cv2 = Conv(3 * half, outputs, 1)
        self.m = nn.ModuleList([self._block(half)])

    def _block(self, half: int) -> nn.Module:
        return Bottleneck(half, half // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H, W)."""
        first, second = self.cv1(x).chunk(2, 1)
        joined: Tensor = self.cv2(torch.cat([first, second, self.m[0](second)], 1))
        return joined


class DeepC3k2(C3k2):
    """A C3k2 whose block is a C3k in place of a bottleneck (`c3k=True` in yolo11.yaml)."""

    def _block(self, half: int) -> nn.Module:
        return C3k(half)


class C3k(nn.Module):
    """Two paths with half of the channels, one of them with two bottlenecks."""

    def __init__(self, width: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out.
        """
        super().__init__()
        half = width // 2
        self.cv1 = Conv(width, half, 1)
        self.cv2 = Conv(width, half, 1)
        self.cv3 = Conv(2 * half, width, 1)
        self.m = nn.Sequential(Bottleneck(half, half), Bottleneck(half, half))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        joined: Tensor = self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))
        return joined


class SPPF(nn.Module):
    """Spatial pyramid pooling: maxima over larger and larger neighbourhoods."""

    def __init__(self, width: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out.
        """
        super().__init__()
        self.cv1 = Conv(width, width // 2, 1)
        self.cv2 = Conv(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(max_pool2d(pooled[-1], 5, stride=1, padding=2))
        joined: Tensor = self.cv2(torch.cat(pooled, 1))
        return joined


class C2PSA(nn.Module):
    """Split the channels in two halves and apply attention over the whole map to one of them."""

    def __init__(self, width: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out.
        """
        super().__init__()
        half = width // 2
        self.cv1 = Conv(width, width, 1)
        self.cv2 = Conv(width, width, 1)
        self.m = nn.Sequential(PSABlock(half))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        first, second = self.cv1(x).chunk(2, 1)
        joined: Tensor = self.cv2(torch.cat([first, self.m(second)], 1))
        return joined


class PSABlock(nn.Module):
    """Attention and two 1x1 convolutions, each added to its input."""

    def __init__(self, width: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out, a multiple of 64.
        """
        super().__init__()
        self.attn = Attention(width, heads=width // 64)
        self.ffn = nn.Sequential(Conv(width, 2 * width, 1), Conv(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        x = x + self.attn(x)
        return x + self.ffn[1].linear(self.ffn[0](x))  # type: ignore[operator, no-any-return]


class Attention(nn.Module):
    """Self-attention of all pixels; a 3x3 convolution of the values encodes the position."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the layers.

        Args:
            width: Channels in and out.
            heads: Of the attention; their keys have half as many channels as their values.
        """
        super().__init__()
        self.heads = heads
        self.value = width // heads
        self.key = self.value // 2
        self.qkv = Conv(width, 2 * width, 1)
        self.proj = Conv(width, width, 1)
        self.pe = Conv(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        parts = self.qkv.linear(x).reshape(x.shape[0], self.heads, -1, x.shape[2] * x.shape[3])
        q, k, v = torch.split(parts, [self.key, self.key, self.value], 2)  # (N, heads, ., H W)
        weights = torch.softmax(q.transpose(2, 3) @ k * self.key**-0.5, -1)  # (N, heads, H W, H W)
        values = (v @ weights.transpose(2, 3)).reshape(x.shape)  # (N, C, H, W)
        return self.proj.linear(values + self.pe.linear(v.reshape(x.shape)))
