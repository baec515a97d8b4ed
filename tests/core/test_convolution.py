"""Fused convolutions against torch's own: the same numbers, in maps of any size."""

import pytest
import torch
from torch import nn

from staf_cli.core import convolution
from staf_cli.core.convolution import Conv, fuse
from staf_cli.landmarks.weights import load_landmarks

CASES = {  # inputs, outputs, kernel, stride, padding, groups
    "1x1": (24, 96, 1, 1, 0, 1),
    "depthwise": (96, 96, 5, 1, 2, 96),
    "halving": (96, 96, 3, 2, 0, 96),
    "stem": (3, 24, 3, 2, 1, 1),
}


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_fused_layer_computes_what_torch_does(name, clips, dtype):
    torch.manual_seed(0)
    layer = Conv(*CASES[name], relu6=clips)
    plain = nn.Conv2d(*CASES[name][:5], groups=CASES[name][5])
    layer.to(dtype)
    plain.load_state_dict(layer.state_dict())  # rounded, but float32
    fuse(layer)
    for count, side in ((2, 33), (1, 33), (8, 20)):
        x = (20 * torch.randn(count, CASES[name][0], side, side)).to(dtype)
        found = layer(x.contiguous(memory_format=torch.channels_last))
        wanted = plain(x.float())
        wanted = wanted.clamp(0, 6) if clips else wanted
        assert found.dtype == dtype
        torch.testing.assert_close(
            found.float(), wanted, rtol=1e-2 if dtype != torch.float32 else 1e-4, atol=1e-3
        )
    assert layer.fused == (clips and convolution._can_fuse())


def test_a_layer_that_was_not_fused_can_learn():
    layer = Conv(3, 4, 1, relu6=True)
    layer(torch.rand(1, 3, 2, 2)).sum().backward()
    assert layer.weight.grad is not None


@torch.inference_mode()
def test_the_landmark_network_says_the_same_when_fused():
    network = load_landmarks()
    images = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)
    before = network(images)
    fuse(network)
    for count in (3, 1, 2):
        after = network(images[:count])
        assert (after.landmarks - before.landmarks[:count]).abs().max() < 0.01  # px
        assert (after.metres - before.metres[:count]).abs().max() < 3e-5
        assert (after.mask - before.mask[:count]).abs().max() < 0.04


@pytest.mark.parametrize("answer", [RuntimeError("another signature"), 7.0])
def test_where_the_operator_does_something_else_nothing_is_fused(monkeypatch, answer):
    def operator(x, *how):
        if isinstance(answer, Exception):
            raise answer
        return torch.full_like(x, answer)

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", operator, raising=False)
    convolution._can_fuse.cache_clear()
    layer = Conv(3, 4, 1, relu6=True)
    fuse(layer)
    convolution._can_fuse.cache_clear()
    assert not layer.fused
