"""A folder of pictures as a clip: in natural order, one tick of its clock for each picture."""

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
from staf_cli.video.container import DECODER_LIMITS, make_strict
from staf_cli.video.picture import (
    LONGEST_SIDE,
    MOST_PIXELS,
    check_size,
    exif_matrix,
    upright_image,
    upright_size,
)

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
DEFAULT_RATE = 25.0  # pictures per second
LARGEST_DENOMINATOR = 100_000  # of a rate as a fraction
DECODERS = {  # by a file's first bytes, as its name may be wrong
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
    """List the pictures of a folder in natural order: frame2 before frame10.

    Args:
        folder: Its hidden files and its folders are left out.

    Returns:
        Their paths.

    Raises:
        VideoError: The folder cannot be read.
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
    return sorted(found, key=lambda path: (_natural_key(path.name), path.name))


def content_hash(path: Path) -> str:
    """Compute the SHA-256 of a video file, or of a folder's picture names and contents."""
    if not path.is_dir():
        return files.sha256(path)
    total = hashlib.sha256()
    for picture in pictures_in(path):
        name = picture.name.encode(errors="surrogateescape")
        total.update(hashlib.sha256(name).digest() + bytes.fromhex(files.sha256(picture)))
    return total.hexdigest()


def probe_sequence(folder: Path, span: Span, fps: float | None) -> Clip:
    """Describe a folder of pictures as a clip, of the size of the first one that can be read.

    Args:
        folder: The folder.
        span: The part of it that the clip is.
        fps: Pictures per second; None: 25.

    Returns:
        The clip.

    Raises:
        UsageError: The rate is impossible.
        VideoError: No picture can be read, or there is none in the span.
    """
    rate = DEFAULT_RATE if fps is None else fps
    if not 1 / LARGEST_DENOMINATOR <= rate < inf:
        raise UsageError(f"fps is {rate:g}: choose pictures a second, above 0")
    pictures = pictures_in(folder)
    if not pictures:
        raise VideoError(
            f"{printable(folder)}: a folder without pictures; name a video, "
            f"or a folder of {', '.join(sorted(SUFFIXES))}"
        )
    time_base = 1 / Fraction(rate).limit_denominator(LARGEST_DENOMINATOR)
    wanted = [k for k in range(len(pictures)) if float(k * time_base) in span]
    if not wanted:
        raise VideoError(
            f"{printable(folder)}: nothing from {span}; its {len(pictures)} pictures at "
            f"{rate:g} a second last {float(len(pictures) * time_base):g} s"
        )
    for path in pictures:
        if (picture := _decode(path, strict=False)) is not None:
            width, height = upright_size(picture, None, exif_matrix(path))
            check_size(width, height, path)
            return Clip(folder, width, height, rate, time_base, len(wanted), False, span)
    raise VideoError(
        f"{printable(folder)}: not one of its {len(pictures)} pictures can be read "
        f"(damaged, or larger than {MOST_PIXELS // 10**6} million pixels); save them again as PNG"
    )


def count_damaged(clip: Clip) -> int:
    """Count the pictures of the clip's span that are damaged or of another size."""
    return sum(
        picture is None or upright_size(picture, None, exif_matrix(path)) != clip.image_size
        for _, path in _pictures_in_span(clip)
        for picture in [_decode(path, strict=True)]
    )


def sequence_frames(clip: Clip, damaged: bool) -> Iterator[Frame]:
    """Decode the pictures of the clip's span that can be read and have its size.

    Args:
        clip: From `probe_sequence`.
        damaged: Whether `count_damaged` found any; all pictures are then decoded from the first
            on, because those that cannot be read do not count in the index.

    Yields:
        Frames in order.
    """
    index = -1
    pictures = enumerate(pictures_in(clip.path)) if damaged else _pictures_in_span(clip)
    for pts, path in pictures:
        time = float(pts * clip.time_base)
        if clip.span.ended(time):
            return
        picture, matrix = _decode(path, strict=False), exif_matrix(path)
        if picture is None or upright_size(picture, None, matrix) != clip.image_size:
            continue
        image = upright_image(picture, clip.image_size, matrix)
        if image is None:
            continue
        index = index + 1 if damaged else pts
        if time in clip.span:
            yield Frame(index, pts, time, image)


def _pictures_in_span(clip: Clip) -> Iterator[tuple[int, Path]]:
    for pts, path in enumerate(pictures_in(clip.path)):
        if float(pts * clip.time_base) in clip.span:
            yield pts, path


def _decode(path: Path, strict: bool) -> Any:
    """Return the first picture of a file as PyAV decodes it; None where that is impossible."""
    # The bytes go straight to the decoder: a demuxer might read a name with a % as a pattern,
    # or a text as a playlist.
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
    decoder.options = DECODER_LIMITS
    if strict:
        make_strict(decoder)
    try:
        pictures = decoder.decode(av.Packet(content)) + decoder.decode(None)
    except (av.FFmpegError, ValueError):
        return None
    if not pictures or max(pictures[0].width, pictures[0].height) > LONGEST_SIDE:
        return None
    return pictures[0]


def _natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers in names by value, and before text."""
    parts = re.findall(r"(\d+)|(\D+)", name.lower())
    return [(not number, int(number or 0), text) for number, text in parts]
