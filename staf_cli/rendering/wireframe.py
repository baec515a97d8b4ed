"""The visible edges of a surface, instead of its skin."""

import numpy as np
from numpy.typing import NDArray

from staf_cli.rendering.camera import NEAR, Camera
from staf_cli.rendering.lines import Pixels, draw_lines
from staf_cli.rendering.rasterizer import Raster, Surface

HIDDEN = 0.02  # m behind the nearest surface from which on a line counts as hidden


def wires(raster: Raster, surface: Surface, camera: Camera) -> Raster:
    """The raster of a surface, left only where an edge is that faces the camera unhidden."""
    in_front = surface.vertices.clip((-np.inf, -np.inf, NEAR), np.inf)
    pixels = camera.project(in_front.astype(np.float32))
    edges = _facing_edges(surface, pixels)
    edges = edges[_seen(raster, surface, pixels)[edges].all(1)]
    lines = np.zeros(raster.coverage.shape, np.uint8)
    draw_lines(lines, pixels[edges], (255,))
    opacity = lines * np.float32(1 / 255)
    colour = np.asarray(raster.colour * opacity[..., None], np.float32)
    coverage = np.asarray(raster.coverage * opacity, np.float32)
    return Raster(colour, coverage, raster.inverse_depth)


def _facing_edges(surface: Surface, pixels: Pixels) -> NDArray[np.int64]:
    """The edges (E, 2) of the triangles that show their outside, each once."""
    corners = pixels[surface.faces]  # (M, 3, 2)
    along, across = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    # Counter-clockwise to the eye is negative here, as y points down.
    facing = along[:, 0] * across[:, 1] < along[:, 1] * across[:, 0]
    pairs = surface.faces[facing][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    low, high = np.sort(pairs.astype(np.int64), axis=1).T
    # One number an edge: np.unique on rows would be ten times slower.
    count = len(surface.vertices)
    return np.stack(np.divmod(np.unique(low * count + high), count), -1)


def _seen(raster: Raster, surface: Surface, pixels: Pixels) -> NDArray[np.bool_]:
    """Which vertices (N,) no surface hides; those outside of the raster go by its border."""
    height, width = raster.coverage.shape
    column = np.floor(pixels[:, 0]).clip(0, width - 1).astype(np.intp)
    row = np.floor(pixels[:, 1]).clip(0, height - 1).astype(np.intp)
    nearest = 1 / raster.inverse_depth[row, column]
    seen: NDArray[np.bool_] = surface.vertices[:, 2] < nearest + HIDDEN
    return seen
