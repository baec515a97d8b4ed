"""The person detector, compiled: its convolutions by OpenVINO, its answers decoded here.

Ultralytics decodes every place of every picture; here only the few that show somebody are, and
neither ultralytics nor torch is needed once the network has been translated.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor, nn

from staf_cli.core.compiled import Compiled, Facts, compiled
from staf_cli.core.files import sha256
from staf_cli.core.records import COCO_KEYPOINTS, Float, Image
from staf_cli.tracking.detector import OVERLAP, Found, load_yolo
from staf_cli.tracking.letterbox import Letterbox, letterboxed

HEADS = ("Detect", "Pose")  # whose raw answers are known here
EXAMPLE = (1, 352, 640, 3)  # a picture, as large as one often is
MOST = 300  # people in a picture, as ultralytics has it


@dataclass(frozen=True)
class CompiledDetector:
    """A YOLO network that OpenVINO computes."""

    network: Compiled
    person: int  # the class's number
    steps: tuple[int, ...]  # px of the input between the places of each of its maps
    has_keypoints: bool

    def find(self, images: list[Image], pixels: int, conf: float) -> list[Found]:
        """Find the people in pictures of one size, see `Detector.find`."""
        batch, letterbox = letterboxed(images, pixels, max(self.steps))
        answers = self.network(batch)
        centre, step = _places(batch.shape[1:3], self.steps)
        return [
            _people([answer[n] for answer in answers], self.person, conf, centre, step, letterbox)
            for n in range(len(images))
        ]


def _places(shape: tuple[int, ...], steps: tuple[int, ...]) -> tuple[Float, Float]:
    """The centres (A, 2) x, y px of an input's places, and the steps (A,) px of their maps."""
    centres, lengths = [], []
    for step in steps:
        rows, columns = np.mgrid[: shape[0] // step, : shape[1] // step]
        centres.append(step * (np.stack([columns, rows], -1).reshape(-1, 2) + 0.5))
        lengths.append(np.full(rows.size, float(step)))
    return np.concatenate(centres), np.concatenate(lengths)


def _people(
    answers: list[Float], person: int, conf: float, centre: Float, step: Float, where: Letterbox
) -> Found:
    """Decode a picture's answers: sides (4 b, A), classes (C, A), and keypoints (51, A)."""
    sides, classes, *keypoints = answers
    likely = np.flatnonzero((classes.argmax(0) == person) & (expit(classes[person]) > conf))
    centre, step = centre[likely], step[likely, None]
    score = expit(classes[person, likely].astype(np.float64))
    # How far each side is from the centre, in steps, as a distribution over whole numbers.
    bins = softmax(sides[:, likely].astype(np.float64).reshape(4, len(sides) // 4, len(likely)), 1)
    far = np.einsum("sba,b->as", bins, np.arange(bins.shape[1])) * step  # (N, 4) px
    box = np.concatenate([centre - far[:, :2], centre + far[:, 2:]], 1)
    corners = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(corners.tolist(), score.tolist(), 0.0, OVERLAP), int)[:MOST]
    kp2d = np.zeros((len(kept), len(COCO_KEYPOINTS), 3))
    if keypoints:
        raw = keypoints[0][:, likely[kept]].astype(np.float64).T.reshape(kp2d.shape)
        places = centre[kept, None] + (2 * raw[..., :2] - 0.5) * step[kept, None]
        kp2d[..., :2] = where.to_picture(places)
        kp2d[..., 2] = expit(raw[..., 2])
    return Found(where.to_picture(box[kept].reshape(-1, 2)).reshape(-1, 4), score[kept], kp2d)


class _Raw(nn.Module):
    """From pictures (B, H, W, 3) uint8 to what ultralytics' head would decode."""

    def __init__(self, network: Any, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.head = network.model[-1]
        self.names = names

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        self.head.training = True  # the head alone: it then returns what it else decodes
        try:
            answers = self.network(pictures.permute(0, 3, 1, 2).float() / 255)
        finally:
            self.head.training = False
        return tuple(answers[name] for name in self.names)


def _build(path: Path) -> tuple[nn.Module, Facts]:
    """Load a checkpoint's network up to the raw answers; RuntimeError for unknown heads."""
    model = load_yolo(path)
    network = model.model
    head = network.model[-1].__class__.__name__
    if head not in HEADS or getattr(network, "end2end", False):
        raise RuntimeError(f"the answers of {head} cannot be decoded here")
    network.fuse(verbose=False)
    network.eval().requires_grad_(False)
    has_keypoints = head == "Pose"
    names = ["boxes", "scores", *(["kpts"] if has_keypoints else [])]
    (person,) = (number for number, name in model.names.items() if name == "person")
    facts = {
        "person": person,
        "steps": network.stride.int().tolist(),
        "has_keypoints": has_keypoints,
    }
    return _Raw(network, names).eval(), facts


def load_compiled_detector(path: Path, dtype: torch.dtype) -> CompiledDetector | None:
    """Load a detector for the CPU, compiled.

    Args:
        path: a YOLO checkpoint (.pt), see `load_torch_detector`.
        dtype: number format of its convolutions.

    Returns:
        The detector; None where torch is to compute, or the file is not there.

    Raises:
        WeightsError: the file is damaged, or detects something else.
    """
    if not path.is_file():
        return None
    network = compiled(
        lambda: _build(path),
        sha256(path),
        torch.zeros(EXAMPLE, dtype=torch.uint8),
        [-1, -1, -1, 3],
        dtype,
    )
    if network is None:
        return None
    facts = network.facts
    return CompiledDetector(network, facts["person"], tuple(facts["steps"]), facts["has_keypoints"])
