"""Freed memory is given back."""

import subprocess
import sys

import numpy as np
import pytest

from staf_cli.core.memory import give_back
from tests.support.paths import ROOT
from tests.support.resident import resident


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


ARRAYS = """
import sys
import numpy as np
from staf_cli.core.memory import keep_less
from tests.support.resident import resident

if sys.argv[1] == "less":
    keep_less()
np.ones(3_000_000)  # 24 MB: from now on glibc keeps arrays of less
last = []
before = resident()
for _ in range(40):
    pieces = [np.ones(2_500_000) for _ in range(4)]  # 20 MB each
    last.append(np.ones(10_000))  # which lies behind them
    del pieces
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps freed memory")
def test_large_arrays_are_given_back_at_once():
    kept = [
        int(subprocess.check_output([sys.executable, "-c", ARRAYS, how], cwd=ROOT))
        for how in ("as ever", "less")
    ]
    assert kept[0] > 60_000_000 and kept[1] < 20_000_000, kept
