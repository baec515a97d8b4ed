"""The detector here is a YOLO pose network with random weights, or a fake that sees red."""

import os
import subprocess
import sys
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from staf_cli.core.errors import OutOfMemory, UsageError, WeightsError
from staf_cli.core.records import Detections, Frame
from staf_cli.tracking.detection import (
    associate,
    detect,
    find_people,
    load_detector,
    look_closer,
    use_channels_last,
)
from tests.support.paths import ROOT

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def random_detector(tmp_path_factory):
    """A file like yolo11n-pose.pt, small and with random weights that find something anywhere."""
    from staf_cli.tracking.detection import _import_ultralytics

    _import_ultralytics()
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    model = YOLO("yolo11n-pose.yaml")
    assert isinstance(model.model, torch.nn.Module)
    model.model.names = {i: "person" if i == 0 else f"class {i}" for i in range(80)}
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            branch[-1].bias[0] = 0.5  # a score near 0.6 at every place
    path = tmp_path_factory.mktemp("detector") / "random-pose.pt"
    model.save(path)
    return path


def noise_frames(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        Frame(i, i, i / 25, random.integers(0, 256, (48, 80, 3)).astype(np.uint8))
        for i in range(count)
    ]


def test_detections_of_a_real_network(random_detector):
    frames = noise_frames(9)
    found = list(detect(iter(frames), random_detector, device=CPU))
    assert [seen.frame for seen in found] == list(range(9))
    assert [seen.time for seen in found] == [frame.time for frame in frames]
    assert sum(len(seen.box) for seen in found) > 10
    for seen in found:
        assert len(set(seen.track_id.tolist())) == len(seen.track_id)
        assert (seen.box[:, 2:] >= seen.box[:, :2]).all()
        assert (seen.box >= 0).all()
        assert (seen.box[:, [0, 2]] <= 80).all()
        assert (seen.box[:, [1, 3]] <= 48).all()
        assert (seen.kp2d[..., 2] > 0).all()


def test_the_layout_in_memory_changes_nothing(random_detector):
    frames = noise_frames(2)
    plain, other = load_detector(random_detector), load_detector(random_detector)
    use_channels_last(other, CPU)
    for (_, one), (_, two) in zip(
        find_people(iter(frames), plain, 0.25, CPU),
        find_people(iter(frames), other, 0.25, CPU),
        strict=True,
    ):
        assert len(one.box)
        np.testing.assert_allclose(one.box, two.box, atol=1e-3)
        np.testing.assert_allclose(one.kp2d, two.kp2d, atol=1e-2)
    first = next(other.predictor.model.model.parameters())
    assert first.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("tracker", ["bytetrack", "botsort"])
def test_nothing_is_remembered_from_the_clip_before(random_detector, tracker):
    first, second = (
        list(detect(iter(noise_frames(3)), random_detector, tracker=tracker, device=CPU))
        for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.track_id, other.track_id)
        np.testing.assert_array_equal(one.box, other.box)


def test_the_same_is_found_however_slow_the_clock_says_it_was(random_detector, monkeypatch):
    """As on a machine that is suspended in mid-batch: a hundred seconds between two looks."""
    usual = list(detect(iter(noise_frames(3)), random_detector, device=CPU))
    from ultralytics.utils import nms

    monkeypatch.setattr(nms, "time", SimpleNamespace(time=count(0, 100).__next__))
    slow = list(detect(iter(noise_frames(3)), random_detector, device=CPU))
    for one, other in zip(usual, slow, strict=True):
        assert len(one.box)
        np.testing.assert_array_equal(one.box, other.box)


