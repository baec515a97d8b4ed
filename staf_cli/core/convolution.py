"""Convolutions with ReLU6 in the same step, where the processor has it."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

FUSED_TYPES = (torch.float32, torch.bfloat16)


class Conv(nn.Conv2d):
    """A convolution, and ReLU6 after it if it is asked for.

    Once `fuse` has seen it, it can only infer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        relu6: bool = False,
    ) -> None:
        """Build the layer.

        Args:
            inputs: Channels.
            outputs: Channels.
            kernel: Side of the kernel, px.
            stride: Of the convolution.
            padding: Zeros on each side of the map, px.
            groups: Of the convolution.
            relu6: Whether the result is clipped to [0, 6].
        """
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)
        self.relu6 = relu6
        self.fused = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H / stride, W / stride)."""
        if self.fused:
            # Weights packed for one size of map would save more, but are 10 times as slow with
            # another one.
            how = (self.padding, self.stride, self.dilation, self.groups)
            clipped: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *how, "hardtanh", [0.0, 6.0], ""
            )
            return clipped
        mapped = super().forward(x)
        return relu6(mapped, inplace=True) if self.relu6 else mapped


def fuse(network: nn.Module) -> None:
    """Let the network's `Conv` layers clip in the same step on a CPU; elsewhere nothing changes.

    The results stay the same to the bit where torch would use the same library (oneDNN), which it
    does on more than one thread. What torch itself compiles networks to is no promised interface:
    where a trial does not give what it should, the layers stay as they are.

    Args:
        network: On its device, with its final number format; changed in place.
    """
    if _can_fuse():
        for layer in network.modules():
            if isinstance(layer, Conv) and layer.relu6:
                weight = layer.weight
                layer.fused = weight.device.type == "cpu" and weight.dtype in FUSED_TYPES


@cache
def _can_fuse() -> bool:
    """Whether this torch has the operator, and it does what it is expected to do."""
    layer = Conv(1, 1, 1, relu6=True)
    with torch.inference_mode():
        layer.weight.fill_(1.0)
        layer.bias.fill_(0.5)  # type: ignore[union-attr]
        x = torch.arange(-4.0, 12.0).reshape(1, 1, 4, 4)
        expected = layer(x)
        layer.fused = True
        try:
            return bool(torch.equal(layer(x), expected))
        except (AttributeError, RuntimeError, TypeError):
            return False
