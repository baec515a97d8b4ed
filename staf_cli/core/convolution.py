"""Convolutions that processors compute faster: weights in their order, ReLU6 in the same step."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

OPERATORS = ("_convolution_pointwise", "_reorder_convolution_weight")  # those torch compiles to
PACKED_TYPES = (torch.float32, torch.bfloat16)


class Conv(nn.Conv2d):
    """A convolution, and ReLU6 after it if it is asked for.

    Once `pack` has seen it, it can only infer, on the CPU, and its weights are in an order that
    nothing else reads.
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
        self.packs = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map (N, outputs, H / stride, W / stride)."""
        if not self.packs:
            mapped = super().forward(x)
            return relu6(mapped, inplace=True) if self.relu6 else mapped
        how = (self.padding, self.stride, self.dilation, self.groups)
        if not self.weight.is_mkldnn:  # the best order depends on the size of the map
            packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, list(x.shape))
            self.weight = nn.Parameter(packed, requires_grad=False)
        after = ("hardtanh", [0.0, 6.0], "") if self.relu6 else ("none", [], "")
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *how, *after
        )
        return fused


def pack(network: nn.Module) -> None:
    """Let the network's `Conv` layers infer faster on a CPU; elsewhere nothing changes.

    The results stay the same to the bit where torch would use the same library (oneDNN), which it
    does on more than one thread. What torch itself compiles networks to is no promised interface:
    where it is missing the layers stay as they are.

    Args:
        network: On its device, with its final number format; changed in place.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    if not all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS):
        return
    for layer in network.modules():
        if isinstance(layer, Conv):
            weight = layer.weight
            layer.packs = weight.device.type == "cpu" and weight.dtype in PACKED_TYPES
