"""Clothes, shoes, hair and skins for the open body, cut from MakeHuman's own.

    fit        a garment on MakeHuman's base mesh, by its mhclo file, in MakeHuman's stance
    carry      each of its points by the rigid motion of the skin around it to the T-pose
    inherit    blend shapes and skinning weights from the same skin
    push       outside what would sink into the skin
    cover      find the skin that cannot be seen under it

The open body's vertices are vertices of the base mesh, so in every shape and in MakeHuman's
stance it is known where they lie; that is all that the second step needs. Sources: the file
formats of MakeHuman's assets (obj, mhclo, target, weights), read as plain text.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from staf_cli.body.format import JOINT_COUNT, load_body, read_npz
from staf_cli.core.errors import BodyError
from staf_cli.core.files import atomic
from staf_cli.training.people.wardrobe import Piece, Wardrobe, wardrobe_arrays

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Colours = NDArray[np.uint8]

DECIMETRE = 0.1  # MakeHuman's unit, in metres
FIRST_EYE = 13380  # vertices of the base mesh from here on are no skin; the open body's: eyeballs
IRIS = 0.55  # of an eyeball's radius, seen from the front
EYE_WHITE, EYE_DARK = (216, 210, 204), (62, 44, 34)
HAIR = (74, 54, 40)  # no texture comes with it
SHADES = 0.18  # how much one lock of hair may be lighter or darker
PLAIN = {  # the colours of the largest part, the next, all others: its texture fits another mesh
    "male_worksuit01": ((82, 122, 186), (222, 222, 218), (60, 92, 150)),
}

HELD_OUT = frozenset(
    {
        *("male_casualsuit05", "female_casualsuit02", "shoes05", "hair_bob02"),
        *("young_lightskinned_female3", "middleage_darkskinned_male"),
    }
)
FOR_WOMEN = ("hair_bob", "hair_long", "hair_ponytail", "female")

CHEST, HEAD = 9, 15
SHINS = (4, 5)  # what the knees move
FEET = (*SHINS, 7, 8, 10, 11)  # shoes reach from the ball of the foot up the shin

AROUND = 48  # vertices of the skin that may carry a point
NARROWEST, WIDEST = 0.012, 0.06  # m: how far around a point the skin carries it
WIDENING = 0.5  # of the point's distance to the skin
STRANGER = 0.02  # the weight of skin whose bones have nothing to do with the garment's
GAP = {"suit": 0.006, "shoes": 0.004, "hair": 0.006}  # m outside of the skin, at least
DEEPEST = 0.04  # m: what lies deeper belongs to the other side of the body, or inside on purpose
SOCK = 0.002  # m that socks stand off the shin, so that trousers lie outside of them
HANG = (0.0, 0.2)  # m below the chin: from where hair follows the chest, and wholly
LOOSE = 0.02  # m more for hair on the back, which lies on a garment
COVER = 0.08  # m from skin to cloth
RINGS = 2  # neighbours that must be covered too


# --------------------------------------------------------------------------------------- read


@dataclass(frozen=True, eq=False)
class Mesh:
    """A Wavefront file of quads."""

    vertices: Doubles  # (N, 3) decimetres
    quads: Ints  # (Q, 4) vertex indices
    uv: Doubles  # (U, 2) from the texture's lower left corner, 0..1
    quad_uv: Ints  # (Q, 4) rows of uv

    @property
    def triangles(self) -> Ints:
        """The quads, each cut in two, without the empty half of those that are triangles."""
        cut = np.concatenate([self.quads[:, [0, 1, 2]], self.quads[:, [0, 2, 3]]])
        whole: Ints = cut[(cut != np.roll(cut, 1, 1)).all(1)]
        return whole


@dataclass(frozen=True, eq=False)
class Fitting:
    """How a garment hangs on the base mesh: what an mhclo file says of its G vertices."""

    anchors: Ints  # (G, 3) vertices of the base mesh
    shares: Doubles  # (G, 3) of the anchors
    offsets: Doubles  # (G, 3) added, in units of `scales`
    scales: tuple[tuple[int, int, float], ...]  # x, y, z: two vertices, and their usual distance
    covered: Ints  # vertices of the base mesh that the garment hides


def read_mesh(path: Path) -> Mesh:
    """Read an obj of quads with texture coordinates; a triangle repeats its last corner.

    Raises BodyError for a file that is not there or holds no such mesh.
    """
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    corners: list[list[list[int]]] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in values[:3]])
            elif kind == "vt":
                uv.append([float(x) for x in values[:2]])
            elif kind == "f":
                face = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in values]
                corners.append([*face, *face[-1:]][:4])
        faces = np.array(corners, np.int64).reshape(-1, 4, 2)
        points = np.array(vertices, float).reshape(-1, 3)
        mesh = Mesh(points, faces[..., 0], np.array(uv, float).reshape(-1, 2), faces[..., 1])
    except (OSError, ValueError) as error:
        raise BodyError(f"{path}: is no obj of quads with texture coordinates: {error}") from error
    if not len(faces) or faces[..., 0].max() >= len(points) or faces[..., 1].max() >= len(uv):
        raise BodyError(f"{path}: its faces name vertices that it does not have; get it again")
    return mesh


def read_fitting(path: Path) -> Fitting:
    """Read an mhclo file. Raises BodyError for a file that is missing or no fitting."""
    rows: list[list[float]] = []
    scales = dict.fromkeys("xyz", (0, 0, 0.0))
    covered: list[int] = []
    section = ""
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] in ("verts", "delete_verts"):
                section = words[0]
            elif words[0][1:] == "_scale":
                scales[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
            elif words[0][0].isalpha():
                continue  # other settings may stand anywhere, even among the vertices
            elif section == "verts":
                numbers = [float(word) for word in words]
                rows.append(numbers if len(numbers) == 9 else [numbers[0]] * 3 + [1.0] + [0.0] * 5)
            elif section == "delete_verts":
                for span in line.replace(" - ", "-").split():
                    first, _, last = span.partition("-")
                    covered += range(int(first), int(last or first) + 1)
    except (OSError, ValueError, IndexError) as error:
        raise BodyError(f"{path}: is no mhclo file: {error}") from error
    if not rows:
        raise BodyError(f"{path}: is no mhclo file: it places no vertices")
    table = np.array(rows)
    return Fitting(
        anchors=table[:, :3].astype(np.int64),
        shares=table[:, 3:6],
        offsets=table[:, 6:],
        scales=tuple(scales[axis] for axis in "xyz"),
        covered=np.unique(np.array(covered, np.int64)),
    )


def read_base_shape(makehuman: Path, vertices: Doubles, male: float) -> Doubles:
    """The base mesh (N, 3) in decimetres of a young adult between woman 0 and man 1.

    makehuman: the folder `mpfb2` of its data; vertices (N, 3): the neutral mesh. Middle muscle,
    weight and height, the mean of MakeHuman's three origins.
    """
    folder = makehuman / "targets" / "macrodetails"
    shape = vertices.copy()
    for sex, share in (("male", male), ("female", 1 - male)):
        if share:
            body = f"universal-{sex}-young-averagemuscle-averageweight"
            shape += share * _read_target(folder / f"{body}.target.gz", len(vertices))
            for origin in ("african", "asian", "caucasian"):
                target = _read_target(folder / f"{origin}-{sex}-young.target.gz", len(vertices))
                shape += share / 3 * target
    return shape


def _read_target(path: Path, vertices: int) -> Doubles:
    offset = np.zeros((vertices, 3))
    try:
        with gzip.open(path, "rt") as lines:
            rows = [line.split()[:4] for line in lines if line[0] not in "#\n"]
        table = np.array(rows, float).reshape(-1, 4)
        offset[table[:, 0].astype(int)] = table[:, 1:]
    except (OSError, ValueError, IndexError) as error:
        raise BodyError(f"{path}: is no target of MakeHuman's base mesh: {error}") from error
    return offset


def read_base_bones(makehuman: Path, vertices: int) -> Doubles:
    """MakeHuman's own skinning weights (N, bones) of the whole base mesh, rows sum to 1."""
    path = makehuman / "rigs" / "standard" / "weights.default.json"
    try:
        bones = json.loads(path.read_text(encoding="utf-8"))["weights"]
        weights = np.zeros((vertices, len(bones)))
        for column, pairs in enumerate(bones.values()):
            for row, weight in pairs:
                weights[row, column] = weight
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise BodyError(f"{path}: holds no weights of MakeHuman's base mesh: {error}") from error
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return weights


