"""Random scenes with one labelled person: their clothes, position, light, background, obstacles.

A scene is a whole image of IMAGE_SIZE pixels from a pinhole camera. What is stored of it is a
square that follows the person as a tracker would.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import DatasetError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.chance import branch, chance, colour, direction, normal, uniform
from staf_cli.training.people.motion import Motions, read_motions
from staf_cli.training.people.outfits import (
    BodyTensors,
    WardrobeTensors,
    body_tensors,
    dress,
    random_betas,
    wardrobe_tensors,
)
from staf_cli.training.people.poses import random_poses
from staf_cli.training.people.wardrobe import read_wardrobe
from staf_cli.training.samples import MARGIN, PIXELS, Labels
from staf_cli.training.studio.pictures import (
    Background,
    Light,
    MovingPerson,
    Obstacle,
    PictureView,
    compose,
    draw_people,
    to_bytes,
)
from staf_cli.training.studio.staging import (
    PlacedPerson,
    clip_to_image,
    place,
    place_whole,
    random_camera,
    random_person,
)

IMAGE_SIZE = (1280, 720)  # px, width and height
CLIP_SIZE = (640, 480)
CLIP_BOX = (250.0, 400.0)  # px of the longer side of a filmed person's box
CLIP_CHUNK = 8  # frames drawn at a time
HELD_OUT_BACKGROUNDS = 100  # the last ones

HIDDEN = 0.2  # share of scenes with obstacles in front of the person
ACCOMPANIED = 0.15  # share of scenes with a second person
OUTSIDE = PIXELS / 4  # px of the picture beyond the image where a point still counts
SMOOTHED = 5  # frames over which a tracker smooths its boxes
LEAST_SIDE = 24.0  # px of the smallest square
TRIES = 100

Split = Literal["training", "held-out"]


@dataclass(frozen=True, eq=False)
class Studio:
    """What scenes are made of, one split of it, on one device."""

    body: BodyTensors
    wardrobe: WardrobeTensors
    motions: Motions
    backgrounds: NDArray[np.uint8]  # (N, H, W, 3) RGB
    device: torch.device


@dataclass(frozen=True, eq=False)
class Scenes:
    """N sequences of T frames as a sample set keeps them, and the camera of the whole image."""

    images: NDArray[np.uint8]  # (N, T, PIXELS, PIXELS, 3) RGB
    labels: Labels
    focal: NDArray[np.float32]  # (N,) px of the whole image
    trans: NDArray[np.float32]  # (N, T, 3) m, camera frame, added to the posed body
    square: NDArray[np.float32]  # (N, T, 3) left, top and side of the pictures, px


@dataclass(frozen=True, eq=False)
class FilmedPerson:
    """The truth of one person in F whole frames; parameters and points as in `Labels`."""

    image_size: tuple[int, int]  # width, height px
    focal: float  # px; the centre is the image's
    poses: NDArray[np.float32]  # (F, 72)
    betas: NDArray[np.float32]  # (F, 10)
    trans: NDArray[np.float32]  # (F, 3) m: Body(poses, betas) + trans is where the person is
    box: NDArray[np.float32]  # (F, 4) px
    kp2d: NDArray[np.float32]  # (F, 31, 3) px and weight


def open_studio(data: Path, body: BodyArrays, split: Split, device: torch.device) -> Studio:
    """Read motions.npz, wardrobe.npz and backgrounds.npy.

    Args:
        data: The folder of these files.
        body: The people's body.
        split: Which part of the data.
        device: Where scenes are rendered.

    Returns:
        What scenes are made of.

    Raises:
        DatasetError: Motions or backgrounds are missing or broken.
        BodyError: The wardrobe is, or the body has no points for labels.
    """
    motions = read_motions(data / "motions.npz")
    wardrobe = read_wardrobe(data / "wardrobe.npz")
    backgrounds = read_backgrounds(data / "backgrounds.npy")
    learned = split == "training"
    mine = slice(None, -HELD_OUT_BACKGROUNDS) if learned else slice(-HELD_OUT_BACKGROUNDS, None)
    return Studio(
        body=body_tensors(body, device),
        wardrobe=wardrobe_tensors(wardrobe.training if learned else wardrobe.held_out, device),
        motions=motions.training if learned else motions.held_out,
        backgrounds=backgrounds[mine],
        device=device,
    )


def read_backgrounds(path: Path) -> NDArray[np.uint8]:
    """Open an npy file of photos without people, without reading it into memory.

    Returns:
        (N, H, W, 3) RGB.

    Raises:
        DatasetError: The file is missing, broken, or holds too few photos.
    """
    try:
        photos: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); prepare the backgrounds") from error
    if photos.ndim != 4 or photos.shape[-1] != 3 or photos.dtype != np.uint8:
        raise DatasetError(f"{path}: holds {photos.dtype} {photos.shape}; prepare the backgrounds")
    if len(photos) <= HELD_OUT_BACKGROUNDS:
        raise DatasetError(f"{path}: holds {len(photos)} photos, too few to hold some out")
    return photos


@torch.no_grad()
def render_sequences(studio: Studio, count: int, frames: int, generator: torch.Generator) -> Scenes:
    """Render random scenes.

    The pictures are those of a perfect camera; `degrade` makes them look real. On a CPU the same
    generator makes the same bytes (on a GPU the order of sums varies, so a byte may differ by 1).

    Args:
        studio: What scenes are made of.
        count: Number of scenes, N.
        frames: Consecutive frames of each at 30 fps, T; a single frame shows a random pose.
        generator: On the CPU.

    Returns:
        N scenes of T frames.

    Raises:
        DatasetError: No motion is long enough.
    """
    poses = random_poses(studio.motions, count, generator) if frames == 1 else [None] * count
    scenes = [_scene(studio, frames, pose, branch(generator)) for pose in poses]
    labels = {
        field.name: np.concatenate([getattr(scene.labels, field.name) for scene in scenes])
        for field in fields(Labels)
    }
    arrays = {
        name: np.concatenate([getattr(scene, name) for scene in scenes])
        for name in ("images", "focal", "trans", "square")
    }
    return Scenes(labels=Labels(**labels), **arrays)


@torch.no_grad()
def film(
    studio: Studio, frames: int, generator: torch.Generator, wall: Tensor | None = None
) -> tuple[Iterator[NDArray[np.uint8]], FilmedPerson]:
    """Film one person in whole frames of CLIP_SIZE, with a still camera and background.

    The whole person is inside the image all the time.

    Args:
        studio: What scenes are made of.
        frames: Length of the clip.
        generator: On the CPU.
        wall: (3, H, W) linear RGB, a background that fills the image; None: one of the photos.

    Returns:
        The pictures (H, W, 3) RGB, one by one, and their truth.

    Raises:
        DatasetError: No motion of that many frames exists or stays inside the image.
    """
    betas = random_betas(generator)
    camera = random_camera(generator)
    for _ in range(TRIES):
        person = random_person(studio.body, betas, studio.motions, frames, None, camera, generator)
        placed = place_whole(person, CLIP_SIZE, uniform(generator, *CLIP_BOX), generator)
        if torch.equal(clip_to_image(placed.extent, CLIP_SIZE), placed.extent):
            break
    else:
        raise DatasetError(f"no motion of {frames} frames stays inside {CLIP_SIZE} px; film fewer")
    moving = _dressed(studio, betas, placed, generator)
    light = _random_light(camera, generator).to(studio.device)
    photo = _random_background(studio, 1.0, placed.pan, generator).pixels if wall is None else wall
    height, width = photo.shape[1:]
    fills = max(CLIP_SIZE[0] / width, CLIP_SIZE[1] / height)
    behind = Background(photo.to(studio.device), fills, torch.zeros_like(placed.pan))
    truth = FilmedPerson(
        image_size=CLIP_SIZE,
        focal=placed.focal,
        poses=_poses(placed),
        betas=betas.expand(frames, -1).numpy().copy(),
        trans=_numpy(placed.trans),
        box=_numpy(placed.extent),
        kp2d=_numpy(pad(placed.points, (0, 1), value=1.0)),
    )
    return _frames(moving, light, behind, placed.focal), truth


@torch.no_grad()
def _frames(
    moving: MovingPerson, light: Light, background: Background, focal: float
) -> Iterator[NDArray[np.uint8]]:
    """Yield the whole frames, drawn as the middle of squares."""
    width, height = CLIP_SIZE
    size = max(width, height)
    left, top = (width - size) // 2, (height - size) // 2
    total = len(moving.trans)
    corner = moving.trans.new_tensor([left, top]).expand(total, -1)
    view = PictureView(focal, CLIP_SIZE, corner, torch.full_like(corner[:, 0], size), size)
    for start in range(0, total, CLIP_CHUNK):
        some = slice(start, start + CLIP_CHUNK)
        people = draw_people([moving[some]], light, view[some])
        pictures = to_bytes(compose(people, background[some], [], view[some]))
        yield from pictures[:, -top : height - top, -left : width - left].cpu().numpy()


def _scene(studio: Studio, frames: int, pose: Tensor | None, generator: torch.Generator) -> Scenes:
    """Render one scene, as Scenes with N = 1."""
    betas = random_betas(generator)
    camera = random_camera(generator)
    person = random_person(studio.body, betas, studio.motions, frames, pose, camera, generator)
    placed = place(person, IMAGE_SIZE, generator)
    box = _tracked(clip_to_image(placed.extent, IMAGE_SIZE), generator)  # (T, 4)
    square = _square(box)  # (T, 3)
    view = PictureView(placed.focal, IMAGE_SIZE, square[:, :2], square[:, 2], PIXELS)
    people = [_dressed(studio, betas, placed, generator)]
    if chance(generator, ACCOMPANIED):
        people.append(_second_person(studio, frames, placed, camera, generator))
    light = _random_light(camera, generator).to(studio.device)
    scale = float(square[:, 2].mean()) / uniform(generator, 100, 320)
    background = _random_background(studio, scale, placed.pan, generator)
    obstacles = []
    if chance(generator, HIDDEN):
        for _ in range(1 + chance(generator, 0.4)):
            obstacles.append(_random_obstacle(studio, placed.extent, scale, generator))
    picture = compose(draw_people(people, light, view), background, obstacles, view)
    points = view.to_picture(placed.points)  # (T, 31, 2)
    labels = Labels(
        kp2d=_numpy(torch.cat([points, _weights(placed.points, view)[..., None]], -1))[None],
        box=_numpy(view.to_picture(box.view(-1, 2, 2)).flatten(1))[None],
        poses=_poses(placed)[None],
        betas=betas.expand(1, frames, -1).numpy().copy(),
        smpl_weight=np.ones(1, np.float32),
    )
    return Scenes(
        images=to_bytes(picture).cpu().numpy()[None],
        labels=labels,
        focal=np.array([placed.focal], np.float32),
        trans=_numpy(placed.trans)[None],
        square=_numpy(square)[None],
    )


def _dressed(
    studio: Studio, betas: Tensor, placed: PlacedPerson, generator: torch.Generator
) -> MovingPerson:
    """Dress a placed person."""
    person = dress(studio.body, studio.wardrobe, betas, generator)
    return MovingPerson(person, placed.person.rotmats, placed.trans)


def _second_person(
    studio: Studio, frames: int, placed: PlacedPerson, camera: Tensor, generator: torch.Generator
) -> MovingPerson:
    """Make another person beside, behind or in front of the placed one, who moves differently."""
    betas = random_betas(generator)
    other = random_person(studio.body, betas, studio.motions, frames, None, camera, generator)
    middle = placed.pelvis[frames // 2]
    aside = uniform(generator, 0.35, 1.1) * (1 if chance(generator, 0.5) else -1)
    away = uniform(generator, 0.3, 2.5) * (1 if chance(generator, 0.7) else -0.4)
    across = camera @ torch.tensor([aside, 0.0, -away])
    start = middle + across.to(middle.device)
    start[2] = start[2].clamp(min=1.0 - float(other.outline[..., 2].min()))
    person = dress(studio.body, studio.wardrobe, betas, generator)
    return MovingPerson(person, other.rotmats, other.path + start - other.rest_pelvis)


def _tracked(box: Tensor, generator: torch.Generator) -> Tensor:
    """Change boxes (T, 4) to those of a tracker: smoothed, with constant and random errors."""
    frames = len(box)
    half = SMOOTHED // 2
    rows = pad(box.t()[None], (half, half), mode="replicate")
    smooth = avg_pool1d(rows, SMOOTHED, stride=1)[0].t()
    centre, size = (smooth[:, :2] + smooth[:, 2:]) / 2, smooth[:, 2:] - smooth[:, :2]
    longer = size.amax(1, keepdim=True)
    off = 0.02 * torch.randn(1, 4, generator=generator)
    off = off + 0.006 * torch.randn(frames, 4, generator=generator)
    off = off.clamp(-0.08, 0.08).to(box.device)
    centre = centre + off[:, :2] * longer
    size = (size * (1 + 2 * off[:, 2:])).clamp(min=2.0)
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def _square(box: Tensor) -> Tensor:
    """Return squares (T, 3), left, top and side: around boxes, MARGIN times their longer side."""
    side = MARGIN * (box[:, 2:] - box[:, :2]).amax(1, keepdim=True).clamp(min=LEAST_SIDE / MARGIN)
    return torch.cat([(box[:, :2] + box[:, 2:] - side) / 2, side], -1)


def _weights(points: Tensor, view: PictureView) -> Tensor:
    """Return weights (T, 31): 0 for points (T, 31, 2) px that are far outside the image, else 1."""
    ends = points.new_tensor(view.image_size)
    beyond = torch.maximum(-points, points - ends).amax(-1)  # (T, 31) px of the image
    return (beyond < OUTSIDE * (view.side / view.size)[:, None]).float()


def _random_light(camera: Tensor, generator: torch.Generator) -> Light:
    """Draw soft or hard, warm or cold light; surfaces in it are neither black nor white."""
    ambient = _tint(generator) * uniform(generator, 0.25, 1.0)
    lamps = torch.stack([_tint(generator) * uniform(generator, 0.0, 1.0) for _ in range(2)])
    toward = []
    for _ in range(2):
        lamp = direction(generator)
        lamp[1] = abs(float(lamp[1])) if chance(generator, 0.85) else float(lamp[1])
        toward.append(camera @ lamp)
    light = Light(
        ambient=ambient,
        up=camera @ torch.tensor([0.0, 1.0, 0.0]),
        toward=torch.stack(toward),
        lamps=lamps,
        wrap=uniform(generator, 0.0, 0.6),
        gloss=uniform(generator, 0.0, 0.3) if chance(generator, 0.4) else 0.0,
    )
    seen = direction(generator).expand(64, 3) + torch.randn(64, 3, generator=generator)
    seen[:, 2] = -seen[:, 2].abs()
    typical = light.on(torch.nn.functional.normalize(seen, dim=-1))[0].mean()
    return light.brighter(uniform(generator, 0.55, 1.25) / float(typical))


def _tint(generator: torch.Generator) -> Tensor:
    """Draw a light's colour (3,) around white."""
    return (0.15 * torch.randn(3, generator=generator)).clamp(-0.35, 0.35).exp()


