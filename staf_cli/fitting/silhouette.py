"""Where the outline of a drawn body is, and how far from there the outline of its mask is.

Shapes: V vertices of the body, R of them on its rim in the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from staf_cli.core.records import Bools, Float, Image, Ints
from staf_cli.core.regions import crop_axes

Mesh = NDArray[np.float32]

PIXELS = 128  # side of the drawing of a body in its region: 2 cm of a standing person each
EDGE = 0.015  # m to either side of a rim: there is body inside, and none outside
GRAZING = 0.35  # largest |cosine| between a rim's normal and the line of sight
NARROWER, WIDER = 0.10, 0.15  # m inwards and outwards of the rim in which the mask's is looked for
STEP = 0.005  # m between two looks
CLEAR = 0.03  # m beyond the mask's outline in which no other limb may be
BORDER = 3.0  # px of the frame: what is nearer to its border, or outside, may be cut off


@dataclass(frozen=True)
class Rim:
    """Vertices on the outline of a drawn body for which the mask has an outline too."""

    vertex: Ints  # (R,)
    offset: Float  # (R,) m at the vertex's depth, the mask's outline beyond the body's
    across: Float  # (R, 3) change of -offset per m that the vertex moves, camera frame
    overlap: float  # intersection over union of the drawn body and the mask


def find_rim(
    mesh: Mesh,
    faces: Ints,
    allowed: Bools,
    mask: Image,
    region: Float,
    focal: float,
    image_size: tuple[int, int],
) -> Rim:
    """Compare the outlines of a body and of a mask.

    From each vertex on the body's outline the mask's outline is looked for along the vertex's
    normal. It counts only if nothing but the body itself is within and nothing is beyond, so
    that a limb is never compared with the outline of another.

    Args:
        mesh: (V, 3) m, camera frame.
        faces: (M, 3)
        allowed: (V,) vertices that may be used.
        mask: (S, S) uint8, 255 times the probability that a part of the region is the person.
        region: (4,) as core/regions.py describes.
        focal: px, of a camera whose centre is the image's.
        image_size: (width, height) px.

    Returns:
        The rim; empty where no vertex is usable.
    """
    rays = mesh / np.linalg.norm(mesh, axis=1, keepdims=True)
    normals = _normals(mesh, faces)
    cosine = (normals * rays).sum(1)
    flat = (normals - cosine[:, None] * rays)[:, :2]
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-9)
    slopes = mesh[:, :2] / mesh[:, 2:]
    places = slopes * focal + np.array(image_size) / 2  # (V, 2) px of the frame
    axes = crop_axes(region[None])[0]
    zoom = PIXELS / region[2]
    points = (places - region[:2]) @ axes * zoom + PIXELS / 2  # (V, 2) px of the drawing
    drawn = draw_silhouette(points, faces)

    inside = ((places > BORDER) & (places < np.array(image_size) - BORDER)).all(1)
    some = np.flatnonzero(allowed & inside & (np.abs(cosine) < GRAZING))
    metre = (focal * zoom / mesh[some, 2])[:, None]  # px of the drawing
    outwards = flat[some] @ axes
    edge = (EDGE * metre + 0.5) * outwards
    within = _look(drawn, points[some] - edge, cv2.INTER_NEAREST) > 0
    rim = within & (_look(drawn, points[some] + edge, cv2.INTER_NEAREST) == 0)
    some, metre, outwards = some[rim], metre[rim], outwards[rim]

    along = np.arange(-NARROWER, WIDER + STEP / 2, STEP)  # (K,) m
    looks = points[some, None] + (metre * along)[..., None] * outwards[:, None]  # (R, K, 2)
    seen = _look(mask, looks * (len(mask) / PIXELS), cv2.INTER_LINEAR)
    found, offset = _crossing(seen - 127.5, along)
    body = _look(drawn, looks, cv2.INTER_NEAREST) > 0
    edge = EDGE + 0.5 / metre  # (R, 1) m
    beyond = (along > edge) & (along <= offset.clip(0)[:, None] + CLEAR)
    before = (along < -edge) & (along >= offset.clip(max=0)[:, None] - CLEAR)
    good = found & ~(body & beyond).any(1) & ~(~body & before).any(1)

    some, offset = some[good], offset[good]
    tilt = -(flat[some] * slopes[some]).sum(1, keepdims=True)
    person = cv2.resize(mask, (PIXELS, PIXELS), interpolation=cv2.INTER_LINEAR) > 127
    shared, either = (person & (drawn > 0)).sum(), (person | (drawn > 0)).sum()
    across = np.concatenate([flat[some], tilt], 1).astype(float)
    return Rim(some, offset, across, float(shared / max(either, 1)))


def draw_silhouette(points: Float, faces: Ints, pixels: int = PIXELS) -> Image:
    """Draw a mesh as one filled shape.

    Args:
        points: (V, 2) px of the drawing.
        faces: (M, 3)
        pixels: Side of the drawing, px.

    Returns:
        (pixels, pixels) uint8, 1 where there is body.
    """
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_WHITE)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_INVDEPTH)
    # A flat picture 1 m before OpenCV's camera, which looks along -z with y up.
    x, y = (points * (2 / pixels) - 1).T
    flat = np.stack([x, -y, np.full(len(x), -1.0)], -1).astype(np.float32)
    depth = cv2.triangleRasterizeDepth(
        flat,
        faces.astype(np.int32),
        np.ones((pixels, pixels), np.float32),
        np.eye(4, dtype=np.float32),
        np.pi / 2,
        0.5,
        2.0,
        settings,
    )
    return (np.asarray(depth) < 1).astype(np.uint8)


def _crossing(level: Float, along: Float) -> tuple[Bools, Float]:
    """Where rows (R, K) fall below 0 nearest to along = 0: whether they do (R,), and where (R,)."""
    before, after = level[:, :-1], level[:, 1:]
    falls = (before > 0) & (after <= 0)
    share = before / np.where(falls, before - after, 1)
    places = np.where(falls, along[:-1] + share * np.diff(along), np.inf)
    nearest = np.abs(places).argmin(1)[:, None]
    found: Bools = np.any(falls, axis=1)
    return found, np.where(found, np.take_along_axis(places, nearest, 1)[:, 0], 0)


def _look(picture: Image, points: Float, interpolation: int) -> Float:
    """The values of a picture at points (..., 2) px; 0 outside."""
    if not points.size:
        return np.zeros(points.shape[:-1])
    where = points.reshape(-1, points.shape[-2], 2).astype(np.float32) - np.float32(0.5)
    looked = cv2.remap(
        picture.astype(np.float32), where[..., 0], where[..., 1], interpolation, borderValue=0
    )
    values: Float = np.asarray(looked, float).reshape(points.shape[:-1])
    return values


def _normals(mesh: Mesh, faces: Ints) -> Float:
    """(V, 3) outward unit normals, of each vertex's faces by their area."""
    a, b, c = (mesh[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    corner = faces.ravel()
    summed = np.stack(
        [np.bincount(corner, np.repeat(column, 3), len(mesh)) for column in area.T], -1
    )
    normals: Float = summed / np.linalg.norm(summed, axis=1, keepdims=True).clip(1e-12)
    return normals