# ---------------------------------------------------------------------------------- fit, carry


@dataclass(frozen=True, eq=False)
class Mannequin:
    """The open body, and the base mesh of one shape in MakeHuman's stance, in metres."""

    base: Doubles  # (N, 3) the base mesh, y up
    kin: Doubles  # (N, 24) which of SMPL's joints move it, roughly; helpers too
    index: Ints  # (V,) vertex of the base mesh for each of the open body's
    v_template: Doubles  # (V, 3) T-pose
    shapedirs: Doubles  # (V, 3, 10)
    weights: Doubles  # (V, 24)
    faces: Ints  # (F, 3)


@dataclass(frozen=True, eq=False)
class Binding:
    """Which vertices of the skin carry each of G points, and how much: rows sum to 1."""

    index: Ints  # (G, K)
    share: Doubles  # (G, K)

    def blend(self, values: Doubles) -> Doubles:
        """The mean of the skin's values (V, ...) for each point: (G, ...)."""
        mean: Doubles = np.einsum("gk,gk...->g...", self.share, values[self.index])
        return mean


def base_kin(bones: Doubles, index: Ints, weights: Doubles) -> Doubles:
    """Which SMPL joints move each vertex (N, 24) of the base mesh, helpers included.

    bones (N, B): MakeHuman's weights; index (V,), weights (V, 24): the open body's. Each bone
    is shared among the joints as on the skin where both are known.
    """
    shared = bones[index].T @ weights  # (B, 24)
    return unit_rows(bones @ (shared / np.maximum(shared.sum(1, keepdims=True), 1e-9)))


