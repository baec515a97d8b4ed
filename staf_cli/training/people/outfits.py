"""Random dressed people: body, clothes, hair and colours as one mesh.

Colours are linear here, as sRGB values squared: near enough, and cheap in both directions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import BodyError
from staf_cli.training.chance import chance, choose, colour, direction, normal, uniform
from staf_cli.training.people.wardrobe import Piece, Wardrobe
from staf_cli.training.studio.splatting import vertex_normals

# The part that a vertex belongs to; each part has its own pattern.
SKIN, TOP, BOTTOM, SHOES, HAIR = range(5)
PARTS = 5

HIP, SPINE, ANKLE, NECK, HEAD, SHOULDER, WRIST = 1, 3, 7, 12, 15, 16, 20  # joints

HAIR_COLOURS = (
    (0.07, 0.06, 0.06),
    (0.15, 0.10, 0.07),
    (0.28, 0.18, 0.11),
    (0.48, 0.33, 0.19),
    (0.74, 0.60, 0.38),
    (0.50, 0.22, 0.12),
    (0.55, 0.55, 0.55),
    (0.85, 0.85, 0.83),
)  # sRGB

PAINTED = 0.3  # share of people whose clothes are painted on the body
CUT = 0.35  # share of suits whose sleeves or legs are cut shorter
PATTERN_NUMBERS = 22

# Wave vectors of folds in cloth, 1/m: waves 8 to 20 cm long in three directions.
FOLDS = torch.tensor([[35.0, -18.0, 47.0], [60.0, 41.0, -22.0], [21.0, 70.0, 38.0]])


@dataclass(frozen=True, eq=False)
class BodyTensors:
    """The body on one device, with the 31 points that labels are made of."""

    template: Tensor  # (V, 3) m
    shapedirs: Tensor  # (V, 3, 10)
    weights: Tensor  # (V, 24)
    faces: Tensor  # (M, 3) int64
    joint_regressor: Tensor  # (24, V)
    point_regressor: Tensor  # (31, V): 14 LSP joints, then 17 COCO keypoints
    joints: Tensor  # (24, 3) m, of the mean shape


@dataclass(frozen=True, eq=False)
class PieceTensors:
    """A piece of the wardrobe on one device."""

    kind: str
    female: int
    template: Tensor  # (G, 3) m
    shapedirs: Tensor  # (G, 3, 10)
    weights: Tensor  # (G, 24)
    faces: Tensor  # (F, 3) int64
    colours: Tensor  # (G, 3) linear RGB
    hides: Tensor  # (V,) bool


@dataclass(frozen=True, eq=False)
class WardrobeTensors:
    """The wardrobe on one device."""

    skins: Tensor  # (S, V, 3) linear RGB
    skin_female: tuple[bool, ...]  # (S,)
    pieces: tuple[PieceTensors, ...]


@dataclass(frozen=True, eq=False)
class DressedPerson:
    """A dressed person of one shape at rest, as one mesh: V vertices, M faces."""

    betas: Tensor  # (10,)
    joints: Tensor  # (24, 3) m at rest
    vertices: Tensor  # (V, 3) m at rest
    normals: Tensor  # (V, 3)
    weights: Tensor  # (V, 24)
    faces: Tensor  # (M, 3) int64
    two_sided: Tensor  # (M,) bool: open surfaces, seen from inside too
    colours: Tensor  # (V, 3) linear RGB
    part: Tensor  # (V,) int64, SKIN to HAIR
    patterns: Tensor  # (PARTS, PATTERN_NUMBERS), see `paint`


def body_tensors(body: BodyArrays, device: torch.device) -> BodyTensors:
    """Copy a body to a device.

    Returns:
        The body's arrays as tensors.

    Raises:
        BodyError: The body has no LSP or COCO points, which labels need.
    """
    if body.lsp14_regressor is None or body.coco17_regressor is None:
        raise BodyError("the body has no LSP or COCO points; use the open body")
    points = np.concatenate([body.lsp14_regressor, body.coco17_regressor])
    return BodyTensors(
        template=_tensor(body.v_template, device),
        shapedirs=_tensor(body.shapedirs, device),
        weights=_tensor(body.weights, device),
        faces=_tensor(body.faces, device),
        joint_regressor=_tensor(body.J_regressor, device),
        point_regressor=_tensor(points, device),
        joints=_tensor(body.J_regressor @ body.v_template, device),
    )


def wardrobe_tensors(wardrobe: Wardrobe, device: torch.device) -> WardrobeTensors:
    """Copy a wardrobe to a device, its colours made linear."""
    return WardrobeTensors(
        skins=_linear(wardrobe.skins, device),
        skin_female=tuple(bool(female) for female in wardrobe.skin_female),
        pieces=tuple(_piece_tensors(piece, device) for piece in wardrobe.pieces),
    )


def random_betas(generator: torch.Generator) -> Tensor:
    """Draw a shape (10,) from N(0, 1), no component beyond 2.5."""
    return torch.randn(10, generator=generator).clamp(-2.5, 2.5)


@dataclass(frozen=True)
class Hems:
    """Where clothes end in the rest pose, m; the body's left arm is along +x."""

    sleeve: float  # |x|
    leg: float  # y
    waist: float  # y
    neck: float  # y
    hip: float  # y, between arms and legs

    def beyond(self, places: Tensor) -> Tensor:
        """Find the arms outside the sleeves and the legs below the trousers.

        Args:
            places: (N, 3) m, points of the rest pose.

        Returns:
            (N,) bool.
        """
        x, y, _ = places.unbind(-1)
        return ((x.abs() > self.sleeve) & (y > self.hip)) | (y < self.leg)

    def clothed(self, places: Tensor, shirt: bool) -> Tensor:
        """Find what is under the trousers, and under the shirt if there is one.

        Args:
            places: (N, 3) m, points of the rest pose.
            shirt: Whether there is one.

        Returns:
            (N,) bool.
        """
        y = places[:, 1]
        return ~self.beyond(places) & (y < (self.neck if shirt else self.waist))

    def half(self, places: Tensor) -> Tensor:
        """Divide clothes into the parts TOP and BOTTOM.

        Args:
            places: (N, 3) m, points of the rest pose.

        Returns:
            (N,) int64, the parts.
        """
        low = (places[:, 1] < self.waist) & (places[:, 0].abs() < 0.35)
        return torch.where(low, BOTTOM, TOP)


