"""`staf` in a child process that stays, with a detector and a network that cost nothing.

Everything else is real: the file is decoded, followed, drawn and encoded, and results are written.
A child that dies or hangs in a run is noticed, reported, and replaced by the next one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from threading import Timer
from types import SimpleNamespace
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from staf_cli.core.records import Detections, Frame
from staf_cli.model.network import WindowNetwork
from staf_cli.model.regressor import MeanParameters, Theta
from tests.support.paths import ROOT
from tests.support.replacing import replace_attributes


@dataclass(frozen=True)
class Outcome:
    """What became of one run; `code` is None where the process died or was ended."""

    code: int | None
    out: str
    err: str
    seconds: float


class Child:
    """A process that runs one `staf` command after another."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, *arguments: object, limit: float) -> Outcome:
        """Run `staf` with these arguments; the process is ended after `limit` s."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        begun = time.perf_counter()
        ending = Timer(limit, process.kill)
        ending.start()
        try:
            process.stdin.write(json.dumps([str(one) for one in arguments]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            ending.cancel()
        if answer:
            return Outcome(**json.loads(answer))
        process.wait()
        return Outcome(None, "", f"signal {-process.returncode}", time.perf_counter() - begun)

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.staf_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            assert self.process.stdout is not None
            self.process.stdout.readline()  # the libraries are loaded: no file's time is spent
        return self.process


class MeanPoseNetwork(WindowNetwork):
    """Answers every window with the mean pose, through the engine's own batches and windows."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.AdaptiveAvgPool2d(1)
        self.mean = MeanParameters()

    def base_model(self, phi_0: Tensor) -> tuple[list[Theta], Tensor]:
        return [self.mean(len(phi_0))], phi_0

    def frame_maps(self, phi_0: Tensor) -> Tensor:
        return phi_0

    def stack(self, frames: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(frames))

    def recover(self, maps: Tensor, windows: Tensor) -> tuple[Theta, Theta, Theta]:
        mean = self.mean(len(windows))
        return mean, mean, mean


def find_one(frames: Iterable[Frame], *_: object) -> Iterator[tuple[Frame, Detections]]:
    """Find one person in the middle of every frame."""
    for frame in frames:
        height, width = frame.image.shape[:2]
        box = np.array([[0.3 * width, 0.1 * height, 0.7 * width, 0.9 * height]])
        nowhere = np.zeros((1, 17, 3))
        seen = Detections(frame.index, frame.time, box, np.ones(1), np.ones(1, np.int64), nowhere)
        yield frame, seen


def _put_in_place() -> None:
    from staf_cli.checkpoints import registry
    from staf_cli.pipeline import loading
    from staf_cli.tracking import detection

    shipped = registry.shipped("open_body.npz")
    replace_attributes(registry, locate_detector=lambda *_: shipped)
    replace_attributes(
        detection,
        load_detector=lambda *_: SimpleNamespace(has_keypoints=False),
        find_people=find_one,
        associate=lambda sightings, *_: (seen for _, seen in sightings),
    )
    replace_attributes(
        loading, load_network=lambda *_: MeanPoseNetwork(), prepare=cache(loading.prepare)
    )


def _serve() -> None:
    """Run what is asked for, one line of JSON each; both ends of the terminal go to files."""
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        from staf_cli.cli import app

        torch.set_num_threads(1)
        _put_in_place()
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            begun = time.perf_counter()
            sys.argv = ["staf", *json.loads(line)]
            try:
                app.main()
            except SystemExit as stop:
                code = int(stop.code or 0)
            printed, complaints = _taken(sys.stdout, out), _taken(sys.stderr, err)
            outcome = Outcome(code, printed, complaints, time.perf_counter() - begun)
            print(json.dumps(asdict(outcome)), file=answers, flush=True)


def _taken(stream: IO[str], file: IO[bytes]) -> str:
    """What was written to a stream since the last time, by Python or by a library below it."""
    stream.flush()
    file.seek(0)
    text = file.read().decode("utf-8", "backslashreplace")
    file.seek(0)
    file.truncate()
    return text


if __name__ == "__main__":
    _serve()
