"""What a crew tells while it works; a clip is named by its result folder (`Job.name`)."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeVar

from staf_cli.batch.ledger import Row

if TYPE_CHECKING:  # torch takes seconds: only who computes imports it
    from staf_cli.pipeline.passes import Watch

Item = TypeVar("Item")
INTERVAL = 0.25  # s between two reports of progress


@dataclass(frozen=True)
class Started:
    """Somebody has taken up a clip; told again where it has to be begun again."""

    name: str


@dataclass(frozen=True)
class Progress:
    """How far a pass over a clip has come."""

    name: str
    what: str  # the pass
    done: int  # of its frames, people or meshes
    total: int | None  # None: unknown


@dataclass(frozen=True)
class Finished:
    """A clip is done, or given up."""

    name: str
    row: Row


@dataclass(frozen=True)
class Note:
    """A line for the user that concerns no clip."""

    text: str


Event = Started | Progress | Finished | Note


def reporting(name: str, tell: Callable[[Progress], object]) -> "Watch":
    """A watch that tells now and then how far a clip has come."""

    def watch(what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
        told = -inf
        for done, item in enumerate(items):
            if time.monotonic() - told >= INTERVAL:
                told = time.monotonic()
                tell(Progress(name, what, done, total))
            yield item

    return watch