def _random_background(
    studio: Studio, scale: float, offset: Tensor, generator: torch.Generator
) -> Background:
    """Draw a photo, perhaps mirrored, brighter or darker, at any offset; fields of Background."""
    number = int(torch.randint(len(studio.backgrounds), (), generator=generator))
    pixels = torch.from_numpy(studio.backgrounds[number].copy()).to(studio.device)
    pixels = (pixels.permute(2, 0, 1).float() / 255) ** 2
    if chance(generator, 0.5):
        pixels = pixels.flip(-1)
    start = 1280 * torch.rand(2, generator=generator)
    gain = math.exp(normal(generator, 0.25))
    return Background((pixels * gain).clamp(0, 1), scale, offset + start.to(studio.device))


def _random_obstacle(
    studio: Studio, extent: Tensor, scale: float, generator: torch.Generator
) -> Obstacle:
    """Draw a rectangle, ellipse or strip, of a photo or of one colour, over part of the person."""
    box = extent[len(extent) // 2].cpu()
    size = box[2:] - box[:2]
    longer = float(size.max())
    centre = box[:2] + size * torch.rand(2, generator=generator)
    if chance(generator, 0.3):  # a pole, a railing, the edge of a wall
        half = torch.tensor([longer * uniform(generator, 0.02, 0.12), longer * 3])
        angle = uniform(generator, -0.2, 0.2) + (math.pi / 2 if chance(generator, 0.5) else 0)
    else:
        half = longer * (0.06 + 0.2 * torch.rand(2, generator=generator))
        angle = uniform(generator, 0, math.pi) if chance(generator, 0.4) else 0.0
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, angle]))[:2, :2]
    still = torch.zeros(len(extent), 2).to(studio.device)
    texture = _random_background(studio, scale, still, generator)
    if chance(generator, 0.4):
        plain = colour(generator).to(studio.device)[:, None, None]
        texture = Background(plain.expand(-1, 2, 2), scale, texture.offset)
    return Obstacle(
        centre=centre.to(studio.device),
        half=half.to(studio.device),
        turn=turn.to(studio.device),
        round=chance(generator, 0.4),
        texture=texture,
    )


def _poses(placed: PlacedPerson) -> NDArray[np.float32]:
    """Return (T, 72) axis-angle, global_orient in the camera frame."""
    return _numpy(matrix_to_axis_angle(placed.person.rotmats).flatten(1))


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.cpu().numpy().astype(np.float32)
    return array
