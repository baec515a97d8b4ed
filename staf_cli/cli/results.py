"""Commands for finished results: render, tracks, export, view."""

from pathlib import Path

import click

from staf_cli.cli.options import FILE, FOLDER, quiet_option, record_options, verbose_option
from staf_cli.cli.output import print_line, print_notes, progress_watch
from staf_cli.cli.run import print_summary
from staf_cli.core.errors import MissingTool, UsageError
from staf_cli.core.options import names
from staf_cli.pipeline.options import EXPORT_FORMATS, ExportOptions, Look

video_option = click.option("--video", type=FILE, help="The video, if it has been moved.")


@click.command(short_help="Draw a result's overlay again.")
@click.argument("result", type=FOLDER)
@video_option
@record_options("look", Look)
@quiet_option
def render(result: Path, video: Path | None, look: Look, quiet: bool) -> None:
    """Draw the overlay of a RESULT folder again, with another look; nothing is recomputed."""
    from staf_cli.pipeline import rework

    path, notes = rework.render(result, video, look, progress_watch(quiet))
    if not quiet:
        print_notes(notes)
        print_line(f"overlay: {path}")


@click.command(short_help="Correct a result's tracks.")
@click.argument("result", type=FOLDER)
@click.option("--merge", multiple=True, metavar="A,B", help="A and B are one person: A.")
@click.option("--split", multiple=True, metavar="A@FRAME", help="From there on A is another one.")
@click.option("--drop", multiple=True, metavar="A", help="Leave A out.")
@click.option("--rename", multiple=True, metavar="A=NAME", help="Call A by a name.")
@video_option
@verbose_option
@quiet_option
def tracks(
    result: Path,
    merge: tuple[str, ...],
    split: tuple[str, ...],
    drop: tuple[str, ...],
    rename: tuple[str, ...],
    video: Path | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Merge, split, drop and rename the people of a RESULT folder.

    Edits are done in this order, and each option may be given several times. Only who is changed
    is recovered again. For finer changes edit tracks.csv and give it to `staf run --tracks`.
    """
    from staf_cli.pipeline import rework
    from staf_cli.tracking.edits import parse_edits

    edits = parse_edits(merge, split, drop, rename)
    if not edits:
        raise UsageError("nothing to do: give --merge, --split, --drop or --rename")
    summary = rework.edit_tracks(result, edits, video, progress_watch(quiet))
    if not quiet:
        print_notes(summary.notes)
        print_summary(summary, verbose)


@click.command(short_help="Write a result in formats that open elsewhere.")
@click.argument("result", type=FOLDER)
@click.option(
    "--format",
    "formats",
    default="glb",
    show_default=True,
    metavar="NAMES",
    help=f"By commas: {', '.join(EXPORT_FORMATS)}.",
)
@record_options("options", ExportOptions)
@quiet_option
def export(result: Path, formats: str, options: ExportOptions, quiet: bool) -> None:
    """Write the people of a RESULT folder in further formats. Nothing is recomputed.

    glb opens in Blender and in browsers, bvh in what animates skeletons, amass in the Blender
    add-ons for SMPL; obj and ply are a mesh a frame, csv are joints, openpose 2D keypoints.
    """
    from staf_cli.pipeline import rework

    rework.export(result, names(formats), options, progress_watch(quiet))
    if not quiet:
        for name in names(formats):
            print_line(f"{name}: {result / rework.export_path(name)}")


@click.command(short_help="Open a result's report in the browser.")
@click.argument("result", type=FOLDER)
@click.option("--no-browser", is_flag=True, help="Only print where the report lies.")
def view(result: Path, no_browser: bool) -> None:
    """Open the report of a RESULT folder, report.html, in your browser; it needs no network.

    Of a folder with the results of many clips a page with all of them is opened, summary.html.
    """
    import webbrowser

    from staf_cli import report
    from staf_cli.batch import overview

    path = overview.write(result) if overview.is_batch(result) else report.locate(result)
    path = path.absolute()
    if no_browser:
        print_line(str(path))
    elif not webbrowser.open(path.as_uri()):
        raise MissingTool(f"{path}: there is no browser here; open the file yourself")
