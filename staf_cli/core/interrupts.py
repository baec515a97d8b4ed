"""Ctrl-C and SIGTERM: a process that has ended two seconds later, whatever it was doing.

The usual way out is Python's own: KeyboardInterrupt unwinds the stack, and every `with` cleans up
as it goes. But Python hears a signal only between two of its own instructions: a large batch in
a network, or a slow disk, keeps it waiting, and a library may swallow the exception. So a thread
counts the seconds; when they are up it undoes what is half done and ends the process.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from staf_cli.core.errors import INTERRUPTED

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
PATIENCE = 1.5  # s
SHOW_CURSOR = "\x1b[?25h"  # a bar that was cut off had hidden it

# Of the process, as signals are: what `undo_everything` would call, oldest first.
_undoings: list[Callable[[], object]] = []
_unhurried = threading.Event()
_heard = threading.Event()


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` when the block ends, in whatever way it ends: by force as well.

    It may be called twice, the second time from another thread, and may raise OSError where
    nothing is left to be undone.
    """
    _undoings.append(undo)
    try:
        yield
    finally:
        with suppress(OSError):
            undo()
        _undoings.remove(undo)


def undo_everything() -> None:
    """Undo what is still half done, the youngest first."""
    for undo in reversed(_undoings.copy()):
        with suppress(OSError):
            undo()


@contextmanager
def unhurried() -> Iterator[None]:
    """A block that must not be ended by force: what it saves on its way out takes longer."""
    _unhurried.set()
    try:
        yield
    finally:
        _unhurried.clear()


def listen(farewell: str) -> None:
    """From now on signals interrupt this process; to be called once, by its main thread.

    farewell: the line for the user, should the process have to be ended by force. Signals that
    were ignored when it started (nohup, a background job) stay ignored.
    """
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(wakes, farewell), daemon=True).start()
    sys.unraisablehook = _unraisable


def heard() -> bool:
    """Whether this process was interrupted, whatever became of the exception."""
    return _heard.is_set()


def _interrupt(*_: object) -> None:
    """Unwind; further signals would only disturb what is cleaned up on the way."""
    _heard.set()
    ignore()
    raise KeyboardInterrupt


def ignore() -> None:
    """From now on signals do nothing: all is done, or being cleaned up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_in_time(wakes: int, farewell: str) -> None:
    """Wait for a signal, give the main thread its time, then end the process."""
    while os.read(wakes, 1)[0] not in SIGNALS:
        pass
    threading.Event().wait(PATIENCE)
    if _unhurried.is_set():
        return
    undo_everything()
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    with suppress(OSError):
        os.write(2, f"{cursor}{farewell}\n".encode())
    os._exit(INTERRUPTED)


def _unraisable(happened: "sys.UnraisableHookArgs") -> None:
    """An interrupt that hit a destructor is lost there; the process still ends in time."""
    if not issubclass(happened.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(happened)
