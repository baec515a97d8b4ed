"""The detector: a YOLO pose network with random weights, against ultralytics' own prediction."""

import os
import subprocess
import sys
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from staf_cli.core import compiled
from staf_cli.core.compiled import openvino_version
from staf_cli.core.errors import OutOfMemory, WeightsError
from staf_cli.core.records import Frame
from staf_cli.tracking import compiled_detector as compiled_detector_module
from staf_cli.tracking.compiled_detector import load_compiled_detector
from staf_cli.tracking.detector import TorchDetector, load_torch_detector, load_yolo
from staf_cli.tracking.loading import load_detector
from tests.support.paths import ROOT

CPU = torch.device("cpu")
with_openvino = pytest.mark.skipif(openvino_version(CPU) is None, reason="needs OpenVINO")


def torch_detector(path, dtype=torch.float32):
    return load_torch_detector(path, CPU, dtype)


def compiled_detector(path, dtype=torch.float32):
    detector = load_compiled_detector(path, dtype)
    assert detector is not None
    return detector


either = pytest.mark.parametrize(
    "load", [torch_detector, pytest.param(compiled_detector, marks=with_openvino)]
)


def noise_frames(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        Frame(i, i, i / 25, random.integers(0, 256, (48, 80, 3)).astype(np.uint8))
        for i in range(count)
    ]


@either
@pytest.mark.parametrize("size", [(48, 80), (100, 60), (64, 64)])
def test_the_same_people_as_ultralytics_finds(random_detector, size, load):
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(3)]
    found = load(random_detector).find(images, 160, 0.3)
    theirs = load_yolo(random_detector).predict(
        [image[..., ::-1].copy() for image in images],
        imgsz=160, conf=0.3, iou=0.7, classes=[0], rect=True, verbose=False, save=False,
    )  # fmt: skip
    for people, result in zip(found, theirs, strict=True):
        assert len(people.box) == len(result.boxes) > 5
        np.testing.assert_allclose(people.score, result.boxes.conf.numpy(), atol=1e-4)
        np.testing.assert_allclose(people.box, result.boxes.xyxy.numpy(), atol=0.02)
        np.testing.assert_allclose(people.kp2d, result.keypoints.data.numpy(), atol=0.05)


@either
def test_half_as_many_bits_move_little(random_detector, load):
    images = [frame.image for frame in noise_frames(2)]
    full, half = load(random_detector), load(random_detector, torch.bfloat16)
    for one, other in zip(full.find(images, 160, 0.3), half.find(images, 160, 0.3), strict=True):
        assert one.kp2d.dtype == other.kp2d.dtype == np.float64
        nearest = np.abs(one.box[:, None] - other.box[None]).max(-1).min(1)
        assert np.median(nearest) < 1.0
        assert np.abs(np.sort(one.score)[-5:] - np.sort(other.score)[-5:]).max() < 0.02


def test_convolutions_have_the_format_that_is_asked_for(random_detector):
    full, half = torch_detector(random_detector), torch_detector(random_detector, torch.bfloat16)
    assert next(half.network.parameters()).dtype == torch.bfloat16
    assert next(full.network.parameters()).is_contiguous(memory_format=torch.channels_last)


@either
def test_a_detector_without_keypoints_gives_confidence_zero(tmp_path, load):
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    model = YOLO("yolo11n.yaml")
    assert isinstance(model.model, torch.nn.Module)
    model.model.names = {i: "person" if i == 7 else f"class {i}" for i in range(80)}
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            branch[-1].bias[7] = 0.5
    model.save(tmp_path / "boxes.pt")
    detector = load(tmp_path / "boxes.pt")
    (found,) = detector.find([noise_frames(1)[0].image], 160, 0.3)
    assert not detector.has_keypoints
    assert len(found.box)
    assert found.kp2d.shape == (len(found.box), 17, 3)
    assert not found.kp2d.any()


