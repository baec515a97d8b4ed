"""A crew on a Ray cluster: the same clips, rows and results, on as many machines as there are.

Every clip is one Ray task that loads, computes, and writes into the output folder, which all
machines share. What becomes of a clip whose machine dies is Ray's business: it is begun again
elsewhere, goes on from what it finds in the folder, and gives one row in any case.
"""

import logging
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from staf_cli.batch import attempt
from staf_cli.batch.attempt import Prepare, Task, Work, failed, line
from staf_cli.batch.events import Event, Finished, Note, Progress, Started, reporting
from staf_cli.batch.ledger import Row
from staf_cli.core.errors import MissingTool, StafError, UsageError
from staf_cli.core.version import __version__

if TYPE_CHECKING:  # torch takes seconds: only who computes imports it
    from staf_cli.pipeline.options import Options

LOCAL = "local"
NOBODY = "http://127.0.0.1:9"
# For a cluster started here. Ray reports to its makers even that it must not report, and asks
# clouds for their names: a proxy that is not there lets none of that leave this machine.
OFFLINE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": NOBODY,
    "http_proxy": NOBODY,
    "https_proxy": NOBODY,
    "no_proxy": "localhost,127.0.0.0/8",
    # Whoever reaches a port of Ray's may run code here. With this, whatever the system is, it
    # listens on loopback only; without, at the address that others know this machine by.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # else it knocks at a closed door for minutes
RETRIES = 3  # how often a clip may lose its machine
INTERVAL = 0.25  # s between two looks at the mailbox


def hire(address: str, jobs: int | None, options: "Options") -> Work:
    """Something that does tasks on the cluster at `address`, or on one started here (local).

    Raises UsageError where the options cannot be meant for a cluster.
    """
    if jobs is not None and address != LOCAL:
        raise UsageError("--jobs is for this machine; the cluster itself knows its processors")
    if ":" in options.device:
        raise UsageError(f"--device {options.device}: Ray chooses the card; write --device cuda")
    rooted = replace(
        options,
        detector=_rooted(options.detector),
        weights=options.weights and _rooted(options.weights),
        body=options.body and _rooted(options.body),
    )
    prepare = partial(attempt.prepare, rooted, 1)
    return partial(work, prepare=prepare, address=address, jobs=jobs, device=options.device)


def work(
    tasks: Sequence[Task], prepare: Prepare, address: str, jobs: int | None, device: str
) -> Generator[Event, None, None]:
    """Do all tasks, one processor each (and one card, where cards are used).

    Closing it takes back what is not finished. Raises MissingTool where Ray is not installed or
    the cluster cannot be reached, StafError where a machine cannot work.
    """
    with _connected(address, jobs) as ray:
        cards = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        mailbox = _mailbox(ray)
        send = ray.remote(_do).options(
            num_cpus=1, num_gpus=int(cards), max_retries=RETRIES, retry_exceptions=False
        )
        doing = {send.remote(_moved(task), prepare, __version__, mailbox): task for task in tasks}
        try:
            told = set[str]()
            while doing:
                ready, _ = ray.wait(list(doing), timeout=INTERVAL)
                yield from ray.get(mailbox.empty.remote())
                for reference in ready:
                    task = doing.pop(reference)
                    row, notes = _outcome(ray, reference, task)
                    yield from (Note(note) for note in notes if note not in told)
                    told.update(notes)
                    yield Finished(task.job.name, row)
        finally:
            for reference in doing:
                ray.cancel(reference, force=True)


def _do(task: Task, prepare: Prepare, version: str, mailbox: Any) -> tuple[Row, list[str]]:
    """One clip, on whichever machine Ray has chosen; lines for the user as well."""
    if version != __version__:
        raise StafError(f"a machine of the cluster has staf {__version__}, this one {version}")
    mailbox.post.remote(Started(task.job.name))
    do, notes = prepare()
    return do(task, reporting(task.job.name, mailbox.post.remote)), notes


def _outcome(ray: Any, reference: Any, task: Task) -> tuple[Row, list[str]]:
    """The row of a task that has ended. Raises StafError where no clip could be done there."""
    try:
        outcome: tuple[Row, list[str]] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, StafError):
            raise error.cause from error
        return failed(task.job, line(error.cause)), []
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        return failed(
            task.job, f"its machine or process was lost {RETRIES + 1} times: {reason}"
        ), []
    return outcome


@contextmanager
def _connected(address: str, jobs: int | None) -> Iterator[Any]:
    """Ray, in touch with a cluster; what was started for it ends after the block."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _environment(OFFLINE if address == LOCAL else IMPATIENT):
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
        signal.signal(signal.SIGTERM, before)  # which Ray takes for itself
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """These variables for the block, and for the processes that are started in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Mailbox:
    """Where the machines leave what they have to tell until it is asked for."""

    def __init__(self) -> None:
        self.letters: list[Event] = []

    def post(self, letter: Started | Progress) -> None:
        self.letters.append(letter)

    def empty(self) -> list[Event]:
        letters, self.letters = self.letters, []
        return letters


def _mailbox(ray: Any) -> Any:
    """A mailbox on this machine, which no other one's death takes away."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


def _moved(task: Task) -> Task:
    """The same task for machines with another working folder."""
    job = task.job
    return replace(task, job=replace(job, video=job.video.absolute(), folder=job.folder.absolute()))


def _rooted(name_or_path: str) -> str:
    path = Path(name_or_path)
    return str(path.absolute()) if path.is_file() else name_or_path
