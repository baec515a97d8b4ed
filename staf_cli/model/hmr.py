"""HMR's head on globally pooled features, and three ways to use a window (the paper's Table 5).

For one window of T = 9 frames with the target in the middle:

    phi_0 = encoder(images)                               (9, 2048, 7, 7)
    x = mean of phi_0 over its pixels                     (9, 2048)
    x = the target's x                     HMR            (1, 2048)
        HAFI(x)                            HMR+HAFI
        mean of the nine x                 HMR+APM
    Theta_k = Theta_{k-1} + R(x, Theta_{k-1}), k = 1, 2, 3, one regressor R applied three times

HAFI (Wei et al., MPS-Net, CVPR 2022) attends to groups of three frames, then to their three
results, as SAFM does (3.3.2), which was made after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.core.errors import WeightsError
from staf_cli.model.backbone import CHANNELS, build_encoder
from staf_cli.model.network import WindowNetwork
from staf_cli.model.regressor import MeanParameters, Regressor, Theta
from staf_cli.model.temporal import SAFM, TARGET

NETWORKS = ("hmr", "mps-net")
INTEGRATIONS = ("target", "hafi", "apm")


@dataclass(frozen=True)
class PooledArchitecture:
    """What Table 5 varies.

    Raises:
        WeightsError: A name is unknown.
    """

    encoder: str = "resnet50"
    network: str = "hmr"  # of NETWORKS
    integration: str = "target"  # of INTEGRATIONS: what becomes of the nine features

    def __post_init__(self) -> None:
        """Check the names."""
        for name, known in ((self.network, NETWORKS), (self.integration, INTEGRATIONS)):
            if name not in known:
                raise WeightsError(
                    f"architecture {name!r} is unknown; known are {', '.join(known)}"
                )


class HMR(WindowNetwork):
    """The classical network (Kanazawa et al., CVPR 2018), alone or with HAFI or APM."""

    def __init__(self, architecture: PooledArchitecture) -> None:
        """Build the network with random weights.

        Args:
            architecture: Encoder and integration.
        """
        super().__init__()
        self.architecture = architecture
        features = CHANNELS[architecture.encoder]
        self.encoder = build_encoder(architecture.encoder)
        self.hafi = SAFM(features) if architecture.integration == "hafi" else None
        self.regressor = Regressor(features)
        self.mean = MeanParameters()

    @property
    def integration(self) -> SAFM | None:
        """HAFI."""
        return self.hafi

    def base_model(self, phi_0: Tensor) -> tuple[list[Theta], Tensor]:
        """Recover every frame alone.

        Args:
            phi_0: (N, 2048, 7, 7) encoder maps.

        Returns:
            Theta_1 to Theta_3 (N rows each), and the pooled features (N, 2048).
        """
        x = self.frame_maps(phi_0)
        return list(self._iterate(x)), x

    def frame_maps(self, phi_0: Tensor) -> Tensor:
        """Pool the maps globally.

        Args:
            phi_0: (N, 2048, 7, 7) encoder maps.

        Returns:
            (N, 2048) in float32.
        """
        return phi_0.float().mean((2, 3))

    def stack(self, frames: Sequence[Tensor]) -> Tensor:
        """Join the features of several frames."""
        return torch.cat(list(frames))

    def recover(self, maps: Tensor, windows: Tensor) -> tuple[Theta, Theta, Theta]:
        """Recover the target frames of whole windows.

        Args:
            maps: (N, 2048) pooled features.
            windows: (B, 9) int64 rows of the features.

        Returns:
            Theta_1 to Theta_3, B rows each.
        """
        x = self.encode(maps[windows.to(maps.device)])  # (B, 9, 2048)
        return self._iterate(self.integrate(x))

    def encode(self, x: Tensor) -> Tensor:
        """Encode the nine features temporally: (B, 9, 2048); HMR leaves them as they are."""
        return x

    def integrate(self, x: Tensor) -> Tensor:
        """The target's feature (B, 2048) of nine (B, 9, 2048)."""
        if self.hafi is not None:
            integrated: Tensor = self.hafi(x)
            return integrated
        return x.mean(1) if self.architecture.integration == "apm" else x[:, TARGET]

    def _iterate(self, x: Tensor) -> tuple[Theta, Theta, Theta]:
        """Theta_1 to Theta_3 from features (B, 2048)."""
        theta_1 = self.regressor(x, self.mean(len(x)))
        theta_2 = self.regressor(x, theta_1)
        return theta_1, theta_2, self.regressor(x, theta_2)
