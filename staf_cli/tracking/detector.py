"""The person detector: a YOLO network of ultralytics, from pictures to boxes and keypoints."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from staf_cli.core.errors import OutOfMemory, WeightsError, is_out_of_memory
from staf_cli.core.records import COCO_KEYPOINTS, Float, Image
from staf_cli.tracking.letterbox import letterboxed
from staf_cli.tracking.ultralytics_import import import_networks

OVERLAP = 0.7  # two boxes with a greater IoU are one person to the detector
HEADS = ("Detect", "Pose", "Segment")  # of networks whose convolutions may be in 16 bits
ADVICE = "choose a YOLO person detector (.pt), such as yolo11n-pose.pt"


@dataclass(frozen=True)
class Found:
    """The people in one picture, the surest first; pixels."""

    box: Float  # (N, 4) x1, y1, x2, y2
    score: Float  # (N,) 0 to 1
    kp2d: Float  # (N, 17, 3) x, y, confidence; 0 from a detector without keypoints


class Detector(Protocol):
    """Whatever finds people in pictures."""

    @property
    def has_keypoints(self) -> bool:
        """Whether it finds keypoints too."""
        ...

    def find(self, images: list[Image], pixels: int, conf: float) -> list[Found]:
        """Find the people in pictures of one size.

        Args:
            images: (H, W, 3) RGB.
            pixels: to which the longer side is scaled.
            conf: the lowest score.

        Returns:
            For each picture the people in it.
        """
        ...


@dataclass(frozen=True)
class TorchDetector:
    """A YOLO network of ultralytics on its device."""

    network: nn.Module
    person: int  # the class's number
    classes: int
    has_keypoints: bool
    device: torch.device
    dtype: torch.dtype  # of its convolutions

    def find(self, images: list[Image], pixels: int, conf: float) -> list[Found]:
        """Find the people in pictures of one size.

        Args:
            images: (H, W, 3) RGB.
            pixels: to which the longer side is scaled.
            conf: the lowest score.

        Returns:
            For each picture the people in it.

        Raises:
            OutOfMemory: the device is too small.
            RuntimeError: what torch raises for another reason.
        """
        try:
            return self._find(images, pixels, conf)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"the person detector does not fit into the memory of {self.device}; "
                "close other programs or choose --device cpu"
            ) from error

    @torch.inference_mode()
    def _find(self, images: list[Image], pixels: int, conf: float) -> list[Found]:
        from ultralytics.utils.nms import non_max_suppression

        stride = int(self.network.stride.max())  # type: ignore[operator]
        padded, letterbox = letterboxed(images, pixels, stride)
        x = torch.from_numpy(padded).to(self.device).permute(0, 3, 1, 2)  # channels last in memory
        answer = self.network(x.to(self.dtype).div_(255))
        while not isinstance(answer, Tensor):  # what is needed comes first
            answer = answer[0]
        kept = non_max_suppression(
            answer.float(),  # (B, 4 + classes + 51, A) for A places
            conf,
            OVERLAP,
            classes=[self.person],
            nc=self.classes,
            # By default it stops after two seconds by the clock and loses the people in the rest
            # of a batch: results would depend on how busy the machine is.
            max_time_img=math.inf,
            end2end=bool(getattr(self.network, "end2end", False)),
        )
        found = []
        for rows in kept:  # (N, 6 + 51) x1 y1 x2 y2 score class, keypoints x y confidence
            values = rows.cpu().numpy().astype(np.float64)
            box = letterbox.to_picture(values[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
            kp2d = np.zeros((len(values), len(COCO_KEYPOINTS), 3))
            if self.has_keypoints:
                kp2d[:] = values[:, 6:].reshape(kp2d.shape)
                kp2d[..., :2] = letterbox.to_picture(kp2d[..., :2])
            found.append(Found(box, values[:, 4], kp2d))
        return found


def load_torch_detector(path: Path, device: torch.device, dtype: torch.dtype) -> TorchDetector:
    """Load a detector from a checkpoint, whose pickle may name known classes only.

    Args:
        path: a YOLO checkpoint (.pt) that knows the class "person"; with COCO keypoints, or
            without any.
        device: where it will run.
        dtype: number format of its convolutions, where its kind of network allows it.

    Returns:
        The detector.

    Raises:
        WeightsError: the file is missing, damaged, or detects something else.
    """
    model = load_yolo(path)
    network = model.model
    network.fuse(verbose=False)
    network.eval().requires_grad_(False)
    if network.model[-1].__class__.__name__ not in HEADS or getattr(network, "end2end", False):
        dtype = torch.float32
    network.to(device=device, memory_format=torch.channels_last)
    if dtype != torch.float32:
        _convolve_in(network, dtype)
    names = {name: number for number, name in model.names.items()}
    return TorchDetector(network, names["person"], len(names), model.task == "pose", device, dtype)


def load_yolo(path: Path) -> Any:
    """Load a checkpoint of a person detector.

    Args:
        path: a YOLO checkpoint (.pt).

    Returns:
        An ultralytics.YOLO.

    Raises:
        WeightsError: the file is missing, damaged, or detects something else.
    """
    if not path.is_file():
        raise WeightsError(f"no detector at {path}; {ADVICE}")
    if path.suffix != ".pt":
        raise WeightsError(f"{path} does not end in .pt; {ADVICE}")
    import_networks()
    from ultralytics.models import YOLO

    try:
        # Absolute: ultralytics would look a bare name up in its own folders and online.
        model: Any = YOLO(path.absolute())
    except (TypeError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        raise WeightsError(f"{path} is not a readable YOLO checkpoint; {ADVICE}") from error
    if model.task not in ("detect", "pose", "segment") or "person" not in model.names.values():
        raise WeightsError(f"{path} does not detect people; {ADVICE}")
    keypoints = list(model.model.kpt_shape) if model.task == "pose" else None
    if keypoints not in (None, [len(COCO_KEYPOINTS), 3]):
        raise WeightsError(f"{path} has keypoints {keypoints}, not COCO's [17, 3]; {ADVICE}")
    return model


def _convolve_in(network: Any, dtype: torch.dtype) -> None:
    """Put a network's convolutions into a format of 16 bits; coordinates stay in float32."""
    network.to(dtype)
    head = network.model[-1]
    head.dfl.float()
    for branches in head.children():
        if isinstance(branches, nn.ModuleList):
            for branch in branches:  # one for each scale; the head decodes what they answer
                branch.register_forward_hook(lambda _module, _inputs, output: output.float())
