"""Recovery: frames and tracks in, the network's parameters for every person and frame out.

A stream with bounded memory: each crop goes through the backbone once, what a frame brings to
its windows is kept only while a window still needs it, and batches mix people freely.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.errors import OutOfMemory, VideoError, WeightsError, is_out_of_memory
from staf_cli.core.records import (
    STRETCH_FRAMES,
    Bools,
    Float,
    Frame,
    Image,
    Track,
    TrackRow,
    frames_with_people,
    run_of,
)
from staf_cli.model.network import Frames, WindowNetwork
from staf_cli.model.normalisation import normalise
from staf_cli.model.regressor import Theta
from staf_cli.recovery.cadence import EVERY_FRAME, Cadence, fill_between
from staf_cli.recovery.placement import Estimate

# More crops at a time are no faster on a CPU; 16 have maps of 38 MB, which the C library fetches
# from the system and gives back in every batch.
CPU_CROPS = 8

In = TypeVar("In")
Out = TypeVar("Out")
Network = TypeVar("Network", bound=WindowNetwork)


@dataclass(frozen=True)
class Settings:
    """How to compute; none of it changes the result beyond rounding."""

    device: torch.device
    dtype: torch.dtype  # of the convolutions
    batch: int = 16  # crops, or windows, at a time; halved when memory runs out

    @property
    def precision(self) -> str:
        """The number format's name, such as "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


def prepare(network: Network, settings: Settings) -> Network:
    """Put a network on its device, in place.

    Args:
        network: whose convolutions get the number format of the settings.
        settings: device and precision.

    Returns:
        The same network.
    """
    network.to(settings.device)
    for part in network.convolutions:
        part.to(settings.dtype)
        # Convolutions on the CPU are a quarter faster with the channels last.
        convert_conv2d_weight_memory_format(part, torch.channels_last)
    return network


def infer_tracks(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    network: WindowNetwork,
    crop_scale: float,
    settings: Settings,
    cadence: Cadence = EVERY_FRAME,
) -> Iterator[tuple[int, slice, Estimate]]:
    """Run the network over all tracks, and yield each stretch as soon as it is complete.

    Nothing that was yielded is kept, so that memory grows with the people in a frame, not with
    the clip. A track's stretches come in order, STRETCH_FRAMES rows each but for the last.

    Args:
        frames: the clip's, in order.
        tracks: the people.
        network: after `prepare` with the same settings.
        crop_scale: side of the crop over the longer side of the box.
        settings: device, precision, batch size.
        cadence: which frames the network looks at.

    Yields:
        The track's index in the list, its rows, and what the network estimates of them.

    Raises:
        VideoError: a tracked frame is missing.
        OutOfMemory: not even one crop or window fits into the device's memory.
        WeightsError: the network's answer is not finite.
    """
    squares = [square_box(track.box, crop_scale) for track in tracks]
    crops = _crops(frames, tracks, squares, cadence)
    most = CPU_CROPS if settings.device.type == "cpu" else settings.batch
    maps = in_batches(crops, partial(_encode, network, settings), min(most, settings.batch))
    windows = _windows(maps, tracks, cadence)
    computed = in_batches(windows, partial(_infer_windows, network), settings.batch)
    thetas = fill_between(computed, tracks, cadence)
    open_ones: dict[TrackRow, _Stretch] = {}  # by the track's number and the first row
    given = [0] * len(tracks)  # rows
    for (number, row), theta in thetas:
        first = row // STRETCH_FRAMES * STRETCH_FRAMES
        if (number, first) not in open_ones:
            open_ones[number, first] = _Stretch.blank(
                squares[number][first : first + STRETCH_FRAMES]
            )
        stretch = open_ones[number, first]
        stretch.put(row - first, theta)
        if stretch.done.all():
            rows = slice(first, first + len(stretch.done))
            given[number] = rows.stop
            yield number, rows, open_ones.pop((number, first)).finished()
    for number, track in enumerate(tracks):
        if given[number] < len(track.frame):
            row = given[number]
            if (number, row) in open_ones:
                row += int(open_ones[number, row].done.argmin())
            raise VideoError(
                f"the video changed while it was read, near frame {track.frame[row]}; run it again"
            )


