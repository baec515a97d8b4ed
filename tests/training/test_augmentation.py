"""What a view does to pixels it does to labels: points, poses and their mirror images."""

import numpy as np
import pytest
import torch

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import shipped
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.augmentation import (
    CropView,
    crop_images,
    crop_labels,
    mirror_rotations,
    occlude,
    plain_view,
    random_view,
)
from staf_cli.training.losses import ground_truth, labelled_points
from staf_cli.training.samples import PIXELS, POINTS, Labels

SIZE = 224
SAMPLES = 6


@pytest.fixture(scope="module")
def body():
    return Body("open-body", load_body(shipped("open_body.npz")))


def people(body, samples=SAMPLES, frames=2, seed=0):
    """Labels of random poses seen by an orthographic camera, 100 px a metre; and the 3D points."""
    generator = torch.Generator().manual_seed(seed)
    rotvec = torch.randn(samples * frames, 24, 3, generator=generator) * 0.4
    betas = torch.randn(samples * frames, 10, generator=generator)
    points, _ = labelled_points(body)(axis_angle_to_matrix(rotvec), betas)
    kp2d = points[..., :2] * 100 + PIXELS / 2
    low, high = kp2d.amin(1), kp2d.amax(1)
    sure = torch.ones(samples * frames, POINTS, 1)
    shape = (samples, frames)
    return Labels(
        kp2d=torch.cat([kp2d, sure], -1).reshape(*shape, POINTS, 3).numpy(),
        box=torch.cat([low, high], -1).reshape(*shape, 4).numpy(),
        poses=rotvec.reshape(*shape, 72).numpy(),
        betas=betas.reshape(*shape, 10).numpy(),
        smpl_weight=np.ones(samples, np.float32),
    )


def test_turned_and_mirrored_poses_land_on_turned_and_mirrored_points(body):
    """An orthographic picture of the seen pose is the seen points, up to place and scale.

    Open bodies are not quite symmetric, so a mirrored person may be off by some millimetres.
    """
    labels = people(body)
    view = CropView(
        scale=torch.linspace(0.8, 1.2, SAMPLES),
        shift=torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(1)) * 0.1,
        angle=torch.linspace(-0.7, 0.7, SAMPLES),
        mirror=torch.arange(SAMPLES) % 2 == 1,
    )
    truth = ground_truth(crop_labels(labels, view), labelled_points(body))
    points, kp2d = truth.kp3d[..., :2], truth.kp2d[..., :2]
    points = points - points.mean(1, keepdim=True)
    kp2d = kp2d - kp2d.mean(1, keepdim=True)
    scale = (points * kp2d).sum((1, 2)) / points.square().sum((1, 2))
    off = (kp2d / scale[:, None, None] - points).norm(dim=-1)  # m
    assert (scale > 0).all()
    assert off.max() < 0.012
    assert off.mean() < 0.002


@pytest.mark.parametrize("mirror", [False, True])
def test_points_stay_on_their_pixels(mirror):
    """A white square in the image is found in the crop where its label is."""
    rng = np.random.default_rng(0)
    places = rng.uniform(110, 180, (SAMPLES, 2))
    images = np.zeros((SAMPLES, 1, PIXELS, PIXELS, 3), np.uint8)
    labels = people_at(places)
    for image, (x, y) in zip(images[:, 0], places, strict=True):
        image[round(y - 3) : round(y + 3), round(x - 3) : round(x + 3)] = 255
        # The label is the middle of the pixels that are white.
    middles = np.stack([np.round(places - 3), np.round(places + 3)]).mean(0)
    labels = people_at(middles)
    view = random_view(SAMPLES, torch.Generator().manual_seed(3))
    view = CropView(view.scale, view.shift, view.angle, torch.full((SAMPLES,), mirror))
    crops = crop_images(torch.from_numpy(images), labels.box, view, SIZE)  # (B, 3, 224, 224)
    light = crops[:, 0].double()
    line = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    total = light.sum((1, 2))
    x = (light.sum(1) * line).sum(1) / total
    y = (light.sum(2) * line).sum(1) / total
    seen = crop_labels(labels, view).kp2d[:, 0]
    # The label sits at an LSP hip; the mirror puts it at the other one.
    point = 2 if mirror else 3
    assert torch.allclose(torch.stack([x, y], -1).float(), seen[:, point, :2], atol=0.05 / 112)


def people_at(places):
    """Labels with everything at one place, in a box that is the same for all."""
    samples = len(places)
    kp2d = np.ones((samples, 1, POINTS, 3), np.float32)
    kp2d[..., :2] = 0
    kp2d[:, 0, 3, :2] = places
    return Labels(
        kp2d=kp2d,
        box=np.tile(np.array([44, 44, 244, 244], np.float32), (samples, 1, 1)),
        poses=np.zeros((samples, 1, 72), np.float32),
        betas=np.zeros((samples, 1, 10), np.float32),
        smpl_weight=np.zeros(samples, np.float32),
    )


def test_plain_view_is_the_tracker_s_square():
    labels = people_at(np.full((1, 2), 44.0))
    (corner,) = crop_labels(labels, plain_view(1)).kp2d[:, 0, 3, :2]
    assert corner.tolist() == pytest.approx([-1 / 1.1, -1 / 1.1])  # the square is 1.1 times the box


def test_mirror_twice_is_nothing():
    rotmats = axis_angle_to_matrix(torch.randn(3, 24, 3))
    assert torch.allclose(mirror_rotations(mirror_rotations(rotmats)), rotmats)
    hip = matrix_to_axis_angle(mirror_rotations(axis_angle_to_matrix(lone(1, [0.3, 0.2, 0.1]))))
    assert hip[2].tolist() == pytest.approx([0.3, -0.2, -0.1], abs=1e-6)


def lone(joint, rotvec):
    pose = torch.zeros(24, 3)
    pose[joint] = torch.tensor(rotvec)
    return pose


def test_hidden_parts_are_the_same_in_all_frames_and_leave_the_rest():
    crops = torch.rand(8 * 3, 3, 32, 32)
    covered = occlude(crops, 3, torch.Generator().manual_seed(0))
    changed = (covered != crops).any(1).unflatten(0, (8, 3))  # (samples, frames, 32, 32)
    assert (changed == changed[:, :1]).all()
    assert 0 < changed.flatten(1).any(1).sum() < 8
    assert changed.float().mean() < 0.2
