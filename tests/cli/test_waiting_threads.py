"""Threads that wait for work leave the processor to other programs, unless the user decides."""

import os
import subprocess
import sys

import pytest

SPINS_AT_TORCH = """
import os
import sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit("spins " + os.environ.get("GOMP_SPINCOUNT", "as ever"))

sys.meta_path.insert(0, Stop())
from staf_cli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "as ever"),
    ],
)
def test_threads_spin_for_a_moment_only(tmp_path, chosen, spins):
    (tmp_path / "walk.mp4").touch()
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {key: value for key, value in os.environ.items() if key not in names} | chosen
    done = subprocess.run(
        [sys.executable, "-c", SPINS_AT_TORCH, "run", "walk.mp4"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip().endswith(f"spins {spins}")
