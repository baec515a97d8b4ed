"""What a worker pool reports while it works; a clip is named by its result folder (`Job.name`)."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeVar

from staf_cli.batch.ledger import Row

if TYPE_CHECKING:  # torch takes seconds: only workers import it
    from staf_cli.core.progress import Watch

Item = TypeVar("Item")
INTERVAL = 0.25  # s between two reports of progress


@dataclass(frozen=True)
class Started:
    """A worker has started a clip; reported again where the clip has to be started again."""

    name: str


@dataclass(frozen=True)
class Progress:
    """How much of a pass over a clip is done."""

    name: str
    what: str  # the pass
    done: int  # of its frames, people or meshes
    total: int | None  # None: unknown


@dataclass(frozen=True)
class Finished:
    """A clip is done, or has failed for good."""

    name: str
    row: Row


@dataclass(frozen=True)
class Note:
    """A line for the user that concerns no single clip."""

    text: str


Event = Started | Progress | Finished | Note


def progress_callback(name: str, send: Callable[[Progress], object]) -> "Watch":
    """Make a progress callback that reports at most once in `INTERVAL`.

    Args:
        name: the clip.
        send: called with every report.

    Returns:
        The callback, for `pipeline.clip.run_clip`.
    """

    def watch(what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
        last_report = -inf
        for done, item in enumerate(items):
            if time.monotonic() - last_report >= INTERVAL:
                last_report = time.monotonic()
                send(Progress(name, what, done, total))
            yield item

    return watch
