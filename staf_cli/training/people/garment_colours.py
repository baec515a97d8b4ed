"""Colours of skins, clothes and hair at their vertices, from textures or without."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from staf_cli.core.errors import BodyError
from staf_cli.core.records import Float, Ints
from staf_cli.training.people.makehuman import Mesh

Colours = NDArray[np.uint8]  # (..., 3) RGB

FIRST_EYE = 13380  # first vertex of the base mesh that is no skin; on the open body: eyeballs
IRIS = 0.55  # radius of the iris, in radii of the eyeball
EYE_WHITE, EYE_DARK = (216, 210, 204), (62, 44, 34)
HAIR = (74, 54, 40)  # MakeHuman's hair has no texture
SHADES = 0.18  # how much lighter or darker a lock of hair may be


def vertex_colours(mesh: Mesh, texture: Colours) -> Colours:
    """Look up a texture at a mesh's vertices, as the mean over their quads.

    The texture is blurred by about half an edge first, since finer patterns would turn into
    blotches, and only over pixels that some quad uses. Vertices of no quad are black.

    Args:
        mesh: N vertices with texture coordinates.
        texture: (H, W, 3) RGB.

    Returns:
        (N, 3) RGB.
    """
    size = np.array([texture.shape[1], texture.shape[0]])
    pixel = np.stack([mesh.uv[..., 0], 1 - mesh.uv[..., 1]], -1)[mesh.quad_uv] * size - 0.5
    mask = np.zeros(texture.shape[:2], np.float32)
    for quad in np.round(pixel).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 1.0)
    edge = np.median(np.linalg.norm(pixel - np.roll(pixel, 1, 1), axis=-1))
    width = max(0.5 * float(edge), 0.8)
    layers = np.dstack([texture.astype(np.float32) * mask[..., None], mask])
    smooth = cv2.GaussianBlur(layers, (0, 0), width)
    looked_up = cv2.remap(
        smooth[..., :3] / np.maximum(smooth[..., 3:], 1e-6),
        pixel[..., 0].astype(np.float32),
        pixel[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(float)
    total, count = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    np.add.at(total, mesh.quads, looked_up)
    np.add.at(count, mesh.quads, 1)
    mean: Colours = np.round(total / np.maximum(count, 1)[:, None]).astype(np.uint8)
    return mean


def paint_eyes(colours: Colours, index: Ints, v_template: Float) -> Colours:
    """Paint white eyeballs and dark irises that look ahead.

    Args:
        colours: (V, 3) RGB of a skin.
        index: (V,) vertex of the base mesh for each of the body's.
        v_template: (V, 3) m, z forward.

    Returns:
        (V, 3) RGB.
    """
    painted = colours.copy()
    eyes = index >= FIRST_EYE
    for side in (v_template[:, 0] > 0, v_template[:, 0] <= 0):
        ball = np.flatnonzero(eyes & side)
        if len(ball):
            centre = (v_template[ball].min(0) + v_template[ball].max(0)) / 2
            offset = v_template[ball] - centre
            radius = np.linalg.norm(offset, axis=1).max()
            iris = (offset[:, 2] > 0) & (np.hypot(offset[:, 0], offset[:, 1]) < IRIS * radius)
            painted[ball] = EYE_WHITE
            painted[ball[iris]] = EYE_DARK
    return painted


def hair_colours(vertices: int, triangles: Ints) -> Colours:
    """Colour hair brown, every lock in its own shade.

    Args:
        vertices: Number of vertices, G.
        triangles: (T, 3); a lock is a connected part of the surface.

    Returns:
        (G, 3) RGB.
    """
    lock = surface_parts(vertices, triangles)
    shade = np.random.default_rng(0).uniform(1 - SHADES, 1 + SHADES, lock.max() + 1)
    colours: Colours = np.round(np.array(HAIR) * shade[lock][:, None]).clip(0, 255).astype(np.uint8)
    return colours


def plain_colours(vertices: int, quads: Ints, palette: Sequence[tuple[int, int, int]]) -> Colours:
    """Colour each connected part of a surface.

    Args:
        vertices: Number of vertices, G.
        quads: (Q, 4).
        palette: RGB of the largest part, the next largest and so on; the last is for all others.

    Returns:
        (G, 3) RGB.
    """
    part = surface_parts(vertices, quads)
    rank = np.argsort(np.argsort(-np.bincount(part), kind="stable"))
    return np.array(palette, np.uint8)[np.minimum(rank[part], len(palette) - 1)]


def surface_parts(vertices: int, faces: Ints) -> Ints:
    """Number the connected parts of a surface.

    Args:
        vertices: Number of vertices, G.
        faces: (F, 3) or (F, 4).

    Returns:
        (G,) each vertex's part, from 0.
    """
    links = sparse.coo_array(
        (np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, 1).ravel())),
        shape=(vertices, vertices),
    )
    parts: Ints = connected_components(links, directed=False)[1].astype(np.int64)
    return parts


def read_texture(path: Path) -> Colours:
    """Read a texture.

    Returns:
        (H, W, 3) RGB.

    Raises:
        BodyError: It is missing or no picture.
    """
    texture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if texture is None:
        raise BodyError(f"{path}: is no picture that can be read")
    return cv2.cvtColor(texture, cv2.COLOR_BGR2RGB).astype(np.uint8)
