"""Regions: dots in pictures come where the conversions say, there and back, at any angle."""

import numpy as np
import pytest

from staf_cli.core import regions
from staf_cli.core.crop import crop_image

RIGHT = np.pi / 2  # the head points to the right of the frame
SIZE = (300, 400)  # height, width of the frame


def dotted(*dots):
    """A frame with a white square of 5 px around each (x, y), px from the top left corner."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    for x, y in dots:
        frame[round(y - 2.5) : round(y + 2.5), round(x - 2.5) : round(x + 2.5)] = 255
    return frame


def centroid(picture):
    """x, y of what is bright, px from the top left corner."""
    weight = picture.astype(float).reshape(*picture.shape[:2], -1).sum(-1)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def test_regions_around_boxes_take_the_longer_side():
    boxes = np.array([[10.0, 20, 50, 120], [0, 0, 80, 40]])
    assert np.allclose(
        regions.around_boxes(boxes, np.array([0, RIGHT])),
        [[30.0, 70, 125, 0], [40, 20, 100, RIGHT]],
    )
    assert np.allclose(regions.around_boxes(boxes, margin=2.0)[:, 2], [200, 160])


def test_regions_around_landmarks_follow_mediapipe_s_rule():
    points = np.zeros((4, 39, 2))
    points[:, 33] = 100, 50
    points[:, 34] = [(100, 10), (140, 50), (100, 90), (70, 90)]  # up, right, down, left below
    found = regions.around_landmarks(points)
    assert np.allclose(found[:, :2], (100, 50))
    assert np.allclose(found[:, 2], [100, 100, 100, 125])
    # MediaPipe: target angle (90 degrees) minus the angle of the line, which counts with y upward.
    x, y = (points[:, 34] - points[:, 33]).T
    difference = found[:, 3] - (np.pi / 2 - np.arctan2(-y, x))
    assert np.allclose(np.exp(1j * difference), 1)
    assert np.allclose(found[:3, 3], [0, RIGHT, np.pi])
    tips = regions.to_frame(np.tile([128.0, 128 - 128 / 1.25], (4, 1, 1)), found)[:, 0]
    assert np.allclose(tips, points[:, 34])  # straight above the hips in the crop


def test_in_an_upright_region_the_crop_is_that_of_the_project():
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    for side in (100.0, 256.0, 600.0):
        region = np.array([190.3, 140.6, side, 0.0])
        ours = regions.cut(frame, region).astype(int)
        assert np.abs(ours - crop_image(frame, region[:3], 256)).max() <= 1


def test_at_90_degrees_the_frame_s_right_is_up_in_the_crop():
    region = np.array([200.0, 150.0, 128.0, RIGHT])
    crop = regions.cut(dotted((240, 150)), region)
    assert crop.shape == (256, 256, 3) and crop.dtype == np.uint8
    assert np.abs(centroid(crop) - (128, 128 - 80)).max() < 0.1
    crop = regions.cut(dotted((200, 170)), region)  # below the centre in the frame
    assert np.abs(centroid(crop) - (128 + 40, 128)).max() < 0.1
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    turned = regions.cut(frame, np.array([128.0, 128.0, 256.0, RIGHT]))
    assert np.abs(turned.astype(int) - np.rot90(frame)).max() <= 1


@pytest.mark.parametrize("angle", [0.0, 0.3, RIGHT, -2.0, np.pi])
@pytest.mark.parametrize("side", [90.0, 256.0, 900.0])
def test_a_dot_found_in_the_crop_is_where_it_was_in_the_frame(angle, side):
    place = np.array([210.5, 140.5])
    region = np.array([200.0, 150.0, side, angle])
    for pixels in (256, 320):
        found = centroid(regions.cut(dotted(place), region, pixels))
        back = regions.to_frame(found[None, None], region[None], pixels)[0, 0]
        assert np.abs(back - place).max() < 0.1 * max(1, side / pixels)


def test_metres_turn_as_pixels_do():
    generator = np.random.default_rng(0)
    metres = generator.normal(size=(3, 33, 3))
    turned = np.array([[0, 0, 2.0, 0], [0, 0, 2, RIGHT], [0, 0, 2, 0.7]])
    found = regions.to_camera(metres, turned)
    assert np.allclose(found[0], metres[0])
    up = regions.to_camera(np.tile([0.0, -1, 0.5], (3, 1, 1)), turned)[:, 0]
    assert np.allclose(up[1], [1, 0, 0.5])  # up in the crop is right in the frame
    assert np.allclose(found[..., 2], metres[..., 2])
    centred = regions.to_frame(metres[..., :2] * 128 + 128, turned)
    assert np.allclose(found[..., :2], centred)


@pytest.mark.parametrize("angle", [0.0, RIGHT, 2.5])
@pytest.mark.parametrize("side", [90.0, 900.0])
def test_a_mask_comes_back_where_it_was_cut(angle, side):
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[140:170, 180:220] = 255
    region = np.array([210.0, 150.0, side, angle])
    mask = (regions.cut(frame, region)[..., 0] / 255).astype(np.float32)
    box = (150, 120, 230, 180)
    back = regions.mask_in_box(mask, region, box)
    assert back.shape == (60, 80) and back.dtype == np.float32
    want = frame[120:180, 150:230, 0] / 255
    assert np.abs(centroid(back) - centroid(want)).max() < 0.1
    assert back.sum() == pytest.approx(want.sum(), rel=0.02)
    assert ((back > 0.5) != (want > 0.5)).mean() < 0.005


def test_outside_of_its_region_a_mask_is_empty():
    region = np.array([50.0, 50.0, 40.0, 0.0])
    back = regions.mask_in_box(np.ones((256, 256), np.float32), region, (20, 0, 90, 110))
    want = np.zeros((110, 70))
    want[30:70, 10:50] = 1
    assert np.abs(back - want).max() < 0.02