def unit_rows(rows: Doubles) -> Doubles:
    """The same rows (N, C), each of length 1."""
    scaled: Doubles = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def fit(fitting: Fitting, base: Doubles) -> Doubles:
    """The garment's vertices (G, 3) on a base mesh (N, 3), in the units of the base mesh."""
    unit = np.ones(3)
    for axis, (first, second, usual) in enumerate(fitting.scales):
        if usual:
            unit[axis] = abs(base[first, axis] - base[second, axis]) / usual
    placed: Doubles = np.einsum("gk,gkc->gc", fitting.shares, base[fitting.anchors])
    placed += fitting.offsets * unit
    return placed


def bind(points: Doubles, kin: Doubles, skin: Doubles, skin_kin: Doubles) -> Binding:
    """Choose the skin that carries each point: near it, and moved by the same joints.

    points (G, 3), skin (V, 3) in metres in one stance; kin (G, 24), skin_kin (V, 24): rows of
    unit length. The further a point is from the skin, the wider the patch that carries it, so
    that skirts and loose cuffs stay smooth; kinship keeps a sleeve from hanging on the hip.
    """
    distance, index = cKDTree(skin).query(points, min(AROUND, len(skin)))
    related = np.einsum("gc,gkc->gk", kin, skin_kin[index]) ** 2 + STRANGER
    nearest = (distance / related).min(1, keepdims=True)  # the distance that matters is to kin
    width = np.clip(WIDENING * nearest, NARROWEST, WIDEST)
    share = related * np.exp(-(distance**2 - distance[:, :1] ** 2) / (2 * width**2))
    return Binding(index, share / share.sum(1, keepdims=True))


def carry(points: Doubles, binding: Binding, before: Doubles, after: Doubles) -> Doubles:
    """Move points (G, 3) by the rigid motion that fits best to their skin's (Kabsch 1976).

    before, after (V, 3): the same skin, as it was and as it is now.
    """
    old, new = binding.blend(before), binding.blend(after)
    around = before[binding.index] - old[:, None]
    moved = after[binding.index] - new[:, None]
    spread = np.einsum("gk,gka,gkb->gab", binding.share, moved, around)
    u, _, vt = np.linalg.svd(spread)
    handed = np.ones((len(points), 3))
    handed[:, 2] = np.linalg.det(u @ vt)
    rotation = (u * handed[:, None]) @ vt
    placed: Doubles = new + np.einsum("gab,gb->ga", rotation, points - old)
    return placed


# ----------------------------------------------------------------------------------- skin below


def vertex_normals(vertices: Doubles, faces: Ints) -> Doubles:
    """Unit normals (V, 3), each face counted by its area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], cross)
    return unit_rows(total)


def height_above(points: Doubles, vertices: Doubles, faces: Ints) -> tuple[Doubles, Doubles]:
    """Signed distance (G,) of points to a surface, negative inside, and its normal there (G, 3).

    The nearest of the 16 triangles whose middles are nearest; metres.
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


