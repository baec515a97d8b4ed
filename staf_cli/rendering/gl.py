"""Rasterizer by pyrender on EGL, for graphics cards; and the choice between it and the CPU.

pyrender is imported only when it is needed: without GL on the machine its import fails.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.core.errors import MissingTool, UsageError
from staf_cli.rendering.camera import FAR, NEAR, Camera
from staf_cli.rendering.rasterizer import CpuRasterizer, Raster, Rasterizer, Surface

RENDERERS = ("auto", "cpu", "pyrender")
SOFTWARE_GL = ("llvmpipe", "softpipe", "swrast", "software")
GPU_NODES = ("dri/renderD*", "nvidia[0-9]*", "dxg")  # in /dev, as Linux drivers make them
TO_GL = np.array([1, -1, -1], np.float32)  # x right, y up, looking along -z


@contextmanager
def open_rasterizer(renderer: str = "auto") -> Iterator[Rasterizer]:
    """Open a rasterizer; its GL context, if it has one, is closed at the end of the block.

    Args:
        renderer: One of `RENDERERS`, as for --renderer. "auto" is pyrender where GL runs on a
            graphics card, else the CPU: OpenCV is faster than GL emulated in software.

    Yields:
        The rasterizer.

    Raises:
        UsageError: The name is unknown.
        MissingTool: "pyrender" was chosen and GL does not start.
    """
    if renderer not in RENDERERS:
        raise UsageError(f"unknown renderer {renderer!r}; choose one of {', '.join(RENDERERS)}")
    if renderer == "cpu" or (renderer == "auto" and not _has_gpu()):
        yield CpuRasterizer()
    else:
        with _open_gl() as rasterizer:
            yield rasterizer


def gl_device() -> str:
    """Return GL's name of the device that it draws with.

    Raises:
        MissingTool: GL does not start.
    """
    with _open_gl() as rasterizer:
        return rasterizer.device


def is_software(device: str) -> bool:
    """Whether a GL device's name is that of a software emulation (Mesa), not of a graphics card."""
    return any(word in device.lower() for word in SOFTWARE_GL)


def _has_gpu() -> bool:
    if not any(True for pattern in GPU_NODES for _ in Path("/dev").glob(pattern)):
        return False  # saves the seconds that the import of pyrender takes
    try:
        return not is_software(gl_device())
    except MissingTool:
        return False


@dataclass(frozen=True)
class GlRasterizer:
    """pyrender without lights: it only interpolates the vertices' colours, four samples a pixel."""

    pyrender: Any  # the module
    renderer: Any  # a pyrender.OffscreenRenderer
    device: str  # GL's name of it

    @property
    def name(self) -> str:
        """What draws, for the user."""
        return f"pyrender on {self.device}"

    def draw(self, surface: Surface, camera: Camera) -> Raster:
        """Draw a surface, as `Rasterizer.draw` describes."""
        pyrender = self.pyrender
        scene = pyrender.Scene(bg_color=np.zeros(4))
        primitive = pyrender.Primitive(
            positions=surface.vertices * TO_GL,
            indices=surface.faces,
            color_0=surface.colours,
        )
        scene.add(pyrender.Mesh([primitive]))
        scene.add(
            pyrender.IntrinsicsCamera(
                camera.focal, camera.focal, camera.cx, camera.cy, znear=NEAR, zfar=FAR
            )
        )
        self.renderer.viewport_width = camera.width
        self.renderer.viewport_height = camera.height
        flags = pyrender.RenderFlags
        rgba, depth = self.renderer.render(scene, flags.FLAT | flags.RGBA)
        scaled = rgba.astype(np.float32) / 255
        inverse_depth = np.full(depth.shape, 1 / FAR, np.float32)
        np.divide(1, depth, out=inverse_depth, where=depth > 0)  # 0: nothing was drawn
        return Raster(scaled[..., :3], scaled[..., 3], inverse_depth)


@contextmanager
def _open_gl() -> Iterator[GlRasterizer]:
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")  # read when OpenGL is first imported
    if not hasattr(np, "infty"):
        np.infty = np.inf  # type: ignore[attr-defined]  # pyrender 0.1.45 predates numpy 2
    try:
        import pyrender
        from OpenGL import GL  # type: ignore[import-untyped]
        from OpenGL.error import Error as GlError  # type: ignore[import-untyped]
    except (ImportError, AttributeError, TypeError, OSError) as error:
        raise _no_gl(error) from error  # which one depends on what the system does not have

    try:
        renderer = pyrender.OffscreenRenderer(16, 16)
        device = GL.glGetString(GL.GL_RENDERER).decode()
    except (GlError, LookupError, AttributeError, ImportError, ValueError) as error:
        raise _no_gl(error) from error  # no device, or one without a driver
    except (AssertionError, OSError, RuntimeError) as error:
        raise _no_gl(error) from error  # a driver that fails half-way
    try:
        yield GlRasterizer(pyrender, renderer, device)
    finally:
        renderer.delete()


def _no_gl(error: Exception) -> MissingTool:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return MissingTool(
        f"GL does not start for --renderer pyrender ({reason});"
        " use --renderer cpu, or install the graphics card's driver"
        " (on Debian and Ubuntu also: apt install libegl1 libgles2)"
    )
