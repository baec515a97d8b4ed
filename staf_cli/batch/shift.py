"""One batch from beginning to end, on one screen: clips -> crew -> rows -> ledger -> exit code."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from staf_cli.batch import attempt, board, cluster, ledger, workers
from staf_cli.batch.attempt import Task, Work
from staf_cli.batch.clips import Job
from staf_cli.batch.events import Finished
from staf_cli.batch.ledger import Row
from staf_cli.core import files
from staf_cli.core.errors import DAMAGED, DONE, FAILED, UsageError
from staf_cli.core.files import printable
from staf_cli.pipeline.options import Options


@dataclass(frozen=True)
class Crew:
    """Who does the work. Raises UsageError for what cannot be meant."""

    jobs: int | None = None  # clips at a time; None: one a device, or as the cluster likes
    devices: tuple[int, ...] = ()  # numbers of CUDA devices that the workers share
    ray: str | None = None  # a cluster's address, or local

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs}: choose 1 or more")
        if self.ray is not None and self.devices:
            raise UsageError("--devices is for this machine; with --ray leave it out")
        if self.jobs is not None and self.jobs < len(self.devices):
            raise UsageError(
                f"--jobs {self.jobs} leaves a device idle; give --jobs {len(self.devices)} or more"
            )


def hire(crew: Crew, options: Options) -> Work:
    """Something that does tasks. Raises UsageError where options and crew contradict each other."""
    if crew.ray is not None:
        return cluster.hire(crew.ray, crew.jobs, options)
    if crew.devices and options.device != "auto":
        raise UsageError("--device and --devices exclude each other; leave one out")
    jobs = crew.jobs or len(crew.devices) or 1
    threads = max(1, torch.get_num_threads() // jobs)
    devices = [f"cuda:{number}" for number in crew.devices] or [options.device]
    prepares = [
        partial(attempt.prepare, replace(options, device=devices[n % len(devices)]), threads)
        for n in range(jobs)
    ]
    return partial(workers.work, prepares=prepares)


def run(
    jobs: Sequence[Job], output: Path, work: Work, out: Console, err: Console, quiet: bool
) -> int:
    """Do all jobs and keep the ledger of the folder `output`; gives the exit code.

    FAILED if any clip failed, else DAMAGED if any was damaged, else DONE: that nobody is to be
    seen in a clip is a finding, not a failure. On Ctrl-C the KeyboardInterrupt carries a note of
    what is finished. Raises OutputError, and StafError where nobody can work.
    """
    files.check_writable(output)
    rows: dict[str, Row] = {}
    with ledger.opened(output) as book:
        known = [(job, book.row(job.video, job.name)) for job in jobs]
        tasks = [Task(job, row.identity if row else "") for job, row in known]
        try:
            with board.opened(out, len(jobs), quiet) as show, closing(work(tasks)) as events:
                for event in events:
                    if isinstance(event, Finished):
                        book.add(event.row)
                        rows[event.name] = event.row
                    show(event)
        except KeyboardInterrupt as stop:
            stop.add_note(f"{len(rows)} of {len(jobs)} clips are finished")
            raise
    return _conclude(list(rows.values()), output, out, err, quiet)


def _conclude(rows: Sequence[Row], output: Path, out: Console, err: Console, quiet: bool) -> int:
    """Say how it went; failures and damage once more, where they are not overlooked."""
    counts = {status: sum(row.status == status for row in rows) for status in ledger.STATUSES}
    for row in sorted(rows, key=lambda row: row.folder):
        if row.status in (ledger.FAILED, ledger.DAMAGED):
            word, style = ("error", "red") if row.status == ledger.FAILED else ("warning", "yellow")
            text = f"{word}: {board.told(row)}"
            err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    if not quiet:
        told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
        reused = sum(row.reused for row in rows)
        stood = f" ({reused} stood already)" if reused else ""
        out.print(f"clips:   {told}{stood}", markup=False, soft_wrap=True)
        out.print(f"summary: {printable(output / ledger.CSV)}", markup=False, soft_wrap=True)
    return FAILED if counts[ledger.FAILED] else DAMAGED if counts[ledger.DAMAGED] else DONE
