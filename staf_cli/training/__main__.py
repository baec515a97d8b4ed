"""`python -m staf_cli.training`: `staf train` without the dependencies of the other commands."""

import signal
import sys

import click

from staf_cli.core.errors import DONE, INTERRUPTED, StafError
from staf_cli.training.commands import train


def main() -> None:
    """Run a command and exit: with one line and an exit code for every error, as `staf` does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = train.main(prog_name="python -m staf_cli.training", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was trained is saved, the same command goes on", err=True)
        code = INTERRUPTED
    except StafError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    sys.exit(code or DONE)


def _interrupt(*_: object) -> None:
    """End on SIGTERM as on Ctrl-C: the run's state is saved."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
