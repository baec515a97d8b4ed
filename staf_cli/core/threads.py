"""Work on a stream in a thread of its own, so that decoding, drawing and encoding overlap."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
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
    waiting: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)
    closed = threading.Event()

    def put(item: object, error: BaseException | None = None) -> bool:
        while not closed.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
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
            close = getattr(stream, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        closed.set()
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
            close = getattr(items, "close", None)
            if close is not None:
                close()

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
