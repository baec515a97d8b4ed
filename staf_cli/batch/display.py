"""What a batch shows while it runs: a live table on a terminal, elsewhere a line per clip."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from staf_cli.batch import events
from staf_cli.batch.events import Event, Finished, Note, Started
from staf_cli.batch.ledger import DAMAGED, FAILED, NOBODY, Row
from staf_cli.core.errors import counted
from staf_cli.core.files import printable

Show = Callable[[Event], None]
STYLES = {FAILED: "red", DAMAGED: "yellow", NOBODY: "yellow"}
WIDEST = 40  # characters of a clip's name in the table


@contextmanager
def open_display(
    console: Console, clips: int, quiet: bool, verbose: bool = False
) -> Iterator[Show]:
    """Show the events of a batch.

    Args:
        console: where to.
        clips: how many the batch has.
        quiet: show nothing.
        verbose: show how long each part of a clip took as well.

    Yields:
        The function to call with every event.
    """
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with _table(console, clips, verbose) as show:
            yield show
    else:
        yield lambda event: _print(console, event, verbose)


def row_text(row: Row) -> str:
    """Describe a row in one line, without its status."""
    parts = []
    if row.frames:
        parts.append(f"{counted(row.people, 'person')}, {counted(row.frames, 'frame')}")
    if row.damaged:
        parts.append(f"{counted(row.damaged, 'damaged packet')}")
    if row.reused:
        parts.append("up to date already")
    elif row.seconds >= 0.1:
        parts.append(f"{row.seconds:.1f} s")
    if row.message:
        parts.append(row.message)
    return printable(f"{row.folder}: {', '.join(parts)}")


def _print(console: Console, event: Event, verbose: bool) -> None:
    if isinstance(event, Finished):
        style = STYLES.get(event.row.status)
        text = f"{event.row.status:<8} {row_text(event.row)}"
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        if verbose and event.row.times:
            text = f"{'time:':<8} {printable(event.row.times)}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    elif isinstance(event, Note):
        text = printable(f"note: {event.text}")
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _table(console: Console, clips: int, verbose: bool) -> Iterator[Show]:
    """Show a line for all clips, below it one for every started clip; finished ones scroll away."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}", markup=False),
        _TimeLeft(),
    )
    with Progress(*columns, console=console, transient=True) as table:
        counts = {"done": 0, "failed": 0}
        all_clips = table.add_task("all clips", total=clips, state=_state(counts, clips))
        started: dict[str, TaskID] = {}

        def show(event: Event) -> None:
            if isinstance(event, Started) and event.name not in started:
                name = printable(event.name)
                shown = name if len(name) <= WIDEST else "…" + name[1 - WIDEST :]
                started[event.name] = table.add_task(shown, total=None, state="")
            elif isinstance(event, events.Progress) and event.name in started:
                of = f" of {event.total}" if event.total else ""
                table.update(
                    started[event.name],
                    total=event.total,
                    completed=event.done,
                    state=f"{event.what} {event.done}{of}",
                )
            elif isinstance(event, Finished):
                if event.name in started:
                    table.remove_task(started.pop(event.name))
                counts["failed" if event.row.status == FAILED else "done"] += 1
                table.update(all_clips, advance=1, state=_state(counts, clips))
            _print(table.console, event, verbose)

        yield show


def _state(counts: dict[str, int], clips: int) -> str:
    left = clips - sum(counts.values())
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{counts['done']} done{failed}, {left} left"


class _TimeLeft(ProgressColumn):
    """For all clips, from the mean pace: clips differ too much in length for a recent one."""

    def render(self, task: Task) -> Text:
        if task.id or not task.completed or not task.remaining or not task.elapsed:
            return Text("")
        seconds = task.elapsed / task.completed * task.remaining
        return Text(f"{timedelta(seconds=round(seconds))} left", style="dim")
