"""One clip tried: whatever happens becomes one row."""

import os
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from staf_cli.batch.clips import Job
from staf_cli.batch.events import Event
from staf_cli.batch.ledger import DAMAGED, DONE, FAILED, NOBODY, Row
from staf_cli.core.errors import NobodyFound, StafError
from staf_cli.core.files import printable

if TYPE_CHECKING:  # torch takes seconds: only who computes imports it
    from staf_cli.pipeline.loading import Tools
    from staf_cli.pipeline.options import Options
    from staf_cli.pipeline.passes import Watch


@dataclass(frozen=True)
class Task:
    """A job, and what an earlier run looked through in vain (`Row.identity`), if it did."""

    job: Job
    in_vain: str = ""


Attempt = Callable[[Task, "Watch"], Row]
# Makes what tries clips, and lines for the user; it is sent to other processes.
Prepare = Callable[[], tuple[Attempt, list[str]]]
# What a crew is: does tasks and tells of them; closing it ends all that is at work.
Work = Callable[[Sequence[Task]], Generator[Event, None, None]]


def prepare(options: "Options", threads: int | None) -> tuple[Attempt, list[str]]:
    """Load everything once; gives a function that does one clip after the other.

    threads: how many the CPU's computations may use; None: all. Raises StafError where
    something is missing, before any clip is touched.
    """
    import cv2
    import torch

    from staf_cli.pipeline.loading import prepare as load_tools

    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    tools, notes = load_tools(options)

    def attempt(task: Task, watch: "Watch") -> Row:
        return _attempt(task, options, tools, watch)

    return attempt, notes


def failed(job: Job, message: str, seconds: float = 0.0) -> Row:
    """The row of a clip that could not be done."""
    return Row(
        str(job.video.absolute()), job.name, FAILED, seconds=seconds, message=printable(message)
    )


def _attempt(task: Task, options: "Options", tools: "Tools", watch: "Watch") -> Row:
    """The row of one clip. Only an interrupt is raised."""
    start = time.monotonic()
    try:
        return _done(task, options, tools, watch)
    except Exception as error:
        if os.environ.get("STAF_DEBUG"):
            traceback.print_exc()
        return failed(task.job, line(error), round(time.monotonic() - start, 3))


def _done(task: Task, options: "Options", tools: "Tools", watch: "Watch") -> Row:
    """The row of a clip that has been looked through; raises what `pipeline.run` does."""
    from staf_cli.pipeline import clip as clip_pipeline

    job = task.job
    clip = str(job.video.absolute())
    start = time.monotonic()
    if task.in_vain and not options.force:
        identity = clip_pipeline.identity(job.video, options, tools)
        if identity == task.in_vain:
            message = "nobody was seen when it was last looked through"
            return Row(clip, job.name, NOBODY, True, message=message, identity=identity)
    try:
        summary = clip_pipeline.run(job.video, job.folder, options, tools, watch)
    except NobodyFound as error:
        identity = clip_pipeline.identity(job.video, options, tools)
        seconds = round(time.monotonic() - start, 3)
        return Row(clip, job.name, NOBODY, seconds=seconds, message=str(error), identity=identity)
    return Row(
        clip,
        job.name,
        DAMAGED if summary.damage else DONE,
        summary.reused,
        len(summary.people),
        summary.frames,
        summary.damage.packets + summary.damage.missing,
        round(sum(summary.seconds.values()), 3),
        "; ".join(summary.notes),
    )


def line(error: Exception) -> str:
    """What a user is told of an error."""
    if isinstance(error, StafError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory; close other programs, or try fewer --jobs"
    if isinstance(error, OSError):
        return f"{(error.strerror or str(error)).lower()}: {error.filename or 'system'}"
    return (
        f"unforeseen {type(error).__name__}: {' '.join(str(error).split())[:200]}; "
        "please report it with what STAF_DEBUG=1 prints"
    )
