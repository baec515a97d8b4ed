"""Conversion of the authors' two checkpoint files to one of ours, with nothing missing or unknown.

The authors' release (MIT) consists of torch pickles, which users download themselves. Their
pickles' programs are checked before torch reads them with `weights_only=True`: they may name
tensors and plain numbers only. No code is run, and no memory allocated for what is not in the file.
"""

import pickle
import pickletools
import re
import struct
import warnings
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from staf_cli.body.format import BETAS, JOINT_COUNT, SAMPLES, body_hash, open_zip
from staf_cli.checkpoints.format import save_checkpoint
from staf_cli.core import torchvision_ops
from staf_cli.core.errors import BodyError, WeightsError
from staf_cli.core.geometry import CROP_SCALE

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
    "J_regressor": (JOINT_COUNT, SMPL_VERTICES),
    "lbs_weights": (SMPL_VERTICES, JOINT_COUNT),
    "J_regressor_extra": (9, SMPL_VERTICES),
}
DMAPS = [f"maf_extractor.{stage}.Dmap" for stage in range(3)]
NOT_NEEDED = re.compile(
    r"points_grid|.*\.num_batches_tracked|regressor\.[12]\.init_(pose|shape|cam)"
    r"|regressor\.[012]\.smpl\..+"
)

LARGEST_FILE = 2**31  # bytes; weights and an optimiser's two copies are a fifth of it
LARGEST_PROGRAM = 2**26  # bytes of a pickle; the numbers themselves are outside of it
MOST_TUPLES = 50_000  # nested, three times as many overflow Python's stack; a tensor takes five
# The scores beside the weights are numpy scalars, under these names in numpy 1 and 2.
NUMPY_NAMES = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
KNOWN_NAMES = re.compile(  # that a pickle may use
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch (Float|Double|Half|Int|Long|Short|Char|Byte|Bool)Storage"
    r"|torch\.nn\.parameter Parameter|torch Size|torch device|_codecs encode"
    r"|numpy dtype|numpy\._?core\.multiarray scalar"
)
ZIP = b"PK\x03\x04"
LEGACY_PROGRAMS = 5  # pickles that torch wrote one after the other before it wrote zip files


class _NumpyScalar:
    """Stands in for a numpy scalar, or its type, and keeps nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def import_release(folder: Path, out: Path) -> Path:
    """Convert the authors' release to a checkpoint.

    Args:
        folder: With 3dpw_model_best.pth.tar and base_model.pt.
        out: The checkpoint to write.

    Returns:
        `out`.

    Raises:
        WeightsError: A file is missing, cannot be read safely, or lacks a learned array, has one
            of another shape, or one that is unknown.
        OutputError: `out` cannot be written.
    """
    for name in (TEMPORAL_FILE, ENCODER_FILE):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder}: has no {name}; put the authors' {TEMPORAL_FILE} and {ENCODER_FILE} "
                "into one folder and name that folder"
            )
    temporal = _read_state(folder / TEMPORAL_FILE, "gen_state_dict")
    base = _read_state(folder / ENCODER_FILE, "model")
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
    """Convert the authors' tensors of everything but the encoder.

    Args:
        state: The authors' `gen_state_dict`.

    Returns:
        Our tensors.

    Raises:
        WeightsError: A key (the first is named) is missing, unknown, not finite or of another
            shape, or the down-samplings of the three levels differ.
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
    """Convert the authors' encoder.

    Args:
        state: A ResNet-50 under torchvision's names, without fc.

    Returns:
        Our `encoder.` tensors.

    Raises:
        WeightsError: As in `convert_temporal`.
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
    """Hash the SMPL body inside the authors' file.

    Args:
        state: The authors' `gen_state_dict`.

    Returns:
        The same as `BodyArrays.hash`.
    """
    names = ("v_template", "shapedirs", "J_regressor", "lbs_weights")
    v_template, shapedirs, regressor, weights = (
        state[f"{SMPL_PREFIX}{name}"].numpy() for name in names
    )
    return body_hash(v_template, shapedirs, regressor, weights)


def sparse_rows(dense: Tensor) -> tuple[Tensor, Tensor]:
    """Convert a dense down-sampling matrix to the vertices that each point is mixed from.

    Args:
        dense: (431, 6890)

    Returns:
        Vertex indices (431, K) int64 and weights (431, K); K is the largest number of nonzeros in
        a row, shorter rows are padded with weight 0.

    Raises:
        WeightsError: A row has no nonzeros, or more than 64.
    """
    counts = (dense != 0).sum(1)
    most = int(counts.max())
    if counts.min() == 0 or most > MOST_PER_SAMPLE:
        raise WeightsError(f"Dmap: a point is mixed from none or from {most} vertices")
    index = dense.abs().argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, dense.gather(1, index)


def _temporal_layout() -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each of the authors' keys our name and the authors' shape."""
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


def _read_state(path: Path, key: str) -> dict[str, Tensor]:
    """Read one state dict of a torch pickle, without running code."""
    stand_ins: list[Any] = [(_NumpyScalar, name) for name in NUMPY_NAMES]
    try:
        _check_pickles(path)
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage, which is an error below anyway
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
        BodyError,
    ) as error:
        raise WeightsError(f"{path}: is damaged or no torch file; download it again") from error
    state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: has no {key}; get the authors' original file")
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path}: {key} holds more than named tensors; get the original file")
    return {name: tensor.detach() for name, tensor in state.items()}


def _check_pickles(path: Path) -> None:
    """Check a torch file's pickles step by step without running them.

    Raises:
        UnpicklingError: A pickle has a name that no weights need, or is nested without end.
        BodyError: The file is damaged.
        ValueError: The file is damaged, too large, or claims to be larger than it is.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError("a file too large")
    with path.open("rb") as stream:
        if stream.read(len(ZIP)) != ZIP:  # as torch decides, too
            stream.seek(0)
            for _ in range(LEGACY_PROGRAMS):
                _check_pickle(stream)
            return
    with open_zip(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > size:  # torch compresses nothing
            raise ValueError("a zip that unpacks to more than it is")
        for member in members:
            if member.filename.lower().endswith(".pkl"):
                if member.file_size > LARGEST_PROGRAM:
                    raise ValueError("a program too large")
                with archive.open(member) as stream:
                    _check_pickle(stream)


def _check_pickle(stream: IO[bytes]) -> None:
    """Check one pickle's steps up to its end."""
    tuples = 0
    for step, argument, _ in pickletools.genops(stream):
        tuples += step.name.startswith("TUPLE")
        named = step.name in ("GLOBAL", "STACK_GLOBAL", "INST")
        if tuples > MOST_TUPLES or (named and not KNOWN_NAMES.fullmatch(str(argument))):
            raise pickle.UnpicklingError(step.name)
