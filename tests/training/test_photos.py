"""Photos with labels, a detector that is made up, and the sample sets that come of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch

from staf_cli.core.errors import DatasetError
from staf_cli.core.records import COCO_KEYPOINTS
from staf_cli.tracking.detector import Found
from staf_cli.training import photos
from staf_cli.training.photos import LSP_JOINTS, DetectedPeople, Photo
from staf_cli.training.samples import MARGIN, PIXELS, read_samples
from tests.support.made_people import open_body
from tests.support.made_training_data import simple_prior

CPU = torch.device("cpu")

# A person upright who faces the camera, px: the person's left is the image's right.
STANDING = {
    "right_ankle": (90, 230),
    "right_knee": (92, 190),
    "right_hip": (93, 145),
    "left_hip": (113, 145),
    "left_knee": (116, 190),
    "left_ankle": (120, 230),
    "right_wrist": (65, 150),
    "right_elbow": (70, 120),
    "right_shoulder": (83, 90),
    "left_shoulder": (123, 90),
    "left_elbow": (138, 120),
    "left_wrist": (142, 150),
    "neck": (103, 82),
    "head_top": (103, 50),
    "nose": (103, 68),
    "left_eye": (107, 64),
    "right_eye": (99, 64),
    "left_ear": (112, 66),
    "right_ear": (94, 66),
}
MIRRORED = {
    name: name.replace("left", "*").replace("right", "left").replace("*", "right")
    for name in STANDING
}


def points(names, places=STANDING):
    return np.array([[*places[name], 1] for name in names], np.float64)


LABELS = points(LSP_JOINTS)
DETECTED = points(COCO_KEYPOINTS)
BOX = np.array([60.0, 45, 150, 240])


def photo(name="im1.png", labels=LABELS):
    return Photo(name, np.full((300, 200, 3), 90, np.uint8), labels)


def seen(*keypoints, boxes=None):
    boxes = [BOX] * len(keypoints) if boxes is None else boxes
    return DetectedPeople(
        np.array(boxes).reshape(-1, 4),
        np.full(len(keypoints), 0.9),
        np.array(keypoints).reshape(-1, 17, 3),
    )


def sample_of(photo, seen):
    sample = photos.make_sample(photo, seen)
    assert sample is not None
    return sample


def column(name):
    return COCO_KEYPOINTS.index(name)


def test_held_out_photos_depend_on_the_names_alone():
    names = [f"im{i:05}.jpg" for i in range(1000)]
    kept = photos.held_out_names(names)
    assert len(kept) == photos.HELD_OUT
    assert kept == photos.held_out_names(names[::-1])
    assert kept < set(names)
    assert kept != set(names[:200]) and kept != set(names[-200:])


@pytest.mark.parametrize("turns", range(4))
def test_turning_back_finds_the_pixel_again(turns):
    image = np.zeros((40, 40), np.uint8)
    image[7, 31] = 1
    row, col = np.argwhere(np.rot90(image, turns))[0]
    place = photos.rotate_back(np.array([[col + 0.5, row + 0.5]]), turns, 40)
    assert place.tolist() == [[31.5, 7.5]]


@pytest.mark.parametrize("turns", range(4))
def test_a_torso_is_turned_upright(turns):
    """Labels as they would be in the photo turned the other way ask for just these turns."""
    turned = LABELS.copy()
    turned[:, :2] = photos.rotate_back(LABELS[:, :2], turns, 300)
    assert photos.quarter_turns(turned) == turns


def test_a_mirrored_detection_is_exchanged():
    mirrored = points(COCO_KEYPOINTS, {MIRRORED[name]: at for name, at in STANDING.items()})
    assert (photos.reconcile(LABELS, mirrored) == DETECTED).all()


def test_only_the_arms_are_exchanged_where_only_they_are_mirrored():
    places = dict(STANDING)
    for joint in ("elbow", "wrist"):
        places[f"left_{joint}"] = STANDING[f"right_{joint}"]
        places[f"right_{joint}"] = STANDING[f"left_{joint}"]
    assert (photos.reconcile(LABELS, points(COCO_KEYPOINTS, places)) == DETECTED).all()


def test_keypoints_that_contradict_a_label_are_dropped():
    """A wrist elsewhere, and a nose that is not where the head is; the others stay."""
    off = DETECTED.copy()
    off[column("left_wrist"), :2] += (0, 60)
    off[column("nose"), :2] = (103, 160)
    weight = photos.reconcile(LABELS, off)[:, 2]
    assert {COCO_KEYPOINTS[i] for i in np.flatnonzero(weight == 0)} == {"left_wrist", "nose"}


def test_the_labelled_one_of_two_people_is_chosen():
    other = DETECTED + np.array([60, 10, 0])
    near = DETECTED + np.array([2, 1, 0])
    assert photos.find_labelled(LABELS, np.array([other, near])) == 1
    assert photos.find_labelled(LABELS, np.array([other])) is None
    assert photos.find_labelled(LABELS, np.zeros((0, 17, 3))) is None


def test_points_of_a_sample_lie_where_they_lay_in_the_photo():
    """A bright dot at a joint of the photo is at that joint's place in the sample."""
    image = np.zeros((300, 200, 3), np.uint8)
    x, y = STANDING["left_wrist"]
    image[y - 2 : y + 2, x - 2 : x + 2] = 255
    sample = sample_of(Photo("a.png", image, LABELS), seen(DETECTED))
    rows, columns = np.indices((PIXELS, PIXELS)) + 0.5
    light = sample.image[..., 0] / sample.image[..., 0].sum()
    dot = [(light * columns).sum(), (light * rows).sum()]
    for joint in (LSP_JOINTS.index("left_wrist"), 14 + column("left_wrist")):
        assert sample.kp2d[joint, :2] == pytest.approx(dot, abs=0.1)
        assert sample.kp2d[joint, 2] == 1