def _nearest_share(points: Doubles, corners: Doubles) -> Doubles:
    """Barycentric coordinates (..., 3) of the nearest point of each triangle (..., 3, 3)."""
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
    nearest: Doubles = np.take_along_axis(options, best[None, ..., None], 0)[0]
    return nearest


def push_out(
    points: Doubles, triangles: Ints, skin: Doubles, skin_faces: Ints, gap: Doubles
) -> Doubles:
    """Garment vertices (G, 3) moved along the skin's normals until they clear it by `gap` (G,).

    Only what is at most DEEPEST inside moves; its neighbours follow a little, against dents.
    """
    mean = _neighbour_mean(triangles, len(points))
    for _ in range(3):
        height, normal = height_above(points, skin, skin_faces)
        push = np.where(height > -DEEPEST, np.maximum(gap - height, 0), 0)
        smooth = mean @ (mean @ push)
        points = points + np.maximum(push, np.minimum(smooth, gap))[:, None] * normal
    return points


def covered_skin(
    skin: Doubles, skin_faces: Ints, points: Doubles, triangles: Ints, reach: float = COVER
) -> Bools:
    """The skin's vertices (V,) whose outward ray, and all their neighbours', meets the garment.

    A garment that lies a little inside the skin counts, as its faces are what shall be seen.
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
    inside = np.minimum(np.minimum(s, t), 1 - s - t) > -1e-6  # rays along an edge meet it
    met = inside & (distance > 0) & (distance < reach)
    uncovered: Bools = ~met.any(1)
    for _ in range(RINGS):
        touched = uncovered[skin_faces].any(1)
        uncovered[skin_faces[touched]] = True
    return ~uncovered


def _neighbour_mean(triangles: Ints, vertices: int) -> sparse.csr_array:
    rows, columns = np.concatenate([triangles, triangles[:, ::-1]]), np.roll(triangles, 1, 1)
    columns = np.concatenate([columns, np.roll(triangles[:, ::-1], 1, 1)])
    size = (vertices, vertices)
    pairs = sparse.csr_array((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=size)
    pairs = (pairs + sparse.eye_array(vertices)).astype(bool).astype(float)
    mean: sparse.csr_array = sparse.diags_array(1 / pairs.sum(1)) @ pairs
    return mean.tocsr()


# ------------------------------------------------------------------------------------- colours


def corner_colours(mesh: Mesh, texture: Colours) -> Colours:
    """RGB (N, 3) of a texture (H, W, 3) at a mesh's vertices, the mean over their quads.

    The texture is averaged over about half an edge first, as finer patterns would turn into
    blotches, and only over pixels that some quad uses. Vertices of no quad are black.
    """
    size = np.array([texture.shape[1], texture.shape[0]])
    place = np.stack([mesh.uv[..., 0], 1 - mesh.uv[..., 1]], -1)[mesh.quad_uv] * size - 0.5
    mask = np.zeros(texture.shape[:2], np.float32)
    for quad in np.round(place).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 1.0)
    edge = np.median(np.linalg.norm(place - np.roll(place, 1, 1), axis=-1))
    width = max(0.5 * float(edge), 0.8)
    layers = np.dstack([texture.astype(np.float32) * mask[..., None], mask])
    smooth = cv2.GaussianBlur(layers, (0, 0), width)
    looked_up = cv2.remap(
        smooth[..., :3] / np.maximum(smooth[..., 3:], 1e-6),
        place[..., 0].astype(np.float32),
        place[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(float)
    total, count = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    np.add.at(total, mesh.quads, looked_up)
    np.add.at(count, mesh.quads, 1)
    mean: Colours = np.round(total / np.maximum(count, 1)[:, None]).astype(np.uint8)
    return mean


def paint_eyes(colours: Colours, index: Ints, v_template: Doubles) -> Colours:
    """The same skin (V, 3) with white eyeballs and dark irises that look ahead."""
    painted = colours.copy()
    eyes = index >= FIRST_EYE
    for side in (v_template[:, 0] > 0, v_template[:, 0] <= 0):
        ball = np.flatnonzero(eyes & side)
        if len(ball):
            middle = (v_template[ball].min(0) + v_template[ball].max(0)) / 2
            aside = v_template[ball] - middle
            radius = np.linalg.norm(aside, axis=1).max()
            iris = (aside[:, 2] > 0) & (np.hypot(aside[:, 0], aside[:, 1]) < IRIS * radius)
            painted[ball] = EYE_WHITE
            painted[ball[iris]] = EYE_DARK
    return painted


def hair_colours(vertices: int, triangles: Ints) -> Colours:
    """Brown hair (G, 3), every lock in a shade of its own."""
    lock = surface_parts(vertices, triangles)
    shade = np.random.default_rng(0).uniform(1 - SHADES, 1 + SHADES, lock.max() + 1)
    colours: Colours = np.round(np.array(HAIR) * shade[lock][:, None]).clip(0, 255).astype(np.uint8)
    return colours


def plain_colours(vertices: int, quads: Ints, palette: Sequence[tuple[int, int, int]]) -> Colours:
    """One colour (G, 3) for each part of a surface, the largest first; the last for all others."""
    part = surface_parts(vertices, quads)
    rank = np.argsort(np.argsort(-np.bincount(part), kind="stable"))
    return np.array(palette, np.uint8)[np.minimum(rank[part], len(palette) - 1)]


def surface_parts(vertices: int, faces: Ints) -> Ints:
    """The number (G,) of the connected part of a surface that each vertex lies in."""
    links = sparse.coo_array(
        (np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, 1).ravel())),
        shape=(vertices, vertices),
    )
    parts: Ints = connected_components(links, directed=False)[1].astype(np.int64)
    return parts


def _read_texture(path: Path) -> Colours:
    texture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if texture is None:
        raise BodyError(f"{path}: is no picture that can be read")
    return cv2.cvtColor(texture, cv2.COLOR_BGR2RGB).astype(np.uint8)


# -------------------------------------------------------------------------------------- pieces


def for_whom(name: str) -> int:
    """1 for women, 0 for men, -1 for both: what a piece's name says."""
    return 1 if name.startswith(FOR_WOMEN) else 0 if name.startswith("male") else -1


