"""The weights of the landmark network, which are shipped with staf (weights/POSE_LANDMARKS.md)."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from staf_cli.checkpoints.registry import POSE_LANDMARKS, locate
from staf_cli.core.errors import WeightsError
from staf_cli.landmarks.network import PoseLandmarkNetwork

MOST_BYTES = 2**26  # of a file; ours has 28 MB, in float32 it would have 55 MB


def load_landmarks(name_or_path: str = POSE_LANDMARKS) -> PoseLandmarkNetwork:
    """Load the landmark network, ready to infer.

    Args:
        name_or_path: The name in the manifest, or a file that tools/convert_landmarks.py wrote.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        WeightsError: The file is absent, altered or damaged, or holds another network.
    """
    tensors = read_tensors(name_or_path)
    with torch.device("meta"):  # random weights would be replaced at once
        network = PoseLandmarkNetwork()
    try:
        network.load_state_dict({name: one.float() for name, one in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise WeightsError(_unfitting(name_or_path, error)) from error
    convert_conv2d_weight_memory_format(network, torch.channels_last)  # a quarter faster on CPUs
    return network.eval().requires_grad_(False)


def read_tensors(name_or_path: str = POSE_LANDMARKS) -> dict[str, Tensor]:
    """Read the network's tensors, for a network that has some of its layers.

    Args:
        name_or_path: As for `load_landmarks`.

    Returns:
        The tensors as they are stored, float16, by the names of `PoseLandmarkNetwork`.

    Raises:
        WeightsError: The file is absent, altered or damaged.
    """
    path = locate(name_or_path)
    if path.stat().st_size > MOST_BYTES:
        raise WeightsError(f"{path}: is too large for pose landmarks; use {POSE_LANDMARKS}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise WeightsError(_unfitting(name_or_path, error)) from error


def _unfitting(name_or_path: str, error: Exception) -> str:
    """The message for a file that holds something else."""
    path, reason = locate(name_or_path), " ".join(str(error).split())[:200]
    return f"{path}: holds no pose landmark network ({reason}); use {POSE_LANDMARKS}"
