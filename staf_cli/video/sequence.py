"""A folder of pictures as a clip: natural order, one tick of its clock a picture."""

import hashlib
import re
from collections.abc import Iterator
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import av

from staf_cli.core import files
from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import Span
from staf_cli.video.container import LIMITS, be_strict
from staf_cli.video.picture import (
    LONGEST_SIDE,
    MOST_PIXELS,
    check_size,
    exif_matrix,
    upright_image,
    upright_size,
)

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
USUAL_RATE = 25.0  # pictures a second
FINEST_RATE = 100_000  # denominator of a rate
DECODERS = {  # by what a file begins with, as names lie
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "mjpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"BM": "bmp",
    b"RIFF": "webp",
}
LARGEST_FILE = 2**30  # bytes


def is_sequence(path: Path) -> bool:
    """Whether a path is a folder with pictures in it."""
    return path.is_dir() and bool(pictures_in(path))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, frame2 before frame10; hidden files are none.

    Raises VideoError where the folder cannot be read.
    """
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
        ]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise VideoError(f"{printable(folder)}: cannot be read: {reason}") from error
    return sorted(found, key=lambda path: (_natural(path.name), path.name))


def content_hash(path: Path) -> str:
    """The SHA-256 of a video file; of a folder, one over its pictures' names and contents."""
    if not path.is_dir():
        return files.sha256(path)
    total = hashlib.sha256()
    for picture in pictures_in(path):
        name = picture.name.encode(errors="surrogateescape")
        total.update(hashlib.sha256(name).digest() + bytes.fromhex(files.sha256(picture)))
    return total.hexdigest()


def probe_sequence(folder: Path, span: Span, fps: float | None) -> Clip:
    """The clip that a folder of pictures is, as large as the first one that can be read.

    Raises UsageError for an impossible rate, VideoError where no picture can be read or the
    span holds none.
    """
    rate = USUAL_RATE if fps is None else fps
    if not 1 / FINEST_RATE <= rate < inf:
        raise UsageError(f"fps is {rate:g}: choose pictures a second, above 0")
    pictures = pictures_in(folder)
    if not pictures:
        raise VideoError(
            f"{printable(folder)}: a folder without pictures; name a video, "
            f"or a folder of {', '.join(sorted(SUFFIXES))}"
        )
    time_base = 1 / Fraction(rate).limit_denominator(FINEST_RATE)
    wanted = [k for k in range(len(pictures)) if float(k * time_base) in span]
    if not wanted:
        raise VideoError(
            f"{printable(folder)}: nothing from {span}; its {len(pictures)} pictures at "
            f"{rate:g} a second last {float(len(pictures) * time_base):g} s"
        )
    for path in pictures:
        if (picture := _decoded(path, strictly=False)) is not None:
            width, height = upright_size(picture, None, exif_matrix(path))
            check_size(width, height, path)
            return Clip(folder, width, height, rate, time_base, len(wanted), False, span)
    raise VideoError(
        f"{printable(folder)}: not one of its {len(pictures)} pictures can be read "
        f"(damaged, or larger than {MOST_PIXELS // 10**6} million pixels); save them again as PNG"
    )


def damaged_pictures(clip: Clip) -> int:
    """How many pictures of the clip's span cannot be read in full, or are of another size."""
    return sum(
        picture is None or upright_size(picture, None, exif_matrix(path)) != clip.image_size
        for _, path in _wanted(clip)
        for picture in [_decoded(path, strictly=True)]
    )


def sequence_frames(clip: Clip, damaged: bool) -> Iterator[Frame]:
    """The pictures of the clip's span that can be read and have its size."""
    index = -1
    pictures = enumerate(pictures_in(clip.path)) if damaged else _wanted(clip)
    for pts, path in pictures:
        time = float(pts * clip.time_base)
        if clip.span.ended(time):
            return
        picture, matrix = _decoded(path, strictly=False), exif_matrix(path)
        if picture is None or upright_size(picture, None, matrix) != clip.image_size:
            continue
        image = upright_image(picture, clip.image_size, matrix)
        if image is None:
            continue
        index = index + 1 if damaged else pts
        if time in clip.span:
            yield Frame(index, pts, time, image)


def _wanted(clip: Clip) -> Iterator[tuple[int, Path]]:
    for pts, path in enumerate(pictures_in(clip.path)):
        if float(pts * clip.time_base) in clip.span:
            yield pts, path


def _decoded(path: Path, strictly: bool) -> Any:
    """A picture file's (first) picture as PyAV decodes it; None where that is impossible.

    The bytes go straight to the decoder: no demuxer that might take a name with a % for a
    pattern, or a text for a playlist.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    codec = next((name for start, name in DECODERS.items() if content.startswith(start)), None)
    if codec is None:
        return None
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_type = "NONE"
    decoder.options = LIMITS
    if strictly:
        be_strict(decoder)
    try:
        pictures = decoder.decode(av.Packet(content)) + decoder.decode(None)
    except (av.FFmpegError, ValueError):
        return None
    if not pictures or max(pictures[0].width, pictures[0].height) > LONGEST_SIDE:
        return None
    return pictures[0]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in names by value, and before text."""
    parts = re.findall(r"(\d+)|(\D+)", name.lower())
    return [(not number, int(number or 0), text) for number, text in parts]
