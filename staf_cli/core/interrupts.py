"""Ctrl-C and SIGTERM end the process within two seconds, whatever it is doing.

The usual way is Python's own: KeyboardInterrupt unwinds the stack, and every `with` cleans up.
But Python handles a signal only between two of its own instructions: a large batch in a network,
or a slow disk, delays it, and a library may swallow the exception. So a thread counts the
seconds; when they are up it runs the cleanups that are still open and ends the process. While a
module is imported nothing is raised at all: C++ that is being set up aborts on an exception.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import NoReturn

from staf_cli.core.errors import INTERRUPTED

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
GRACE = 1.5  # s for the main thread to unwind
IMPORTING = "<frozen importlib._bootstrap>"  # the file of an import's frames
SHOW_CURSOR = "\x1b[?25h"  # a progress bar that was cut off had hidden it

# Of the process, as signals are: what `run_cleanups` would call, oldest first.
_cleanups: list[Callable[[], object]] = []
_no_forced_exit = threading.Event()
_next_only_stops = threading.Event()  # the next Ctrl-C; cleared by the thread that ends in time
_interrupted = threading.Event()


@contextmanager
def cleanup(clean_up: Callable[[], object]) -> Iterator[None]:
    """Call a function when the block ends, in whatever way it ends: by force as well.

    Args:
        clean_up: the function. It may be called twice, the second time from another thread, and
            may raise OSError where nothing is left to be removed.
    """
    _cleanups.append(clean_up)
    try:
        yield
    finally:
        with suppress(OSError):
            clean_up()
        _cleanups.remove(clean_up)


def run_cleanups() -> None:
    """Run the cleanups of all blocks that have not ended, the youngest first."""
    for clean_up in reversed(_cleanups.copy()):
        with suppress(OSError):
            clean_up()


@contextmanager
def no_forced_exit() -> Iterator[None]:
    """Never end the process by force in the block: what it saves after a signal takes longer."""
    _no_forced_exit.set()
    try:
        yield
    finally:
        _no_forced_exit.clear()


@contextmanager
def first_only_stops() -> Iterator[threading.Event]:
    """Let the first Ctrl-C in the block set an event and nothing more; a second one interrupts.

    Yields:
        The event. Every other signal interrupts as outside of the block.
    """
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as in a background job
        yield asked
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    _next_only_stops.set()
    signal.signal(signal.SIGINT, stop)
    try:
        yield asked
    finally:
        if not asked.is_set():
            signal.signal(signal.SIGINT, before)
            _next_only_stops.clear()


def handle_signals(message: str) -> None:
    """Let signals interrupt this process from now on; to be called once, by its main thread.

    Signals that were ignored when it started (nohup, a background job) stay ignored.

    Args:
        message: the line for the user if the process has to be ended by force.
    """
    read_end, write_end = os.pipe()
    if hasattr(os, "set_blocking"):  # not on Windows before Python 3.12
        os.set_blocking(write_end, False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(_interrupt, message))
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(read_end, message), daemon=True).start()
    sys.unraisablehook = _unraisable


def was_interrupted() -> bool:
    """Whether this process was interrupted, whatever became of the exception."""
    return _interrupted.is_set()


def end_at_once(*_: object) -> NoReturn:
    """Run the cleanups and end the process, without a word; a handler of signals."""
    run_cleanups()
    os._exit(INTERRUPTED)


def _interrupt(message: str, _: int, frame: FrameType | None) -> NoReturn:
    """Unwind, or end the process; further signals would only disturb the cleanups."""
    _interrupted.set()
    ignore_signals()
    if _imports(frame) and not _no_forced_exit.is_set():
        _end(message)
    raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported by this frame, or by one that has called it."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def ignore_signals() -> None:
    """Ignore signals from now on: all is done, or being cleaned up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_in_time(read_end: int, message: str) -> None:
    """Wait for a signal, give the main thread its time, then end the process."""
    while (number := os.read(read_end, 1)[0]) not in SIGNALS or (
        number == signal.SIGINT and _next_only_stops.is_set()
    ):
        if number == signal.SIGINT:
            _next_only_stops.clear()
    threading.Event().wait(GRACE)
    if _no_forced_exit.is_set():
        return
    _end(message)


def _end(message: str) -> NoReturn:
    """End the process by force, with a line for the user."""
    run_cleanups()
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    with suppress(OSError):
        os.write(2, f"{cursor}{message}\n".encode())
    os._exit(INTERRUPTED)


def _unraisable(happened: "sys.UnraisableHookArgs") -> None:
    """Ignore an interrupt that was lost in a destructor; the process still ends in time."""
    if not issubclass(happened.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(happened)
