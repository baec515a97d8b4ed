"""Rasterization of triangles in plain torch, many frames of one mesh at once.

Coverage is exact: every triangle that faces the camera is cut into the pixel rows that it
crosses, every row into the pixels whose centres it covers, and the nearest triangle of a pixel
wins by one `scatter_reduce` over packed depth and index. So a body has no holes, however large
it is in the picture, and the work is proportional to the covered pixels. There is no loop over
frames, triangles, rows or pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

TINY = 1e-9  # px^2; a triangle with a smaller area is seen edge-on
NEAR = 0.1  # m; a triangle with a corner nearer than this is left out
SLACK = 1e-3  # px by which rows are longer, so that rounding leaves no gap between neighbours


@dataclass(frozen=True)
class Fragments:
    """The H pixels of all frames that show a surface, in ascending order."""

    pixel: Tensor  # (H,) int64, index into (F, size, size)
    face: Tensor  # (H,) int64, index into the faces (M, 3)
    corner: Tensor  # (H, 3) int64, the face's corners as indices into (F, V)
    weight: Tensor  # (H, 3) weights of the corners at the pixel's centre; rows sum to 1


def skin(
    vertices: Tensor, normals: Tensor, weights: Tensor, transforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Pose vertices and their normals by linear blend skinning.

    The normals are rotated by the blended matrix and made unit length again.

    Args:
        vertices: (V, 3) at rest.
        normals: (V, 3) at rest.
        weights: (V, 24) skinning weights.
        transforms: (F, 24, 3, 4) of the joints.

    Returns:
        Vertices and unit normals, (F, V, 3) each.
    """
    frames, count = len(transforms), len(vertices)
    blend = (weights @ transforms.reshape(frames, len(weights[0]), 12)).view(frames, count, 3, 4)
    posed = (blend @ pad(vertices, (0, 1), value=1.0)[..., None])[..., 0]
    turned = (blend[..., :3] @ normals[..., None])[..., 0]
    return posed, normalize(turned, dim=-1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Compute unit vertex normals, each face weighted by its area.

    Args:
        vertices: (V, 3).
        faces: (M, 3) anticlockwise seen from outside.

    Returns:
        (V, 3) outward.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    of_face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], of_face)
    return normalize(total, dim=-1)


def splat(
    vertices: Tensor, faces: Tensor, two_sided: Tensor, focal: Tensor, centre: Tensor, size: int
) -> Fragments:
    """Rasterize a mesh for F pinhole cameras.

    A triangle that covers no pixel's centre is not drawn.

    Args:
        vertices: (F, V, 3) m, camera frame.
        faces: (M, 3) int64, anticlockwise seen from outside.
        two_sided: (M,) bool, faces whose inside is visible as well.
        focal: (F,) px of the picture.
        centre: (F, 2) px of the principal point, from the picture's corner.
        size: px along each side of the pictures.

    Returns:
        The pixels that show the mesh.
    """
    frames, count = len(vertices), vertices.shape[1]
    z = vertices[..., 2:]
    flat = vertices[..., :2] / z * focal[:, None, None] + centre[:, None]
    # Comparisons with NaN are false, so triangles that come too near are not visible.
    kept = _visible(torch.where(z > NEAR, flat, torch.nan), faces, two_sided, size)
    frame, face = kept // len(faces), kept % len(faces)
    screen = torch.cat([flat, 1 / z], -1).view(frames * count, 3)
    corners = faces.index_select(0, face) + (frame * count)[:, None]
    planes = _planes(screen, corners, frame * size, size)
    nearest = _nearest(planes, frames, size)
    pixel = nearest.nonzero()[:, 0]
    winner = nearest.index_select(0, pixel) & 0xFFFFFFFF
    seen = corners.index_select(0, winner)  # (H, 3)
    weight = _corner_weights(screen, seen, planes.index_select(0, winner), pixel, size)
    return Fragments(pixel, face.index_select(0, winner), seen, weight)


def _visible(flat: Tensor, faces: Tensor, two_sided: Tensor, size: int) -> Tensor:
    """Find the triangles that are seen from the right side, with a pixel's centre in their box.

    Args:
        flat: (F, V, 2) px, NaN where a vertex is too near.
        faces: (M, 3).
        two_sided: (M,) bool.
        size: px along each side of the pictures.

    Returns:
        (K,) their numbers among all F * M.
    """
    frames, triangles = len(flat), len(faces)
    x, y = flat.permute(2, 0, 1)  # (F, V) each
    corner = faces.t().reshape(-1)
    a_x, b_x, c_x = x.index_select(1, corner).view(frames, 3, triangles).unbind(1)  # (F, M)
    a_y, b_y, c_y = y.index_select(1, corner).view(frames, 3, triangles).unbind(1)
    area = (b_x - a_x) * (c_y - a_y) - (b_y - a_y) * (c_x - a_x)
    # The outside is seen where the area is negative, because y is down.
    visible = (area < -TINY) | (two_sided & (area > TINY))
    for one, two, three in ((a_x, b_x, c_x), (a_y, b_y, c_y)):
        low = torch.minimum(torch.minimum(one, two), three)
        high = torch.maximum(torch.maximum(one, two), three)
        visible &= low.sub_(0.5).ceil_().clamp_(0) <= high.sub_(0.5).floor_().clamp_(max=size - 1)
    kept: Tensor = visible.view(-1).nonzero()[:, 0]
    return kept


