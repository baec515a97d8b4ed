"""Which frames the network looks at: windows by time, and frames that are left to interpolation.

The paper trains at 25 to 30 frames a second, so at 60, 120 or 240 the nine frames of a window are
those nearest to 1/30 s apart.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rot6d,
)
from staf_cli.core.records import Track, TrackRow, run_of
from staf_cli.model.regressor import Theta
from staf_cli.model.temporal import TARGET, WINDOW

USUAL_RATE = 30  # frames a second of the clips that the network learned from


@dataclass(frozen=True)
class Cadence:
    """Distances in frames."""

    step: int = 1  # between neighbours in a window
    every: int = 1  # between frames that the network computes; `step` is a multiple of it

    @property
    def reach(self) -> int:
        """From the middle of a window to its ends."""
        return TARGET * self.step

    def window_rows(self, row: int, length: int) -> list[int]:
        """Choose the nine rows that the window around a frame looks at.

        A frame closer to either end than the window reaches sees nine copies of itself (paper,
        section 4.2, where that is four frames), so in a short run every frame does.

        Args:
            row: of the frame, in a run of frames without a gap.
            length: of the run.

        Returns:
            Nine rows of the run.
        """
        if self.reach <= row < length - self.reach:
            return list(range(row - self.reach, row + self.reach + 1, self.step))
        return [row] * WINDOW

    def is_computed(self, row: int, length: int) -> bool:
        """Tell whether the network looks at a row of a run; it does at the first and the last."""
        return row % self.every == 0 or row == length - 1


EVERY_FRAME = Cadence()


def choose_cadence(fps: float, every: int) -> Cadence:
    """Choose the distances for a frame rate.

    Args:
        fps: frames a second.
        every: compute each Nth frame only; 1: all.

    Returns:
        The distances.

    Raises:
        UsageError: the frame rate is too low to leave frames out.
    """
    step = max(1, round(fps / USUAL_RATE))
    if step % every:
        fitting = [n for n in range(2, step + 1) if step % n == 0]
        advice = f"choose {' or '.join(map(str, fitting))}" if fitting else "leave it out"
        raise UsageError(f"--every {every} does not fit {fps:g} frames a second; {advice}")
    return Cadence(step, every)


def fill_between(
    thetas: Iterable[tuple[TrackRow, Theta]], tracks: Sequence[Track], cadence: Cadence
) -> Iterator[tuple[TrackRow, Theta]]:
    """Interpolate what the network did not compute.

    Args:
        thetas: what it computed, N = 1 each; of each track in any order.
        tracks: the people.
        cadence: which rows those are.

    Yields:
        The same and, as soon as both neighbours are there, the rows between them.
    """
    if cadence.every == 1:
        yield from thetas
        return
    runs = [track.runs for track in tracks]
    waiting: dict[TrackRow, tuple[Theta, int]] = {}  # and how many neighbours are to come
    for (number, row), theta in thetas:
        yield (number, row), theta
        run = run_of(runs[number], row)
        waiting[number, row] = theta, (row > run.start) + (row < run.stop - 1)
        steps = (row - 1 - run.start) // cadence.every
        before = run.start + max(0, steps) * cadence.every
        after = min(row + cadence.every, run.stop - 1)
        for first, last in ((before, row), (row, after)):
            if first == last or (number, first) not in waiting or (number, last) not in waiting:
                continue
            (one, ones), (other, others) = waiting[number, first], waiting[number, last]
            for between in range(first + 1, last):
                share = (between - first) / (last - first)
                yield (number, between), interpolate(one, other, share)
            waiting[number, first], waiting[number, last] = (one, ones - 1), (other, others - 1)
        for place in ((number, before), (number, row), (number, after)):
            if place in waiting and waiting[place][1] <= 0:
                del waiting[place]


def interpolate(one: Theta, other: Theta, share: float) -> Theta:
    """Interpolate between two parameters: rotations on SO(3), the rest on straight lines.

    Args:
        one: N rows.
        other: N rows.
        share: of the way, 0 to 1.

    Returns:
        N rows.
    """
    start = one.rotmats
    turn = matrix_to_axis_angle(start.mT @ other.rotmats)
    pose6d = matrix_to_rot6d(start @ axis_angle_to_matrix(share * turn)).flatten(1)
    return Theta(
        pose6d,
        torch.lerp(one.betas, other.betas, share),
        torch.lerp(one.pred_cam, other.pred_cam, share),
    )
