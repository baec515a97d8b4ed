"""Boxes of a track: sizes, and smoothing over time."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from staf_cli.core.geometry import box_area
from staf_cli.core.records import Float, Track

SMOOTHING_SPAN = 0.3  # s: window of the quadratic that smooths boxes
COVERED = 0.6  # share of a box inside a larger person's, from which a person is behind them
FLICKER = 5  # frames: a box that jumps for less than half of this is an outlier


def centre_and_size(box: Float) -> Float:
    """Convert boxes (..., 4) to centre x, centre y, width, height (..., 4), px."""
    low, high = box[..., :2], box[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def is_covered(box: Float, others: Float) -> bool:
    """Tell whether a person is behind one of others, by their boxes.

    Args:
        box: (4,) of the person.
        others: (N, 4).

    Returns:
        Whether most of the box is inside a larger one.
    """
    larger = others[box_area(others) > box_area(box)]
    low, high = np.maximum(box[:2], larger[:, :2]), np.minimum(box[2:], larger[:, 2:])
    common = (high - low).clip(0).prod(1)
    return bool((common > COVERED * box_area(box)).any())


def smooth_boxes(track: Track) -> Track:
    """Smooth a track's boxes: outliers are removed, then a quadratic is fitted over a short window.

    Neither step shifts anything in time, and a quadratic follows acceleration. Every run is
    smoothed by itself; centre and size, not edges, so that a flicker in size moves nothing.

    Args:
        track: boxes as detected or bridged.

    Returns:
        The track with smooth boxes.
    """
    box = np.empty_like(track.box)
    for run in track.runs:
        values = centre_and_size(track.box[run])
        n = len(values)
        if n >= FLICKER:
            values = median_filter(values, (FLICKER, 1), mode="nearest")
            seconds = (track.time[run][-1] - track.time[run][0]) / (n - 1)
            window = min(_odd(SMOOTHING_SPAN / seconds), _odd(n - 1))
            if window > 3:
                values = savgol_filter(values, window, 2, axis=0)
        centre, half = values[:, :2], np.maximum(values[:, 2:], 1) / 2
        box[run] = np.concatenate([centre - half, centre + half], -1)
    return replace(track, box=box)


def _odd(number: float) -> int:
    """The nearest odd number at or above."""
    return int(number) // 2 * 2 + 1
