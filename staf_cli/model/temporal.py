"""Spatio-temporal alignment fusion over a window (paper 3.3): TCFM (3.3.1) and SAFM (3.3.2).

Shapes: B windows of T = 9 frames, S numbers in the feature of a frame.
"""

import torch
from torch import Tensor, nn

WINDOW = 9  # T
TARGET = WINDOW // 2  # [T / 2]


class TCFM(nn.Module):
    """Temporal coherence fusion module (Fig. 4): attention guided by the features' own similarity.

    The authors' code joins the two correlation maps along the batch, and so mixes windows when it
    gets more than one; here each window is separate, as Eq. 5 states. The layers' names are keys
    of checkpoints.
    """

    def __init__(self, features: int) -> None:
        """Build the module.

        Args:
            features: S.
        """
        super().__init__()
        inner = features // 2  # S / m with m = 2
        self.theta = nn.Linear(features, inner, bias=False)  # Q
        self.phi = nn.Linear(features, inner, bias=False)  # K
        self.g = nn.Linear(features, inner, bias=False)  # V
        self.mask = nn.Linear(inner, features, bias=False)  # U of Eq. 6
        self.fuse = nn.Parameter(torch.ones(2))  # F of Eq. 5: a 1x1 convolution over two maps

    def forward(self, z_inp: Tensor) -> Tensor:
        """Refine the features of whole windows.

        Args:
            z_inp: (B, 9, S) Z_inp.

        Returns:
            (B, 9, S) Z_ref.
        """
        _, _, m_g = self.correlations(z_inp)  # (B, 9, 9)
        z_ref: Tensor = z_inp + self.mask(m_g @ self.g(z_inp))  # (B, 9, S) Eq. 6
        return z_ref

    def correlations(self, z_inp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute how much each frame (rows) depends on each other one (columns), Eq. 4 and 5.

        Args:
            z_inp: (B, 9, S) Z_inp.

        Returns:
            M_sim, M_con and their fusion M_g, each (B, 9, 9); rows sum to 1.
        """
        z_q, z_k = self.theta(z_inp), self.phi(z_inp)  # (B, 9, S / 2)
        m_sim = torch.softmax(z_inp @ z_inp.transpose(1, 2), -1)
        m_con = torch.softmax(z_q @ z_k.transpose(1, 2), -1)
        both = torch.stack([m_sim, m_con], -1)  # (B, 9, 9, 2), in the order of F's weights
        return m_sim, m_con, torch.softmax(both @ self.fuse, -1)


class SAFM(nn.Module):
    """Spatial alignment fusion module (Fig. 5): three groups of neighbours, then their results.

    One attention serves every group and the last step. The layers' names are keys of checkpoints.
    """

    def __init__(self, features: int) -> None:
        """Build the module.

        Args:
            features: S.
        """
        super().__init__()
        self.reduce = nn.Linear(features, 256)  # fc of Eq. 7
        self.attend = nn.Sequential(
            nn.Linear(3 * 256, 256),
            nn.Tanh(),
            nn.Linear(256, 256),
            nn.Tanh(),
            nn.Linear(256, 3),
            nn.Tanh(),
        )

    def attention_weights(self, three: Tensor) -> Tensor:
        """Compute the weights alpha_1 to alpha_3 of a group, from Eq. 7 on.

        Args:
            three: (..., 3, S) features of the group.

        Returns:
            (..., 3), summing to 1.
        """
        concat = self.reduce(three).flatten(-2)  # (..., 3 * 256) phi^m_concat, Eq. 7
        return torch.softmax(self.attend(concat), -1)

    def integrate(self, three: Tensor) -> Tensor:
        """Integrate the three features of a group into one, Eq. 8.

        Args:
            three: (..., 3, S) features of the group.

        Returns:
            (..., S) phi^m_integ.
        """
        return (self.attention_weights(three)[..., None] * three).sum(-2)

    def forward(self, z: Tensor) -> Tensor:
        """Fuse the features of whole windows into the target's.

        Args:
            z: (B, 9, S) phi^m of the window's frames.

        Returns:
            (B, S) phi^m_ref of the target.
        """
        past_current_future = self.integrate(z.reshape(len(z), 3, 3, -1))  # (B, 3, S)
        return self.integrate(past_current_future)
