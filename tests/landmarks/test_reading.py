"""Landmarks of a drawn person: found where they were drawn, at any turn, size and mirroring."""

import cv2
import numpy as np
import pytest
import torch

from staf_cli.core.records import LANDMARKS
from staf_cli.core.regions import around_boxes
from staf_cli.landmarks.reader import load_reader
from staf_cli.landmarks.reading import read
from tests.landmarks.pictures import drawn_person

DRAWN = {  # x, y px of a picture of 256 x 256; the person's left is on the right
    "nose": (128, 46),
    "left_wrist": (192, 82),
    "right_wrist": (70, 158),
    "left_elbow": (176, 116),
    "right_knee": (106, 190),
    "left_ankle": (156, 226),
    "right_ankle": (104, 228),
}
ROWS = [LANDMARKS.index(name) for name in DRAWN]
PLACES = np.array(list(DRAWN.values()), float)
WHOLE = np.array([[128.0, 128, 256, 0]])
AS_IT_IS = np.array([False])


@pytest.fixture(scope="module")
def network():
    return load_reader(torch.device("cpu"))


@pytest.fixture(scope="module")
def person():
    return drawn_person(0)


@pytest.fixture(scope="module")
def plain(network, person):
    return read(network, [person], WHOLE, AS_IT_IS)


def test_landmarks_are_where_they_were_drawn(plain):
    assert plain.kp2d.shape == plain.metres.shape == (1, 33, 3)
    assert np.linalg.norm(plain.kp2d[0, ROWS, :2] - PLACES, axis=-1).max() < 15
    assert ((plain.kp2d[..., 2] > 0.6) & (plain.kp2d[..., 2] <= 1)).all()
    assert plain.score[0] > 0.99
    nose, left, right, ankle = (
        plain.metres[0, LANDMARKS.index(name)]
        for name in ("nose", "left_hip", "right_hip", "left_ankle")
    )
    assert left[0] > 0.05 and right[0] < -0.05  # m, x to the right
    assert nose[1] < -0.4 and ankle[1] > 0.4  # y down
    assert nose[2] < -0.1  # z away: the person looks at the camera
    assert np.abs(plain.next_region[0] - (127, 137, 275, 0)).max() < 8


def test_the_turned_person_in_a_large_frame_gives_the_same_landmarks(network, person, plain):
    large = cv2.resize(person, (512, 512), interpolation=cv2.INTER_CUBIC)
    frame = np.zeros((700, 900, 3), np.uint8)
    frame[100:612, 200:712] = np.rot90(large, -1)  # clockwise: the head points to the right
    regions = around_boxes(np.array([[200.0, 100, 712, 612]]), np.pi / 2, margin=1.0)
    found = read(network, [frame], regions, AS_IT_IS)
    x, y = (plain.kp2d[0, :, :2] * 2).T
    want = np.stack([200 + 512 - y, 100 + x], -1)
    assert np.abs(found.kp2d[0, :, :2] - want).max() < 12
    x, y, z = plain.metres[0].T
    assert np.abs(found.metres[0] - np.stack([-y, x, z], -1)).max() < 0.06
    assert found.next_region[0, 3] == pytest.approx(np.pi / 2, abs=0.1)


def test_a_mirror_image_that_is_looked_at_in_a_mirror_gives_the_same_landmarks(
    network, person, plain
):
    twice = np.concatenate([WHOLE, WHOLE])
    images = [person, person[:, ::-1]]
    found = read(network, images, twice, np.array([False, True]))
    side = {"left": "right", "right": "left"}
    other = [
        LANDMARKS.index("_".join(side.get(word, word) for word in name.split("_")))
        for name in LANDMARKS
    ]
    assert np.abs(found.kp2d[0] - plain.kp2d[0]).max() < 1e-2
    assert found.kp2d[1, other, 0] == pytest.approx(256 - found.kp2d[0, :, 0], abs=1e-2)
    assert found.kp2d[1, other, 1:] == pytest.approx(found.kp2d[0, :, 1:], abs=1e-2)
    assert found.metres[1, other] == pytest.approx(found.metres[0] * [-1, 1, 1], abs=1e-4)
    assert np.abs(found.mask[1, :, ::-1].astype(int) - found.mask[0]).max() <= 1
    assert found.next_region[1] == pytest.approx(
        found.next_region[0] * [-1, 1, 1, -1] + [256, 0, 0, 0], abs=1e-2
    )


def test_many_people_are_read_in_batches_and_nobody_is_fine(network, person, plain):
    shifted = np.roll(person, 10, axis=1)
    images = [person, *[shifted] * 8]
    found = read(network, images, np.tile(WHOLE, (9, 1)), np.tile(AS_IT_IS, 9))
    assert np.abs(found.kp2d[0] - plain.kp2d[0]).max() < 1e-2
    assert np.abs(found.kp2d[1:] - found.kp2d[1]).max() < 1e-2
    assert found.kp2d[8, 0, 0] - found.kp2d[0, 0, 0] == pytest.approx(10, abs=1)  # nose
    nobody = read(network, [], np.empty((0, 4)), np.empty(0, bool))
    assert nobody.kp2d.shape == nobody.metres.shape == (0, 33, 3)


def test_the_mask_is_where_the_person_was_drawn(plain):
    mask = plain.mask[0] / 255  # of 4 x 4 pixels each
    assert mask.shape == (64, 64)
    assert mask[125 // 4, 128 // 4] > 0.9  # the trunk
    assert mask[20 // 4, 20 // 4] < 0.1 and mask[240 // 4, 20 // 4] < 0.1
