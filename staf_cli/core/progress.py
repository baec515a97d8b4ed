"""Progress callbacks: bars on a terminal, plain lines elsewhere, or nothing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from staf_cli.core.errors import counted, plural

Item = TypeVar("Item")
# What a pass counts, by the first word of its name; all others count frames. People are refined
# and smoothed in stretches of a few thousand frames.
UNITS = {"refine": "stretch", "smooth": "stretch", "export": "file", "world": "person"}
# How long passes take beside each other, measured on a CPU with two people; any other takes SHORT.
SHARES = {
    "track": 10,
    "camera": 1,
    "landmarks": 2,
    "recover": 5,
    "refine": 3,
    "smooth": 1,
    "show": 1,
}
SHORT = 0.2
SETTLED = 120  # s of the last work that the time left is estimated from


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
    unit = UNITS.get(what.split()[0], "frame")
    count = 0
    if not console.is_terminal:
        for item in items:
            yield item
            count += 1
        console.print(f"{what}: {counted(count, unit)}")
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(plural(unit)),
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


class _Done(ProgressColumn):
    """How much of the whole run, or how many items of a pass."""

    def render(self, task: Task) -> Text:
        if "unit" not in task.fields:
            return Text(f"{task.percentage:.0f} %")
        of = f"/{task.total:.0f}" if task.total else ""
        speed = f"  {task.speed:.1f}/s" if task.speed and not task.finished else ""
        return Text(f"{task.completed:.0f}{of} {task.fields['unit']}{speed}")


class _WholeTimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        if "unit" in task.fields or task.finished or task.time_remaining is None:
            return Text("")
        minutes, seconds = divmod(round(task.time_remaining), 60)
        return Text(f"about {minutes}:{seconds:02} left")


@contextmanager
def whole_run(console: Console, expected: Sequence[str]) -> Iterator[Watch]:
    """Show one bar for a whole run, with the time left, and below it one for each pass.

    Args:
        console: where to; one that is no terminal gets a line for each pass, as from `watch`.
        expected: the passes in their order; those that turn out not to be needed may be left out.

    Yields:
        The run's progress callback.
    """
    if not console.is_terminal:
        yield partial(watch, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Done(), _WholeTimeLeft())
    with Progress(*columns, console=console, speed_estimate_period=SETTLED) as bars:
        whole = bars.add_task("whole run", total=sum(map(_share, expected)))
        try:
            yield _watch_whole(bars, whole, expected)
        except BaseException:
            bars.live.transient = True  # the error's line stands alone
            raise
        bars.update(whole, total=1, completed=1)


def _watch_whole(bars: Progress, whole: TaskID, expected: Sequence[str]) -> Watch:
    """Make the callback that moves the bar of the whole run as well as that of its pass."""
    left = list(expected)
    run = bars.tasks[0]

    def start(what: str) -> float:
        """The share of a pass that begins now; the time of those that were left out is not due."""
        if what not in left:
            return 0.0
        place = left.index(what)
        skipped, left[: place + 1] = left[:place], []
        bars.update(whole, total=(run.total or 0.0) - sum(map(_share, skipped)))
        return _share(what)

    def watched(what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
        unit = plural(UNITS.get(what.split()[0], "frame"))
        share = start(what)
        before = run.completed
        task = bars.add_task(f"  {what}", total=total, unit=unit)
        count = 0
        for item in items:
            yield item
            count += 1
            bars.advance(task)
            if total:
                bars.update(whole, completed=before + share * min(1.0, count / total))
        bars.update(task, total=count, completed=count)
        bars.update(whole, completed=before + share)

    return watched


def _share(what: str) -> float:
    return sum(SHARES.get(part, SHORT) for part in what.split(" and "))


def silent(what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
    """Pass items on and show nothing; the arguments are those of `watch` without a console."""
    return iter(items)
