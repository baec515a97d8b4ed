"""Sets of synthetic people, rendered once and read many times, on all of the CPU's cores.

A scene is many small steps, between which a GPU would wait: sixteen cores are faster than it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import OutOfMemory
from staf_cli.training.loop import Say
from staf_cli.training.samples import Labels, write_samples
from staf_cli.training.studio.scenes import Split, Studio, open_studio, render_sequences

AT_ONCE = 32  # frames in memory
REPORT_EVERY = 1000  # frames
WORTH_PROCESSES = 2000  # frames from which starting more of them pays

Piece = tuple[NDArray[np.uint8], Labels]


@dataclass(frozen=True)
class Order:
    """A set to be rendered: the same order gives the same set."""

    name: str  # its folder's
    split: Split
    count: int  # scenes
    frames: int  # of each
    seed: int

    def parts(self) -> list[range]:
        """The scenes of each piece."""
        step = max(1, AT_ONCE // self.frames)
        return [range(a, min(a + step, self.count)) for a in range(0, self.count, step)]


def render_set(order: Order, data: Path, body: BodyArrays, say: Say) -> None:
    """Write the scenes of an order into DATA as a sample set.

    Raises DatasetError where DATA lacks what scenes are made of, OutputError where the folder
    cannot be written, OutOfMemory where a process ends too soon.
    """
    opened = partial(open_studio, data, body, order.split, torch.device("cpu"))
    studio = opened()  # what is wrong with DATA is said here, not by a process that ends
    processes = _cores() if order.count * order.frames >= WORTH_PROCESSES else 1
    pieces = _side_by_side(order, opened, processes) if processes > 1 else _alone(order, studio)
    write_samples(data / order.name, _said(pieces, order, say), order.count, order.frames)


def _alone(order: Order, studio: Studio) -> Iterator[Piece]:
    for part in order.parts():
        yield _piece(order, studio, part)


def _side_by_side(order: Order, opened: Callable[[], Studio], processes: int) -> Iterator[Piece]:
    """The same pieces in the same order from several processes, a few of them ahead."""
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _open, (opened,))
    waiting: deque[Future[Piece]] = deque()
    try:
        for part in order.parts():
            waiting.append(pool.submit(_piece_there, order, part))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise OutOfMemory(
            f"{order.name}: a process that rendered was ended, perhaps for want of memory; "
            "free some and go on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_studio: Studio | None = None  # a rendering process's own


def _open(opened: Callable[[], Studio]) -> None:
    global _studio
    torch.set_num_threads(1)
    _studio = opened()


def _piece_there(order: Order, part: range) -> Piece:
    assert _studio is not None
    return _piece(order, _studio, part)


def _piece(order: Order, studio: Studio, part: range) -> Piece:
    generator = torch.Generator().manual_seed(order.seed * 1_000_003 + part.start)
    scenes = render_sequences(studio, len(part), order.frames, generator)
    return scenes.images, scenes.labels


def _said(pieces: Iterator[Piece], order: Order, say: Say) -> Iterator[Piece]:
    """The pieces, with a line for every REPORT_EVERY frames."""
    done = said = 0
    for piece in pieces:
        yield piece
        done += len(piece[0])
        if done * order.frames - said >= REPORT_EVERY:
            said = done * order.frames
            say(f"{order.name}: {done} of {order.count} scenes")


def _cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
