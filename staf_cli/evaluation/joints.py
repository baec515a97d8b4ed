"""LSP joints by a regressor that the user brings, in place of those that a body has itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from staf_cli.body.format import HEADER_ERRORS, MOST_VERTICES, Floats
from staf_cli.body.skinning import Body
from staf_cli.core.errors import DatasetError, UsageError
from staf_cli.core.files import printable

H36M = 17  # joints
H36M_OF_LSP = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10)  # as SPIN, VIBE and TCMR pick them


def read_regressor(path: Path) -> Floats:
    """Read a regressor of Human3.6M's 17 joints, such as J_regressor_h36m.npy.

    Args:
        path: A npy of (17, V) numbers.

    Returns:
        (14, V) its rows that are LSP's joints, in LSP's order.

    Raises:
        DatasetError: The file is missing, damaged or something else.
    """
    try:
        if not path.is_file():  # reading a pipe would wait
            raise DatasetError(f"{printable(path)}: there is no such file; give a joint regressor")
        rows: NDArray[np.generic] = open_memmap(path, mode="r")
    except (*HEADER_ERRORS, OSError) as error:
        raise DatasetError(f"{printable(path)}: is damaged or no numpy array") from error
    fits = rows.ndim == 2 and len(rows) == H36M and rows.shape[1] <= MOST_VERTICES
    if rows.dtype.kind != "f" or not fits:
        raise DatasetError(
            f"{printable(path)}: holds {rows.dtype!s:.40} {rows.shape}, not numbers (17, V) that "
            "mix Human3.6M's joints from vertices; give J_regressor_h36m.npy"
        )
    regressor = np.ascontiguousarray(rows[list(H36M_OF_LSP)], np.float32)
    if not np.isfinite(regressor).all():
        raise DatasetError(f"{printable(path)}: holds values that are not finite; get it again")
    return regressor


def use_joints(body: Body, regressor: Floats) -> Body:
    """Let a body's LSP joints be others than its own; its name and hash stay.

    Args:
        body: Is changed.
        regressor: (14, V).

    Returns:
        The same body.

    Raises:
        UsageError: The regressor is of a body with another number of vertices.
    """
    vertices = len(body.arrays.v_template)
    if regressor.shape[1] != vertices:
        raise UsageError(
            f"--regressor mixes {regressor.shape[1]} vertices, but body {body.name} has "
            f"{vertices}; leave it out, or choose weights of an SMPL body"
        )
    body.arrays = replace(body.arrays, lsp14_regressor=regressor)
    return body
