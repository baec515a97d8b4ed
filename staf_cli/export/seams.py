"""A body's surface as formats need it that allow one texture coordinate per vertex."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.format import BodyArrays, Floats, Ints


@dataclass(frozen=True)
class Corners:
    """C corners: the body's V vertices in their order, then copies of those on seams."""

    vertex: NDArray[np.int64]  # (C,) the vertex that each is
    faces: Ints  # (F, 3) corners
    uv: Floats | None  # (C, 2) texture coordinates, from the lower left corner of the texture


def split_at_seams(body: BodyArrays) -> Corners:
    """Copy vertices that have several texture coordinates, so that each corner has one.

    Args:
        body: The body; without texture coordinates nothing is copied.

    Returns:
        The corners.
    """
    vertices = np.arange(len(body.v_template))
    if body.uv is None or body.uv_faces is None:
        return Corners(vertices, body.faces, None)
    pairs = np.stack([body.faces.ravel(), body.uv_faces.ravel()], 1)
    unique, used = np.unique(pairs, axis=0, return_inverse=True)
    vertex, row = unique.T
    copy = np.concatenate([[False], vertex[1:] == vertex[:-1]])
    corner = np.where(copy, len(vertices) - 1 + np.cumsum(copy), vertex)
    uv = np.zeros((len(vertices) + copy.sum(), 2), np.float32)
    uv[corner] = body.uv[row]
    faces = corner[used].reshape(-1, 3)
    return Corners(np.concatenate([vertices, vertex[copy]]), faces, uv)
