"""Clothes, shoes, hair and skins for the open body, made from MakeHuman's.

Steps for each piece:

    place       put it on MakeHuman's base mesh, in MakeHuman's pose, as its mhclo file describes
    move        bring each vertex to the T-pose by the rigid motion of the skin around it
    push out    move vertices that are inside the skin out of it
    weights     take skinning weights and blend shapes from the same skin
    hide        find the skin that cannot be seen below the piece
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from staf_cli.body.format import JOINT_COUNT, load_body, read_npz
from staf_cli.core.errors import BodyError
from staf_cli.core.records import Float, Ints
from staf_cli.training.people.garment_colours import (
    Colours,
    hair_colours,
    paint_eyes,
    plain_colours,
    read_texture,
    vertex_colours,
)
from staf_cli.training.people.garment_fitting import (
    DEEPEST,
    Binding,
    base_influence,
    bind,
    covered_skin,
    height_above,
    move_with_skin,
    place_on_base,
    push_out,
    unit_rows,
)
from staf_cli.training.people.makehuman import (
    DECIMETRE,
    Fitting,
    Mesh,
    read_base_shape,
    read_base_weights,
    read_fitting,
    read_mesh,
)
from staf_cli.training.people.wardrobe import Piece, Wardrobe

PLAIN = {  # garments whose texture fits another mesh: colours of their parts, by size
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
SHINS = (4, 5)  # joints that move the shins: the knees
FEET = (*SHINS, 7, 8, 10, 11)  # joints that move shoes, from the ball of the foot up the shin

GAP = {"suit": 0.006, "shoes": 0.004, "hair": 0.006}  # m outside of the skin, at least
SOCK = 0.002  # m from the skin to a sock, so that trousers are outside of it
CHEST_RANGE = (0.0, 0.2)  # m below the chin where hair begins to follow the chest, and only it
LOOSE = 0.02  # m more for hair on the chest and back, which is on a garment


@dataclass(frozen=True, eq=False)
class TargetBody:
    """The open body in T-pose, and the base mesh of one shape in MakeHuman's pose; m, y up."""

    base: Float  # (N, 3) the base mesh
    influence: Float  # (N, 24) how much SMPL's joints move it, rows of length 1; helpers too
    index: Ints  # (V,) vertex of the base mesh for each of the open body's
    v_template: Float  # (V, 3) T-pose
    shapedirs: Float  # (V, 3, 10)
    weights: Float  # (V, 24)
    faces: Ints  # (F, 3)


def female_flag(name: str) -> int:
    """Return who a piece is for by its name: 1 for women, 0 for men, -1 for both."""
    return 1 if name.startswith(FOR_WOMEN) else 0 if name.startswith("male") else -1


def make_piece(
    name: str, mesh: Mesh, fitting: Fitting, colours: Colours | None, body: TargetBody
) -> Piece:
    """Make one piece of the wardrobe.

    Args:
        name: Begins with shoes or hair for these kinds; anything else is a suit.
        mesh: The piece's G vertices and quads; only its quads count.
        fitting: Where its vertices are on the base mesh.
        colours: (G, 3) RGB; None for plain hair.
        body: The body that will wear it.

    Returns:
        The piece in T-pose, without vertices that no quad uses.
    """
    kind = "shoes" if name.startswith("shoes") else "hair" if name.startswith("hair") else "suit"
    used, triangles = np.unique(mesh.triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int64)
    points = place_on_base(fitting, body.base)[used]
    shares = np.abs(fitting.shares)
    influence = np.einsum("gk,gkc->gc", shares, body.influence[fitting.anchors])[used]
    binding = _bind_to_body(kind, points, influence, body)
    placed = move_with_skin(points, binding, body.base[body.index], body.v_template)
    on_chest = chest_share(placed, body) if kind == "hair" else np.zeros(len(placed))
    gap = GAP[kind] + LOOSE * on_chest
    placed = push_out(placed, triangles, body.v_template, body.faces, gap)
    weights, shapedirs = binding.blend(body.weights), binding.blend(body.shapedirs)
    if kind == "hair":
        weights, shapedirs = _follow_head_and_chest(placed, shapedirs, on_chest, body)
    if kind == "shoes":
        lower = np.isin(np.arange(JOINT_COUNT), FEET)
        weights = weights * lower / np.maximum((weights * lower).sum(1, keepdims=True), 1e-9)
        placed = tighten_on_shins(placed, weights, body)
    hides = np.isin(body.index, fitting.covered)
    hides |= covered_skin(body.v_template, body.faces, placed, triangles)
    if kind == "hair":
        hides[:] = False
    return Piece(
        name=name,
        kind=kind,
        female=female_flag(name),
        held_out=name in HELD_OUT,
        v_template=placed.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        weights=weights.astype(np.float32),
        faces=triangles,
        colours=hair_colours(len(used), triangles) if colours is None else colours[used],
        hides=hides,
    )


