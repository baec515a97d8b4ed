"""Sets of synthetic people, rendered once and read many times."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.training.loop import Say
from staf_cli.training.samples import Labels, write_samples
from staf_cli.training.scenes import Studio, render_sequences

AT_ONCE = 32  # frames in memory
REPORT_EVERY = 1000  # frames


def render_set(studio: Studio, folder: Path, count: int, frames: int, seed: int, say: Say) -> None:
    """Write `count` scenes of `frames` frames as a sample set; the same seed gives the same set.

    Raises OutputError where the folder cannot be written.
    """
    write_samples(folder, _pieces(studio, folder.name, count, frames, seed, say), count, frames)


def _pieces(
    studio: Studio, name: str, count: int, frames: int, seed: int, say: Say
) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
    step = max(1, AT_ONCE // frames)
    said = 0
    for start in range(0, count, step):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        scenes = render_sequences(studio, min(step, count - start), frames, generator)
        yield scenes.images, scenes.labels
        if (start + step) * frames - said >= REPORT_EVERY:
            said = (start + step) * frames
            say(f"{name}: {min(start + step, count)} of {count} scenes")
