"""The processor that computes: its choice, its precision, and tensors moved to it."""

import torch
from torch import Tensor

from staf_cli.core.errors import MissingTool, UsageError
from staf_cli.core.options import Precision


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
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise MissingTool(f"device {name!r} is unknown: choose --device auto, cpu, cuda or mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = _why_unusable(name, error)
        raise MissingTool(
            f"device {name!r} cannot be used here: {reason}; try --device auto"
        ) from error
    return device


def _why_unusable(name: str, error: Exception) -> str:
    """Say in a few words why a device that torch knows cannot be used."""
    kind, _, number = name.partition(":")
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "the installed torch is for CPUs alone"
    if kind == "cuda" and not torch.cuda.is_available():
        return "no graphics card with a driver that torch can use is found"
    if kind == "cuda" and number.isdigit() and int(number) >= torch.cuda.device_count():
        return f"the cards here are numbered 0 to {torch.cuda.device_count() - 1}"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "mps is for Macs with Apple's own processors"
    return f"torch says {' '.join(str(error).split())[:150]}"


def choose_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """Choose the number format of convolutions; everything after them is in float32.

    Args:
        device: the device that computes.
        precision: "full" is float32. "auto" is float16 on CUDA, bfloat16 on a CPU that multiplies
            it natively, and float32 elsewhere. "half" is float16, for graphics cards.

    Returns:
        float32, float16 or bfloat16.

    Raises:
        UsageError: "half" on a CPU.
    """
    if precision == "half" and device.type == "cpu":
        raise UsageError("--precision half is for graphics cards; leave it out on a CPU")
    if precision == "full":
        return torch.float32
    if precision == "half" or device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and _multiplies_bfloat16() else torch.float32


def _multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without them it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
