"""Our checkpoints and detectors: --weights FILE, --detector FILE."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import torch

from tests.support.made_people import open_body
from tests.support.untrusted.attacks import GIB, MIB, Arguments, Canary, attack, run_with
from tests.support.untrusted.crafted_files import safetensors


def about(**changes: object) -> dict[str, str]:
    """The metadata of a checkpoint of ours, with changes."""
    good: dict[str, object] = {
        "format": "staf-checkpoint-1",
        "name": "staf-gift",
        "architecture": {"encoder": "resnet50", "apm": True, "tcfm": 1, "safm": 2},
        "body": "open-body 0123456789abcdef",
        "crop_scale": 1.1,
        "licence": "free",
    }
    return {"staf": json.dumps(good | changes)}


def with_weights(
    folder: Path, header: object, data: bytes = b"", length: int | None = None
) -> Arguments:
    return run_with(
        folder, "--weights", safetensors(folder / "w.safetensors", header, data, length)
    )


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@attack("damaged or no safetensors")
def weights_whose_header_has_no_end(folder):
    return with_weights(folder, {}, length=2**60)


@attack("damaged or no safetensors")
def weights_with_a_header_of_100_mb(folder):
    one = json.dumps(tensor("F32", [0], 0, 0))
    many = ",".join(f'"{n:020}": {one}' for n in range(10**6))
    return with_weights(folder, f'{{"__metadata__": {json.dumps(about())}, {many}}}'.encode())


@attack("damaged or no safetensors")
def weights_beyond_the_file(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [1000], 0, 4000)}
    return with_weights(folder, header, bytes(8))


@attack("damaged or no safetensors")
def weights_that_overlap(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2], 0, 8)}
    return with_weights(folder, header | {"b": tensor("F32", [2], 4, 12)}, bytes(12))


@attack("damaged or no safetensors")
def weights_of_boundless_shape(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2**40, 2**40], 0, 8)}
    return with_weights(folder, header, bytes(8))


@attack("damaged or no safetensors")
def weights_with_a_header_of_brackets(folder):
    return with_weights(folder, b"[" * 2**20)


@attack("more than any network")
def weights_of_40_gb_of_nothing(folder):
    size = 40 * GIB
    header = {"__metadata__": about(), "a": tensor("I8", [size // 2**20, 2**20], 0, size)}
    arguments = with_weights(folder, header)
    os.truncate(folder / "w.safetensors", size + 8 + len(json.dumps(header)))
    return arguments


def eight_bits(folder: Path, rows: int, columns: int) -> Arguments:
    """Zeros in eight bits that take no space on the disk."""
    size = rows * columns
    header = {
        "__metadata__": about(),
        "a": tensor("I8", [rows, columns], 0, size),
        "a.scale": tensor("F32", [rows], size, size + 4 * rows),
    }
    arguments = with_weights(folder, header)
    os.truncate(folder / "w.safetensors", size + 4 * rows + 8 + len(json.dumps(header)))
    return arguments


@attack("more than any network")
def weights_that_unpack_to_a_gigabyte(folder):
    return eight_bits(folder, 256, MIB)


@attack("trained for body")
def weights_that_unpack_to_what_a_network_has(folder):
    return eight_bits(folder, 72, MIB)


@attack("not finite")
def weights_of_nan(folder):
    header = {"__metadata__": about(), "a": tensor("F32", [2], 0, 8)}
    return with_weights(folder, header, struct.pack("<ff", 0, float("nan")))


@attack("no fitting scale")
def weights_in_eight_bits_of_no_shape(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [], 0, 1)}
    header["a.scale"] = tensor("F32", [], 1, 5)
    return with_weights(folder, header, bytes(5))


@attack("no fitting scale")
def weights_in_eight_bits_of_one_row(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [4], 0, 4)}
    header["a.scale"] = tensor("F32", [4], 4, 20)
    return with_weights(folder, header, bytes(20))


@attack("no fitting scale|not finite")
def weights_with_a_scale_of_nan(folder):
    header = {"__metadata__": about(), "a": tensor("I8", [2, 2], 0, 4)}
    header["a.scale"] = tensor("F32", [2], 4, 12)
    return with_weights(folder, header, bytes(4) + struct.pack("<ff", 1, float("nan")))


@attack("not torch.float32|no safetensors")
def weights_of_another_type(folder):
    header = {"__metadata__": about(), "a": tensor("F8_E8M0", [4], 0, 4)}
    return with_weights(folder, header, bytes(4))


@attack("not made by staf|no safetensors")
def weights_whose_metadata_are_nested(folder):
    return with_weights(folder, {"__metadata__": {"staf": "[" * 10**6}})


@attack("not made by staf|no safetensors")
def weights_whose_metadata_take_90_mb(folder):
    return with_weights(folder, {"__metadata__": {"staf": "[[]," * (22 * 2**20) + "0]"}})


@attack("has no usable body")
def weights_of_a_body_without_name(folder):
    return with_weights(folder, {"__metadata__": about(body=" ")})


@attack("has no usable body")
def weights_of_a_body_that_is_a_path(folder):
    return with_weights(
        folder, {"__metadata__": about(body="../../../etc/passwd 0123456789abcdef")}
    )


@attack("has no usable name")
def weights_whose_name_is_for_the_terminal(folder):
    return with_weights(folder, {"__metadata__": about(name="\x1b[2J\n[red]" * 1000)})


@attack("unknown architecture")
def weights_of_an_encoder_that_is_a_path(folder):
    architecture = {"encoder": "../../x", "apm": True, "tcfm": 1, "safm": 2}
    return with_weights(folder, {"__metadata__": about(architecture=architecture)})


def samples(folder: Path, index: np.ndarray, **changes: object) -> Arguments:
    """Weights for the body that comes with the project, and which vertices they sample."""
    rows, columns = index.shape
    weight = np.ones_like(index, np.float32)
    header = {
        "__metadata__": about(body=open_body().identity, **changes),
        "samples.index": tensor("I64", [rows, columns], 0, index.nbytes),
        "samples.weight": tensor("F32", [rows, columns], index.nbytes, index.nbytes * 3 // 2),
    }
    return with_weights(folder, header, index.tobytes() + weight.tobytes())


@attack("levels are")
def weights_with_a_thousand_million_levels(folder):
    architecture = {"encoder": "resnet50", "apm": True, "tcfm": 10**9, "safm": -5}
    return samples(folder, np.zeros((431, 1), np.int64), architecture=architecture)


@attack("samples other points")
def weights_that_sample_outside_of_the_body(folder):
    return samples(folder, np.full((431, 1), 2**40))


@attack("samples other points")
def weights_that_sample_a_million_points(folder):
    return samples(folder, np.zeros((10**6, 1), np.int64))


@attack("does not fit")
def weights_without_a_network(folder):
    return samples(folder, np.zeros((431, 1), np.int64))


@attack("not torch.float32")
def weights_with_names_without_end(folder):
    header = {"__metadata__": about(), "\x1b[2J" * 10**5: tensor("F64", [1], 0, 8)}
    return with_weights(folder, header, bytes(8))


@attack("not a detector|no such file|unknown detector|is no checkpoint")
def weights_of_another_kind(folder):
    path = folder / "w.pt"
    torch.save({"a": Canary(folder)}, path)
    return run_with(folder, "--weights", path)


@attack("no such file|too long")
def weights_with_a_name_without_end_as_option(folder):
    return run_with(folder, "--weights", "../" * 3000)


@attack("add --trust")
def detector_of_unknown_origin(folder):
    arguments = run_with(folder)[:4]
    torch.save({"model": Canary(folder)}, folder / "detector.pt")
    return [*arguments, "--detector", folder / "detector.pt"]


@attack("not a readable YOLO checkpoint")
def detector_with_code_that_is_trusted(folder):
    arguments = run_with(folder)
    torch.save({"model": Canary(folder)}, folder / "detector.pt")
    return arguments
