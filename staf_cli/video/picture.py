"""A decoded picture made upright, square-pixelled RGB; and how large one may be."""

from fractions import Fraction
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import av
import numpy as np
import PIL.Image
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Colorspace, Interpolation

from staf_cli.core.errors import VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Image

LONGEST_SIDE = 16384  # px
MOST_PIXELS = 150_000_000  # four times 8K; as RGB 450 MB a frame
# FFmpeg's fast path: nine times faster than accurate rounding, on average one level of 255 off.
READING = Interpolation.BICUBIC

Matrix = tuple[int, int, int, int]  # (a, b, c, d): x' = a x + c y, y' = b x + d y

UPRIGHT: Matrix = (1, 0, 0, 1)
ORIENTATION = 0x0112  # EXIF tag
ORIENTATIONS: dict[int, Matrix] = {
    1: UPRIGHT,
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),  # a phone held upright
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def check_size(width: int, height: int, path: Path) -> None:
    """Raise VideoError for pictures too large to be worked on in bounded memory."""
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise VideoError(
            f"{printable(path)}: {width} x {height} pixels are more than staf takes "
            f"({LONGEST_SIDE} a side, {MOST_PIXELS // 10**6} million in all); scale it down first"
        )


def display_matrix(picture: Any, path: Path) -> Matrix:
    """How the file says that its pictures are turned or mirrored for display."""
    try:
        data = picture.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV cannot list the side data of a picture with EXIF, for one
        return exif_matrix(path)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def exif_matrix(path: Path) -> Matrix:
    """The same of a picture file, from its EXIF data; upright where it has none."""
    try:
        with catch_warnings():
            simplefilter("ignore")  # of large pictures and broken EXIF data
            with PIL.Image.open(path) as picture:
                return ORIENTATIONS.get(picture.getexif().get(ORIENTATION, 1), UPRIGHT)
    except Exception:  # whatever a stranger's EXIF data make of the reader
        return UPRIGHT


def upright_size(picture: Any, aspect: Fraction | None, matrix: Matrix) -> tuple[int, int]:
    """(width, height) of a picture with square pixels, turned; absurd aspects are ignored."""
    wider = aspect if aspect and Fraction(1, 4) <= aspect <= 4 else 1
    width, height = max(1, round(picture.width * wider)), picture.height
    return (height, width) if _quarter_turned(matrix) else (width, height)


def upright_image(picture: Any, size: tuple[int, int], matrix: Matrix) -> Image | None:
    """A picture as an upright RGB image of this (width, height); None if it cannot be one."""
    turned = _quarter_turned(matrix)
    see_through = any(component.is_alpha for component in picture.format.components)
    try:
        pixels = picture.reformat(
            width=size[1] if turned else size[0],
            height=size[0] if turned else size[1],
            format="rgba" if see_through else "rgb24",
            src_colorspace=_colorspace(picture),
            interpolation=READING,
        ).to_ndarray()
    except (av.FFmpegError, ValueError):
        return None
    if see_through:
        opacity = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * opacity + 127) // 255).astype(np.uint8)
    a, b, c, d = matrix
    if turned:
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _quarter_turned(matrix: Matrix) -> bool:
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def _colorspace(picture: Any) -> int:
    """The YUV matrix: the file's own, or what players assume: BT.709 for HD, BT.601 below."""
    known = {space.value for space in Colorspace} | {6}  # 6: SMPTE 170M, the same as BT.601
    if picture.colorspace in known:
        return int(picture.colorspace)
    return Colorspace.ITU709 if picture.width >= 1280 or picture.height > 576 else Colorspace.ITU601
