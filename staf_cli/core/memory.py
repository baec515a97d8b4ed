"""Memory that was freed, given back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Give the memory that was freed back to the system, where the C library would keep it.

    glibc keeps what threads and networks have freed, in pieces that the next pass over a clip,
    which needs other sizes, adds its own to. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)
