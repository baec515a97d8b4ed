"""c3d/person_<id>.c3d: markers for biomechanics programs (the C3D file format, c3d.org)."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from staf_cli.core.files import atomic
from staf_cli.export.markers import Markers, marker_files, markers_of
from staf_cli.export.scene import Scene

FILES = "c3d/person_[0-9]*.c3d"
BLOCK = 512  # bytes; the sections of a file begin at multiples of it
MOST_FRAMES = 65535  # that the header can count; TRIAL counts beyond
TEXT, INTEGER, REAL = -1, 2, 4  # types of parameters


def names(scene: Scene) -> list[str]:
    """Return the files' names: one for each person."""
    return marker_files(scene, "c3d")


def write(folder: Path, scene: Scene) -> Iterator[Path]:
    """Write the markers of all people in mm, y up, at a constant rate (`resample`).

    Args:
        folder: The result folder.
        scene: What to write.

    Yields:
        Each file's path, once the file is complete.
    """
    for person, name in zip(scene.placed().people, names(scene), strict=True):
        path = folder / name
        markers = markers_of(person, scene.body)
        points = np.zeros((*markers.places.shape[:2], 4), "<f4")  # x, y, z; residual 0: as made
        points[..., :3] = markers.places
        with atomic(path) as temporary:
            temporary.write_bytes(_head(markers, person.fps) + points.tobytes())
        yield path


def _head(markers: Markers, fps: float) -> bytes:
    """Return the header and the parameters, up to where the points begin."""
    frames, count = len(markers.time), len(markers.names)
    blocks = 1 + len(_parameters(markers, fps, 0)) // BLOCK  # of the header and the parameters
    last = min(frames, MOST_FRAMES)
    header = struct.pack(
        "<BB5HfHHf", 2, 0x50, count, 0, 1, last, 0, -1.0, blocks + 1, 0, fps
    )  # scale -1: points are floats
    return header.ljust(BLOCK, b"\0") + _parameters(markers, fps, blocks + 1)


def _parameters(markers: Markers, fps: float, start: int) -> bytes:
    """Return the section of parameters; `start` is the block where the points begin."""
    frames, count = len(markers.time), len(markers.names)
    width = max(len(name) for name in markers.names)
    labels = "".join(name.ljust(width) for name in markers.names).encode("ascii")
    entries = [
        _group(1, "POINT"),
        _parameter(1, "USED", INTEGER, (), struct.pack("<H", count)),
        _parameter(1, "FRAMES", INTEGER, (), struct.pack("<H", min(frames, MOST_FRAMES))),
        _parameter(1, "DATA_START", INTEGER, (), struct.pack("<H", start)),
        _parameter(1, "SCALE", REAL, (), struct.pack("<f", -1)),
        _parameter(1, "RATE", REAL, (), struct.pack("<f", fps)),
        _parameter(1, "UNITS", TEXT, (2,), b"mm"),
        _parameter(1, "X_SCREEN", TEXT, (2,), b"+X"),
        _parameter(1, "Y_SCREEN", TEXT, (2,), b"+Y"),
        _parameter(1, "LABELS", TEXT, (width, count), labels),
        _parameter(1, "DESCRIPTIONS", TEXT, (width, count), labels),
        _group(2, "ANALOG"),
        _parameter(2, "USED", INTEGER, (), struct.pack("<H", 0)),
        _parameter(2, "GEN_SCALE", REAL, (), struct.pack("<f", 1)),
        _parameter(2, "RATE", REAL, (), struct.pack("<f", 0)),
        _group(3, "TRIAL"),
        _parameter(3, "ACTUAL_START_FIELD", INTEGER, (2,), struct.pack("<I", 1)),
        _parameter(3, "ACTUAL_END_FIELD", INTEGER, (2,), struct.pack("<I", frames)),
    ]
    body = b"".join(entries)
    blocks = -(-(4 + len(body) + 2) // BLOCK)  # two zeros at least: there is no further entry
    return (bytes([1, 0x50, blocks, 84]) + body).ljust(blocks * BLOCK, b"\0")  # 84: little-endian


def _group(number: int, name: str) -> bytes:
    return struct.pack("<bb", len(name), -number) + name.encode() + struct.pack("<hB", 3, 0)


def _parameter(group: int, name: str, kind: int, shape: Sequence[int], data: bytes) -> bytes:
    """Return a parameter without a description; the first of `shape` varies fastest."""
    content = struct.pack(f"<bB{len(shape)}B", kind, len(shape), *shape) + data + b"\0"
    head = struct.pack("<bb", len(name), group) + name.encode()
    return head + struct.pack("<h", len(content) + 2) + content