@dataclass(frozen=True, eq=False)
class _Worn:
    """A piece that a person wears: its faces that are kept, and the part of each vertex."""

    piece: PieceTensors
    faces: Tensor  # (F, 3)
    part: Tensor  # (G,)


@dataclass(eq=False)
class _Draft:
    """A person while they are dressed; V vertices of the body."""

    vertices: Tensor  # (V, 3) m, moved outward below painted clothes and hair
    normals: Tensor  # (V, 3)
    part: Tensor  # (V,)
    hidden: Tensor  # (V,) bool, covered by a piece
    worn: list[_Worn]


def dress(
    body: BodyTensors, wardrobe: WardrobeTensors, betas: Tensor, generator: torch.Generator
) -> DressedPerson:
    """Make a person of a given shape in random skin, hair, clothes and colours.

    Clothes are a suit of the wardrobe, sometimes with cut sleeves or legs, or colours painted on
    the body, which is moved outward a little. Women's clothes are for shapes that look like
    women's: betas 1 and 2 indicate it, with much randomness.

    Args:
        body: The body to dress.
        wardrobe: What it may wear; on the body's device.
        betas: (10,), on any device.
        generator: On the CPU.

    Returns:
        The person, on the body's device; `betas` on the CPU.
    """
    device = body.template.device
    betas = betas.cpu()
    female = float(betas[2] - betas[1]) + normal(generator, 1.0) > 0
    hems = _random_hems(body.joints.cpu(), generator)
    shaped = body.template + body.shapedirs @ betas.to(device)  # (V, 3)
    skin = _skin(wardrobe, female, generator)
    draft = _Draft(
        vertices=shaped,
        normals=vertex_normals(shaped, body.faces),
        part=torch.full((len(shaped),), SKIN, device=device),
        hidden=torch.zeros(len(shaped), dtype=torch.bool, device=device),
        worn=[],
    )
    _put_on_clothes(draft, body, _choices(wardrobe, "suit", female), hems, generator)
    _put_on_shoes(draft, body, _choices(wardrobe, "shoes", female), generator)
    _put_on_hair(draft, body, _choices(wardrobe, "hair", female), generator)

    dyes = [colour(generator) for _ in range(PARTS)]
    dyes[HAIR] = _hair_colour(generator)
    dye = torch.stack(dyes).to(device)
    painted = dye[draft.part] * (0.9 + 0.1 * skin / skin.mean().clamp(min=1e-3))
    colours = torch.where((draft.part == SKIN)[:, None], skin, painted)
    return _merge(draft, body, betas, colours, dye, generator)


