"""People in the frames of a clip: detected, looked at again, and given raw identities."""

import math
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from staf_cli.core.errors import UsageError
from staf_cli.core.geometry import box_iou
from staf_cli.core.records import Detections, Float, Frame
from staf_cli.tracking.association import associate
from staf_cli.tracking.detector import Detector, Found
from staf_cli.tracking.loading import load_detector
from staf_cli.tracking.options import Tracker
from staf_cli.tracking.second_look import LOWEST_SCORE, look_closer

COARSE, FINE = 640, 960  # pixels to which a frame's longer side is scaled for the detector
LARGE_ENOUGH = 160  # pixels of a person from which COARSE finds whom FINE finds; at 90, 62 %
CERTAIN = 0.5  # score of a person for whose size the scale is chosen
FRAMES_AT_ONCE = 4  # in one pass through the detector
PROBED_EVERY = 16  # frames in COARSE, before one of which a frame is looked at in FINE
LEAST_OVERLAP = 0.3  # IoU from which a detection is the person whose box is known


def detect(
    frames: Iterable[Frame],
    detector: Path,
    *,
    tracker: Tracker = "bytetrack",
    conf: float = 0.25,
    pixels: int | None = None,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
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
        pixels: to which frames are scaled, see `find_people`.
        device: where the detector runs.
        dtype: number format of its convolutions.

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
    model = load_detector(detector, device, dtype)
    return associate(find_people(frames, model, conf, pixels), tracker, conf, model)


def find_people(
    frames: Iterable[Frame],
    detector: Detector,
    conf: float,
    pixels: int | None = None,
    at_once: int = FRAMES_AT_ONCE,
) -> Iterator[tuple[Frame, Detections]]:
    """Detect people frame by frame, and look again at those who are hard to read.

    Args:
        frames: in order.
        detector: finds people in pictures.
        conf: people are found down to this score, or to LOWEST_SCORE.
        pixels: to which the frames' longer side is scaled. None: COARSE, or FINE while there are
            people for whom COARSE is too coarse.
        at_once: how many frames are taken before the first is handed on; a divisor of
            PROBED_EVERY.

    Returns:
        Each frame with the people in it, track_id still 0.

    Raises:
        OutOfMemory: the device is too small.
    """
    lowest = min(conf, LOWEST_SCORE)
    return look_closer(_whole_frames(frames, detector, lowest, pixels, at_once), detector)


def _whole_frames(
    frames: Iterable[Frame], detector: Detector, conf: float, pixels: int | None, at_once: int
) -> Iterator[tuple[Frame, Detections, float]]:
    """Each frame, the people in it, and the zoom at which the detector saw it."""
    remaining, smallest = iter(frames), math.inf  # pixels of a frame
    for number in count(step=at_once):
        batch = list(islice(remaining, at_once))
        if not batch:
            return
        images = [frame.image for frame in batch]
        longest = max(images[0].shape[:2])
        if pixels is None and number % PROBED_EVERY == 0 and _seen_at(COARSE, smallest, longest):
            smallest = _smallest(detector.find(images[:1], FINE, conf))
        scale = pixels or (COARSE if _seen_at(COARSE, smallest, longest) else FINE)
        found = detector.find(images, scale, conf)
        smallest = _smallest(found)
        for frame, people in zip(batch, found, strict=True):
            seen = Detections(
                frame=frame.index,
                time=frame.time,
                box=people.box,
                score=people.score,
                track_id=np.zeros(len(people.box), np.int64),
                kp2d=people.kp2d,
            )
            yield frame, seen, scale / longest


def _seen_at(scale: int, side: float, longest: int) -> bool:
    """Whether a person with boxes of this side, px of the frame, is found at this scale."""
    return side * scale / longest >= LARGE_ENOUGH


def _smallest(found: Iterable[Found]) -> float:
    """The longer side of the smallest person who is certainly there, px; inf without people."""
    boxes = np.concatenate([people.box[people.score >= CERTAIN] for people in found])
    return float((boxes[:, 2:] - boxes[:, :2]).max(1).min(initial=math.inf))


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