def _bind_to_body(kind: str, points: Float, influence: Float, body: TargetBody) -> Binding:
    """Bind points (G, 3) in MakeHuman's pose to the skin; hair to the skull only."""
    skin, skin_influence = body.base[body.index], body.influence[body.index]
    allowed = np.arange(len(skin))
    if kind == "hair":
        allowed = np.flatnonzero(body.weights[:, HEAD] > 0.9)
        influence = np.broadcast_to(skin_influence[allowed].mean(0), influence.shape)
    local = bind(points, unit_rows(influence), skin[allowed], skin_influence[allowed])
    return Binding(allowed[local.index], local.share)


def chest_share(points: Float, body: TargetBody) -> Float:
    """Compute how far hair follows the chest rather than the head.

    Args:
        points: (G, 3) m, the hair in T-pose.
        body: The body that wears it.

    Returns:
        (G,) from 0, the head only, to 1, the chest only.
    """
    head = body.weights[:, HEAD] > 0.9
    chin = body.v_template[head, 1].min()
    start, end = CHEST_RANGE
    share: Float = np.clip((chin - start - points[:, 1]) / (end - start), 0, 1)
    return share


def _follow_head_and_chest(
    points: Float, shapedirs: Float, on_chest: Float, body: TargetBody
) -> tuple[Float, Float]:
    """Return the skinning weights (G, 24) and blend shapes (G, 3, 10) of hair."""
    alike = np.ones((len(body.v_template), 1))
    below = bind(points, np.ones((len(points), 1)), body.v_template, alike)
    weights = np.zeros((len(points), JOINT_COUNT))
    weights[:, HEAD], weights[:, CHEST] = 1 - on_chest, on_chest
    change = below.blend(body.shapedirs) - shapedirs
    return weights, shapedirs + on_chest[:, None, None] * change


def tighten_on_shins(points: Float, weights: Float, body: TargetBody) -> Float:
    """Move the part of shoes that is on the shins to the skin, as close as a sock.

    Args:
        points: (G, 3) m, the shoes in T-pose.
        weights: (G, 24) their skinning weights.
        body: The body that wears them.

    Returns:
        (G, 3) m.
    """
    height, normal = height_above(points, body.v_template, body.faces)
    shin = weights[:, list(SHINS)].sum(1)
    allowed = SOCK + (1 - shin) * DEEPEST
    pulled: Float = points - np.maximum(height - allowed, 0)[:, None] * normal
    return pulled


def make_wardrobe(makehuman: Path, clothes: Path, skins: Path, body: Path) -> Wardrobe:
    """Make everything in the folders for a body that was made from MakeHuman's mesh.

    Args:
        makehuman: The folder `mpfb2` of MakeHuman's data.
        clothes: A folder of folders, each with one mhclo, its obj and perhaps *_diffuse.png.
        skins: A folder of *_diffuse*.png whose names contain female or male.
        body: An npz with SMPL's arrays and `makehuman_index` (V,).

    Returns:
        All skins and pieces, sorted by their files' names.

    Raises:
        BodyError: Something is missing or of another kind.
    """
    arrays = load_body(body)
    origin = read_npz(body, ["makehuman_index"]).get("makehuman_index")
    if origin is None or origin.shape != arrays.v_template.shape[:1]:
        raise BodyError(f"{body}: has no makehuman_index; only the open body can be dressed")
    index = origin.astype(np.int64)
    v_template = arrays.v_template.astype(float)
    base = read_mesh(makehuman / "3dobjs" / "base.obj")
    weights = arrays.weights.astype(float)
    bones = read_base_weights(makehuman, len(base.vertices))
    influence = base_influence(bones, index, weights)
    bodies = {
        female: TargetBody(
            base=read_base_shape(makehuman, base.vertices, male) * DECIMETRE,
            influence=influence,
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
        paint_eyes(vertex_colours(base, read_texture(path))[index], index, v_template)
        for path in textures
    ]
    if not painted:
        raise BodyError(f"{skins}: holds no *_diffuse*.png; no skin can be made")
    return Wardrobe(
        skins=np.stack(painted),
        skin_names=tuple(names),
        skin_female=np.array(["female" in name for name in names]),
        skin_held_out=np.array([name in HELD_OUT for name in names]),
        pieces=tuple(_make_pieces(sorted(clothes.glob("*/*.mhclo")), bodies)),
    )


def _make_pieces(files: list[Path], bodies: dict[int, TargetBody]) -> Iterator[Piece]:
    """Make one piece from each mhclo file; bodies by what `female_flag` returns."""
    for path in files:
        name = path.parent.name
        mesh, fitting = read_mesh(path.with_suffix(".obj")), read_fitting(path)
        if len(mesh.vertices) != len(fitting.anchors):
            raise BodyError(f"{path}: places other vertices than its obj has; get both again")
        if fitting.anchors.max() >= len(bodies[-1].base):
            raise BodyError(f"{path}: hangs on another base mesh than MakeHuman's hm08")
        texture = next(iter(sorted(path.parent.glob("*_diffuse*.png"))), None)
        colours = None if texture is None else vertex_colours(mesh, read_texture(texture))
        if name in PLAIN:
            colours = plain_colours(len(mesh.vertices), mesh.quads, PLAIN[name])
        yield make_piece(name, mesh, fitting, colours, bodies[female_flag(name)])
