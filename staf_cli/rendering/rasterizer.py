"""Coloured triangles to pixels: the interface of both backends, and OpenCV's on the CPU."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.rendering.camera import FAR, NEAR, Camera, Points
from staf_cli.rendering.shading import Colours, Faces


@dataclass(frozen=True)
class Surface:
    """Triangles with a colour at every vertex; camera frame, all in front of NEAR."""

    vertices: Points  # (N, 3) m
    faces: Faces  # (M, 3)
    colours: Colours  # (N, 3)


@dataclass(frozen=True)
class Raster:
    """What a camera sees of a surface, one sample per pixel."""

    colour: NDArray[np.float32]  # (H, W, 3) RGB in [0, 1], multiplied by coverage
    coverage: NDArray[np.float32]  # (H, W) in [0, 1]; 0 where there is no surface
    inverse_depth: NDArray[np.float32]  # (H, W) 1/m, of the depth along the camera's axis


class Rasterizer(Protocol):
    """Draws one surface with a depth buffer; back faces are not drawn."""

    @property
    def name(self) -> str:
        """What draws, for the user."""
        ...

    def draw(self, surface: Surface, camera: Camera) -> Raster:
        """Draw a surface.

        Args:
            surface: In the camera's frame.
            camera: Its image size is that of the result.

        Returns:
            (H, W) samples, one in the middle of each of the camera's pixels.
        """
        ...


class CpuRasterizer:
    """OpenCV's software rasterizer."""

    name = "OpenCV on the CPU"

    def draw(self, surface: Surface, camera: Camera) -> Raster:
        """Draw a surface, as `Rasterizer.draw` describes."""
        # OpenCV looks along -z with y up, and its principal point is always the middle of the
        # image. A shear moves it to this camera's, which keeps the perspective exact.
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
