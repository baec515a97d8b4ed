import importlib

import pytest
import torch

from staf_cli.core import torchvision_ops


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_nms_keeps_what_the_definition_keeps(threshold):
    generator = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(200, 2, generator=generator)], 1)
    scores = torch.rand(200, generator=generator)

    kept: list[int] = []
    for i in sorted(range(200), key=lambda i: -float(scores[i])):
        if all(overlap(boxes[i].tolist(), boxes[k].tolist()) <= threshold for k in kept):
            kept.append(i)

    assert 1 < len(kept) < 200
    assert torchvision_ops.nms(boxes, scores, threshold).tolist() == kept


def test_nms_of_nothing():
    kept = torchvision_ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_torchvision_can_be_imported_and_used_afterwards():
    torchvision_ops.ensure()
    torchvision_ops.ensure()  # a second call changes nothing
    torchvision = importlib.import_module("torchvision")
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2]
    assert torchvision.models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_other_faults_of_torchvision_are_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_ops.ensure()
