"""The project's tasks; `make`, continuous integration and Windows share these definitions.

    python -m tools.tasks demo | test | test-full | smoke | bench | format

Run it from the repository with the Python of an environment that has staf and, but for `demo` and
`bench`, its `test` extra. A task stops at the first step that fails and ends with its exit code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEAST_COVERAGE = 94  # per cent of the lines of staf_cli; it was 94.6 when this was set
SMOKE = (
    "tests/core",
    "tests/body/test_skinning.py",
    "tests/checkpoints/test_format.py",
    "tests/export",
)


def demo() -> None:
    """Fetch the detector and the example clip, and run on it."""
    module("staf_cli", "weights", "fetch", "yolo11n-pose", "example")
    from staf_cli.checkpoints import registry

    module("staf_cli", "run", str(registry.locate("example")), "--side-view")


def test() -> None:
    """Check style, types and layers; run the tests and report their coverage."""
    module("ruff", "format", "--check", ".")
    module("ruff", "check", ".")
    module("mypy")
    step(shutil.which("lint-imports", path=sysconfig.get_path("scripts")) or "lint-imports")
    module("staf_cli", "weights", "fetch", "--quiet", "yolo11n-pose")
    # One thread a process: more threads than cores wait for each other.
    two = ("--numprocesses", "2", "--dist", "loadfile")
    cover = ("--cov", f"--cov-fail-under={LEAST_COVERAGE}")
    module("pytest", "-m", "not full and not alone", *two, *cover, OMP_NUM_THREADS="1")
    module("pytest", "-m", "alone and not full")


def test_full() -> None:
    """Run the tests that take minutes: damage, memory, kills, a cluster."""
    module("staf_cli", "weights", "fetch", "--quiet", "yolo11n-pose")
    module("pytest", "-m", "full")


def smoke() -> None:
    """Run a minute of tests that are the same on every system."""
    module("pytest", "-m", "not full and not alone", *SMOKE)


def bench() -> None:
    """Measure how fast the network is on this machine."""
    module("tools.benchmark")


def format() -> None:
    """Format the code and fix what ruff can fix."""
    module("ruff", "format", ".")
    module("ruff", "check", "--fix", ".")


TASKS: dict[str, Callable[[], None]] = {
    "demo": demo,
    "test": test,
    "test-full": test_full,
    "smoke": smoke,
    "bench": bench,
    "format": format,
}


def module(name: str, *arguments: str, **environment: str) -> None:
    """Run a Python module as a step, with further environment variables."""
    step(sys.executable, "-m", name, *arguments, **environment)


def step(*command: str, **environment: str) -> None:
    """Run one command in the repository's root; exit with its code where it fails."""
    print("$", *command, flush=True)
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt:  # the step gets Ctrl-C as well and may have files to clean up
            continue
    if process.returncode:
        sys.exit(process.returncode if process.returncode > 0 else 128 - process.returncode)


def main() -> None:
    """Run the task that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.tasks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name:10} {task.__doc__}" for name, task in TASKS.items()),
    )
    parser.add_argument("task", choices=TASKS)
    TASKS[parser.parse_args().task]()


if __name__ == "__main__":
    main()
