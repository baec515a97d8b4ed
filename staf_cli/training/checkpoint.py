"""From a run's saved state to a checkpoint that `staf run` loads."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import compact, save_checkpoint
from staf_cli.core.errors import BodyError, WeightsError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.model.staf import Architecture

NETWORK = "network."
# How joints move when a part is rounded, measured on the shipped weights: the pyramid by 0.7 mm in
# eight bits and 0.02 mm in sixteen, the second regressor by 0.8 mm in sixteen: what it reads are
# thousands of numbers that nearly cancel. Together with what is rounded here: see the model card.
COARSE = ("tcfm.", "safm.")
EXACT = ("regressor.1.fc1.", *(f"regressor.{level}.dec" for level in range(3)))
COUNTERS = "num_batches_tracked"  # of BatchNorm: of no use to a finished network
LICENCE = (
    "AGPL-3.0-or-later; trained on synthetic people made of CC0 and CMU motion data, and on photos "
    "of Leeds Sports Pose Extended and clothing-co-parsing, whose own licences are not stated"
)


def ship(
    base: Path, run: Path | None, architecture: Architecture, body: Body, output: Path, name: str
) -> None:
    """Write the checkpoint of a stage 2 run on a base model, or of the base model alone.

    Large matrices go into sixteen and eight bits. Raises WeightsError where a run is missing or
    is of another architecture, BodyError for a body without sampled vertices, OutputError for
    the file.
    """
    tensors = network_state(base)
    if run is not None:
        tensors = {k: v for k, v in tensors.items() if k.startswith("encoder.")}
        tensors |= network_state(run)
    index, weight = body.arrays.sample_index, body.arrays.sample_weight
    if index is None or weight is None:
        raise BodyError(f"body {body.name} has no sampled vertices; train on the open body")
    tensors = {k: v for k, v in tensors.items() if not k.endswith(COUNTERS)}
    tensors = compact(tensors, COARSE, EXACT)
    tensors["samples.index"] = torch.from_numpy(index)
    tensors["samples.weight"] = torch.from_numpy(weight)
    save_checkpoint(
        output,
        tensors,
        name=name,
        architecture=asdict(architecture),
        body=body.identity,
        crop_scale=CROP_SCALE,
        licence=LICENCE,
    )


def network_state(run: Path) -> dict[str, Tensor]:
    """The network's tensors in a run's folder. Raises WeightsError where there is none."""
    path = run / "state.pt"
    try:
        modules = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["modules"]
    except (OSError, RuntimeError, KeyError) as error:
        raise WeightsError(f"{run}: holds no run that can be read; train it first") from error
    return {k.removeprefix(NETWORK): v for k, v in modules.items() if k.startswith(NETWORK)}
