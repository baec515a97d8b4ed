"""The fields that point features are pretrained on: what they hold, and which poses count."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from staf_cli.model.pyramid import sampling_grid
from staf_cli.training import joint_fields
from staf_cli.training.joint_fields import DEPTH_PAIRS, JointFields, field_loss, points_near_joints
from staf_cli.training.losses import GroundTruth

PEOPLE = 3


def some_people(seed: int = 0) -> GroundTruth:
    """Points anywhere in the crop, each at a depth of its own."""
    generator = torch.Generator().manual_seed(seed)
    kp2d = torch.rand(PEOPLE, 31, 3, generator=generator) * 1.6 - 0.8
    kp2d[..., 2] = 1
    kp3d = torch.randn(PEOPLE, 31, 3, generator=generator) * 0.3
    rest = torch.eye(3).expand(PEOPLE, 24, 3, 3), torch.zeros(PEOPLE, 10), torch.ones(PEOPLE)
    return GroundTruth(kp2d, kp3d, *rest, torch.ones(PEOPLE, 31))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_field_is_the_sum_of_its_spots(level):
    """Against the definition in plain loops."""
    field, truth = JointFields(), some_people()
    points = torch.rand(PEOPLE, 4, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = field(level, truth, points)
    mixture = field.mixture[level - 1].numpy()
    for n in range(PEOPLE):
        for p, point in enumerate(points[n].numpy()):
            want = np.zeros(5)

            def spot(joint, brightness, share, n=n, point=point, want=want):
                off = point - truth.kp2d[n, joint, :2].numpy()
                bright = np.exp(-(off @ off) / 2 / joint_fields.SIGMA[level - 1] ** 2)
                want += brightness * bright * share

            for joint in range(14):
                spot(joint, 1.0, mixture[joint])
            for i, (joint, other) in enumerate(DEPTH_PAIRS):
                farther = float(truth.kp3d[n, joint, 2] - truth.kp3d[n, other, 2]) / 0.3
                spot(joint, max(farther, 0), mixture[14 + i])
                spot(joint, max(-farther, 0), mixture[14 + len(DEPTH_PAIRS) + i])
            assert found[n, p].numpy() == pytest.approx(want, abs=1e-4)


def test_what_is_not_seen_leaves_no_spot():
    truth = some_people()
    unseen = truth.kp2d * torch.tensor([1.0, 1, 0])
    dark = replace(truth, kp2d=unseen)
    assert JointFields()(1, dark, sampling_grid().expand(PEOPLE, -1, -1)).abs().max() == 0


def test_every_spot_has_channels_of_its_own():
    """No two spots look alike, and none is missing from a level."""
    for mixture in JointFields().mixture:
        alike = torch.nn.functional.cosine_similarity(mixture[:, None], mixture[None], dim=-1)
        assert (alike - torch.eye(len(mixture))).max() < 0.9995
        assert mixture.norm(dim=-1).min() > 0.3


def test_only_known_poses_count():
    answer, goal = torch.zeros(PEOPLE, 7, 5), torch.ones(PEOPLE, 7, 5)
    answer[0] += 100
    truth = some_people()
    known = torch.tensor([0.0, 1, 0.5])
    some = replace(truth, smpl_weight=known)
    assert field_loss(answer, goal, some).item() == pytest.approx(joint_fields.FIELD_WEIGHT)
    nobody = replace(truth, smpl_weight=known * 0)
    assert field_loss(answer, goal, nobody).item() == 0


def test_points_lie_around_the_joints_and_some_anywhere():
    truth = some_people()
    points = points_near_joints(truth, 400, torch.Generator().manual_seed(0))
    assert points.shape == (PEOPLE, 400, 2)
    off = (points[:, :, None] - truth.kp2d[:, None, :14, :2]).norm(dim=-1).amin(-1)
    assert off[:, :300].mean() < 0.2 < off[:, 300:].mean()
    assert points[:, 300:].abs().max() <= 1
