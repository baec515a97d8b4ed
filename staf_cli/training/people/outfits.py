"""Who a synthetic person is and what they wear: a body, its clothes and colours as one mesh.

Colours are linear here: sRGB values squared, which is near enough and cheap both ways.
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

# What a vertex belongs to; each part has its own pattern.
SKIN, TOP, BOTTOM, SHOES, HAIR = range(5)
PARTS = 5

HIP, SPINE, ANKLE, TOES, NECK, HEAD, SHOULDER, WRIST = 1, 3, 7, 10, 12, 15, 16, 20  # joints

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

PAINTED = 0.3  # share of people whose clothes are colours on the body
CUT = 0.35  # share of suits with shorter sleeves or legs than they were made with
PATTERN_NUMBERS = 22


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The body as tensors on one device, with the 31 points that labels are made of."""

    template: Tensor  # (V, 3) m
    shapedirs: Tensor  # (V, 3, 10)
    weights: Tensor  # (V, 24)
    faces: Tensor  # (M, 3) int64
    joint_regressor: Tensor  # (24, V)
    point_regressor: Tensor  # (31, V): 14 LSP joints, then 17 COCO keypoints
    joints: Tensor  # (24, 3) m, of the mean shape


@dataclass(frozen=True, eq=False)
class Cloth:
    """A piece of the wardrobe as tensors on one device."""

    kind: str
    female: int
    template: Tensor  # (G, 3) m
    shapedirs: Tensor  # (G, 3, 10)
    weights: Tensor  # (G, 24)
    faces: Tensor  # (F, 3) int64
    colours: Tensor  # (G, 3) linear RGB
    hides: Tensor  # (V,) bool


@dataclass(frozen=True, eq=False)
class Closet:
    """Everything people can wear, on one device."""

    skins: Tensor  # (S, V, 3) linear RGB
    skin_female: tuple[bool, ...]  # (S,)
    cloths: tuple[Cloth, ...]


@dataclass(frozen=True, eq=False)
class Figure:
    """A dressed person of one shape in the rest pose: V vertices, M faces."""

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


def anatomy(body: BodyArrays, device: torch.device) -> Anatomy:
    """The body's tensors. Raises BodyError where it lacks the points that labels need."""
    if body.lsp14_regressor is None or body.coco17_regressor is None:
        raise BodyError("the body has no LSP or COCO points; use the open body")
    points = np.concatenate([body.lsp14_regressor, body.coco17_regressor])
    return Anatomy(
        template=_tensor(body.v_template, device),
        shapedirs=_tensor(body.shapedirs, device),
        weights=_tensor(body.weights, device),
        faces=_tensor(body.faces, device),
        joint_regressor=_tensor(body.J_regressor, device),
        point_regressor=_tensor(points, device),
        joints=_tensor(body.J_regressor @ body.v_template, device),
    )


def closet(wardrobe: Wardrobe, device: torch.device) -> Closet:
    """The wardrobe's tensors."""
    return Closet(
        skins=_linear(wardrobe.skins, device),
        skin_female=tuple(bool(female) for female in wardrobe.skin_female),
        cloths=tuple(_cloth(piece, device) for piece in wardrobe.pieces),
    )


def random_betas(generator: torch.Generator) -> Tensor:
    """A shape (10,) from N(0, 1), no component beyond 2.5."""
    return torch.randn(10, generator=generator).clamp(-2.5, 2.5)


