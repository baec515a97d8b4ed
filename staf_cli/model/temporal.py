"""Fusion over the window: TCFM in time (paper 3.3.1) and SAFM over neighbours (paper 3.3.2)."""

import torch
from torch import Tensor, nn

WINDOW = 9
TARGET = WINDOW // 2


class TCFM(nn.Module):
    """Temporal coherence fusion: attention led by the features' own similarity (Fig. 4).

    The authors' code joins the two correlation maps along the batch and so mixes windows when
    it is given more than one; here every window is on its own, as Eq. 5 says.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = features // 2
        self.theta = nn.Linear(features, inner, bias=False)  # Q
        self.phi = nn.Linear(features, inner, bias=False)  # K
        self.g = nn.Linear(features, inner, bias=False)  # V
        self.mask = nn.Linear(inner, features, bias=False)  # U of Eq. 6
        self.fuse = nn.Parameter(torch.ones(2))  # F of Eq. 5: a 1x1 convolution over two maps

    def forward(self, z: Tensor) -> Tensor:
        """Features of whole windows (B, 9, S) -> refined ones, same shape."""
        m_sim = torch.softmax(z @ z.transpose(1, 2), -1)  # (B, 9, 9), Eq. 4
        m_con = torch.softmax(self.theta(z) @ self.phi(z).transpose(1, 2), -1)
        both = torch.stack([m_sim, m_con], -1)  # (B, 9, 9, 2)
        m_g = torch.softmax(both @ self.fuse, -1)  # Eq. 5
        refined: Tensor = z + self.mask(m_g @ self.g(z))  # Eq. 6
        return refined


class SAFM(nn.Module):
    """Spatial alignment fusion: threes of neighbours, then the three results (Fig. 5).

    The same attention serves every group and the last step.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(features, 256)
        self.attend = nn.Sequential(
            nn.Linear(3 * 256, 256),
            nn.Tanh(),
            nn.Linear(256, 256),
            nn.Tanh(),
            nn.Linear(256, 3),
            nn.Tanh(),
        )

    def scores(self, three: Tensor) -> Tensor:
        """Attention weights (..., 3) of three features (..., 3, S), Eq. 7."""
        return torch.softmax(self.attend(self.reduce(three).flatten(-2)), -1)

    def integrate(self, three: Tensor) -> Tensor:
        """The weighted sum (..., S) of three features (..., 3, S), Eq. 8."""
        return (self.scores(three)[..., None] * three).sum(-2)

    def forward(self, z: Tensor) -> Tensor:
        """Features of whole windows (B, 9, S) -> the target's fused feature (B, S)."""
        past_current_future = self.integrate(z.reshape(len(z), 3, 3, -1))  # (B, 3, S)
        return self.integrate(past_current_future)
