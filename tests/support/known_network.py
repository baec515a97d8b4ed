"""A network whose answers are known, and what an evaluation says of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from staf_cli.body.posing import rotation_matrices
from staf_cli.core import progress
from staf_cli.core.crop import square_box
from staf_cli.evaluation import evaluation
from staf_cli.evaluation.datasets.layouts import open_dataset
from staf_cli.evaluation.joints import read_regressor
from staf_cli.evaluation.options import EvaluationOptions
from staf_cli.pipeline.loading import open_body
from staf_cli.recovery import engine
from staf_cli.recovery.placement import Estimate


def answer(poses: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network answer these poses (N, 72), one after the other, with the mean shape."""
    seen: list[int] = []

    def infer(frames, tracks, network, crop_scale, settings, cadence):
        list(frames)
        for number, track in enumerate(tracks):
            count = len(track.frame)
            rows = slice(len(seen), len(seen) + count)
            seen.extend(track.frame)
            rotmats: Any = rotation_matrices(poses[rows]).numpy()
            betas: Any = np.zeros((count, 10))
            camera: Any = np.tile([0.9, 0, 0], (count, 1))
            made = Estimate(rotmats, betas, camera, square_box(track.box, crop_scale))
            yield number, slice(count), made

    monkeypatch.setattr(engine, "infer_tracks", infer)
    monkeypatch.setattr(engine, "prepare", lambda network, settings: network)


def measure(
    folder: Path,
    benchmark: str,
    regressor: Path | None,
    poses: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    brought: Any = None,
) -> Any:
    """The table (`evaluate`) of the network that answers the poses."""
    body = open_body("smpl-neutral")
    dataset = open_dataset(folder, benchmark, open_body)
    answer(poses, monkeypatch)
    network: Any = torch.nn.Linear(1, 1)  # is never asked
    one = evaluation.Contender("known", "known 0", network, body, 1.1, brought)
    options = EvaluationOptions(("network",), "cpu")
    joints = None if regressor is None else read_regressor(regressor)
    return evaluation.evaluate(dataset, [one], options, None, progress.silent, joints)
