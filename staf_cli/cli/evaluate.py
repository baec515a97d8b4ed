"""`staf eval`: networks measured on videos whose truth is known."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table as Printed

from staf_cli.cli.options import FILE, FOLDER, quiet_option, record_options
from staf_cli.cli.output import OUT, print_line, print_notes, progress_watch
from staf_cli.core.errors import UsageError, one_line
from staf_cli.evaluation.options import EvaluationOptions

if TYPE_CHECKING:
    from staf_cli.evaluation.evaluation import Contender
    from staf_cli.evaluation.table import Table
    from staf_cli.evaluation.truth import Footage


@click.command("eval", short_help="Measure networks on videos whose truth is known.")
@click.argument("dataset", nargs=-1, required=True, metavar="[BENCHMARK] DATASET")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME",
    help="A checkpoint's name or file; give it again for each that is to be compared.",
)
@click.option("--body", metavar="NAME", help="A body's name or npz file.")
@click.option(
    "--regressor",
    type=FILE,
    help="J_regressor_h36m.npy or J_regressor_extra.npy: joints as papers judge them, not the "
    "body's own.",
)
@record_options("options", EvaluationOptions)
@click.option(
    "-o", "--output", type=FOLDER, help="A folder for metrics.csv, metrics.json and accel.png."
)
@quiet_option
def evaluate(
    dataset: tuple[str, ...],
    weights: tuple[str, ...],
    body: str | None,
    regressor: Path | None,
    options: EvaluationOptions,
    output: Path | None,
    quiet: bool,
) -> None:
    """Measure how far recovered bodies are from the truth of the DATASET folder.

    It holds clips (mp4) each with its truth (npz) beside it, a sample set of photos with 2D
    labels (images.npy, labels.npz), or both; or a copy of 3DPW, Human3.6M or MPI-INF-3DHP, which
    BENCHMARK may name: 3dpw, h36m-p1, h36m-p2, 3dhp. docs/evaluation.md describes them. Prints a
    row for each checkpoint and method, and the paper's; OUTPUT gets each clip's as well.
    """
    from staf_cli.checkpoints.registry import locate_detector
    from staf_cli.core.files import check_writable
    from staf_cli.evaluation import evaluation
    from staf_cli.evaluation.datasets.layouts import find_benchmark, open_dataset
    from staf_cli.evaluation.joints import read_regressor
    from staf_cli.evaluation.measured import MEASURED
    from staf_cli.evaluation.table import save
    from staf_cli.pipeline.loading import default_weights, open_body

    if output is not None:
        check_writable(output)
    joints = None if regressor is None else read_regressor(regressor)
    wanted, folder = _dataset(dataset)
    benchmark = find_benchmark(folder, wanted)
    footage = open_dataset(folder, benchmark, open_body)
    detector = None
    if evaluation.needs_detector(footage, options):
        detector = locate_detector("yolo11n-pose", trust=False)
    chosen = weights or (default_weights(body),)
    contenders = [open_contender(name, body) for name in dict.fromkeys(chosen)]
    if chosen == (None,) and not quiet:
        print_notes(["no trained weights for this body: the network answers the mean pose"])
    if not quiet:
        print_notes(_notes_of_joints(benchmark, regressor, contenders))
        print_notes(_notes_of_rates(benchmark, footage))
    watch = progress_watch(quiet)
    kept = None if output is None else output / MEASURED
    table = evaluation.evaluate(footage, contenders, options, detector, watch, joints, kept)
    if not quiet:
        _print_table(table, benchmark)
    if table.kept and not quiet:
        print_notes([f"measured before, by the files in {kept}: {table.kept} of the results"])
    if output is not None:
        for path in save(table, output):
            if not quiet:
                print_line(f"written: {path}")


def _dataset(words: tuple[str, ...]) -> tuple[str | None, Path]:
    """Tell the benchmark, if it is named, from the folder. Raises UsageError for other words."""
    from staf_cli.evaluation.datasets.layouts import BENCHMARKS

    *names, folder = words
    if len(names) > 1 or any(name not in BENCHMARKS for name in names):
        raise UsageError(
            f"before the dataset's folder stands at most one of {', '.join(BENCHMARKS)}"
        )
    return (names[0] if names else None), Path(folder)


def _notes_of_joints(
    benchmark: str, regressor: Path | None, contenders: "list[Contender]"
) -> list[str]:
    """Say where joints are judged that are not those of the papers."""
    from staf_cli.evaluation.datasets.layouts import OWN

    own = [one.name for one in contenders if benchmark != "3dhp" or one.regressor is None]
    if benchmark == OWN or regressor is not None or not own:
        return []
    names = f" of {', '.join(own)}" if len(own) < len(contenders) else ""
    return [f"joints{names} are the bodies' own; papers judge those of --regressor"]


def _notes_of_rates(benchmark: str, footage: "list[Footage]") -> list[str]:
    """Say where Accel is of other steps of time than the papers'."""
    from staf_cli.evaluation.datasets.spin_npz import FASTEST

    slow = sorted({one.clip.fps for one in footage if one.clip.fps != FASTEST})
    if not benchmark.startswith("h36m") or not slow:
        return []
    rates = " and ".join(f"{rate:g}" for rate in slow)
    return [f"Accel is of {rates} frames a second; papers give it for {FASTEST:g}"]


