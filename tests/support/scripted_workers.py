"""Crews without a network: what is to happen with a clip is written in its file."""

import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from staf_cli import video
from staf_cli.batch.attempt import Task, failed
from staf_cli.batch.clips import Job
from staf_cli.batch.ledger import Row
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


def prepare(diary: Path, greeting: str = ""):
    """Gets ready to obey; everything that is begun is noted in the folder `diary`."""
    if greeting == "refuse":
        raise WeightsError("no weights here; fetch them")
    if greeting == "break":
        raise RuntimeError("CUDA out of memory")
    if greeting == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    note(diary, "ready")
    return (lambda task, watch: obey(diary, task, watch)), [greeting] if greeting else []


def obey(diary: Path, task: Task, watch) -> Row:
    """done; fail; raise; kill once; kill; crash; slow N"""
    job = task.job
    note(diary, job.name)
    words = job.video.read_text().split()
    begun = sum(1 for entry in diary.iterdir() if entry.name.startswith(f"{job.name}-"))
    match words:
        case ["fail"]:
            return failed(job, "no good")
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


def walks(folder: Path) -> Path:
    """Two clips of somebody walking, for real crews; gives the folder."""
    from tests.support.made_people import (
        open_body,  # torch takes seconds: crews without a network go without
    )
    from tests.support.walking_person import FPS, SIZE, film

    folder.mkdir(parents=True)
    for name, frames in (("first.mp4", 26), ("second.mp4", 28)):
        path = folder / name
        clip = Clip(path, *SIZE, float(FPS), Fraction(1, FPS), frames, has_audio=False)
        video.write(path, clip, film(open_body(), frames))
    return folder


def arrays(output: Path) -> dict[str, dict[str, bytes]]:
    """Every person's arrays in the results of a folder."""
    found = {}
    for path in sorted(output.rglob("person_*.npz")):
        with np.load(path) as person:
            found[path.relative_to(output).as_posix()] = {k: person[k].tobytes() for k in person}
    return found


def note(diary: Path, what: str) -> None:
    """A new file in the diary, named after what happened and the process."""
    (diary / f"{what}-{os.getpid()}-{time.monotonic_ns()}").touch()


def noted(diary: Path) -> dict[str, int]:
    """How often each thing happened."""
    names = [entry.name.rsplit("-", 2)[0] for entry in diary.iterdir()]
    return {name: names.count(name) for name in names}


def pids(diary: Path) -> set[int]:
    """Of all processes that were ever ready."""
    return {int(entry.name.split("-")[1]) for entry in diary.glob("ready-*")}
