"""What every network here does: nine crops of a person -> the target frame's SMPL parameters.

What a frame contributes to all windows that contain it is computed once (`frame_maps`), the rest
for every window (`recover`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from staf_cli.model.regressor import MeanParameters, Theta
from staf_cli.model.temporal import SAFM, TCFM, WINDOW

Frames = Any  # what N frames contribute to their windows; rows are taken by a slice


class WindowNetwork(nn.Module):
    """An encoder, and what recovers windows from its maps.

    Encoder and other convolutions may be in float16 or bfloat16; the rest stays in float32.
    """

    encoder: nn.Module
    mean: MeanParameters

    def forward(self, crops: Tensor) -> tuple[Theta, Theta, Theta]:
        """Recover the target frames of whole windows.

        Args:
            crops: (B, 9, 3, 224, 224) normalised RGB.

        Returns:
            Theta_1, Theta_2, Theta_3. Theta_3 is the result, B rows; others may have a row for each
            of the 9 B frames.
        """
        phi_0 = self.encoder(crops.flatten(0, 1))
        return self.recover(self.frame_maps(phi_0), separate_windows(len(phi_0)))

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """The parts that may be in float16 or bfloat16."""
        return (self.encoder,)

    @property
    def coherence(self) -> TCFM | None:
        """What lets the frames of a window attend to each other: TCFM, or MoCA."""
        return None

    @property
    def integration(self) -> SAFM | None:
        """What weighs the frames of a window: SAFM, or HAFI."""
        return None

    @abstractmethod
    def base_model(self, phi_0: Tensor) -> tuple[list[Theta], Tensor]:
        """Recover every frame alone.

        Args:
            phi_0: (N, C_0, 7, 7) encoder maps.

        Returns:
            Theta_1 to Theta_3 (N rows each), and what the last one was computed from.
        """

    @abstractmethod
    def frame_maps(self, phi_0: Tensor) -> Frames:
        """Compute what the windows of a frame share.

        Args:
            phi_0: (N, C_0, 7, 7) encoder maps.

        Returns:
            What N frames contribute.
        """

    @abstractmethod
    def stack(self, frames: Sequence[Frames]) -> Frames:
        """Join what several frames contribute into one batch, in their order."""

    @abstractmethod
    def recover(self, maps: Frames, windows: Tensor) -> tuple[Theta, Theta, Theta]:
        """Recover the target frames of whole windows from what their frames contribute.

        Args:
            maps: Of N frames; windows may share them.
            windows: (B, 9) int64 rows of the maps.

        Returns:
            As `forward`.
        """


def separate_windows(frames: int) -> Tensor:
    """The windows of frames that lie window by window.

    Args:
        frames: 9 B.

    Returns:
        (B, 9) int64 rows of the frames, for `WindowNetwork.recover`.
    """
    return torch.arange(frames).reshape(-1, WINDOW)
