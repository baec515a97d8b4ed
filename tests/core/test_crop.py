"""The crop's pixels and its affine map agree, to a hundredth of a pixel."""

import cv2
import numpy as np
import pytest
import torch

from staf_cli.core.crop import crop_image, crop_matrix, square_box
from staf_cli.model.normalisation import normalise

SQUARES = [(100.0, 80.0, 120.0), (61.3, 90.7, 203.9), (10.0, 150.0, 90.5), (120, 90, 700.0)]


def to_crop(square, points):
    matrix = crop_matrix(np.array(square))
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_square_is_centred_and_a_tenth_larger():
    boxes = np.array([[10.0, 20, 30, 80], [0, 0, 100, 50]])
    assert square_box(boxes).tolist() == [[20, 50, 1.1 * 60], [50, 25, 1.1 * 100]]
    assert square_box(boxes[0], 1.5).tolist() == [20, 50, 90]


@pytest.mark.parametrize("square", SQUARES)
def test_corners_of_the_square_are_the_crop_s_corners_and_the_way_back_is_exact(square):
    x, y, side = square
    corners = np.array([[x - side / 2, y - side / 2], [x + side / 2, y + side / 2]])
    assert np.abs(to_crop(square, corners) - [[0, 0], [224, 224]]).max() < 1e-9
    points = np.random.default_rng(0).uniform(0, 224, (50, 2))
    back = np.array([x, y]) + (points / 224 * 2 - 1) * side / 2
    assert np.abs(to_crop(square, back) - points).max() < 0.01


@pytest.mark.parametrize("square", SQUARES)
def test_pixels_follow_the_map(square):
    """The grey of a linear ramp shows where each pixel of the crop comes from."""
    rows, columns = np.mgrid[0:180, 0:240] + 0.5
    image = np.stack([columns, rows, 0 * rows], -1)
    crop = crop_image(np.round(image).astype(np.uint8), np.array(square)).astype(float)
    centres = np.stack(np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5), -1)
    x, y, side = square
    source = np.array([x, y]) + (centres / 112 - 1) * side / 2
    inside = ((source > 6) & (source < [234, 174])).all(-1)
    error = (crop[..., :2] - source)[inside]
    # Rounding to whole greys leaves half a level of noise, and no shift; np.round(i + 0.5) of a
    # ramp is on average half a level high or low, for even and odd i.
    assert np.abs(error.mean(0)) == pytest.approx([0, 0], abs=0.06)
    assert np.abs(error).max() <= 1.5


def test_outside_of_the_image_is_black():
    crop = crop_image(np.full((50, 50, 3), 200, np.uint8), np.array([0.0, 25.0, 40.0]))
    assert crop[:, :100].max() == 0
    assert crop[:, 124:].min() == 200


def test_people_close_to_the_camera_do_not_alias():
    """One-pixel stripes shrunk five times become an even grey, not new stripes."""
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255
    crop = crop_image(image, np.array([600.3, 600.0, 1090.0]))
    plain = cv2.warpAffine(image, crop_matrix(np.array([600.3, 600.0, 1090.0])), (224, 224))
    assert plain.astype(float).std() > 50
    assert crop.astype(float).std() < plain.astype(float).std() / 4


def test_normalise_is_imagenet_s():
    crops = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8)
    want = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    assert normalise(crops).flatten().tolist() == pytest.approx(want, abs=1e-6)
