"""Tracklets: the unbroken stretches of the tracker's raw identities, one of each body."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.geometry import box_area, box_iou
from staf_cli.core.records import COCO_KEYPOINTS, Bools, Detections, Float, Ints
from staf_cli.tracking.appearance import COLOURS

SEEN = 0.5  # confidence from which a keypoint counts as seen
SAME_POSE = 0.15  # mean distance of keypoints over the box's size, up to which they are one body
SAME_BOX = 0.6  # IoU above which two boxes hold one body, where too few keypoints are seen
NOBODY = 0  # the identity of detections that the tracker does not follow
FEWEST_COMPARED = 6  # keypoints seen in both poses, for their distance to decide
INSIDE = 0.8  # of a box: the share in another person's, from which it may be a part of them
UPSIDE_DOWN = 2.1  # rad between the trunks of one body that is read both ways up
SHOULDERS, HIPS = [5, 6], [11, 12]  # COCO's

# One detection. Keypoints, which take most of the memory, are float32 as the detector's are.
ROW = np.dtype(
    [
        ("frame", np.int64),
        ("time", np.float64),
        ("identity", np.int64),
        ("box", np.float64, 4),
        ("score", np.float64),
        ("kp2d", np.float32, (len(COCO_KEYPOINTS), 3)),
        ("colours", np.uint8, COLOURS),
    ]
)
Table = NDArray[np.void]  # of ROW


@dataclass(frozen=True)
class Tracklet:
    """Detections of one person in one shot; frames ascend."""

    identity: tuple[int, int]  # number of the shot, the tracker's number (of the first part)
    row: Ints  # (F,) where in the table of detections they are
    frame: Ints  # (F,)
    time: Float  # (F,) s
    box: Float  # (F, 4) px
    score: Float  # (F,)


def collect(detections: Iterable[Detections]) -> tuple[Ints, Float, Table]:
    """Collect a clip's detections in one table.

    Args:
        detections: one record a frame, in order.

    Returns:
        The frames (T,), their times (T,) s, and everything detected in them, in order.
    """
    frames: array[int] = array("q")
    times: array[float] = array("d")
    rows = bytearray()  # grows in place, where joining arrays would hold everything twice
    for seen in detections:
        frames.append(seen.frame)
        times.append(seen.time)
        table = np.zeros(len(seen.box), ROW)
        table["frame"], table["time"] = seen.frame, seen.time
        table["identity"], table["box"] = seen.track_id, seen.box
        table["score"], table["kp2d"] = seen.score, seen.kp2d
        if seen.colours is not None:
            table["colours"] = seen.colours
        rows += table.tobytes()
    return (
        np.frombuffer(frames, np.int64),
        np.frombuffer(times, np.float64),
        np.frombuffer(rows, ROW),
    )


def one_of_each_body(table: Table) -> Ints:
    """Find the rows to keep where two identities hold one body in a frame.

    Args:
        table: all detections, by frame.

    Returns:
        Rows of the table, ascending; of each body the identity that is longest in the clip.
        Those that nobody follows are not among them.
    """
    _, identity, lengths = np.unique(table["identity"], return_inverse=True, return_counts=True)
    length = lengths[identity]
    kept = table["identity"] != NOBODY
    starts = np.flatnonzero(np.diff(table["frame"], prepend=-1, append=-1))
    for first, end in pairwise(starts.tolist()):
        if end - first < 2:
            continue
        same = _same_body(table["box"][first:end], table["kp2d"][first:end].astype(np.float64))
        chosen: list[int] = []
        followed = np.flatnonzero(kept[first:end]).tolist()
        for row in sorted(followed, key=lambda k: (-length[first + k], k)):
            if not same[row, chosen].any():
                chosen.append(row)
        kept[first:end] = np.isin(np.arange(end - first), chosen)
    return np.flatnonzero(kept)


def _same_body(box: Float, kp2d: Float) -> Bools:
    """For every two of N detections in a frame: whether poses, or else boxes, agree: (N, N)."""
    same_box = box_iou(box, box) > SAME_BOX
    area = box_area(box)
    seen = np.minimum(kp2d[:, None, :, 2], kp2d[None, :, :, 2]) >= SEEN  # (N, N, 17)
    distance = np.linalg.norm(kp2d[:, None, :, :2] - kp2d[None, :, :, :2], axis=-1)
    mean = (distance * seen).sum(-1) / np.maximum(seen.sum(-1), 1)
    same_pose = mean < SAME_POSE * np.sqrt(np.minimum(area[:, None], area[None]))
    same: Bools = np.where(seen.sum(-1) >= FEWEST_COMPARED, same_pose, same_box)
    return same


def read_upside_down(box: Float, kp2d: Float) -> Bools:
    """Tell which detections in a frame are one person, read both ways up.

    Args:
        box: (N, 4) px.
        kp2d: (N, 17, 3) COCO keypoints.

    Returns:
        (N, N), for every two of them: one box is mostly in the other, hips are in one place, and
        trunks go opposite ways.
    """
    low = np.maximum(box[:, None, :2], box[None, :, :2])
    high = np.minimum(box[:, None, 2:], box[None, :, 2:])
    area, side = box_area(box), (box[:, 2:] - box[:, :2]).max(-1)
    inside = (high - low).clip(0).prod(-1) > INSIDE * np.minimum(area[:, None], area[None])
    hips = kp2d[:, HIPS, :2].mean(1)
    apart = np.linalg.norm(hips[:, None] - hips[None], axis=-1)
    near = apart < SAME_POSE * np.minimum(side[:, None], side[None])
    trunk = kp2d[:, SHOULDERS, :2].mean(1) - hips
    trunk /= np.maximum(np.linalg.norm(trunk, axis=-1, keepdims=True), 1)
    clear: Bools = kp2d[:, [*SHOULDERS, *HIPS], 2].min(-1) >= SEEN
    turned: Bools = inside & near & (trunk @ trunk.T < np.cos(UPSIDE_DOWN))
    return turned & clear[:, None] & clear


def make_tracklets(table: Table, kept: Ints, cuts: Sequence[int]) -> list[Tracklet]:
    """Cut the raw identities into unbroken stretches, so that others may fill their gaps.

    Args:
        table: all detections, by frame.
        kept: the rows of the table that count.
        cuts: the first frame of every shot but the first.

    Returns:
        The stretches of every identity in every shot, ordered by first frame.
    """
    shot = np.searchsorted(np.sort(np.asarray(cuts, np.int64)), table["frame"][kept], "right")
    order = np.lexsort((table["frame"][kept], table["identity"][kept], shot))
    rows, shot = kept[order], shot[order]
    frame, number = table["frame"][rows], table["identity"][rows]
    broken = (np.diff(shot) != 0) | (np.diff(number) != 0) | (np.diff(frame) != 1)
    edges = [0, *(np.flatnonzero(broken) + 1).tolist(), len(rows)] if len(rows) else []
    tracklets = [
        Tracklet(
            identity=(int(shot[first]), int(number[first])),
            row=rows[first:end],
            frame=frame[first:end],
            time=table["time"][rows[first:end]],
            box=table["box"][rows[first:end]],
            score=table["score"][rows[first:end]],
        )
        for first, end in pairwise(edges)
    ]
    return sorted(tracklets, key=lambda one: (int(one.frame[0]), one.identity))


def join_tracklets(parts: Sequence[Tracklet]) -> Tracklet:
    """Join tracklets of one person, in order; the identity is the first one's."""
    return Tracklet(
        identity=parts[0].identity,
        row=np.concatenate([part.row for part in parts]),
        frame=np.concatenate([part.frame for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        box=np.concatenate([part.box for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )
