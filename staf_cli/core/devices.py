"""The processor that computes: its choice, and tensors moved to it."""

import torch
from torch import Tensor

from staf_cli.core.errors import MissingTool


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the CPU to a device, without waiting for the device's earlier work.

    Args:
        tensor: On the CPU.
        device: Where it is needed.

    Returns:
        The same values on the device.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def choose_device(name: str) -> torch.device:
    """Choose the device to compute on.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps" or "auto": CUDA if there is one, else MPS, else CPU.

    Returns:
        The device, tried out.

    Raises:
        MissingTool: The named device is not there or cannot be used.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    unusable = f"device {name!r} cannot be used here; try --device auto"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise MissingTool(unusable)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MissingTool(unusable) from error
    return device
