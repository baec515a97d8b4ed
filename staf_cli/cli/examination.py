"""Look at everything on this machine that staf can use."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from staf_cli.checkpoints import registry
from staf_cli.checkpoints.registry import BONE_DIRECTIONS, OPEN_BODY, OPEN_WEIGHTS, POSE_LANDMARKS
from staf_cli.core import files
from staf_cli.core.compiled import MACHINES, openvino_version
from staf_cli.core.devices import choose_device
from staf_cli.core.errors import MissingTool, StafError
from staf_cli.pipeline.loading import open_body
from staf_cli.rendering import gl_device
from staf_cli.video import check_codec

CUDA_TORCH = (
    "install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cu130"
)
INSTALL_FFMPEG = {
    "Darwin": "brew install ffmpeg",
    "Linux": "sudo apt-get install ffmpeg, or as your distribution installs packages",
    "Windows": "winget install ffmpeg",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    works: bool
    needed: bool  # staf cannot run without it
    detail: str  # what was found, or how to get it


def examine() -> Iterator[Finding]:
    """Look at everything, the needed things first."""
    yield _look("device", True, _device)
    yield _look("detector", True, lambda: str(registry.locate("yolo11n-pose")))
    yield _look("body", True, lambda: open_body(OPEN_BODY).identity)
    yield _look("data", True, _writable_data)
    yield _look("weights", True, _checkpoints)
    yield _look("ffmpeg", False, _ffmpeg)
    yield _look("OpenVINO", False, _openvino)
    yield _look("GL", False, lambda: f"{gl_device()} (the CPU draws without it)")


def _look(name: str, needed: bool, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, needed, check())
    except StafError as error:
        return Finding(name, False, needed, str(error))


def _device() -> str:
    device = choose_device("auto")
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = f"{title}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    return found + (_unused_card() if device.type == "cpu" else "")


def _unused_card() -> str:
    """What to do where there is a graphics card that torch does not use."""
    if shutil.which("nvidia-smi") is None:
        return ""
    if torch.version.cuda is None:
        pip = subprocess.list2cmdline([sys.executable, "-m", "pip"])
        return f"; there is an NVIDIA card, but this torch is for the CPU: {pip} {CUDA_TORCH}"
    return "; there is an NVIDIA card that torch cannot use: update its driver"


def _openvino() -> str:
    if choose_device("auto").type != "cpu" or platform.machine() not in MACHINES:
        return "not needed here: it is for the processors of PCs without a graphics card"
    found = openvino_version(torch.device("cpu"))
    if found is None:
        pip = subprocess.list2cmdline([sys.executable, "-m", "pip"])
        raise MissingTool(f"the networks would take about half as long: {pip} install openvino")
    return f"{found} runs the networks, about twice as fast as torch does"


def _checkpoints() -> str:
    for name in (OPEN_WEIGHTS, POSE_LANDMARKS, BONE_DIRECTIONS):
        registry.locate(name)
    return ", ".join(
        [OPEN_WEIGHTS, POSE_LANDMARKS, *(path.stem for path in registry.imported_checkpoints())]
    )


def _ffmpeg() -> str:
    if shutil.which("ffmpeg") is None:
        how = INSTALL_FFMPEG.get(platform.system(), "install it, so that it is in PATH")
        raise MissingTool(f"only --codec needs it: {how}")
    check_codec("libx264")
    return f"{shutil.which('ffmpeg')} (only --codec needs it)"


def _writable_data() -> str:
    files.check_writable(files.data_folder())
    return f"{files.data_folder()} can be written"
