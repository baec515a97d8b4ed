"""The authors' two checkpoint files -> one checkpoint of ours. Strict: all there, nothing unknown.

The authors' release (MIT) consists of torch pickles, which users download themselves. They are
read with torch's `weights_only=True`, which builds tensors and plain numbers and runs no code.
"""

import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from staf_cli import torchvision_ops
from staf_cli.body_format import BETAS, JOINTS, SAMPLES, body_hash
from staf_cli.checkpoint import save_checkpoint
from staf_cli.errors import WeightsError
from staf_cli.geometry import CROP_SCALE

TEMPORAL_FILE = "3dpw_model_best.pth.tar"  # everything but the encoder, under gen_state_dict
ENCODER_FILE = "base_model.pt"  # the frozen ResNet-50, under model: feature_extractor.*
ENCODER_PREFIX = "feature_extractor."

NAME = "staf-3dpw"
ENCODER = "resnet50"
LICENCE = (
    "converted from the authors' STAF release (MIT), 3dpw_model_best.pth.tar and base_model.pt; "
    "it was trained on datasets for research only: not to be redistributed"
)

SMPL_VERTICES = 6890
MOST_PER_SAMPLE = 64  # vertices that one of the 431 points may be mixed from
SMPL_PREFIX = "regressor.0.smpl."
SMPL_SHAPES = {
    "v_template": (SMPL_VERTICES, 3),
    "shapedirs": (SMPL_VERTICES, 3, BETAS),
    "J_regressor": (JOINTS, SMPL_VERTICES),
    "lbs_weights": (SMPL_VERTICES, JOINTS),
    "J_regressor_extra": (9, SMPL_VERTICES),
}
DMAPS = [f"maf_extractor.{stage}.Dmap" for stage in range(3)]
NOT_NEEDED = re.compile(
    r"points_grid|.*\.num_batches_tracked|regressor\.[12]\.init_(pose|shape|cam)"
    r"|regressor\.[012]\.smpl\..+"
)

# The scores beside the weights are numpy scalars; these build them, from numpy 1 and 2 alike.
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
NUMPY_SCALARS: list[Any] = [
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]


def import_release(folder: Path, out: Path) -> Path:
    """Convert 3dpw_model_best.pth.tar and base_model.pt in `folder` to the checkpoint `out`.

    Gives `out`. Raises WeightsError when a file is missing, cannot be read safely, lacks a
    learned array, has one of another shape, or has one that is unknown; OutputError when `out`
    cannot be written.
    """
    for name in (TEMPORAL_FILE, ENCODER_FILE):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder}: has no {name}; put the authors' {TEMPORAL_FILE} and {ENCODER_FILE} "
                "into one folder and name that folder"
            )
    temporal = _read(folder / TEMPORAL_FILE, "gen_state_dict")
    base = _read(folder / ENCODER_FILE, "model")
    encoder = {
        key.removeprefix(ENCODER_PREFIX): tensor
        for key, tensor in base.items()
        if key.startswith(ENCODER_PREFIX)
    }
    try:
        tensors = convert_encoder(encoder) | convert_temporal(temporal)
    except WeightsError as error:
        raise WeightsError(f"{folder}: {error}; download the two files again") from error
    save_checkpoint(
        out,
        tensors,
        name=NAME,
        architecture={"encoder": ENCODER, "apm": True, "tcfm": 1, "safm": 2},
        body=f"smpl-neutral {release_body_hash(temporal)}",
        crop_scale=CROP_SCALE,
        licence=LICENCE,
    )
    return out


def convert_temporal(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' `gen_state_dict` -> our tensors for all but the encoder.

    Raises WeightsError naming the first key that is missing, unknown, not finite, or of another
    shape, and when the three stages' down-samplings differ.
    """
    layout = _temporal_layout()
    smpl = {f"{SMPL_PREFIX}{name}": shape for name, shape in SMPL_SHAPES.items()}
    dmaps = dict.fromkeys(DMAPS, (SAMPLES, SMPL_VERTICES))
    _check(state, {key: shape for key, (_, shape) in layout.items()} | smpl | dmaps)
    if not all(torch.equal(state[DMAPS[0]], state[key]) for key in DMAPS[1:]):
        raise WeightsError("the three Dmaps differ, but the network samples one mesh")
    tensors = {ours: _without_unit_axes(state[key]) for key, (ours, _) in layout.items()}
    index, weight = sparse_rows(state[DMAPS[0]])
    return tensors | {
        "samples.index": index,
        "samples.weight": weight,
        "joints.extra_regressor": state[f"{SMPL_PREFIX}J_regressor_extra"],
    }


def convert_encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet-50 under torchvision's names, without fc -> our `encoder.` tensors.

    Raises WeightsError as `convert_temporal` does.
    """
    torchvision_ops.ensure()
    from torchvision.models import resnet50

    with torch.device("meta"):
        layout = resnet50().state_dict()
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in layout.items()
        if not key.startswith("fc.") and not key.endswith(".num_batches_tracked")
    }
    _check(state, expected)
    return {f"encoder.{key}": state[key] for key in expected}


