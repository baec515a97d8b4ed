"""`staf data`: the user's own copies of datasets."""

from pathlib import Path

import click

from staf_cli.cli.options import FOLDER
from staf_cli.cli.output import print_error, print_line, written_command
from staf_cli.core.errors import DONE, FAILED


@click.group()
def data() -> None:
    """Your own copies of datasets, for `staf eval`."""


@data.command("check")
@click.argument("folder", type=FOLDER)
def check_data(folder: Path) -> int:
    """Say what FOLDER holds: layout, people, frames, and what is missing; code 1 if anything is."""
    from staf_cli.evaluation.datasets.layouts import BENCHMARKS, examine
    from staf_cli.pipeline.loading import open_body

    contents = examine(folder, open_body)
    for line in (f"layout: {contents.layout}", *contents.parts):
        print_line(line)
    for problem in contents.problems:
        print_error(problem)
    if contents.problems:
        return FAILED
    for benchmark in contents.benchmarks:
        words = (benchmark, str(folder)) if benchmark in BENCHMARKS else (str(folder),)
        print_line(f"complete: {written_command('eval', *words)}")
    if not contents.benchmarks:
        print_line("complete; it is no benchmark that `staf eval` knows")
    return DONE
