"""Fits of made-up people whose true pose is known."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from staf_cli.core.geometry import project_to_crop
from staf_cli.training import pseudo_labels
from staf_cli.training.pseudo_labels import (
    FittedBodies,
    InitialBodies,
    confidence,
    fit_bodies,
    photo_points,
)
from tests.support.made_people import labelled_regressor, open_body
from tests.support.made_training_data import simple_prior

PEOPLE = 12
SIZE = 288
LSP_SWAPPED = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13]
COCO_SWAPPED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
SWAPPED = [*LSP_SWAPPED, *(14 + i for i in COCO_SWAPPED)]


@dataclass(frozen=True)
class Crowd:
    """Walkers, sitters and acrobats who face anywhere."""

    rotmats: Tensor  # (12, 24, 3, 3)
    betas: Tensor  # (12, 10)
    joints: Tensor  # (12, 24, 3) m
    kp2d: Tensor  # (12, 31, 3) px, weight


def root(yaw: float, roll: float) -> np.ndarray:
    """Facing the camera at yaw 0, then turned about the own axis, then rolled in the image."""
    turns = [Rotation.from_rotvec(v) for v in ([0, 0, roll], [np.pi, 0, 0], [0, yaw, 0])]
    return np.asarray((turns[0] * turns[1] * turns[2]).as_rotvec())


@cache
def crowd() -> Crowd:
    rng = np.random.default_rng(4)
    rotvecs = rng.normal(0, 0.08, (PEOPLE, 24, 3))
    rotvecs[:, [16, 17], 2] += np.stack([rng.uniform(-1.3, 0.6, PEOPLE)] * 2, 1) * (1, -1)
    rotvecs[:, 18, 1] -= rng.uniform(0.1, 1.5, PEOPLE)
    rotvecs[:, 19, 1] += rng.uniform(0.1, 1.5, PEOPLE)
    rotvecs[:, [1, 2], 0] -= rng.uniform(-0.3, 0.9, (PEOPLE, 2))
    rotvecs[:, [4, 5], 0] += rng.uniform(0, 1.0, (PEOPLE, 2))
    rotvecs[:, [4, 5], 1:] = 0
    for person in range(PEOPLE):
        rotvecs[person, 0] = root(person * np.pi / 4, (0, 0, np.pi, 1.5)[person % 4])
    flat = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix()
    rotmats = torch.tensor(flat.reshape(PEOPLE, 24, 3, 3), dtype=torch.float32)
    betas = torch.tensor(rng.normal(0, 0.5, (PEOPLE, 10)), dtype=torch.float32)
    points, joints = exact_points(rotmats, betas)
    cams = torch.tensor(rng.uniform((0.7, -0.1, -0.1), (0.9, 0.1, 0.1), (PEOPLE, 3))).float()
    places = (project_to_crop(points, cams) + 1) * SIZE / 2
    return Crowd(rotmats, betas, joints, torch.cat([places, torch.ones(PEOPLE, 31, 1)], -1))


def exact_points(rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """The points by skinning the vertices that they are made of."""
    body = open_body()
    points, joints = body.points(labelled_regressor(body))(rotmats, betas)
    return points, joints


@cache
def fits() -> FittedBodies:
    """The crowd; the crowd with points shuffled; with left and right exchanged; unseen."""
    kp2d = crowd().kp2d
    shuffled = kp2d[:, torch.randperm(31, generator=torch.Generator().manual_seed(1))]
    swapped = kp2d[:2].clone()
    swapped = swapped[:, SWAPPED]
    swapped[:, 14:19, 2] = 0
    unseen = kp2d[:1] * torch.tensor([1.0, 1.0, 0.0])
    return fit_bodies(torch.cat([kp2d, shuffled, swapped, unseen]), open_body(), simple_prior())


def posed(fitted: FittedBodies, rows: slice) -> tuple[Tensor, Tensor]:
    points, joints = exact_points(fitted.rotmats[rows], fitted.betas[rows])
    return (project_to_crop(points, fitted.pred_cam[rows]) + 1) * SIZE / 2, joints


def aligned_error(joints: Tensor, truth: Tensor) -> float:
    """Mean distance, m, after the best similarity, by scipy."""
    a, b = (np.asarray(x - x.mean(0), np.float64) for x in (joints, truth))
    turn, _ = Rotation.align_vectors(b, a)
    turned = turn.apply(a)
    scale = (turned * b).sum() / (turned * turned).sum()
    return float(np.linalg.norm(scale * turned - b, axis=1).mean())


def test_points_are_those_of_the_skinned_body():
    people = crowd()
    points, joints = photo_points(open_body()).pose(people.rotmats, people.betas)
    want, want_joints = exact_points(people.rotmats, people.betas)
    assert (points - want).abs().max() < 1e-5
    assert (joints - want_joints).abs().max() < 1e-6


def test_people_are_found_again():
    """To 2 px of 224 in the image, to 90 mm in space after alignment: depth is only guessed."""
    places, joints = posed(fits(), slice(PEOPLE))
    off = (places - crowd().kp2d[..., :2]).norm(dim=-1).mean(1) * 224 / SIZE
    assert off.max() < 2
    errors = [aligned_error(a, b) for a, b in zip(joints, crowd().joints, strict=True)]
    assert np.mean(errors) < 0.09
    assert (confidence(fits())[:PEOPLE] > 0.2).all()


def test_error_is_the_distance_in_metres_at_the_person():
    rows = slice(PEOPLE)
    places, _ = posed(fits(), rows)
    off = (places - crowd().kp2d[..., :2]).norm(dim=-1) / (SIZE / 2) / fits().pred_cam[rows, :1]
    assert torch.allclose(fits().error[rows], off.mean(1), atol=1e-4)
    assert torch.allclose(fits().worst[rows], off.sort(1).values[:, -2], atol=1e-4)


def test_shuffled_points_are_not_believed():
    assert (confidence(fits())[PEOPLE : 2 * PEOPLE] == 0).all()


def test_who_is_unseen_is_not_believed():
    assert fits().seen[-1] == 0
    assert confidence(fits())[-1] == 0
    assert fits().rotmats.isfinite().all()


def test_left_and_right_decide_who_faces_the_camera():
    """Faces hidden, a person's front and the mirrored back look the same but for the names."""
    forward = fits().rotmats[:, 0, 2, 2]  # z in the camera's frame of the body's own z
    truth = crowd().rotmats[:2, 0, 2, 2]
    assert (forward[:2] * truth > 0).all()
    assert (forward[2 * PEOPLE : 2 * PEOPLE + 2] * truth < 0).all()


