"""Measure how far keypoints and landmarks are off: the sigmas and doubts of fitting/energy.py.

    staf train clips DATA CLIPS --count 12 --frames 40 --seed 11 --detect
    python -m tools.measure_keypoint_sigma CLIPS

The truth of the clips is exact. The distances of a point are those of a normal distribution in the
plane among outliers, which may be anywhere near. The ln of its sigma falls in proportion to the
confidence, alike for all points of a network; sigmas, that slope and the share of outliers are
the likeliest ones.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from staf_cli.body.format import load_body
from staf_cli.body.posing import rotation_matrices
from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.checkpoints.registry import OPEN_BODY, locate
from staf_cli.core.geometry import project
from staf_cli.core.records import COCO_KEYPOINTS, LANDMARKS, Float, Float32, LandmarkTrack, Track
from staf_cli.evaluation.truth import Footage, Truth, open_dataset
from staf_cli.fitting.keypoints import LEAST_CONFIDENCE
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.reader import load_reader
from staf_cli.training.losses import labelled_points

PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COLUMNS = [[n for n, name in enumerate(COCO_KEYPOINTS) if name.endswith(part)] for part in PARTS]
OUTLIERS_WITHIN = 0.5  # sides of the box


@dataclass(frozen=True)
class Readings:
    """What a network reads of COCO's keypoints in N frames."""

    off: Float  # (N, 17) distances from the truth, in sides of the person's box
    confidence: Float  # (N, 17)


def main() -> None:
    """Print what is measured on a folder of clips, sigmas in 1/100 of the box's side."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_keypoint_sigma")
    parser.add_argument("clips", type=Path)
    read = list(_readings(parser.parse_args().clips))
    for name, column in (("keypoints", 0), ("landmarks", 1)):
        own = [pair[column] for pair in read]
        sigmas, doubt, outliers = _likeliest(
            np.concatenate([one.off for one in own]),
            np.concatenate([one.confidence for one in own]),
        )
        usual = " ".join(f"{part} {100 * s:.2f}" for part, s in zip(PARTS, sigmas, strict=True))
        print(f"{name}: {usual}; doubt {doubt:.2f}, outliers {outliers:.3f}")


def _readings(folder: Path) -> Iterator[tuple[Readings, Readings]]:
    """The detector's and the landmark network's readings of each person."""
    network = load_reader(torch.device("cpu"))
    points = labelled_points(Body(OPEN_BODY, load_body(locate(OPEN_BODY))))
    for footage in open_dataset(folder):
        for truth in footage.people:
            track, found = _track(footage, truth), list[LandmarkTrack]()
            true = _keypoints(footage, truth, points)
            for _ in follow(footage.frames(), [track], network, footage.clip.fps, found):
                pass
            (seen,) = found
            believed = seen.score > 0
            rows = np.searchsorted(track.frame, seen.frame[believed])
            columns = [LANDMARKS.index(name) for name in COCO_KEYPOINTS]
            size = (track.box[:, 2:] - track.box[:, :2]).max(-1)
            yield (
                _against(true, size, track.kp2d),
                _against(true[rows], size[rows], seen.kp2d[believed][:, columns]),
            )


def _track(footage: Footage, truth: Truth) -> Track:
    count = len(truth.frame)
    assert truth.detected is not None
    ones, none = np.ones(count), np.zeros(count, bool)
    time = truth.frame / footage.clip.fps
    return Track(1, truth.frame, time, truth.box, ones, none, truth.detected)


def _keypoints(footage: Footage, truth: Truth, points: BodyPoints) -> Float:
    """COCO's keypoints of the true bodies, (F, 17, 2) px."""
    pose = truth.pose
    assert pose is not None
    rotmats, betas = rotation_matrices(pose.poses).float(), torch.from_numpy(pose.betas).float()
    places = points(rotmats, betas)[0][:, 14:].double() + torch.from_numpy(pose.trans)[:, None]
    size = footage.clip.image_size
    centre = (size[0] / 2, size[1] / 2)
    pixels: Float = project(places, footage.focal, centre).numpy()
    return pixels


def _against(true: Float, size: Float, points: Float | Float32) -> Readings:
    """Compare points (n, 17, 3) with the true ones (n, 17, 2) of people of these sizes (n,)."""
    points = points.astype(np.float64)
    off = np.linalg.norm(points[..., :2] - true, axis=-1) / size[:, None]
    return Readings(off, points[..., 2])


def _likeliest(off: Float, confidence: Float) -> tuple[Float, float, float]:
    """The sigma of each part at a confidence of 1, how doubt widens it, the share of outliers."""
    parts = [(off[:, columns].ravel(), confidence[:, columns].ravel()) for columns in COLUMNS]
    known = [(c >= LEAST_CONFIDENCE) & (d < OUTLIERS_WITHIN) for d, c in parts]
    parts = [(d[k], c[k]) for (d, c), k in zip(parts, known, strict=True)]

    def cost(unknown: Float) -> float:
        share = 1 / (1 + np.exp(-unknown[-1]))
        total = 0.0
        for (distance, sure), ln_sigma in zip(parts, unknown, strict=False):
            sigma = np.exp(ln_sigma + unknown[-2] * (1 - sure))
            normal = distance / sigma**2 * np.exp(-0.5 * (distance / sigma) ** 2)
            stray = 2 * distance / OUTLIERS_WITHIN**2
            total -= float(np.log((1 - share) * normal + share * stray + 1e-12).sum())
        return total

    start = np.array([*[np.log(0.03)] * len(PARTS), 1.0, -3.0])
    found = minimize(cost, start, method="L-BFGS-B").x
    return np.exp(found[:-2]), float(found[-2]), float(1 / (1 + np.exp(-found[-1])))


if __name__ == "__main__":
    main()