def test_nothing_is_written_printed_asked_or_left_behind(random_detector, tmp_path):
    """In a process of its own, with an empty home and no network."""
    script = """
import os, socket, sys
from pathlib import Path
import cv2, numpy as np, torch

def refuse(*_, **__):
    raise SystemExit("something asked for the network")

socket.socket.connect = socket.getaddrinfo = refuse
torch.set_num_threads(2)
cv2.setNumThreads(2)
environment = dict(os.environ)
from staf_cli.core.records import Detections, Frame
from staf_cli.tracking.detection import detect

frames = [Frame(i, i, i / 25, np.zeros((48, 80, 3), np.uint8)) for i in range(2)]
assert len(list(detect(frames, Path(sys.argv[1]), device=torch.device("cpu")))) == 2
assert dict(os.environ) == environment, dict(os.environ).items() - environment.items()
assert torch.get_num_threads() == 2
assert cv2.getNumThreads() == 2
"""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "YOLO_", "STAF_"))}
    done = subprocess.run(
        [sys.executable, "-c", script, str(random_detector)],
        cwd=home,
        env={**kept, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")
    assert list(home.rglob("*")) == []


# ── a detector that sees red ──────────────────────────────────────────────────────────────


class SeesRed:
    """Answers like ultralytics.YOLO: one person, where the BGR image it is given is red."""

    names = {0: "bicycle", 1: "person"}  # noqa: RUF012
    task = "pose"

    def __init__(self, keypoints=True):
        self.keypoints = keypoints
        self.batches = []

    def predict(self, images, *, classes, **_):
        from ultralytics.engine.results import Results

        assert classes == [1]
        self.batches.append(len(images))
        return [self._result(image, Results) for image in images]

    def _result(self, image, Results):
        rows, columns = np.nonzero((image[..., 2] > 200) & (image[..., 0] < 50))
        boxes, keypoints = torch.zeros(0, 6), torch.zeros(0, 17, 3)
        if len(rows):
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes = torch.tensor([[*(float(c) for c in corners), 0.9, 1.0]])
            keypoints = torch.tensor([[float(columns.min()), float(rows.min()), 0.7]])
            keypoints = keypoints.expand(1, 17, 3)
        return Results(
            image, "", self.names, boxes, keypoints=keypoints if self.keypoints else None
        )


def red_block(index, x, width=20):
    image = np.full((100, 200, 3), 30, np.uint8)
    image[30:80, x : x + width] = (255, 0, 0)
    return Frame(index, index, index / 30, image)


@pytest.fixture(autouse=True)
def _ultralytics(random_detector):
    """The fakes use its records; the fixture has imported it."""


def test_frames_stay_in_order_over_batches_and_red_is_red():
    model = SeesRed()
    frames = [red_block(i, 10 + 5 * i) for i in range(19)]
    found = list(find_people(iter(frames), model, 0.25, CPU))
    assert sum(model.batches) == 19
    assert max(model.batches) > 1
    assert [frame.index for frame, _ in found] == list(range(19))
    for i, (_, seen) in enumerate(found):
        assert seen.frame == i
        assert seen.box.tolist() == [[10 + 5 * i, 30, 30 + 5 * i, 80]]
        np.testing.assert_allclose(seen.kp2d[0, 0], [10 + 5 * i, 30, 0.7], rtol=1e-6)


def test_a_closer_look_corrects_the_keypoints_of_small_people():
    image = np.full((600, 1000, 3), 30, np.uint8)
    image[300:360, 700:720] = (255, 0, 0)
    rough = Detections(
        frame=0,
        time=0.0,
        box=np.array([[698.0, 297, 721, 362], [100, 0, 500, 590], [10, 10, 40, 90]]),
        score=np.array([0.9, 0.8, 0.7]),
        track_id=np.zeros(3, np.int64),
        kp2d=np.full((3, 17, 3), 0.3),
    )
    model = SeesRed()
    ((frame, seen),) = look_closer([(Frame(0, 0, 0.0, image), rough)], model, CPU)
    assert frame.image is image
    assert model.batches == [2]  # the second one is large enough as it is
    np.testing.assert_allclose(seen.kp2d[0], np.tile([700, 300, 0.7], (17, 1)), atol=0.5)
    assert (seen.kp2d[1:] == 0.3).all()  # there is nobody in the third one's crop
    assert (seen.box == rough.box).all()


def test_no_more_frames_are_read_than_one_batch_needs():
    read = []

    def frames():
        for i in range(100):
            read.append(i)
            yield red_block(i, 50)

    people = find_people(frames(), SeesRed(), 0.25, CPU)
    next(people)
    assert len(read) <= 16


def test_a_detector_without_keypoints_gives_confidence_zero():
    ((_, seen),) = find_people([red_block(0, 50)], SeesRed(keypoints=False), 0.25, CPU)
    assert seen.kp2d.shape == (1, 17, 3)
    assert not seen.kp2d.any()


def test_a_device_that_is_too_small_is_reported():
    class Greedy(SeesRed):
        def predict(self, images, **_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with pytest.raises(OutOfMemory, match="--device cpu"):
        next(find_people([red_block(0, 50)], Greedy(), 0.25, CPU))


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
    positions = positions_by_identity(associate(sightings, tracker, 0.25))
    assert sorted(positions.values()) == sorted(
        [
            [(i, 20.0 + 3 * i) for i in range(20)],
            [(i, 250.0 - 3 * i) for i in range(20)],
            [(i, 140.0 + i % 2) for i in range(6, 20)],
        ]
    )


def test_keypoints_stay_with_their_box():
    found = associate([sighting(i, (200.0, 0.5), (20.0, 0.9)) for i in range(3)], "bytetrack", 0.25)
    for seen in found:
        np.testing.assert_array_equal(seen.kp2d[:, 0, 0], seen.box[:, 0])


def test_a_weak_detection_carries_a_person_on_but_starts_none():
    weak = [sighting(i, (50.0, 0.9 if i < 5 else 0.15), (200.0, 0.15)) for i in range(10)]
    positions = positions_by_identity(associate(weak, "bytetrack", 0.25))
    assert list(positions.values()) == [[(i, 50.0) for i in range(10)]]


def test_an_empty_frame_gives_an_empty_record():
    found = list(associate([sighting(0), sighting(1, (50.0, 0.9)), sighting(2)], "bytetrack", 0.25))
    assert [len(seen.box) for seen in found] == [0, 1, 0]


# ── what cannot be used ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{"tracker": "sort"}, {"conf": 0.0}, {"conf": 1.5}])
def test_options_that_cannot_be_meant(random_detector, options):
    with pytest.raises(UsageError):
        detect([], random_detector, device=CPU, **options)


def test_files_that_are_no_person_detector(tmp_path):
    from ultralytics.models import YOLO

    with pytest.raises(WeightsError, match="no detector at"):
        load_detector(tmp_path / "missing.pt")
    for name, content in {
        "empty.pt": b"",
        "text.pt": b"hello",
        "cut.pt": b"PK\x03\x04" * 9,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="not a readable YOLO checkpoint"):
            load_detector(tmp_path / name)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"does not end in \.pt"):
        load_detector(tmp_path / "model.onnx")
    cats = YOLO("yolo11n.yaml")
    assert isinstance(cats.model, torch.nn.Module)
    cats.model.names = dict(enumerate(["cat"] * 80))
    cats.save(tmp_path / "cats.pt")
    with pytest.raises(WeightsError, match="does not detect people"):
        load_detector(tmp_path / "cats.pt")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="not a readable YOLO checkpoint"):
        load_detector(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
