"""The visible edges of a surface's triangles, instead of solid skin."""

import numpy as np
from numpy.typing import NDArray

from staf_cli.rendering.camera import NEAR, Camera
from staf_cli.rendering.lines import Pixels, draw_lines
from staf_cli.rendering.rasterizer import Raster, Surface

DEPTH_TOLERANCE = 0.02  # m behind the nearest surface at which a vertex still counts as visible


def keep_visible_edges(raster: Raster, surface: Surface, camera: Camera) -> Raster:
    """Clear a raster except along edges that face the camera and that no surface hides.

    Args:
        raster: What a rasterizer drew of the surface.
        surface: The triangles.
        camera: The one that the raster was drawn with.

    Returns:
        The raster with colour and coverage along visible edges only.
    """
    in_front = surface.vertices.clip((-np.inf, -np.inf, NEAR), np.inf)
    pixels = camera.project(in_front.astype(np.float32))
    edges = _facing_edges(surface, pixels)
    edges = edges[_visible(raster, surface, pixels)[edges].all(1)]
    lines = np.zeros(raster.coverage.shape, np.uint8)
    draw_lines(lines, pixels[edges], (255,))
    opacity = lines * np.float32(1 / 255)
    colour = np.asarray(raster.colour * opacity[..., None], np.float32)
    coverage = np.asarray(raster.coverage * opacity, np.float32)
    return Raster(colour, coverage, raster.inverse_depth)


def _facing_edges(surface: Surface, pixels: Pixels) -> NDArray[np.int64]:
    """Return the edges (E, 2) of the triangles that show their outside, each once."""
    corners = pixels[surface.faces]  # (M, 3, 2)
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Counter-clockwise in the image is negative here, as y points down.
    facing = along[:, 0] * across[:, 1] < along[:, 1] * across[:, 0]
    pairs = surface.faces[facing][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    low, high = np.sort(pairs.astype(np.int64), axis=1).T
    # One number for each edge: np.unique on rows would be ten times slower.
    count = len(surface.vertices)
    return np.stack(np.divmod(np.unique(low * count + high), count), -1)


def _visible(raster: Raster, surface: Surface, pixels: Pixels) -> NDArray[np.bool_]:
    """Return which vertices (N,) no surface hides, at the raster's border for those outside."""
    height, width = raster.coverage.shape
    column = np.floor(pixels[:, 0]).clip(0, width - 1).astype(np.intp)
    row = np.floor(pixels[:, 1]).clip(0, height - 1).astype(np.intp)
    nearest = 1 / raster.inverse_depth[row, column]
    visible: NDArray[np.bool_] = surface.vertices[:, 2] < nearest + DEPTH_TOLERANCE
    return visible
