"""People drawn over the frames they were seen in.

drawing.py     one frame in, one frame out: people over the photo, boxes, the view from the side
camera.py      the pinhole camera and its windows; the second camera that looks from the side
shading.py     one colour a person, normals, light
rasterizer.py  coloured triangles to pixels: the interface, and OpenCV on the CPU
gl.py          the same by pyrender where there is a graphics card, and the choice of the two
wireframe.py, boxes.py, backdrop.py, lines.py   what else can be seen in a frame
"""

from staf_cli.rendering.camera import Camera, SideView, side_view
from staf_cli.rendering.drawing import Figure, Style, overlay
from staf_cli.rendering.gl import RENDERERS, gl_device, open_rasterizer
from staf_cli.rendering.rasterizer import Rasterizer
from staf_cli.rendering.shading import person_colour

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
    "person_colour",
    "side_view",
]
