"""Draws one frame: people over the photo, boxes, and the view from the side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from staf_cli.body.clothes import Tones
from staf_cli.core.errors import UsageError
from staf_cli.core.palette import person_colour
from staf_cli.core.records import Float, Image
from staf_cli.rendering.backdrop import backdrop, side_panel
from staf_cli.rendering.boxes import draw_box, draw_keypoints
from staf_cli.rendering.camera import NEAR, Camera, Points, SideView, Window
from staf_cli.rendering.rasterizer import Raster, Rasterizer, Surface
from staf_cli.rendering.shading import Faces, shade, vertex_normals
from staf_cli.rendering.wireframe import keep_visible_edges

SUPERSAMPLING = 2  # samples per pixel along each axis
BAND_SAMPLES = 4_000_000  # drawn at once at most, which bounds the memory for huge frames


@dataclass(frozen=True)
class Figure:
    """One person in one frame."""

    id: int  # of the person; decides the colour
    vertices: Points  # (V, 3) m, camera frame
    box: Float | None = None  # (4,) x1, y1, x2, y2 px, for Style.boxes
    kp2d: Float | None = None  # (17, 3) COCO keypoints x, y px, confidence, for Style.boxes
    name: str = ""  # shown instead of the id
    placed: Points | None = None  # (V, 3) m, for Style.side where it is not in the camera frame


@dataclass(frozen=True)
class Style:
    """What a clip's frames show.

    Raises:
        UsageError: alpha is not from 0 to 1.
    """

    alpha: float = 0.7  # opacity of the people over the photo, from 0 to 1
    plain: bool = False  # a grey background instead of the photo; people are opaque
    wireframe: bool = False  # the visible edges of the triangles instead of solid skin
    boxes: bool = False  # boxes, ids and keypoints of the tracker
    side: SideView | None = None  # a second panel with the people seen from the side
    tones: Tones | None = None  # (V,) how dark clothes make each vertex of all figures

    def __post_init__(self) -> None:
        """Check the opacity."""
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha {self.alpha} is out of range; choose a number from 0 to 1")


def overlay(
    image: Image,
    figures: Sequence[Figure],
    faces: Faces,
    camera: Camera,
    rasterizer: Rasterizer,
    style: Style,
) -> Image:
    """Draw the people of one frame.

    People hide each other by depth, whatever their order. Triangles closer to the camera than
    `NEAR`, or behind it, are not drawn.

    Args:
        image: (H, W, 3) RGB uint8, left as it is.
        figures: The people in the frame.
        faces: (M, 3) int32, the triangles of all figures.
        camera: The camera that filmed the image, of the same size.
        rasterizer: From `open_rasterizer`.
        style: What to show.

    Returns:
        (H, W', 3) RGB uint8, wider than the image by the side panel if the style has one.
    """
    opaque = replace(style, alpha=1.0)
    frame = backdrop(camera) if style.plain else image
    shown = opaque if style.plain else style
    frame = _draw_people(frame, figures, faces, camera, rasterizer, shown)
    if style.boxes:
        _draw_boxes(frame, figures)
    if style.side is None:
        return frame
    side = style.side
    turned = [
        replace(one, vertices=side.transform(one.vertices if one.placed is None else one.placed))
        for one in figures
    ]
    panel = _draw_people(side_panel(side), turned, faces, side.camera, rasterizer, opaque)
    return np.hstack([frame, panel])


def _draw_people(
    image: Image,
    figures: Sequence[Figure],
    faces: Faces,
    camera: Camera,
    rasterizer: Rasterizer,
    style: Style,
) -> Image:
    drawn = image.copy()
    for window, members in _regions(figures, camera):
        surface = _surface(members, faces, style.tones)
        for band in _bands(window):
            fine = camera.crop(band).supersampled(SUPERSAMPLING)
            raster = rasterizer.draw(surface, fine)
            if style.wireframe:
                raster = keep_visible_edges(raster, surface, fine)
            part = band.rows_and_columns
            drawn[part] = _blend(image[part], raster, style.alpha)
    return drawn


def _regions(figures: Sequence[Figure], camera: Camera) -> list[tuple[Window, list[Figure]]]:
    """Group people who can hide each other into windows that do not overlap."""
    regions: list[tuple[Window, list[Figure]]] = []
    for figure in figures:
        window = camera.bounding_window(figure.vertices)
        if window is None:
            continue
        members = [figure]
        while touching := [region for region in regions if region[0].overlaps(window)]:
            for region in touching:
                regions.remove(region)
                window = window.union(region[0])
                members += region[1]
        regions.append((window, members))
    return regions


def _bands(window: Window) -> list[Window]:
    """Cut a window into bands of rows of at most BAND_SAMPLES samples."""
    rows = max(1, BAND_SAMPLES // (window.width * SUPERSAMPLING**2))
    return [
        window._replace(top=top, bottom=min(top + rows, window.bottom))
        for top in range(window.top, window.bottom, rows)
    ]


def _surface(figures: Sequence[Figure], faces: Faces, tones: Tones | None) -> Surface:
    """Join the shaded people of a region, without the triangles closer than NEAR."""
    vertices = np.concatenate([figure.vertices for figure in figures]).astype(np.float32)
    colours = np.concatenate(
        [
            shade(
                figure.vertices,
                vertex_normals(figure.vertices, faces),
                person_colour(figure.id),
                tones,
            )
            for figure in figures
        ]
    )
    offsets = np.cumsum([0] + [len(figure.vertices) for figure in figures[:-1]])
    triangles = (faces + offsets[:, None, None]).reshape(-1, 3).astype(np.int32)
    if vertices[:, 2].min() < NEAR:
        triangles = triangles[(vertices[triangles, 2] >= NEAR).all(1)]
    return Surface(vertices, triangles, colours)


def _blend(image: Image, raster: Raster, alpha: float) -> Image:
    """Average the raster's samples in each pixel and blend them over the image (H, W, 3)."""
    size = (image.shape[1], image.shape[0])
    colour = cv2.resize(raster.colour, size, interpolation=cv2.INTER_AREA)
    coverage = cv2.resize(raster.coverage, size, interpolation=cv2.INTER_AREA)
    kept = cv2.merge([1 - alpha * coverage] * 3)
    photo = cv2.multiply(image, kept, dtype=cv2.CV_32F)
    # convertScaleAbs rounds and clips to 0..255.
    return np.asarray(cv2.convertScaleAbs(cv2.scaleAdd(colour, 255 * alpha, photo)), np.uint8)


def _draw_boxes(image: Image, figures: Sequence[Figure]) -> None:
    for figure in figures:
        if figure.kp2d is not None:
            draw_keypoints(image, figure.id, figure.kp2d)
        if figure.box is not None:
            draw_box(image, figure.id, figure.box, figure.name)
