"""Rendering of sample sets of synthetic people, on all cores of the CPU.

A scene takes many small steps, between which a GPU would wait; sixteen cores are faster.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import OutOfMemory
from staf_cli.training.loop import Say
from staf_cli.training.samples import Labels, write_samples
from staf_cli.training.studio.scenes import Split, Studio, open_studio, render_sequences

AT_ONCE = 32  # frames rendered together
REPORT_EVERY = 1000  # frames
WORTH_PROCESSES = 2000  # frames from which several processes are faster than one

Chunk = tuple[NDArray[np.uint8], Labels]  # images and labels of some scenes


@dataclass(frozen=True)
class RenderJob:
    """A sample set to render; the same job always makes the same set."""

    name: str  # of its folder
    split: Split
    count: int  # scenes
    frames: int  # of each scene
    seed: int

    def chunks(self) -> list[range]:
        """Return the numbers of the scenes that are rendered together."""
        step = max(1, AT_ONCE // self.frames)
        return [range(a, min(a + step, self.count)) for a in range(0, self.count, step)]


def render_set(job: RenderJob, data: Path, body: BodyArrays, say: Say) -> None:
    """Render a sample set into a folder of prepared data.

    Args:
        job: What to render; its name is the set's folder.
        data: Prepared data: what scenes are made of, and where the set is written.
        body: The people's body.
        say: Called with a line now and then.

    Raises:
        DatasetError: The data lacks something that scenes are made of.
        OutputError: The folder cannot be written.
        OutOfMemory: A rendering process was ended.
    """
    opened = partial(open_studio, data, body, job.split, torch.device("cpu"))
    studio = opened()  # errors in DATA are raised here, not in a process
    processes = _cores() if job.count * job.frames >= WORTH_PROCESSES else 1
    if processes > 1:
        chunks = _render_in_processes(job, opened, processes)
    else:
        chunks = (_render(job, studio, scenes) for scenes in job.chunks())
    write_samples(data / job.name, _reported(chunks, job, say), job.count, job.frames)


def _render_in_processes(
    job: RenderJob, opened: Callable[[], Studio], processes: int
) -> Iterator[Chunk]:
    """Render the same chunks in the same order in several processes, a few chunks ahead."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start_process, (opened,))
    waiting: deque[Future[Chunk]] = deque()
    try:
        for scenes in job.chunks():
            waiting.append(pool.submit(_render_in_process, job, scenes))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OutOfMemory(
            f"{job.name}: a process that rendered was ended, perhaps for want of memory; "
            "free some and go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_studio: Studio | None = None  # of a rendering process


def _start_process(opened: Callable[[], Studio]) -> None:
    global _studio
    torch.set_num_threads(1)
    _studio = opened()


def _render_in_process(job: RenderJob, scenes: range) -> Chunk:
    assert _studio is not None
    return _render(job, _studio, scenes)


def _render(job: RenderJob, studio: Studio, scenes: range) -> Chunk:
    generator = torch.Generator().manual_seed(job.seed * 1_000_003 + scenes.start)
    rendered = render_sequences(studio, len(scenes), job.frames, generator)
    return rendered.images, rendered.labels


def _reported(chunks: Iterator[Chunk], job: RenderJob, say: Say) -> Iterator[Chunk]:
    """Yield the chunks, and report progress every REPORT_EVERY frames."""
    done = reported = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk[0])
        if done * job.frames - reported >= REPORT_EVERY:
            reported = done * job.frames
            say(f"{job.name}: {done} of {job.count} scenes")


def _cores() -> int:
    """Return the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
