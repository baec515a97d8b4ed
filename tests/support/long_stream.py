"""The whole of `staf run` over a made-up stream of frames, in a process of its own.

    python -m tests.support.long_stream FRAMES FOLDER

Frames, detector, network and body are as small as they can be; everything else is the real
thing. Prints the most memory that the process had up to the end of each pass, bytes, how
long they took, and how many frames came and went.
"""

import json
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch

from staf_cli import video
from staf_cli.core.records import MASK_PIXELS, Clip, Detections, Float, Frame, Image
from staf_cli.fitting import refine
from staf_cli.landmarks import following
from staf_cli.landmarks.network import PoseLandmarkNetwork
from staf_cli.landmarks.reading import BODY, Landmarks
from staf_cli.model.regressor import Theta
from staf_cli.model.staf import STAF
from staf_cli.pipeline import clip as clip_pipeline
from staf_cli.pipeline import passes
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.options import Options
from staf_cli.recovery import engine
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.report import content
from staf_cli.tracking import detection
from tests.support.replacing import replace_attributes
from tests.support.simple_walk import small_body

FPS = 25
SIZE = (64, 48)  # width, height, px
SECOND_PERSON = 1500  # frames for which a second person is there, and then as long away


class UprightNetwork:
    """Recovers an upright person, whatever the crop shows."""

    def encoder(self, crops):
        return crops.mean((2, 3))

    def frame_maps(self, features):
        return features

    def stack(self, frames):
        return torch.cat(frames)

    def recover(self, maps, rows):
        windows = len(rows)
        pose = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(windows, 24)
        pose[:, :6] = torch.tensor([1.0, 0, 0, -1, 0, 0])
        theta = Theta(
            pose, torch.zeros(windows, 10), torch.tensor([[0.9, 0, 0]]).repeat(windows, 1)
        )
        return theta, theta, theta


def upright_network() -> STAF:
    return cast(STAF, UprightNetwork())


def stream(count: int) -> Iterator[Frame]:
    return map(made_frame, range(count))


def made_frame(n: int) -> Frame:
    return Frame(n, n, n / FPS, np.full((SIZE[1], SIZE[0], 3), 60 + n % 30, np.uint8))


def people(frames, model, conf, device):
    """One person all the time, and a second one now and then."""
    rng = np.random.default_rng(0)
    inside = rng.uniform(0.1, 0.9, (17, 2))
    for frame in frames:
        count = 1 + frame.index // SECOND_PERSON % 2
        x = np.array([18.0, 44.0])[:count] + 4 * np.sin(frame.index / 50)
        box = np.stack([x - 8, 0 * x + 4, x + 8, 0 * x + 44], 1)
        places = box[:, None, :2] + (inside + rng.normal(0, 0.02, (count, 17, 2))) * (16, 40)
        yield (
            frame,
            Detections(
                frame=frame.index,
                time=frame.time,
                box=box,
                score=np.full(count, 0.9),
                track_id=np.zeros(count, np.int64),
                kp2d=np.concatenate([places, np.full((count, 17, 1), 0.9)], -1),
            ),
        )


def landmarks(network: object, images: list[Image], regions: Float, *_: object) -> Landmarks:
    """Landmarks that fill their regions as a person would."""
    count, rng = len(images), np.random.default_rng(0)
    spread = regions[:, None, 2:3] * rng.uniform(-0.4, 0.4, (count, BODY, 2))
    return Landmarks(
        kp2d=np.concatenate([regions[:, None, :2] + spread, np.ones((count, BODY, 1))], -1),
        metres=rng.normal(0, 0.3, (count, BODY, 3)),
        score=np.ones(count),
        region=regions,
        next_region=regions,
        mask=np.full((count, MASK_PIXELS, MASK_PIXELS), 255, np.uint8),
    )


def main(count: int, folder: Path) -> None:
    peaks: dict[str, int] = {}
    written = 0

    def note(what):
        peaks[what] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def watch(what, items, total):
        yield from items
        note(what)

    def write(path, clip, frames, codec):
        nonlocal written
        written = sum(1 for _ in frames)
        path.write_bytes(b"drawn")

    torch.set_num_threads(1)
    path = folder / "stream.mp4"
    path.write_bytes(b"made up")
    clip = Clip(path, *SIZE, float(FPS), Fraction(1, FPS), count, has_audio=False)
    replace_attributes(
        video,
        probe=lambda *_: clip,
        inspect=lambda *_: video.Damage(),
        frames=lambda *_: stream(count),
        frames_before=lambda clip, damage, times, end: map(made_frame, reversed(range(end))),
        write=write,
    )
    replace_attributes(
        detection,
        load_detector=lambda *_: SimpleNamespace(has_keypoints=False),
        find_people=people,
    )
    replace_attributes(following, read=landmarks)
    replace_attributes(engine, crop_image=lambda image, square: np.zeros((8, 8, 3), np.uint8))
    replace_attributes(
        passes,
        vertices=lambda person, body, rows: np.zeros((len(person.frame[rows]), 1, 3), np.float32),
        overlay=lambda image, *_: image,
        look_at=lambda reader, image, at: landmarks(reader, [image] * len(at), at),
    )
    replace_attributes(content, _pictures=lambda *_: (0.0, {}))  # of the overlay, which is none
    replace_attributes(refine, STEPS=1)  # every step takes the same memory
    tools = Tools(
        detector=Path("none.pt"),
        detector_sha256="0",
        body=small_body(),
        network=upright_network(),
        weights="standing 0",
        crop_scale=1.1,
        settings=engine.Settings(torch.device("cpu"), dtype=torch.float32),
        landmark_reader=cast(PoseLandmarkNetwork, SimpleNamespace()),
    )
    options = Options(recovery=RecoveryOptions(refine=True))
    summary = clip_pipeline.run_clip(path, folder / "out", options, tools, watch)
    note("report")
    print(
        json.dumps(
            {
                "peaks": peaks,
                "seconds": summary.seconds,
                "frames": summary.frames,
                "written": written,
                "rows": sum(person.frames for person in summary.people),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
