"""The loss of Eq. 11 against itself written plainly, and what missing labels do to it."""

from dataclasses import replace

import pytest
import torch

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import shipped
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import project_to_crop
from staf_cli.model.regressor import Theta
from staf_cli.training import losses
from staf_cli.training.losses import GroundTruth, KeypointMaps, labelled_points, theta_loss
from tests.support.made_networks import golden_body

PEOPLE = 4


@pytest.fixture(scope="module")
def points():
    return labelled_points(Body("open-body", load_body(shipped("open_body.npz"))))


def random_theta(seed):
    generator = torch.Generator().manual_seed(seed)
    pose6d = torch.randn(PEOPLE, 144, generator=generator)
    betas = torch.randn(PEOPLE, 10, generator=generator)
    cam = torch.tensor([0.9, 0, 0]) + 0.1 * torch.randn(PEOPLE, 3, generator=generator)
    return Theta(pose6d, betas, cam)


def truth_of(theta, points):
    kp3d, _ = points(theta.rotmats, theta.betas)
    kp2d = project_to_crop(kp3d, theta.pred_cam)
    ones = torch.ones(PEOPLE, 31, 1)
    hips = (kp3d[:, 2:3] + kp3d[:, 3:4]) / 2
    return GroundTruth(
        torch.cat([kp2d, ones], -1),
        kp3d - hips,
        theta.rotmats,
        theta.betas,
        torch.ones(PEOPLE),
        torch.ones(PEOPLE, 31),
    )


def test_truth_costs_nothing(points):
    theta = random_theta(0)
    for name, term in theta_loss(theta, truth_of(theta, points), points).items():
        assert term.item() == pytest.approx(0, abs=1e-4), name


def test_every_term_is_its_definition(points):
    """Softened squares in plain loops, with the release's weights."""

    def soft(x, width):
        square = float((x * x).mean())
        return 2 * width * ((square + width * width) ** 0.5 - width)

    theta, other = random_theta(1), random_theta(2)
    truth = truth_of(other, points)
    found = theta_loss(theta, truth, points)
    kp3d, _ = points(theta.rotmats, theta.betas)
    kp2d = project_to_crop(kp3d, theta.pred_cam)
    want = dict.fromkeys(("kp2d", "kp3d", "pose", "shape"), 0.0)
    for n in range(PEOPLE):
        hips = (kp3d[n, 2] + kp3d[n, 3]) / 2
        for p in range(31):
            off2d = kp2d[n, p] - truth.kp2d[n, p, :2]
            off3d = kp3d[n, p] - hips - truth.kp3d[n, p]
            want["kp2d"] += 300 * soft(off2d, 0.1) / 31 / PEOPLE
            want["kp3d"] += 300 * soft(off3d, 0.1) / 31 / PEOPLE
        for joint in range(24):
            off = theta.rotmats[n, joint] - truth.rotmats[n, joint]
            want["pose"] += 60 * soft(off, 0.2) / 24 / PEOPLE
        want["shape"] += 0.06 * float(((theta.betas[n] - truth.betas[n]) ** 2).mean()) / PEOPLE
    assert {name: term.item() for name, term in found.items()} == pytest.approx(want, rel=1e-4)


def test_the_paper_s_loss_has_norms_of_the_last_regressor_and_finite_gradients(points):
    paper = losses.LOSSES["paper"]
    theta, other = random_theta(1), random_theta(2)
    truth = truth_of(other, points)
    found = theta_loss(theta, truth, points, paper)
    kp3d, _ = points(theta.rotmats, theta.betas)
    off = kp3d - (kp3d[:, 2:3] + kp3d[:, 3:4]) / 2 - truth.kp3d
    norms = [float(point.norm()) / 3**0.5 for point in off.flatten(0, 1)]
    assert found["kp3d"].item() == pytest.approx(300 * sum(norms) / len(norms), rel=1e-4)
    shape = [float((a - b).norm()) / 10**0.5 for a, b in zip(theta.betas, truth.betas, strict=True)]
    assert found["shape"].item() == pytest.approx(0.06 * sum(shape) / len(shape), rel=1e-4)
    assert [1, 2, 3][paper.regressors] == [3]
    right = Theta(*(part.clone().requires_grad_() for part in vars(theta).values()))
    own = theta_loss(right, truth_of(theta, points), points, paper)
    torch.stack([*own.values()]).sum().backward()
    assert all(torch.isfinite(part.grad).all() for part in vars(right).values())


