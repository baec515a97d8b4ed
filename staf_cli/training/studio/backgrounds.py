"""Preparation of photos without people as backgrounds; apart from scenes, as it needs OpenCV."""

from pathlib import Path

import cv2
import numpy as np

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic, printable
from staf_cli.core.large_arrays import create_array

SIDE = 320  # px


def prepare_backgrounds(folder: Path, path: Path) -> int:
    """Write a folder's JPEGs, sorted by name, into one array (N, SIDE, SIDE, 3) uint8 RGB.

    Args:
        folder: Holds the photos, *.jpg.
        path: The npy file to write.

    Returns:
        N, the number of photos.

    Raises:
        DatasetError: The folder holds no photos, or one cannot be read.
        OutputError: The file cannot be written.
    """
    names = sorted(folder.glob("*.jpg"))
    if not names:
        raise DatasetError(f"{printable(folder)}: holds no .jpg photos")
    with atomic(path) as temporary:
        shape = (len(names), SIDE, SIDE, 3)
        photos = create_array(temporary, np.uint8, shape)
        for row, name in enumerate(names):
            photo = cv2.imread(str(name))
            if photo is None:
                raise DatasetError(f"{printable(name)}: is no readable photo")
            if photo.shape[:2] != (SIDE, SIDE):
                photo = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            photos[row] = photo[..., ::-1]
        photos.flush()
    return len(names)
