"""Second looks: people who are small, large, turned or missed. The detector reads one mark."""

from dataclasses import replace

import numpy as np
import pytest

from staf_cli.core.records import Detections, Frame
from staf_cli.tracking import second_look
from staf_cli.tracking.detector import Found
from staf_cli.tracking.second_look import find_missing, look_at, look_closer

SIZE = (600, 800)  # height, width, px
ZOOM = 0.8  # at which a person of 200 px is read as well as in a crop


class ReadsRedOverGreen:
    """Finds a person where red is next to green; believes them more if red is above.

    The nose is where the red is, the ankles are where the green is.
    """

    has_keypoints = True

    def __init__(self):
        self.images = 0

    def find(self, images, pixels, conf):
        self.images += len(images)
        return [self._found(image) for image in images]

    def _found(self, image):
        red = np.argwhere((image[..., 0] > 200) & (image[..., 1] < 90))[:, ::-1] + 0.5
        green = np.argwhere((image[..., 1] > 200) & (image[..., 0] < 90))[:, ::-1] + 0.5
        if not (len(red) and len(green)):
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 17, 3)))
        both = np.concatenate([red, green])
        head, feet = red.mean(0), green.mean(0)
        score = 0.9 if feet[1] - head[1] > abs(feet[0] - head[0]) else 0.5
        points = np.tile(head, (17, 1))
        points[15:] = feet
        kp2d = np.column_stack([points, np.full(17, 0.8)])[None]
        return Found(np.array([[*both.min(0), *both.max(0)]]), np.array([score]), kp2d)


def picture(centre, turned, index=0, half=100):
    """A frame with a person in it: red head, green feet, turned by quarters of a circle."""
    image = np.full((*SIZE, 3), 40, np.uint8)
    figure = np.zeros((2 * half, half, 3), np.uint8)
    figure[:half], figure[half:] = (255, 0, 0), (0, 255, 0)
    figure = np.rot90(figure, turned)
    height, width = figure.shape[:2]
    x, y = centre[0] - width // 2, centre[1] - height // 2
    image[y : y + height, x : x + width] = figure
    box = np.array([[x, y, x + width, y + height]], np.float64)
    return Frame(index, index, index / 30, image), box


def detected(frame, box, score=0.5):
    n = len(box)
    nowhere = np.zeros((n, 17, 3))
    return Detections(
        frame.index, frame.time, box, np.full(n, score), np.zeros(n, np.int64), nowhere
    )


UPWARDS = {1: (-1, 0), 2: (0, 1), 3: (1, 0)}  # from the feet to the head, y down


@pytest.mark.parametrize("turned", [1, 2, 3])
def test_turned_people_are_read_as_if_they_stood(turned):
    frame, box = picture((400, 300), turned)
    rough = detected(frame, box + np.array([5, -4, -3, 6]))
    ((same, seen),) = look_closer([(frame, rough, ZOOM)], ReadsRedOverGreen())
    assert same is frame
    np.testing.assert_allclose(seen.box, box, atol=2)
    assert seen.score[0] == 0.9
    for keypoint, sign in ((0, 1), (15, -1)):
        place = np.array([400, 300]) + sign * 50 * np.array(UPWARDS[turned])
        np.testing.assert_allclose(seen.kp2d[0, keypoint, :2], place, atol=2)


def test_a_turned_person_is_looked_at_in_every_frame_and_back_upright_in_time():
    model = ReadsRedOverGreen()
    stream = []
    for index in range(12):
        frame, box = picture((400, 300), 2 if index < 6 else 0, index)
        stream.append((frame, detected(frame, box), ZOOM))
    heads = [seen.kp2d[0, 0, 1] for _, seen in look_closer(stream, model)]
    np.testing.assert_allclose(heads[:6], 350, atol=2)
    assert model.images == 4 * 12  # unsure throughout
    assert not np.allclose(heads[6:], 350)


def test_a_known_person_is_not_turned_for_a_slightly_better_score(monkeypatch):
    """Who has just appeared is; a person who stood before hardly stands on the head."""
    frame, box = picture((400, 300), 2)
    for score, turned in ((0.75, True), (0.85, False)):
        upright = picture((400, 300), 0, 0)
        stream = [
            (upright[0], detected(upright[0], upright[1], 0.95), ZOOM),
            *[(frame, detected(frame, box, score), ZOOM)] * second_look.CHECKED_EVERY,
        ]
        *_, (_, last) = look_closer(stream, ReadsRedOverGreen())
        assert (last.score[0] == 0.9) == turned
    ((_, alone),) = look_closer([(frame, detected(frame, box, 0.85), ZOOM)], ReadsRedOverGreen())
    assert alone.score[0] == 0.9


