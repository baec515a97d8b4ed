"""tracks.csv: a line for each person and frame, with box and keypoints."""

import codecs
import csv
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

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
SEPARATORS = ",;\t"
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
    """Read what `save` wrote, also after it was edited by hand or saved by a spreadsheet.

    Columns are separated by commas, semicolons or tabs, numbers have a decimal point or comma, the
    text is UTF-8, UTF-16 or Latin-1; empty rows and empty columns are left out.

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
    try:
        return [_track(path, *one) for one in _people(path)]
    except OSError as error:
        raise TracksError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (csv.Error, UnicodeError) as error:
        raise TracksError(f"{path}: is no table of tracks ({error})") from error
    except _BadLine as error:
        raise TracksError(f"{path}, line {error.line}: {error}") from error


def _people(path: Path) -> Iterator[tuple[int, str, bytearray]]:
    """Read everybody's number, name and packed rows; _BadLine names a line that cannot be meant."""
    rows: dict[int, bytearray] = {}
    last: dict[int, int] = {}
    called: dict[int, str] = {}
    with path.open(newline="", encoding=_encoding(path)) as stream:
        for line, fields in _rows(stream):
            try:
                person, frame, name, packed = _parse(fields)
            except (ValueError, OverflowError, struct.error) as error:
                raise _BadLine(line, f"{error!s:.200}") from error
            if last.get(person, frame - 1) >= frame:
                raise _BadLine(line, "frames of a person must ascend")
            if called.setdefault(person, name) != name:
                before = called[person]
                raise _BadLine(line, f"person {person} is {name!r} here and {before!r} before")
            last[person] = frame
            rows.setdefault(person, bytearray()).extend(packed)
    for person in list(rows):
        yield person, called[person], rows.pop(person)


class _BadLine(Exception):
    """A line that cannot be meant."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _parse(fields: Mapping[str, str]) -> tuple[int, int, str, bytes]:
    """Read a row: person, frame, the person's name, and the rest packed. Raises ValueError."""
    numbers = [_number(fields, name) for name in COLUMNS + KEYPOINT_COLUMNS]
    person, frame = _whole(numbers[0]), _whole(numbers[1])
    _check_box(numbers[3:7])
    packed = PACKED.pack(frame, *numbers[2:8], numbers[8] != 0, *numbers[9:])
    return person, frame, _name(fields.get(NAME)), packed


def _encoding(path: Path) -> str:
    """Tell in which encoding a table was saved. Raises OSError where it cannot be read."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start[1:2] == b"\0" or start[:1] == b"\0":  # the header is ASCII
        return "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as stream:
            while part := stream.read(2**20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252" if b"\0" not in start else "utf-8"
    return "utf-8-sig"


def _rows(stream: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row that is not empty, by column, with the number of its line.

    Args:
        stream: of the table.

    Yields:
        The line's number, from 1, and its fields.

    Raises:
        _BadLine: the header lacks a column, or a row has more fields than it.
        csv.Error: it is no table.
    """
    before, lines = 0, _lines(stream)
    for header in lines:  # spreadsheets may put empty rows, or "sep=;", before it
        before += 1
        separator = max(SEPARATORS, key=header.count)
        if not header.lower().startswith("sep=") and header.strip(f' "\r\n{SEPARATORS}'):
            break
    else:
        raise _BadLine(1, f"has no column {COLUMNS[0]}; it is empty")
    how: dict[str, Any] = {"delimiter": separator, "skipinitialspace": True}  # as in , "a name"
    names = [name.strip() for name in next(csv.reader([header], **how))]
    for name in COLUMNS + KEYPOINT_COLUMNS:
        if names.count(name) != 1:
            what = "more than one" if name in names else "no"
            raise _BadLine(before, f"has {what} column {name}; found {', '.join(names)!r:.80}")
    reader = csv.reader(lines, **how)
    for fields in reader:
        line = before + reader.line_num
        if not any(field.strip() for field in fields):
            continue
        if any(field.strip() for field in fields[len(names) :]):
            raise _BadLine(
                line,
                f"has {len(fields)} fields, the first line {len(names)} columns; save it "
                "with semicolons between columns if numbers have decimal commas",
            )
        yield line, dict(zip(names, fields, strict=False))  # `_number` says what a short line lacks


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a file, none of which is without end."""
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error("a line is too long")
        yield line


def _number(fields: Mapping[str, str], name: str) -> float:
    """A field's number, with decimal point or comma. Raises ValueError where it is none."""
    text = fields.get(name, "").strip()
    one_comma = text.count(",") == 1 and "." not in text
    try:
        number = float(text.replace(",", ".") if one_comma else text)
    except ValueError as error:
        found = f"could not convert {text!r:.40} to a number" if text else "nothing"
        raise ValueError(f"{found} in column {name}") from error
    if not isfinite(number):
        raise ValueError(f"{text!r:.40} in column {name} is not finite")
    return number


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
