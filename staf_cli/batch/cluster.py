"""A worker pool on a Ray cluster: the same clips, rows and results, on several machines.

Every clip is one Ray task that loads, computes, and writes into the output folder, which all
machines share. Ray starts a clip again elsewhere if its machine dies; it goes on from what is in
the folder, and returns one row in any case.
"""

import logging
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from staf_cli.batch.events import Event, Finished, Note, Progress, Started, progress_callback
from staf_cli.batch.ledger import Row
from staf_cli.batch.task import LESS_MEMORY, LoadWorker, Task, failed_row, load_worker
from staf_cli.core.environment import environment
from staf_cli.core.errors import MissingTool, StafError, UsageError, describe
from staf_cli.core.version import __version__

if TYPE_CHECKING:  # torch takes seconds: only workers import it
    from staf_cli.pipeline.options import Options

LOCAL = "local"
NO_SERVER = "http://127.0.0.1:9"
# For a cluster started here. Ray reports to its makers even that it must not report, and asks
# clouds for their names: a proxy that does not exist lets none of that leave this machine.
OFFLINE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": NO_SERVER,
    "http_proxy": NO_SERVER,
    "https_proxy": NO_SERVER,
    "no_proxy": "localhost,127.0.0.0/8",
    # Whoever reaches a port of Ray's can run code here. With this it listens on loopback only, on
    # every system; without, at the address by which other machines know this one.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
ONE_TRY = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # else it retries for minutes without a cluster
RETRIES = 3  # how often a clip may lose its machine
INTERVAL = 0.25  # s between two reads of the event queue


def create_pool(address: str, jobs: int | None, options: "Options") -> "RayPool":
    """Make a pool on a cluster; nothing is started or connected yet.

    Args:
        address: of the cluster, or local for one that is started here.
        jobs: clips at a time on a local cluster; None: as many as there are processors.
        options: how clips are processed.

    Returns:
        The pool.

    Raises:
        UsageError: the options do not fit a cluster.
    """
    if jobs is not None and address != LOCAL:
        raise UsageError("--jobs is for this machine; the cluster itself knows its processors")
    recovery = options.recovery
    if ":" in recovery.device:
        raise UsageError(f"--device {recovery.device}: Ray chooses the card; write --device cuda")
    rooted = replace(
        options,
        detector=_absolute(options.detector),
        recovery=replace(
            recovery,
            weights=recovery.weights and _absolute(recovery.weights),
            body=recovery.body and _absolute(recovery.body),
        ),
    )
    return RayPool(partial(load_worker, rooted, 1), address, jobs, recovery.device)


@dataclass(frozen=True)
class RayPool:
    """A processor for each clip, and a card where cards are used."""

    load: LoadWorker
    address: str  # of the cluster, or local
    jobs: int | None  # clips at a time on a local cluster
    device: str

    def submit(self, tasks: Sequence[Task]) -> Generator[Event, None, None]:
        """Process all tasks; closing the generator cancels what is not finished.

        Args:
            tasks: the clips; they are started in this order.

        Yields:
            What happens, one `Finished` for each task among it.

        Raises:
            MissingTool: Ray is not installed, or the cluster cannot be reached.
            StafError: a machine cannot work.
        """
        with _connected(self.address, self.jobs) as ray:
            use_cards = self.device == "cuda" or (
                self.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
            )
            queue = _event_queue(ray)
            remote = ray.remote(_run_task).options(
                num_cpus=1, num_gpus=int(use_cards), max_retries=RETRIES, retry_exceptions=False
            )
            running = {
                remote.remote(_with_absolute_paths(task), self.load, __version__, queue): task
                for task in tasks
            }
            try:
                shown = set[str]()
                while running:
                    ready, _ = ray.wait(list(running), timeout=INTERVAL)
                    yield from ray.get(queue.take_all.remote())
                    for reference in ready:
                        task = running.pop(reference)
                        row, notes = _result(ray, reference, task)
                        yield from (Note(note) for note in notes if note not in shown)
                        shown.update(notes)
                        yield Finished(task.job.name, row)
            finally:
                for reference in running:
                    ray.cancel(reference, force=True)


def _run_task(task: Task, load: LoadWorker, version: str, queue: Any) -> tuple[Row, list[str]]:
    """Process one clip on the machine that Ray has chosen; return its row, and notes."""
    if version != __version__:
        raise StafError(f"a machine of the cluster has staf {__version__}, this one {version}")
    queue.put.remote(Started(task.job.name))
    run_task, notes = load()
    return run_task(task, progress_callback(task.job.name, queue.put.remote)), notes


def _result(ray: Any, reference: Any, task: Task) -> tuple[Row, list[str]]:
    """Return row and notes of a task that has ended; raise what stops all other clips as well."""
    try:
        result: tuple[Row, list[str]] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, StafError):
            raise error.cause from error
        return failed_row(task.job, describe(error.cause, LESS_MEMORY)), []
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        message = f"its machine or process was lost {RETRIES + 1} times: {reason}"
        return failed_row(task.job, message), []
    return result


@contextmanager
def _connected(address: str, jobs: int | None) -> Iterator[Any]:
    """Connect to a cluster and yield Ray; what was started for it ends after the block."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with environment(OFFLINE if address == LOCAL else ONE_TRY):
            import ray

            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address == LOCAL:
                ray.init(num_cpus=jobs, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
    except ImportError as error:
        raise MissingTool("--ray needs Ray: pip install 'staf-cli[ray]'") from error
    except Exception as error:  # it raises any kind, Exception itself among them
        reason = " ".join(str(error).split())[:200]
        raise MissingTool(f"no Ray cluster at {address}: {reason}") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray has replaced the handler
    try:
        yield ray
    finally:
        ray.shutdown()


class _EventQueue:
    """A Ray actor: tasks on all machines put events into it, this process takes them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Started | Progress) -> None:
        self.events.append(event)

    def take_all(self) -> list[Event]:
        events, self.events = self.events, []
        return events


def _event_queue(ray: Any) -> Any:
    """Start an event queue on this machine, so that it survives the death of all others."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(_EventQueue).options(num_cpus=0, scheduling_strategy=here).remote()


def _with_absolute_paths(task: Task) -> Task:
    """Return the same task for machines with another working folder."""
    job = task.job
    return replace(task, job=replace(job, video=job.video.absolute(), folder=job.folder.absolute()))


def _absolute(name_or_path: str) -> str:
    path = Path(name_or_path)
    return str(path.absolute()) if path.is_file() else name_or_path
