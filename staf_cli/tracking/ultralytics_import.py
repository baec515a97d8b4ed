"""Import ultralytics silently, offline, without a trace in the user's home or process."""

import sys

import cv2
import torch

from staf_cli.core import torchvision_ops
from staf_cli.core.environment import environment
from staf_cli.core.files import scratch_folder


def import_networks() -> None:
    """Import what ultralytics' networks need; to be called before any import of them."""
    torchvision_ops.ensure()
    import_ultralytics()


def import_ultralytics() -> None:
    """Import ultralytics without its networks; to be called before any other import of it."""
    if "ultralytics" in sys.modules:
        return
    # It sets OMP_NUM_THREADS to 1 and OpenCV to one thread, for the whole process.
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    with (
        scratch_folder() as folder,  # it writes a settings file when imported
        environment(
            {
                "YOLO_CONFIG_DIR": str(folder),
                "YOLO_OFFLINE": "true",
                "YOLO_AUTOINSTALL": "false",
                "YOLO_VERBOSE": "false",
                "ULTRALYTICS_SAFE_LOAD": "true",
                "OMP_NUM_THREADS": str(torch_threads),
            }
        ),
    ):
        import ultralytics  # noqa: F401
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(cv2_threads)