def test_the_image_is_a_square_around_the_box():
    sample = sample_of(photo(), seen(DETECTED))
    low, high = sample.box[:2], sample.box[2:]
    assert (high - low).max() == pytest.approx(PIXELS / MARGIN)
    assert (low + high) / 2 == pytest.approx([PIXELS / 2] * 2)
    assert (sample.kp2d[:, :2] > low).all() and (sample.kp2d[:, :2] < high).all()


def test_a_detector_that_sees_nobody_leaves_the_labels():
    sample = sample_of(photo(), seen())
    assert (sample.kp2d[:14, 2] == 1).all()
    assert (sample.kp2d[14:] == 0).all()


def test_an_unlabelled_person_is_the_largest_one_or_nobody():
    small = np.array([0.0, 0, 40, 80])
    sample = sample_of(photo(labels=None), seen(DETECTED * 0.4, DETECTED, boxes=[small, BOX]))
    assert (sample.kp2d[:14, 2] == 0).all()
    spread = np.ptp(sample.kp2d[14:, 1])
    want = np.ptp(DETECTED[:, 1]) * PIXELS / (MARGIN * (BOX[3] - BOX[1]))
    assert spread == pytest.approx(want)
    assert photos.make_sample(photo(labels=None), seen()) is None


def test_guesses_and_points_outside_of_the_photo_have_no_weight():
    guessed = DETECTED.copy()
    guessed[0, 2] = 0.1
    labels = LABELS.copy()
    labels[0, 0] = -5
    sample = sample_of(photo(labels=labels), seen(guessed))
    assert sample.kp2d[14, 2] == 0
    assert sample.kp2d[0].tolist() == [0, 0, 0]


def test_a_person_upside_down_is_looked_at_upright():
    """The made-up detector sees a red dot, a whole person, only above a blue one."""
    labels = LABELS.copy()
    labels[:, :2] = (200, 300) - labels[:, :2]
    image = np.zeros((300, 200, 3), np.uint8)
    head, feet = (200 - 103, 300 - 50), (200 - 105, 300 - 230)
    cv2.circle(image, head, 4, (255, 0, 0), -1)
    cv2.circle(image, feet, 4, (0, 0, 255), -1)

    def find(images, pixels, conf):
        for image in images:
            places = [np.argwhere(image[..., c] > 100).mean(0)[::-1] + 0.5 for c in (0, 2)]
            upright = int(places[0][1] < places[1][1])
            kp2d = np.tile([*places[0], 0.8], (upright, 17, 1))
            box = np.tile([*(places[0] - 20), *(places[0] + 20)], (upright, 1))
            yield Found(box, np.ones(upright), kp2d)

    detector = cast(Any, SimpleNamespace(find=find))
    found = photos.detect_labelled(Photo("a.png", image, labels), detector)
    assert found.kp2d.shape == (1, 17, 3)
    assert np.abs(found.kp2d[0, :, :2] - (head[0] + 0.5, head[1] + 0.5)).max() < 0.5
    size = photos.DETECTION_SCALE * (230 - 50) / photos.DETECTION_PIXELS * 40
    assert found.box[0, 2:] - found.box[0, :2] == pytest.approx([size, size])


def write_folder(folder: Path, names):
    folder.mkdir()
    for shade, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((300, 200, 3), 60 + 10 * shade, np.uint8))
    joints = np.stack([LABELS + np.array([i, 0, 0]) for i in range(len(names))]).astype(np.float32)
    np.savez(folder / "joints.npz", names=np.array(names), joints=joints)


def test_labelled_photos_come_sorted_with_their_own_labels(tmp_path):
    write_folder(tmp_path / "lsp", ["im3.png", "im1.png"])
    first, second = photos.read_labelled(tmp_path / "lsp")
    assert (first.name, second.name) == ("im1.png", "im3.png")
    assert first.image[0, 0].tolist() == [70, 70, 70]
    assert first.labels is not None
    assert first.labels[0, 0] == LABELS[0, 0] + 1


def test_folders_without_labels_or_photos_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"joints\.npz"):
        next(photos.read_labelled(tmp_path))
    write_folder(tmp_path / "lsp", ["im1.png"])
    (tmp_path / "lsp" / "im1.png").write_text("no photo")
    with pytest.raises(DatasetError, match=r"im1\.png"):
        next(photos.read_labelled(tmp_path / "lsp"))


def test_a_sample_set_is_read_back(tmp_path):
    samples = [sample_of(photo(), seen(DETECTED)), sample_of(photo(), seen())]
    photos.write_photos(tmp_path / "set", samples, open_body(), simple_prior())
    back = read_samples(tmp_path / "set")
    assert back.images.shape == (2, 1, PIXELS, PIXELS, 3)
    for row, sample in enumerate(samples):
        assert (back.images[row, 0] == sample.image).all()
        assert back.labels.kp2d[row, 0] == pytest.approx(sample.kp2d, abs=1e-4)
        assert back.labels.box[row, 0] == pytest.approx(sample.box, abs=1e-4)
    assert ((back.labels.smpl_weight >= 0) & (back.labels.smpl_weight <= 1)).all()
    # A person upright who faces the camera: y down, z away from it.
    turned = torch.from_numpy(back.labels.poses[0, 0, :3])
    assert turned.abs().max() == pytest.approx(np.pi, abs=0.4)
    assert turned.abs().argmax() == 0