def test_what_is_not_labelled_does_not_count(points):
    """A person without 3D truth pulls at nothing but the points that are labelled in 2D."""
    theta, other = random_theta(3), random_theta(4)
    truth = truth_of(other, points)
    kp2d = truth.kp2d.clone()
    kp2d[0, :, 2] = 0
    kp2d[0, 5, 2] = 1
    weight = torch.tensor([0.0, 1, 1, 1])
    weight3d = weight[:, None].repeat(1, 31)
    weight3d[1, 6:] = 0
    lone = replace(truth, kp2d=kp2d, smpl_weight=weight, kp3d_weight=weight3d)
    moved = replace(
        lone,
        kp2d=torch.cat([kp2d[..., :2] + 9 * (kp2d[..., 2:] == 0), kp2d[..., 2:]], -1),
        kp3d=truth.kp3d + 9 * (weight3d == 0)[..., None],
        betas=truth.betas + torch.tensor([9.0, 0, 0, 0])[:, None],
    )
    before, after = (theta_loss(theta, t, points) for t in (lone, moved))
    assert {n: t.item() for n, t in before.items()} == {n: t.item() for n, t in after.items()}
    kp2d = kp2d.clone()
    kp2d[0, 5, :2] += 1
    changed = theta_loss(theta, replace(lone, kp2d=kp2d), points)
    assert changed["kp2d"] != before["kp2d"]


def test_nothing_labelled_at_all_is_no_error(points):
    theta = random_theta(5)
    truth = truth_of(theta, points)
    names = ("kp2d", "smpl_weight", "kp3d_weight")
    empty = replace(truth, **{name: getattr(truth, name) * 0 for name in names})
    assert all(term.item() == 0 for term in theta_loss(theta, empty, points).values())


def test_keypoint_maps_are_best_where_the_label_is():
    """Maps that are the label's own Gaussians cost their entropy; moved ones cost more."""
    maps = KeypointMaps(31)
    assert maps.read.bias is not None
    torch.nn.init.zeros_(maps.read.bias)
    maps.read.weight.data.copy_(torch.eye(31)[..., None, None])  # phi is read as it is
    size = 56
    sigma = losses.MAP_SIGMA * size  # 1.5 px
    places = torch.rand(2, 31, 2, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    kp2d = torch.cat([places, torch.ones(2, 31, 1)], -1)

    def scores(shift):
        where = (places + 1) / 2 * (size - 1) + shift  # -1 and 1: centres of the outermost pixels
        line = torch.arange(size)
        off = (line - where[..., None]) ** 2 / (2 * sigma**2)
        return -(off[:, :, 1, :, None] + off[:, :, 0, None, :])

    exact, moved = maps(scores(0.0), kp2d).item(), maps(scores(2.0), kp2d).item()
    entropy = 1 + torch.log(torch.tensor(2 * torch.pi * sigma**2)).item()
    assert exact == pytest.approx(losses.MAPS_WEIGHT * entropy, rel=1e-2)
    # Gaussians d apart differ by d^2 / (2 sigma^2); here d = 2 in x and in y.
    assert moved - exact == pytest.approx(losses.MAPS_WEIGHT * 8 / (2 * sigma**2), rel=2e-2)
    nowhere = torch.cat([kp2d[..., :2], torch.zeros(2, 31, 1)], -1)
    assert maps(scores(0.0), nowhere).item() == 0


def test_a_body_without_keypoints_cannot_be_trained_on():
    with pytest.raises(BodyError, match="open body"):
        labelled_points(golden_body())
