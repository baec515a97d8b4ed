"""The joints that are judged: a body's own, or those of a regressor that papers use.

They are mixed from a posed body by (J, 24 + V) weights, a row for each joint: of the body's 24
joints, then of its vertices. J is 14, LSP's joints, or 17, MPI-INF-3DHP's: LSP's, then pelvis,
spine and head.

SPIN, and VIBE, TCMR and STAF after it, number what they call SMPL's joints like this: 24 of the
skeleton, 21 single vertices, then the 9 rows of J_regressor_extra: right hip, left hip, neck and
head top as LSP has them, pelvis and thorax as MPII, spine, jaw and head as Human3.6M. Their 49
joints (25 of OpenPose, 24 of datasets) are picked from these 54, and so are the 17 here.
"""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from staf_cli.body.format import HEADER_ERRORS, JOINT_COUNT, MOST_VERTICES, Floats
from staf_cli.body.skinning import Body
from staf_cli.core.errors import BodyError, DatasetError, UsageError
from staf_cli.core.files import printable
from staf_cli.core.records import Float

H36M, EXTRA = 17, 9  # rows of J_regressor_h36m and of J_regressor_extra
FIRST_EXTRA = 45  # among SPIN's 54 joints
# MPI-INF-3DHP's 17, as SPIN picks them from Human3.6M's and VIBE and TCMR from SPIN's 54.
H36M_OF_17 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9)
SPIN_OF_17 = (8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 51, 53)


def read_regressor(path: Path) -> Floats:
    """Read J_regressor_h36m.npy or J_regressor_extra.npy.

    Args:
        path: A npy of (17, V) or (9, V) numbers.

    Returns:
        (17, 24 + V) the weights of MPI-INF-3DHP's joints, of which the first 14 are LSP's.

    Raises:
        DatasetError: The file is missing, damaged or something else.
    """
    try:
        if not path.is_file():  # reading a pipe would wait
            raise DatasetError(f"{printable(path)}: there is no such file; give a joint regressor")
        rows: NDArray[np.generic] = open_memmap(path, mode="r")
    except (*HEADER_ERRORS, OSError) as error:
        raise DatasetError(f"{printable(path)}: is damaged or no numpy array") from error
    fits = rows.ndim == 2 and len(rows) in (H36M, EXTRA) and rows.shape[1] <= MOST_VERTICES
    if rows.dtype.kind != "f" or not fits:
        raise DatasetError(
            f"{printable(path)}: holds {rows.dtype!s:.40} {rows.shape}, not numbers (17, V) or "
            "(9, V) that mix joints from vertices; give J_regressor_h36m.npy or "
            "J_regressor_extra.npy"
        )
    regressor = np.ascontiguousarray(rows, np.float32)
    if not np.isfinite(regressor).all():
        raise DatasetError(f"{printable(path)}: holds values that are not finite; get it again")
    return with_extra(regressor) if len(rows) == EXTRA else _of_vertices(regressor, H36M_OF_17)


def with_extra(extra: Floats) -> Floats:
    """Mix 17 joints of the skeleton and of J_regressor_extra.

    Args:
        extra: (9, V) J_regressor_extra.

    Returns:
        (17, 24 + V) the weights of MPI-INF-3DHP's joints, of which the first 14 are LSP's.
    """
    skeleton = np.pad(np.eye(JOINT_COUNT, dtype=np.float32), ((0, 0), (0, extra.shape[1])))
    rows = np.pad(extra, ((0, 0), (JOINT_COUNT, 0)))
    picked = [
        skeleton[number] if number < JOINT_COUNT else rows[number - FIRST_EXTRA]
        for number in SPIN_OF_17
    ]
    return np.stack(picked)


def weights_of(body: Body, regressor: Floats | None) -> Floats:
    """Give the weights by which a body's judged joints are mixed.

    Args:
        body: The body.
        regressor: (17, 24 + V); None: the body's own joints.

    Returns:
        (J, 24 + V) the weights of 17 joints, or of the body's own 14.

    Raises:
        BodyError: The body itself has no LSP joints.
        UsageError: The regressor is of a body with another number of vertices.
    """
    vertices = len(body.arrays.v_template)
    if regressor is None:
        own = body.arrays.lsp14_regressor
        if own is None:
            raise BodyError(
                f"body {body.name} does not say where its LSP joints are; evaluation needs its "
                "lsp14_regressor"
            )
        return _of_vertices(own, range(len(own)))
    if regressor.shape[1] != JOINT_COUNT + vertices:
        raise UsageError(
            f"--regressor mixes {regressor.shape[1] - JOINT_COUNT} vertices, but body {body.name} "
            f"has {vertices}; leave it out, or choose weights of an SMPL body"
        )
    return regressor


def mixed(weights: Floats, joints: Float, vertices: Float) -> Float:
    """Mix joints (n, J, 3) by their weights of joints (n, 24, 3) and vertices (n, V, 3)."""
    placed: Float = weights[:, :JOINT_COUNT] @ joints + weights[:, JOINT_COUNT:] @ vertices
    return placed


def _of_vertices(regressor: Floats, rows: tuple[int, ...] | range) -> Floats:
    return np.pad(regressor[list(rows)], ((0, 0), (JOINT_COUNT, 0)))
