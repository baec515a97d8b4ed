"""Video clips of one synthetic person each, with their ground truth, for evaluation.

Each clip shows another recording as long as there are any left, so that few clips show many kinds
of motion. They are real videos: one camera's blur and noise per clip, and H.264.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core.errors import DatasetError
from staf_cli.core.records import Clip, Float, Frame
from staf_cli.evaluation.truth import Pose, Truth, save_truth
from staf_cli.tracking.detection import closest_keypoints, find_people
from staf_cli.tracking.detector import Detector
from staf_cli.tracking.loading import load_detector
from staf_cli.training.chance import branch, uniform
from staf_cli.training.loop import Say
from staf_cli.training.people.motion import Motions, join_clips
from staf_cli.training.studio.degradation import degrade
from staf_cli.training.studio.scenes import CLIP_SIZE, FilmedPerson, Studio, film

FPS = 30  # of the clips and of the motions
SHRINK = (1.3, 1.7)  # see `degrade`; mild
CONF = 0.25  # least score of a detected person, as in evaluation
GRAIN = ((3, 0.03), (24, 0.015), (120, 0.015))  # of a wall: lumps along its height, strength


def film_clips(
    studio: Studio,
    folder: Path,
    count: int,
    frames: int,
    seed: int,
    body: Body,
    say: Say,
    *,
    walls: bool = False,
    detector: Path | None = None,
) -> None:
    """Write clips <number>_<recording>.mp4 and their truth, <number>_<recording>.npz.

    Takes about 20 MB of memory per frame.

    Args:
        studio: What clips are made of.
        folder: Where to write them.
        count: Number of clips.
        frames: Length of each.
        seed: The same seed makes the same clips.
        body: Its identity becomes part of the truth.
        say: Called with a line for each clip.
        walls: Draw a wall behind the person instead of one of the studio's photos.
        detector: Weights of a detector whose keypoints become the truth's `detected`.

    Raises:
        DatasetError: No recording is long enough, or stays inside the image for so long.
        OutputError: A clip cannot be written.
    """
    generator = torch.Generator().manual_seed(seed)
    finder = None
    if detector is not None:
        finder = load_detector(detector, studio.device, torch.float32)
    films = _films(studio, frames, walls, generator)
    for number, (recording, pictures, filmed) in enumerate(islice(films, count)):
        path = folder / f"{number:02d}_{recording}.mp4"
        clip = Clip(path, *filmed.image_size, FPS, Fraction(1, FPS), frames, has_audio=False)
        video.write(path, clip, _degraded(pictures, generator))
        truth = _truth(filmed, body)
        if finder is not None:
            truth = replace(truth, detected=_detected(clip, truth.box, finder))
        save_truth(path.with_suffix(".npz"), truth, filmed.image_size, filmed.focal)
        say(f"{number + 1} of {count}: {path.name}")


def _films(
    studio: Studio, frames: int, walls: bool, generator: torch.Generator
) -> Iterator[tuple[str, Iterator[NDArray[np.uint8]], FilmedPerson]]:
    """Yield recordings' names, pictures and truth, without end; one recording after the other."""
    order = torch.randperm(len(studio.motions), generator=generator).tolist()
    failed = 0
    for row in cycle(order):
        one = replace(studio, motions=_single(studio.motions, row))
        own = branch(generator)
        wall = _wall(own) if walls else None
        try:
            pictures, filmed = film(one, frames, own, wall)
        except DatasetError:
            failed += 1
            if failed == len(order):
                raise
            continue
        failed = 0
        yield studio.motions.names[row], pictures, filmed


def _single(motions: Motions, row: int) -> Motions:
    """Return one clip as motions of their own."""
    return join_clips([(motions.names[row], *motions.clip(row))], motions.fps)


def _degraded(pictures: Iterable[NDArray[np.uint8]], generator: torch.Generator) -> Iterator[Frame]:
    """Degrade the pictures as one camera would, and yield them as frames."""
    images = torch.stack([torch.from_numpy(picture) for picture in pictures])
    images = images.permute(0, 3, 1, 2).float() / 255
    group = torch.zeros(len(images), dtype=torch.int64)
    images = degrade(images, branch(generator), group, shrink=SHRINK)
    for index, image in enumerate(images):
        pixels = (image * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
        yield Frame(index, index, index / FPS, np.ascontiguousarray(pixels))


def _truth(filmed: FilmedPerson, body: Body) -> Truth:
    """Convert the truth, in 3D only: 2D metrics are for photos, labelled by people."""
    arrays = (filmed.box, filmed.poses, filmed.betas, filmed.trans)
    box, poses, betas, trans = (array.astype(np.float64) for array in arrays)
    return Truth(
        frame=np.arange(len(poses)),
        box=box,
        pose=Pose(poses, betas, trans, body.identity),
        kp2d=None,
        detected=None,
    )


def _detected(clip: Clip, box: Float, detector: Detector) -> Float:
    """Detect the person in these boxes: COCO keypoints (F, 17, 3), 0 where the detector fails."""
    kp2d = np.zeros((len(box), 17, 3))
    for frame, seen in find_people(video.frames(clip, video.Damage()), detector, CONF):
        own = closest_keypoints(box[frame.index], seen)
        if own is not None:
            kp2d[frame.index] = own
    return kp2d


def _wall(generator: torch.Generator) -> Tensor:
    """Draw a wall (3, H, W) of CLIP_SIZE, linear RGB: of one colour, unevenly lit, not smooth."""
    width, height = CLIP_SIZE
    colour = 0.35 + 0.3 * torch.rand(3, generator=generator)  # sRGB
    fall = torch.linspace(0.12, -0.12, height)[:, None] * uniform(generator, 0.3, 1.0)
    across = torch.linspace(-0.08, 0.08, width) * uniform(generator, -1.0, 1.0)
    light = fall + across + sum(_lumps(*grain, generator) for grain in GRAIN)
    return (colour[:, None, None] + light).clamp(0, 1).square()


def _lumps(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Draw smooth noise (H, W) of CLIP_SIZE with about `count` lumps along its height."""
    width, height = CLIP_SIZE
    noise = torch.randn(1, 1, count + 1, (count + 1) * width // height, generator=generator)
    smooth = interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    return strength * smooth[0, 0]
