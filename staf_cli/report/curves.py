"""Curves of any length as a few points that show the same picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from staf_cli.core.records import Float, Float32, Ints
from staf_cli.report.measures import Shorts

DIGITS = 4  # significant, of a value
HALF_TURN = 180  # degrees between two moments: no joint turns so fast
GAP = 2.5  # usual steps between two times, from which on one is missing


def curve(
    time: Float, value: Float | Float32, most: int, label: Shorts | None = None
) -> dict[str, Any]:
    """Make a curve for the page; it breaks at NaN, and where the times leave a gap.

    Where there are more than `most` points, each stretch of equally many is shown by its lowest
    and its highest one, so that no peak is lost.

    Args:
        time: (F,) s.
        value: (F,).
        most: points of the curve.
        label: (F,) whole numbers that belong to the values.

    Returns:
        {"time": s, "value": numbers, None at a break, "label": where there are labels}.
    """
    time, value, label = _broken(time, value, label)
    rows = _extremes(value, most)
    drawn: dict[str, Any] = {
        "time": [round(float(t), 4) for t in time[rows]],
        "value": [_rounded(float(v)) for v in value[rows]],
    }
    if label is not None:
        drawn["label"] = label[rows].tolist()
    return drawn


def curves(
    time: Float, values: Float | Float32, names: Sequence[str], most: int
) -> dict[str, list[float | None]]:
    """Make curves with common times for the page, of smooth values: every so many are left out.

    They break where the times leave a gap, and where an angle passes from 180 to -180.

    Args:
        time: (F,) s.
        values: (F, K) degrees.
        names: K.
        most: moments.

    Returns:
        {"time": s, each name: whole numbers, None at a break}.
    """
    step = max(1, -(-len(time) // max(1, most)))
    time, values = time[::step], values[::step].astype(np.float64)
    steps = np.diff(time)
    jumps = np.abs(np.diff(values, axis=0)).max(1, initial=0) > HALF_TURN
    usual = np.median(steps) if len(steps) else 0.0
    gaps = np.flatnonzero((steps > GAP * usual) | jumps) + 1
    time = np.insert(time, gaps, (time[gaps - 1] + time[gaps]) / 2)
    values = np.insert(values, gaps, np.nan, axis=0)
    columns = {
        name: [round(one) if np.isfinite(one) else None for one in column.tolist()]
        for name, column in zip(names, values.T, strict=True)
    }
    return {"time": [round(one, 3) for one in time.tolist()], **columns}


def _broken(
    time: Float, value: Float | Float32, label: Shorts | None
) -> tuple[Float, Float | Float32, Shorts | None]:
    """The same curve with a NaN in the middle of every gap in its times."""
    steps = np.diff(time)
    if not len(steps):
        return time, value, label
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    time = np.insert(time, gaps, (time[gaps - 1] + time[gaps]) / 2)
    label = None if label is None else np.insert(label, gaps, 0)
    value = np.insert(value.astype(np.float64), gaps, np.nan)
    return time, value, label


def _extremes(value: Float | Float32, most: int) -> Ints:
    """The rows to keep, ascending."""
    if len(value) <= most:
        return np.arange(len(value))
    kept: set[int] = set()
    for stretch in np.array_split(np.arange(len(value)), most // 2):
        own = value[stretch]
        if np.isfinite(own).any():
            kept |= {int(stretch[np.nanargmin(own)]), int(stretch[np.nanargmax(own)])}
        else:
            kept.add(int(stretch[0]))
    return np.array(sorted(kept))


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
