"""People in frames: ultralytics detects them, and its trackers give them raw identities.

The only importer of ultralytics. linking.py makes tracks of the raw identities.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch

from staf_cli.core import torchvision_ops
from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.environment import environment
from staf_cli.core.errors import OutOfMemory, UsageError, WeightsError, is_out_of_memory
from staf_cli.core.files import scratch_folder
from staf_cli.core.geometry import box_iou
from staf_cli.core.records import COCO_KEYPOINTS, Detections, Float, Frame, Image
from staf_cli.tracking.options import Tracker

IMAGE_PIXELS = 640  # longer side of the image that the detector sees
LOWEST_SCORE = 0.1  # a person already followed is followed down to this score
OVERLAP = 0.7  # two boxes with a greater IoU are one person to the detector
MEMORY = 30  # frames for which a tracker remembers a lost person
FRAMES_AT_ONCE = 8  # in one pass through the detector
CLOSER_PIXELS = 448  # side of the crop in which a small person is looked at again
CROPS_AT_ONCE = 8  # in one pass through the detector
CLOSER_SCALE = 1.6  # side of that crop over the longer side of the box
CLOSER_GAIN = 1.2  # it must magnify by so much more than the whole frame did
SAME_PERSON = 0.5  # IoU of the box in the crop with the box in the frame
LEAST_OVERLAP = 0.3  # IoU from which a detection is the person whose box is known


def detect(
    frames: Iterable[Frame],
    detector: Path,
    *,
    tracker: Tracker = "bytetrack",
    conf: float = 0.25,
    device: torch.device,
) -> Iterator[Detections]:
    """Detect the people of one clip and give each an identity.

    Boxes and keypoints are the detector's own, not the tracker's prediction. Nothing is
    remembered from one call to the next.

    Args:
        frames: of one clip, in order.
        detector: a YOLO checkpoint (.pt) that knows the class "person"; with COCO keypoints, or
            without, then kp2d is 0 everywhere.
        tracker: which of ultralytics' trackers.
        conf: the score in (0, 1) from which a new person is believed.
        device: where the detector runs.

    Returns:
        One record a frame, in order, pixels.

    Raises:
        UsageError: the tracker is unknown, or conf is out of range.
        WeightsError: the file is no such detector.
        OutOfMemory: the device is too small for it.
    """
    if tracker not in get_args(Tracker):
        raise UsageError(f"unknown tracker {tracker}: choose one of {', '.join(get_args(Tracker))}")
    if not 0 < conf < 1:
        raise UsageError(f"conf is {conf}: choose a detection score between 0 and 1, such as 0.25")
    model = load_detector(detector)
    use_channels_last(model, device)
    detected = look_closer(find_people(frames, model, conf, device), model, device)
    return associate(detected, tracker, conf)


def load_detector(path: Path) -> Any:
    """Load a detector from a checkpoint, whose pickle may name known classes only.

    Args:
        path: a YOLO checkpoint (.pt).

    Returns:
        An ultralytics.YOLO.

    Raises:
        WeightsError: the file is missing, damaged, or detects something else.
    """
    advice = "choose a YOLO person detector (.pt), such as yolo11n-pose.pt"
    if not path.is_file():
        raise WeightsError(f"no detector at {path}; {advice}")
    if path.suffix != ".pt":
        raise WeightsError(f"{path} does not end in .pt; {advice}")
    _import_ultralytics()
    from ultralytics.models import YOLO

    try:
        # Absolute: ultralytics would look a bare name up in its own folders and online.
        model: Any = YOLO(path.absolute())
    except (TypeError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        raise WeightsError(f"{path} is not a readable YOLO checkpoint; {advice}") from error
    if model.task not in ("detect", "pose", "segment") or "person" not in model.names.values():
        raise WeightsError(f"{path} does not detect people; {advice}")
    keypoints = list(model.model.kpt_shape) if model.task == "pose" else None
    if keypoints not in (None, [len(COCO_KEYPOINTS), 3]):
        raise WeightsError(f"{path} has keypoints {keypoints}, not COCO's [17, 3]; {advice}")
    return model


def use_channels_last(model: Any, device: torch.device) -> None:
    """Let a detector's convolutions keep the channels of a pixel together: a fifth faster on a CPU.

    The answers are the same to the last digits. bfloat16 would halve the time again, but moves
    keypoints by 1 px on average, and a few by many.

    Args:
        model: from `load_detector`; changed.
        device: where it will run.
    """
    _predict(model, [np.zeros((32, 32, 3), np.uint8)], 32, 1.0, device)  # BatchNorm is folded now
    network = model.predictor.model.model
    network.to(memory_format=torch.channels_last)
    network.register_forward_pre_hook(
        lambda _, inputs: (inputs[0].to(memory_format=torch.channels_last),)
    )


def find_people(
    frames: Iterable[Frame], model: Any, conf: float, device: torch.device
) -> Iterator[tuple[Frame, Detections]]:
    """Detect people frame by frame.

    Args:
        frames: in order.
        model: from `load_detector`.
        conf: people are found down to this score, or to LOWEST_SCORE.
        device: where the detector runs.

    Yields:
        Each frame with the people in it, track_id still 0.

    Raises:
        OutOfMemory: the device is too small.
    """
    remaining = iter(frames)
    while batch := list(islice(remaining, FRAMES_AT_ONCE)):
        images = [frame.image for frame in batch]
        results = _predict(model, images, IMAGE_PIXELS, min(conf, LOWEST_SCORE), device)
        for frame, result in zip(batch, results, strict=True):
            yield frame, _detections(frame, result)


def look_closer(
    detected: Iterable[tuple[Frame, Detections]], model: Any, device: torch.device
) -> Iterator[tuple[Frame, Detections]]:
    """Take the keypoints of people who are small in the whole frame from a second look.

    The detector sees a frame at 640 pixels, where a person a sixth of the frame high has limbs
    a few pixels wide. It looks again at a square crop around each such person. Boxes and scores
    stay, and so do the keypoints of people who are not found again in the crop.

    Args:
        detected: frames with the people in them, from `find_people`.
        model: from `load_detector`.
        device: where the detector runs.

    Yields:
        The same with better keypoints.

    Raises:
        OutOfMemory: the device is too small.
    """
    for frame, seen in detected:
        squares = square_box(seen.box, CLOSER_SCALE)
        zoom = IMAGE_PIXELS / max(frame.image.shape[:2])
        rows = iter(np.flatnonzero(CLOSER_PIXELS / squares[:, 2] > CLOSER_GAIN * zoom))
        if model.task != "pose" or zoom > 1:  # a small frame was magnified in the first place
            yield frame, seen
            continue
        kp2d = seen.kp2d.copy()
        while some := list(islice(rows, CROPS_AT_ONCE)):
            crops = [crop_image(frame.image, squares[row], CLOSER_PIXELS) for row in some]
            results = _predict(model, crops, CLOSER_PIXELS, LOWEST_SCORE, device)
            for row, result in zip(some, results, strict=True):
                found = _in_frame(_detections(frame, result), squares[row])
                overlap = box_iou(seen.box[row, None], found.box)[0]
                if len(overlap) and overlap.max() >= SAME_PERSON:
                    kp2d[row] = found.kp2d[overlap.argmax()]
        yield frame, replace(seen, kp2d=kp2d)


def closest_keypoints(box: Float, seen: Detections) -> Float | None:
    """Find the keypoints of the person who overlaps a box the most.

    Args:
        box: (4,) x1, y1, x2, y2 px.
        seen: the people of that frame.

    Returns:
        (17, 3) COCO keypoints: x, y px, confidence; None where nobody overlaps enough.
    """
    overlap = box_iou(box[None], seen.box)[0]
    if not len(overlap) or overlap.max() < LEAST_OVERLAP:
        return None
    own: Float = seen.kp2d[overlap.argmax()]
    return own


def _in_frame(found: Detections, square: Float) -> Detections:
    """Detections in a closer crop, CLOSER_PIXELS wide, in pixels of the frame; square (3,) px."""
    corner, scale = square[:2] - square[2] / 2, square[2] / CLOSER_PIXELS
    kp2d = found.kp2d.copy()
    kp2d[..., :2] = corner + kp2d[..., :2] * scale
    return replace(found, box=np.tile(corner, 2) + found.box * scale, kp2d=kp2d)


def _predict(
    model: Any, images: list[Image], pixels: int, conf: float, device: torch.device
) -> list[Any]:
    """The people in RGB images, each scaled so that its longer side has so many pixels."""
    threads = torch.get_num_threads()
    try:
        results: list[Any] = model.predict(
            # BGR, as ultralytics expects of arrays
            [np.ascontiguousarray(image[..., ::-1]) for image in images],
            conf=conf,
            iou=OVERLAP,
            classes=[number for number, name in model.names.items() if name == "person"],
            imgsz=pixels,
            rect=True,
            device=str(device),
            save=False,
            verbose=False,
        )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"the person detector does not fit into the memory of {device}; "
            "close other programs or choose --device cpu"
        ) from error
    torch.set_num_threads(threads)  # predict changes it for the whole process on a CPU
    return results


def _detections(frame: Frame, result: Any) -> Detections:
    boxes = result.boxes.data.cpu().numpy().astype(np.float64)  # (N, 6) x1 y1 x2 y2 score class
    if result.keypoints is None:
        kp2d = np.zeros((len(boxes), len(COCO_KEYPOINTS), 3))
    else:
        kp2d = result.keypoints.data.cpu().numpy().astype(np.float64)
    return Detections(
        frame=frame.index,
        time=frame.time,
        box=boxes[:, :4],
        score=boxes[:, 4],
        track_id=np.zeros(len(boxes), np.int64),
        kp2d=kp2d,
    )


def associate(
    detected: Iterable[tuple[Frame, Detections]], tracker: Tracker, conf: float
) -> Iterator[Detections]:
    """Give each detection an identity by a new tracker; drop those it does not follow.

    Args:
        detected: frames with the people in them, in order.
        tracker: which of ultralytics' trackers.
        conf: the score from which a new person is followed.

    Yields:
        The detections of each frame that are followed, with their track_id.
    """
    _import_ultralytics()
    from ultralytics.engine.results import Boxes

    follower = _new_tracker(tracker, conf)
    for frame, seen in detected:
        rows = np.column_stack([seen.box, seen.score, np.zeros(len(seen.box))])
        bgr = np.ascontiguousarray(frame.image[..., ::-1])
        follower.update(Boxes(rows.astype(np.float32), frame.image.shape[:2]), bgr)
        # Not update's return value: it omits the first frame of people who enter later.
        followed = follower.tracked_stracks
        index = np.array([int(one.idx) for one in followed], np.int64)
        yield replace(
            seen,
            box=seen.box[index],
            score=seen.score[index],
            track_id=np.array([one.track_id for one in followed], np.int64),
            kp2d=seen.kp2d[index],
        )


def _new_tracker(tracker: Tracker, conf: float) -> Any:
    from ultralytics.trackers.bot_sort import BOTSORT
    from ultralytics.trackers.byte_tracker import BYTETracker
    from ultralytics.utils import IterableSimpleNamespace

    options = IterableSimpleNamespace(
        tracker_type=tracker,
        track_high_thresh=conf,
        track_low_thresh=min(conf, LOWEST_SCORE),
        new_track_thresh=conf,
        track_buffer=MEMORY,
        match_thresh=0.8,
        fuse_score=True,
        gmc_method="sparseOptFlow",  # BoT-SORT only, like those below
        proximity_thresh=0.5,
        appearance_thresh=0.8,
        with_reid=False,  # would need a second network
        model="auto",
    )
    follower: Any = BOTSORT if tracker == "botsort" else BYTETracker
    return follower(options)


def _import_ultralytics() -> None:
    """Import ultralytics silently, offline, without a trace in the user's home or process."""
    if "ultralytics" in sys.modules:
        return
    torchvision_ops.ensure()
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
        from ultralytics.utils import nms
    # Without this it stops after two seconds by the clock and loses the people in the rest of a
    # batch: results would depend on how busy the machine is, or whether it was suspended.
    nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=math.inf)
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(cv2_threads)
