"""One batch from beginning to end: jobs -> worker pool -> rows -> ledger -> exit code."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from staf_cli.batch import cluster, display, ledger
from staf_cli.batch.events import Finished
from staf_cli.batch.ledger import Row
from staf_cli.batch.naming import Job
from staf_cli.batch.options import PoolOptions
from staf_cli.batch.task import Task, WorkerPool, load_worker
from staf_cli.batch.workers import ProcessPool
from staf_cli.core import files
from staf_cli.core.errors import DAMAGED, DONE, FAILED, UsageError
from staf_cli.core.files import printable
from staf_cli.pipeline.options import Options


def create_pool(pool: PoolOptions, options: Options) -> WorkerPool:
    """Make the worker pool that a command asks for; no worker is started yet.

    Args:
        pool: how many workers, and where.
        options: how they process clips.

    Returns:
        Processes of this machine, or a Ray cluster.

    Raises:
        UsageError: the two kinds of options contradict each other.
    """
    if pool.ray is not None:
        return cluster.create_pool(pool.ray, pool.jobs, options)
    if pool.devices and options.recovery.device != "auto":
        raise UsageError("--device and --devices exclude each other; leave one out")
    jobs = pool.jobs or len(pool.devices) or 1
    threads = max(1, torch.get_num_threads() // jobs)
    devices = [f"cuda:{number}" for number in pool.devices] or [options.recovery.device]
    on_device = [
        replace(options, recovery=replace(options.recovery, device=device)) for device in devices
    ]
    return ProcessPool(
        tuple(partial(load_worker, on_device[n % len(devices)], threads) for n in range(jobs))
    )


def run_batch(
    jobs: Sequence[Job],
    output: Path,
    pool: WorkerPool,
    out: Console,
    err: Console,
    quiet: bool,
    verbose: bool = False,
) -> int:
    """Process all jobs and keep the ledger of the output folder.

    Args:
        jobs: the clips, under different names.
        output: the folder of the ledger, in which the jobs have their folders.
        pool: what processes them.
        out: where progress and the result are shown.
        err: where failed and damaged clips are listed at the end.
        quiet: show nothing on `out`.
        verbose: show how long each part of a clip took as well.

    Returns:
        The exit code: FAILED if any clip failed, else DAMAGED if any was damaged, else DONE. That
        nobody is seen in a clip is a finding, not a failure.

    Raises:
        StafError: the output cannot be written, or no worker can work.
        KeyboardInterrupt: the user's, with a note of how many clips are finished.
    """
    files.check_writable(output)
    rows: dict[str, Row] = {}
    with ledger.open_ledger(output) as known:
        earlier = [(job, known.row(job.video, job.name)) for job in jobs]
        tasks = [Task(job, row.identity if row else "") for job, row in earlier]
        try:
            with (
                display.open_display(out, len(jobs), quiet, verbose) as show,
                closing(pool.submit(tasks)) as events,
            ):
                for event in events:
                    if isinstance(event, Finished):
                        known.add(event.row)
                        rows[event.name] = event.row
                    show(event)
        except KeyboardInterrupt as stop:
            stop.add_note(f"{len(rows)} of {len(jobs)} clips are finished")
            raise
    return _conclude(list(rows.values()), output, out, err, quiet)


def _conclude(rows: Sequence[Row], output: Path, out: Console, err: Console, quiet: bool) -> int:
    """Print the result, failures and damage once more at its end; return the exit code."""
    counts = {status: sum(row.status == status for row in rows) for status in ledger.STATUSES}
    for row in sorted(rows, key=lambda row: row.folder):
        if row.status in (ledger.FAILED, ledger.DAMAGED):
            word, style = ("error", "red") if row.status == ledger.FAILED else ("warning", "yellow")
            text = f"{word}: {display.row_text(row)}"
            err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
    if not quiet:
        listed = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
        reused = sum(row.reused for row in rows)
        suffix = f" ({reused} were up to date already)" if reused else ""
        out.print(f"clips:   {listed}{suffix}", markup=False, soft_wrap=True)
        out.print(f"summary: {printable(output / ledger.CSV)}", markup=False, soft_wrap=True)
    return FAILED if counts[ledger.FAILED] else DAMAGED if counts[ledger.DAMAGED] else DONE
