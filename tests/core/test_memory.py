"""Freed memory is given back."""

import pathlib
import sys

import numpy as np
import pytest

from staf_cli.core.memory import give_back


def resident() -> int:
    """Bytes of this process that are in memory."""
    with pathlib.Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system():
    # Pieces that are too small to be mapped one by one; a last one keeps the heap's end in use.
    pieces = [np.ones(10_000) for _ in range(2000)]
    last = np.ones(10_000)
    del pieces
    before = resident()
    give_back()
    assert before - resident() > 100_000_000
    assert last.all()
