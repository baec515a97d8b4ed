"""Geometry of fitting a garment to the open body.

A garment is placed on MakeHuman's base mesh in MakeHuman's pose, then moved with the skin around
it to the T-pose, and pushed out of the skin where it sinks in. The open body's vertices are
vertices of the base mesh, so the skin is known in both poses.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from staf_cli.core.records import Bools, Float, Ints
from staf_cli.training.people.makehuman import Fitting

AROUND = 48  # nearest vertices of the skin that a point may move with
NARROWEST, WIDEST = 0.012, 0.06  # m, sigma of the skin's weights around a point
WIDENING = 0.5  # of the point's distance to the skin
UNRELATED = 0.02  # weight of skin that other joints move
DEEPEST = 0.04  # m; what is deeper belongs to the other side of the body, or is inside on purpose
COVER_REACH = 0.08  # m from skin to cloth
RINGS = 2  # neighbours of a covered vertex that must be covered too


@dataclass(frozen=True, eq=False)
class Binding:
    """The vertices of the skin that each of G points moves with, and their weights."""

    index: Ints  # (G, K) vertices of the skin
    share: Float  # (G, K) weights, rows sum to 1

    def blend(self, values: Float) -> Float:
        """Average values of the skin for each point.

        Args:
            values: (V, ...) at the skin's vertices.

        Returns:
            (G, ...) weighted means.
        """
        mean: Float = np.einsum("gk,gk...->g...", self.share, values[self.index])
        return mean


def base_influence(bones: Float, index: Ints, weights: Float) -> Float:
    """Compute how much SMPL's joints move each vertex of the base mesh, helper geometry included.

    Each bone of MakeHuman is distributed over the joints as on the skin, where the weights of
    both are known.

    Args:
        bones: (N, B) MakeHuman's skinning weights of the base mesh.
        index: (V,) vertex of the base mesh for each of the open body's.
        weights: (V, 24) the open body's skinning weights.

    Returns:
        (N, 24), rows of length 1.
    """
    shared = bones[index].T @ weights  # (B, 24)
    return unit_rows(bones @ (shared / np.maximum(shared.sum(1, keepdims=True), 1e-9)))


def unit_rows(rows: Float) -> Float:
    """Scale rows (N, C) to length 1."""
    scaled: Float = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def place_on_base(fitting: Fitting, base: Float) -> Float:
    """Place a garment on the base mesh.

    Args:
        fitting: The placement of the garment's G vertices.
        base: (N, 3) vertices of the base mesh.

    Returns:
        (G, 3) in the units of the base mesh.
    """
    unit = np.ones(3)
    for axis, (first, second, usual) in enumerate(fitting.scales):
        if usual:
            unit[axis] = abs(base[first, axis] - base[second, axis]) / usual
    placed: Float = np.einsum("gk,gkc->gc", fitting.shares, base[fitting.anchors])
    placed += fitting.offsets * unit
    return placed


def bind(points: Float, influence: Float, skin: Float, skin_influence: Float) -> Binding:
    """Choose the skin that each point moves with: near it, and moved by the same joints.

    The further a point is from the skin, the wider the patch that it moves with, so that skirts
    and loose cuffs stay smooth. Comparing joints keeps a sleeve from moving with the hip.

    Args:
        points: (G, 3) m.
        influence: (G, 24) how much each joint moves the points, rows of length 1.
        skin: (V, 3) m, in the same pose as the points.
        skin_influence: (V, 24) the same for the skin.

    Returns:
        The skin's vertices and weights for each point.
    """
    distance, index = cKDTree(skin).query(points, min(AROUND, len(skin)))
    related = np.einsum("gc,gkc->gk", influence, skin_influence[index]) ** 2 + UNRELATED
    nearest = (distance / related).min(1, keepdims=True)  # to skin with the same joints
    width = np.clip(WIDENING * nearest, NARROWEST, WIDEST)
    share = related * np.exp(-(distance**2 - distance[:, :1] ** 2) / (2 * width**2))
    return Binding(index, share / share.sum(1, keepdims=True))


def move_with_skin(points: Float, binding: Binding, before: Float, after: Float) -> Float:
    """Move points by the rigid motions that best fit those of their skin (Kabsch 1976).

    Args:
        points: (G, 3) m.
        binding: The skin of each point.
        before: (V, 3) m, the skin in the pose of the points.
        after: (V, 3) m, the skin in the new pose.

    Returns:
        (G, 3) m in the new pose.
    """
    old, new = binding.blend(before), binding.blend(after)
    around = before[binding.index] - old[:, None]
    moved = after[binding.index] - new[:, None]
    spread = np.einsum("gk,gka,gkb->gab", binding.share, moved, around)
    u, _, vt = np.linalg.svd(spread)
    handed = np.ones((len(points), 3))
    handed[:, 2] = np.linalg.det(u @ vt)
    rotation = (u * handed[:, None]) @ vt
    placed: Float = new + np.einsum("gab,gb->ga", rotation, points - old)
    return placed


def vertex_normals(vertices: Float, faces: Ints) -> Float:
    """Compute unit vertex normals, each face weighted by its area.

    Args:
        vertices: (V, 3).
        faces: (F, 3) anticlockwise seen from outside.

    Returns:
        (V, 3) outward.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], cross)
    return unit_rows(total)


