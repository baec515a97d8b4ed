"""From the saved state of a run to a checkpoint that `staf run` loads."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import compact, save_checkpoint
from staf_cli.core.errors import BodyError, WeightsError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.model import blazepose
from staf_cli.model.hmr import PooledArchitecture
from staf_cli.model.staf import Architecture

NETWORK = "network."
# How far joints move when weights are rounded, measured on the second release: 0.7 mm for the
# pyramid in eight bits, 0.02 mm in sixteen; 0.8 mm for the second regressor in sixteen, whose
# inputs are thousands of numbers that nearly cancel.
COARSE = ("tcfm.", "safm.")
EXACT = (
    "regressor.fc1.",
    "regressor.dec",
    "regressor.1.fc1.",
    *(f"regressor.{level}.dec" for level in range(3)),
)
COUNTERS = "num_batches_tracked"  # of BatchNorm; unused by inference
LICENCE = (
    "AGPL-3.0-or-later; trained on synthetic people made of CC0 and CMU motion data, and on photos "
    "of Leeds Sports Pose Extended and clothing-co-parsing, whose own licences are not stated"
)


def write_checkpoint(
    base: Path,
    run: Path,
    architecture: Architecture | PooledArchitecture,
    body: Body,
    output: Path,
    name: str,
) -> None:
    """Write a trained network as a checkpoint, its large matrices in sixteen and eight bits.

    Args:
        base: Folder of a run of stage 1.
        run: Folder of a run of stage 2 that started from it.
        architecture: The network's.
        body: The body that it was trained for.
        output: The file to write.
        name: The checkpoint's.

    Raises:
        WeightsError: A run is missing, or is of another architecture.
        BodyError: The body has no sampled vertices.
        OutputError: The file cannot be written.
    """
    elsewhere = blazepose.TRUNK  # in the landmark network's file
    tensors = {k: v for k, v in trained_tensors(base, run).items() if not k.startswith(elsewhere)}
    save_checkpoint(
        output,
        compact(tensors, COARSE, EXACT) | sampled_vertices(body),
        name=name,
        architecture=asdict(architecture),
        body=body.identity,
        crop_scale=CROP_SCALE,
        licence=LICENCE,
    )


def trained_tensors(base: Path, run: Path) -> dict[str, Tensor]:
    """Put together what both stages trained: stage 2 saves all but the encoder.

    Args:
        base: Folder of a run of stage 1.
        run: Folder of a run of stage 2 that started from it.

    Returns:
        The network's tensors.

    Raises:
        WeightsError: A run is missing.
    """
    encoder = {k: v for k, v in load_network_state(base).items() if k.startswith("encoder.")}
    tensors = encoder | load_network_state(run)
    return {k: v for k, v in tensors.items() if not k.endswith(COUNTERS)}


def sampled_vertices(body: Body) -> dict[str, Tensor]:
    """Make the tensors that tell a checkpoint's 431 points.

    Args:
        body: The body that the network was trained for.

    Returns:
        The points' vertices and their shares.

    Raises:
        BodyError: The body has no such points.
    """
    index, weight = body.arrays.sample_index, body.arrays.sample_weight
    if index is None or weight is None:
        raise BodyError(f"body {body.name} has no sampled vertices; train on the open body")
    return {"samples.index": torch.from_numpy(index), "samples.weight": torch.from_numpy(weight)}


def load_network_state(run: Path) -> dict[str, Tensor]:
    """Load the network's tensors from a run's saved state.

    Args:
        run: The run's folder.

    Returns:
        Memory-mapped tensors by their names in STAF.

    Raises:
        WeightsError: There is no readable state.
    """
    path = run / "state.pt"
    try:
        modules = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["modules"]
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(f"{run}: holds no run that can be read; train it first") from error
    return {k.removeprefix(NETWORK): v for k, v in modules.items() if k.startswith(NETWORK)}