def sew(
    name: str, mesh: Mesh, fitting: Fitting, colours: Colours | None, mannequin: Mannequin
) -> Piece:
    """One piece for the open body. colours (G, 3) at the mesh's vertices; None: plain hair.

    The name tells the kind: shoes*, hair_*, or else a suit.
    """
    kind = "shoes" if name.startswith("shoes") else "hair" if name.startswith("hair") else "suit"
    used, triangles = np.unique(mesh.triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int64)
    points = fit(fitting, mannequin.base)[used]
    kin = np.einsum("gk,gkc->gc", np.abs(fitting.shares), mannequin.kin[fitting.anchors])[used]
    skin, skin_kin = mannequin.base[mannequin.index], mannequin.kin[mannequin.index]
    allowed = np.arange(len(skin))
    if kind == "hair":  # it is fixed to the skull, wherever it hangs
        allowed = np.flatnonzero(mannequin.weights[:, HEAD] > 0.9)
        kin = np.broadcast_to(skin_kin[allowed].mean(0), kin.shape)
    local = bind(points, unit_rows(kin), skin[allowed], skin_kin[allowed])
    binding = Binding(allowed[local.index], local.share)
    placed = carry(points, binding, skin, mannequin.v_template)
    hang = hanging(placed, mannequin) if kind == "hair" else np.zeros(len(placed))
    gap = GAP[kind] + LOOSE * hang
    placed = push_out(placed, triangles, mannequin.v_template, mannequin.faces, gap)
    weights = binding.blend(mannequin.weights)
    shapedirs = binding.blend(mannequin.shapedirs)
    if kind == "hair":
        alike = np.ones((len(skin), 1))
        below = bind(placed, np.ones((len(placed), 1)), mannequin.v_template, alike)
        weights = np.zeros((len(placed), JOINT_COUNT))
        weights[:, HEAD], weights[:, CHEST] = 1 - hang, hang
        shapedirs += hang[:, None, None] * (below.blend(mannequin.shapedirs) - shapedirs)
    if kind == "shoes":
        lower = np.isin(np.arange(JOINT_COUNT), FEET)
        weights = weights * lower / np.maximum((weights * lower).sum(1, keepdims=True), 1e-9)
        placed = pull_socks(placed, weights, mannequin)
    hides = np.isin(mannequin.index, fitting.covered)
    hides |= covered_skin(mannequin.v_template, mannequin.faces, placed, triangles)
    if kind == "hair":
        hides[:] = False
    return Piece(
        name=name,
        kind=kind,
        female=for_whom(name),
        held_out=name in HELD_OUT,
        v_template=placed.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        weights=weights.astype(np.float32),
        faces=triangles,
        colours=hair_colours(len(used), triangles) if colours is None else colours[used],
        hides=hides,
    )


