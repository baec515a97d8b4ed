"""Batches of stage 2: which frames its windows see, and what of their labels counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from staf_cli.model.backbone import CHANNELS
from staf_cli.model.staf import STAF, Architecture
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.training.augmentation import CropLabels
from staf_cli.training.encoded_sets import EncodedSet
from staf_cli.training.samples import POINTS
from staf_cli.training.stage2 import Stage2Task, WindowMix
from tests.support.made_people import open_body

BODY = open_body()
ENCODER = "resnet18"
MIX = WindowMix(batch=12, photo_share=0.25, together=4)


def numbered(samples: int, frames: int, first: int) -> EncodedSet:
    """Frames whose maps and shapes both say which frame it is: 100 * sample + frame."""
    number = torch.arange(samples)[:, None] * 100.0 + torch.arange(frames) + first
    shape = (samples, frames, CHANNELS[ENCODER], 7, 7)
    maps = np.broadcast_to(number.numpy()[..., None, None, None], shape).astype(np.float16)
    labels = CropLabels(
        torch.rand(samples, frames, POINTS, 3),
        torch.eye(3).expand(samples, frames, 24, 3, 3),
        number[..., None].expand(-1, -1, 10) / 1000,
        torch.ones(samples),
    )
    return EncodedSet(maps, labels)


def make_task(mix: WindowMix, frames: int = 20, scale: float = 1.0) -> Stage2Task:
    torch.manual_seed(0)
    network = STAF(Architecture(encoder=ENCODER), BODY.sample_points())
    sequences, photos = (
        replace(one, features=(scale * one.features).astype(np.float16))
        for one in (numbered(5, frames, 0), numbered(7, 1, 1000))
    )
    cpu = torch.device("cpu")
    return Stage2Task(network, BODY, sequences, photos, {}, mix=mix, seed=0, device=cpu)


@pytest.mark.parametrize(("together", "frames"), [(1, 20), (4, 20), (8, 20), (4, 10), (4, 5)])
def test_windows_are_nine_neighbours_or_nine_copies_with_their_own_labels(together, frames):
    task = make_task(replace(MIX, together=together), frames)
    copies = 0
    for seed in range(20):
        phi_0, windows, truth = task._draw(torch.Generator().manual_seed(seed))
        assert windows.shape == (12, WINDOW) and len(phi_0) == len(truth.betas)
        number = phi_0[:, 0, 0, 0]
        assert torch.allclose(truth.betas[:, 0] * 1000, number, atol=0.01)
        steps = number[windows].diff(dim=1)
        still = (steps == 0).all(1)
        assert ((steps == 1).all(1) | still).all()
        assert still[9:].all() and (number[windows[9:]] >= 1000).all()  # photos
        assert (number[windows[:9]] < 1000).all()
        copies += int(still[:9].sum())
    if frames >= WINDOW:
        assert 0 < copies < 50  # a tenth of 180
    else:
        assert copies == 180  # of sequences too short for a window


def test_windows_of_a_run_follow_each_other_and_share_their_frames():
    task = make_task(MIX)
    phi_0, windows, _ = task._draw(torch.Generator().manual_seed(1))
    assert len(phi_0) == 3 * 12 + 3  # three runs of 4 windows, three photos
    targets = phi_0[windows[:, TARGET], 0, 0, 0][:9]
    assert (targets.diff() == 1).sum() == 6
    assert len(make_task(replace(MIX, together=1))._draw(torch.Generator())[0]) == 9 * 9 + 3


def test_with_2d_labels_only_pose_and_depth_do_not_count():
    with torch.no_grad():
        whole, flat = (make_task(replace(MIX, only_2d=share)).losses(0) for share in (0.0, 1.0))
    assert all(term > 0 for term in whole.values())
    assert flat["kp2d"] == whole["kp2d"]
    assert [flat[name].item() for name in ("kp3d", "pose", "shape")] == [0, 0, 0]


@pytest.mark.parametrize("train_features", [True, False])
def test_features_move_only_where_they_are_trained(train_features):
    task = make_task(replace(MIX, train_features=train_features), scale=1e-3)  # no tanh at its end
    before = {k: v.clone() for k, v in task.network.state_dict().items()}
    assert task.network.coherence is not None
    torch.nn.init.normal_(task.network.coherence.mask.weight, std=1e-3)
    optimizer = torch.optim.Adam([p for group, _ in task.groups for p in group], lr=1e-4)
    torch.stack(list(task.losses(0).values())).sum().backward()
    optimizer.step()
    moved = {k for k, v in task.network.state_dict().items() if not torch.equal(v, before[k])}
    assert {"regressor.0.fc1.weight", "tcfm.g.weight", "safm.attend.4.weight"} <= moved
    features = {k for k in moved if k.startswith(("pyramid", "sampler"))}
    assert bool(features) == train_features
    assert not any(k.startswith("encoder") for k in moved)
    assert [part for _, part in task.groups] == [1.0, 0.05]