def open_contender(name: str | None, body: str | None) -> "Contender":
    """Load a network that is to be measured.

    Args:
        name: a checkpoint's name or file; None: the untrained network.
        body: a body's name or file; None: the checkpoint's own.

    Returns:
        The network with its body.

    Raises:
        WeightsError: the checkpoint is missing or does not fit.
        BodyError: the body is missing.
    """
    from staf_cli.checkpoints.format import load_checkpoint
    from staf_cli.checkpoints.registry import OPEN_BODY, locate
    from staf_cli.evaluation import evaluation
    from staf_cli.pipeline.loading import open_body

    if name is None:
        return evaluation.untrained(open_body(body or OPEN_BODY))
    checkpoint = load_checkpoint(locate(name))
    own_body = open_body(body or checkpoint.body.rsplit(maxsplit=1)[0])
    return evaluation.contender(name, checkpoint, own_body)


def rounded(value: float | None, digits: int) -> str:
    """Write a number for a table; nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def measured_metrics(table: "Table") -> dict[str, tuple[str, ...]]:
    """Pick the metrics of the paper's ablations out of an evaluation with one method.

    Args:
        table: what was measured.

    Returns:
        PA-MPJPE, MPJPE, PVE and Accel over all clips by the network's name, as they are printed.
    """
    from staf_cli.evaluation.table import OVERALL

    return {
        row.weights: tuple(
            rounded(value, 1) for value in (row.pa_mpjpe, row.mpjpe, row.pve, row.accel)
        )
        for row in table.rows
        if row.clip == OVERALL
    }


def _print_table(table: "Table", benchmark: str) -> None:
    """A line for each network and method over all clips, and the paper's."""
    from staf_cli.evaluation.published import TABLES
    from staf_cli.evaluation.table import OVERALL

    header = ("weights", "method", "frames", "MPJPE", "PA-MPJPE", "PVE", "Accel", "PCK@0.2", "2D")
    printed = Printed(*header, box=None, pad_edge=False)
    for column in printed.columns[2:]:
        column.justify = "right"
    for row in table.rows:
        if row.clip == OVERALL:
            millimetres = (row.mpjpe, row.pa_mpjpe, row.pve, row.accel)
            numbers = [rounded(value, 1) for value in millimetres]
            numbers += [rounded(row.pck, 3), rounded(row.error_2d, 3)]
            printed.add_row(escape(one_line(row.weights)), row.method, str(row.frames), *numbers)
    for published in TABLES.get(benchmark, ()):
        errors = (published.mpjpe, published.pa_mpjpe, published.pve, published.accel)
        printed.add_row(published.model, "paper", "", *(rounded(value, 1) for value in errors))
    OUT.print(printed)
    if benchmark in TABLES:
        print_line("paper: as STAF's tables 1 and 3 give it; * trained on 3DPW, too")
    print_line("MPJPE, PA-MPJPE, PVE in mm; Accel in mm / frame^2; 2D in sides of the person's box")