@dataclass(frozen=True)
class _Stretch:
    """Some rows of a track, filled in as the network gets to them."""

    estimate: Estimate
    done: Bools  # (F,)

    @classmethod
    def blank(cls, squares: Float) -> "_Stretch":
        """squares: (F, 3) px."""
        n = len(squares)
        rotmats, betas = np.zeros((n, 24, 3, 3), np.float32), np.zeros((n, 10), np.float32)
        return cls(
            Estimate(rotmats, betas, np.zeros((n, 3), np.float32), squares), np.zeros(n, bool)
        )

    def put(self, row: int, theta: Theta) -> None:
        self.estimate.rotmats[row] = theta.rotmats[0].numpy(force=True)
        self.estimate.betas[row] = theta.betas[0].numpy(force=True)
        self.estimate.pred_cam[row] = theta.pred_cam[0].numpy(force=True)
        self.done[row] = True

    def finished(self) -> Estimate:
        """Raises WeightsError where it cannot be used."""
        finite = (
            np.isfinite(self.estimate.rotmats).all() & np.isfinite(self.estimate.pred_cam).all()
        )
        if not finite:
            raise WeightsError("the network's answer is not finite; try --precision full")
        return self.estimate


def _crops(
    frames: Iterable[Frame], tracks: Sequence[Track], squares: Sequence[Float], cadence: Cadence
) -> Iterator[tuple[TrackRow, Image]]:
    """Cut out everyone alive in each frame: crops (224, 224, 3), in the order of frames."""
    runs = [track.runs for track in tracks]
    for frame, places in frames_with_people(frames, tracks):
        for number, row in places:
            run = run_of(runs[number], row)
            if cadence.is_computed(row - run.start, run.stop - run.start):
                yield (number, row), crop_image(frame.image, squares[number][row])


def _windows(
    maps: Iterable[tuple[TrackRow, Frames]], tracks: Sequence[Track], cadence: Cadence
) -> Iterator[tuple[TrackRow, list[Frames]]]:
    """Give out each window as soon as its last frame is there, and forget what none needs."""
    runs, reach = [track.runs for track in tracks], cadence.reach
    kept: dict[TrackRow, Frames] = {}
    for (number, row), frame_maps in maps:
        kept[number, row] = frame_maps
        run = run_of(runs[number], row)
        length = run.stop - run.start
        for target in (row - reach, row):
            if target < run.start or not cadence.is_computed(target - run.start, length):
                continue
            rows = [run.start + r for r in cadence.window_rows(target - run.start, length)]
            if rows[-1] == row:
                yield (number, target), [kept[number, r] for r in rows]
        kept.pop((number, row - 2 * reach), None)
        if row == run.stop - 1:
            for r in range(max(run.start, row - 2 * reach), run.stop):
                kept.pop((number, r), None)


@torch.inference_mode()
def _encode(network: WindowNetwork, settings: Settings, crops: list[Image]) -> list[Frames]:
    images = normalise(torch.from_numpy(np.stack(crops)).to(settings.device))
    features: Tensor = network.encoder(images.to(settings.dtype))
    maps = network.frame_maps(features)
    return [maps[n : n + 1] for n in range(len(crops))]


@torch.inference_mode()
def _infer_windows(network: WindowNetwork, windows: list[list[Frames]]) -> list[Theta]:
    frames = list(dict.fromkeys(frame for window in windows for frame in window))
    row = {frame: n for n, frame in enumerate(frames)}
    rows = torch.tensor([[row[frame] for frame in window] for window in windows])  # (B, 9)
    theta = network.recover(network.stack(frames), rows)[-1]
    return [theta[n : n + 1] for n in range(len(windows))]


def in_batches(
    items: Iterable[tuple[TrackRow, In]], compute: Callable[[list[In]], list[Out]], batch: int
) -> Iterator[tuple[TrackRow, Out]]:
    """Compute a stream's items in batches, in order; when memory runs out, batches halve.

    Args:
        items: each with the place that it belongs to.
        compute: makes as many results as it gets inputs.
        batch: how many inputs at a time.

    Yields:
        Each result with its place.

    Raises:
        OutOfMemory: a batch of one does not fit into the device's memory.
        RuntimeError: what `compute` raises for another reason.
    """
    stream = iter(items)
    waiting: list[tuple[TrackRow, In]] = []
    while True:
        waiting += islice(stream, max(0, batch - len(waiting)))
        if not waiting:
            return
        places, inputs = zip(*waiting[:batch], strict=True)
        try:
            results = compute(list(inputs))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise OutOfMemory(
                    "not even one crop fits into the device's memory; "
                    "close other programs or try --device cpu"
                ) from error
            batch = (min(batch, len(waiting)) + 1) // 2
            torch.cuda.empty_cache()
            continue
        waiting = waiting[len(results) :]
        yield from zip(places, results, strict=True)
