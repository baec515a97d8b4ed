"""The background where no photo is shown: a grey gradient, and the ground seen from the side."""

from functools import lru_cache

import numpy as np

from staf_cli.core.records import Image
from staf_cli.rendering.camera import Camera, SideView
from staf_cli.rendering.lines import draw_lines

TOP_COLOUR, BOTTOM_COLOUR = (64, 66, 70), (104, 106, 110)
GRID_COLOUR = (170, 173, 178)
GRID_OPACITY = 0.6
GRID_SPACING = 0.5  # m
GRID_DEPTH = 4.0  # m in front of all people, and behind them


def backdrop(camera: Camera) -> Image:
    """Return a grey (H, W, 3) of the camera's image size, a little lighter at the bottom."""
    top, bottom = np.asarray(TOP_COLOUR), np.asarray(BOTTOM_COLOUR)
    rows = top + (bottom - top) * np.linspace(0, 1, camera.height)[:, None]
    return np.repeat(np.rint(rows).astype(np.uint8)[:, None], camera.width, axis=1)


@lru_cache(maxsize=1)
def side_panel(side: SideView) -> Image:
    """Draw the side view without people; the same in every frame of a clip, so drawn once.

    Args:
        side: Where the side camera and the ground are.

    Returns:
        (H, W, 3), read-only.
    """
    panel = draw_ground(backdrop(side.camera), side)
    panel.flags.writeable = False
    return panel


def draw_ground(panel: Image, side: SideView) -> Image:
    """Draw a grid on the ground under the people, with half a metre between its lines.

    The lines fade towards the horizon.

    Args:
        panel: (H, W, 3), of the side camera's image size; left as it is.
        side: Where the side camera and the ground are.

    Returns:
        (H, W, 3), the panel with the grid.
    """
    camera, height = side.camera, side.floor - side.centre[1]
    depth = side.depth + GRID_DEPTH
    near, far = max(side.distance - depth, side.distance / 4), side.distance + depth
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
    blended: Image = np.rint(panel + (np.asarray(GRID_COLOUR) - panel) * opacity).astype(np.uint8)
    return blended
