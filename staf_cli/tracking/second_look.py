"""Second looks at people, in crops: those of an unfit size, turned ones, and who was missed.

The detector was trained on people who stand, so a crop may be turned by quarters of a circle
before it is looked at. Of several readings the surest is taken. On 200 labelled photos of
gymnasts that raised PCK@0.2 from 0.46 to 0.54.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from scipy.optimize import linear_sum_assignment

from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.geometry import box_area, box_iou
from staf_cli.core.records import Bools, Detections, Float, Frame, Ints
from staf_cli.tracking.detector import Detector, Found

LOWEST_SCORE = 0.1  # from which a reading of a crop counts
CROP_PIXELS = 320  # side of a crop, in which a person has 200
CROPS_AT_ONCE = 8  # in one pass through the detector
CROP_SCALE = 1.6  # side of a crop over the longer side of the box
READABLE = (120, 300)  # pixels of a person whose keypoints the detector finds best: PCK@0.2 of 200
# labelled photos was 0.37 at 100 px, 0.42 at 140, 0.45 from 170 to 250, 0.42 at 350, 0.35 at 500
SAME_PERSON = 0.5  # IoU of the box in the crop with the box in the frame
TURNED_PERSON = 0.3  # the same for a turned crop, whose box is less exact
EXPECTED_PERSON = 0.3  # the same with the box where the tracker expects a person
CLEAR = 0.5  # confidence of keypoints that are compared
NEAR = 0.1  # sides of the box: keypoints that are nearer are the same
FEWEST_COMMON, HALF_SEEN = 3, 0.5  # keypoints, and share of them, in one place: the same person
TURNS = (0, 1, 2, 3)  # quarters of a circle, counterclockwise
UPRIGHT = (0,)
TURN_GAIN = 0.1  # by so much the score of a turned reading must be higher, once a person is known
CHECKED_EVERY = 6  # frames after which all four turns of a person are looked at again
DOUBTFUL = 0.7  # score below which they are looked at in every frame
SURE = 0.9  # score from which they are not looked at
MOST_CHECKED = 2  # people in a frame whose four turns are looked at, and who are searched for
MOST_NEW = 8  # the same for people who have just appeared
NEVER = 1 << 30  # frames since a check that never was


@dataclass(frozen=True)
class _Known:
    """What is known of the people of the last frame."""

    box: Float  # (N, 4) px
    turn: Ints  # (N,) the best one
    since: Ints  # (N,) frames since all four were looked at


def look_closer(
    detected: Iterable[tuple[Frame, Detections, float]], detector: Detector
) -> Iterator[tuple[Frame, Detections]]:
    """Look again at people whose size was not the detector's best, and at those who may be turned.

    The former get the keypoints of the crop, and keep box and score. Who is read better in a
    turned crop gets box, score and keypoints of that.

    Args:
        detected: frames, in order, the people in them, and the zoom at which the detector saw it.
        detector: finds people in the crops.

    Yields:
        The same with better readings.

    Raises:
        OutOfMemory: the device is too small.
    """
    known = _Known(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    for frame, seen, zoom in detected:
        if not detector.has_keypoints:
            yield frame, seen
            continue
        turn, since = _carried_over(known, seen.box)
        wrong_size = _wrong_size(seen.box, zoom)
        checked = _to_check(seen, turn, since)
        looks = [
            (row, turned)
            for row in range(len(seen.box))
            for turned in (TURNS if row in checked else UPRIGHT if wrong_size[row] else ())
        ]
        found = look_at(frame, [(seen.box[row], turned) for row, turned in looks], detector)
        gain = np.where(since == NEVER, 0, TURN_GAIN)
        turn[sorted(checked)], since[sorted(checked)] = 0, 0
        seen, turn = _best_readings(seen, looks, found, turn, wrong_size, gain)
        known = _Known(seen.box, turn, np.minimum(since + 1, NEVER))
        yield frame, seen


def find_missing(
    frame: Frame, seen: Detections, expected: Float, conf: float, detector: Detector
) -> Detections:
    """Look for people where they are expected and nobody was detected, in all four turns.

    Args:
        frame: to look at.
        seen: who was detected in it.
        expected: (N, 4) px, boxes of people who should be there, the most important first.
        conf: the score from which somebody is believed.
        detector: finds people in the crops.

    Returns:
        The detections, with those who were found.

    Raises:
        OutOfMemory: the device is too small.
    """
    if not (detector.has_keypoints and len(expected)):
        return seen
    overlap = box_iou(expected, seen.box[seen.score >= conf])
    overlap[overlap < EXPECTED_PERSON] = 0
    there = np.zeros(len(expected), bool)
    person, detection = linear_sum_assignment(overlap, maximize=True)
    there[person] = overlap[person, detection] > 0
    height, width = frame.image.shape[:2]
    centre = (expected[:, :2] + expected[:, 2:]) / 2
    inside = ((centre > 0) & (centre < (width, height))).all(1)
    for box in expected[~there & inside][:MOST_CHECKED]:
        best: Found | None = None
        for found in look_at(frame, [(box, turned) for turned in TURNS], detector):
            one = _same_person(found, box, EXPECTED_PERSON)
            if one and one.score[0] >= conf and (best is None or one.score[0] > best.score[0]):
                best = one
        if best and not _is_seen(best, seen):
            seen = replace(
                seen,
                box=np.concatenate([seen.box, best.box]),
                score=np.concatenate([seen.score, best.score]),
                track_id=np.concatenate([seen.track_id, np.zeros(1, np.int64)]),
                kp2d=np.concatenate([seen.kp2d, best.kp2d]),
            )
    return seen


def _is_seen(one: Found, seen: Detections) -> bool:
    """Whether somebody who was found in a crop is among those who were seen in the frame."""
    if box_iou(one.box, seen.box).max(initial=0) >= SAME_PERSON:
        return True
    # By half of the keypoints, not by their mean distance as in tracklets.py: a limb that is read
    # elsewhere does not make another person.
    near = NEAR * (one.box[0, 2:] - one.box[0, :2]).max()
    clear = one.kp2d[0, :, 2] >= CLEAR  # (17,)
    there = np.linalg.norm(one.kp2d[..., :2] - seen.kp2d[..., :2], axis=-1) < near  # (N, 17)
    common = (there & clear & (seen.kp2d[..., 2] >= CLEAR)).sum(1)
    return bool((common >= max(FEWEST_COMMON, HALF_SEEN * clear.sum())).any())


def look_at(frame: Frame, looks: Iterable[tuple[Float, int]], detector: Detector) -> list[Found]:
    """Find people in turned crops of a frame.

    Args:
        frame: to look at.
        looks: around which boxes (4,), px, and by how many quarters turned.
        detector: finds people in the crops.

    Returns:
        For each look the people in it, in pixels of the frame.

    Raises:
        OutOfMemory: the device is too small.
    """
    waiting, readings = iter(looks), []
    while some := list(islice(waiting, CROPS_AT_ONCE)):
        squares = square_box(np.stack([box for box, _ in some]), CROP_SCALE)
        crops = [
            np.ascontiguousarray(np.rot90(crop_image(frame.image, square, CROP_PIXELS), turned))
            for square, (_, turned) in zip(squares, some, strict=True)
        ]
        found = detector.find(crops, CROP_PIXELS, LOWEST_SCORE)
        for one, square, (_, turned) in zip(found, squares, some, strict=True):
            readings.append(_in_frame(one, square, turned))
    return readings


def _best_readings(
    seen: Detections,
    looks: Iterable[tuple[int, int]],
    found: Iterable[Found],
    turn: Ints,
    wrong_size: Bools,
    gain: Float,
) -> tuple[Detections, Ints]:
    """Take the best reading of every person.

    Args:
        seen: of the whole frame, N people.
        looks: the person's row and the turn of each look.
        found: what each look found, in the frame's pixels.
        turn: (N,) 0 for everybody who was looked at in all turns.
        wrong_size: (N,) who gets the keypoints of the upright crop.
        gain: (N,) by how much the score of a turned reading must be higher.

    Returns:
        The people with their best readings, and their turns (N,).
    """
    box, score, kp2d = seen.box.copy(), seen.score.copy(), seen.kp2d.copy()
    best, turn = seen.score.copy(), turn.copy()
    for (row, turned), people in zip(looks, found, strict=True):
        one = _same_person(people, seen.box[row], TURNED_PERSON if turned else SAME_PERSON)
        if one is None:
            continue
        if not turned:
            best[row] = max(best[row], one.score[0])
            kp2d[row] = one.kp2d[0] if wrong_size[row] else kp2d[row]
        elif one.score[0] > best[row] + (0 if turn[row] else gain[row]):
            box[row], best[row], kp2d[row] = one.box[0], one.score[0], one.kp2d[0]
            score[row], turn[row] = one.score[0], turned
    return replace(seen, box=box, score=score, kp2d=kp2d), turn


def _carried_over(known: _Known, box: Float) -> tuple[Ints, Ints]:
    """Turn and frames since the last check of people (N, 4) who were there in the last frame."""
    turn = np.zeros(len(box), np.int64)
    since = np.full(len(box), NEVER, np.int64)
    if len(known.box) and len(box):
        overlap = box_iou(box, known.box)
        before, same = overlap.argmax(1), overlap.max(1) >= TURNED_PERSON
        turn[same], since[same] = known.turn[before[same]], known.since[before[same]]
    return turn, since


def _to_check(seen: Detections, turn: Ints, since: Ints) -> set[int]:
    """Rows of the people whose four turns are looked at: new ones, doubtful ones, then by size."""
    new = since == NEVER
    by_size = np.argsort(-box_area(seen.box), kind="stable")
    doubtful = ~new & ((seen.score < DOUBTFUL) | (turn > 0))
    due = ~new & ~doubtful & (seen.score < SURE) & (since >= CHECKED_EVERY)
    known = [*by_size[doubtful[by_size]], *by_size[due[by_size]]]
    return {int(row) for row in (*by_size[new[by_size]][:MOST_NEW], *known[:MOST_CHECKED])}


def _wrong_size(box: Float, zoom: float) -> Bools:
    """Which people (N, 4) the detector saw too small or too large to read them well."""
    side = (box[:, 2:] - box[:, :2]).max(1, initial=0) * zoom
    unfit: Bools = (side < READABLE[0]) | (side > READABLE[1])
    return unfit


def _same_person(found: Found, box: Float, least: float) -> Found | None:
    """The detection that is the person of a box (4,), by overlap, if one is."""
    overlap = box_iou(box[None], found.box)[0]
    if not len(overlap) or overlap.max() < least:
        return None
    row = slice(int(overlap.argmax()), int(overlap.argmax()) + 1)
    return Found(found.box[row], found.score[row], found.kp2d[row])


def _in_frame(found: Found, square: Float, turned: int) -> Found:
    """Detections in a turned crop in pixels of the frame; square (3,): centre and side, px."""
    corner, scale = square[:2] - square[2] / 2, square[2] / CROP_PIXELS
    points = _turned_back(found.kp2d[..., :2], turned)
    ends = np.sort(_turned_back(found.box.reshape(-1, 2, 2), turned), 1)  # (N, 2, 2)
    kp2d = np.concatenate([corner + points * scale, found.kp2d[..., 2:]], -1)
    return Found((corner + ends * scale).reshape(-1, 4), found.score, kp2d)


def _turned_back(points: Float, turned: int) -> Float:
    """Points (..., 2), px, of a crop that `np.rot90` turned so often, in the crop itself."""
    for _ in range(turned):
        points = np.stack([CROP_PIXELS - points[..., 1], points[..., 0]], -1)
    return points
