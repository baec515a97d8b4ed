"""`staf run`: videos in, overlays, parameters and tracks out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staf_cli.batch.naming import LEDGER, single_job
from staf_cli.batch.options import Choice, PoolOptions
from staf_cli.cli.options import FILE, FOLDER, quiet_option, record_options, verbose_option
from staf_cli.cli.output import (
    ERR,
    OUT,
    print_line,
    print_notes,
    print_warning,
    run_progress,
    written_command,
)
from staf_cli.core.errors import DAMAGED, DONE, UsageError, counted
from staf_cli.core.files import PICTURES
from staf_cli.pipeline.options import Options, expected_passes

if TYPE_CHECKING:
    from staf_cli.pipeline.clip import Summary
    from staf_cli.video import Damage


@click.command(short_help="Videos in: overlays, parameters and tracks out.")
@click.argument("videos", nargs=-1, type=FILE, metavar="[VIDEO|FOLDER]...")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    default="out",
    show_default=True,
    help="The folder that gets a folder for each clip.",
)
@record_options("choice", Choice)
@click.option(
    "--list",
    "lists",
    type=FILE,
    multiple=True,
    help="A text file with a path in every line, as seen from where it lies.",
)
@record_options("pool", PoolOptions)
@click.option("--tracks", type=FILE, help="Take the people from this table, corrected by hand.")
@record_options("options", Options)
@verbose_option
@quiet_option
def run(
    videos: tuple[Path, ...],
    output: Path,
    choice: Choice,
    lists: tuple[Path, ...],
    pool: PoolOptions,
    tracks: Path | None,
    options: Options,
    verbose: bool,
    quiet: bool,
) -> int:
    """Recover the people of a VIDEO, or of all the videos of a FOLDER or list.

    Writes OUTPUT/<video's name>/: overlay.mp4, report.html, person_<id>.npz, tracks.csv, run.json.
    Of a photo the overlay is overlay.png. A FOLDER's videos keep their places in it; OUTPUT gets
    summary.csv and summary.json as well. A folder of numbered pictures is one video. The same
    command again goes on where it stopped.

    Exit code 3 says that a video was damaged, and that everything readable was done. Of several
    clips none stops the others: 1 says that any failed, else 3 that any was damaged; one in which
    nobody is to be seen is no failure then.
    """
    if not videos and not lists:
        raise UsageError("nothing to do: name a video, a folder of videos, or a --list")
    if not quiet:  # at once: the imports below take seconds
        _announce(videos, output, alone=len(videos) == 1 and not lists and pool == PoolOptions())
    from staf_cli.batch.clips import gather, is_single_clip
    from staf_cli.batch.run import create_pool, run_batch
    from staf_cli.batch.single import run_single

    if len(videos) != 1 or lists or pool != PoolOptions() or not is_single_clip(videos[0]):
        if tracks is not None:
            raise UsageError("--tracks is for one video; name that one alone")
        jobs, notes = gather(videos, lists, choice, output)
        print_notes(notes)
        code = run_batch(jobs, output, create_pool(pool, options), OUT, ERR, quiet, verbose)
        if not quiet:
            print_line("To look at all clips, type:")
            print_line(f"  {written_command('view', str(output))}")
        return code
    with run_progress(quiet, expected_passes(options)) as watch:
        summary, _ = run_single(
            videos[0],
            output,
            options,
            watch,
            note=lambda notes: None if quiet else print_notes(notes),
            edited=tracks,
        )
    if not quiet:
        print_summary(summary, verbose)
    if summary.damage:
        warn_of_damage(summary.damage)
        return DAMAGED
    return DONE


def _announce(videos: Sequence[Path], output: Path, alone: bool) -> None:
    """Say where the results of a command will be; nothing where its only video does not exist."""
    if not alone:
        print_line(f"the results will be in {output}: a folder for each clip, and {LEDGER[0]}")
        return
    job = single_job(videos[0], output)
    if job.video.is_dir():
        print_line(f"{job.video}: the results will be in {output}")
    elif job.video.exists():
        what = "video", "motion"
        if job.video.suffix.lower() in PICTURES:
            what = "picture", "pose"
        contents = f"the {what[0]} with the bodies drawn on it, a report, each person's {what[1]}"
        print_line(f"{job.video}: the results will be in {job.folder} ({contents})")


def print_summary(summary: "Summary", verbose: bool) -> None:
    """Print who was found, where the results are, and how to look at them.

    Args:
        summary: of a finished run.
        verbose: say how long each part took as well.
    """
    from staf_cli import report

    where = "one picture" if summary.still else counted(summary.frames, "frame")
    print_line(f"{counted(len(summary.people), 'person')} in {where}")
    for person in () if summary.still else summary.people:
        gaps = f", {person.interpolated} interpolated" * bool(person.interpolated)
        print_line(f"  person {person.id}: frames {person.first} to {person.last}{gaps}")
    if summary.camera:
        print_line(f"camera:  {summary.camera}")
    if verbose:
        print_line(f"time:    {summary.times}")
    print_line(f"overlay: {summary.overlay}")
    print_line(f"report:  {report.locate(summary.folder)}")
    print_line("To see the people in 3D, and what of it to check by eye, type:")
    print_line(f"  {written_command('view', str(summary.folder))}")


def warn_of_damage(damage: "Damage") -> None:
    """Warn that a video was damaged.

    Args:
        damage: what of it.
    """
    packets = counted(damage.packets, "damaged packet")
    if damage.pictures:
        packets = f"{counted(damage.packets, 'picture')} not readable in full"
    missing = f"about {counted(damage.missing, 'packet')} missing at the end"
    parts = [packets] * bool(damage.packets) + [missing] * bool(damage.missing)
    print_warning(f"the video is damaged ({', '.join(parts)}); everything readable was done")
