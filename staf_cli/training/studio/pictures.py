"""Pictures of dressed people in front of a background, with light and obstacles.

Colours are linear (sRGB values squared) until `to_bytes`.
"""

from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from staf_cli.body.skinning import joint_transforms
from staf_cli.training.people.outfits import PARTS, DressedPerson, paint
from staf_cli.training.studio.splatting import (
    Fragments,
    interpolate_at_pixels,
    skin,
    splat,
)

SUPERSAMPLE = 2  # pixels rendered along each side of a pixel
CHUNK = 2**20  # rendered pixels at a time on a CPU, as many as its cache holds
SPECULAR_POWER = 12.0


@dataclass(frozen=True, eq=False)
class Light:
    """Ambient light, stronger from above, and two distant lamps; camera frame, linear RGB."""

    ambient: Tensor  # (3,)
    up: Tensor  # (3,) unit, away from the ground
    toward: Tensor  # (2, 3) unit, towards the lamps
    lamps: Tensor  # (2, 3) colours
    wrap: float  # 0: a lamp lights only surfaces that face it; 1: all around
    gloss: float  # strength of the lamps' reflections

    def brighter(self, gain: float) -> "Light":
        """Return the same light, `gain` times as bright."""
        return replace(self, ambient=self.ambient * gain, lamps=self.lamps * gain)

    def to(self, device: torch.device) -> "Light":
        """Return the same light on another device."""
        names = ("ambient", "up", "toward", "lamps")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def on(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the light on surfaces.

        Args:
            normals: (H, 3) unit, camera frame.

        Returns:
            Light that falls on the surfaces and light that they mirror, (H, 3) each, linear RGB.
        """
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
class PictureView:
    """F square pictures, each a part of the whole image of one pinhole camera; px.

    The whole image has its principal point in the middle. A pixel of a picture is side / size
    pixels of the whole image.
    """

    focal: float  # px of the whole image
    image_size: tuple[int, int]  # width, height
    corner: Tensor  # (F, 2) top left corners of the pictures, in the whole image
    side: Tensor  # (F,) px of the whole image
    size: int  # px of the picture

    def to_picture(self, points: Tensor) -> Tensor:
        """Convert points from the whole image to the pictures.

        Args:
            points: (F, N, 2) px of the whole image.

        Returns:
            (F, N, 2) px of the pictures.
        """
        scale = (self.size / self.side)[:, None, None]
        return (points - self.corner[:, None]) * scale

    def pixels(self) -> Tensor:
        """Compute the centres of all pixels: (F, size, size, 2) px of the whole image."""
        steps = (torch.arange(self.size, device=self.side.device) + 0.5) / self.size
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        return self.corner[:, None, None] + grid * self.side[:, None, None, None]

    def __getitem__(self, some: slice) -> "PictureView":
        """Return some of the pictures."""
        return PictureView(
            self.focal, self.image_size, self.corner[some], self.side[some], self.size
        )


@dataclass(frozen=True, eq=False)
class MovingPerson:
    """A dressed person in F frames; camera frame."""

    person: DressedPerson
    rotmats: Tensor  # (F, 24, 3, 3) local, the root's in the camera's frame
    trans: Tensor  # (F, 3) m, added to the posed body

    def __getitem__(self, some: slice) -> "MovingPerson":
        """Return some of the frames."""
        return MovingPerson(self.person, self.rotmats[some], self.trans[some])


@dataclass(frozen=True, eq=False)
class Background:
    """A photo, mirrored repeatedly so that it fills any image; linear RGB."""

    pixels: Tensor  # (3, H, W)
    scale: float  # px of the whole image that one pixel of the photo covers
    offset: Tensor  # (F, 2) px of the whole image by which it is moved right and down

    def __getitem__(self, some: slice) -> "Background":
        """Return some of the frames."""
        return Background(self.pixels, self.scale, self.offset[some])

    def at(self, points: Tensor) -> Tensor:
        """Look up colours.

        Args:
            points: (F, h, w, 2) px of the whole image.

        Returns:
            (F, 3, h, w) linear RGB.
        """
        height, width = self.pixels.shape[1:]
        span = self.scale * self.pixels.new_tensor([width, height])
        grid = 2 * (points - self.offset[:, None, None]) / span - 1
        return grid_sample(
            self.pixels.expand(len(grid), -1, -1, -1),
            grid,
            padding_mode="reflection",
            align_corners=False,
        )


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A flat shape in front of all people that does not move; px of the whole image."""

    centre: Tensor  # (2,)
    half: Tensor  # (2,) half its width and height
    turn: Tensor  # (2, 2) rotation
    round: bool  # an ellipse, or else a rectangle
    texture: Background

    def draw_over(self, picture: Tensor, points: Tensor, pixel: Tensor) -> Tensor:
        """Draw the shape in front of pictures.

        Args:
            picture: (F, 3, h, w) linear RGB.
            points: (F, h, w, 2) centres of the pixels, px of the whole image.
            pixel: (F,) size of the pixels, px of the whole image.

        Returns:
            (F, 3, h, w) linear RGB.
        """
        local = (points - self.centre) @ self.turn / self.half
        reach = local.norm(dim=-1) if self.round else local.abs().amax(-1)
        edge = (1 - reach) * self.half.min() / pixel[:, None, None]
        share = (edge + 0.5).clamp(0, 1)[:, None]
        return torch.lerp(picture, self.texture.at(points), share)


def draw_people(people: list[MovingPerson], light: Light, view: PictureView) -> Tensor:
    """Draw people without a background.

    Args:
        people: Each in F frames.
        light: On the device of the people.
        view: F pictures.

    Returns:
        (F, 4, size, size): linear RGB times coverage, and coverage.
    """
    size = view.size * SUPERSAMPLE
    frames = len(view.side)
    chunk = frames if view.side.is_cuda else max(1, CHUNK // size**2)
    parts = [slice(start, start + chunk) for start in range(0, frames, chunk)]
    return torch.cat(
        [_draw([one[some] for one in people], light, view[some], size) for some in parts]
    )


def compose(
    people: Tensor, background: Background, obstacles: list[Obstacle], view: PictureView
) -> Tensor:
    """Put people over a background, and obstacles over both.

    Args:
        people: (F, 4, size, size) from `draw_people`.
        background: In F frames.
        obstacles: From back to front.
        view: F pictures.

    Returns:
        (F, 3, size, size) linear RGB, black outside the whole image.
    """
    points = view.pixels()
    picture = people[:, :3] + (1 - people[:, 3:]) * background.at(points)
    pixel = view.side / view.size
    for obstacle in obstacles:
        picture = obstacle.draw_over(picture, points, pixel)
    ends = points.new_tensor(view.image_size)
    inside = torch.minimum(points, ends - points) / pixel[:, None, None, None] + 0.5
    return picture * inside.clamp_(0, 1).prod(-1)[:, None]


def to_bytes(picture: Tensor) -> Tensor:
    """Convert linear RGB (F, 3, H, W) to sRGB bytes (F, H, W, 3), uint8."""
    srgb = picture.clamp(0, 1).sqrt_().mul_(255).add_(0.5)
    return srgb.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _draw(people: list[MovingPerson], light: Light, view: PictureView, size: int) -> Tensor:
    """Draw people as in `draw_people`, in pictures of `size` pixels that are then averaged."""
    frames = len(view.side)
    scale = size / view.side  # (F,)
    middle = view.side.new_tensor(view.image_size) / 2
    centre = (middle - view.corner) * scale[:, None]
    posed = [
        skin(
            moving.person.vertices,
            moving.person.normals,
            moving.person.weights,
            joint_transforms(moving.rotmats, moving.person.joints[None])[0],
        )
        for moving in people
    ]
    vertices = torch.cat([v + m.trans[:, None] for (v, _), m in zip(posed, people, strict=True)], 1)
    persons = [moving.person for moving in people]
    starts = accumulate((len(person.vertices) for person in persons[:-1]), initial=0)
    faces = torch.cat([p.faces + start for p, start in zip(persons, starts, strict=True)])
    two_sided = torch.cat([person.two_sided for person in persons])
    shown = splat(vertices, faces, two_sided, view.focal * scale, centre, size)
    painted = _painted(persons, shown)
    normals = torch.cat([n for _, n in posed], 1)
    normals = normalize(interpolate_at_pixels(normals, shown), dim=-1)
    # Inside of a sleeve or a strand of hair: the normal belongs to the other side of the surface.
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


def _painted(persons: list[DressedPerson], shown: Fragments) -> Tensor:
    """Compute the colours (H, 3) of the surfaces at the pixels, with their patterns."""
    rest = torch.cat([torch.cat([p.vertices, p.colours], -1) for p in persons])
    seen = interpolate_at_pixels(rest, shown)  # (H, 6)
    part = torch.cat([p.part + i * PARTS for i, p in enumerate(persons)])
    patterns = torch.cat([p.patterns for p in persons])
    part_seen = part.index_select(0, shown.corner[:, 0] % len(part))
    return paint(seen[:, :3], seen[:, 3:], patterns.index_select(0, part_seen))
