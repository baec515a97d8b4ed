"""A trained network in one safetensors file: the tensors and what they were trained for.

The file's metadata hold one JSON document under "staf": format, name, architecture, body,
crop_scale, licence. One document, because safetensors writes its metadata in random order and
the same checkpoint should have the same hash wherever it is written. Loading never runs code.

Large matrices may be stored in sixteen or eight bits (`compact`): float16, or an int8 tensor NAME
with a float32 scale for each of its rows, NAME.scale. Loading returns float32 either way.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from staf_cli.core.errors import WeightsError
from staf_cli.core.files import atomic, sha256

FORMAT = "staf-checkpoint-1"
FIELDS = {  # of the JSON document
    "format": str,
    "name": str,
    "architecture": dict,
    "body": str,
    "crop_scale": float,
    "licence": str,
}
SCALE = ".scale"
LEAST_COMPACT = 4096  # numbers of the smallest tensor that is worth fewer bits
LARGEST_HEADER = 2**22  # bytes; ten thousand tensors take a quarter of that
MOST_NUMBERS = 100_000_000  # in all tensors; with a ResNet-152 the network has 90 million
NAME = re.compile(r"[\w.+-][\w.+ -]{0,99}")  # of a checkpoint: for tables, and no path
BODY = re.compile(NAME.pattern + " [0-9a-f]{16}")
CROP_SCALES = (1.0, 2.0)  # smallest and largest crop_scale that makes sense


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and what they are for. `tensors` are float32, indices int64, all finite."""

    tensors: dict[str, Tensor]
    name: str
    architecture: dict[str, str | bool | int | None]  # STAF's encoder, apm, tcfm, safm; Table 5's
    body: str  # name and hash of the body it was trained for: "smpl-neutral 0123456789abcdef"
    crop_scale: float  # side of the square crop over the longer side of the person's box
    licence: str  # what may be done with the weights, and where they come from
    sha256: str  # of the file

    @property
    def identity(self) -> str:
        """Name and the first 16 digits of the hash in one string, as results record it."""
        return f"{self.name} {self.sha256[:16]}"


def save_checkpoint(
    path: Path,
    tensors: dict[str, Tensor],
    *,
    name: str,
    architecture: dict[str, str | bool | int | None],
    body: str,
    crop_scale: float,
    licence: str,
) -> None:
    """Write a checkpoint for `load_checkpoint`; equal content makes equal bytes.

    Args:
        path: The .safetensors file to write.
        tensors: The network's state, float32 or as `compact` returned it.
        name: Of the checkpoint.
        architecture: Encoder, apm, tcfm, safm; of Table 5 network, encoder, integration.
        body: Name and hash of the body it was trained for.
        crop_scale: Side of the square crop over the longer side of the person's box.
        licence: What may be done with the weights, and where they come from.

    Raises:
        OutputError: The file cannot be written.
    """
    about = {
        "format": FORMAT,
        "name": name,
        "architecture": architecture,
        "body": body,
        "crop_scale": float(crop_scale),
        "licence": licence,
    }
    separate = {  # safetensors refuses tensors that share memory
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in tensors.items()
    }
    with atomic(path) as temporary:
        save_file(separate, temporary, metadata={"staf": json.dumps(about, sort_keys=True)})


