"""Coloured triangles to pixels: the interface both backends keep, and OpenCV's on the CPU."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.rendering.camera import FAR, NEAR, Camera, Points
from staf_cli.rendering.shading import Colours, Faces


@dataclass(frozen=True)
class Surface:
    """Triangles with a colour at every vertex; camera frame, metres, all in front of NEAR."""

    vertices: Points  # (N, 3)
    faces: Faces  # (M, 3)
    colours: Colours  # (N, 3)


@dataclass(frozen=True)
class Raster:
    """What a camera sees of a surface, sampled once a pixel."""

    colour: NDArray[np.float32]  # (H, W, 3) in [0, 1], multiplied by coverage
    coverage: NDArray[np.float32]  # (H, W) in [0, 1]: 0 where nothing is
    inverse_depth: NDArray[np.float32]  # (H, W) 1/m along the camera's axis; small is far


class Rasterizer(Protocol):
    """Draws one surface with a depth buffer; triangles show from their outside only."""

    @property
    def name(self) -> str:
        """What draws, for the user."""
        ...

    def draw(self, surface: Surface, camera: Camera) -> Raster: ...


class CpuRasterizer:
    """OpenCV's software rasterizer."""

    name = "OpenCV on the CPU"

    def draw(self, surface: Surface, camera: Camera) -> Raster:
        # OpenCV looks along -z with y up, and its axis always meets the middle of the image. A
        # shear moves the middle to where this camera's axis is, which keeps perspective exact.
        x, y, z = surface.vertices.T
        shift_x = (camera.cx - camera.width / 2) / camera.focal
        shift_y = (camera.cy - camera.height / 2) / camera.focal
        sheared = np.stack([x + shift_x * z, -(y + shift_y * z), -z], -1).astype(np.float32)

        settings = cv2.TriangleRasterizeSettings()
        settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        settings.setCullingMode(cv2.RASTERIZE_CULLING_CW)
        settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_INVDEPTH)  # depth: 0 NEAR to 1 FAR
        colour, depth = cv2.triangleRasterize(
            sheared,
            surface.faces,
            surface.colours,
            np.zeros((camera.height, camera.width, 3), np.float32),
            np.ones((camera.height, camera.width), np.float32),
            np.eye(4, dtype=np.float32),
            2 * np.arctan2(camera.height / 2, camera.focal),
            NEAR,
            FAR,
            settings,
        )
        coverage = (depth < 1).astype(np.float32)
        inverse_depth = 1 / NEAR + depth * np.float32(1 / FAR - 1 / NEAR)
        return Raster(np.asarray(colour, np.float32), coverage, inverse_depth)
