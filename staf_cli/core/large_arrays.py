"""Arrays that are written in a file, because they are larger than the memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


def create_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Make a .npy file of a size, and map it into memory.

    Args:
        path: The file; an old one is replaced.
        dtype: Of the array.
        shape: Of the array.

    Returns:
        The array, of zeros; to be flushed at the end.

    Raises:
        OSError: There is no space for it.
    """
    array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    # Without it the file has holes, and on a full disk writing to one kills the process (SIGBUS).
    if hasattr(os, "posix_fallocate"):  # Linux
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
