"""`staf`, and `python -m staf_cli`: handles Ctrl-C before anything slow is imported."""

import os
import sys
from collections.abc import MutableMapping

from staf_cli.core import interrupts, memory, streams
from staf_cli.core.errors import DONE, FAILED, INTERRUPTED, reason_of

SPINS = "10000"  # tens of microseconds; a quiet machine is as fast as with OpenMP's 300,000
INTERRUPTED_MESSAGE = "error: interrupted; every finished file is whole, the same command goes on"


def main() -> None:
    """Run the command line with signals handled and standard streams protected."""
    streams.protect_standard_streams()
    let_waiting_threads_sleep(os.environ)
    memory.keep_less()
    try:
        interrupts.handle_signals(INTERRUPTED_MESSAGE)
        code = _run()
        interrupts.ignore_signals()
    except KeyboardInterrupt:
        print(INTERRUPTED_MESSAGE, file=sys.stderr)
        code = INTERRUPTED
    if code == INTERRUPTED:
        _exit_at_once()
    sys.exit(code)


def let_waiting_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for work spin for a moment only; what the user has set stays.

    GNU OpenMP's threads spin for some milliseconds, which beside another busy program makes both
    wait for each other: two runs on two cores took three times as long as they need.

    Args:
        environment: of this process, before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


def _run() -> int | str:
    """Return the command line's exit code, a failure's also where not all could be printed."""
    from staf_cli.cli import app

    try:
        app.main()
    except SystemExit as end:
        code = end.code or DONE
    failure = streams.write_failure(sys.stdout)
    if failure is None or code == INTERRUPTED:
        return code
    reason = reason_of(failure)
    print(f"error: cannot write standard output: {reason}; free some space", file=sys.stderr)
    return code or FAILED


def _exit_at_once() -> None:
    """Skip what libraries do when a process ends (join threads, free memory): it takes too long."""
    interrupts.run_cleanups()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