def hanging(points: Doubles, mannequin: Mannequin) -> Doubles:
    """How far each point (G,) of T-posed hair follows the chest rather than the head: 0..1."""
    head = mannequin.weights[:, HEAD] > 0.9
    floor = mannequin.v_template[head, 1].min()  # the chin
    start, end = HANG
    share: Doubles = np.clip((floor - start - points[:, 1]) / (end - start), 0, 1)
    return share


def pull_socks(points: Doubles, weights: Doubles, mannequin: Mannequin) -> Doubles:
    """Shoes (G, 3) whose part on the shin lies as close to the skin as a sock."""
    height, normal = height_above(points, mannequin.v_template, mannequin.faces)
    shin = weights[:, list(SHINS)].sum(1)
    allowed = SOCK + (1 - shin) * DEEPEST
    pulled: Doubles = points - np.maximum(height - allowed, 0)[:, None] * normal
    return pulled


def make_wardrobe(makehuman: Path, clothes: Path, skins: Path, body: Path) -> Wardrobe:
    """Everything in the folders, cut for a body made from MakeHuman's mesh.

    makehuman: its data folder `mpfb2`; clothes: a folder of folders, each with one mhclo, its
    obj and perhaps *_diffuse.png; skins: a folder of *_diffuse*.png whose names say female or
    male; body: an npz with SMPL's arrays and `makehuman_index` (V,).

    Raises BodyError for anything that is missing or of another kind.
    """
    arrays = load_body(body)
    origin = read_npz(body, ["makehuman_index"]).get("makehuman_index")
    if origin is None or origin.shape != arrays.v_template.shape[:1]:
        raise BodyError(f"{body}: has no makehuman_index; only the open body can be dressed")
    index = origin.astype(np.int64)
    v_template = arrays.v_template.astype(float)
    base = read_mesh(makehuman / "3dobjs" / "base.obj")
    weights = arrays.weights.astype(float)
    kin = base_kin(read_base_bones(makehuman, len(base.vertices)), index, weights)
    mannequins = {
        female: Mannequin(
            base=read_base_shape(makehuman, base.vertices, male) * DECIMETRE,
            kin=kin,
            index=index,
            v_template=v_template,
            shapedirs=arrays.shapedirs.astype(float),
            weights=weights,
            faces=arrays.faces,
        )
        for female, male in ((1, 0.0), (0, 1.0), (-1, 0.5))
    }
    textures = sorted(skins.glob("*_diffuse*.png"))
    names = [path.stem.replace("_diffuse", "") for path in textures]
    painted = [
        paint_eyes(corner_colours(base, _read_texture(path))[index], index, v_template)
        for path in textures
    ]
    if not painted:
        raise BodyError(f"{skins}: holds no *_diffuse*.png; no skin can be made")
    return Wardrobe(
        skins=np.stack(painted),
        skin_names=tuple(names),
        skin_female=np.array(["female" in name for name in names]),
        skin_held_out=np.array([name in HELD_OUT for name in names]),
        pieces=tuple(_sew_all(sorted(clothes.glob("*/*.mhclo")), mannequins)),
    )


def _sew_all(files: Iterable[Path], mannequins: dict[int, Mannequin]) -> Iterable[Piece]:
    for path in files:
        name = path.parent.name
        mesh, fitting = read_mesh(path.with_suffix(".obj")), read_fitting(path)
        if len(mesh.vertices) != len(fitting.anchors):
            raise BodyError(f"{path}: places other vertices than its obj has; get both again")
        if fitting.anchors.max() >= len(mannequins[-1].base):
            raise BodyError(f"{path}: hangs on another base mesh than MakeHuman's hm08")
        texture = next(iter(sorted(path.parent.glob("*_diffuse*.png"))), None)
        colours = None if texture is None else corner_colours(mesh, _read_texture(texture))
        if name in PLAIN:
            colours = plain_colours(len(mesh.vertices), mesh.quads, PLAIN[name])
        yield sew(name, mesh, fitting, colours, mannequins[for_whom(name)])


def write_wardrobe(wardrobe: Wardrobe, path: Path) -> None:
    """Write the npz that `read_wardrobe` reads. Raises OutputError where it cannot be written."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **wardrobe_arrays(wardrobe))