def _put_on_clothes(
    draft: _Draft,
    body: BodyTensors,
    suits: list[PieceTensors],
    hems: Hems,
    generator: torch.Generator,
) -> None:
    """Put on a suit, or paint clothes on the body."""
    if suits and not chance(generator, PAINTED):
        suit = choose(generator, suits)
        faces, covers = suit.faces, suit.hides
        if chance(generator, CUT):
            faces = faces[~hems.beyond(suit.template)[faces].any(1)]
            covers = covers & ~hems.beyond(body.template)
        draft.worn.append(_Worn(suit, faces, hems.half(suit.template)))
        draft.hidden = draft.hidden | covers
    else:
        clothed = hems.clothed(body.template, shirt=not chance(generator, 0.08))
        draft.part = torch.where(clothed, hems.half(body.template), draft.part)
        top, bottom = (uniform(generator, 0.001, 0.014) for _ in range(2))
        thickness = torch.tensor([0, top, bottom, 0, 0]).to(draft.part.device)
        draft.vertices = draft.vertices + draft.normals * thickness[draft.part][:, None]


def _put_on_shoes(
    draft: _Draft, body: BodyTensors, shoes: list[PieceTensors], generator: torch.Generator
) -> None:
    """Put on shoes, paint them on the body, or leave the feet bare."""
    feet = body.template[:, 1] < float(body.joints[ANKLE, 1]) + uniform(generator, -0.03, 0.12)
    if shoes and chance(generator, 0.75):
        pair = choose(generator, shoes)
        draft.worn.append(_Worn(pair, pair.faces, _all_of(SHOES, pair)))
        draft.hidden = draft.hidden | pair.hides
    elif chance(generator, 0.75):
        draft.part = torch.where(feet, SHOES, draft.part)


def _put_on_hair(
    draft: _Draft, body: BodyTensors, hair: list[PieceTensors], generator: torch.Generator
) -> None:
    """Put on hair, paint short hair or a cap on the scalp, or leave the head bald."""
    if hair and chance(generator, 0.75):
        style = choose(generator, hair)
        draft.worn.append(_Worn(style, style.faces, _all_of(HAIR, style)))
    elif chance(generator, 0.85):
        scalp = _scalp(body, generator)
        draft.part = torch.where(scalp, HAIR, draft.part)
        thickness = uniform(generator, 0.002, 0.02)
        outward = draft.vertices + draft.normals * thickness
        draft.vertices = torch.where(scalp[:, None], outward, draft.vertices)


def _all_of(part: int, piece: PieceTensors) -> Tensor:
    """Return the same part for every vertex of a piece: (G,)."""
    return torch.full((len(piece.template),), part, device=piece.template.device)


