"""A person who walks through a picture, with known truth: for tests of the whole chain."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import Clip, Frame, Image
from staf_cli.rendering import Camera, Figure, Style, open_rasterizer, overlay
from tests.support.made_people import open_body

SIZE = (480, 360)  # width, height, px
FOCAL = 600.0
FPS = 30
FRAMES = 18
TICKS = Fraction(1, 600)  # s


def motion(frames: int) -> tuple[Tensor, Tensor]:
    """Three steps from left to right: rotmats (F, 24, 3, 3) and trans (F, 3) m, camera frame."""
    phase = torch.arange(frames) / FPS * 2 * torch.pi * 0.9
    swing, lift = phase.sin(), phase.cos()
    rotvecs = torch.zeros(frames, 24, 3)
    rotvecs[:, 1, 0], rotvecs[:, 2, 0] = -0.45 * swing, 0.45 * swing  # hips
    rotvecs[:, 4, 0], rotvecs[:, 5, 0] = 0.5 * (1 + lift) / 2, 0.5 * (1 - lift) / 2  # knees
    rotvecs[:, 16, 2], rotvecs[:, 17, 2] = -1.2, 1.2  # shoulders, arms hanging
    rotmats = axis_angle_to_matrix(rotvecs)
    arms = torch.zeros(frames, 2, 3)
    arms[:, 0, 0], arms[:, 1, 0] = 0.35 * swing, -0.35 * swing
    rotmats[:, 16:18] = axis_angle_to_matrix(arms) @ rotmats[:, 16:18]
    facing = axis_angle_to_matrix(torch.tensor([[torch.pi, 0, 0], [0, 0.9, 0]]))
    rotmats[:, 0] = facing[0] @ facing[1]
    along = torch.linspace(-0.5, 0.5, frames)
    trans = torch.stack([along, torch.full_like(along, 0.1), torch.full_like(along, 4.2)], -1)
    return rotmats, trans


def walk(body: Body, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vertices (F, V, 3) and joints (F, 24, 3) of the walk, m, camera frame."""
    rotmats, trans = motion(frames)
    with torch.no_grad():
        vertices, joints = body(rotmats, torch.zeros(frames, 10))
    return (vertices + trans[:, None]).numpy(), (joints + trans[:, None]).numpy()


def backdrop() -> Image:
    """A wall and a floor with a little texture."""
    rng = np.random.default_rng(0)
    width, height = SIZE
    image = np.full((height, width, 3), (196, 186, 170), np.float64)
    image[int(0.75 * height) :] = (120, 108, 96)
    image += rng.normal(0, 4, (height, width, 1))
    return image.clip(0, 255).astype(np.uint8)


def film(body: Body, frames: int) -> Iterator[Frame]:
    """The walk, drawn over the backdrop."""
    vertices, _ = walk(body, frames)
    camera = Camera.centred(FOCAL, SIZE)
    faces = body.faces.astype(np.int32)
    with open_rasterizer("cpu") as rasterizer:
        for n in range(frames):
            figures = [Figure(2, vertices[n])]
            image = overlay(backdrop(), figures, faces, camera, rasterizer, Style(alpha=1))
            yield Frame(n, n, n / FPS, image)


def film_unevenly(path: Path) -> Path:
    """The first FRAMES frames of the walk as a video whose rate varies."""
    clip = Clip(path, *SIZE, float(FPS), TICKS, FRAMES, has_audio=False)
    ticks = np.cumsum([20 + (n % 3) for n in range(FRAMES)]) - 20
    frames = film(open_body(), FRAMES)
    timed = (
        Frame(frame.index, int(at), float(at * TICKS), frame.image)
        for frame, at in zip(frames, ticks, strict=True)
    )
    video.write(path, clip, timed)
    return path
