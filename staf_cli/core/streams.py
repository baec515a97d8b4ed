"""Standard output and error whose failures never end the work: closed, cut off, or a full disk."""

import errno
import io
import os
import sys
from typing import Any


class _SafeStream(io.RawIOBase):
    """A standard stream that accepts everything, also after a write has failed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return os.write(self.number, data)
            except OSError as error:
                self.failure = error
        return len(data)


def protect_standard_streams() -> None:
    """Replace standard output and error by streams that never raise an error.

    To be called first of all: a file opened while descriptor 1 is free would be taken for
    standard output, and get what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = _safe(1, sys.stdout), _safe(2, sys.stderr)


def _safe(number: int, stream: io.TextIOBase | Any) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_SafeStream(number))
    return io.TextIOWrapper(
        buffer,
        encoding=getattr(stream, "encoding", None),
        line_buffering=os.isatty(number) or number == 2,
    )


def write_failure(stream: Any) -> OSError | None:
    """Find out why not everything could be written.

    Args:
        stream: one that `protect_standard_streams` has made.

    Returns:
        The first error; None without one, or where the reader has closed the pipe, as `head` does.
    """
    stream.flush()
    failure: OSError | None = stream.buffer.raw.failure
    return None if failure is None or failure.errno == errno.EPIPE else failure
