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

from staf_cli.crop import crop_image, square_box
from staf_cli.errors import OutOfMemory, VideoError, WeightsError, is_out_of_memory
from staf_cli.model.normalisation import normalise
from staf_cli.model.regressor import Theta
from staf_cli.model.staf import STAF, FrameMaps, stack_frames
from staf_cli.model.temporal import TARGET, WINDOW
from staf_cli.people import Estimate
from staf_cli.records import Float, Frame, Image, Place, Track, alive_by_frame

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Settings:
    """How to compute; none of it changes the result beyond rounding."""

    device: torch.device
    half: bool  # float16 convolutions
    batch: int = 16  # crops, or windows, at a time; halved when memory runs out


def prepare(network: STAF, settings: Settings) -> STAF:
    """Put a network on its device, its convolutions in the precision asked for; in place."""
    network.to(settings.device)
    # Convolutions on the CPU are a quarter faster with the channels last.
    convert_conv2d_weight_memory_format(network.encoder, torch.channels_last)
    if settings.half:
        network.encoder.half()
        network.pyramid.half()
    return network


def window_rows(row: int, length: int) -> list[int]:
    """The nine rows of a run of `length` frames that the window around `row` looks at.

    A frame closer than four to either end sees nine copies of itself (paper 4.2), so in a run
    shorter than nine every frame does.
    """
    if TARGET <= row < length - TARGET:
        return list(range(row - TARGET, row + TARGET + 1))
    return [row] * WINDOW


def recover(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    network: STAF,
    crop_scale: float,
    settings: Settings,
) -> list[Estimate]:
    """Run the network over all tracks; one Estimate for each, in their order.

    `network` has been through `prepare` with the same settings. Raises VideoError when a tracked
    frame does not come, OutOfMemory when not even one crop or window fits,
    WeightsError when the network answers with numbers that are not finite.
    """
    squares = [square_box(track.box, crop_scale) for track in tracks]
    estimates = [
        Estimate(
            np.zeros((len(s), 24, 3, 3), np.float32),
            np.zeros((len(s), 10), np.float32),
            np.zeros((len(s), 3), np.float32),
            s,
        )
        for s in squares
    ]
    done = [np.zeros(len(s), bool) for s in squares]
    crops = _crops(frames, tracks, squares)
    maps = in_batches(crops, partial(_encode, network, settings), settings.batch)
    windows = _windows(maps, tracks)
    thetas = in_batches(windows, partial(_infer, network), settings.batch)
    with torch.inference_mode():
        for (number, row), theta in thetas:
            estimate = estimates[number]
            estimate.rotmats[row] = theta.rotmats[0].numpy(force=True)
            estimate.betas[row] = theta.betas[0].numpy(force=True)
            estimate.pred_cam[row] = theta.pred_cam[0].numpy(force=True)
            done[number][row] = True
    for track, estimate, rows in zip(tracks, estimates, done, strict=True):
        if not rows.all():
            near = track.frame[~rows][0]
            raise VideoError(
                f"the video changed while it was read, near frame {near}; run it again"
            )
        if not np.isfinite(estimate.rotmats).all() or not np.isfinite(estimate.pred_cam).all():
            raise WeightsError("the network's answer is not finite; try --precision full")
    return estimates


def _crops(
    frames: Iterable[Frame], tracks: Sequence[Track], squares: Sequence[Float]
) -> Iterator[tuple[Place, Image]]:
    """Cut out everyone alive in each frame: crops (224, 224, 3), in the order of frames."""
    alive = alive_by_frame(tracks)
    for frame in frames:
        for number, row in alive.get(frame.index, ()):
            yield (number, row), crop_image(frame.image, squares[number][row])


def _windows(
    maps: Iterable[tuple[Place, FrameMaps]], tracks: Sequence[Track]
) -> Iterator[tuple[Place, list[FrameMaps]]]:
    """Give out each window as soon as its last frame is there, and forget what none needs."""
    runs = [
        {row: run for run in track.runs for row in range(run.start, run.stop)} for track in tracks
    ]
    kept: dict[Place, FrameMaps] = {}
    for (number, row), frame_maps in maps:
        kept[number, row] = frame_maps
        run = runs[number][row]
        length = run.stop - run.start
        for target in (row - TARGET, row):
            if target < run.start:
                continue
            rows = [run.start + r for r in window_rows(target - run.start, length)]
            if rows[-1] == row:
                yield (number, target), [kept[number, r] for r in rows]
        kept.pop((number, row - 2 * TARGET), None)
        if row == run.stop - 1:
            for r in range(max(run.start, row - 2 * TARGET), run.stop):
                kept.pop((number, r), None)


def _encode(network: STAF, settings: Settings, crops: list[Image]) -> list[FrameMaps]:
    images = normalise(torch.from_numpy(np.stack(crops)).to(settings.device))
    features: Tensor = network.encoder(images.half() if settings.half else images)
    maps = network.frame_maps(features)
    return [maps[n : n + 1] for n in range(len(crops))]


def _infer(network: STAF, windows: list[list[FrameMaps]]) -> list[Theta]:
    maps = stack_frames([frame for window in windows for frame in window])
    theta = network.recover(maps)[-1]
    return [theta[n : n + 1] for n in range(len(windows))]


def in_batches(
    items: Iterable[tuple[Place, In]], compute: Callable[[list[In]], list[Out]], batch: int
) -> Iterator[tuple[Place, Out]]:
    """Compute a stream's items in batches, in order; when memory runs out, batches halve.

    Raises OutOfMemory when a batch of one does not fit.
    """
    stream = iter(items)
    waiting: list[tuple[Place, In]] = []
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