@with_openvino
def test_a_compiled_detector_is_kept_and_found_again_without_ultralytics(
    sparing_detector, tmp_path, monkeypatch
):
    monkeypatch.setattr(compiled, "data_folder", lambda: tmp_path)
    images = [frame.image for frame in noise_frames(2)]
    first = compiled_detector(sparing_detector).find(images, 160, 0.3)
    (kept,) = (tmp_path / "openvino").iterdir()
    monkeypatch.setattr(compiled_detector_module, "load_yolo", None)
    second = compiled_detector(sparing_detector).find(images, 160, 0.3)
    for one, other in zip(first, second, strict=True):
        assert len(one.box) > 0
        np.testing.assert_array_equal(one.kp2d, other.kp2d)
    assert list((tmp_path / "openvino").iterdir()) == [kept]


@with_openvino
def test_heads_that_are_not_known_stay_with_torch(tmp_path):
    from ultralytics.models import YOLO

    model = YOLO("yolo11n-seg.yaml")
    assert isinstance(model.model, torch.nn.Module)
    model.model.names = {i: "person" if i == 0 else f"class {i}" for i in range(80)}
    model.save(tmp_path / "segments.pt")
    assert load_compiled_detector(tmp_path / "segments.pt", torch.float32) is None
    assert isinstance(load_detector(tmp_path / "segments.pt", CPU, torch.float32), TorchDetector)


@with_openvino
def test_the_fastest_detector_is_chosen(sparing_detector):
    fastest = load_detector(sparing_detector, CPU, torch.float32)
    assert isinstance(fastest, compiled_detector_module.CompiledDetector)


def test_the_same_is_found_however_slow_the_clock_says_it_was(random_detector, monkeypatch):
    """As on a machine that is suspended in mid-batch: a hundred seconds between two looks."""
    from ultralytics.utils import nms

    detector = torch_detector(random_detector)
    images = [frame.image for frame in noise_frames(3)]
    usual = detector.find(images, 640, 0.1)

    monkeypatch.setattr(nms, "time", SimpleNamespace(time=count(0, 100).__next__))
    slow = detector.find(images, 640, 0.1)
    for one, other in zip(usual, slow, strict=True):
        assert len(one.box)
        np.testing.assert_array_equal(one.box, other.box)


def test_nothing_is_written_printed_asked_or_left_behind(sparing_detector, tmp_path):
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

frames = [Frame(i, i, i / 25, np.zeros((48, 80, 3), np.uint8)) for i in range(1)]
assert len(list(detect(frames, Path(sys.argv[1]), device=torch.device("cpu")))) == 1
assert dict(os.environ) == environment, dict(os.environ).items() - environment.items()
assert torch.get_num_threads() == 2
assert cv2.getNumThreads() == 2
"""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "YOLO_", "STAF_"))}
    done = subprocess.run(
        [sys.executable, "-c", script, str(sparing_detector)],
        cwd=home,
        # Two threads that wait in a loop would take minutes beside another test.
        env={
            **kept,
            "HOME": str(home),
            "STAF_DATA": str(tmp_path / "data"),
            "PYTHONPATH": str(ROOT),
            "OMP_WAIT_POLICY": "PASSIVE",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")
    assert list(home.rglob("*")) == []


def test_a_device_that_is_too_small_is_reported(random_detector, monkeypatch):
    detector = torch_detector(random_detector)

    def greedy(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(detector.network, "forward", greedy)
    with pytest.raises(OutOfMemory, match="--device cpu"):
        detector.find([noise_frames(1)[0].image], 160, 0.3)


def test_files_that_are_no_person_detector(tmp_path):
    from ultralytics.models import YOLO

    with pytest.raises(WeightsError, match="no detector at"):
        load_detector(tmp_path / "missing.pt", CPU, torch.float32)
    for name, content in {
        "empty.pt": b"",
        "text.pt": b"hello",
        "cut.pt": b"PK\x03\x04" * 9,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="not a readable YOLO checkpoint"):
            load_detector(tmp_path / name, CPU, torch.float32)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"does not end in \.pt"):
        load_detector(tmp_path / "model.onnx", CPU, torch.float32)
    cats = YOLO("yolo11n.yaml")
    assert isinstance(cats.model, torch.nn.Module)
    cats.model.names = dict(enumerate(["cat"] * 80))
    cats.save(tmp_path / "cats.pt")
    with pytest.raises(WeightsError, match="does not detect people"):
        load_detector(tmp_path / "cats.pt", CPU, torch.float32)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="not a readable YOLO checkpoint"):
        load_detector(tmp_path / "evil.pt", CPU, torch.float32)
    assert not (tmp_path / "ran").exists()
