"""tracks.csv: a line for each person and frame, with box and keypoints."""

import csv
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from staf_cli.core.errors import TracksError
from staf_cli.core.files import atomic
from staf_cli.core.records import COCO_KEYPOINTS, LONGEST_NAME, Track

KEYPOINT_COLUMNS = [f"{name}_{part}" for name in COCO_KEYPOINTS for part in ("x", "y", "score")]
PACKED = struct.Struct(f"<q6d?{len(KEYPOINT_COLUMNS)}f")  # a row in memory, 261 bytes
ROW = np.dtype(
    [
        ("frame", "<i8"),
        ("time", "<f8"),
        ("box", "<f8", 4),
        ("score", "<f8"),
        ("interpolated", "?"),
        ("kp2d", "<f4", (len(COCO_KEYPOINTS), 3)),
    ]
)
LONGEST_LINE = 2**16  # letters; ours have about 600
COLUMNS = ["person", "frame", "time", "x1", "y1", "x2", "y2", "score", "interpolated"]
NAME = "name"  # the last column; tables without it are as good


def save(path: Path, tracks: Sequence[Track]) -> None:
    """Write all tracks: time in s, boxes and keypoints in px, interpolated as 0 or 1.

    Args:
        path: of the table.
        tracks: to write.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *KEYPOINT_COLUMNS, NAME])
        for track in tracks:
            for row in range(len(track.frame)):
                numbers = [*track.box[row], track.score[row]]
                writer.writerow(
                    [track.id, track.frame[row], repr(float(track.time[row]))]
                    + [f"{number:.3f}" for number in numbers]
                    + [int(track.interpolated[row])]
                    + [f"{number:.3f}" for number in track.kp2d[row].flat]
                    + [track.name]
                )


def load(path: Path) -> list[Track]:
    """Read what `save` wrote, also after it was edited by hand.

    Args:
        path: of the table.

    Returns:
        The tracks, in the order in which they first come.

    Raises:
        TracksError: a column is missing, a field is no number, a box has no area, a person has
            two names, or a person's frames do not ascend; the message names the line.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait
        raise TracksError(f"{path}: is no file, but a folder or a device; run the clip again")
    rows: dict[int, bytearray] = {}
    last: dict[int, int] = {}
    called: dict[int, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # Excel writes a BOM
            reader = csv.DictReader(_lines(stream))
            columns = COLUMNS + KEYPOINT_COLUMNS
            names = set(reader.fieldnames or ())
            absent = [name for name in columns if name not in names]
            if absent:
                raise TracksError(f"{path}, line 1: has no column {absent[0]}")
            for fields in reader:
                try:
                    numbers = [float(fields[name]) for name in columns]
                    person, frame = _whole(numbers[0]), _whole(numbers[1])
                    _check_box(numbers[3:7])
                    name = _name(fields.get(NAME))
                    line = PACKED.pack(frame, *numbers[2:8], numbers[8] != 0, *numbers[9:])
                except (TypeError, ValueError, OverflowError, struct.error) as error:
                    raise TracksError(f"{path}, line {reader.line_num}: {error!s:.100}") from error
                if last.get(person, frame - 1) >= frame:
                    raise TracksError(
                        f"{path}, line {reader.line_num}: frames of a person must ascend"
                    )
                if called.setdefault(person, name) != name:
                    raise TracksError(
                        f"{path}, line {reader.line_num}: person {person} is {name!r} here and "
                        f"{called[person]!r} before"
                    )
                last[person] = frame
                rows.setdefault(person, bytearray()).extend(line)
    except OSError as error:
        raise TracksError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise TracksError(f"{path}: is no table of tracks ({error})") from error
    return [_track(path, person, called[person], rows.pop(person)) for person in list(rows)]


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a file, none of which is without end."""
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error("a line is too long")
        yield line


def _whole(number: float) -> int:
    """A person's or a frame's number. Raises ValueError where it is none."""
    if not 0 <= number < 2**31 or number % 1:
        raise ValueError(f"{number:g} is no number of a person or frame")
    return int(number)


def _check_box(box: Sequence[float]) -> None:
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"the box from {x1:g}, {y1:g} to {x2:g}, {y2:g} has no area")


def _name(text: str | None) -> str:
    """What a person is called. Raises ValueError for what cannot be shown on a line."""
    name = (text or "").strip()
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"a name has up to {LONGEST_NAME} letters")
    return name


def _track(path: Path, person: int, name: str, rows: bytearray) -> Track:
    table = np.frombuffer(rows, ROW)
    columns = {name: np.ascontiguousarray(table[name]) for name in ROW.names or ()}
    try:
        return Track(id=person, name=name, **columns)
    except ValueError as error:
        raise TracksError(f"{path}: person {person}: {error}") from error
