"""The command line: options in, one frozen record to the pipeline, one line for every error."""

import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from staf_cli.core import interrupts
from staf_cli.core.errors import (
    DAMAGED,
    DONE,
    FAILED,
    INTERRUPTED,
    MissingTool,
    StafError,
    UsageError,
    one_line,
)
from staf_cli.core.version import __version__
from staf_cli.training.commands import train

# Heavy packages are imported inside the commands that need them: `staf --help` answers at once.

Command = TypeVar("Command", bound=Callable[..., Any])
OUT = Console(highlight=False, emoji=False)
ERR = Console(stderr=True, highlight=False, emoji=False)
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


def main() -> NoReturn:
    """Run `staf` and exit with one of the codes that errors.py lists."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that it cannot spell is no failure
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _obey()
    except click.ClickException as error:
        error.message = one_line(error.message)  # type: ignore[misc]  # it may quote a file name
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        _say_error(_what_is_finished(stop))
        code = INTERRUPTED
    except StafError as error:
        _say_error(str(error))
        code = error.exit_code
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        _say_error(f"{reason}: {error.filename or 'system'}; mend that, and run the command again")
        code = FAILED
    except MemoryError:
        _say_error("out of memory; close other programs, or try --batch 1")
        code = FAILED
    except Exception as error:  # the last resort: a user gets a line, not a traceback
        if os.environ.get("STAF_DEBUG"):
            raise
        _say_error(
            f"unforeseen {type(error).__name__}: {' '.join(str(error).split())[:200]}; "
            "please report it with what STAF_DEBUG=1 prints"
        )
        code = FAILED
    sys.exit(code or DONE)


def _obey() -> int | None:
    """Do what the command line says; gives the exit code, None for 0."""
    try:
        code: int | None = staf.main(standalone_mode=False)
    except Exception as error:
        if interrupts.heard():  # libraries turn an interrupt into errors of their own
            raise KeyboardInterrupt from error
        raise
    return code


def _what_is_finished(stop: BaseException | None) -> str:
    """What the interrupted code has noted of it (`stop.add_note`), and how to go on."""
    notes = ["every finished file is whole"]
    while stop is not None:
        notes = getattr(stop, "__notes__", notes)
        stop = stop.__cause__
    return f"interrupted; {'; '.join(notes)}; the same command goes on"


def _say_error(message: str) -> None:
    ERR.print(f"error: {one_line(message)}", style="red", markup=False, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="staf")
def staf() -> None:
    """A video of people in, 3D bodies out.

    \b
    staf run video.mp4    overlay, report, SMPL parameters and tracks in out/video/
    staf view out/video   open the report
    staf run clips/       a whole folder; the same command again goes on
    staf doctor           what this machine has, and how to mend the rest
    """


def look_options(command: Command) -> Command:
    """What the overlay shows: the same for `run` and `render`."""
    options = [
        click.option("--alpha", type=float, default=0.9, show_default=True, metavar="0..1",
                     help="How much the bodies cover the photo."),
        click.option("--side-view", is_flag=True, help="Add a panel that shows the side."),
        click.option("--plain", is_flag=True, help="Bodies on a plain ground, no photo."),
        click.option("--wireframe", is_flag=True, help="The mesh's edges instead of skin."),
        click.option("--boxes", is_flag=True, help="Boxes, ids and keypoints as well."),
        click.option("--renderer", type=click.Choice(["auto", "cpu", "pyrender"]), default="auto",
                     show_default=True, help="pyrender needs a graphics card."),
        click.option("--codec", metavar="NAME",
                     help="An encoder of your own ffmpeg: h264_nvenc, hevc, prores_ks, ..."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


@staf.command(short_help="Videos in: overlays, parameters and tracks out.")
@click.argument("videos", nargs=-1, type=FILE, metavar="[VIDEO|FOLDER]...")
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    default="out",
    show_default=True,
    help="The folder that gets a folder for each clip.",
)
@click.option("--recursive", is_flag=True, help="Also the videos in a FOLDER's folders.")
@click.option("--pattern", metavar="GLOB", help="Only a FOLDER's files like this: '*.mp4'.")
@click.option(
    "--list",
    "lists",
    type=FILE,
    multiple=True,
    help="A text file with a path in every line, as seen from where it lies.",
)
@click.option("--jobs", type=int, metavar="N", help="Clips at a time, each in its own process.")
@click.option("--devices", metavar="IDS", default="", help="Share these CUDA devices: 0 or 0,1.")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Do the clips on a Ray cluster (HOST:PORT, auto), or on one started here (local).",
)
@click.option("--start", metavar="TIME", help="From here: seconds (12.5), m:ss or h:mm:ss.")
@click.option("--end", metavar="TIME", help="Up to here.")
@click.option("--fps", type=float, help="The rate of a folder of pictures.  [default: 25]")
@click.option("--tracks", type=FILE, help="Take the people from this table, mended by hand.")
@click.option("--force", is_flag=True, help="Do everything again, also what stands already.")
@click.option(
    "--refine/--no-refine",
    default=None,
    help="Fit each body to the detected 2D keypoints; the default with the open weights.",
)
@click.option(
    "--export",
    "exports",
    metavar="NAMES",
    default="",
    help="Further files, by commas: amass, bvh, csv, glb, obj, openpose, ply.",
)
@click.option(
    "--smooth",
    type=float,
    default=0.0,
    metavar="S",
    help="Smooth motion over S seconds; 0.07 calms without flattening.  [default: not]",
)
@click.option("--constant-shape", is_flag=True, help="One body shape a person.")
@click.option("--person", metavar="IDS", default="", help="Only these people: 1 or 1,3.")
@click.option("--max-people", type=int, help="At most N people at a time, the largest.")
@click.option(
    "--min-track",
    type=int,
    default=25,
    show_default=True,
    help="Drop who is seen in fewer frames (or in less than a whole, shorter shot).",
)
@click.option(
    "--conf",
    type=float,
    default=0.25,
    show_default=True,
    help="Score from which a detection is believed.",
)
@click.option(
    "--detector",
    default="yolo11n-pose",
    show_default=True,
    help="A name from `staf weights list`, or a YOLO .pt file.",
)
@click.option("--trust", is_flag=True, help="Load a detector file of unknown origin.")
@click.option(
    "--tracker",
    type=click.Choice(["bytetrack", "botsort"]),
    default="bytetrack",
    show_default=True,
    help="botsort follows a moving camera.",
)
@click.option("--weights", metavar="NAME", help="A checkpoint's name or file.")
@click.option("--body", metavar="NAME", help="A body's name or npz file.")
@click.option(
    "--focal",
    type=float,
    metavar="PX",
    help="The camera's focal length.  [default: the image's diagonal]",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "full", "half"]),
    default="auto",
    show_default=True,
    help="half is the default on CUDA.",
)
@click.option(
    "--batch",
    type=int,
    default=16,
    show_default=True,
    help="Crops at a time; halved when memory runs out.",
)
@look_options
@quiet_option
def run(
    videos: tuple[Path, ...],
    output: Path,
    recursive: bool,
    pattern: str | None,
    lists: tuple[Path, ...],
    jobs: int | None,
    devices: str,
    ray: str | None,
    start: str | None,
    end: str | None,
    fps: float | None,
    tracks: Path | None,
    force: bool,
    refine: bool | None,
    exports: str,
    smooth: float,
    constant_shape: bool,
    person: str,
    max_people: int | None,
    min_track: int,
    conf: float,
    detector: str,
    trust: bool,
    tracker: Any,
    weights: str | None,
    body: str | None,
    focal: float | None,
    device: str,
    precision: str,
    batch: int,
    quiet: bool,
    **look: Any,
) -> int:
    """Recover the people of a VIDEO, or of all the videos of a FOLDER or list.

    Writes OUTPUT/<video's name>/: overlay.mp4, report.html, person_<id>.npz, tracks.csv, run.json.
    A FOLDER's videos keep their places in it; OUTPUT gets summary.csv and summary.json as well. A
    folder of numbered pictures is one video. The same command again goes on where it stopped.

    Exit code 3 says that a video was damaged, and that everything readable was done. Of several
    clips none stops the others: 1 says that any failed, else 3 that any was damaged; one in which
    nobody is to be seen is no failure then.
    """
    from staf_cli.batch import clips, shift
    from staf_cli.core.span import Span, parse_time
    from staf_cli.pipeline import clip as clip_pipeline
    from staf_cli.pipeline.loading import prepare
    from staf_cli.pipeline.options import Look, Options
    from staf_cli.result import tracks_csv
    from staf_cli.tracking.linking import TrackOptions
    from staf_cli.video import probe

    options = Options(
        span=Span(parse_time(start or "0"), None if end is None else parse_time(end)),
        fps=fps,
        detector=detector,
        trust=trust,
        tracker=tracker,
        tracks=TrackOptions(
            conf=conf,
            min_track=min_track,
            max_people=max_people,
            person=_numbers("--person", person),
        ),
        weights=weights,
        body=body,
        focal=focal,
        refine=refine,
        smooth=smooth,
        constant_shape=constant_shape,
        device=device,
        half={"auto": None, "full": False, "half": True}[precision],
        batch=batch,
        look=Look(**look),
        export=_names(exports),
        force=force,
    )
    crew = shift.Crew(jobs, _numbers("--devices", devices), ray)
    if not videos and not lists:
        raise UsageError("nothing to do: name a video, a folder of videos, or a --list")
    if len(videos) != 1 or lists or crew != shift.Crew() or not clips.is_one(videos[0]):
        if tracks is not None:
            raise UsageError("--tracks is for one video; name that one alone")
        choice = clips.Choice(recursive, pattern)
        found, notes = clips.gather(videos, lists, choice, output)
        _say_notes(notes)
        return shift.run(found, output, shift.hire(crew, options), OUT, ERR, quiet)
    job = clips.alone(videos[0], output)
    # The likeliest mistakes are told before the network is loaded.
    probe(job.video, options.span, options.fps)
    mended = None if tracks is None else tracks_csv.load(tracks)
    tools, notes = prepare(options)
    if not quiet:
        _say_notes(notes)
    summary = clip_pipeline.run(job.video, job.folder, options, tools, _watch(quiet), mended)
    if not quiet:
        _say_notes(summary.notes)
        _say_summary(summary)
    if summary.damage:
        _say_damage(summary.damage.packets, summary.damage.missing)
        return DAMAGED
    return DONE


@staf.command(short_help="Draw a result's overlay again.")
@click.argument("result", type=FOLDER)
@click.option("--video", type=FILE, help="The video, if it has been moved.")
@look_options
@quiet_option
def render(result: Path, video: Path | None, quiet: bool, **look: Any) -> None:
    """Draw the overlay of a RESULT folder again, with another look; nothing is recomputed."""
    from staf_cli.pipeline import rework
    from staf_cli.pipeline.options import Look

    path, notes = rework.render(result, video, Look(**look), _watch(quiet))
    if not quiet:
        _say_notes(notes)
        OUT.print(f"overlay: {one_line(str(path))}", soft_wrap=True, markup=False)


@staf.command(short_help="Put a result's tracks right.")
@click.argument("result", type=FOLDER)
@click.option("--merge", multiple=True, metavar="A,B", help="A and B are one person: A.")
@click.option("--split", multiple=True, metavar="A@FRAME", help="From there on A is another one.")
@click.option("--drop", multiple=True, metavar="A", help="Leave A out.")
@click.option("--rename", multiple=True, metavar="A=NAME", help="Call A by a name.")
@click.option("--video", type=FILE, help="The video, if it has been moved.")
@quiet_option
def tracks(
    result: Path,
    merge: tuple[str, ...],
    split: tuple[str, ...],
    drop: tuple[str, ...],
    rename: tuple[str, ...],
    video: Path | None,
    quiet: bool,
) -> None:
    """Merge, split, drop and rename the people of a RESULT folder.

    Edits are done in this order, and each option may be given several times. Only who is changed
    is recovered again. For finer changes edit tracks.csv and give it to `staf run --tracks`.
    """
    from staf_cli.pipeline import rework
    from staf_cli.tracking import edits as mending

    edits = mending.parse(merge, split, drop, rename)
    if not edits:
        raise UsageError("nothing to do: give --merge, --split, --drop or --rename")
    summary = rework.mend(result, edits, video, _watch(quiet))
    if not quiet:
        _say_notes(summary.notes)
        _say_summary(summary)


@staf.command(short_help="Write a result in formats that open elsewhere.")
@click.argument("result", type=FOLDER)
@click.option(
    "--format",
    "formats",
    default="glb",
    show_default=True,
    metavar="NAMES",
    help="By commas: amass, bvh, csv, glb, obj, openpose, ply.",
)
@quiet_option
def export(result: Path, formats: str, quiet: bool) -> None:
    """Write the people of a RESULT folder in further formats. Nothing is recomputed.

    glb opens in Blender and in browsers, bvh in what animates skeletons, amass in the Blender
    add-ons for SMPL; obj and ply are a mesh a frame, csv are joints, openpose 2D keypoints.
    """
    from staf_cli.pipeline import rework

    rework.export(result, _names(formats), _watch(quiet))
    if not quiet:
        for name in _names(formats):
            where = result / rework.export_place(name)
            OUT.print(f"{name}: {one_line(str(where))}", soft_wrap=True, markup=False)


@staf.command(short_help="Open a result's report in the browser.")
@click.argument("result", type=FOLDER)
@click.option("--no-browser", is_flag=True, help="Only print where the report lies.")
def view(result: Path, no_browser: bool) -> None:
    """Open the report of a RESULT folder, report.html, in your browser; it needs no network."""
    import webbrowser

    from staf_cli import report

    path = report.locate(result).absolute()
    if no_browser:
        click.echo(path)
    elif not webbrowser.open(path.as_uri()):
        raise MissingTool(f"{path}: there is no browser here; open the file yourself")


@staf.command("eval", short_help="Measure networks on videos whose truth is known.")
@click.argument("dataset", type=FOLDER)
@click.option(
    "--weights",
    "names",
    multiple=True,
    metavar="NAME",
    help="A checkpoint's name or file; give it again for each that is to be compared.",
)
@click.option("--body", metavar="NAME", help="A body's name or npz file.")
@click.option(
    "--method",
    "methods",
    default="network,mean",
    show_default=True,
    metavar="NAMES",
    help="Of network, mean, refine, network+refine, separated by commas.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--batch", type=int, default=16, show_default=True, help="Crops at a time.")
@click.option(
    "-o", "--output", type=FOLDER, help="A folder for metrics.csv, metrics.json and accel.png."
)
@quiet_option
def evaluate(
    dataset: Path,
    names: tuple[str, ...],
    body: str | None,
    methods: str,
    device: str,
    batch: int,
    output: Path | None,
    quiet: bool,
) -> None:
    """Measure how far recovered bodies are from the truth of the DATASET folder.

    It holds clips (mp4) each with its truth (npz) beside it, a sample set of photos with 2D
    labels (images.npy, labels.npz), or both; docs/evaluation.md describes them. Prints a row for
    each checkpoint and method; OUTPUT gets each clip's as well.
    """
    from staf_cli.checkpoints.registry import locate_detector
    from staf_cli.core import files
    from staf_cli.evaluation import evaluation
    from staf_cli.evaluation.truth import open_dataset
    from staf_cli.pipeline import loading

    options = evaluation.Options(_names(methods), device, batch)
    if output is not None:
        files.check_writable(output)
    footage = open_dataset(dataset)
    detector = None
    if evaluation.needs_detector(footage, options):
        detector = locate_detector("yolo11n-pose", trust=False)
    chosen = names or (loading.default_weights(body),)
    contenders = [_contender(name, body) for name in dict.fromkeys(chosen)]
    if chosen == (None,) and not quiet:
        _say_notes(["no trained weights for this body: the network answers the mean pose"])
    table = evaluation.evaluate(footage, contenders, options, detector, _watch(quiet))
    if not quiet:
        _say_errors(table)
    if output is not None:
        for path in evaluation.save(table, output):
            if not quiet:
                OUT.print(f"written: {one_line(str(path))}", soft_wrap=True, markup=False)


@staf.command()
def doctor() -> int:
    """Check device, detector, body, weights, ffmpeg and GL; say how to mend what is missing."""
    from staf_cli.cli.doctor import examine

    code = DONE
    for finding in examine():
        mark = "ok" if finding.works else "missing" if finding.needed else "absent"
        if finding.needed and not finding.works:
            code = FAILED
        OUT.print(f"{finding.name:<9} {mark:<8} {finding.detail}", soft_wrap=True, markup=False)
    return code


staf.add_command(train)


@staf.group()
def weights() -> None:
    """Detectors, checkpoints and the example clip."""


@weights.command("list")
def list_weights() -> None:
    """Name everything that can be fetched, and what is here."""
    from staf_cli.checkpoints.registry import imported, verify

    table = Table("name", "kind", "here", "MB", "licence", "what", box=None, pad_edge=False)
    for checked in verify():
        entry = checked.entry
        megabytes = f"{entry.bytes / 1e6:.1f}"
        table.add_row(entry.name, entry.kind, checked.state, megabytes, entry.licence, entry.what)
    for path in imported():
        megabytes = f"{path.stat().st_size / 1e6:.1f}"
        name = escape(one_line(path.stem))
        table.add_row(name, "checkpoint", "ok", megabytes, "its authors'", "imported")
    OUT.print(table)


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@quiet_option
def fetch_weights(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch files by NAME into your data folder; their hashes are checked."""
    from staf_cli.checkpoints.registry import fetch

    for name in names:
        path = fetch(name) if quiet else _fetch_visibly(name)
        if not quiet:
            OUT.print(f"{name}: {one_line(str(path))}", soft_wrap=True, markup=False)


