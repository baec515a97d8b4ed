"""What people stand before where no photo is shown: a quiet grey, and the ground from the side."""

import numpy as np

from staf_cli.core.records import Image
from staf_cli.rendering.camera import Camera, SideView
from staf_cli.rendering.lines import draw_lines

TOP, BOTTOM = (64, 66, 70), (104, 106, 110)
GRID = (170, 173, 178)
GRID_OPACITY = 0.6
GRID_SPACING = 0.5  # m
GRID_DEPTH = 4.0  # m before and behind the people


def backdrop(camera: Camera) -> Image:
    """A quiet grey, a little lighter towards the ground, (H, W, 3)."""
    top, bottom = np.asarray(TOP), np.asarray(BOTTOM)
    rows = top + (bottom - top) * np.linspace(0, 1, camera.height)[:, None]
    return np.repeat(np.rint(rows).astype(np.uint8)[:, None], camera.width, axis=1)


def draw_ground(panel: Image, side: SideView) -> Image:
    """Lay lines on the ground under the people, half a metre apart, fading into the distance."""
    camera, height = side.camera, side.floor - side.centre[1]
    near = max(side.distance - GRID_DEPTH, side.distance / 4)
    far = side.distance + GRID_DEPTH
    reach = GRID_SPACING * np.ceil(far / camera.focal * camera.width / GRID_SPACING)
    across = [
        ((-reach, height, z), (reach, height, z)) for z in np.arange(far, near, -GRID_SPACING)
    ]
    along = [
        ((x, height, near), (x, height, far))
        for x in np.arange(-reach, reach + GRID_SPACING / 2, GRID_SPACING)
    ]
    lines = camera.project(np.asarray(across + along, np.float32))
    mask = np.zeros(panel.shape[:2], np.uint8)
    draw_lines(mask, lines, (255,))

    horizon, front = lines[-1, 1, 1], lines[-1, 0, 1]
    rows = np.arange(camera.height) + 0.5
    fade = ((rows - horizon) / max(front - horizon, 1)).clip(0, 1) ** 0.5
    opacity = (mask / 255 * fade[:, None])[..., None] * GRID_OPACITY
    laid: Image = np.rint(panel + (np.asarray(GRID) - panel) * opacity).astype(np.uint8)
    return laid
