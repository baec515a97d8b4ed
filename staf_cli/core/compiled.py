"""Networks compiled by OpenVINO, which takes about half of torch's time on the processor of a PC.

OpenVINO is an optional extra (`staf-cli[openvino]`); without it torch computes. A network is
translated once and kept in the user's data folder.
"""

import hashlib
import importlib
import json
import platform
import secrets
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from staf_cli.core.files import TEMPORARY, data_folder, read_json, sha256

MACHINES = ("x86_64", "AMD64")  # on others it was not measured
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
NETWORK, WEIGHTS, FACTS = "network.xml", "network.bin", "facts.json"
UNUSED_DAYS = 30  # after which a translated network is removed
PACKAGE = Path(__file__).parents[1]

Facts = Mapping[str, Any]  # JSON

_all: "WeakSet[Compiled]" = WeakSet()  # of the process, as its memory is


@dataclass(frozen=True, eq=False)
class Compiled:
    """A network that OpenVINO computes, for one thread after the other."""

    request: Any  # an openvino.InferRequest
    facts: Facts  # what its maker said of it
    one_at_a_time: Lock = field(default_factory=Lock)

    def __call__(self, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Compute the network's outputs.

        Args:
            x: Its input.

        Returns:
            Its outputs; they stay as they are when it is called again.
        """
        with self.one_at_a_time:
            return list(self.request.infer([np.ascontiguousarray(x)], share_inputs=True).values())


def openvino_version(device: torch.device) -> str | None:
    """Return the version of OpenVINO that computes for a device; None: torch computes.

    Args:
        device: OpenVINO computes for the CPU of a PC, where it is installed.

    Returns:
        The version, without importing it.
    """
    if device.type != "cpu" or platform.machine() not in MACHINES:
        return None
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def compiled(
    build: Callable[[], tuple[nn.Module, Facts]],
    key: str,
    example: Tensor,
    sizes: Sequence[int],
    dtype: torch.dtype,
) -> Compiled | None:
    """Compile a network for the CPU, or load it as it was compiled before.

    Args:
        build: Makes the network, and what is to be known of it: on the CPU, in float32, for
            inference, from one tensor to a tuple of tensors.
        key: A hash of its weights. A change of the code is noticed without it.
        example: An input.
        sizes: Of the input, -1 where they may differ from those of the example.
        dtype: The number format to compute in: float32, or bfloat16 where the processor has it.

    Returns:
        What computes the same as the network but for rounding; None where torch is to compute:
        OpenVINO is not there, or cannot translate the network.

    Raises:
        StafError: What `build` raises.
    """
    if openvino_version(torch.device("cpu")) is None:
        return None
    try:
        openvino, core = _openvino()
        folder = data_folder() / "openvino" / _name(key, sizes, openvino.get_version())
        kept = _kept(core, folder)
        if kept is None:
            network, facts = build()
            model = _translated(network, example, sizes)
            _keep(openvino, model, facts, folder)
            # Read back, it rounds as it will in later runs; without a place for it, it is as it is.
            kept = _kept(core, folder) or (model, facts)
        model, facts = kept
        how = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        ready = Compiled(core.compile_model(model, "CPU", how).create_infer_request(), facts)
    except RuntimeError:  # OpenVINO's own errors, whatever is wrong
        return None
    _all.add(ready)
    return ready


def free_results() -> None:
    """Free what compiled networks hold between two calls: all inner results, of every size."""
    for network in list(_all):
        with network.one_at_a_time:
            network.request.get_compiled_model().release_memory()


def hash_of_weights(network: nn.Module) -> str:
    """Compute a hash over the names and values of a network's tensors, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)}".encode())
        total.update(tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@cache
def _openvino() -> tuple[Any, Any]:
    """Import OpenVINO, and make the one core of this process.

    Where there is AMX a core gives the thread another stack for signals, and takes it away when
    it goes. After two of them Ctrl-C would end in a segmentation fault (OpenVINO 2026.4).

    Returns:
        The module and the core.
    """
    telemetry = "openvino_telemetry"  # which reports every import to OpenVINO's makers
    absent = telemetry not in sys.modules
    if absent:
        sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        openvino = importlib.import_module("openvino")
    finally:
        if absent:
            del sys.modules[telemetry]
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # else weights are in memory twice
    return openvino, core


def _translated(network: nn.Module, example: Tensor, sizes: Sequence[int]) -> Any:
    """The network as an openvino.Model."""
    # Not openvino.convert_model, which obeys a --verbose on staf's command line.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of constants
        traced: Any = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(sizes))
    return model


def _kept(core: Any, folder: Path) -> tuple[Any, Facts] | None:
    """A translated network and its facts, if they are there as they were written."""
    try:
        content = read_json(folder / FACTS)
        hashes = content["sha256"]
        if any(sha256(folder / name) != hashes[name] for name in (NETWORK, WEIGHTS)):
            return None
        folder.touch()
        return core.read_model(folder / NETWORK), content["facts"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(openvino: Any, model: Any, facts: Facts, folder: Path) -> None:
    """Write a translated network, as a whole or not at all, and remove what is long unused."""
    temporary = folder.with_name(f"{TEMPORARY}{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        openvino.save_model(model, temporary / NETWORK, compress_to_fp16=False)
        hashes = {name: sha256(temporary / name) for name in (NETWORK, WEIGHTS)}
        (temporary / FACTS).write_text(json.dumps({"facts": facts, "sha256": hashes}), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # where it was damaged
        temporary.rename(folder)
        for other in folder.parent.iterdir():
            if time.time() - other.stat().st_mtime > UNUSED_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
    except (OSError, RuntimeError):  # no space for it; or another process was faster
        shutil.rmtree(temporary, ignore_errors=True)


def _name(key: str, sizes: Sequence[int], openvino: str) -> str:
    """What a translated network is kept as: a hash of all that it was made of."""
    made_of = [key, str(list(sizes)), openvino, torch.__version__, _hash_of_code()]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


@cache
def _hash_of_code() -> str:
    """A hash over the code of this package, which defines the networks."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()
