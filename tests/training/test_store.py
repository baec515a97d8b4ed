"""Stores: the same rows from the disk as from a device's memory."""

import numpy as np
import pytest
import torch

from staf_cli.training.store import Store

DEVICES = [
    torch.device("cpu"),
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    ),
]


@pytest.fixture
def array(tmp_path) -> np.ndarray:
    """(7, 5, 2, 3) float16, memory-mapped."""
    np.save(tmp_path / "array.npy", np.arange(210, dtype=np.float16).reshape(7, 5, 2, 3))
    mapped: np.ndarray = np.load(tmp_path / "array.npy", mmap_mode="r")
    return mapped


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_it_takes_frames_of_rows(array, device, kept, monkeypatch):
    store = Store(array, device)
    if kept:  # as on a GPU with memory for it
        monkeypatch.setitem(vars(store), "_kept", torch.from_numpy(array.copy()).to(device))
    elif device.type == "cuda":
        monkeypatch.setitem(vars(store), "_kept", None)
    row, frame = torch.tensor([6, 0, 6]), torch.tensor([4, 0, 1])
    one = store.take(row, frame)
    assert one.device.type == device.type and one.dtype == torch.float16
    assert np.array_equal(one.cpu(), array[[6, 0, 6], [4, 0, 1]])
    several = store.take(row, torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4], [3, 0, 0, 1]]))
    assert several.shape == (3, 4, 2, 3)
    assert np.array_equal(several[1].cpu(), array[0, [4, 4, 4, 4]])
    assert np.array_equal(several[2].cpu(), array[6, [3, 0, 0, 1]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_with_memory_keeps_all_rows_and_one_without_none(array, monkeypatch):
    from staf_cli.training import store

    monkeypatch.setattr(store, "CHUNK", 2 * array[:1].nbytes)
    monkeypatch.setattr(store, "SPARE", 0)
    kept = Store(array, torch.device("cuda"))._kept
    assert kept is not None and np.array_equal(kept.cpu(), array)
    monkeypatch.setattr(store, "SPARE", 2**60)
    assert Store(array, torch.device("cuda"))._kept is None
