"""The pose landmark network of BlazePose GHUM, heavy: 39 points of one person, in 2D and in metres.

It reads an upright square crop of one person. An encoder halves the crop five times, a feature
pyramid leads back to 64 x 64 (heat maps, and from there the person's mask), and a second encoder
halves that map down to 2 x 2, where points, score and metres are read off.

Architecture: MediaPipe's pose_landmark_heavy.tflite (0.5.1675469404); batch norms are part of its
convolutions. Bazarevsky et al., "BlazePose", 2020; Xu et al., "GHUM & GHUML", 2020. Modules are
defined in the order in which the original numbers its layers; tools/convert_landmarks.py relies on
it. It needs float32: in bfloat16 points move by centimetres.

Shapes: N crops, C channels, H the height of a map, W its width; a number in a name is H and W.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad, relu6

from staf_cli.core.convolution import Conv

# 33 of the body, the centre of the hips, one that gives size and turn, and 4 of no use here.
POINTS = 39
Maps = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # the encoder's, 128 x 128 to 8 x 8


@dataclass(frozen=True, eq=False)
class Points:
    """What the network says of the person in each crop, as points."""

    landmarks: Tensor  # (N, 39, 5) x, y, z px of the crop; logits of visibility and presence
    score: Tensor  # (N,) in [0, 1], that there is a person
    metres: Tensor  # (N, 39, 3) m from the centre of the hips: x right, y down, z away


@dataclass(frozen=True, eq=False)
class Output(Points):
    """All five outputs of the network."""

    mask: Tensor  # (N, 256, 256) logits, that a pixel shows the person
    heat_maps: Tensor  # (N, 39, 64, 64) logits, that a point is at a cell


class Trunk(nn.Module):
    """The first encoder: five maps of a crop, each half the size of the one before."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        self.stem = Conv(3, 24, 3, 2, 1, relu6=True)  # (N, 24, 128, 128)
        self.stage128 = Separable(24, 24)
        self.stage64 = nn.Sequential(  # (N, 32, 64, 64)
            Inverted(24, 96, 32, stride=2),
            Inverted(32, 128, 32),
            Inverted(32, 192, 32),
            Inverted(32, 192, 32),
        )
        self.stage32 = nn.Sequential(  # (N, 56, 32, 32)
            Inverted(32, 192, 56, 5, stride=2), *(Inverted(56, 336, 56, 5) for _ in range(3))
        )
        self.stage16 = nn.Sequential(  # (N, 160, 16, 16)
            Inverted(56, 336, 112, stride=2),
            *(Inverted(112, 672, 112) for _ in range(5)),
            Inverted(112, 672, 160, 5),
            *(Inverted(160, 960, 160, 5) for _ in range(5)),
        )
        self.stage8 = nn.Sequential(  # (N, 1632, 8, 8)
            Inverted(160, 960, 272, 5, stride=2),
            *(Inverted(272, 1632, 272, 5) for _ in range(7)),
            Expanded(272, 1632),
        )

    def encode(self, images: Tensor) -> Maps:
        """Compute the encoder's maps.

        Args:
            images: (N, 3, 256, 256) RGB in [0, 1].

        Returns:
            (N, 24, 128, 128), (N, 32, 64, 64), (N, 56, 32, 32), (N, 160, 16, 16) and
            (N, 1632, 8, 8).
        """
        at128 = self.stage128(self.stem(images))
        at64 = self.stage64(at128)
        at32 = self.stage32(at64)
        at16 = self.stage16(at32)
        return at128, at64, at32, at16, self.stage8(at16)


