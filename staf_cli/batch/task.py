"""One clip processed by a worker; whatever happens becomes one row."""

import os
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from staf_cli.batch.events import Event
from staf_cli.batch.ledger import DAMAGED, DONE, FAILED, NOBODY, Row
from staf_cli.batch.naming import Job, local_path
from staf_cli.core.errors import NobodyFound, describe
from staf_cli.core.files import printable

if TYPE_CHECKING:  # torch takes seconds: only workers import it
    from staf_cli.core.progress import Watch
    from staf_cli.pipeline.loading import Tools
    from staf_cli.pipeline.options import Options

LESS_MEMORY = "fewer --jobs"  # the advice to a batch that is out of memory


@dataclass(frozen=True)
class Task:
    """A job, and what an earlier run has found out about it."""

    job: Job
    known_empty: str = ""  # `Row.identity` of an earlier run that found nobody in the clip


# Processes one clip and returns its row, also after an error. Only interrupts are raised.
RunTask = Callable[[Task, "Watch"], Row]
# Loads what a worker needs, once; returns its RunTask, and notes for the user. It is pickled and
# called in the worker's own process.
LoadWorker = Callable[[], tuple[RunTask, list[str]]]


class WorkerPool(Protocol):
    """Workers that process several clips at a time."""

    def submit(self, tasks: Sequence[Task]) -> Generator[Event, None, None]:
        """Process all tasks; closing the generator ends the workers and what they are doing.

        Args:
            tasks: the clips; they are started in this order.

        Yields:
            What happens, one `Finished` for each task among it.

        Raises:
            StafError: no worker can work.
        """
        ...


def load_worker(options: "Options", threads: int | None) -> tuple[RunTask, list[str]]:
    """Load network, body and detector once, for all clips of a worker.

    Args:
        options: how clips are processed.
        threads: how many threads the CPU's computations may use; None: all.

    Returns:
        The function that processes one clip, and notes for the user.

    Raises:
        StafError: something is missing, before any clip is touched.
    """
    import cv2
    import torch

    from staf_cli.pipeline.loading import prepare as load_tools

    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    tools, notes = load_tools(options)

    def run_task(task: Task, watch: "Watch") -> Row:
        return _run_task(task, options, tools, watch)

    return run_task, notes


def failed_row(job: Job, message: str, seconds: float = 0.0) -> Row:
    """Return the row of a clip that could not be processed.

    Args:
        job: the clip.
        message: why, in one line.
        seconds: how long it took to fail.

    Returns:
        The row, with the message escaped for terminals and tables.
    """
    return Row(
        str(job.video.absolute()), job.name, FAILED, seconds=seconds, message=printable(message)
    )


def _run_task(task: Task, options: "Options", tools: "Tools", watch: "Watch") -> Row:
    """Return the row of one clip; only an interrupt is raised."""
    start = time.monotonic()
    try:
        return _process(task, options, tools, watch)
    except Exception as error:
        if os.environ.get("STAF_DEBUG"):
            traceback.print_exc()
        seconds = round(time.monotonic() - start, 3)
        return failed_row(task.job, describe(error, LESS_MEMORY), seconds)


def _process(task: Task, options: "Options", tools: "Tools", watch: "Watch") -> Row:
    """Return the row of a clip that has no error; errors of `run_clip` are raised."""
    from staf_cli.pipeline import clip as clip_pipeline

    job = task.job
    local_path(job.video)  # raises what an address is told
    clip = str(job.video.absolute())
    start = time.monotonic()
    if task.known_empty and not options.force:
        identity = clip_pipeline.tracking_key(job.video, options, tools)
        if identity == task.known_empty:
            message = "nobody was seen when it was last looked through"
            return Row(clip, job.name, NOBODY, True, message=message, identity=identity)
    try:
        summary = clip_pipeline.run_clip(job.video, job.folder, options, tools, watch)
    except NobodyFound as error:
        identity = clip_pipeline.tracking_key(job.video, options, tools)
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
        summary.times,
    )
