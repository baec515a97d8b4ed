"""Progress callbacks: bars on a terminal, plain lines elsewhere, or nothing."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")
# What a pass counts, by the first word of its name; all others count frames. People are refined
# and smoothed in stretches of a few thousand frames.
UNITS = {"refine": "stretches", "smooth": "stretches", "export": "files"}


class Watch(Protocol):
    """A progress callback: passes items on and shows how far a pass is."""

    def __call__(self, what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Pass items on.

        Args:
            what: the pass, such as "recover".
            items: frames, stretches or files.
            total: how many; None where that is unknown.

        Yields:
            The items.
        """
        ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


def watch(console: Console, what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
    """Pass items on and show how many: in a bar with rate and time left, or in one line at the end.

    Args:
        console: where to; the bar is for terminals only.
        what: the pass.
        items: what it works on.
        total: how many items there are; None: unknown.

    Yields:
        The items.
    """
    unit = UNITS.get(what.split()[0], "frames")
    count = 0
    if not console.is_terminal:
        for item in items:
            yield item
            count += 1
        one = {"stretches": "stretch"}.get(unit, unit.removesuffix("s"))
        console.print(f"{what}: {count} {one if count == 1 else unit}")
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            count += 1
            progress.advance(task)
        progress.update(task, total=count, completed=count)


def silent(what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
    """Pass items on and show nothing; the arguments are those of `watch` without a console."""
    return iter(items)
