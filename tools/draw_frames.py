"""Draw docs/frames.png: the coordinate frames of docs/formats.md, each with a person in it.

    .venv/bin/python tools/draw_frames.py

The person, the mean open body, raises the left hand, so that left and right cannot be confused.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from numpy.typing import NDArray
from PIL import Image as Picture

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import locate
from staf_cli.core.crop import crop_image, square_box
from staf_cli.core.files import atomic
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.export.motion import Y_UP, Z_UP
from staf_cli.recovery.placement import default_focal
from staf_cli.rendering import Camera, Figure, Style, open_rasterizer, overlay

Points = NDArray[Any]

CLIP_SIZE = (640, 360)  # px
VIEW = (560, 420)  # px, size of the pictures of the scene
PELVIS = (0.75, 0.12, 5.0)  # m, camera frame
GROUND = 1.05  # m below the camera
AXES = {"x": "#d62728", "y": "#2ca02c", "z": "#1f77b4"}
INK, PALE = "#222222", "#c8c8c8"


def main() -> None:
    """Draw all frames and write docs/frames.png."""
    body = Body("open-body", load_body(locate("open-body")))
    person = _waving(body)
    sheet = Sheet(figsize=(13, 7.0), layout="constrained")
    above, below = sheet.subfigures(2, 1, height_ratios=(1, 1.08))
    image, crop, rest = above.subplots(1, 3, width_ratios=(1.55, 1, 1))
    camera, y_up, z_up = below.subplots(1, 3)
    _draw_image_and_crop(image, crop, body, person)
    _draw_rest(rest, body)
    _draw_scene(
        camera, body, person, np.eye(3), "npz and joints.csv: y down, z away from the camera"
    )
    _draw_scene(y_up, body, person, Y_UP, "glb, bvh, obj, ply: y up, z towards the camera")
    _draw_scene(z_up, body, person, Z_UP, "amass: z up, y away from the camera")
    _save(sheet, Path(__file__).parent.parent / "docs" / "frames.png")


def _waving(body: Body) -> Points:
    """Pose a person who faces the camera and raises the left hand: (V, 3) m, camera frame."""
    pose = torch.zeros(1, 24, 3)
    pose[0, 0, 0] = torch.pi  # the body's y is up, the camera's down
    pose[0, 16, 2], pose[0, 17, 2] = 0.9, 1.2  # shoulders
    pose[0, 18, 2] = 0.4  # left elbow
    vertices, joints = _posed(body, pose)
    return vertices - joints[0] + np.array(PELVIS)


def _posed(body: Body, pose: torch.Tensor) -> tuple[Points, Points]:
    """Return vertices (V, 3) and joints (24, 3) m of a pose (1, 24, 3)."""
    with torch.no_grad():
        vertices, joints = body(axis_angle_to_matrix(pose), torch.zeros(1, 10))
    return vertices[0].double().numpy(), joints[0].double().numpy()


def _draw_image_and_crop(image: Axes, crop: Axes, body: Body, person: Points) -> None:
    width, height = CLIP_SIZE
    camera = Camera.centred(default_focal(CLIP_SIZE), CLIP_SIZE)
    background = np.full((height, width, 3), (225, 230, 235), np.uint8)
    frame = _rendered(background, body, person, camera)
    seen = _pixels(person, camera)
    box = np.concatenate([seen.min(0), seen.max(0)])
    x, y, side = square = square_box(box)

    image.imshow(frame, extent=(0, width, height, 0))
    _rectangle(image, box, INK, "-")
    corners = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    _rectangle(image, corners, "#e08214", "--")
    image.text(corners[0] - 6, corners[3] - 8, "square crop", color="#b35806", ha="right")
    image.text(box[2] + 5, box[3] - 8, "box", color=INK)
    image.plot(width / 2, height / 2, "+", color=INK, markersize=12)
    image.text(width / 2 - 12, height / 2, "(W/2, H/2)", color=INK, ha="right", va="center")
    _arrow(image, (0, 0), (110, 0), AXES["x"], "u")
    _arrow(image, (0, 0), (0, 110), AXES["y"], "v")
    image.text(12, 24, "(0, 0): the corner", color=INK)
    image.set(xlim=(-25, width + 10), ylim=(height + 25, -25))
    image.set_title("image: pixels, u right, v down", fontsize=11)

    crop.imshow(crop_image(frame, square), extent=(-1, 1, 1, -1))
    _arrow(crop, (0, 0), (0.5, 0), AXES["x"], "x")
    _arrow(crop, (0, 0), (0, 0.5), AXES["y"], "y")
    for x, y, corner in ((-0.96, -0.88, "(-1, -1)"), (0.62, 0.95, "(1, 1)")):
        crop.text(x, y, corner, color=INK)
    crop.set(xlim=(-1.05, 1.05), ylim=(1.15, -1.15))
    crop.set_title("crop: 224 x 224 pixels, -1 to 1", fontsize=11)
    for axes in (image, crop):
        axes.set_axis_off()


def _draw_rest(axes: Axes, body: Body) -> None:
    vertices, joints = _posed(body, torch.zeros(1, 24, 3))
    centre = joints[0]
    to_camera = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])  # from the body's axes
    turn = _turn(0, 0.35) @ _turn(1, 0.55) @ to_camera
    camera = Camera.centred(900.0, VIEW)
    shift = np.array([0, 0, 4.8])
    _draw_person(axes, body, (vertices - centre) @ turn.T + shift, camera)
    for name, axis in zip("xyz", np.eye(3), strict=True):
        start, end = _pixels(np.stack([0 * axis, 0.42 * axis]) @ turn.T + shift, camera)
        _arrow(axes, start, end, AXES[name], name)
    axes.set_title("body at rest: x left arm, y up, z front", fontsize=11)
    _frame(axes, margin=(0.12, 0.02))


def _draw_scene(axes: Axes, body: Body, person: Points, names: Points, title: str) -> None:
    """Draw the scene from the side, with its camera; rows of `names`: x, y, z in camera axes."""
    eye, aim = np.array([-6.2, -2.9, -1.8]), np.array([0.0, 0.0, 1.95])
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(forward, right), forward])
    view = Camera.centred(660.0, VIEW)

    def seen(points: Iterable[Iterable[float]]) -> Points:
        return _pixels((np.array(points, float) - eye) @ turn.T, view)

    for x in range(-2, 3):
        axes.plot(*seen([(x, GROUND, 0), (x, GROUND, 7)]).T, color=PALE, lw=0.7, zorder=1)
    for z in range(8):
        axes.plot(*seen([(-2, GROUND, z), (2, GROUND, z)]).T, color=PALE, lw=0.7, zorder=1)
    _draw_person(axes, body, (person - eye) @ turn.T, view)

    reach = 1.6  # m: where the image is drawn
    half = reach * np.array(CLIP_SIZE) / (2 * default_focal(CLIP_SIZE))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * half
    plane = np.column_stack([corners, np.full(5, reach)])
    axes.plot(*seen(plane).T, color=INK, lw=1)
    for corner in plane[:4]:
        axes.plot(*seen([(0, 0, 0), corner]).T, color=INK, lw=0.8)
    axes.plot(*seen([(0, 0, 0), PELVIS]).T, color=INK, lw=0.8, ls=":")
    for name, axis in zip("xyz", names, strict=True):  # a row is the axis in the camera's frame
        start, end = seen([(0, 0, 0), 0.9 * axis])
        _arrow(axes, start, end, AXES[name], name)
    axes.set_title(title, fontsize=11)
    _frame(axes, margin=(0, 0.1))


def _draw_person(axes: Axes, body: Body, vertices: Points, camera: Camera) -> None:
    """Draw a person over what is drawn already; two backgrounds show how opaque each pixel is."""
    black, white = (
        _rendered(np.full((camera.height, camera.width, 3), grey, np.uint8), body, vertices, camera)
        for grey in (0, 255)
    )
    opacity = 255 - (white.astype(int) - black).max(-1, keepdims=True)
    drawn = np.concatenate([white, opacity.astype(np.uint8)], -1)
    axes.imshow(drawn, extent=(0, camera.width, camera.height, 0), zorder=1.5)


def _rendered(
    background: NDArray[np.uint8], body: Body, vertices: Points, camera: Camera
) -> NDArray[np.uint8]:
    figure = Figure(1, vertices.astype(np.float32))
    faces = body.faces.astype(np.int32)
    with open_rasterizer("cpu") as rasterizer:
        return overlay(background, [figure], faces, camera, rasterizer, Style(alpha=1.0))


def _pixels(points: Points, camera: Camera) -> Points:
    """Project points (N, 3) m, camera frame, to pixels (N, 2)."""
    return points[:, :2] / points[:, 2:] * camera.focal + (camera.cx, camera.cy)


def _turn(axis: int, angle: float) -> Points:
    """Return the rotation (3, 3) about an axis by an angle in rad."""
    vector = torch.zeros(3, dtype=torch.float64)
    vector[axis] = angle
    turn: Points = axis_angle_to_matrix(vector).numpy()
    return turn


def _rectangle(axes: Axes, box: Points, colour: str, style: str) -> None:
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], style, color=colour, lw=1.3)


def _arrow(
    axes: Axes, start: Iterable[float], end: Iterable[float], colour: str, name: str
) -> None:
    """Draw an arrow, with its name a little beyond the tip."""
    (x, y), (u, v) = start, end
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": 2.2,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", (u, v), (x, y), arrowprops=style, zorder=3)
    along = np.array([u - x, y - v])
    offset = 10 * along / np.linalg.norm(along)  # points
    font: dict[str, Any] = {
        "color": colour,
        "fontsize": 12,
        "fontweight": "bold",
        "ha": "center",
        "va": "center",
    }
    axes.annotate(name, (u, v), offset, textcoords="offset points", zorder=3, **font)


def _frame(axes: Axes, margin: tuple[float, float]) -> None:
    """Show the view's pixels without a margin, a share of the width and height on both sides."""
    (width, height), (beside, above) = VIEW, margin
    axes.set(xlim=(beside * width, (1 - beside) * width))
    axes.set(ylim=((1 - above) * height, above * height))
    axes.set_axis_off()


def _save(sheet: Sheet, path: Path) -> None:
    """Write a PNG of 256 colours, which is a third of the size."""
    drawn = BytesIO()
    sheet.savefig(drawn, format="png", dpi=100, facecolor="white")
    with atomic(path) as temporary:
        Picture.open(drawn).convert("RGB").quantize(256).save(temporary, optimize=True)


if __name__ == "__main__":
    main()
