"""Workers without a network: what happens with a clip is written in its file."""

import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from staf_cli import video
from staf_cli.batch.ledger import Row
from staf_cli.batch.naming import Job
from staf_cli.batch.task import Task, failed_row
from staf_cli.core import files
from staf_cli.core.errors import WeightsError
from staf_cli.core.records import Clip

RESULT = "result.txt"
SLOW = 200  # steps, too many for any test


def tasks(folder: Path, **clips: str) -> list[Task]:
    """Clips with these contents; their results go to folder/out/<name>."""
    for name, content in clips.items():
        (folder / name).write_text(content)
    return [Task(Job(folder / name, folder / "out" / name, name)) for name in clips]


def load(log: Path, start: str = ""):
    """Load a worker; each task that it begins is recorded in the folder `log`.

    Args:
        log: A folder, which gets a file for each event.
        start: How loading ends: "refuse", "break" or "die"; any other text is a note.
    """
    if start == "refuse":
        raise WeightsError("no weights here; fetch them")
    if start == "break":
        raise RuntimeError("CUDA out of memory")
    if start == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    record(log, "ready")
    return (lambda task, watch: process(log, task, watch)), [start] if start else []


def process(log: Path, task: Task, watch) -> Row:
    """Do what the clip's file orders: done; fail; raise; kill once; kill; crash; slow N."""
    job = task.job
    record(log, job.name)
    words = job.video.read_text().split()
    begun = sum(1 for entry in log.iterdir() if entry.name.startswith(f"{job.name}-"))
    match words:
        case ["fail"]:
            return failed_row(job, "no good")
        case ["raise"]:
            raise ZeroDivisionError("by zero")
        case ["kill", *once] if not once or begun == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["crash"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        case ["slow", steps]:
            with files.atomic(job.folder / "part.txt") as temporary:
                for _ in watch("track", range(int(steps)), int(steps)):
                    temporary.write_text("half")
                    time.sleep(0.1)
    with files.atomic(job.folder / RESULT) as temporary:
        temporary.write_text(job.name)
    return Row(str(job.video.absolute()), job.name, "done", people=1, frames=len(words))


def make_walking_clips(folder: Path) -> Path:
    """Write two clips of a walking person, for real workers; returns the folder."""
    # Imports torch, which takes seconds: workers without a network do not need it.
    from tests.support.made_people import open_body
    from tests.support.walking_person import FPS, SIZE, film

    folder.mkdir(parents=True)
    for name, frames in (("first.mp4", 26), ("second.mp4", 28)):
        path = folder / name
        clip = Clip(path, *SIZE, float(FPS), Fraction(1, FPS), frames, has_audio=False)
        video.write(path, clip, film(open_body(), frames))
    return folder


def person_arrays(output: Path) -> dict[str, dict[str, bytes]]:
    """Every person's arrays in the results of a folder."""
    found = {}
    for path in sorted(output.rglob("person_*.npz")):
        with np.load(path) as person:
            found[path.relative_to(output).as_posix()] = {k: person[k].tobytes() for k in person}
    return found


def record(log: Path, event: str) -> None:
    """Make a new file in the log, named after the event and the process."""
    (log / f"{event}-{os.getpid()}-{time.monotonic_ns()}").touch()


def count_events(log: Path) -> dict[str, int]:
    """How often each event happened."""
    names = [entry.name.rsplit("-", 2)[0] for entry in log.iterdir()]
    return {name: names.count(name) for name in names}


def worker_pids(log: Path) -> set[int]:
    """The ids of all processes that were ever ready."""
    return {int(entry.name.split("-")[1]) for entry in log.glob("ready-*")}