def compact(
    tensors: dict[str, Tensor], coarse: tuple[str, ...], exact: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Store large matrices in fewer bits: float16, or int8 with a scale for each row.

    In int8 a number is wrong by no more than 1 / 254 of the largest of its row (dimension 0).

    Args:
        tensors: The network's state.
        coarse: How the names begin of matrices that become int8.
        exact: How the names begin of tensors that stay as they are.

    Returns:
        The tensors for `save_checkpoint`, the scales of the rows among them.
    """
    packed = {}
    for key, tensor in tensors.items():
        small = tensor.ndim < 2 or tensor.numel() < LEAST_COMPACT
        if not tensor.is_floating_point() or small or key.startswith(exact):
            packed[key] = tensor
        elif not key.startswith(coarse):
            packed[key] = tensor.half()
        else:
            rows = tensor.detach().float().flatten(1)
            scale = rows.abs().amax(1).clamp(min=1e-12) / 127
            packed[key] = (rows / scale[:, None]).round().to(torch.int8).reshape(tensor.shape)
            packed[key + SCALE] = scale
    return packed


def _restore(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert what `compact` has packed to floats again."""
    restored = {}
    for key, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(key + SCALE)
            fits = scale is not None and scale.shape == tensor.shape[:1] and tensor.ndim > 1
            if scale is None or not fits or scale.dtype != torch.float32:
                raise WeightsError(
                    f"{path}: {key:.100} has no fitting scale; import or fetch it again"
                )
            rows = tensor.flatten(1).float()
            restored[key] = rows.mul_(scale[:, None]).reshape(tensor.shape)
        elif tensors.get(key.removesuffix(SCALE), tensor).dtype != torch.int8:
            # Cloned, as a single tensor of the file's keeps all of it in memory.
            restored[key] = tensor.float() if tensor.dtype == torch.float16 else tensor.clone()
    return restored


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, which may be untrusted; names and shapes are checked by `load_network`.

    Args:
        path: A .safetensors file of ours.

    Returns:
        The checkpoint.

    Raises:
        WeightsError: The file is missing, truncated, of another format, of another number type,
            or has numbers that are not finite.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; `staf weights list` shows what is here")
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: is no checkpoint (.safetensors); see `staf weights list`")
    too_large = WeightsError(
        f"{path}: holds more than {MOST_NUMBERS} numbers, more than any network here has; "
        "get the original file"
    )
    if path.stat().st_size > 5 * MOST_NUMBERS:  # in float32 it needs four bytes each
        raise too_large
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            about = _about(path, metadata.get("staf", ""))
            shapes = {key: archive.get_slice(key).get_shape() for key in archive.keys()}  # noqa: SIM118
            if sum(math.prod(shape) for shape in shapes.values()) > MOST_NUMBERS:
                raise too_large
            tensors = {key: archive.get_tensor(key) for key in shapes}
    except (SafetensorError, OSError, KeyError, AttributeError) as error:  # of unknown types
        raise WeightsError(
            f"{path}: is damaged or no safetensors file ({error!s:.100}); import or fetch it again"
        ) from error
    tensors = _restore(path, tensors)
    for key, tensor in tensors.items():
        expected = torch.int64 if key.endswith(".index") else torch.float32
        if tensor.dtype != expected:
            raise WeightsError(
                f"{path}: {key:.100} is {tensor.dtype}, not {expected}; import it again"
            )
        if tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            raise WeightsError(
                f"{path}: {key:.100} holds values that are not finite; import it again"
            )
    return Checkpoint(
        tensors=tensors,
        name=about["name"],
        architecture=about["architecture"],
        body=about["body"],
        crop_scale=about["crop_scale"],
        licence=about["licence"],
        sha256=sha256(path),
    )


def _check_header(path: Path) -> None:
    """Refuse a header that would take much memory to read."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if size > LARGEST_HEADER:
        raise SafetensorError(f"a header of {size} bytes")


def _about(path: Path, text: str) -> dict[str, Any]:
    """Read and check the JSON document of a checkpoint."""
    not_ours = WeightsError(
        f"{path}: was not made by staf; the authors' files come in with `staf weights import`"
    )
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_ours from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise not_ours
    for field, kind in FIELDS.items():
        if not isinstance(about.get(field), kind):
            raise WeightsError(f"{path}: has no usable {field}; import it again")
    for field, pattern in (("name", NAME), ("body", BODY)):
        if not pattern.fullmatch(about[field]):
            raise WeightsError(f"{path}: has no usable {field}; import it again")
    if not _is_known(about["architecture"]):
        raise WeightsError(f"{path}: describes an unknown architecture; it needs a newer staf")
    if not CROP_SCALES[0] <= about["crop_scale"] <= CROP_SCALES[1]:
        raise WeightsError(f"{path}: has crop scale {about['crop_scale']}; import it again")
    return about


def _is_known(architecture: dict[str, Any]) -> bool:
    """Whether a description has the entries of STAF, or of a network of Table 5."""
    if "network" in architecture:
        names = list(architecture.values())
        return set(architecture) == {"network", "encoder", "integration"} and all(
            isinstance(name, str) and NAME.fullmatch(name) for name in names
        )
    levels = [architecture.get("tcfm", ""), architecture.get("safm", "")]
    return (
        set(architecture) == {"encoder", "apm", "tcfm", "safm"}
        and isinstance(architecture["encoder"], str)
        and NAME.fullmatch(architecture["encoder"]) is not None
        and isinstance(architecture["apm"], bool)
        and all(level is None or type(level) is int for level in levels)
    )
