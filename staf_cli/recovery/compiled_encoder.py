"""The network with its encoder as fast as the machine can run it."""

import torch
from torch import Tensor, nn

from staf_cli.core.compiled import Compiled, compiled, hash_of_weights
from staf_cli.core.convolution import fuse
from staf_cli.core.geometry import CROP_PIXELS
from staf_cli.model.network import WindowNetwork
from staf_cli.recovery.engine import Settings, prepare


class CompiledEncoder(nn.Module):
    """An encoder that OpenVINO computes."""

    def __init__(self, encoder: Compiled, dtype: torch.dtype) -> None:
        """Wrap the encoder.

        Args:
            encoder: From normalised RGB to phi_0.
            dtype: Of what follows it.
        """
        super().__init__()
        self.encoder = encoder
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """Compute phi_0.

        Args:
            images: (N, 3, 224, 224) normalised RGB.

        Returns:
            (N, C_0, 7, 7)
        """
        (phi_0,) = self.encoder(images.float().numpy())
        return torch.from_numpy(phi_0).to(self.dtype)


def prepare_fastest(network: WindowNetwork, settings: Settings) -> None:
    """Put a network on its device, its encoder as fast as it can be there.

    Args:
        network: In float32 on the CPU, for inference; changed in place.
        settings: Device and precision.
    """
    if settings.device.type == "cpu":
        key, size = hash_of_weights(network.encoder), [3, CROP_PIXELS, CROP_PIXELS]
        example = torch.zeros(1, *size)
        encoder = compiled(lambda: (network.encoder, {}), key, example, [-1, *size], settings.dtype)
        if encoder is not None:
            network.encoder = CompiledEncoder(encoder, settings.dtype)
    prepare(network, settings)
    fuse(network)