def dress(who: Anatomy, closet: Closet, betas: Tensor, generator: torch.Generator) -> Figure:
    """A person of this shape (betas (10,)) in random skin, hair, clothes and colours.

    Clothes are a suit of the wardrobe, at times with cut sleeves or legs, or colours painted on
    the body, drawn a little outward. Women's clothes go to shapes that look like women's, as
    far as betas 1 and 2 tell, with much chance in it.
    """
    device = who.template.device
    betas = betas.cpu()
    female = float(betas[2] - betas[1]) + normal(generator, 1.0) > 0
    hems = _random_hems(who.joints.cpu(), generator)
    on_device = betas.to(device)
    rest = who.template + who.shapedirs @ on_device  # (V, 3)
    normals = vertex_normals(rest, who.faces)
    colours = _skin(closet, female, generator)
    part = torch.full((len(rest),), SKIN, device=device)
    hidden = torch.zeros(len(rest), dtype=torch.bool, device=device)
    worn: list[tuple[Cloth, Tensor, Tensor]] = []  # with the faces that are left, and the parts

    suits = _fitting(closet, "suit", female)
    if suits and not chance(generator, PAINTED):
        suit = choose(generator, suits)
        faces, covers = suit.faces, suit.hides
        if chance(generator, CUT):
            faces = faces[~hems.beyond(suit.template)[faces].any(1)]
            covers = covers & ~hems.beyond(who.template)
        worn.append((suit, faces, hems.half(suit.template)))
        hidden = hidden | covers
    else:
        clothed = hems.clothed(who.template, shirt=not chance(generator, 0.08))
        part = torch.where(clothed, hems.half(who.template), part)
        thick = torch.tensor([0, *(uniform(generator, 0.001, 0.014) for _ in "tb"), 0, 0])
        rest = rest + normals * thick.to(device)[part][:, None]

    feet = who.template[:, 1] < float(who.joints[ANKLE, 1]) + uniform(generator, -0.03, 0.12)
    shoes = _fitting(closet, "shoes", female)
    if shoes and chance(generator, 0.75):
        pair = choose(generator, shoes)
        worn.append((pair, pair.faces, torch.full((len(pair.template),), SHOES, device=device)))
        hidden = hidden | pair.hides
    elif chance(generator, 0.75):
        part = torch.where(feet, SHOES, part)

    hair = _fitting(closet, "hair", female)
    if hair and chance(generator, 0.75):
        style = choose(generator, hair)
        worn.append((style, style.faces, torch.full((len(style.template),), HAIR, device=device)))
    elif chance(generator, 0.85):
        scalp = _scalp(who, generator)
        part = torch.where(scalp, HAIR, part)
        thick_hair = uniform(generator, 0.002, 0.02)
        rest = torch.where(scalp[:, None], rest + normals * thick_hair, rest)

    dyes = [colour(generator) for _ in range(PARTS)]
    dyes[HAIR] = _hair_colour(generator)
    dye = torch.stack(dyes).to(device)
    painted = dye[part] * (0.9 + 0.1 * colours / colours.mean().clamp(min=1e-3))
    colours = torch.where((part == SKIN)[:, None], colours, painted)

    body_faces = who.faces[~hidden[who.faces].all(1)]
    used = torch.zeros(len(rest), dtype=torch.bool, device=device)
    used[body_faces.reshape(-1)] = True
    renumber = used.cumsum(0) - 1
    vertices, all_normals, weights = [rest[used]], [normals[used]], [who.weights[used]]
    faces_of = [renumber[body_faces]]
    all_colours, parts = [colours[used]], [part[used]]
    count = len(vertices[0])
    for cloth, faces, its_part in worn:
        shaped = cloth.template + cloth.shapedirs @ on_device
        vertices.append(shaped)
        all_normals.append(vertex_normals(shaped, cloth.faces))
        weights.append(cloth.weights)
        faces_of.append(faces + count)
        all_colours.append(_dyed(cloth.colours, its_part, dye, generator))
        parts.append(its_part)
        count += len(shaped)
    all_faces = torch.cat(faces_of)
    return Figure(
        betas=betas,
        joints=who.joint_regressor @ (who.template + who.shapedirs @ on_device),
        vertices=torch.cat(vertices),
        normals=torch.cat(all_normals),
        weights=torch.cat(weights),
        faces=all_faces,
        two_sided=torch.arange(len(all_faces), device=device) >= len(body_faces),
        colours=torch.cat(all_colours).clamp(0, 1),
        part=torch.cat(parts),
        patterns=_random_patterns(generator).to(device),
    )


