"""The colours of people with light on them.

Both rasterizers only interpolate colours over triangles. The light is computed here, at the
vertices, so that a person looks the same with both.
"""

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.clothes import Tones
from staf_cli.rendering.camera import Points

Faces = NDArray[np.int32]  # (M, 3) indices of vertices, counter-clockwise seen from outside
Colours = NDArray[np.float32]  # (N, 3) RGB in [0, 1], sRGB-encoded


def vertex_normals(vertices: Points, faces: Faces) -> Points:
    """Compute outward normals, for each vertex the area-weighted mean of its triangles' normals.

    Args:
        vertices: (V, 3) m.
        faces: (M, 3), counter-clockwise seen from outside.

    Returns:
        (V, 3), of length 1; 0 for a vertex without triangles.
    """
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    (ux, uy, uz), (vx, vy, vz) = (b - a).T, (c - a).T
    cross = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)  # length: twice the area
    corners = faces.ravel()
    total = np.stack([np.bincount(corners, np.repeat(n, 3), len(vertices)) for n in cross], -1)
    lengths = np.linalg.norm(total, axis=-1, keepdims=True)
    return np.asarray(total / np.maximum(lengths, 1e-12), np.float32)


# Directions to the lights, camera frame: they move with the camera, so they always reach people.
KEY = (-0.45, -0.65, -0.61)  # upper left, in front
FILL = (0.80, -0.05, -0.60)  # right, in front
RIM = (0.55, -0.70, 0.45)  # upper right, from behind
KEY_LIGHT, FILL_LIGHT, RIM_LIGHT = 0.86, 0.14, 0.35
SKY_LIGHT, GROUND_LIGHT = 0.20, 0.05
KEY_WRAP = 0.15  # how far the key light reaches around the body, as that of a large window does
SHEEN, SHEEN_POWER = 0.10, 24.0


def shade(
    vertices: Points, normals: Points, colour: tuple[int, int, int], tones: Tones | None = None
) -> Colours:
    """Compute the colours of a person's vertices under the lights.

    A soft key light, a weak fill light, light from the sky and reflected by the ground, a rim
    light that separates the outline from dark photos, and a weak specular term; added up in
    linear light.

    Args:
        vertices: (V, 3) m, camera frame.
        normals: (V, 3), of length 1.
        colour: The person's RGB colour, 0 to 255.
        tones: (V,) share of the colour's light that a vertex reflects; None: all of it.

    Returns:
        (V, 3) RGB in [0, 1], sRGB-encoded.
    """
    to_eye = -vertices / np.linalg.norm(vertices, axis=-1, keepdims=True).clip(1e-6)
    facing = np.sum(normals * to_eye, -1).clip(0, 1)
    key, fill, rim = (_unit(direction) for direction in (KEY, FILL, RIM))
    wrapped = ((normals @ key + KEY_WRAP) / (1 + KEY_WRAP)).clip(0, 1)
    upward = 0.5 - 0.5 * normals[:, 1]
    light = (
        KEY_LIGHT * wrapped
        + FILL_LIGHT * (normals @ fill).clip(0, 1)
        + GROUND_LIGHT
        + (SKY_LIGHT - GROUND_LIGHT) * upward
    )
    outline = RIM_LIGHT * (1 - facing) ** 3 * (0.5 + 0.5 * (normals @ rim)).clip(0, 1)
    halfway = to_eye + key
    halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True).clip(1e-6)
    sheen = SHEEN * np.sum(normals * halfway, -1).clip(0, 1) ** SHEEN_POWER
    linear = (np.asarray(colour, np.float32) / 255) ** 2.2
    reflected = light if tones is None else light * tones
    lit = linear * reflected[:, None] + (outline * (0.4 + 0.6 * wrapped) + sheen)[:, None]
    return np.asarray(lit.clip(0, 1) ** (1 / 2.2), np.float32)


def _unit(direction: tuple[float, float, float]) -> NDArray[np.float32]:
    vector = np.asarray(direction, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
