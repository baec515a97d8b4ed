"""The person detector, as fast as it can be on a device."""

from pathlib import Path

import torch

from staf_cli.tracking.compiled_detector import load_compiled_detector
from staf_cli.tracking.detector import Detector, load_torch_detector


def load_detector(path: Path, device: torch.device, dtype: torch.dtype) -> Detector:
    """Load a detector, compiled where that is possible.

    Args:
        path: a YOLO checkpoint (.pt), see `load_torch_detector`.
        device: where it will run.
        dtype: number format of its convolutions.

    Returns:
        The detector.

    Raises:
        WeightsError: the file is missing, damaged, or detects something else.
    """
    detector = load_compiled_detector(path, dtype) if device.type == "cpu" else None
    return detector or load_torch_detector(path, device, dtype)