def _merge(
    draft: _Draft,
    body: BodyTensors,
    betas: Tensor,
    colours: Tensor,
    dye: Tensor,
    generator: torch.Generator,
) -> DressedPerson:
    """Join the visible body and everything worn into one mesh; colours (V, 3), dye (PARTS, 3)."""
    device = body.template.device
    on_device = betas.to(device)
    body_faces = body.faces[~draft.hidden[body.faces].all(1)]
    used = torch.zeros(len(draft.vertices), dtype=torch.bool, device=device)
    used[body_faces.reshape(-1)] = True
    renumber = used.cumsum(0) - 1
    vertices, normals = [draft.vertices[used]], [draft.normals[used]]
    weights, faces = [body.weights[used]], [renumber[body_faces]]
    all_colours, parts = [colours[used]], [draft.part[used]]
    count = len(vertices[0])
    for worn in draft.worn:
        piece = worn.piece
        shaped = piece.template + piece.shapedirs @ on_device
        vertices.append(shaped)
        normals.append(vertex_normals(shaped, piece.faces))
        weights.append(piece.weights)
        faces.append(worn.faces + count)
        all_colours.append(_dyed(piece.colours, worn.part, dye, generator))
        parts.append(worn.part)
        count += len(shaped)
    all_faces = torch.cat(faces)
    return DressedPerson(
        betas=betas,
        joints=body.joint_regressor @ (body.template + body.shapedirs @ on_device),
        vertices=torch.cat(vertices),
        normals=torch.cat(normals),
        weights=torch.cat(weights),
        faces=all_faces,
        two_sided=torch.arange(len(all_faces), device=device) >= len(body_faces),
        colours=torch.cat(all_colours).clamp(0, 1),
        part=torch.cat(parts),
        patterns=_random_patterns(generator).to(device),
    )


def paint(places: Tensor, colours: Tensor, patterns: Tensor) -> Tensor:
    """Add patterns and folds to colours.

    Args:
        places: (H, 3) m, points of the rest pose.
        colours: (H, 3) linear RGB.
        patterns: (H, PATTERN_NUMBERS): how much of stripes, checks and blobs (3), threshold,
            sharpness, strength, second colour (3), three wave vectors (9), three phases (3),
            depth of the folds.

    Returns:
        (H, 3) linear RGB.
    """
    mixture, second = patterns[:, :3], patterns[:, 6:9]
    threshold, sharpness, strength = patterns[:, 3:6].unbind(-1)
    phase = (patterns[:, 9:18].view(-1, 3, 3) @ places[..., None])[..., 0] + patterns[:, 18:21]
    one, two, three = phase.sin().unbind(-1)
    blobs = ((phase[:, 0] + 1.7 * two).sin() + two + three) / 1.8
    wave = (mixture * torch.stack([one, one * two, blobs], -1)).sum(-1)
    share = strength * torch.sigmoid(sharpness * (wave - threshold))
    folds = (places @ FOLDS.to(places.device)).sin().unbind(-1)
    shade = 1 + patterns[:, 21] * (folds[0] + folds[1]) * folds[2]
    return torch.lerp(colours, second, share[:, None]) * shade[:, None]


def _random_hems(joints: Tensor, generator: torch.Generator) -> Hems:
    """Draw where clothes end, from joints (24, 3) m at rest."""
    sleeves = ((-0.1, 0.05), (0.25, 0.5), (0.25, 0.5), (0.5, 0.9), (0.95, 1.0))
    legs = ((0.12, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.0), (0.95, 1.0))
    sleeve = uniform(generator, *choose(generator, sleeves))
    leg = uniform(generator, *choose(generator, legs))
    return Hems(
        sleeve=float(torch.lerp(joints[SHOULDER, 0], joints[WRIST, 0], sleeve)),
        leg=float(torch.lerp(joints[HIP, 1], joints[ANKLE, 1], leg)),
        waist=float(joints[SPINE, 1]) + uniform(generator, -0.12, 0.02),
        neck=float(joints[NECK, 1]) + uniform(generator, -0.04, 0.04),
        hip=float(joints[HIP, 1]),
    )


def _choices(wardrobe: WardrobeTensors, kind: str, female: bool) -> list[PieceTensors]:
    """Return the pieces of a kind that a woman or a man may wear."""
    return [p for p in wardrobe.pieces if p.kind == kind and p.female in (-1, int(female))]


