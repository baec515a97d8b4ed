"""`staf`, and `python -m staf_cli`: ready for Ctrl-C before anything slow is imported."""

import os
import sys

from staf_cli.core import interrupts, streams
from staf_cli.core.errors import DONE, FAILED, INTERRUPTED

FAREWELL = "error: interrupted; every finished file is whole, the same command goes on"


def main() -> None:
    """Run the command line in a process whose signals and streams are taken care of."""
    streams.outlast_readers()
    try:
        interrupts.listen(FAREWELL)
        code = _run()
        interrupts.ignore()
    except KeyboardInterrupt:
        print(FAREWELL, file=sys.stderr)
        code = INTERRUPTED
    if code == INTERRUPTED:
        _leave_at_once()
    sys.exit(code)


def _run() -> int | str:
    """The command line's exit code; a failure as well where not all could be printed."""
    from staf_cli.cli import app

    try:
        app.main()
    except SystemExit as end:
        code = end.code or DONE
    failure = streams.failure_of(sys.stdout)
    if failure is None or code == INTERRUPTED:
        return code
    reason = (failure.strerror or str(failure)).lower()
    print(f"error: cannot write standard output: {reason}; free some space", file=sys.stderr)
    return code or FAILED


def _leave_at_once() -> None:
    """What libraries do when a process ends (threads joined, memory handed back) takes too long."""
    interrupts.undo_everything()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
