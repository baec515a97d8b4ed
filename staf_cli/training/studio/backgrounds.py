"""Photos without people, made ready for scenes; the only part of scenes that needs OpenCV."""

from pathlib import Path

import cv2
import numpy as np

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import atomic, printable

SIDE = 320  # px


def prepare_backgrounds(folder: Path, path: Path) -> int:
    """Write backgrounds.npy, (N, SIDE, SIDE, 3) uint8 RGB, from a folder's JPEGs by name.

    Returns N. Raises DatasetError for a folder without photos or with an unreadable one,
    OutputError where the file cannot be written.
    """
    names = sorted(folder.glob("*.jpg"))
    if not names:
        raise DatasetError(f"{printable(folder)}: holds no .jpg photos")
    with atomic(path) as temporary:
        shape = (len(names), SIDE, SIDE, 3)
        photos = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for row, name in enumerate(names):
            photo = cv2.imread(str(name))
            if photo is None:
                raise DatasetError(f"{printable(name)}: is no readable photo")
            if photo.shape[:2] != (SIDE, SIDE):
                photo = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            photos[row] = photo[..., ::-1]
        photos.flush()
    return len(names)
