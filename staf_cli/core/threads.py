"""Work on a stream in a thread of its own, so that decoding, drawing and encoding overlap."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
_END = object()
POLL = 0.02  # s between two looks whether somebody has asked to stop


def in_thread(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Compute the items of a stream in a background thread, a few ahead of their use.

    What the thread does must let go of the interpreter for long stretches (FFmpeg, OpenCV and
    torch do) for anything to be gained.

    Args:
        items: the stream; only the thread touches it.
        ahead: how many items may wait.

    Yields:
        The items in order. An exception of the stream is raised where its item would come.
    """
    yield from _merged([items], ahead)


def side_by_side(
    streams: Sequence[Iterable[Item]], threads: int
) -> Generator[tuple[int, Item], None, None]:
    """Compute several streams at the same time, each by one thread from beginning to end.

    Args:
        streams: each is touched by one thread only, in the order of the list.
        threads: how many are computed at a time; 1: one after the other, in this thread.

    Yields:
        The items as they come, each with the number of its stream; of a stream in order. The
        first exception of any stream is raised, and the others end after their next item.
    """
    if threads == 1 or len(streams) < 2:
        for number, stream in enumerate(streams):
            for item in stream:
                yield number, item
        return
    waiting = iter(enumerate(streams))
    lock = threading.Lock()

    def work() -> Iterator[tuple[int, Item]]:
        while True:
            with lock:
                number, stream = next(waiting, (-1, ()))
            if number < 0:
                return
            try:
                for item in stream:
                    yield number, item
            finally:
                _close(stream)

    running = min(threads, len(streams))
    yield from _merged([work() for _ in range(running)], running)


def _merged(streams: Sequence[Iterable[Item]], ahead: int) -> Iterator[Item]:
    """The items of several streams as they come, each stream in a thread; `ahead` of them wait."""
    came: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)
    closed = threading.Event()

    def put(item: object, error: BaseException | None = None) -> bool:
        while not closed.is_set():
            try:
                came.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work(items: Iterable[Item]) -> None:
        stream = iter(items)
        try:
            for item in stream:
                if not put(item):
                    break
        except BaseException as error:  # it is the consumer's
            put(_END, error)
        else:
            put(_END)
        finally:
            _close(stream)

    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in streams]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            item, error = came.get()
            if error is not None:
                raise error
            if item is _END:
                running -= 1
            else:
                yield item  # type: ignore[misc]
    finally:
        closed.set()
        for thread in threads:
            thread.join(timeout=1)


def newest(
    items: Iterable[Item], stopped: Callable[[], bool]
) -> Generator[tuple[Item, int], None, None]:
    """Go through a stream in a background thread, which never waits, and hand out what is newest.

    Args:
        items: the stream; only the thread touches it.
        stopped: whether to end; asked often, also while nothing comes.

    Yields:
        The newest item, each once, and how many were passed over since the one before it. The
        last item of a stream is handed out; then an exception of the stream is raised.
    """
    slot: deque[tuple[int, Item]] = deque(maxlen=1)
    came, ended, closed = threading.Event(), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for numbered in enumerate(items):
                slot.append(numbered)
                came.set()
                if closed.is_set():
                    break
        except BaseException as error:  # it is the consumer's
            errors.append(error)
        finally:
            ended.set()
            came.set()
            _close(items)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    last = -1
    try:
        while not stopped():
            is_last = ended.is_set()
            if slot:
                number, item = slot.pop()
                yield item, number - last - 1
                last = number
            elif is_last:
                if errors:
                    raise errors[0]
                return
            else:
                came.wait(POLL)
                came.clear()
    finally:
        closed.set()
        thread.join(timeout=1)


def _close(stream: object) -> None:
    """End a generator; other streams have no end of their own."""
    close = getattr(stream, "close", None)
    if close is not None:
        close()
