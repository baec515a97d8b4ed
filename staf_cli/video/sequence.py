"""A folder of pictures as a clip: in natural order, one tick of its clock for each number."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import gcd, inf
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import av
import numpy as np
import PIL.Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from staf_cli.core import files
from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import PICTURES, printable
from staf_cli.core.records import Clip, Frame, Image
from staf_cli.core.span import Span
from staf_cli.video.container import DECODER_LIMITS, make_strict
from staf_cli.video.picture import (
    LONGEST_SIDE,
    MOST_PIXELS,
    Matrix,
    check_size,
    exif_matrix,
    turned_size,
    upright_image,
    upright_size,
)

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
MOST_NAMES = 10  # of pictures that one line lists


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
            if path.suffix.lower() in PICTURES and path.name[0] != "." and path.is_file()
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


def probe_sequence(folder: Path, span: Span, fps: float | None, fit: bool) -> Clip:
    """Describe a folder of pictures as a clip, of the size that most of them have.

    Args:
        folder: The folder.
        span: The part of it that the clip is.
        fps: Pictures per second; None: 25.
        fit: Whether pictures of another size are fitted.

    Returns:
        The clip.

    Raises:
        UsageError: The rate is impossible.
        VideoError: No picture can be read, there is none in the span, or their sizes differ and
            are not to be fitted.
    """
    rate = DEFAULT_RATE if fps is None else fps
    if not 1 / LARGEST_DENOMINATOR <= rate < inf:
        raise UsageError(f"fps is {rate:g}: choose pictures a second, above 0")
    pictures = pictures_in(folder)
    if not pictures:
        raise VideoError(
            f"{printable(folder)}: a folder without pictures; name a video, "
            f"or a folder of {', '.join(sorted(PICTURES))}"
        )
    time_base = 1 / Fraction(rate).limit_denominator(LARGEST_DENOMINATOR)
    places = _places(pictures)
    wanted = [k for k, place in enumerate(places) if float(place * time_base) in span]
    if not wanted:
        raise VideoError(
            f"{printable(folder)}: nothing from {span}; its {len(pictures)} pictures at "
            f"{rate:g} a second last {float((places[-1] + 1) * time_base):g} s"
        )
    sizes = {pictures[k]: size for k in wanted if (size := _size_of(pictures[k]))}
    if not sizes:
        raise VideoError(
            f"{printable(folder)}: not one of its {len(pictures)} pictures can be read "
            f"(damaged, or larger than {MOST_PIXELS // 10**6} million pixels); "
            "save them again as PNG"
        )
    (size, _), *others = Counter(sizes.values()).most_common()
    if others and not fit:
        raise VideoError(f"{printable(folder)}: {_differing(sizes, size)}")
    check_size(*size, folder)
    return Clip(folder, *size, rate, time_base, len(wanted), False, span, fit=fit, pictures=True)


def unreadable(clip: Clip) -> tuple[str, ...]:
    """Name the pictures of the clip's span that are damaged, each with the reason."""
    return tuple(
        f"{printable(path.name)} ({reason})"
        for _, _, path in _pictures_in_span(clip)
        if (reason := _reason(path, clip))
    )


def missing_names(clip: Clip) -> list[str]:
    """Name the pictures of the clip's span that are missing between its numbers."""
    pictures = [(place, path) for _, place, path in _pictures_in_span(clip)]
    names = []
    for (before, path), (after, following) in pairwise(pictures):
        if (lacking := after - before - 1) > 0:
            first, last = (_between(path, following, lacking, k) for k in (1, lacking))
            names.append(first if lacking == 1 else f"{first} to {last}")
    return names


def numbers_left_aside(clip: Clip) -> str:
    """Name the first and last picture where the numbers have gaps that are no gaps in time."""
    pictures = pictures_in(clip.path)
    aside = _by_number(pictures) not in ([], _places(pictures))
    return f"{printable(pictures[0].name)} to {printable(pictures[-1].name)}" if aside else ""


def sequence_frames(clip: Clip, damaged: bool) -> Iterator[Frame]:
    """Decode the pictures of the clip's span that can be read.

    Args:
        clip: From `probe_sequence`.
        damaged: Whether any is `unreadable`; all pictures are then decoded from the first on,
            because those that cannot be read do not count in the index.

    Yields:
        Frames in order.
    """
    index = -1
    for number, pts, path in _all_pictures(clip) if damaged else _pictures_in_span(clip):
        time = float(pts * clip.time_base)
        if clip.span.ended(time):
            return
        picture = _decode(path, strict=False)
        image = None if picture is None else _image(picture, exif_matrix(path), clip)
        if image is None:
            continue
        index = index + 1 if damaged else number
        if time in clip.span:
            yield Frame(index, pts, time, image)


def read_picture(path: Path) -> Image | None:
    """Decode one picture upright, (H, W, 3) RGB uint8; None: it cannot be read."""
    picture = _decode(path, strict=False)
    if picture is None:
        return None
    matrix = exif_matrix(path)
    return upright_image(picture, upright_size(picture, None, matrix), matrix)


