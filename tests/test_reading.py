"""Regressors that are solved for: against plain least squares, and put into layers exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from staf_cli.geometry import axis_angle_to_matrix, matrix_to_rot6d, project_to_crop
from staf_cli.model.regressor import MeanParameters, Regressor, Theta
from staf_cli.model.staf import STAF, Architecture
from staf_cli.training import reading
from staf_cli.training.augmentation import Truth
from staf_cli.training.losses import Target, from_hips, labelled_points, theta_loss
from staf_cli.training.reading import (
    Linear,
    Rows,
    by_steps,
    camera_of,
    descend,
    learn_to_read,
    least_squares,
    put,
    whitening,
)
from staf_cli.training.temporal import EncodedSet, frames_of
from tests.people import open_body

CPU = torch.device("cpu")
BODY = open_body()
POINTS = labelled_points(BODY)


def rows(count, features=6, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(2, [1, 3, 0.1, 1, 1, 1], (count, features))
    y = x @ rng.normal(size=(features, outputs)) + 5 + rng.normal(0, 0.1, (count, outputs))
    return x, y, rng.uniform(0.2, 1, count)


def ridge(x, y, weight, penalty=0.1):
    """What reading.py makes of all rows: W (F, O) and b (O,)."""
    x, y, weight = (torch.from_numpy(a).float() for a in (x, y, weight))
    whiten = whitening(x, weight, penalty)
    found = least_squares(whiten(x), y, weight).after(whiten)
    return found.weight.numpy(), found.bias.numpy()


def test_without_a_penalty_it_is_least_squares(monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 64)
    x, y, weight = rows(200)
    w, b = ridge(x, y, weight, penalty=0)
    root = np.sqrt(weight)[:, None]
    want = np.linalg.lstsq(root * np.c_[x, np.ones(len(x))], root * y, rcond=None)[0]
    assert w == pytest.approx(want[:-1], abs=1e-3)
    assert b == pytest.approx(want[-1], abs=5e-3)


def test_the_penalty_is_on_features_of_spread_one():
    """Ridge regression of standardised, centred features, as the textbook has it."""
    x, y, weight = rows(300)
    w, b = ridge(x, y, weight)
    total = weight.sum()
    mean, middle = weight @ x / total, weight @ y / total
    spread = np.sqrt(weight @ (x - mean) ** 2 / total)
    z = (x - mean) / spread
    squares = (z * weight[:, None]).T @ z + 0.1 * total * np.eye(6)
    want = np.linalg.solve(squares, (z * weight[:, None]).T @ (y - middle))
    assert w == pytest.approx(want / spread[:, None], abs=1e-3)
    assert b == pytest.approx(middle - mean / spread @ want, abs=5e-3)


def test_whitened_features_know_nothing_of_each_other():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    weight = torch.rand(500, generator=generator)
    white = whitening(x, weight, 1e-6)(x)
    assert np.cov(white.T, aweights=weight, ddof=0) == pytest.approx(np.eye(6), abs=1e-3)
    assert np.average(white, axis=0, weights=weight) == pytest.approx(np.zeros(6), abs=1e-4)


def test_what_does_not_vary_is_left_out():
    """Theta_0 is the same in every row."""
    x, y, weight = rows(300)
    x[:, 2] = 0.7
    w, b = ridge(x, y, weight, penalty=0.003)
    assert (w[2] == 0).all()
    without = [0, 1, 3, 4, 5]
    w_without, b_without = ridge(x[:, without], y, weight, penalty=0.003)
    assert w[without] == pytest.approx(w_without, abs=1e-4)
    assert b == pytest.approx(b_without, abs=1e-3)


def test_a_regressor_adds_exactly_what_was_put_into_it():
    torch.manual_seed(0)
    regressor = Regressor(40).eval()
    correction = Linear(torch.randn(40 + 157, 157) * 0.1, torch.randn(157))
    feature = torch.randn(5, 40)
    theta = Theta(torch.randn(5, 144), torch.randn(5, 10), torch.randn(5, 3))
    flat = torch.cat([theta.pose6d, theta.betas, theta.pred_cam], 1)
    assert torch.equal(theta.flat, flat)
    put(regressor, correction)
    with torch.no_grad():
        found = regressor(feature, theta)
    want = flat + torch.cat([feature, flat], 1) @ correction.weight + correction.bias
    assert torch.allclose(found.flat, want, atol=2e-4)


def people(count, seed=0):
    """Rows that know the pose up to some noise, of people that Theta_0 does not fit."""
    generator = torch.Generator().manual_seed(seed)
    rotvec = 0.3 * torch.randn(count, 24, 3, generator=generator)
    rotvec[:, 0, 0] += torch.pi
    rotmats, betas = axis_angle_to_matrix(rotvec), torch.randn(count, 10, generator=generator)
    kp3d, _ = POINTS(rotmats, betas)
    cam = torch.tensor([0.9, 0, 0]) + 0.05 * torch.randn(count, 3, generator=generator)
    kp2d = torch.cat([project_to_crop(kp3d, cam), torch.ones(count, 31, 1)], -1)
    known = torch.cat([matrix_to_rot6d(rotmats).flatten(1), betas, cam], 1)
    seen = known @ torch.randn(157, 60, generator=torch.Generator().manual_seed(7))
    theta = MeanParameters()(count).flat
    target = Target(kp2d, from_hips(kp3d), rotmats, betas, torch.ones(count))
    return Rows(torch.cat([seen, theta], 1), theta, target)


def loss_of(correction, rows):
    theta = Theta(*torch.split(rows.theta + correction(rows.read), [144, 10, 3], -1))
    return {name: float(term) for name, term in theta_loss(theta, rows.target, POINTS).items()}


@pytest.fixture
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(reading, "BATCH", 64)
    monkeypatch.setattr(reading, "EPOCHS", 6)


def start_of(rows):
    """Least squares alone, for rows that are then whitened."""
    weight = rows.target.smpl_weight
    whiten = whitening(rows.read, weight, reading.CALM)
    white = Rows(whiten(rows.read), rows.theta, rows.target)
    camera = camera_of(POINTS(rows.target.rotmats, rows.target.betas)[0], rows.target.kp2d)
    true = torch.cat(
        [matrix_to_rot6d(rows.target.rotmats).flatten(1), rows.target.betas, camera], 1
    )
    return whiten, white, least_squares(white.read, true - rows.theta, weight)


def test_steps_on_the_paper_s_loss_go_beyond_least_squares(few_rows_at_a_time):
    """On other people than those it was solved for, too."""
    whiten, white, start = start_of(people(1200))
    before = start.weight.clone()
    found = descend(white, POINTS, start)
    assert torch.equal(start.weight, before)
    others = people(200, seed=5)
    others = Rows(whiten(others.read), others.theta, others.target)
    for rows_ in (white, others):
        assert sum(loss_of(found, rows_).values()) < 0.95 * sum(loss_of(start, rows_).values())
    again = descend(white, POINTS, start)
    assert torch.equal(found.weight, again.weight) and torch.equal(found.bias, again.bias)


def test_people_without_a_known_pose_teach_by_their_points(few_rows_at_a_time):
    _, white, start = start_of(people(600))
    target = replace(white.target, smpl_weight=torch.zeros(600))
    found = descend(Rows(white.read, white.theta, target), POINTS, start)
    assert loss_of(found, white)["kp2d"] < 0.9 * loss_of(start, white)["kp2d"]


def test_a_solution_is_both_moves_in_the_features_own_coordinates(few_rows_at_a_time):
    rows_ = people(300)
    whiten, white, start = start_of(rows_)
    read = rows_.read.clone()
    found = by_steps(rows_, POINTS)
    want = descend(white, POINTS, start)
    assert torch.allclose(found(read), want(whiten(read)), atol=1e-3)


def test_the_camera_is_found_again():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(8, 31, 3, generator=generator) * 0.4
    cam = torch.tensor([0.9, 0.1, -0.2]) + 0.05 * torch.randn(8, 3, generator=generator)
    kp2d = torch.cat([project_to_crop(points, cam), torch.ones(8, 31, 1)], -1)
    kp2d[:, 20:] = torch.tensor([7.0, 7, 0])  # unknown
    found = camera_of(points, kp2d)
    assert torch.allclose(found, cam, atol=0.02)
    assert (project_to_crop(points, found) - kp2d[..., :2])[:, :20].abs().max() < 0.02


def test_each_level_leaves_less_to_correct_on_what_it_was_solved_for(monkeypatch):
    """Features that know the pose, on a network that knows nothing: it is read off."""
    monkeypatch.setattr(reading, "RIDGE", 100.0)  # or else the first level leaves nothing
    torch.manual_seed(0)
    network = STAF(Architecture("resnet18", apm=False, tcfm=None, safm=None), BODY.sample_points())
    count = 60
    rotvec = 0.2 * torch.randn(count, 1, 24, 3)
    rotvec[:, :, 0, 0] += torch.pi
    rotmats = axis_angle_to_matrix(rotvec)
    betas = torch.randn(count, 1, 10)
    kp3d, _ = POINTS(rotmats[:, 0], betas[:, 0])
    kp2d = project_to_crop(kp3d, torch.tensor([[0.9, 0, 0]]).expand(count, -1))
    truth = Truth(
        torch.cat([kp2d, torch.ones(count, 31, 1)], -1)[:, None], rotmats, betas, torch.ones(count)
    )
    features = torch.randn(count, 1, 512, 7, 7) * 0.1
    features[:, 0, :157, 3, 3] += 4 * torch.cat([rotvec.flatten(1), betas.flatten(1)], 1)[:, :1]
    features[:, 0, :72] += 3 * rotvec.reshape(count, 72)[..., None, None]
    encoded = EncodedSet(features.half().numpy(), truth)
    learn_to_read(network, POINTS, [encoded])
    ((maps, target),) = frames_of(encoded, POINTS, 100, 1, CPU)
    with torch.no_grad():
        thetas, _ = network.climb(maps)
    left = [float((t.rotmats - target.rotmats).square().mean()) for t in thetas]
    nothing = float((network.mean(count).rotmats - target.rotmats).square().mean())
    assert nothing > left[0] > left[1] > left[2]
    assert left[2] < 0.3 * nothing