class PoseLandmarkNetwork(Trunk):
    """BlazePose GHUM heavy; 13.7 million weights, 1.9 billion multiplications a crop."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        # Feature pyramid: the encoder's maps with 48 channels each, to be added.
        self.lateral8 = Lateral(1632, 48)
        self.lateral16 = Lateral(160, 48)
        self.lateral32 = Lateral(56, 48)
        self.lateral64 = Lateral(32, 48)
        # Second encoder, which sees the first one's maps again.
        self.down32 = shrink(48, 96, 6)
        self.skip32 = Lateral(56, 96)
        self.down16 = shrink(96, 192, 7)
        self.skip16 = Lateral(160, 192)
        self.down8 = shrink(192, 288, 7)
        self.skip8 = Lateral(1632, 288)
        self.down4 = shrink(288, 288, 7)
        self.down2 = shrink(288, 288, 7)
        # Mask.
        self.mask_lateral128 = Lateral(24, 8)
        self.mask_lateral64 = Lateral(48, 8)
        self.mask128 = nn.Sequential(Residual(8), Residual(8))
        self.mask256 = nn.Sequential(Residual(8), Residual(8))
        # Outputs.
        self.to_mask = Conv(8, 1, 3, 1, 1)
        self.to_heat_maps = Conv(48, POINTS, 1)
        self.to_landmarks = Conv(288, POINTS * 5, 2)
        self.to_metres = Conv(288, POINTS * 3, 2)
        self.to_score = Conv(288, 1, 2)

    def forward(self, images: Tensor) -> Output:
        """Compute all five outputs.

        Args:
            images: (N, 3, 256, 256) RGB in [0, 1].

        Returns:
            The outputs for each crop.
        """
        maps = self.encode(images)
        pyramid = self.pyramid(maps)
        points = self.read_points(maps, pyramid)
        return Output(
            landmarks=points.landmarks,
            score=points.score,
            metres=points.metres,
            mask=self.read_mask(maps, pyramid),
            heat_maps=self.to_heat_maps(pyramid),
        )

    def points_and_mask(self, images: Tensor) -> tuple[Points, Tensor]:
        """Compute points and mask alone, without the heat maps.

        Args:
            images: (N, 3, 256, 256) RGB in [0, 1].

        Returns:
            The same points and mask as `forward` returns.
        """
        maps = self.encode(images)
        pyramid = self.pyramid(maps)
        return self.read_points(maps, pyramid), self.read_mask(maps, pyramid)

    def pyramid(self, maps: Maps) -> Tensor:
        """Join the encoder's maps, coarse to fine.

        Args:
            maps: What `encode` returned.

        Returns:
            (N, 48, 64, 64)
        """
        _, at64, at32, at16, at8 = maps
        joined = double(self.lateral8(at8)) + self.lateral16(at16)  # (N, 48, 16, 16)
        joined = double(joined) + self.lateral32(at32)  # (N, 48, 32, 32)
        return double(joined) + self.lateral64(at64)  # type: ignore[no-any-return]

    def read_points(self, maps: Maps, pyramid: Tensor) -> Points:
        """Run the second encoder and read off landmarks, score and metres.

        Args:
            maps: What `encode` returned.
            pyramid: (N, 48, 64, 64)

        Returns:
            The points in each crop.
        """
        _, _, at32, at16, at8 = maps
        x = self.down32(pyramid) + self.skip32(at32)  # (N, 96, 32, 32)
        x = self.down16(x) + self.skip16(at16)  # (N, 192, 16, 16)
        x = self.down8(x) + self.skip8(at8)  # (N, 288, 8, 8)
        x = self.down2(self.down4(x))  # (N, 288, 2, 2)
        return Points(
            landmarks=self.to_landmarks(x).reshape(-1, POINTS, 5),
            score=self.to_score(x).flatten().sigmoid(),
            metres=self.to_metres(x).reshape(-1, POINTS, 3),
        )

    def read_mask(self, maps: Maps, pyramid: Tensor) -> Tensor:
        """Compute the mask of the person.

        Args:
            maps: What `encode` returned.
            pyramid: (N, 48, 64, 64)

        Returns:
            (N, 256, 256) logits.
        """
        x = double(self.mask_lateral64(pyramid)) + self.mask_lateral128(maps[0])
        x = self.mask256(double(self.mask128(x)))  # (N, 8, 256, 256)
        logits: Tensor = self.to_mask(x)
        return logits[:, 0]


class Depthwise(Conv):
    """A convolution of each channel by itself, and ReLU6."""

    def __init__(
        self, channels: int, kernel: int = 3, stride: int = 1, padding: int | None = None
    ) -> None:
        """Build the layer.

        Args:
            channels: In and out.
            kernel: Side of the kernel, px.
            stride: Of the convolution.
            padding: Zeros on each side of the map, px; None is half a kernel.
        """
        padding = kernel // 2 if padding is None else padding
        super().__init__(channels, channels, kernel, stride, padding, channels, relu6=True)


class Expanded(nn.Module):
    """More channels, and a depthwise convolution of them."""

    def __init__(self, inputs: int, middle: int, kernel: int = 3, stride: int = 1) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            middle: Channels that the depthwise convolution has, and that come out.
            kernel: Side of the depthwise kernel, px.
            stride: Of the depthwise convolution.
        """
        super().__init__()
        self.expand = Conv(inputs, middle, 1, relu6=True)
        self.depthwise = Depthwise(middle, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, middle, H / stride, W / stride)."""
        expanded: Tensor = self.depthwise(self.expand(x))
        return expanded


class Inverted(Expanded):
    """An inverted residual (MobileNetV2): many channels inside; added to the input if it fits."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, kernel: int = 3, stride: int = 1
    ) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            middle: Channels inside.
            outputs: Channels.
            kernel: Side of the depthwise kernel, px.
            stride: Of the depthwise convolution.
        """
        super().__init__(inputs, middle, kernel, stride)
        self.project = Conv(middle, outputs, 1)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H / stride, W / stride)."""
        projected: Tensor = self.project(super().forward(x))
        return projected + x if self.adds else projected


