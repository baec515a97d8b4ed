"""Large arrays on disk of which every training step needs a few random rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.core.devices import send

SPARE = 24 * 2**30  # bytes of GPU memory that training itself may need
CHUNK = 2**30  # bytes copied to the GPU at a time


@dataclass(frozen=True, eq=False)
class Store:
    """N rows of T frames on disk; a GPU with enough memory keeps a copy of all after first use."""

    array: NDArray[Any]  # (N, T, ...), usually memory-mapped
    device: torch.device

    def take(self, row: Tensor, frame: Tensor) -> Tensor:
        """Read frames of rows.

        Args:
            row: (B,) int64, on the CPU.
            frame: (B,) or (B, F) int64, one frame or several of each row, on the CPU.

        Returns:
            (B, ...) or (B, F, ...), on the store's device.
        """
        if self._kept is None:
            picked = [self.array[r][f] for r, f in zip(row.tolist(), frame.numpy(), strict=True)]
            return send(torch.from_numpy(np.stack(picked)), self.device)
        rows = row.reshape(-1, *[1] * (frame.ndim - 1))
        return self._kept[send(rows, self.device), send(frame, self.device)]

    @cached_property
    def _kept(self) -> Tensor | None:
        if self.device.type != "cuda" or self.array.nbytes + SPARE > _free(self.device):
            return None
        dtype = torch.from_numpy(np.empty(0, self.array.dtype)).dtype
        kept = torch.empty(self.array.shape, dtype=dtype, device=self.device)
        step = max(1, CHUNK // max(1, self.array[:1].nbytes))
        for start in range(0, len(kept), step):
            rows = slice(start, start + step)
            kept[rows] = torch.from_numpy(np.array(self.array[rows])).to(self.device)
        return kept


def _free(device: torch.device) -> int:
    """Bytes of a GPU's memory that hold no tensor."""
    held_for_reuse = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held_for_reuse
