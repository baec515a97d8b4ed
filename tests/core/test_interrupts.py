"""Ctrl-C that only asks to stop: it neither unwinds nor ends the process, the next one does."""

import subprocess
import sys

from tests.support.paths import ROOT

PROGRAM = """
import os, signal, time
from staf_cli.core import interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
interrupts.GRACE = 0.3
interrupts.handle_signals("forced")
with interrupts.first_only_stops() as asked:
    assert not asked.is_set()
    os.kill(os.getpid(), signal.{first})
    asked.wait(5)
    print("stopped", asked.is_set())
time.sleep(0.6)
print("alive", interrupts.was_interrupted(), flush=True)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted", interrupts.was_interrupted(), flush=True)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        time.sleep(0.05)
"""


def run(first):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )


def test_the_first_only_stops_and_the_second_interrupts():
    done = run("SIGINT")
    assert done.stdout.split("\n") == ["stopped True", "alive False", "interrupted True", ""]
    assert (done.returncode, done.stderr) == (130, "forced\n")


def test_other_signals_interrupt():
    done = run("SIGTERM")
    assert "stopped" not in done.stdout and "KeyboardInterrupt" in done.stderr
