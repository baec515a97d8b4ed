"""Regressors that are solved for: against plain least squares, and put into layers exactly."""

import numpy as np
import pytest
import torch

from staf_cli.core.geometry import axis_angle_to_matrix, project_to_crop
from staf_cli.model.regressor import Regressor, Theta
from staf_cli.model.staf import STAF, Architecture
from staf_cli.training import least_squares
from staf_cli.training.augmentation import CropLabels
from staf_cli.training.encoded_sets import EncodedSet, encoded_frames
from staf_cli.training.least_squares import (
    NormalEquations,
    fit_camera,
    set_regressor,
    solve_regressors,
)
from staf_cli.training.losses import labelled_points
from tests.support.made_people import open_body

CPU = torch.device("cpu")


def rows(count, features=6, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(2, [1, 3, 0.1, 1, 1, 1], (count, features))
    y = x @ rng.normal(size=(features, outputs)) + 5 + rng.normal(0, 0.1, (count, outputs))
    return x, y, rng.uniform(0.2, 1, count)


def summed(x, y, weight, parts=4):
    sums = NormalEquations.empty(x.shape[1], y.shape[1])
    for part in np.array_split(np.arange(len(x)), parts):
        tensors = (torch.from_numpy(a[part]).float() for a in (x, y, weight))
        sums = sums.add(*tensors)
    return sums


def test_without_a_penalty_it_is_least_squares(monkeypatch):
    monkeypatch.setattr(least_squares, "RIDGE", 0.0)
    x, y, weight = rows(200)
    w, b = summed(x, y, weight).solve()
    root = np.sqrt(weight)[:, None]
    want = np.linalg.lstsq(root * np.c_[x, np.ones(len(x))], root * y, rcond=None)[0]
    assert w.numpy() == pytest.approx(want[:-1].T, abs=1e-3)
    assert b.numpy() == pytest.approx(want[-1], abs=5e-3)


def test_the_penalty_is_on_features_of_spread_one():
    """Ridge regression of standardised, centred features, as the textbook has it."""
    x, y, weight = rows(300)
    w, b = summed(x, y, weight).solve()
    total = weight.sum()
    mean, middle = weight @ x / total, weight @ y / total
    spread = np.sqrt(weight @ (x - mean) ** 2 / total)
    z = (x - mean) / spread
    squares = (z * weight[:, None]).T @ z + least_squares.RIDGE * total * np.eye(6)
    want = np.linalg.solve(squares, (z * weight[:, None]).T @ (y - middle))
    assert w.numpy() == pytest.approx((want / spread[:, None]).T, abs=1e-3)
    assert b.numpy() == pytest.approx(middle - mean / spread @ want, abs=5e-3)


def test_a_regressor_adds_exactly_what_was_put_into_it():
    torch.manual_seed(0)
    regressor = Regressor(40).eval()
    weight, bias = torch.randn(157, 40 + 157) * 0.1, torch.randn(157)
    with torch.no_grad():
        set_regressor(regressor, weight, bias)
        feature = torch.randn(5, 40)
        theta = Theta(torch.randn(5, 144), torch.randn(5, 10), torch.randn(5, 3))
        found = regressor(feature, theta)
    flat = torch.cat([theta.pose6d, theta.betas, theta.pred_cam], 1)
    assert torch.equal(theta.flat, flat)
    want = flat + torch.cat([feature, flat], 1) @ weight.T + bias
    assert torch.allclose(found.flat, want, atol=2e-4)


def test_the_camera_is_found_again():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(8, 31, 3, generator=generator) * 0.4
    cam = torch.tensor([0.9, 0.1, -0.2]) + 0.05 * torch.randn(8, 3, generator=generator)
    kp2d = torch.cat([project_to_crop(points, cam), torch.ones(8, 31, 1)], -1)
    kp2d[:, 20:] = torch.tensor([7.0, 7, 0])  # unknown
    found = fit_camera(points, kp2d)
    assert torch.allclose(found, cam, atol=0.02)
    assert (project_to_crop(points, found) - kp2d[..., :2])[:, :20].abs().max() < 0.02


def test_each_level_leaves_less_to_correct_on_what_it_was_solved_for():
    """Features that hold the pose, and an untrained network: the solution reads it off."""
    body = open_body()
    torch.manual_seed(0)
    network = STAF(Architecture("resnet18", apm=False, tcfm=None, safm=None), body.sample_points())
    points = labelled_points(body)
    count = 60
    rotvec = 0.2 * torch.randn(count, 1, 24, 3)
    rotvec[:, :, 0, 0] += torch.pi
    rotmats = axis_angle_to_matrix(rotvec)
    betas = torch.randn(count, 1, 10)
    kp3d, _ = points(rotmats[:, 0], betas[:, 0])
    kp2d = project_to_crop(kp3d, torch.tensor([[0.9, 0, 0]]).expand(count, -1))
    labels = CropLabels(
        torch.cat([kp2d, torch.ones(count, 31, 1)], -1)[:, None], rotmats, betas, torch.ones(count)
    )
    features = torch.randn(count, 1, 512, 7, 7) * 0.1
    features[:, 0, :157, 3, 3] += 4 * torch.cat([rotvec.flatten(1), betas.flatten(1)], 1)[:, :1]
    features[:, 0, :72] += 3 * rotvec.reshape(count, 72)[..., None, None]
    encoded = EncodedSet(features.half().numpy(), labels)
    solve_regressors(network, points, [encoded])
    ((maps, target),) = encoded_frames(encoded, points, 100, 1, CPU)
    with torch.no_grad():
        thetas, _ = network.base_model(maps)
    left = [float((t.rotmats - target.rotmats).square().mean()) for t in thetas]
    nothing = float((network.mean(count).rotmats - target.rotmats).square().mean())
    assert nothing > left[0] > left[1] > left[2]
    assert left[2] < 0.3 * nothing
