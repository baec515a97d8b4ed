"""Our checkpoint files: the way there and back, and everything that must be refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from staf_cli.checkpoints.format import compact, load_checkpoint, save_checkpoint
from staf_cli.core.errors import WeightsError
from staf_cli.core.files import sha256

ABOUT: dict[str, Any] = {
    "name": "small",
    "architecture": {"encoder": "resnet18", "apm": False, "tcfm": None, "safm": 3},
    "body": "smpl-neutral 0123456789abcdef",
    "crop_scale": 1.2,
    "licence": "none",
}


def tensors():
    return {
        "mean.pose": torch.arange(144.0),
        "pyramid.norm.0.weight": torch.randn(4, 4).t(),  # not contiguous
        "samples.index": torch.arange(3),
    }


def write_raw(path, content, about):
    save_file(content, path, metadata={"staf": json.dumps(about)})
    return path


def whole_about():
    return {"format": "staf-checkpoint-1", **ABOUT}


def test_a_checkpoint_comes_back_as_it_went(tmp_path):
    before = tensors()
    path = tmp_path / "new" / "small.safetensors"
    save_checkpoint(path, before, **ABOUT)
    after = load_checkpoint(path)
    assert set(after.tensors) == set(before)
    assert all(torch.equal(after.tensors[name], before[name]) for name in before)
    for field, value in ABOUT.items():
        assert getattr(after, field) == value
    assert after.sha256 == sha256(path)
    assert after.identity == f"small {sha256(path)[:16]}"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_no_tensor_keeps_the_file_in_memory(tmp_path):
    path = tmp_path / "kept.safetensors"
    save_checkpoint(path, tensors(), **ABOUT)
    after = load_checkpoint(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert torch.equal(after.tensors["mean.pose"], torch.arange(144.0))


def test_eight_bits_keep_every_row_to_a_hundredth_of_its_largest(tmp_path):
    generator = torch.Generator().manual_seed(0)
    large = (
        torch.randn(64, 32, 3, 3, generator=generator)
        * torch.logspace(-4, 2, 64)[:, None, None, None]
    )
    large[5] = 0
    before = {**tensors(), "encoder.conv1.weight": large}
    packed = compact(before, coarse=("encoder.",))
    assert packed["encoder.conv1.weight"].dtype == torch.int8
    assert packed["pyramid.norm.0.weight"].dtype == torch.float32  # small ones stay as they are
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, packed, **ABOUT)
    after = load_checkpoint(path).tensors
    assert set(after) == set(before)
    off = (after["encoder.conv1.weight"] - large).flatten(1).abs().amax(1)
    assert (off <= large.flatten(1).abs().amax(1) / 253).all()
    assert path.stat().st_size < large.numel() * 1.2


def test_sixteen_bits_come_back_as_thirty_two(tmp_path):
    before = {"regressor.0.fc1.weight": torch.randn(64, 80), "samples.index": torch.arange(5000)}
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, compact(before, coarse=("encoder.",)), **ABOUT)
    after = load_checkpoint(path).tensors
    weight = after["regressor.0.fc1.weight"]
    assert weight.dtype == torch.float32
    assert torch.allclose(weight, before["regressor.0.fc1.weight"], rtol=1e-3, atol=1e-6)
    assert torch.equal(after["samples.index"], before["samples.index"])


def test_what_is_to_stay_exact_stays_so():
    before = {
        "regressor.1.fc1.weight": torch.randn(64, 80),
        "sampler.0.weight": torch.randn(64, 80),
    }
    packed = compact(before, coarse=("encoder.",), exact=("regressor.1.fc1.",))
    assert torch.equal(packed["regressor.1.fc1.weight"], before["regressor.1.fc1.weight"])
    assert packed["sampler.0.weight"].dtype == torch.float16


@pytest.mark.parametrize("scale", [None, torch.ones(3), torch.ones(4, dtype=torch.float64)])
def test_eight_bits_without_their_scale_are_refused(tmp_path, scale):
    content = {"weight": torch.zeros(4, 2, dtype=torch.int8)}
    content |= {} if scale is None else {"weight.scale": scale}
    path = write_raw(tmp_path / "x.safetensors", content, whole_about())
    with pytest.raises(WeightsError, match=r"weight has no fitting scale"):
        load_checkpoint(path)


def test_the_same_content_has_the_same_hash_whenever_it_is_written(tmp_path):
    written = set()
    for attempt in range(8):  # an order left to chance would show itself
        path = tmp_path / f"{attempt}.safetensors"
        save_checkpoint(path, dict.fromkeys("abcdefgh", torch.ones(2)), **ABOUT)
        written.add(path.read_bytes())
    assert len(written) == 1


def lying_header(path):
    """A header that promises more data than the file has."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 16)


def truncated(path):
    save_checkpoint(path, tensors(), **ABOUT)
    path.write_bytes(path.read_bytes()[:-1])


def damage(name):
    def write(path):
        if name == "bfloat16":
            write_raw(path, {"a": torch.ones(2).bfloat16()}, whole_about())
        elif name == "float index":
            write_raw(path, {"samples.index": torch.ones(2)}, whole_about())
        elif name == "nan":
            write_raw(path, {"a": torch.tensor([1.0, float("nan")])}, whole_about())
        elif name == "no metadata":
            save_file({"a": torch.ones(2)}, path)

    return write


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"\xff" * 1000), "damaged"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "damaged"),
        (lambda path: torch.save({"a": torch.ones(2)}, path), "damaged"),
        (lying_header, "damaged"),
        (truncated, "damaged"),
        (damage("bfloat16"), "a is torch.bfloat16"),
        (damage("float index"), "samples.index is torch.float32"),
        (damage("nan"), "a holds values that are not finite"),
        (damage("no metadata"), "not made by staf"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, write, reason):
    path = tmp_path / "it.safetensors"
    write(path)
    with pytest.raises(WeightsError, match=reason) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


ARCHITECTURE = ABOUT["architecture"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "staf-checkpoint-2"}, "not made by staf"),
        ({"body": None}, "body"),
        ({"name": 3}, "name"),
        ({"crop_scale": "1.1"}, "crop_scale"),
        ({"crop_scale": float("nan")}, "crop scale nan"),
        ({"crop_scale": 0.1}, "crop scale 0.1"),
        ({"architecture": "full"}, "architecture"),
        ({"architecture": {}}, "architecture"),
        ({"architecture": ARCHITECTURE | {"encoder": 50}}, "architecture"),
        ({"architecture": ARCHITECTURE | {"apm": 1}}, "architecture"),
        ({"architecture": ARCHITECTURE | {"tcfm": True}}, "architecture"),
        ({"architecture": ARCHITECTURE | {"more": 1}}, "architecture"),
    ],
)
def test_lying_metadata_are_refused(tmp_path, change, reason):
    path = write_raw(tmp_path / "it.safetensors", {"a": torch.ones(2)}, whole_about() | change)
    with pytest.raises(WeightsError, match=reason):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "it.safetensors"
    save_checkpoint(path, tensors(), **ABOUT)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(path, tensors(), **ABOUT | {"licence": Path("not JSON")})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