@weights.command("path")
@click.argument("name")
def path_of_weights(name: str) -> None:
    """Print where NAME lies."""
    from staf_cli.checkpoints.registry import locate

    click.echo(locate(name))


@weights.command("import")
@click.argument("folder", type=FOLDER)
@click.option("--name", default="staf-3dpw", show_default=True, help="What to call it here.")
def import_weights(folder: Path, name: str) -> None:
    """Bring in the authors' files: FOLDER holds 3dpw_model_best.pth.tar and base_model.pt."""
    from staf_cli.checkpoints.registry import checkpoint_path
    from staf_cli.checkpoints.release import import_release

    path = import_release(folder, checkpoint_path(name))
    OUT.print(f"imported: use it with --weights {path.stem}", markup=False)


@weights.command("verify")
def verify_weights() -> int:
    """Hash every file; exit code 1 where one was altered."""
    from staf_cli.checkpoints.registry import verify

    found = verify()
    for checked in found:
        OUT.print(f"{checked.entry.name:<14} {checked.state}", markup=False)
    return FAILED if any(checked.state == "altered" for checked in found) else DONE


@staf.group()
def body() -> None:
    """Body models in SMPL format."""


@body.command("import")
@click.argument("file", type=FILE)
def import_body(file: Path) -> None:
    """Bring in a licensed SMPL FILE (.pkl, .npz or the official .zip); no code in it is run."""
    from staf_cli.body import smpl_files

    name, path = smpl_files.import_body(file)
    OUT.print(f"imported: use it with --body {name} ({path})", soft_wrap=True, markup=False)


