"""Memory that was freed, given back to the system, where glibc would keep it."""

import ctypes
import sys
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
LARGE = 16 << 20  # bytes
ARENAS = 2  # heaps that threads share


def keep_less() -> None:
    """Let this process give large arrays back at once; to be called before it has threads.

    glibc else learns from the first ones to keep up to 64 MB of them, in a heap for each of many
    threads: the demo took 10 % more memory, and no less time. Frames, and what networks compute
    of crops, are smaller than LARGE: with 2 MB, where they are fetched from the system each time,
    the demo took a sixth more time and 3 % less memory.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give the memory that was freed back to the system.

    glibc keeps what threads and networks have freed, in pieces that the next pass over a clip,
    which needs other sizes, adds its own to.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, if that is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)  # musl has none
    return found