def _image(picture: Any, matrix: Matrix, clip: Clip) -> Image | None:
    """Convert a picture to the clip's size: another one is fitted, on black, or is no frame."""
    width, height = upright_size(picture, None, matrix)
    if (width, height) == clip.image_size:
        return upright_image(picture, clip.image_size, matrix)
    if not clip.fit:
        return None
    scale = min(clip.width / width, clip.height / height)
    inner = max(1, round(scale * width)), max(1, round(scale * height))
    image = upright_image(picture, inner, matrix)
    if image is None:
        return None
    left, top = (clip.width - inner[0]) // 2, (clip.height - inner[1]) // 2
    whole = np.zeros((clip.height, clip.width, 3), np.uint8)
    whole[top : top + inner[1], left : left + inner[0]] = image
    return whole


def _all_pictures(clip: Clip) -> Iterator[tuple[int, int, Path]]:
    """Yield each picture's number, its place in time in ticks, and its path."""
    pictures = pictures_in(clip.path)
    for number, (place, path) in enumerate(zip(_places(pictures), pictures, strict=True)):
        yield number, place, path


def _pictures_in_span(clip: Clip) -> Iterator[tuple[int, int, Path]]:
    for number, place, path in _all_pictures(clip):
        if float(place * clip.time_base) in clip.span:
            yield number, place, path


def _places(pictures: Sequence[Path]) -> list[int]:
    """Return when each picture is shown, in ticks: by its number, where that counts pictures.

    A number that is missing is a gap. Numbers do not count pictures where several in a name
    differ, one comes twice, or where most are missing and most do not follow the one before.
    """
    places = _by_number(pictures)
    following = sum(b - a == 1 for a, b in pairwise(places))
    if places and (places[-1] < 2 * len(places) or 2 * following > len(places) - 1):
        return places
    return list(range(len(pictures)))


def _by_number(pictures: Sequence[Path]) -> list[int]:
    """Return the place that each number gives; empty where they are no numbers that ascend."""
    numbers = _numbers(pictures)
    steps = [b - a for a, b in pairwise(numbers)]
    if not steps or min(steps) <= 0:
        return []
    step = gcd(*steps)
    return [(number - numbers[0]) // step for number in numbers]


def _numbers(pictures: Sequence[Path]) -> list[int]:
    """Return the number in each name, the only one that differs; empty if there is no such."""
    split = [re.split(r"(\d+)", picture.stem.lower()) for picture in pictures]
    if any(len(parts) != len(split[0]) for parts in split):
        return []
    differing = [k for k, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return []
    return [int(parts[differing[0]]) for parts in split]


def _between(before: Path, after: Path, lacking: int, k: int) -> str:
    """Name the k-th of the pictures that are lacking between two."""
    first, second = _numbers([before, after])
    number = first + k * (second - first) // (lacking + 1)
    *_, digits = (m for m in re.finditer(r"\d+", before.stem) if int(m[0]) == first)
    stem = before.stem[: digits.start()] + f"{number:0{len(digits[0])}}"
    return printable(stem + before.stem[digits.end() :] + before.suffix)


def _differing(sizes: Mapping[Path, tuple[int, int]], usual: tuple[int, int]) -> str:
    """Describe pictures whose size is not the usual one, for an error."""
    others = [f"{path.name} ({w} x {h})" for path, (w, h) in sizes.items() if (w, h) != usual]
    return (
        f"{len(others)} of {len(sizes)} pictures are not {usual[0]} x {usual[1]} pixels large as "
        f"most are: {printable(listed(others))}; --fit fits them in, or take them out"
    )


def listed(names: Sequence[str]) -> str:
    """List names in a line, the first ones of many."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _size_of(path: Path) -> tuple[int, int] | None:
    """Return the upright size of a picture, from its header if possible; None: unreadable."""
    try:
        with catch_warnings():
            simplefilter("ignore")  # of large pictures, and of broken EXIF data
            with PIL.Image.open(path) as header:
                width, height = header.size
                if isinstance(header, TiffImageFile):  # which may say its size once upright
                    width, height = header.tag_v2[IMAGEWIDTH], header.tag_v2[IMAGELENGTH]
    except Exception:  # an untrusted file can make the reader fail in any way
        picture = _decode(path, strict=False)
        return None if picture is None else upright_size(picture, None, exif_matrix(path))
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        return None
    return turned_size(width, height, exif_matrix(path))


def _reason(path: Path, clip: Clip) -> str:
    """Say why a picture cannot be read in full; empty if it can."""
    picture = _decode(path, strict=True)
    if picture is not None:
        same = upright_size(picture, None, exif_matrix(path)) == clip.image_size
        return "" if same or clip.fit else "another size"
    try:
        content = path.read_bytes()[:16]
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if not content:
        return "empty"
    if _codec_of(content) is None:
        return "no picture"
    if _decode(path, strict=False) is not None:
        return "damaged, shown as far as it can be read"
    return "damaged or too large"


def _codec_of(content: bytes) -> str | None:
    return next((name for start, name in DECODERS.items() if content.startswith(start)), None)


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
    codec = _codec_of(content)
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
