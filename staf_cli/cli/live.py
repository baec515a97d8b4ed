"""`staf live`: people followed while they are filmed."""

from pathlib import Path

import click

from staf_cli.cli.options import FOLDER, quiet_option, record_options
from staf_cli.cli.output import print_error, print_lines, print_notes, progress_watch
from staf_cli.cli.run import print_summary, warn_of_damage
from staf_cli.core.errors import DAMAGED, DONE, UsageError
from staf_cli.pipeline.options import Options

OF_FILES = ("start", "end", "fps", "fit", "force", "every")  # options without use for a source


@click.command(short_help="Follow the people before a camera or in a stream.")
@click.argument("source", metavar="DEVICE|URL|-")
@click.option("--record", type=FOLDER, metavar="OUT", help="Record, and make results in OUT.")
@record_options("options", Options, without=OF_FILES)
@quiet_option
def live(source: str, record: Path | None, options: Options, quiet: bool) -> int:
    """Show the people of a camera (0, /dev/video0), a stream (rtsp://, http://) or a pipe (-).

    The newest frame is always the one that is worked on; those that there is no time for are
    dropped. The corner shows the rate, the latency and how many were dropped. q or Ctrl-C ends it.

    With --record everything that came, without sound, is in OUT.mkv, and in the end OUT is its
    result folder, as `staf run` makes it; OUT/live.mp4 is what was shown. Options of fitting,
    smoothing, selection, side view, codec and export are for that result only.
    """
    from staf_cli.live.session import run_live

    if options.export and record is None:
        raise UsageError("--export is for what is recorded; add --record OUT")
    ending = run_live(
        source,
        record,
        options,
        progress_watch(quiet),
        say=lambda lines: None if quiet else print_lines(lines),
        note=lambda notes: None if quiet else print_notes(notes),
    )
    if ending.summary and not quiet:
        print_summary(ending.summary, verbose=False)
    if ending.broke_off:
        print_error(str(ending.broke_off))
        return ending.broke_off.exit_code
    if ending.summary and ending.summary.damage:
        warn_of_damage(ending.summary.damage)
        return DAMAGED
    return DONE
