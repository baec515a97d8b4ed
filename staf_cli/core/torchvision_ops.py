"""Make torchvision importable where its compiled operators do not fit the installed torch.

A torchvision wheel built for CUDA cannot load its C++ library beside a CPU torch, and then
`import torchvision` itself fails: it registers a Python side for the operator `nms`, which
nothing has defined. The networks of this project are plain torch; defining the one missing
operator in plain torch is all that is needed.
"""

import importlib
import sys

import torch
from torch import Tensor

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def ensure() -> None:
    """Make `import torchvision` work; nothing is changed where it works by itself.

    To be called before any import of torchvision.

    Raises:
        RuntimeError: `import torchvision` fails for any other reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _define_nms()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Drop every box that overlaps a better one too much (non-maximum suppression).

    Args:
        boxes: (N, 4) x1, y1, x2, y2, px.
        scores: (N,)
        iou_threshold: A box is dropped if its IoU with a kept, better box is greater.

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    rest = scores.argsort(descending=True, stable=True)
    kept = []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        rest = rest[shared <= iou_threshold * (area[best] + area[rest] - shared)]
    return torch.stack(kept) if kept else rest


def _define_nms() -> None:
    # The failed import leaves half of the package behind; a second one must start anew.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    torch.library.define("torchvision::nms", SCHEMA)
    torch.library.define("torchvision::qnms", SCHEMA)  # only named at import, never called
    torch.library.impl("torchvision::nms", "default", nms)
    importlib.import_module("torchvision")
    # torchvision.ops refuses to call any operator while this answers False.
    sys.modules["torchvision.extension"].__dict__["_has_ops"] = lambda: True
