"""`staf`: its commands put together, and one line and an exit code for every error.

Commands import heavy packages when they run: `staf --help` answers at once.
"""

import io
import os
import sys
from typing import NoReturn

import click

from staf_cli.cli import data, doctor, evaluate, live, paper, results, run, weights
from staf_cli.cli.output import print_error
from staf_cli.core import interrupts
from staf_cli.core.errors import DONE, FAILED, INTERRUPTED, StafError, describe, one_line
from staf_cli.core.version import __version__
from staf_cli.training.commands import train

GOES_ON = "goes on"  # ends a note that names another command than the interrupted one


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="staf")
def staf() -> None:
    """A video of people in, 3D bodies out.

    \b
    staf run video.mp4    overlay, report, SMPL parameters and tracks in out/video/
    staf view out/video   open the report
    staf run clips/       a whole folder; the same command again goes on
    staf live 0           the same of a camera or stream, while it films
    staf doctor           what this machine has, and how to get the rest
    """


COMMANDS = (
    *(run.run, live.live, results.render, results.tracks, results.export, results.view),
    *(evaluate.evaluate, data.data, paper.paper, doctor.doctor, train),
    *(weights.weights, weights.body),
)
for command in COMMANDS:
    staf.add_command(command)


def main() -> NoReturn:
    """Run `staf` and exit with one of the codes that core/errors.py lists."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that it cannot spell is no failure
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run_command()
    except click.ClickException as error:
        error.message = one_line(error.message)  # type: ignore[misc]  # it may quote a file name
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        print_error(_what_is_finished(stop))
        code = INTERRUPTED
    except StafError as error:
        print_error(str(error))
        code = error.exit_code
    except OSError as error:
        print_error(f"{describe(error)}; fix that, and run the command again")
        code = FAILED
    except Exception as error:  # the last resort: a user gets a line, not a traceback
        if os.environ.get("STAF_DEBUG") and not isinstance(error, MemoryError):
            raise
        print_error(describe(error))
        code = FAILED
    sys.exit(code or DONE)


def _run_command() -> int | None:
    """Run what the command line asks for; returns the exit code, None for 0."""
    try:
        code: int | None = staf.main(standalone_mode=False)
    except Exception as error:
        if interrupts.was_interrupted():  # libraries turn an interrupt into errors of their own
            raise KeyboardInterrupt from error
        raise
    return code


def _what_is_finished(stop: BaseException | None) -> str:
    """What the interrupted code noted as finished (`stop.add_note`), and how to continue."""
    notes = ["every finished file is whole"]
    while stop is not None:
        notes = getattr(stop, "__notes__", notes)
        stop = stop.__cause__
    if not notes[-1].endswith(GOES_ON):
        notes = [*notes, f"the same command {GOES_ON}"]
    return f"interrupted; {'; '.join(notes)}"
