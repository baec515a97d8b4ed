"""Triangles splatted onto pixels in plain torch: many frames of one mesh at once.

Exact coverage instead of sampled points: every triangle that faces the camera is cut into the
pixel rows that it crosses, every row into the pixels whose centres it covers, and the nearest
triangle of a pixel wins by one `scatter_reduce` over packed depth and index. A body has no
holes then, however large it is in the picture, and no more work is done than there are covered
pixels. No loop over frames, triangles, rows or pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

TINY = 1e-9  # px^2; a triangle of no larger area is seen edge-on
NEAR = 0.1  # m; a triangle with a corner nearer than this is left out
SLACK = 1e-3  # px by which rows are longer, so that rounding leaves no gap between neighbours


@dataclass(frozen=True)
class Fragments:
    """The pixels that show a surface, H of them over all frames, in ascending order."""

    pixel: Tensor  # (H,) int64, index into (F, size, size)
    face: Tensor  # (H,) int64, index into the faces (M, 3)
    corner: Tensor  # (H, 3) int64, the face's corners as indices into (F, V)
    weight: Tensor  # (H, 3) how much of each of the face's corners is seen; rows sum to 1


def skin(
    vertices: Tensor, normals: Tensor, weights: Tensor, transforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear blend skinning of vertices and their normals, each (F, V, 3).

    vertices and normals (V, 3) at rest, weights (V, 24), transforms (F, 24, 3, 4). The normals
    are turned with the blended matrix and made unit length again.
    """
    frames, count = len(transforms), len(vertices)
    blend = (weights @ transforms.reshape(frames, len(weights[0]), 12)).view(frames, count, 3, 4)
    posed = (blend @ pad(vertices, (0, 1), value=1.0)[..., None])[..., 0]
    turned = (blend[..., :3] @ normals[..., None])[..., 0]
    return posed, normalize(turned, dim=-1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (V, 3) outward, area-weighted; vertices (V, 3), faces (M, 3) anticlockwise."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    of_face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], of_face)
    return normalize(total, dim=-1)


def splat(
    vertices: Tensor, faces: Tensor, two_sided: Tensor, focal: Tensor, centre: Tensor, size: int
) -> Fragments:
    """What each of F cameras sees of a mesh, in F pictures of size x size pixels.

    vertices (F, V, 3) in the camera frame, metres; faces (M, 3) int64, anticlockwise seen from
    outside; two_sided (M,) bool, whose inside shows as well; focal (F,) and centre (F, 2) of
    the pinhole in pixels of the picture (corner origin). A triangle without a pixel's centre
    inside it leaves no trace.
    """
    frames, triangles, count = len(vertices), len(faces), vertices.shape[1]
    z = vertices[..., 2:]
    flat = vertices[..., :2] / z * focal[:, None, None] + centre[:, None]
    # Nothing compares with a NaN: triangles that come too near drop out of every test below.
    x, y = torch.where(z > NEAR, flat, torch.nan).permute(2, 0, 1)  # (F, V) each
    corner = faces.t().reshape(-1)
    a_x, b_x, c_x = x.index_select(1, corner).view(frames, 3, triangles).unbind(1)  # (F, M)
    a_y, b_y, c_y = y.index_select(1, corner).view(frames, 3, triangles).unbind(1)
    area = (b_x - a_x) * (c_y - a_y) - (b_y - a_y) * (c_x - a_x)
    # The outside is seen where the area is negative, because y is down.
    shows = (area < -TINY) | (two_sided & (area > TINY))
    for one, two, three in ((a_x, b_x, c_x), (a_y, b_y, c_y)):
        low = torch.minimum(torch.minimum(one, two), three)
        high = torch.maximum(torch.maximum(one, two), three)
        shows &= low.sub_(0.5).ceil_().clamp_(0) <= high.sub_(0.5).floor_().clamp_(max=size - 1)
    kept = shows.view(-1).nonzero()[:, 0]  # (K,) triangles with a pixel's centre in their box
    frame, face = kept // triangles, kept % triangles

    # Affine in the picture, from corner a: the weights of corners b and c, and 1 / z.
    screen = torch.cat([flat, 1 / z], -1).view(frames * count, 3)
    corners = faces.index_select(0, face) + (frame * count)[:, None]
    a, b, c = screen.index_select(0, corners.view(-1)).view(-1, 3, 3).unbind(1)
    x0, y0, z0 = a.unbind(-1)
    b_x, b_y, b_z = (b - a).unbind(-1)
    c_x, c_y, c_z = (c - a).unbind(-1)
    per_area = 1 / (b_x * c_y - b_y * c_x)
    of_b = (c_y * per_area, -c_x * per_area)  # how fast its weight grows along x and along y
    of_c = (-b_y * per_area, b_x * per_area)
    of_z = (of_b[0] * b_z + of_c[0] * c_z, of_b[1] * b_z + of_c[1] * c_z)
    low, high = torch.aminmax(torch.stack([y0, y0 + b_y, y0 + c_y]), dim=0)
    top = (low - 0.5).ceil().clamp_(0)
    height = (high - 0.5).floor().clamp_(max=size - 1) - top + 1
    plane = torch.stack([x0, y0, z0, *of_b, *of_c, *of_z, top, frame * size], -1)  # (K, 11)

    line, step = _expand(height.long())  # (L,) the triangle of every pixel row, which of its rows
    x0, y0, z0, b_x, b_y, c_x, c_y, z_x, z_y, top, first = (
        plane.index_select(0, line).t().contiguous()
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
    nearest = torch.zeros(frames * size * size, dtype=torch.int64, device=vertices.device)
    nearest.scatter_reduce_(0, place, key, "amax")

    pixel = nearest.nonzero()[:, 0]
    winner = nearest.index_select(0, pixel) & 0xFFFFFFFF
    x0, y0, _, b_x, b_y, c_x, c_y, *_ = plane.index_select(0, winner).t().contiguous()
    right_of = (pixel % size) + 0.5 - x0
    below = (pixel // size % size) + 0.5 - y0
    share_b, share_c = b_x * right_of + b_y * below, c_x * right_of + c_y * below
    share = torch.stack([1 - share_b - share_c, share_b, share_c], -1).clamp_(0)
    seen = corners.index_select(0, winner)  # (H, 3)
    share *= screen[:, 2].index_select(0, seen.view(-1)).view(-1, 3)
    share /= share.sum(-1, keepdim=True)
    return Fragments(pixel, face.index_select(0, winner), seen, share)


def interpolate(values: Tensor, fragments: Fragments) -> Tensor:
    """Vertex values at the pixels, (H, C).

    values (V, C) where a vertex has the same in all frames, (F, V, C) where not.
    """
    corner = fragments.corner
    if values.ndim == 2:
        corner = corner % len(values)
    picked = values.reshape(-1, values.shape[-1]).index_select(0, corner.view(-1))
    return torch.bmm(fragments.weight[:, None], picked.view(len(corner), 3, -1))[:, 0]


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """counts (N,) -> for every one of their sum: whose it is, and its number among those."""
    owner = torch.repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    number = torch.arange(len(owner), device=counts.device)
    return owner, number.sub_(start.index_select(0, owner))


def _span(offsets: tuple[Tensor, Tensor], rates: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Where along a row all three corner weights are positive: from and to, px.

    The weights of b and c are offset + rate * x, that of a is what is missing to 1.
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
