"""MPS-Net (Wei et al., CVPR 2022): MoCA, then HAFI, APM or the target alone (Table 5).

    x = mean of phi_0 over its pixels                     (9, 2048)
    x = MoCA(x)                                           (9, 2048)
    x = the target's x                     w/o HAFI       (1, 2048)
        HAFI(x)                            w/ HAFI
        mean of the nine x                 w/ APM
    Theta_k as in hmr.py

MoCA attends to frames by learned features and by the features' own similarity, as TCFM does
(3.3.1), which was made after it.
"""

from torch import Tensor

from staf_cli.model.backbone import CHANNELS
from staf_cli.model.hmr import HMR, PooledArchitecture
from staf_cli.model.temporal import TCFM


class MPSNet(HMR):
    """HMR with MoCA before the integration."""

    def __init__(self, architecture: PooledArchitecture) -> None:
        """Build the network with random weights.

        Args:
            architecture: Encoder and integration.
        """
        super().__init__(architecture)
        self.moca = TCFM(CHANNELS[architecture.encoder])

    @property
    def coherence(self) -> TCFM:
        """MoCA."""
        return self.moca

    def encode(self, x: Tensor) -> Tensor:
        """Encode the nine features temporally: (B, 9, 2048)."""
        encoded: Tensor = self.moca(x)
        return encoded
