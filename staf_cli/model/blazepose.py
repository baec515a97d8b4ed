"""An encoder of two side by side: YOLO11 nano's neck, and the trunk of the landmark network.

BlazePose GHUM's trunk has learned poses and depth from far more people than can be rendered, and
stays frozen. It sees the network's crop as it is: a person is as large in it as in the wider crop
of 256 x 256 that the landmark network was trained on, and its deepest map has 7 x 7 cells, as
phi_0 should.

The trunk's weights are those of the landmark network, which is always there, so that checkpoints
leave them out.

Shapes: N frames.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from staf_cli.landmarks.network import Trunk
from staf_cli.landmarks.weights import read_tensors
from staf_cli.model import yolo
from staf_cli.model.normalisation import denormalise

NAME = "blazepose+yolo11n"
TRUNK = "encoder.trunk."  # how its tensors' names begin in a network
DEEPEST = 272  # channels of the trunk's deepest map
TRUNK_SCALE = 1 / 64  # makes its numbers as large as those of the other map
CHANNELS = yolo.CHANNELS + DEEPEST  # C_0, 2064


class BlazePoseYolo11(nn.Module):
    """YOLO11 nano's phi_0, and behind it the trunk's deepest map."""

    def __init__(self) -> None:
        """Build the layers with random weights."""
        super().__init__()
        self.yolo = yolo.Yolo11()
        self.trunk = Trunk()
        del self.trunk.stage8[-1]  # it widens the map for the landmarks alone

    def forward(self, images: Tensor) -> Tensor:
        """Compute phi_0.

        Args:
            images: (N, 3, 224, 224) normalised RGB.

        Returns:
            (N, 2064, 7, 7)
        """
        deepest = self.trunk.encode(denormalise(images))[-1]  # (N, 272, 7, 7)
        return torch.cat([self.yolo(images), TRUNK_SCALE * deepest], 1)


def with_trunk(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the trunk's tensors to those of a network.

    Args:
        tensors: Of a network with this encoder.

    Returns:
        All of them.

    Raises:
        WeightsError: The landmark network's file is absent, altered or damaged.
    """
    shipped = read_tensors()
    with torch.device("meta"):
        names = BlazePoseYolo11().trunk.state_dict()
    return {**tensors, **{TRUNK + name: shipped[name].float() for name in names}}
