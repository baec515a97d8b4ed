"""Frames of a camera that turns inside a painted sphere, with people walking in front of it."""

from collections.abc import Sequence

import cv2
import numpy as np

from staf_cli.core.records import Float, Frame, Image, Track

SIZE = WIDTH, HEIGHT = 480, 270
FOCAL = float(np.hypot(*SIZE))
FPS = 10


def painted_sphere(seed: int = 0) -> Image:
    """A random texture of all scales, by longitude and latitude; it closes without a seam."""
    chance = np.random.default_rng(seed)
    layers = [
        cv2.resize(
            chance.normal(size=(size, size)).astype(np.float32),
            (1024, 1024),
            interpolation=cv2.INTER_CUBIC,
        )
        / size**0.25
        for size in (16, 64, 128, 256)
    ]
    texture = np.sum(layers, axis=0)
    both = np.concatenate([texture, texture[:, ::-1]], 1) / texture.std()
    sphere: Image = np.clip(128 + 45 * both, 0, 255).astype(np.uint8)
    return sphere


def look_around(sphere: Image, rotations: Float, focal: float = FOCAL) -> list[Frame]:
    """What cameras (F, 3, 3), camera -> world, see of the sphere; focal: px."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    rays = np.stack([x, y, np.full_like(x, focal)], -1)
    frames = []
    for index, rotation in enumerate(rotations):
        right, down, ahead = np.moveaxis(rays @ rotation.T, -1, 0)
        u = (np.arctan2(right, ahead) / (2 * np.pi) + 0.5) * sphere.shape[1]
        v = (np.arctan2(down, np.hypot(right, ahead)) / np.pi + 0.5) * sphere.shape[0]
        grey = cv2.remap(sphere, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
        image = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        frames.append(Frame(index, index, index / FPS, np.asarray(image, np.uint8)))
    return frames


def put_people(frames: Sequence[Frame], share: float) -> list[Track]:
    """Draw two textured rectangles that sway over the frames, together a share of the picture."""
    cloth = np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    cloth = np.asarray(cv2.GaussianBlur(cloth, (0, 0), 2), np.uint8)
    width, top = int(WIDTH * share / 2 / 0.9), int(0.1 * HEIGHT)
    boxes = np.zeros((2, len(frames), 4))
    for row, frame in enumerate(frames):
        for person in range(2):
            left = int(WIDTH * (0.25 + 0.35 * person + 0.1 * np.sin(row / 8 + person))) - width // 2
            x1, x2 = max(0, left), min(WIDTH, left + width)
            frame.image[top:, x1:x2] = cloth[top:, : x2 - x1]
            boxes[person, row] = x1, top, x2, HEIGHT
    count = len(frames)
    indices = np.array([frame.index for frame in frames])
    return [
        Track(
            id=person + 1,
            frame=indices,
            time=indices / FPS,
            box=boxes[person],
            score=np.ones(count),
            interpolated=np.zeros(count, bool),
            kp2d=np.zeros((count, 17, 3)),
        )
        for person in range(2)
    ]


def disturb(frames: Sequence[Frame], noise: float, flicker: float) -> list[Frame]:
    """The frames with noise of a sensor (grey levels), flicker (share), and JPEG's compression."""
    chance = np.random.default_rng(3)
    disturbed = []
    for one in frames:
        light = 1 + flicker * np.sin(1.3 * one.index)
        image = one.image * light + chance.normal(size=one.image.shape) * noise
        _, code = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8))
        decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
        disturbed.append(Frame(one.index, one.pts, one.time, decoded))
    return disturbed