def release_body_hash(state: dict[str, Tensor]) -> str:
    """The hash of the SMPL body inside the authors' file, as `BodyArrays.hash` gives it."""
    names = ("v_template", "shapedirs", "J_regressor", "lbs_weights")
    v_template, shapedirs, regressor, weights = (
        state[f"{SMPL_PREFIX}{name}"].numpy() for name in names
    )
    return body_hash(v_template, shapedirs, regressor, weights)


def sparse_rows(dense: Tensor) -> tuple[Tensor, Tensor]:
    """A dense down-sampling (431, 6890) -> vertex indices (431, K) int64 and weights (431, K).

    K is the largest number of nonzeros in a row; shorter rows are padded with weight 0.
    Raises WeightsError for an empty row or K > 64.
    """
    counts = (dense != 0).sum(1)
    most = int(counts.max())
    if counts.min() == 0 or most > MOST_PER_SAMPLE:
        raise WeightsError(f"Dmap: a point is mixed from none or from {most} vertices")
    index = dense.abs().argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, dense.gather(1, index)


def _temporal_layout() -> dict[str, tuple[str, tuple[int, ...]]]:
    """The authors' key -> our name and the authors' shape."""
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}

    def linear(theirs: str, ours: str, outputs: int, inputs: int, *unit: int) -> None:
        layout[f"{theirs}.weight"] = (f"{ours}.weight", (outputs, inputs, *unit))
        layout[f"{theirs}.bias"] = (f"{ours}.bias", (outputs,))

    features = (5 * 441, 5 * SAMPLES, 5 * SAMPLES)
    for stage, channels in enumerate((2048, 256, 256)):
        deconv = f"deconv_layers.{3 * stage}.weight"
        layout[deconv] = (f"pyramid.deconv.{stage}.weight", (channels, 256, 4, 4))
        for name in ("weight", "bias", "running_mean", "running_var"):
            norm = f"deconv_layers.{3 * stage + 1}.{name}"
            layout[norm] = (f"pyramid.norm.{stage}.{name}", (256,))
        for layer, (outputs, inputs) in enumerate([(128, 256), (64, 128 + 256), (5, 64 + 256)]):
            linear(
                f"maf_extractor.{stage}.conv{layer}",
                f"sampler.{stage}.layer.{layer}",
                outputs,
                inputs,
                1,
            )
        regressor = f"regressor.{stage}"
        linear(f"{regressor}.fc1", f"{regressor}.fc1", 1024, features[stage] + 144 + 10 + 3)
        linear(f"{regressor}.fc2", f"{regressor}.fc2", 1024, 1024)
        for head, size in (("decpose", 144), ("decshape", 10), ("deccam", 3)):
            linear(f"{regressor}.{head}", f"{regressor}.{head}", size, 1024)
    tcfm = "tcfm.nonlocalblock"
    for name in ("theta", "phi", "g"):
        layout[f"{tcfm}.conv_{name}.weight"] = (f"tcfm.{name}.weight", (1102, 2205, 1))
    layout[f"{tcfm}.conv_mask.weight"] = ("tcfm.mask.weight", (2205, 1102, 1))
    layout[f"{tcfm}.conv_mask_forR.weight"] = ("tcfm.fuse", (1, 2, 1, 1))
    safm = "safm.nonlocalblock.attention"
    linear(f"{safm}.fc", "safm.reduce", 256, features[1])
    for layer, (outputs, inputs) in {0: (256, 768), 2: (256, 256), 4: (3, 256)}.items():
        linear(f"{safm}.attention.{layer}", f"safm.attend.{layer}", outputs, inputs)
    for name, size in (("pose", 144), ("shape", 10), ("cam", 3)):
        layout[f"regressor.0.init_{name}"] = (f"mean.{name}", (1, size))
    return layout


def _check(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    for key, shape in expected.items():
        if key not in state:
            raise WeightsError(f"{key} is missing")
        tensor = state[key]
        if tuple(tensor.shape) != shape:
            raise WeightsError(f"{key} has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype != torch.float32:
            raise WeightsError(f"{key} holds {tensor.dtype}, expected torch.float32")
        if not tensor.isfinite().all():
            raise WeightsError(f"{key} holds values that are not finite")
    for key in state:
        if key not in expected and not NOT_NEEDED.fullmatch(key):
            raise WeightsError(f"{key!a:.80} is unknown: these are weights of another network")


def _without_unit_axes(tensor: Tensor) -> Tensor:
    """(O, I, 1) -> (O, I), (1, 2, 1, 1) -> (2,), (1, N) -> (N,): what a plain Linear holds."""
    return tensor.squeeze()


def _read(path: Path, key: str) -> dict[str, Tensor]:
    """One state dict out of a torch pickle, without running code."""
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of damage that ends below anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than weights, and reading that could run code; "
            "get the authors' original file"
        ) from error
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        struct.error,
    ) as error:
        raise WeightsError(f"{path}: is damaged or no torch file; download it again") from error
    state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: has no {key}; get the authors' original file")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path}: {key} holds more than named tensors; get the original file")
    return state
