"""People of a clip: found at the right scale, and followed."""

import numpy as np
import pytest
import torch

from staf_cli.core.errors import UsageError
from staf_cli.core.records import Detections, Frame
from staf_cli.tracking.association import associate
from staf_cli.tracking.detection import COARSE, FINE, FRAMES_AT_ONCE, detect, find_people
from staf_cli.tracking.detector import Found

CPU = torch.device("cpu")


def noise_frames(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        Frame(i, i, i / 25, random.integers(0, 256, (48, 80, 3)).astype(np.uint8))
        for i in range(count)
    ]


def test_detections_of_a_real_network(sparing_detector):
    frames = noise_frames(3)
    found = list(detect(iter(frames), sparing_detector, pixels=64, device=CPU))
    assert [seen.frame for seen in found] == list(range(3))
    assert [seen.time for seen in found] == [frame.time for frame in frames]
    assert sum(len(seen.box) for seen in found) > 10
    for seen in found:
        followed = seen.track_id[seen.track_id > 0]
        assert len(set(followed.tolist())) == len(followed)
        assert (seen.box[:, 2:] >= seen.box[:, :2]).all()


@pytest.mark.parametrize("tracker", ["bytetrack", "botsort"])
def test_nothing_is_remembered_from_the_clip_before(sparing_detector, tracker):
    first, second = (
        list(
            detect(iter(noise_frames(2)), sparing_detector, tracker=tracker, pixels=64, device=CPU)
        )
        for _ in range(2)
    )
    assert all(seen.track_id.any() for seen in first)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.track_id, other.track_id)
        np.testing.assert_array_equal(one.box, other.box)


# ── a detector that sees red ──────────────────────────────────────────────────────────────


class SeesRed:
    """Finds the red block of a picture, if it is large enough at the scale that it is asked for."""

    has_keypoints = False

    def __init__(self, least=0):
        self.least = least  # px at the detector's scale
        self.asked = []  # (pictures, scale)

    def find(self, images, pixels, conf):
        self.asked.append((len(images), pixels))
        return [self._found(image, pixels) for image in images]

    def _found(self, image, pixels):
        rows, columns = np.nonzero((image[..., 0] > 200) & (image[..., 2] < 50))
        if not len(rows) or np.ptp(rows) * pixels / max(image.shape) < self.least:
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 17, 3)))
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        return Found(np.array(box, np.float64), np.array([0.9]), np.zeros((1, 17, 3)))


BLIND = SeesRed(least=np.inf)


def red_block(index, x, height=50):
    image = np.full((100, 200, 3), 30, np.uint8)
    image[30 : 30 + height, x : x + 20] = (255, 0, 0)
    return Frame(index, index, index / 30, image)


def test_frames_stay_in_order_over_batches_and_red_is_red():
    detector = SeesRed()
    frames = [red_block(i, 10 + 5 * i) for i in range(19)]
    found = list(find_people(iter(frames), detector, 0.25, COARSE))
    assert sum(images for images, _ in detector.asked) == 19
    assert max(images for images, _ in detector.asked) > 1
    assert [frame.index for frame, _ in found] == list(range(19))
    for i, (_, seen) in enumerate(found):
        assert seen.frame == i
        assert seen.box.tolist() == [[10 + 5 * i, 30, 30 + 5 * i, 80]]


def test_no_more_frames_are_read_than_one_batch_needs():
    read = []

    def frames():
        for i in range(100):
            read.append(i)
            yield red_block(i, 50)

    people = find_people(frames(), SeesRed(), 0.25, COARSE)
    next(people)
    assert len(read) <= 2 * FRAMES_AT_ONCE


def test_one_frame_at_a_time_where_the_next_is_not_there_yet():
    read = []

    def frames():
        for i in range(40):
            read.append(i)
            yield red_block(i, 50, height=60)

    detector = SeesRed()
    for frame, _ in find_people(frames(), detector, 0.25, at_once=1):
        assert read[-1] == frame.index
    assert [scale for _, scale in detector.asked].count(FINE) == 3  # once every 16 frames


