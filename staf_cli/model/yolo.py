"""A light encoder: backbone and neck of YOLO11 nano, with the names of Ultralytics' own layers.

A ResNet-50 that has only seen ImageNet must learn what a limb is; the pose detector's features
already know, and take about a fifth of the time on a CPU. Its three maps (28 x 28, 14 x 14 and
7 x 7) are laid into one of 7 x 7, each cell keeping the finer maps' pixels as channels, so that
the pyramid can unfold them.

Architecture: Ultralytics YOLO11, yolo11.yaml, scale n (2024). A layer's number is its key there.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pixel_unshuffle

from staf_cli.model.normalisation import denormalise

CHANNELS = 16 * 64 + 4 * 128 + 256


class Yolo11(nn.Sequential):
    """Normalised RGB (B, 3, 32 S, 32 S) -> (B, 1792, S, S)."""

    def __init__(self) -> None:
        super().__init__(
            Conv(3, 16, 3, 2),  # 0
            Conv(16, 32, 3, 2),
            Split(32, 64, 16),  # 2: 1/4 of the input's size
            Conv(64, 64, 3, 2),
            Split(64, 128, 32),  # 4: 1/8
            Conv(128, 128, 3, 2),
            DeepSplit(128, 128, 64),  # 6: 1/16
            Conv(128, 256, 3, 2),
            DeepSplit(256, 256, 128),  # 8: 1/32
            PyramidPool(256),
            AttentiveSplit(256),  # 10
            nn.Identity(),  # 11, 12: doubled and joined with 6
            nn.Identity(),
            Split(256 + 128, 128, 64),  # 13: 1/16
            nn.Identity(),  # 14, 15: doubled and joined with 4
            nn.Identity(),
            Split(128 + 128, 64, 32),  # 16: 1/8
            Conv(64, 64, 3, 2),
            nn.Identity(),  # 18: joined with 13
            Split(64 + 128, 128, 64),  # 19: 1/16
            Conv(128, 128, 3, 2),
            nn.Identity(),  # 21: joined with 10
            DeepSplit(128 + 256, 256, 128),  # 22: 1/32
        )

    def forward(self, images: Tensor) -> Tensor:
        fine, middle, coarse = self.maps(denormalise(images))
        return torch.cat([pixel_unshuffle(fine, 4), pixel_unshuffle(middle, 2), coarse], 1)

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """RGB in 0..1 -> the neck's maps at 1/8 (64), 1/16 (128) and 1/32 (256 channels)."""
        at4 = self[4](self[3](self[2](self[1](self[0](images)))))
        at6 = self[6](self[5](at4))
        at10 = self[10](self[9](self[8](self[7](at6))))
        at13 = self[13](torch.cat([interpolate(at10, scale_factor=2.0), at6], 1))
        fine = self[16](torch.cat([interpolate(at13, scale_factor=2.0), at4], 1))
        middle = self[19](torch.cat([self[17](fine), at13], 1))
        coarse = self[22](torch.cat([self[20](middle), at10], 1))
        return fine, middle, coarse


class Conv(nn.Module):
    """Convolution, BatchNorm and, unless it is to stay linear, SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def linear(self, x: Tensor) -> Tensor:
        """Without the activation."""
        normed: Tensor = self.bn(self.conv(x))
        return normed

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.linear(x))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions around a narrower middle, added to the input."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__()
        self.cv1 = Conv(width, middle, 3)
        self.cv2 = Conv(middle, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x))  # type: ignore[no-any-return]


class Split(nn.Module):
    """Ultralytics' C3k2 with one bottleneck: halves, one of them worked on, all kept."""

    def __init__(self, inputs: int, outputs: int, half: int) -> None:
        super().__init__()
        self.cv1 = Conv(inputs, 2 * half, 1)
        self.cv2 = Conv(3 * half, outputs, 1)
        self.m = nn.ModuleList([self._work(half)])

    def _work(self, half: int) -> nn.Module:
        return Bottleneck(half, half // 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.cv1(x).chunk(2, 1)
        joined: Tensor = self.cv2(torch.cat([first, second, self.m[0](second)], 1))
        return joined


class DeepSplit(Split):
    """The same whose half goes through a split of its own with two bottlenecks (C3k)."""

    def _work(self, half: int) -> nn.Module:
        return InnerSplit(half)


class InnerSplit(nn.Module):
    """Ultralytics' C3k: two narrow paths, two bottlenecks on one of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.cv1 = Conv(width, half, 1)
        self.cv2 = Conv(width, half, 1)
        self.cv3 = Conv(2 * half, width, 1)
        self.m = nn.Sequential(Bottleneck(half, half), Bottleneck(half, half))

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))
        return joined


class PyramidPool(nn.Module):
    """Ultralytics' SPPF: maxima over ever larger neighbourhoods."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1 = Conv(width, width // 2, 1)
        self.cv2 = Conv(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(max_pool2d(pooled[-1], 5, stride=1, padding=2))
        joined: Tensor = self.cv2(torch.cat(pooled, 1))
        return joined


class AttentiveSplit(nn.Module):
    """Ultralytics' C2PSA with one block: half of the channels attend over the whole map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.cv1 = Conv(width, width, 1)
        self.cv2 = Conv(width, width, 1)
        self.m = nn.Sequential(AttentionBlock(half))

    def forward(self, x: Tensor) -> Tensor:
        kept, attending = self.cv1(x).chunk(2, 1)
        joined: Tensor = self.cv2(torch.cat([kept, self.m(attending)], 1))
        return joined


class AttentionBlock(nn.Module):
    """Attention and two 1x1 convolutions, each added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads=width // 64)
        self.ffn = nn.Sequential(Conv(width, 2 * width, 1), Conv(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn[1].linear(self.ffn[0](x))  # type: ignore[operator, no-any-return]


class Attention(nn.Module):
    """Every pixel looks at all pixels; keys are half as wide as values, a 3x3 tells the place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.value = width // heads
        self.key = self.value // 2
        self.qkv = Conv(width, 2 * width, 1)
        self.proj = Conv(width, width, 1)
        self.pe = Conv(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv.linear(x).reshape(len(x), self.heads, -1, x.shape[2] * x.shape[3])
        q, k, v = torch.split(parts, [self.key, self.key, self.value], 2)  # (B, heads, ., HW)
        looks = torch.softmax(q.transpose(2, 3) @ k * self.key**-0.5, -1)  # (B, heads, HW, HW)
        seen = (v @ looks.transpose(2, 3)).reshape(x.shape)
        return self.proj.linear(seen + self.pe.linear(v.reshape(x.shape)))