def test_a_start_is_kept_and_improved():
    """From a tenth of a radian off every joint it comes closer, and does not turn around."""
    people = crowd()
    noise = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.15, (PEOPLE * 24, 3)))
    off = torch.tensor(noise.as_matrix()).float().reshape(PEOPLE, 24, 3, 3)
    start = InitialBodies(people.rotmats @ off, people.betas)
    fitted = fit_bodies(people.kp2d, open_body(), simple_prior(), start)
    _, before = exact_points(start.rotmats, start.betas)
    _, after = posed(fitted, slice(None))

    def error(joints: Tensor) -> float:
        centred = joints - joints[:, :1] - (people.joints - people.joints[:, :1])
        return float(centred.norm(dim=-1).mean())

    assert error(after) < 0.75 * error(before)
    assert (fitted.doubt == 0).all()


def test_ramps():
    """Wholly believed up to the first number, not from the second on, half way in between."""
    few = fits()
    good = {name: torch.zeros(4) for name in ("worst", "strain", "doubt", "depth")}
    low, high = pseudo_labels.ERROR_RANGE
    made = FittedBodies(
        rotmats=few.rotmats[:4],
        betas=few.betas[:4],
        pred_cam=few.pred_cam[:4],
        energy=torch.zeros(4),
        error=torch.tensor([low, (low + high) / 2, high, 0]),
        seen=torch.tensor([12, 12, 12, pseudo_labels.LEAST_POINTS - 1]),
        **good,
    )
    assert torch.allclose(confidence(made), torch.tensor([1, 0.5, 0, 0]), atol=1e-5)
