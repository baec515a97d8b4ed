"""Drawing of recovered people over the frames of their video.

`overlay` draws one frame: it takes the image, a `Figure` for each person in it, the `Camera`
that filmed it, a `Rasterizer` from `open_rasterizer`, and a `Style`. All names below are public;
the modules behind them:

drawing.py     `overlay`: people over the photo, boxes, the second panel
camera.py      the pinhole camera and its windows; the second camera that looks from the side
shading.py     normals, light
rasterizer.py  coloured triangles to pixels: the interface, and OpenCV on the CPU
gl.py          the same by pyrender where there is a graphics card, and the choice of the two
wireframe.py   edges of the triangles instead of solid skin
boxes.py       the tracker's boxes, ids and keypoints
backdrop.py    the background where no photo is shown
lines.py       anti-aliased lines and dots
"""

from staf_cli.rendering.camera import Camera, SideView, side_view
from staf_cli.rendering.drawing import Figure, Style, overlay
from staf_cli.rendering.gl import RENDERERS, gl_device, open_rasterizer
from staf_cli.rendering.rasterizer import Rasterizer

__all__ = [
    "RENDERERS",
    "Camera",
    "Figure",
    "Rasterizer",
    "SideView",
    "Style",
    "gl_device",
    "open_rasterizer",
    "overlay",
    "side_view",
]