def _fetch_visibly(name: str) -> Path:
    from rich.progress import Progress

    from staf_cli.checkpoints.registry import fetch

    with Progress(console=OUT, transient=True) as bar:
        task = bar.add_task(name)
        return fetch(name, lambda done, total: bar.update(task, completed=done, total=total))


def _contender(name: str | None, body: str | None) -> Any:
    """A checkpoint by name or file, None for the untrained network, with its body or another."""
    from staf_cli.checkpoints.format import load_checkpoint
    from staf_cli.checkpoints.registry import locate
    from staf_cli.evaluation import evaluation
    from staf_cli.pipeline import loading

    if name is None:
        return evaluation.untrained(loading.open_body(body or loading.OPEN_BODY))
    checkpoint = load_checkpoint(locate(name))
    own_body = loading.open_body(body or checkpoint.body.rsplit(maxsplit=1)[0])
    return evaluation.contender(name, checkpoint, own_body)


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: give numbers such as 1 or 1,3") from error


def _watch(quiet: bool) -> Any:
    from staf_cli.core import progress

    return progress.silent if quiet else partial(progress.watch, OUT)


def _say_notes(notes: list[str]) -> None:
    for note in notes:
        OUT.print(f"note: {one_line(note)}", style="yellow", markup=False, soft_wrap=True)


