"""Standard output and error that never end the work: closed, cut off by `head`, or full."""

import errno
import io
import os
import sys
from typing import Any


class _Lasting(io.RawIOBase):
    """A standard stream that takes everything, also when nobody reads it any longer."""

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


def outlast_readers() -> None:
    """Let the process write to its standard streams whatever becomes of them.

    To be called first of all: a file opened while descriptor 1 is free would be taken for
    standard output, and get what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = _lasting(1, sys.stdout), _lasting(2, sys.stderr)


def _lasting(number: int, stream: io.TextIOBase | Any) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Lasting(number))
    return io.TextIOWrapper(
        buffer,
        encoding=getattr(stream, "encoding", None),
        line_buffering=os.isatty(number) or number == 2,
    )


def failure_of(stream: Any) -> OSError | None:
    """Why not everything could be written; a reader who had read enough is no failure."""
    stream.flush()
    failure: OSError | None = stream.buffer.raw.failure
    return None if failure is None or failure.errno == errno.EPIPE else failure
