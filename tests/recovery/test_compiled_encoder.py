"""The network with a compiled encoder, against the same network in torch."""

import copy

import pytest
import torch

from staf_cli.core import compiled
from staf_cli.core.compiled import openvino_version
from staf_cli.model.staf import Architecture
from staf_cli.recovery.compiled_encoder import CompiledEncoder, prepare_fastest
from staf_cli.recovery.engine import Settings, prepare
from tests.support.made_networks import random_network

CPU = torch.device("cpu")


@pytest.mark.skipif(openvino_version(CPU) is None, reason="needs OpenVINO")
@pytest.mark.parametrize("encoder", ["resnet18", "blazepose+yolo11n"])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_compiled_it_answers_the_same(encoder, dtype, off, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "data_folder", lambda: tmp_path)
    plain = random_network(Architecture(encoder)).eval().requires_grad_(False)
    fast = copy.deepcopy(plain)
    prepare(plain, Settings(CPU, torch.float32))
    prepare_fastest(fast, Settings(CPU, dtype))
    assert isinstance(fast.encoder, CompiledEncoder)
    crops = torch.randn(9, 3, 224, 224)
    with torch.inference_mode():
        expected, phi_0 = plain.encoder(crops), fast.encoder(crops)
    assert phi_0.dtype == dtype
    spread = expected.std()
    assert ((phi_0.float() - expected).abs().mean() / spread) < off
    assert torch.allclose(phi_0[:1].float(), fast.encoder(crops[:1]).float(), atol=1e-3 + off)