def test_the_scale_follows_the_smallest_person():
    """A block of 50 px in 200 is 160 px in COARSE; one of 20 is 64, and hardly seen there."""
    frames = [red_block(i, 50, height=60) for i in range(40)]
    detector = SeesRed()
    list(find_people(frames, detector, 0.25))
    scales = [scale for images, scale in detector.asked if images > 1]
    assert set(scales) == {COARSE}
    looks = [scale for images, scale in detector.asked if images == 1]
    assert len(looks) >= 2  # now and then one frame is looked at more closely
    assert set(looks) == {FINE}
    small = [red_block(i, 50, height=20) for i in range(40)]
    detector = SeesRed()
    list(find_people(small, detector, 0.25))
    assert {scale for images, scale in detector.asked if images > 1} == {FINE}


def test_somebody_small_who_comes_later_is_found():
    """Only FINE sees a block of 20 px, as 96 px."""
    frames = [red_block(i, 50, height=60 if i < 20 else 20) for i in range(60)]
    found = [len(seen.box) for _, seen in find_people(frames, SeesRed(least=80), 0.25)]
    assert all(found[:20])
    assert all(found[40:])


def test_a_scale_that_was_chosen_is_kept():
    detector = SeesRed()
    list(find_people([red_block(i, 50, height=20) for i in range(9)], detector, 0.25, 1280))
    assert {scale for _, scale in detector.asked} == {1280}


# ── association ───────────────────────────────────────────────────────────────────────────


def sighting(index, *people):
    """A frame with people given as (x, score); the camera's picture is of no importance."""
    box = np.array([[x, 40.0, x + 30, 120.0] for x, _ in people]).reshape(-1, 4)
    kp2d = np.zeros((len(people), 17, 3))
    kp2d[:, :, 0] = box[:, :1]
    image = np.random.default_rng(0).integers(0, 256, (160, 320, 3)).astype(np.uint8)
    seen = Detections(
        frame=index,
        time=index / 30,
        box=box,
        score=np.array([score for _, score in people]),
        track_id=np.zeros(len(people), np.int64),
        kp2d=kp2d,
    )
    return Frame(index, index, index / 30, image), seen


def positions_by_identity(found):
    positions: dict[int, list[tuple[int, float]]] = {}
    for seen in found:
        for identity, box in zip(seen.track_id.tolist(), seen.box, strict=True):
            if not identity:
                continue
            positions.setdefault(identity, []).append((seen.frame, float(box[0])))
    return positions


@pytest.mark.parametrize("tracker", ["bytetrack", "botsort"])
def test_identities_follow_people_and_boxes_stay_the_detectors(tracker):
    """The order within a frame alternates; one person enters later and is there at once."""
    sightings = []
    for i in range(20):
        people = [(20.0 + 3 * i, 0.9), (250.0 - 3 * i, 0.8)]
        late = [(140.0 + i % 2, 0.7)] if i >= 6 else []
        sightings.append(sighting(i, *(people if i % 2 else people[::-1]), *late))
    positions = positions_by_identity(associate(sightings, tracker, 0.25, BLIND))
    assert sorted(positions.values()) == sorted(
        [
            [(i, 20.0 + 3 * i) for i in range(20)],
            [(i, 250.0 - 3 * i) for i in range(20)],
            [(i, 140.0 + i % 2) for i in range(6, 20)],
        ]
    )


def test_keypoints_stay_with_their_box():
    found = associate(
        [sighting(i, (200.0, 0.5), (20.0, 0.9)) for i in range(3)], "bytetrack", 0.25, BLIND
    )
    for seen in found:
        np.testing.assert_array_equal(seen.kp2d[:, 0, 0], seen.box[:, 0])


def test_a_weak_detection_carries_a_person_on_but_starts_none():
    weak = [sighting(i, (50.0, 0.9 if i < 5 else 0.15), (200.0, 0.15)) for i in range(10)]
    positions = positions_by_identity(associate(weak, "bytetrack", 0.25, BLIND))
    assert list(positions.values()) == [[(i, 50.0) for i in range(10)]]


def test_an_empty_frame_gives_an_empty_record():
    found = list(
        associate([sighting(0), sighting(1, (50.0, 0.9)), sighting(2)], "bytetrack", 0.25, BLIND)
    )
    assert [len(seen.box) for seen in found] == [0, 1, 0]


# ── what cannot be used ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{"tracker": "sort"}, {"conf": 0.0}, {"conf": 1.5}])
def test_options_that_cannot_be_meant(sparing_detector, options):
    with pytest.raises(UsageError):
        detect([], sparing_detector, device=CPU, **options)
