"""`staf paper`: the paper's tables and figures, made with one's own weights and videos."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table as Printed

from staf_cli.cli.evaluate import measured_metrics, open_contender, rounded
from staf_cli.cli.options import FILE, FOLDER, quiet_option
from staf_cli.cli.output import OUT, print_line, print_notes, progress_watch
from staf_cli.core.errors import UsageError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from staf_cli.evaluation.evaluation import Contender

WEIGHTS = "A checkpoint's name or file."


@click.group()
def paper() -> None:
    """Make the tables and figures of the STAF paper from weights and videos of your own."""


@paper.command()
@click.argument("dataset", type=FOLDER, required=False)
@click.option("--weights", multiple=True, metavar="NAME", help=f"{WEIGHTS} Give it again for each.")
@click.option("--body", metavar="NAME", help="A body's name or npz file.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("-o", "--output", type=FOLDER, help="A folder for metrics and Fig. 1 (accel.png).")
@quiet_option
def tables(
    dataset: Path | None,
    weights: tuple[str, ...],
    body: str | None,
    device: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Print Table 2, and with a DATASET the rows of Tables 4, 5 and 6.

    Table 2: parameters and multiplications of every checkpoint by module; without --weights of the
    paper's network. Tables 4, 5 and 6: the errors of every checkpoint on DATASET, as `staf eval`
    measures them, each below the paper's row of the same architecture.
    """
    from staf_cli.core.files import check_writable
    from staf_cli.evaluation import evaluation
    from staf_cli.evaluation.datasets.layouts import find_benchmark, open_dataset
    from staf_cli.evaluation.options import EvaluationOptions
    from staf_cli.evaluation.table import save
    from staf_cli.pipeline.loading import open_body

    if dataset is not None and not weights:
        raise UsageError("tables 4, 5 and 6 need trained networks; give them with --weights")
    if dataset is None and output is not None:
        raise UsageError("--output gets what is measured on a DATASET; give one")
    if output is not None:
        check_writable(output)
    options = EvaluationOptions(methods=("network",), device=device)
    footage = None
    if dataset is not None:
        footage = open_dataset(dataset, find_benchmark(dataset, None), open_body)
    names = dict.fromkeys(weights or (None,))
    contenders = [open_contender(name, body) for name in names]
    for one in [] if quiet else contenders:
        _print_costs(one)
    if footage is None:
        return
    table = evaluation.evaluate(footage, contenders, options, None, progress_watch(quiet))
    if not quiet:
        _print_ablation(contenders, measured_metrics(table))
    if output is not None:
        for path in save(table, output):
            if not quiet:
                print_line(f"written: {path}")


@paper.command()
@click.argument("result", type=FOLDER)
@click.option("--weights", metavar="NAME", help=WEIGHTS + "  [default: the open weights]")
@click.option("--person", type=int, metavar="ID", help="Whom; without it who is seen longest.")
@click.option("--frame", type=int, metavar="N", help="The target frame; without it the middle.")
@click.option("--video", type=FILE, help="Where the video is, if it was moved.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("-o", "--output", type=FOLDER, required=True, help="A folder for the figures (png).")
@quiet_option
def figures(
    result: Path,
    weights: str | None,
    person: int | None,
    frame: int | None,
    video: Path | None,
    device: str,
    output: Path,
    quiet: bool,
) -> None:
    """Draw Figures 4, 7, 8 and 9 for a window of a video.

    RESULT is a folder that `staf run` made; its tracks say where people are. Fig. 4: TCFM's
    M_sim, M_con and their fusion; Fig. 7: the mesh after each regressor; Fig. 8: SAFM's weights;
    Fig. 9: accelerations of the joints around that frame. Fig. 1 needs the truth: `staf paper
    tables DATASET -o OUTPUT`.
    """
    from staf_cli.core.files import check_writable
    from staf_cli.paper.figures import draw_all
    from staf_cli.paper.window import accelerations, find_track, look_inside, read_window
    from staf_cli.pipeline.loading import prepare_recovery
    from staf_cli.pipeline.rework import clip_of
    from staf_cli.recovery.options import RecoveryOptions
    from staf_cli.result.folder import load

    saved = load(result)
    track, row = find_track(saved.tracks, person, frame)
    clip = clip_of(saved, video)
    check_writable(output)
    options = RecoveryOptions(weights=weights, device=device, precision="full", landmarks=False)
    tools, notes = prepare_recovery(options)
    if not quiet:
        print_notes(notes)
    network, scale, settings, watch = (
        tools.network,
        tools.crop_scale,
        tools.settings,
        progress_watch(quiet),
    )
    window = read_window(clip, track, row, scale, watch)
    if len(set(window.frames)) == 1 and not quiet:
        print_notes([f"frame {window.frames[0]} has no whole window: it stands there nine times"])
    inside = look_inside(network, window, settings)
    frames, curves = accelerations(clip, track, row, network, tools.body, scale, settings, watch)
    for name, drawn in draw_all(window, inside, tools.body, frames, curves).items():
        _save(drawn, output / f"{name}.png", quiet)


def _save(figure: "Figure", path: Path, quiet: bool) -> None:
    from staf_cli.core.files import atomic

    with atomic(path) as temporary:
        figure.savefig(temporary)
    if not quiet:
        print_line(f"written: {path}")


def _print_costs(one: "Contender") -> None:
    """Table 2 of one network."""
    from staf_cli.evaluation.published import PARAMETERS
    from staf_cli.model.staf import STAF
    from staf_cli.paper.costs import costs

    title = f"{one.name} ({one.network.architecture.encoder})"
    printed = Printed(
        escape(one_line(title)), "parameters (M)", "GMACs of a window", "of a frame", box=None
    )
    for column in printed.columns[1:]:
        column.justify = "right"
    for row in costs(one.network):
        numbers = (f"{row.parameters / 1e6:.2f}", f"{row.window:.2f}", f"{row.frame:.2f}")
        printed.add_row(row.module, *numbers)
    if isinstance(one.network, STAF):
        printed.add_row("the paper's Table 2", f"{PARAMETERS:.2f}")
    OUT.print(printed)


def _print_ablation(contenders: list["Contender"], measured: dict[str, tuple[str, ...]]) -> None:
    """Tables 4, 5 and 6: every network below the paper's row of its architecture."""
    from staf_cli.evaluation.published import row_of

    printed = Printed("model", "on", "PA-MPJPE", "MPJPE", "PVE", "Accel", box=None)
    for column in printed.columns[2:]:
        column.justify = "right"
    for one in contenders:
        name, published = row_of(one.network.architecture)
        if published is not None:
            errors = (published.pa_mpjpe, published.mpjpe, published.pve, published.accel)
            numbers = (rounded(value, 1) for value in errors)
            printed.add_row(name, "3DPW, the paper", *numbers)
        printed.add_row(name, escape(one_line(f"DATASET, {one.name}")), *measured[one.name])
    OUT.print(printed)
    print_line("PA-MPJPE, MPJPE, PVE in mm; Accel in mm / frame^2")
