"""Which processor computes."""

import torch
from torch import Tensor

from staf_cli.core.errors import MissingTool


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device, without waiting until the device has done its work."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises MissingTool when the named one is not there.
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
