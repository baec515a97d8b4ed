"""What commands print: results on standard output, errors and warnings on standard error."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console

from staf_cli.core import progress
from staf_cli.core.errors import one_line
from staf_cli.core.progress import Watch

OUT = Console(highlight=False, emoji=False)
ERR = Console(stderr=True, highlight=False, emoji=False)


def print_line(text: str) -> None:
    """Print a line as it is, however long it is.

    Args:
        text: the line; control characters are escaped.
    """
    OUT.print(one_line(text), soft_wrap=True, markup=False)


def written_command(*words: str) -> str:
    """Write a command of staf as the user can type it here.

    Args:
        words: what follows `staf`.

    Returns:
        The line; it names the program as it was called where `staf` alone would not be found.
    """
    program = ["staf"]
    if shutil.which("staf") is None:
        called = sys.argv[0]
        is_module = Path(called).name == "__main__.py"
        program = [sys.executable, "-m", "staf_cli"] if is_module else [called]
    line = [*program, *words]
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are.

    Args:
        lines: the lines; control characters are escaped.
    """
    for line in lines:
        print_line(line)


def print_notes(notes: Iterable[str]) -> None:
    """Print lines that the user should see.

    Args:
        notes: the lines.
    """
    for note in notes:
        OUT.print(f"note: {one_line(note)}", style="yellow", markup=False, soft_wrap=True)


def print_warning(text: str) -> None:
    """Print a warning on standard error.

    Args:
        text: the line.
    """
    ERR.print(f"warning: {one_line(text)}", style="yellow", markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print an error on standard error.

    Args:
        text: the line.
    """
    ERR.print(f"error: {one_line(text)}", style="red", markup=False, soft_wrap=True)


def run_progress(quiet: bool, passes: Sequence[str]) -> AbstractContextManager[Watch]:
    """Show the progress of a whole run.

    Args:
        quiet: show nothing.
        passes: those that are expected, in their order.

    Returns:
        A context with the progress callback.
    """
    return nullcontext(progress.silent) if quiet else progress.whole_run(OUT, passes)


def progress_watch(quiet: bool) -> Watch:
    """Make the progress callback of a command.

    Args:
        quiet: show nothing.

    Returns:
        The callback.
    """
    return progress.silent if quiet else partial(progress.watch, OUT)
