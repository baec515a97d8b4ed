"""The number format of convolutions on different devices."""

import pytest
import torch

from staf_cli.core.devices import choose_device, choose_dtype
from staf_cli.core.errors import MissingTool, UsageError

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("device", "precision", "capabilities", "want"),
    [
        (CPU, "auto", {"avx512_bf16": True}, torch.bfloat16),
        (CPU, "auto", {"amx_bf16": True}, torch.bfloat16),
        (CPU, "auto", {"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        (CPU, "auto", {}, torch.float32),
        (CPU, "full", {"avx512_bf16": True}, torch.float32),
        (CUDA, "auto", {}, torch.float16),
        (CUDA, "half", {}, torch.float16),
        (CUDA, "full", {}, torch.float32),
        (MPS, "auto", {"avx512_bf16": True}, torch.float32),
        (MPS, "half", {}, torch.float16),
    ],
)
def test_the_format_is_one_that_the_device_multiplies(
    monkeypatch, device, precision, capabilities, want
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype(device, precision) == want


def test_half_is_not_for_cpus():
    with pytest.raises(UsageError, match="graphics cards"):
        choose_dtype(CPU, "half")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpu", "is unknown: choose --device auto, cpu"),
        ("cuda", "the installed torch is for CPUs alone"),
        ("cuda:0", "the installed torch is for CPUs alone"),
        ("mps", "mps is for Macs"),
        ("cpu:x", "torch says"),
    ],
)
def test_a_device_that_cannot_be_used_comes_with_the_reason(monkeypatch, name, reason):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def refuse(*_, device):
        raise RuntimeError(f"no {device}")

    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(MissingTool, match=reason):
        choose_device(name)
