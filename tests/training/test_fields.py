"""The fields that point features are taught: what they hold, and that a pose can be read off."""

import numpy as np
import pytest
import torch

from staf_cli.model.pyramid import sampling_grid
from staf_cli.training import fields
from staf_cli.training.fields import DEPTHS, Fields, field_loss, near_spots
from staf_cli.training.losses import Target

PEOPLE = 3


def some_people(seed: int = 0) -> Target:
    """Points anywhere in the crop, each at a depth of its own."""
    generator = torch.Generator().manual_seed(seed)
    kp2d = torch.rand(PEOPLE, 31, 3, generator=generator) * 1.6 - 0.8
    kp2d[..., 2] = 1
    kp3d = torch.randn(PEOPLE, 31, 3, generator=generator) * 0.3
    rest = torch.eye(3).expand(PEOPLE, 24, 3, 3), torch.zeros(PEOPLE, 10), torch.ones(PEOPLE)
    return Target(kp2d, kp3d, *rest)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_field_is_the_sum_of_its_spots(level):
    """Against the definition in plain loops."""
    field, target = Fields(), some_people()
    points = torch.rand(PEOPLE, 4, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = field(level, target, points)
    colours = field.colours[level - 1].numpy()
    for n in range(PEOPLE):
        for p, point in enumerate(points[n].numpy()):
            want = np.zeros(5)

            def spot(joint, brightness, colour, n=n, point=point, want=want):
                off = point - target.kp2d[n, joint, :2].numpy()
                bright = np.exp(-(off @ off) / 2 / fields.SIGMA[level - 1] ** 2)
                want += brightness * bright * colour

            for joint in range(14):
                spot(joint, 1.0, colours[joint])
            for i, (joint, other) in enumerate(DEPTHS):
                nearer = float(target.kp3d[n, joint, 2] - target.kp3d[n, other, 2]) / 0.3
                spot(joint, max(nearer, 0), colours[14 + i])
                spot(joint, max(-nearer, 0), colours[14 + len(DEPTHS) + i])
            assert found[n, p].numpy() == pytest.approx(want, abs=1e-4)


def test_what_is_not_seen_leaves_no_spot():
    target = some_people()
    unseen = target.kp2d * torch.tensor([1.0, 1, 0])
    dark = Target(unseen, target.kp3d, target.rotmats, target.betas, target.smpl_weight)
    assert Fields()(1, dark, sampling_grid().expand(PEOPLE, -1, -1)).abs().max() == 0


def test_every_spot_has_channels_of_its_own():
    """No two spots look alike, and none is missing from a level."""
    for colours in Fields().colours:
        alike = torch.nn.functional.cosine_similarity(colours[:, None], colours[None], dim=-1)
        assert (alike - torch.eye(len(colours))).max() < 0.9995
        assert colours.norm(dim=-1).min() > 0.3


def test_only_known_poses_count():
    answer, goal = torch.zeros(PEOPLE, 7, 5), torch.ones(PEOPLE, 7, 5)
    answer[0] += 100
    target = some_people()
    known = torch.tensor([0.0, 1, 0.5])
    some = Target(target.kp2d, target.kp3d, target.rotmats, target.betas, known)
    assert field_loss(answer, goal, some).item() == pytest.approx(fields.FIELD)
    nobody = Target(target.kp2d, target.kp3d, target.rotmats, target.betas, known * 0)
    assert field_loss(answer, goal, nobody).item() == 0


def test_points_lie_around_the_joints_and_some_anywhere():
    target = some_people()
    points = near_spots(target, 400, torch.Generator().manual_seed(0))
    assert points.shape == (PEOPLE, 400, 2)
    off = (points[:, :, None] - target.kp2d[:, None, :14, :2]).norm(dim=-1).amin(-1)
    assert off[:, :300].mean() < 0.2 < off[:, 300:].mean()
    assert points[:, 300:].abs().max() <= 1