def paint(places: Tensor, colours: Tensor, patterns: Tensor) -> Tensor:
    """Colours with their part's pattern on them, (H, 3) linear RGB.

    places (H, 3) are points of the rest pose, metres; colours (H, 3); patterns (H,
    PATTERN_NUMBERS): how much of stripes, checks and blobs, threshold, sharpness, strength,
    second colour (3), three wave vectors (9), three phases, depth of the folds.
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


# 1/m; waves 8 to 20 cm long in three directions
FOLDS = torch.tensor([[35.0, -18.0, 47.0], [60.0, 41.0, -22.0], [21.0, 70.0, 38.0]])


@dataclass(frozen=True)
class Hems:
    """Where clothes end in the rest pose, metres; the body's left arm lies along +x."""

    sleeve: float  # |x|
    leg: float  # y
    waist: float  # y
    neck: float  # y
    hip: float  # y, between arms and legs

    def beyond(self, places: Tensor) -> Tensor:
        """(N,) bool: the arms outside the sleeves, the legs below the trousers."""
        x, y, _ = places.unbind(-1)
        return ((x.abs() > self.sleeve) & (y > self.hip)) | (y < self.leg)

    def clothed(self, places: Tensor, shirt: bool) -> Tensor:
        """(N,) bool: under the trousers, and under a shirt where there is one."""
        y = places[:, 1]
        return ~self.beyond(places) & (y < (self.neck if shirt else self.waist))

    def half(self, places: Tensor) -> Tensor:
        """(N,) int64: TOP or BOTTOM."""
        low = (places[:, 1] < self.waist) & (places[:, 0].abs() < 0.35)
        return torch.where(low, BOTTOM, TOP)


def _random_hems(joints: Tensor, generator: torch.Generator) -> Hems:
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


def _fitting(closet: Closet, kind: str, female: bool) -> list[Cloth]:
    return [c for c in closet.cloths if c.kind == kind and c.female in (-1, int(female))]


def _skin(closet: Closet, female: bool, generator: torch.Generator) -> Tensor:
    """Skin (V, 3), its tone varied towards darker and redder."""
    own = [i for i, its in enumerate(closet.skin_female) if its == female]
    skin = closet.skins[choose(generator, own or list(range(len(closet.skins))))]
    tone = uniform(generator, 0.35, 1.2)
    gain = torch.tensor([tone**0.8, tone, tone**1.25]) * uniform(generator, 0.85, 1.1)
    return skin * gain.to(skin.device)


def _scalp(who: Anatomy, generator: torch.Generator) -> Tensor:
    """(V,) bool: where short hair or a cap sits."""
    tilt = torch.tensor([0.0, 1.0, -uniform(generator, 0.4, 1.2)])
    head = who.joints[HEAD] + torch.tensor([0.0, 0.07, 0.02], device=who.joints.device)
    above = (who.template - head) @ (tilt / tilt.norm()).to(head.device)
    high = above > uniform(generator, 0.0, 0.05)
    return torch.logical_and(high, who.weights[:, HEAD] > 0.5)


def _hair_colour(generator: torch.Generator) -> Tensor:
    if chance(generator, 0.1):
        return colour(generator)  # a cap, or dyed
    natural = torch.tensor(choose(generator, HAIR_COLOURS)) * uniform(generator, 0.7, 1.3)
    return torch.square(natural.clamp(0, 1))


def _dyed(colours: Tensor, part: Tensor, dye: Tensor, generator: torch.Generator) -> Tensor:
    """A cloth's own colours (G, 3), or its dye with the texture's light and dark."""
    if chance(generator, 0.25):
        return colours
    light = colours.mean(1, keepdim=True)
    contrast = uniform(generator, 0.2, 0.8)
    texture = 1 - contrast + contrast * (light / light.mean().clamp(min=1e-3)).clamp(0.2, 2.0)
    return dye[part] * texture


def _random_patterns(generator: torch.Generator) -> Tensor:
    """(PARTS, PATTERN_NUMBERS): skin and hair plain, the rest half of the time not."""
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


def _cloth(piece: Piece, device: torch.device) -> Cloth:
    return Cloth(
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
    scaled = _tensor(colours, device).float() / 255
    return scaled * scaled