def height_above(points: Float, vertices: Float, faces: Ints) -> tuple[Float, Float]:
    """Measure how far points are outside a surface.

    Only the 16 triangles with the nearest middles are searched.

    Args:
        points: (G, 3) m.
        vertices: (V, 3) m, of the surface.
        faces: (F, 3) anticlockwise seen from outside.

    Returns:
        Signed distances (G,) in m, negative inside, and the surface's unit normals (G, 3) at the
        nearest places.
    """
    middle = vertices[faces].mean(1)
    _, near = cKDTree(middle).query(points, min(16, len(faces)))
    corners = vertices[faces[near]]  # (G, K, 3, 3)
    share = _nearest_share(points[:, None], corners)
    foot = np.einsum("gkc,gkcx->gkx", share, corners)
    distance = np.linalg.norm(points[:, None] - foot, axis=-1)
    best = np.arange(len(points)), distance.argmin(1)
    normals = vertex_normals(vertices, faces)[faces[near[best]]]
    normal = unit_rows(np.einsum("gc,gcx->gx", share[best], normals))
    side = np.sign(np.einsum("gx,gx->g", points - foot[best], normal))
    return side * distance[best], normal


def _nearest_share(points: Float, corners: Float) -> Float:
    """Return barycentric coordinates (..., 3) of each triangle's (..., 3, 3) nearest place."""
    a, b, c = (corners[..., k, :] for k in range(3))
    u, v, w = b - a, c - a, points - a
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = np.maximum(uu * vv - uv * uv, 1e-18)
    s, t = (wu * vv - wv * uv) / area, (wv * uu - wu * uv) / area
    inside = np.stack([1 - s - t, s, t], -1)
    along = [
        np.clip(((points - p) * (q - p)).sum(-1) / np.maximum(((q - p) ** 2).sum(-1), 1e-18), 0, 1)
        for p, q in ((a, b), (b, c), (c, a))
    ]
    zero = np.zeros_like(s)
    edges = [
        np.stack([1 - along[0], along[0], zero], -1),
        np.stack([zero, 1 - along[1], along[1]], -1),
        np.stack([along[2], zero, 1 - along[2]], -1),
    ]
    options = np.stack([inside, *edges])  # (4, ..., 3)
    far = ((np.einsum("o...c,...cx->o...x", options, corners) - points) ** 2).sum(-1)
    far[0] = np.where((inside >= 0).all(-1), far[0], np.inf)
    best = far.argmin(0)
    nearest: Float = np.take_along_axis(options, best[None, ..., None], 0)[0]
    return nearest


def push_out(points: Float, triangles: Ints, skin: Float, skin_faces: Ints, gap: Float) -> Float:
    """Move a garment's vertices along the skin's normals until they are outside of it.

    Only vertices at most DEEPEST inside move. Their neighbours follow a little, against dents.

    Args:
        points: (G, 3) m, the garment.
        triangles: (T, 3) of the garment.
        skin: (V, 3) m.
        skin_faces: (F, 3) of the skin.
        gap: (G,) m, the least distance outside of the skin.

    Returns:
        (G, 3) m.
    """
    mean = _neighbour_mean(triangles, len(points))
    for _ in range(3):
        height, normal = height_above(points, skin, skin_faces)
        push = np.where(height > -DEEPEST, np.maximum(gap - height, 0), 0)
        smooth = mean @ (mean @ push)
        points = points + np.maximum(push, np.minimum(smooth, gap))[:, None] * normal
    return points


def covered_skin(
    skin: Float, skin_faces: Ints, points: Float, triangles: Ints, reach: float = COVER_REACH
) -> Bools:
    """Find the skin that a garment covers, with a margin of RINGS neighbours.

    A vertex is covered if its outward ray, and those of its neighbours, hit the garment. Rays
    start a little inside the skin, so that a garment just below it counts as well.

    Args:
        skin: (V, 3) m.
        skin_faces: (F, 3) of the skin.
        points: (G, 3) m, the garment.
        triangles: (T, 3) of the garment.
        reach: m from the skin within which the garment must be.

    Returns:
        (V,) bool.
    """
    normals = vertex_normals(skin, skin_faces)
    corners = points[triangles]
    near = cKDTree(corners.mean(1)).query(skin, min(40, len(triangles)))[1]
    a = corners[near, 0]
    u, v = corners[near, 1] - a, corners[near, 2] - a
    p = np.cross(normals[:, None], v)
    det = (u * p).sum(-1)
    det = np.where(np.abs(det) < 1e-14, np.inf, det)
    start = skin[:, None] - 0.01 * normals[:, None] - a
    s = (start * p).sum(-1) / det
    q = np.cross(start, u)
    t = (q * normals[:, None]).sum(-1) / det
    distance = (v * q).sum(-1) / det
    inside = np.minimum(np.minimum(s, t), 1 - s - t) > -1e-6  # also rays through an edge
    hit = inside & (distance > 0) & (distance < reach)
    uncovered: Bools = ~hit.any(1)
    for _ in range(RINGS):
        touched = uncovered[skin_faces].any(1)
        uncovered[skin_faces[touched]] = True
    return ~uncovered


def _neighbour_mean(triangles: Ints, vertices: int) -> sparse.csr_array:
    """Return the matrix (G, G) that averages each vertex with its neighbours."""
    rows, columns = np.concatenate([triangles, triangles[:, ::-1]]), np.roll(triangles, 1, 1)
    columns = np.concatenate([columns, np.roll(triangles[:, ::-1], 1, 1)])
    size = (vertices, vertices)
    pairs = sparse.csr_array((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=size)
    pairs = (pairs + sparse.eye_array(vertices)).astype(bool).astype(float)
    mean: sparse.csr_array = sparse.diags_array(1 / pairs.sum(1)) @ pairs
    return mean.tocsr()