@pytest.mark.parametrize(("zoom", "again"), [(0.4, True), (0.8, False), (2.0, True)])
def test_who_was_too_small_or_too_large_gets_the_keypoints_of_a_crop(zoom, again):
    """A person of 200 px, seen as one of 80, 160 and 400."""
    frame, box = picture((400, 300), 0)
    seen = detected(frame, np.concatenate([box, box + 900]), 0.95)
    stream = [(frame, seen, zoom)] * 3
    *_, (_, last) = look_closer(stream, ReadsRedOverGreen())
    assert (last.kp2d[0, 0, :2] == 0).all() != again
    if again:
        np.testing.assert_allclose(last.kp2d[0, 0, :2], (400, 250), atol=2)
    assert (last.box == seen.box).all()
    assert (last.score == seen.score).all()
    assert (last.kp2d[1] == 0).all()  # nobody is in that crop


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
@pytest.mark.parametrize("look", [0, 1, 2, 3])
def test_a_look_is_given_in_pixels_of_the_frame(turned, look):
    frame, box = picture((300, 250), turned, half=50)
    (found,) = look_at(frame, [(box[0], look)], ReadsRedOverGreen())
    np.testing.assert_allclose(found.box, box, atol=1.5)
    middle = (found.kp2d[0, 0, :2] + found.kp2d[0, 15, :2]) / 2
    np.testing.assert_allclose(middle, (300, 250), atol=1.5)


def test_who_is_upright_and_sure_is_not_turned_again():
    model = ReadsRedOverGreen()
    frame, box = picture((400, 300), 0)
    for score, images in ((0.95, 4), (0.85, 8)):  # four when they appear; again if not so sure
        model.images = 0
        stream = [(frame, detected(frame, box, score), ZOOM)] * (second_look.CHECKED_EVERY + 2)
        list(look_closer(stream, model))
        assert model.images == images


def test_a_crowd_costs_no_more_than_a_few():
    frame, _ = picture((400, 300), 0)
    x = np.arange(20) * 35.0
    boxes = np.stack([x, x * 0 + 10, x + 100, x * 0 + 210], 1)
    model, images = ReadsRedOverGreen(), []
    for _ in look_closer([(frame, detected(frame, boxes, 0.4), ZOOM)] * 3, model):
        images.append(model.images)
        model.images = 0
    assert images[0] == 4 * second_look.MOST_NEW
    assert images[2] <= 4 * second_look.MOST_NEW
    assert second_look.MOST_CHECKED < second_look.MOST_NEW


@pytest.mark.parametrize("turned", [0, 2])
def test_who_is_missed_is_found_where_they_are_expected(turned):
    frame, box = picture((400, 300), turned)
    nobody = detected(frame, np.zeros((0, 4)))
    model = ReadsRedOverGreen()
    seen = find_missing(frame, nobody, box + 8, 0.25, model)
    np.testing.assert_allclose(seen.box, box, atol=2)
    assert seen.score.tolist() == [0.9]
    assert len(find_missing(frame, nobody, box + 300, 0.25, model).box) == 0
    assert len(find_missing(frame, nobody, box + 8, 0.95, model).box) == 0
    outside = box - 1000
    assert len(find_missing(frame, nobody, outside, 0.25, model).box) == 0


def test_who_was_detected_is_not_looked_for():
    frame, box = picture((400, 300), 0)
    model = ReadsRedOverGreen()
    seen = detected(frame, box)
    assert find_missing(frame, seen, box + 5, 0.25, model) is seen
    assert model.images == 0


def test_one_detection_stands_for_one_person():
    """Somebody else, who is sure, overlaps the one who is expected; the latter is still found."""
    frame, box = picture((400, 300), 0)
    other = box + np.array([90, 0, 90, 0])
    seen = detected(frame, other, 0.9)
    found = find_missing(frame, seen, np.concatenate([other, box]), 0.25, ReadsRedOverGreen())
    assert len(found.box) == 2
    np.testing.assert_allclose(found.box[1], box[0], atol=2)


@pytest.mark.parametrize(("far", "people"), [(0.0, 1), (60.0, 2)])
def test_whoever_is_seen_in_a_larger_box_is_not_found_again(far, people):
    """A box around somebody and what they hold overlaps little with theirs; the keypoints agree."""
    frame, box = picture((400, 300), 0)
    (found,) = look_at(frame, [(box[0], 0)], ReadsRedOverGreen())
    larger = box + np.array([-120, -60, 120, 60])
    seen = replace(detected(frame, larger, 0.9), kp2d=found.kp2d + np.array([far, 0, 0]))
    # Somebody else stands where the larger box is expected.
    expected = np.concatenate([larger, box])
    assert len(find_missing(frame, seen, expected, 0.25, ReadsRedOverGreen()).box) == people
