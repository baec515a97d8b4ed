"""tracks.csv: a line for each person and frame, with box and keypoints."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from staf_cli.errors import TracksError
from staf_cli.files import atomic
from staf_cli.records import COCO_KEYPOINTS, Track

KEYPOINT_COLUMNS = [f"{name}_{part}" for name in COCO_KEYPOINTS for part in ("x", "y", "score")]
COLUMNS = ["person", "frame", "time", "x1", "y1", "x2", "y2", "score", "interpolated"]


def save(path: Path, tracks: Sequence[Track]) -> None:
    """Write all tracks: time in s, boxes and keypoints in px, interpolated as 0 or 1."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS + KEYPOINT_COLUMNS)
        for track in tracks:
            for row in range(len(track.frame)):
                numbers = [*track.box[row], track.score[row]]
                writer.writerow(
                    [track.person, track.frame[row], f"{track.time[row]:.6f}"]
                    + [f"{number:.3f}" for number in numbers]
                    + [int(track.interpolated[row])]
                    + [f"{number:.3f}" for number in track.kp2d[row].flat]
                )


def load(path: Path) -> list[Track]:
    """Read what `save` wrote.

    Raises TracksError naming the line for a missing column, a field that is no number, or
    frames of a person that do not ascend.
    """
    rows: dict[int, list[list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # Excel writes a mark
            reader = csv.DictReader(stream)
            columns = COLUMNS + KEYPOINT_COLUMNS
            absent = [name for name in columns if name not in (reader.fieldnames or ())]
            if absent:
                raise TracksError(f"{path}, line 1: has no column {absent[0]}")
            for fields in reader:
                try:
                    numbers = [float(fields[name]) for name in columns]
                    earlier = rows.setdefault(int(numbers[0]), [])
                except (TypeError, ValueError, OverflowError) as error:
                    raise TracksError(f"{path}, line {reader.line_num}: {error}") from error
                if earlier and earlier[-1][1] >= numbers[1]:
                    raise TracksError(
                        f"{path}, line {reader.line_num}: frames of a person must ascend"
                    )
                earlier.append(numbers)
    except OSError as error:
        raise TracksError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TracksError(f"{path}: is no table of tracks ({error})") from error
    return [_track(path, person, np.array(numbers)) for person, numbers in rows.items()]


def _track(
    path: Path, person: int, numbers: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> Track:
    try:
        return Track(
            person=person,
            frame=numbers[:, 1].astype(np.int64),
            time=numbers[:, 2],
            box=numbers[:, 3:7],
            score=numbers[:, 7],
            interpolated=numbers[:, 8] != 0,
            kp2d=numbers[:, 9:].reshape(-1, len(COCO_KEYPOINTS), 3),
        )
    except ValueError as error:
        raise TracksError(f"{path}: person {person}: {error}") from error
