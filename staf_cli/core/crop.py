"""From a person's box to the network's square crop; the camera's way back is in geometry.py.

ONE affine map, `crop_matrix`, cuts the pixels; `crop_to_image_translation` uses exactly the same
square, so that a point on the person in the crop is on the person in the image.
"""

from typing import TypeVar

import cv2
import numpy as np

from staf_cli.core.geometry import CROP_PIXELS, CROP_SCALE
from staf_cli.core.records import Float, Float32, Image

Pixels = TypeVar("Pixels", Image, Float32)
MOST_SUPERSAMPLING = 8  # samples along one side of a crop's pixel


def square_box(box: Float, scale: float = CROP_SCALE) -> Float:
    """Compute the square around a person's box that is cut out for the network.

    Args:
        box: (..., 4) x1, y1, x2, y2, px.
        scale: Side of the square over the longer side of the box.

    Returns:
        (..., 3) centre x, centre y, side, px.
    """
    low, high = box[..., :2], box[..., 2:]
    side = scale * (high - low).max(-1, keepdims=True)
    return np.concatenate([(low + high) / 2, side], -1)


def crop_matrix(square: Float, size: int = CROP_PIXELS) -> Float:
    """Compute the affine map from image pixels to crop pixels, p_crop = A @ (x, y, 1).

    Args:
        square: (3,) centre x, centre y, side, px of the image.
        size: Side of the crop, px.

    Returns:
        (2, 3); pixels of both sides are counted from the top left CORNER.
    """
    x, y, side = square
    zoom = size / side
    return np.array([[zoom, 0, size / 2 - zoom * x], [0, zoom, size / 2 - zoom * y]])


def crop_image(image: Image, square: Float, size: int = CROP_PIXELS) -> Image:
    """Cut one square out of an image.

    Where the square is larger than the crop, k x k samples are averaged for each pixel, so that
    people close to the camera do not alias.

    Args:
        image: (H, W, 3) RGB uint8.
        square: (3,) centre x, centre y, side, px of the image.
        size: Side of the crop, px.

    Returns:
        (size, size, 3) RGB uint8; black outside of the image.
    """
    k = supersampling(square[2] / size)
    return warp(image, crop_matrix(square, size * k), (size, size), k)


def supersampling(shrinking: float) -> int:
    """Compute how many samples along one side of a pixel are averaged.

    Args:
        shrinking: Pixels of the image along one side of a pixel of the result.

    Returns:
        k, from 1 where nothing shrinks to 8.
    """
    return int(np.clip(np.ceil(shrinking), 1, MOST_SUPERSAMPLING))


def warp(image: Pixels, matrix: Float, size: tuple[int, int], samples: int) -> Pixels:
    """Warp an image by an affine map, with an average of k x k samples for each pixel.

    Args:
        image: (H, W) or (H, W, 3), uint8 or float32.
        matrix: (2, 3) from pixels of the image to samples, k times finer than the result's
            pixels; both are counted from the top left CORNER.
        size: Width and height of the result, px.
        samples: k.

    Returns:
        (height, width) or (height, width, 3) of the image's type; 0 outside of the image.
    """
    width, height = size
    # OpenCV counts from the first pixel's centre: p_cv = p - 0.5 on both sides of the map.
    centred = matrix.copy()
    centred[:, 2] += 0.5 * matrix[:, :2].sum(1) - 0.5
    fine = (width * samples, height * samples)
    warped = cv2.warpAffine(image, centred, fine, flags=cv2.INTER_LINEAR)
    return cv2.resize(warped, size, interpolation=cv2.INTER_AREA).astype(image.dtype, copy=False)
