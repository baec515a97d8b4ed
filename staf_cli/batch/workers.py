"""A crew of processes on this machine, each with its own copy of everything that is loaded.

A process that dies (a segmentation fault, the system short of memory) takes one clip with it at
most. Interrupts are the parent's: the workers hear of them from it, and end when it is gone.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from staf_cli.batch.attempt import Prepare, Task, failed, line
from staf_cli.batch.events import Event, Finished, Note, Started, reporting
from staf_cli.core import files
from staf_cli.core.errors import DONE, INTERRUPTED, StafError
from staf_cli.core.interrupts import undone_by

GRACE = 0.7  # s for a worker to clean up before it is killed
KILLED = -9  # the exit code of a process that somebody, or the system, has killed


@dataclass(frozen=True)
class _Ready:
    notes: list[str]


@dataclass(frozen=True)
class _Refused:
    """Loading failed: for a reason that a user can mend, and that all workers share, or not."""

    message: str
    error: StafError | None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    prepare: Prepare
    task: Task | None = None
    ready: bool = False


def work(tasks: Sequence[Task], prepares: Sequence[Prepare]) -> Generator[Event, None, None]:
    """Do all tasks with one worker for each of `prepares`; closing it ends the workers.

    A clip whose process was killed is tried once more, after all others: the system kills
    whoever happens to be largest when memory is short, and fewer are at work by then. Any
    other death would come again. Raises StafError where nobody can work.
    """
    waiting = deque(tasks)
    killed = set[str]()
    told = set[str]()
    failure = "none could be started"
    workers: list[_Worker] = []
    with undone_by(lambda: _end(workers)):
        workers += (_hired(prepare) for prepare in prepares[: len(tasks)])
        while waiting or any(worker.task for worker in workers):
            here = [worker for worker in workers if not worker.pipe.closed]
            if not here:
                raise StafError(f"no worker process is left ({failure}); try fewer --jobs")
            heard = wait([worker.pipe for worker in here])
            for worker in [worker for worker in here if worker.pipe in heard]:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    failure = _death(worker)
                    yield from _lost(worker, workers, waiting, killed)
                    continue
                if isinstance(message, _Refused):
                    if message.error is not None:
                        raise message.error
                    failure = message.message
                    workers.remove(worker)
                    yield Note(f"a worker process could not start: {failure}")
                    continue
                if isinstance(message, _Ready):
                    yield from (Note(note) for note in message.notes if note not in told)
                    told.update(message.notes)
                    worker.ready = True
                else:
                    yield message
                if isinstance(message, _Ready | Finished):
                    worker.task = waiting.popleft() if waiting else None
                    if worker.task is None:
                        worker.pipe.close()  # it ends, and what it has loaded is freed
                    else:
                        _give(worker)
                        yield Started(worker.task.job.name)


def _lost(
    worker: _Worker, workers: list[_Worker], waiting: deque[Task], killed: set[str]
) -> Iterator[Event]:
    """Deal with a process that has died: its clip, and somebody in its place."""
    workers.remove(worker)
    how = _death(worker)
    if not worker.ready:
        yield Note(f"a worker process died while loading ({how})")
        return
    if worker.task is not None:
        job = worker.task.job
        files.sweep(job.folder)
        if worker.process.exitcode == KILLED and job.name not in killed:
            killed.add(job.name)
            waiting.append(worker.task)
            yield Note(f"{job.name}: its process was killed; it is tried once more at the end")
        else:
            hint = "; out of memory? try fewer --jobs" if job.name in killed else ""
            yield Finished(job.name, failed(job, f"its process died ({how}){hint}"))
    if waiting:
        workers.append(_hired(worker.prepare))


def _give(worker: _Worker) -> None:
    with suppress(OSError):  # it has just died: the next look at its pipe tells
        worker.pipe.send(worker.task)


def _death(worker: _Worker) -> str:
    worker.process.join()
    exitcode = worker.process.exitcode
    if exitcode is not None and exitcode < 0:
        return f"signal {-exitcode}"
    return f"exit code {exitcode}"


def _hired(prepare: Prepare) -> _Worker:
    """A new process that is getting ready."""
    context = get_context("spawn")  # a fork of a process with threads, or CUDA, may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare), daemon=True)
    with _interrupts_held():
        process.start()
    theirs.close()
    return _Worker(process, ours, prepare)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until after the block; processes started in it never hear it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Sequence[_Worker]) -> None:
    """End all processes, by force if need be, and remove what they leave half written."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        if worker.task is not None:
            files.sweep(worker.task.job.folder)


def _serve(pipe: "Connection[Any, Any]", prepare: Prepare) -> None:
    """A worker's life; what libraries do at a process's end would only take time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _obey(pipe, prepare)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    os._exit(DONE)


def _obey(pipe: "Connection[Any, Any]", prepare: Prepare) -> None:
    """Get ready, then do one clip after the other until there are no more."""
    try:
        attempt, notes = prepare()
    except Exception as error:
        known = error if isinstance(error, StafError) else None
        pipe.send(_Refused(line(error), known))
        return
    pipe.send(_Ready(notes))
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        name = task.job.name
        pipe.send(Finished(name, attempt(task, reporting(name, pipe.send))))


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Without its parent a worker would go on writing beside the command that comes next."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(INTERRUPTED)
