"""Clips of one synthetic person each with their truth, to evaluate on: truth.py's format.

Every clip is of another recording as long as there are any, so that few clips show many kinds of
motion. They are real videos: a camera's blur and noise, the same throughout, and H.264.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

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
from staf_cli.tracking.detection import closest_keypoints, find_people, load_detector, look_closer
from staf_cli.training.chance import branch, uniform
from staf_cli.training.loop import Say
from staf_cli.training.people.motion import Motions, join_clips
from staf_cli.training.studio.degradation import degrade
from staf_cli.training.studio.scenes import CLIP_SIZE, Filmed, Studio, film

FPS = 30  # of the motions as well
SHRINK = (1.3, 1.7)  # a mild camera's lack of detail, times
CONF = 0.25  # score from which the detector believes in a person, as in evaluation
GRAIN = ((3, 0.03), (24, 0.015), (120, 0.015))  # of a wall: lumps along its height, and how strong


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
    """Write `count` clips of `frames` frames, <number>_<recording>.mp4 and .npz, into the folder.

    The same seed gives the same clips. With walls, a drawn wall is behind the person instead of
    one of the studio's photos. With a detector, its keypoints become the truth's
    `detected`. Takes about 20 MB of memory a frame. Raises DatasetError where no recording is
    long enough, or stays inside the image for so long, OutputError where a clip cannot be
    written.
    """
    generator = torch.Generator().manual_seed(seed)
    model = None if detector is None else load_detector(detector)
    takes = _takes(studio, frames, walls, generator)
    for number, (recording, pictures, filmed) in enumerate(islice(takes, count)):
        path = folder / f"{number:02d}_{recording}.mp4"
        clip = Clip(path, *filmed.image_size, FPS, Fraction(1, FPS), frames, has_audio=False)
        video.write(path, clip, _worn(pictures, generator))
        truth = _truth(filmed, body)
        if model is not None:
            truth = replace(truth, detected=_detected(clip, truth.box, model, studio.device))
        save_truth(path.with_suffix(".npz"), truth, filmed.image_size, filmed.focal)
        say(f"{number + 1} of {count}: {path.name}")


def _takes(
    studio: Studio, frames: int, walls: bool, generator: torch.Generator
) -> Iterator[tuple[str, Iterator[NDArray[np.uint8]], Filmed]]:
    """The name of a recording, pictures and truth, without end; one recording after the other."""
    order = torch.randperm(len(studio.motions), generator=generator).tolist()
    failed = 0
    for row in cycle(order):
        one = replace(studio, motions=_only(studio.motions, row))
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


def _only(motions: Motions, row: int) -> Motions:
    return join_clips([(motions.names[row], *motions.clip(row))], motions.fps)


def _worn(pictures: Iterable[NDArray[np.uint8]], generator: torch.Generator) -> Iterator[Frame]:
    """The pictures as a camera would have taken them, one camera for all."""
    images = torch.stack([torch.from_numpy(picture) for picture in pictures])
    images = images.permute(0, 3, 1, 2).float() / 255
    together = torch.zeros(len(images), dtype=torch.int64)
    images = degrade(images, branch(generator), together, shrink=SHRINK)
    for index, image in enumerate(images):
        pixels = (image * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
        yield Frame(index, index, index / FPS, np.ascontiguousarray(pixels))


def _truth(filmed: Filmed, body: Body) -> Truth:
    """Only in 3D: 2D figures are about photos, where people have labelled what they see."""
    arrays = (filmed.box, filmed.poses, filmed.betas, filmed.trans)
    box, poses, betas, trans = (array.astype(np.float64) for array in arrays)
    return Truth(
        frame=np.arange(len(poses)),
        box=box,
        pose=Pose(poses, betas, trans, body.identity),
        kp2d=None,
        detected=None,
    )


def _detected(clip: Clip, box: Float, model: Any, device: torch.device) -> Float:
    """COCO keypoints (F, 17, 3) as a detector sees the person in these boxes; 0 where it fails."""
    kp2d = np.zeros((len(box), 17, 3))
    people = find_people(video.frames(clip, video.Damage()), model, CONF, device)
    for frame, seen in look_closer(people, model, device):
        own = closest_keypoints(box[frame.index], seen)
        if own is not None:
            kp2d[frame.index] = own
    return kp2d


def _wall(generator: torch.Generator) -> Tensor:
    """A painted wall (3, H, W) of CLIP_SIZE, linear RGB: one colour, lit unevenly, not smooth."""
    width, height = CLIP_SIZE
    colour = 0.35 + 0.3 * torch.rand(3, generator=generator)  # sRGB
    fall = torch.linspace(0.12, -0.12, height)[:, None] * uniform(generator, 0.3, 1.0)
    across = torch.linspace(-0.08, 0.08, width) * uniform(generator, -1.0, 1.0)
    light = fall + across + sum(_lumps(*grain, generator) for grain in GRAIN)
    return (colour[:, None, None] + light).clamp(0, 1).square()


def _lumps(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Smooth noise (H, W) of CLIP_SIZE with about so many lumps along its height."""
    width, height = CLIP_SIZE
    noise = torch.randn(1, 1, count + 1, (count + 1) * width // height, generator=generator)
    smooth = interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    return strength * smooth[0, 0]