def _planes(screen: Tensor, corners: Tensor, first_row: Tensor, size: int) -> Tensor:
    """Describe triangles in the picture: weights of the corners and 1 / z are linear there.

    Args:
        screen: (F * V, 3) x px, y px, 1 / z.
        corners: (K, 3) rows of `screen`, the corners a, b and c.
        first_row: (K,) first pixel row of the triangle's picture.
        size: px along each side of the pictures.

    Returns:
        (K, 12): x, y and 1 / z of corner a; how fast the weight of b, that of c and 1 / z grow
        along x and along y; top pixel row; number of pixel rows; first_row.
    """
    a, b, c = screen.index_select(0, corners.view(-1)).view(-1, 3, 3).unbind(1)
    x0, y0, z0 = a.unbind(-1)
    b_x, b_y, b_z = (b - a).unbind(-1)
    c_x, c_y, c_z = (c - a).unbind(-1)
    per_area = 1 / (b_x * c_y - b_y * c_x)
    of_b = (c_y * per_area, -c_x * per_area)
    of_c = (-b_y * per_area, b_x * per_area)
    of_z = (of_b[0] * b_z + of_c[0] * c_z, of_b[1] * b_z + of_c[1] * c_z)
    low, high = torch.aminmax(torch.stack([y0, y0 + b_y, y0 + c_y]), dim=0)
    top = (low - 0.5).ceil().clamp_(0)
    height = (high - 0.5).floor().clamp_(max=size - 1) - top + 1
    return torch.stack([x0, y0, z0, *of_b, *of_c, *of_z, top, height, first_row], -1)


def _nearest(planes: Tensor, frames: int, size: int) -> Tensor:
    """Find the nearest triangle of each pixel.

    Args:
        planes: (K, 12) from `_planes`.
        frames: F.
        size: px along each side of the pictures.

    Returns:
        (F * size * size,) int64, 0 for a pixel without a triangle; the upper 32 bits are those
        of 1 / z, the lower ones the row of `planes`.
    """
    # For each of L pixel rows its triangle, and its number in the triangle.
    line, step = _expand(planes[:, 10].long())
    x0, y0, z0, b_x, b_y, c_x, c_y, z_x, z_y, top, _, first = (
        planes.index_select(0, line).t().contiguous()
    )
    row = top + step
    down = row + 0.5 - y0
    start, end = _span((b_y * down, c_y * down), (b_x, c_x))  # relative to corner a
    left = (x0 + start).sub_(0.5 + SLACK).ceil_().clamp_(0, size)
    width = (x0 + end).sub_(0.5 - SLACK).floor_().clamp_(-1, size - 1) - left + 1
    base = (first + row).long() * size + left.long()
    depth = z0 + z_y * down + z_x * (left + 0.5 - x0)

    strip, along = _expand(width.long().clamp_(0))
    value = depth.index_select(0, strip) + z_x.index_select(0, strip) * along
    # Positive floats keep their order when their bits are read as integers.
    key = value.clamp_(1e-6).view(torch.int32).long() << 32
    key |= line.index_select(0, strip)
    place = base.index_select(0, strip).add_(along)
    nearest = torch.zeros(frames * size * size, dtype=torch.int64, device=planes.device)
    return nearest.scatter_reduce_(0, place, key, "amax")


def _corner_weights(
    screen: Tensor, corners: Tensor, planes: Tensor, pixel: Tensor, size: int
) -> Tensor:
    """Compute perspective-correct weights (H, 3) of the corners (H, 3) of triangles at pixels."""
    x0, y0, _, b_x, b_y, c_x, c_y, *_ = planes.t().contiguous()
    right_of = (pixel % size) + 0.5 - x0
    below = (pixel // size % size) + 0.5 - y0
    share_b, share_c = b_x * right_of + b_y * below, c_x * right_of + c_y * below
    share = torch.stack([1 - share_b - share_c, share_b, share_c], -1).clamp_(0)
    share *= screen[:, 2].index_select(0, corners.view(-1)).view(-1, 3)
    share /= share.sum(-1, keepdim=True)
    return share


def interpolate_at_pixels(values: Tensor, fragments: Fragments) -> Tensor:
    """Interpolate vertex values at the pixels.

    Args:
        values: (V, C) if they are the same in all frames, or else (F, V, C).
        fragments: H pixels.

    Returns:
        (H, C).
    """
    corner = fragments.corner
    if values.ndim == 2:
        corner = corner % len(values)
    picked = values.reshape(-1, values.shape[-1]).index_select(0, corner.view(-1))
    return torch.bmm(fragments.weight[:, None], picked.view(len(corner), 3, -1))[:, 0]


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat each i counts[i] times: return i and the number of the repetition, (sum,) each."""
    owner = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    number = torch.arange(len(owner), device=counts.device)
    return owner, number.sub_(start.index_select(0, owner))


def _span(offsets: tuple[Tensor, Tensor], rates: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return where along a row all three corner weights are positive: start and end, px.

    The weights of b and c are offset + rate * x; that of a is 1 minus both.
    """
    b, c = offsets
    b_rate, c_rate = rates
    start = torch.full_like(b, -torch.inf)
    end = torch.full_like(b, torch.inf)
    for offset, rate in ((b, b_rate), (c, c_rate), (1 - b - c, -b_rate - c_rate)):
        crossing = offset / -rate
        start = torch.where(rate > 0, torch.maximum(start, crossing), start)
        end = torch.where(rate < 0, torch.minimum(end, crossing), end)
    return start, end
