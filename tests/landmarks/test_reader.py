"""What reads crops, compiled, against the same network in torch."""

import numpy as np
import pytest
import torch

from staf_cli.core.compiled import openvino_version
from staf_cli.landmarks.reader import CompiledReader, TorchReader, load_reader
from staf_cli.landmarks.weights import load_landmarks
from tests.landmarks.pictures import drawn_person

CPU = torch.device("cpu")


@pytest.mark.skipif(openvino_version(CPU) is None, reason="needs OpenVINO")
def test_compiled_it_reads_the_same():
    crops = np.stack([drawn_person(0), drawn_person(1), drawn_person(0)[:, ::-1]])
    reader = load_reader(CPU)
    assert isinstance(reader, CompiledReader)
    points, mask = reader(crops)
    expected, theirs = TorchReader(load_landmarks(), CPU)(crops)
    assert points.shape == (3, 39, 7) and mask.shape == (3, 64, 64)
    assert points.dtype == expected.dtype == np.float64 and mask.dtype == theirs.dtype == np.uint8
    np.testing.assert_allclose(points[..., :2], expected[..., :2], atol=0.01)  # px
    np.testing.assert_allclose(points[..., 2:4], expected[..., 2:4], atol=1e-3)
    np.testing.assert_allclose(points[..., 4:], expected[..., 4:], atol=1e-4)  # m
    assert np.abs(mask.astype(int) - theirs).max() <= 1


def test_without_openvino_torch_reads(monkeypatch):
    monkeypatch.setattr("staf_cli.landmarks.reader.compiled", lambda *_: None)
    assert isinstance(load_reader(CPU), TorchReader)
