"""Raw identities for detections, by the trackers of ultralytics."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from staf_cli.core.records import Detections, Float, Frame
from staf_cli.tracking.appearance import colours_of
from staf_cli.tracking.detector import Detector
from staf_cli.tracking.options import Tracker
from staf_cli.tracking.second_look import LOWEST_SCORE, find_missing
from staf_cli.tracking.ultralytics_import import import_ultralytics

MEMORY = 30  # frames for which a tracker remembers a lost person
SEARCHED_FRAMES = 15  # for which a lost person is looked for where the tracker expects them


def associate(
    detected: Iterable[tuple[Frame, Detections]], tracker: Tracker, conf: float, detector: Detector
) -> Iterator[Detections]:
    """Give each detection an identity by a new tracker.

    Who is followed and was not detected in a frame is looked for where the tracker expects them.

    Args:
        detected: frames with the people in them, in order.
        tracker: which of ultralytics' trackers.
        conf: the score from which a new person is followed.
        detector: finds people who were missed.

    Yields:
        The detections of each frame with their colours and track_id, 0 for those who are not
        followed.

    Raises:
        OutOfMemory: the device is too small.
    """
    import_ultralytics()
    from ultralytics.engine.results import Boxes

    follower = _new_tracker(tracker, conf)
    for frame, seen in detected:
        seen = find_missing(frame, seen, _expected(follower), conf, detector)
        rows = np.column_stack([seen.box, seen.score, np.zeros(len(seen.box))])
        # Only BoT-SORT looks at the picture, for the camera's motion: RGB is as good as BGR.
        follower.update(Boxes(rows.astype(np.float32), frame.image.shape[:2]), frame.image)
        # Not update's return value: it omits the first frame of people who enter later.
        identity = np.zeros(len(seen.box), np.int64)
        for one in follower.tracked_stracks:
            identity[int(one.idx)] = one.track_id
        yield replace(seen, track_id=identity, colours=colours_of(frame.image, seen))


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


def _expected(follower: Any) -> Float:
    """Where the tracker expects the people it follows, or lost a moment ago: (N, 4) px."""
    lost = [
        one for one in follower.lost_stracks if follower.frame_id - one.end_frame < SEARCHED_FRAMES
    ]
    everybody = [*follower.tracked_stracks, *lost]
    boxes = [one.xyxy + np.tile(one.mean[4:6], 2) for one in everybody]  # one frame further
    return np.array(boxes, np.float64).reshape(-1, 4)
