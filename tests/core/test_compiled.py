"""Compiled networks: the same answers as torch's, kept on disk, silent, and never in the way."""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from torch import nn

from staf_cli.core import compiled as module
from staf_cli.core.compiled import compiled, free_results, hash_of_weights, openvino_version
from staf_cli.core.memory import give_back
from tests.support.paths import ROOT
from tests.support.resident import resident

CPU = torch.device("cpu")
EXAMPLE = torch.zeros(1, 3, 16, 16)
SIZES = [-1, 3, -1, -1]
needs_openvino = pytest.mark.skipif(openvino_version(CPU) is None, reason="needs OpenVINO")


class Network(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        inner = torch.relu(self.first(x))
        return self.second(inner).sigmoid(), inner.mean((2, 3))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    return tmp_path / "openvino"


def build(seed=0, facts=None):
    return lambda: (Network(seed).eval().requires_grad_(False), facts or {})


def refuse():
    raise AssertionError("the network was built again")


@needs_openvino
def test_the_same_answers_as_from_torch_at_any_size(folder):
    network, found = Network().eval(), compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    assert found is not None
    for count, side in ((1, 16), (3, 16), (2, 33)):
        x = torch.randn(count, 3, side, side)
        with torch.inference_mode():
            expected = network(x)
        for one, other in zip(expected, found(x.numpy()), strict=True):
            np.testing.assert_allclose(other, one.numpy(), atol=1e-5)


@needs_openvino
def test_answers_stay_when_it_is_asked_again(folder):
    found = compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    assert found is not None
    first = found(np.ones((1, 3, 16, 16), np.float32))
    before = [one.copy() for one in first]
    found(np.zeros((1, 3, 16, 16), np.float32))
    for one, other in zip(first, before, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_openvino
def test_it_is_built_once_and_then_found_with_what_is_known_of_it(folder):
    first = compiled(build(facts={"person": 7}), "a", EXAMPLE, SIZES, torch.float32)
    (kept,) = folder.iterdir()
    again = compiled(refuse, "a", EXAMPLE, SIZES, torch.float32)
    assert first is not None and again is not None
    assert again.facts == first.facts == {"person": 7}
    x = np.random.default_rng(0).random((2, 3, 20, 20), np.float32)
    for one, other in zip(first(x), again(x), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in kept.iterdir()) == [
        "facts.json",
        "network.bin",
        "network.xml",
    ]


@needs_openvino
@pytest.mark.parametrize("changed", ["weights", "sizes", "code", "torch"])
def test_whatever_it_is_made_of_has_a_place_of_its_own(folder, monkeypatch, changed):
    compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    if changed == "code":
        monkeypatch.setattr(module, "_hash_of_code", lambda: "other")
    if changed == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    key = "b" if changed == "weights" else "a"
    sizes = [-1, 3, 16, 16] if changed == "sizes" else SIZES
    compiled(build(), key, EXAMPLE, sizes, torch.float32)
    assert len(list(folder.iterdir())) == 2


@needs_openvino
@pytest.mark.parametrize("name", ["facts.json", "network.xml", "network.bin"])
def test_damaged_files_are_as_if_absent(folder, name):
    compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    (kept,) = folder.iterdir()
    (kept / name).write_bytes(b"?" + (kept / name).read_bytes()[1:])
    found = compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    assert found is not None
    assert len(found(np.zeros((1, 3, 16, 16), np.float32))) == 2
    assert compiled(refuse, "a", EXAMPLE, SIZES, torch.float32) is not None


@needs_openvino
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures with /proc")
def test_inner_results_are_freed_and_computed_again(folder):
    found = compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    assert found is not None
    x = np.random.default_rng(0).random((1, 3, 900, 900), np.float32)
    first = [one.copy() for one in found(x)]
    give_back()
    before = resident()
    free_results()
    give_back()
    assert before - resident() > 8 * 898**2  # of 8 channels of 4 bytes, and more
    for one, other in zip(first, found(x), strict=True):
        np.testing.assert_array_equal(one, other)


CTRL_C = """
import gc, os, signal, sys
from pathlib import Path
import torch
from torch import nn
from staf_cli.core import compiled as module

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
module.data_folder = lambda: Path(sys.argv[1])
example = torch.zeros(1, 3, 16, 16)
for dtype in (torch.float32, torch.bfloat16):
    networks = [
        module.compiled(lambda: (nn.Conv2d(3, 4, size), {}), name, example, [-1, 3, -1, -1], dtype)
        for name, size in (("a", 1), ("b", 3))
    ]
    assert None not in networks
    while networks:
        del networks[0]
        gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    sum(range(1000))
except KeyboardInterrupt:
    print("interrupted")
"""


@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="no process can be sent Ctrl-C by its number")
def test_ctrl_c_is_heard_after_several_networks_have_gone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@needs_openvino
def test_what_is_long_unused_goes(folder):
    compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    (old,) = folder.iterdir()
    recent = folder / "recent"
    recent.mkdir()
    then = time.time() - 31 * 86400
    os.utime(old, (then, then))
    compiled(build(1), "b", EXAMPLE, SIZES, torch.float32)
    assert not old.exists() and recent.exists()


@needs_openvino
def test_without_a_place_to_keep_it_it_still_computes(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module, "data_folder", lambda: tmp_path / "file")
    found = compiled(build(), "a", EXAMPLE, SIZES, torch.float32)
    assert found is not None
    assert len(found(np.zeros((1, 3, 16, 16), np.float32))) == 2


@needs_openvino
def test_a_network_that_cannot_be_translated_stays_with_torch(folder):
    def strange():
        raise RuntimeError("no such operation")

    assert compiled(strange, "a", EXAMPLE, SIZES, torch.float32) is None
    assert not folder.exists()


@pytest.mark.parametrize("machine", ["arm64", "aarch64", ""])
def test_torch_computes_on_other_processors(monkeypatch, machine):
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert openvino_version(CPU) is None
    assert compiled(refuse, "a", EXAMPLE, SIZES, torch.float32) is None


def test_torch_computes_on_graphics_cards_and_without_openvino(monkeypatch):
    assert openvino_version(torch.device("cuda")) is None

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", absent)
    assert openvino_version(CPU) is None


def test_a_hash_tells_weights_apart():
    same, other = Network(0), Network(1)
    assert hash_of_weights(Network(0)) == hash_of_weights(same) != hash_of_weights(other)
    with torch.no_grad():
        same.second.bias[3] += 1e-6  # type: ignore[index]
    assert hash_of_weights(Network(0)) != hash_of_weights(same)


@needs_openvino
def test_nothing_is_reported_to_the_makers_and_nothing_printed(tmp_path):
    """In a process of its own, whose command line has a --verbose."""
    script = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
from tests.core.test_compiled import EXAMPLE, SIZES, build
from staf_cli.core.compiled import compiled
events = []
sys.addaudithook(lambda event, _: events.append(event) if event.startswith("socket.") else None)
assert compiled(build(), "a", EXAMPLE, SIZES, torch.float32) is not None
print(json.dumps([sorted(set(events)), [n for n in sys.modules if "telemetry" in n]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), "--verbose"],
        env={**os.environ, "STAF_DATA": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    asked, imported = json.loads(done.stdout)
    assert asked == []
    assert not [name for name in imported if name.startswith("openvino_telemetry")]
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["openvino"]
