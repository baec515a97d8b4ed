"""A pool of worker processes on this machine, each with its own copy of all that is loaded.

A process that dies (a segmentation fault, the system short of memory) loses at most one clip.
Workers ignore Ctrl-C: the parent process ends them, and they end when it is gone.
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

from staf_cli.batch.events import Event, Finished, Note, Started, progress_callback
from staf_cli.batch.task import LESS_MEMORY, LoadWorker, Task, failed_row
from staf_cli.core import memory
from staf_cli.core.errors import DONE, INTERRUPTED, StafError, describe
from staf_cli.core.interrupts import cleanup, end_at_once
from staf_cli.result import journal

GRACE = 0.7  # s for a worker to clean up before it is killed
KILLED = -9  # the exit code of a process that the system, or a user, has killed


@dataclass(frozen=True)
class _Ready:
    """Message of a worker: all is loaded."""

    notes: list[str]


@dataclass(frozen=True)
class _LoadFailed:
    """Message of a worker: loading has failed."""

    message: str
    error: StafError | None  # one that the user can correct, and that all workers share


@dataclass
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    load: LoadWorker
    task: Task | None = None
    ready: bool = False


@dataclass(frozen=True)
class ProcessPool:
    """A worker process for each of `loaders`."""

    loaders: tuple[LoadWorker, ...]

    def submit(self, tasks: Sequence[Task]) -> Generator[Event, None, None]:
        """Process all tasks; closing the generator ends all workers.

        A clip whose process was killed is tried once more, after all others: where memory is
        short the system kills the largest process, and fewer are running by then. Any other
        death would happen again.

        Args:
            tasks: the clips; they are started in this order.

        Yields:
            What happens, one `Finished` for each task among it.

        Raises:
            StafError: no worker can work.
        """
        queue = deque(tasks)
        killed = set[str]()
        shown = set[str]()
        failure = "none could be started"
        workers: list[_Worker] = []
        with cleanup(lambda: _end(workers)):
            workers += (_start(load) for load in self.loaders[: len(tasks)])
            while queue or any(worker.task for worker in workers):
                alive = [worker for worker in workers if not worker.pipe.closed]
                if not alive:
                    raise StafError(f"no worker process is left ({failure}); try {LESS_MEMORY}")
                readable = wait([worker.pipe for worker in alive])
                for worker in [worker for worker in alive if worker.pipe in readable]:
                    try:
                        message = worker.pipe.recv()
                    except (EOFError, OSError):
                        failure = _cause_of_death(worker)
                        yield from _replace(worker, workers, queue, killed)
                        continue
                    if isinstance(message, _LoadFailed):
                        if message.error is not None:
                            raise message.error
                        failure = message.message
                        workers.remove(worker)
                        yield Note(f"a worker process could not start: {failure}")
                        continue
                    if isinstance(message, _Ready):
                        yield from (Note(note) for note in message.notes if note not in shown)
                        shown.update(message.notes)
                        worker.ready = True
                    else:
                        yield message
                    if isinstance(message, _Ready | Finished):
                        worker.task = queue.popleft() if queue else None
                        if worker.task is None:
                            worker.pipe.close()  # it ends, and what it has loaded is freed
                        else:
                            _send_task(worker)
                            yield Started(worker.task.job.name)


def _replace(
    worker: _Worker, workers: list[_Worker], queue: deque[Task], killed: set[str]
) -> Iterator[Event]:
    """Handle a process that has died: report or queue its clip, and start another worker."""
    workers.remove(worker)
    cause = _cause_of_death(worker)
    if not worker.ready:
        yield Note(f"a worker process died while loading ({cause})")
        return
    if worker.task is not None:
        job = worker.task.job
        journal.tidy(job.folder)
        if worker.process.exitcode == KILLED and job.name not in killed:
            killed.add(job.name)
            queue.append(worker.task)
            yield Note(f"{job.name}: its process was killed; it is tried once more at the end")
        else:
            hint = f"; out of memory? try {LESS_MEMORY}" if job.name in killed else ""
            yield Finished(job.name, failed_row(job, f"its process died ({cause}){hint}"))
    if queue:
        workers.append(_start(worker.load))


def _send_task(worker: _Worker) -> None:
    with suppress(OSError):  # it has just died: the next read of its pipe shows that
        worker.pipe.send(worker.task)


def _cause_of_death(worker: _Worker) -> str:
    worker.process.join()
    exitcode = worker.process.exitcode
    if exitcode is not None and exitcode < 0:
        return f"signal {-exitcode}"
    return f"exit code {exitcode}"


def _start(load: LoadWorker) -> _Worker:
    """Start a process, which begins to load."""
    context = get_context("spawn")  # a fork of a process with threads, or CUDA, may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, load), daemon=True)
    with _interrupts_blocked():
        process.start()
    theirs.close()
    return _Worker(process, ours, load)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Delay Ctrl-C until after the block; processes started in it never get it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Sequence[_Worker]) -> None:
    """End all processes, by force if need be, and remove their unfinished files."""
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
            journal.tidy(worker.task.job.folder)


def _main(pipe: "Connection[Any, Any]", load: LoadWorker) -> None:
    """Run a worker process; it skips what libraries do at exit, which takes time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exception could be lost in a destructor, or in C++ that is being imported.
    signal.signal(signal.SIGTERM, end_at_once)
    memory.keep_less()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _run_tasks(pipe, load)
    os._exit(DONE)


def _run_tasks(pipe: "Connection[Any, Any]", load: LoadWorker) -> None:
    """Load, then process one clip after the other until the pipe is closed."""
    try:
        run_task, notes = load()
    except Exception as error:
        known = error if isinstance(error, StafError) else None
        pipe.send(_LoadFailed(describe(error, LESS_MEMORY), known))
        return
    pipe.send(_Ready(notes))
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        name = task.job.name
        pipe.send(Finished(name, run_task(task, progress_callback(name, pipe.send))))


def _end_with_parent() -> None:
    """Exit with the parent; else a worker would go on writing beside the next command."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(INTERRUPTED)
