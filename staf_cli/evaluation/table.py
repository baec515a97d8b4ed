"""The table of an evaluation: rows of metrics, curves, and their files."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from staf_cli.core.files import atomic
from staf_cli.core.records import Float, Ints
from staf_cli.core.version import __version__

OVERALL = "all"  # in place of a clip's name: all clips together


@dataclass(frozen=True)
class Row:
    """One method's errors on one clip, or on all of them; None where nothing can be measured."""

    weights: str  # as the user calls it
    identity: str  # name and hash of the checkpoint
    method: str
    clip: str  # OVERALL: all clips together
    frames: int
    mpjpe: float | None  # mm
    pa_mpjpe: float | None  # mm
    pve: float | None  # mm
    accel: float | None  # mm / frame^2
    pck: float | None  # share of joints within 0.2 torsos
    error_2d: float | None  # sides of the person's box


@dataclass(frozen=True, eq=False)
class Curve:
    """One method's acceleration errors through one clip, mm / frame^2; NaN at ends and gaps."""

    weights: str
    method: str
    clip: str
    frame: Ints  # (F,)
    accel: Float  # (F,)


@dataclass(frozen=True)
class Table:
    """What was measured: for each network and method its clips, then all of them."""

    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    kept: int = 0  # clips by a network and method that were measured before


def save(table: Table, folder: Path) -> list[Path]:
    """Write metrics.csv, metrics.json and, where there is 3D truth, accel.png.

    Args:
        table: what was measured.
        folder: gets the files.

    Returns:
        Their paths.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = [asdict(row) for row in table.rows]
    written = [folder / "metrics.csv", folder / "metrics.json"]
    with (
        atomic(written[0]) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, [*asdict(table.rows[0])], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with atomic(written[1]) as temporary:
        text = json.dumps({"staf": __version__, "rows": rows}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
    if table.curves:
        written.append(folder / "accel.png")
        with atomic(written[-1]) as temporary:
            plot(table.curves).savefig(temporary)
    return written


def plot(curves: Sequence[Curve]) -> Figure:
    """Plot the acceleration error over the frames, a panel for each clip, a line for each method.

    Args:
        curves: of any number of clips and methods.

    Returns:
        The figure.
    """
    clips = list(dict.fromkeys(curve.clip for curve in curves))
    several = len({curve.weights for curve in curves}) > 1
    figure = Figure(figsize=(10, 1 + 2.2 * len(clips)), dpi=100, layout="constrained")
    panels = figure.subplots(len(clips), squeeze=False)[:, 0]
    for clip, panel in zip(clips, panels, strict=True):
        for curve in (curve for curve in curves if curve.clip == clip):
            label = f"{curve.weights}, {curve.method}" if several else curve.method
            whole = np.arange(curve.frame[0], curve.frame[-1] + 1)
            values = np.full(len(whole), np.nan)  # a line breaks where frames are missing
            values[curve.frame - whole[0]] = curve.accel
            panel.plot(whole, values, linewidth=1, label=label)
        panel.set_title(clip, loc="left", fontsize=9, parse_math=False)
        panel.set_ylabel("mm / frame²")
        panel.set_ylim(bottom=0)
        panel.margins(x=0)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("frame")
    panels[0].legend(loc="upper right", fontsize=8, ncols=2)
    return figure
