"""Dressed people in front of a photo: light, pixels, what stands in the way.

Colours are linear (sRGB values squared) until `to_bytes`.
"""

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from staf_cli.body.skinning import joint_transforms
from staf_cli.training.people.outfits import PARTS, Figure, paint
from staf_cli.training.studio.splatting import interpolate, skin, splat

SUPERSAMPLE = 2  # pixels rendered along each side of a pixel
CHUNK = 2**20  # rendered pixels at a time on a CPU: what its cache holds
SPECULAR_POWER = 12.0


@dataclass(frozen=True, eq=False)
class Light:
    """Light from all sides, more of it from above, and two lamps far away; camera frame."""

    ambient: Tensor  # (3,)
    up: Tensor  # (3,) unit, away from the ground
    toward: Tensor  # (2, 3) unit, towards the lamps
    lamps: Tensor  # (2, 3) colours
    wrap: float  # 0: a lamp's light ends where the surface turns away; 1: it reaches around
    gloss: float

    def brighter(self, gain: float) -> "Light":
        """The same light, so many times as bright."""
        return replace(self, ambient=self.ambient * gain, lamps=self.lamps * gain)

    def to(self, device: torch.device) -> "Light":
        """The same light on another device."""
        names = ("ambient", "up", "toward", "lamps")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def on(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Light (H, 3) that falls on surfaces with these normals (H, 3), and what they mirror."""
        sky = 0.7 + 0.3 * (normals @ self.up)
        facing = normals @ self.toward.t()  # (H, 2)
        lit = ((facing + self.wrap) / (1 + self.wrap)).clamp(min=0)
        light = self.ambient * sky[:, None] + lit @ self.lamps
        if self.gloss == 0:
            return light, torch.zeros_like(light)
        half = normalize(self.toward + self.toward.new_tensor([0, 0, -1]), dim=-1)
        mirrored = (normals @ half.t()).clamp(min=0) ** SPECULAR_POWER
        return light, self.gloss * mirrored @ self.lamps


@dataclass(frozen=True, eq=False)
class View:
    """F square pictures of one pinhole camera, each a part of the whole image; px.

    Whole image: centre of projection in its middle. A pixel of the picture is side / size
    pixels of the whole image.
    """

    focal: float  # px of the whole image
    image_size: tuple[int, int]  # width, height
    corner: Tensor  # (F, 2) the pictures' top left corners, in the whole image
    side: Tensor  # (F,) px of the whole image
    size: int  # px of the picture

    def to_picture(self, places: Tensor) -> Tensor:
        """Places (F, N, 2) in the whole image, in pixels of the picture."""
        scale = (self.size / self.side)[:, None, None]
        return (places - self.corner[:, None]) * scale

    def pixels(self) -> Tensor:
        """(F, size, size, 2): where the pixels' centres lie in the whole image."""
        steps = (torch.arange(self.size, device=self.side.device) + 0.5) / self.size
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        return self.corner[:, None, None] + grid * self.side[:, None, None, None]

    def __getitem__(self, some: slice) -> "View":
        return View(self.focal, self.image_size, self.corner[some], self.side[some], self.size)


@dataclass(frozen=True, eq=False)
class Actor:
    """A figure in F frames; camera frame."""

    figure: Figure
    rotmats: Tensor  # (F, 24, 3, 3) local, the root's in the camera's frame
    trans: Tensor  # (F, 3) m, added to the posed body

    def __getitem__(self, some: slice) -> "Actor":
        return Actor(self.figure, self.rotmats[some], self.trans[some])


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo mirrored over and over, so that it reaches everywhere; linear RGB."""

    pixels: Tensor  # (3, H, W)
    scale: float  # px of the whole image that one pixel of the photo covers
    drift: Tensor  # (F, 2) px of the whole image by which it lies further right and down

    def __getitem__(self, some: slice) -> "Photo":
        return Photo(self.pixels, self.scale, self.drift[some])

    def at(self, places: Tensor) -> Tensor:
        """Colours (F, 3, h, w) at places (F, h, w, 2) of the whole image."""
        height, width = self.pixels.shape[1:]
        span = self.scale * self.pixels.new_tensor([width, height])
        grid = 2 * (places - self.drift[:, None, None]) / span - 1
        return grid_sample(
            self.pixels.expand(len(grid), -1, -1, -1),
            grid,
            padding_mode="reflection",
            align_corners=False,
        )


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A flat shape in front of everybody, still in the whole image; px."""

    centre: Tensor  # (2,)
    half: Tensor  # (2,) half its width and height
    turn: Tensor  # (2, 2) rotation
    round: bool  # an ellipse, or else a rectangle
    photo: Photo  # what it looks like

    def over(self, picture: Tensor, places: Tensor, pixel: Tensor) -> Tensor:
        """The picture (F, 3, h, w) with the shape in front of it.

        places (F, h, w, 2) of the pixels in the whole image; pixel (F,) their size there.
        """
        local = (places - self.centre) @ self.turn / self.half
        reach = local.norm(dim=-1) if self.round else local.abs().amax(-1)
        edge = (1 - reach) * self.half.min() / pixel[:, None, None]
        share = (edge + 0.5).clamp(0, 1)[:, None]
        return torch.lerp(picture, self.photo.at(places), share)


def draw_people(actors: list[Actor], light: Light, view: View) -> Tensor:
    """The people alone: (F, 4, size, size), linear RGB times coverage, and coverage."""
    size = view.size * SUPERSAMPLE
    frames = len(view.side)
    chunk = frames if view.side.is_cuda else max(1, CHUNK // size**2)
    parts = [slice(start, start + chunk) for start in range(0, frames, chunk)]
    return torch.cat([_draw([a[some] for a in actors], light, view[some], size) for some in parts])


def compose(people: Tensor, background: Photo, obstacles: list[Obstacle], view: View) -> Tensor:
    """Pictures (F, 3, size, size), linear RGB: people (F, 4, size, size) over the background.

    Black outside the whole image.
    """
    places = view.pixels()
    picture = people[:, :3] + (1 - people[:, 3:]) * background.at(places)
    pixel = view.side / view.size
    for obstacle in obstacles:
        picture = obstacle.over(picture, places, pixel)
    ends = places.new_tensor(view.image_size)
    inside = torch.minimum(places, ends - places) / pixel[:, None, None, None] + 0.5
    return picture * inside.clamp_(0, 1).prod(-1)[:, None]


def to_bytes(picture: Tensor) -> Tensor:
    """Linear RGB (F, 3, H, W) to sRGB bytes (F, H, W, 3), uint8."""
    srgb = picture.clamp(0, 1).sqrt_().mul_(255).add_(0.5)
    return srgb.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _draw(actors: list[Actor], light: Light, view: View, size: int) -> Tensor:
    frames = len(view.side)
    scale = size / view.side  # (F,)
    middle = view.side.new_tensor(view.image_size) / 2
    centre = (middle - view.corner) * scale[:, None]
    posed = [
        skin(
            actor.figure.vertices,
            actor.figure.normals,
            actor.figure.weights,
            joint_transforms(actor.rotmats, actor.figure.joints[None])[0],
        )
        for actor in actors
    ]
    vertices = torch.cat([v + a.trans[:, None] for (v, _), a in zip(posed, actors, strict=True)], 1)
    figures = [actor.figure for actor in actors]
    starts = accumulate((len(figure.vertices) for figure in figures[:-1]), initial=0)
    faces = torch.cat([f.faces + start for f, start in zip(figures, starts, strict=True)])
    shown = splat(
        vertices,
        faces,
        torch.cat([f.two_sided for f in figures]),
        view.focal * scale,
        centre,
        size,
    )
    part = torch.cat([f.part + i * PARTS for i, f in enumerate(figures)])
    patterns = torch.cat([f.patterns for f in figures])
    rest = torch.cat([torch.cat([f.vertices, f.colours], -1) for f in figures])
    seen = interpolate(rest, shown)  # (H, 6)
    places, colours = seen[:, :3], seen[:, 3:]
    its_part = part.index_select(0, shown.corner[:, 0] % len(part))
    painted = paint(places, colours, patterns.index_select(0, its_part))
    normals = normalize(interpolate(torch.cat([n for _, n in posed], 1), shown), dim=-1)
    # Inside of a sleeve or a strand of hair: the surface that is seen looks the other way.
    normals = torch.where(normals[:, 2:] > 0.3, -normals, normals)
    lit, mirrored = light.on(normals)
    ones = torch.ones_like(lit[:, :1])
    canvas = torch.zeros(frames * size * size, 4, device=vertices.device)
    canvas.index_copy_(
        0, shown.pixel, torch.cat([(painted * lit + mirrored).clamp(0, 1.5), ones], -1)
    )
    pairs = canvas.view(frames, view.size, SUPERSAMPLE, view.size, SUPERSAMPLE * 4)
    rows = pairs[:, :, 0] + pairs[:, :, 1]
    mean = (rows[..., :4] + rows[..., 4:]).div_(SUPERSAMPLE**2)
    return mean.permute(0, 3, 1, 2)
