"""Rotations against scipy, projections against hand-made cases, the crop's camera both ways."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.core.geometry import (
    axis_angle_to_matrix,
    box_iou,
    crop_to_image_translation,
    image_translation_to_crop,
    matrix_to_axis_angle,
    matrix_to_rot6d,
    project,
    project_to_crop,
    ray_rotation,
    rot6d_to_matrix,
)


def rotvecs():
    """Random directions with angles from 0 to pi, the awkward ends included."""
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((400, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.r_[0, 1e-9, 1e-5, 1e-3, np.pi - 1e-9, np.pi - 1e-5, rng.uniform(0, np.pi, 394)]
    return axes * angles[:, None]


def test_axis_angle_to_matrix_agrees_with_scipy():
    ours = axis_angle_to_matrix(torch.from_numpy(rotvecs())).numpy()
    assert np.abs(ours - Rotation.from_rotvec(rotvecs()).as_matrix()).max() < 1e-9


def test_matrix_to_axis_angle_agrees_with_scipy():
    ours = matrix_to_axis_angle(axis_angle_to_matrix(torch.from_numpy(rotvecs()))).numpy()
    assert np.abs(ours - rotvecs()).max() < 1e-7
    half_turn = matrix_to_axis_angle(torch.diag(torch.tensor([-1.0, 1.0, -1.0])))
    assert torch.allclose(half_turn.abs(), torch.tensor([0, torch.pi, 0]))


def test_rotations_are_accurate_in_float32_and_have_gradients_at_zero():
    ours = axis_angle_to_matrix(torch.from_numpy(rotvecs()).float())
    assert np.abs(ours.numpy() - Rotation.from_rotvec(rotvecs()).as_matrix()).max() < 1e-6
    zero = torch.zeros(1, 3, requires_grad=True)
    axis_angle_to_matrix(zero)[0, 2, 1].backward()
    assert zero.grad is not None
    assert zero.grad.tolist() == [[1, 0, 0]]


def test_rot6d_is_the_first_two_columns_row_by_row():
    matrices = axis_angle_to_matrix(torch.from_numpy(rotvecs()))
    rot6d = matrix_to_rot6d(matrices)
    m = matrices[7]
    assert torch.equal(
        rot6d[7], torch.stack([m[0, 0], m[0, 1], m[1, 0], m[1, 1], m[2, 0], m[2, 1]])
    )
    assert (rot6d_to_matrix(rot6d) - matrices).abs().max() < 1e-12
    stretched = rot6d_to_matrix(rot6d * 3 + 0.01)
    identity = stretched @ stretched.transpose(-1, -2)
    assert (identity - torch.eye(3)).abs().max() < 1e-12
    assert torch.allclose(torch.linalg.det(stretched), torch.ones(400, dtype=torch.float64))


def test_projection_is_opencv_s():
    points = torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.5, 4.0]])
    assert project(points, 100, (320, 240)).tolist() == [[320, 240], [345, 252.5]]


def test_crop_camera_is_nearly_orthographic():
    points = torch.randn(3, 20, 3) * 0.5
    pred_cam = torch.tensor([[0.9, 0.1, -0.2], [0.6, 0, 0], [1.1, -0.3, 0.3]])
    orthographic = pred_cam[:, None, :1] * (points[..., :2] + pred_cam[:, None, 1:])
    assert (project_to_crop(points, pred_cam) - orthographic).abs().max() < 0.05


@pytest.mark.parametrize("focal", [500.0, 1400.0, 5000.0])
def test_what_lies_at_a_place_of_the_crop_lies_there_in_the_image(focal):
    pred_cam = torch.tensor([[0.9, 0.1, -0.2], [0.7, -0.2, 0.3]], dtype=torch.float64)
    box = torch.tensor([[900.0, 300.0, 411.0], [35.5, 700.25, 180.0]], dtype=torch.float64)
    size = (1280, 720)
    trans = crop_to_image_translation(pred_cam, box, size, focal)
    pelvis = torch.zeros(2, 1, 3, dtype=torch.float64)
    in_crop = project_to_crop(pelvis, pred_cam)[:, 0]  # [-1, 1]
    wanted = box[:, :2] + in_crop * box[:, 2:] / 2
    assert (project(trans, focal, (640, 360)) - wanted).abs().max() < 0.01
    # A metre of the body is as long in the image as in the crop.
    right = project(trans + torch.tensor([1.0, 0, 0]), focal, (640, 360))
    length = (right - project(trans, focal, (640, 360)))[:, 0]
    assert torch.allclose(length, pred_cam[:, 0] * box[:, 2] / 2)
    assert (image_translation_to_crop(trans, box, size, focal) - pred_cam).abs().max() < 1e-12


def test_box_iou_is_the_shared_area_over_the_covered_area():
    a = np.array([[0.0, 0, 4, 2], [10, 10, 20, 30]])
    b = np.array([[0.0, 0, 4, 2], [2, 1, 6, 3], [4, 0, 8, 2], [12, 15, 16, 20]])
    assert box_iou(a, b).tolist() == [[1, 2 / 14, 0, 0], [0, 0, 0, 20 / 200]]
    assert np.array_equal(box_iou(b, a), box_iou(a, b).T)
    assert box_iou(a, b[:0]).shape == (2, 0)


def test_box_iou_of_boxes_without_area_is_zero():
    point, box = np.array([[3.0, 3, 3, 3]]), np.array([[0.0, 0, 4, 4]])
    with np.errstate(all="raise"):
        assert box_iou(point, point) == 0
        assert box_iou(point, box) == 0


def test_rays_are_reached_by_the_smallest_turn():
    pixels = np.array([[320.0, 240], [0, 0], [640, 100], [330, 2000]])
    turns = ray_rotation(pixels, 500.0, (320.0, 240.0))
    for turn, (u, v) in zip(turns, pixels, strict=True):
        ray = np.array([u - 320, v - 240, 500]) / np.linalg.norm([u - 320, v - 240, 500])
        assert turn @ [0, 0, 1] == pytest.approx(ray, abs=1e-12)
        angle = Rotation.from_matrix(turn).magnitude()
        assert angle == pytest.approx(np.arccos(ray[2]), abs=1e-7)
