"""Makes decoded pictures upright RGB with square pixels; how large a picture may be."""

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
from staf_cli.video.tonemapping import CURVES, ToneMap

LONGEST_SIDE = 16384  # px
MOST_PIXELS = 150_000_000  # four times 8K; 450 MB for each RGB frame
# FFmpeg's fast path: nine times faster than accurate rounding, on average one level of 255 off.
INTERPOLATION = Interpolation.BICUBIC

WHITE_FROM_YUV = 65280 / 65535  # what FFmpeg makes of white, of what 16 bits hold
RGB_FORMATS = {  # by whether it is of high dynamic range, and whether it has transparency
    (False, False): "rgb24",
    (False, True): "rgba",
    (True, False): "rgb48le",
    (True, True): "rgba64le",
}

Matrix = tuple[int, int, int, int]  # (a, b, c, d): x' = a x + c y, y' = b x + d y

UPRIGHT: Matrix = (1, 0, 0, 1)
EXIF_ORIENTATION = 0x0112  # the tag
EXIF_MATRICES: dict[int, Matrix] = {  # by the tag's value
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
    """Check that pictures are small enough to be worked on in bounded memory.

    Args:
        width: px.
        height: px.
        path: The file, for the error.

    Raises:
        VideoError: They are too large.
    """
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise VideoError(
            f"{printable(path)}: {width} x {height} pixels are more than staf takes "
            f"({LONGEST_SIDE} a side, {MOST_PIXELS // 10**6} million in all); scale it down first"
        )


def display_matrix(picture: Any, path: Path) -> Matrix:
    """Return how a picture is to be rotated or mirrored for display.

    Args:
        picture: A decoded PyAV picture.
        path: Its file.

    Returns:
        The matrix, `UPRIGHT` where the file has none.
    """
    try:
        data = picture.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # PyAV cannot list the side data of a picture with EXIF data, for example
        return exif_matrix(path)
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def exif_matrix(path: Path) -> Matrix:
    """Return the display matrix in a picture file's EXIF data, `UPRIGHT` where there is none."""
    try:
        with catch_warnings():
            simplefilter("ignore")  # warnings of large pictures and broken EXIF data
            with PIL.Image.open(path) as picture:
                return EXIF_MATRICES.get(picture.getexif().get(EXIF_ORIENTATION, 1), UPRIGHT)
    except Exception:  # untrusted EXIF data can make the reader fail in any way
        return UPRIGHT


def upright_size(picture: Any, aspect: Fraction | None, matrix: Matrix) -> tuple[int, int]:
    """Compute the size of a picture once it is upright and its pixels are square.

    Args:
        picture: A decoded PyAV picture.
        aspect: Of its pixels, width / height; ignored if it is None or beyond 1:4 and 4:1.
        matrix: How it is rotated or mirrored.

    Returns:
        (width, height) px.
    """
    stretch = aspect if aspect and Fraction(1, 4) <= aspect <= 4 else 1
    return turned_size(max(1, round(picture.width * stretch)), picture.height, matrix)


def turned_size(width: int, height: int, matrix: Matrix) -> tuple[int, int]:
    """Return the size (width, height), px, of a picture that is rotated or mirrored."""
    return (height, width) if _swaps_axes(matrix) else (width, height)


def upright_image(
    picture: Any, size: tuple[int, int], matrix: Matrix, tone_map: ToneMap | None = None
) -> Image | None:
    """Convert a picture to an upright RGB image; transparent pixels are blended with black.

    Args:
        picture: A decoded PyAV picture.
        size: (width, height) px of the image.
        matrix: How the picture is rotated or mirrored.
        tone_map: That of its film, where that has high dynamic range.

    Returns:
        (height, width, 3) RGB uint8, C-contiguous; None if FFmpeg cannot convert it.
    """
    swapped = _swaps_axes(matrix)
    has_alpha = any(component.is_alpha for component in picture.format.components)
    try:
        pixels = picture.reformat(
            width=size[1] if swapped else size[0],
            height=size[0] if swapped else size[1],
            format=RGB_FORMATS[tone_map is not None, has_alpha],
            src_colorspace=_colorspace(picture),
            interpolation=INTERPOLATION,
        )
        if tone_map is None:
            pixels = pixels.to_ndarray()
        else:
            white = 1.0 if picture.format.is_rgb else WHITE_FROM_YUV
            pixels = (tone_map(pixels, white).to_ndarray() >> 8).astype(np.uint8)
    except (av.FFmpegError, ValueError):
        return None
    if has_alpha:
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)
    a, b, c, d = matrix
    if swapped:
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _swaps_axes(matrix: Matrix) -> bool:
    """Whether a matrix rotates by a quarter turn, so that width and height change places."""
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def _colorspace(picture: Any) -> int:
    """Return the YUV matrix: the file's own, or as players assume; of SDR BT.709 from HD on."""
    known = {space.value for space in Colorspace} | {6}  # 6: SMPTE 170M, the same as BT.601
    if picture.colorspace in known:
        return int(picture.colorspace)
    if picture.color_trc in CURVES:
        return Colorspace.BT2020
    return Colorspace.ITU709 if picture.width >= 1280 or picture.height > 576 else Colorspace.ITU601