def _say_damage(packets: int, missing: int) -> None:
    parts = [f"{packets} damaged packets"] if packets else []
    parts += [f"about {missing} packets missing at the end"] if missing else []
    ERR.print(
        f"warning: the video is damaged ({', '.join(parts)}); everything readable was done",
        style="yellow",
        markup=False,
        soft_wrap=True,
    )


def _say_errors(table: Any) -> None:
    """A line for each network and method over all clips."""
    from staf_cli.evaluation.evaluation import OVERALL

    header = ("weights", "method", "frames", "MPJPE", "PA-MPJPE", "PVE", "Accel", "PCK@0.2", "2D")
    shown = Table(*header, box=None, pad_edge=False)
    for column in shown.columns[2:]:
        column.justify = "right"
    for row in table.rows:
        if row.clip == OVERALL:
            millimetres = (row.mpjpe, row.pa_mpjpe, row.pve, row.accel)
            numbers = [_number(value, 1) for value in millimetres]
            numbers += [_number(row.pck, 3), _number(row.error_2d, 3)]
            shown.add_row(escape(one_line(row.weights)), row.method, str(row.frames), *numbers)
    OUT.print(shown)
    OUT.print(
        "MPJPE, PA-MPJPE, PVE in mm; Accel in mm / frame^2; 2D in sides of the person's box",
        soft_wrap=True,
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _rate(name: str, seconds: float, frames: int) -> str:
    """How long a pass took; its frames a second, unless it was too short to measure."""
    return f"{name} {seconds:.1f} s" + (f" ({frames / seconds:.1f} frames/s)" if seconds else "")


def _say_summary(summary: Any) -> None:
    people = len(summary.people)
    OUT.print(
        f"{people} {'person' if people == 1 else 'people'} in "
        f"{summary.frames} {'frame' if summary.frames == 1 else 'frames'}",
        markup=False,
    )
    for person in summary.people:
        gaps = f", {person.interpolated} interpolated" * bool(person.interpolated)
        OUT.print(
            f"  person {person.id}: frames {person.first} to {person.last}{gaps}", markup=False
        )
    rates = [_rate(name, took, summary.frames) for name, took in summary.seconds.items()]
    OUT.print("time:    " + ", ".join(rates), markup=False, soft_wrap=True)
    OUT.print(f"overlay: {one_line(str(summary.overlay))}", markup=False, soft_wrap=True)
    OUT.print(f"results: {one_line(str(summary.folder))}", markup=False, soft_wrap=True)