def _skin(wardrobe: WardrobeTensors, female: bool, generator: torch.Generator) -> Tensor:
    """Draw a skin (V, 3) and vary its tone towards darker and redder."""
    own = [i for i, its in enumerate(wardrobe.skin_female) if its == female]
    skin = wardrobe.skins[choose(generator, own or list(range(len(wardrobe.skins))))]
    tone = uniform(generator, 0.35, 1.2)
    gain = torch.tensor([tone**0.8, tone, tone**1.25]) * uniform(generator, 0.85, 1.1)
    return skin * gain.to(skin.device)


def _scalp(body: BodyTensors, generator: torch.Generator) -> Tensor:
    """Draw which vertices (V,) short hair or a cap covers: bool."""
    tilt = torch.tensor([0.0, 1.0, -uniform(generator, 0.4, 1.2)])
    head = body.joints[HEAD] + torch.tensor([0.0, 0.07, 0.02], device=body.joints.device)
    above = (body.template - head) @ (tilt / tilt.norm()).to(head.device)
    high = above > uniform(generator, 0.0, 0.05)
    return torch.logical_and(high, body.weights[:, HEAD] > 0.5)


def _hair_colour(generator: torch.Generator) -> Tensor:
    """Draw a hair's colour (3,), linear RGB."""
    if chance(generator, 0.1):
        return colour(generator)  # a cap, or dyed
    natural = torch.tensor(choose(generator, HAIR_COLOURS)) * uniform(generator, 0.7, 1.3)
    return torch.square(natural.clamp(0, 1))


def _dyed(colours: Tensor, part: Tensor, dye: Tensor, generator: torch.Generator) -> Tensor:
    """Return a piece's own colours (G, 3), or its dye with the light and dark of its texture."""
    if chance(generator, 0.25):
        return colours
    light = colours.mean(1, keepdim=True)
    contrast = uniform(generator, 0.2, 0.8)
    texture = 1 - contrast + contrast * (light / light.mean().clamp(min=1e-3)).clamp(0.2, 2.0)
    return dye[part] * texture


def _random_patterns(generator: torch.Generator) -> Tensor:
    """Draw patterns (PARTS, PATTERN_NUMBERS): none on skin and hair, on half of the other parts."""
    rows = torch.zeros(PARTS, PATTERN_NUMBERS)
    rows[HAIR, 21] = 0.1
    for part in (TOP, BOTTOM, SHOES):
        rows[part, 21] = uniform(generator, 0.0, 0.14)
        if chance(generator, 0.5):
            continue
        rows[part, int(torch.randint(3, (), generator=generator))] = 1
        rows[part, 3] = uniform(generator, -0.4, 0.8)
        rows[part, 4] = uniform(generator, 3, 20)
        rows[part, 5] = uniform(generator, 0.3, 1.0)
        rows[part, 6:9] = colour(generator)
        wave = 2 * torch.pi / uniform(generator, 0.025, 0.25)  # 1/m
        up, right = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
        if chance(generator, 0.3):
            up = direction(generator)
        elif chance(generator, 0.4):
            up, right = right, up
        across = torch.linalg.cross(up, direction(generator))
        rows[part, 9:18] = wave * torch.cat([up, right, across])
        rows[part, 18:21] = 2 * torch.pi * torch.rand(3, generator=generator)
    return rows


def _piece_tensors(piece: Piece, device: torch.device) -> PieceTensors:
    """Copy a piece to a device."""
    return PieceTensors(
        kind=piece.kind,
        female=piece.female,
        template=_tensor(piece.v_template, device),
        shapedirs=_tensor(piece.shapedirs, device),
        weights=_tensor(piece.weights, device),
        faces=_tensor(piece.faces, device),
        colours=_linear(piece.colours, device),
        hides=_tensor(piece.hides, device),
    )


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _linear(colours: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Convert sRGB bytes to linear RGB."""
    scaled = _tensor(colours, device).float() / 255
    return scaled * scaled