class Separable(nn.Module):
    """A depthwise convolution, then a 1x1 convolution, without activation if none is asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        padding: int | None = None,
        relu6: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            outputs: Channels.
            stride: Of the depthwise convolution.
            padding: Of the depthwise convolution, px; None is half a kernel.
            relu6: Whether the result is clipped to [0, 6].
        """
        super().__init__()
        self.depthwise = Depthwise(inputs, 3, stride, padding)
        self.pointwise = Conv(inputs, outputs, 1, relu6=relu6)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H / stride, W / stride)."""
        mixed: Tensor = self.pointwise(self.depthwise(x))
        return mixed


class Lateral(Separable):
    """A separable convolution and ReLU6: how a map of one encoder reaches the rest."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            outputs: Channels.
        """
        super().__init__(inputs, outputs, relu6=True)


class Residual(Separable):
    """A separable convolution added to the input, then ReLU6: the BlazeBlock."""

    def __init__(self, channels: int) -> None:
        """Build the layers.

        Args:
            channels: In and out.
        """
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map, of the same shape."""
        return relu6(x + super().forward(x), inplace=True)


class Down(Separable):
    """A BlazeBlock of half the size: the input's maxima are added, further channels are zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the layers.

        Args:
            inputs: Channels.
            outputs: Channels, at least as many.
        """
        super().__init__(inputs, outputs, stride=2, padding=0)
        self.further = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H / 2, W / 2)."""
        pooled = pad(max_pool2d(x, 2), (0, 0, 0, 0, 0, self.further))
        # TensorFlow's padding "same": with stride 2 all of it is at the right and the bottom.
        return relu6(pooled + super().forward(pad(x, (0, 1, 0, 1))), inplace=True)


def shrink(inputs: int, outputs: int, residuals: int) -> nn.Sequential:
    """Build a level of the second encoder.

    Args:
        inputs: Channels.
        outputs: Channels.
        residuals: Number of residual blocks after the one that halves the map.

    Returns:
        A module from (N, inputs, H, W) to (N, outputs, H / 2, W / 2).
    """
    return nn.Sequential(Down(inputs, outputs), *(Residual(outputs) for _ in range(residuals)))


def double(x: Tensor) -> Tensor:
    """Double a map's size by bilinear interpolation: (N, C, H, W) to (N, C, 2 H, 2 W)."""
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
