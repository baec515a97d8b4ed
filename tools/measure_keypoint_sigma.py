"""Measure KEYPOINT_SIGMA of staf_cli/fitting/energy.py: how far keypoints usually are off.

    python -m tools.measure_keypoint_sigma LSPET [--photos 500]

LSPET is a folder of Leeds Sports Pose Extended (staf_cli/training/photos.py): photos of athletes
with joints that people clicked. Three readings of each joint are compared: the labels, the
detector's keypoints, and the landmarks. Where their errors are independent, the variance of each
follows from those of the three differences. What two of them share counts as the third one's.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from staf_cli.checkpoints.registry import locate
from staf_cli.core.records import (
    COCO_KEYPOINTS,
    LANDMARKS,
    Bools,
    Float,
    Frame,
    LandmarkTrack,
    Track,
)
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.weights import load_landmarks
from staf_cli.tracking.detection import find_people
from staf_cli.tracking.detector import Detector, load_detector
from staf_cli.training.photos import LSP_JOINTS, Photo, read_labelled

JOINTS = LSP_JOINTS[:12]
PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
OTHER_SIDE = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
CONFIDENCE = 0.25  # of people, and of keypoints and landmarks that count
INSIDE = 0.8  # share of the labels that the box of the labelled person holds
OUTLIERS_WITHIN = 0.5  # sides of the box: outliers are anywhere within that distance


@dataclass(frozen=True)
class Readings:
    """The 12 joints of one person, in sides of the person's box."""

    label: Float  # (12, 2)
    keypoint: Float  # (12, 2)
    landmark: Float  # (12, 2)
    known: Bools  # (12,) in all three


def main() -> None:
    """Print the standard deviations, by part of the body, in 1/100 of the box's side."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_keypoint_sigma")
    parser.add_argument("folder", type=Path, metavar="LSPET")
    parser.add_argument("--photos", type=int, default=500)
    options = parser.parse_args()
    names = [photo.name for photo in read_labelled(options.folder)]
    chosen = set(np.random.default_rng(1).permutation(names)[: options.photos].tolist())
    photos = (photo for photo in read_labelled(options.folder) if photo.name in chosen)
    read = list(readings(photos))
    print(f"{len(read)} people; sigma of labels, keypoints, landmarks in 1/100 of the box's side")
    for part in PARTS:
        rows = [n for n, name in enumerate(JOINTS) if name.endswith(part)]
        points = [
            np.concatenate([getattr(one, name)[rows][one.known[rows]] for one in read])
            for name in ("label", "keypoint", "landmark")
        ]
        sigmas = " ".join(f"{100 * sigma:5.2f}" for sigma in three_cornered(*points))
        print(f"{part:9}", sigmas)


def readings(photos: Iterator[Photo]) -> Iterator[Readings]:
    """Read the labelled person of each photo; those whom the detector does not see are left out."""
    detector = load_detector(locate("yolo11n-pose"), torch.device("cpu"), torch.float32)
    network = load_landmarks()
    columns = [COCO_KEYPOINTS.index(name) for name in JOINTS]
    rows = [LANDMARKS.index(name) for name in JOINTS]
    for photo in photos:
        assert photo.labels is not None
        labels, frame = photo.labels[:12], Frame(0, 0, 0.0, photo.image)
        track = _track(frame, labels, detector)
        if track is None:
            continue
        found: list[LandmarkTrack] = []
        list(follow([frame], [track], network, 1.0, found))
        if not (found[0].score > 0).any():
            continue
        landmarks = found[0].kp2d[found[0].score > 0].mean(0).astype(np.float64)
        own = [_sides_of(points, labels) for points in (track.kp2d[0, columns], landmarks[rows])]
        known = (labels[:, 2] > 0) & np.all([one[:, 2] > CONFIDENCE for one in own], 0)
        size = (track.box[0, 2:] - track.box[0, :2]).max()
        yield Readings(labels[:, :2] / size, *(one[:, :2] / size for one in own), known)


def _track(frame: Frame, labels: Float, detector: Detector) -> Track | None:
    """The person whose box holds most of the labels, as a track of one frame."""
    ((_, seen),) = find_people([frame], detector, CONFIDENCE)
    points = labels[labels[:, 2] > 0, None, :2]  # (n, 1, 2)
    within = ((points > seen.box[:, :2]) & (points < seen.box[:, 2:])).all(-1).mean(0)  # (N,)
    within[seen.score < CONFIDENCE] = 0
    if not (within >= INSIDE).any():
        return None
    best = [int(within.argmax())]
    once, nothing = np.zeros(1), np.zeros(1, bool)
    index = np.zeros(1, np.int64)
    return Track(1, index, once, seen.box[best], seen.score[best], nothing, seen.kp2d[best])


def _sides_of(points: Float, labels: Float) -> Float:
    """Points (12, 3), or those of the other side: labels confuse left and right now and then."""
    seen = labels[:, 2] > 0
    off = [
        np.linalg.norm(one[seen, :2] - labels[seen, :2], axis=-1).sum()
        for one in (points, points[OTHER_SIDE])
    ]
    return points if off[0] <= off[1] else points[OTHER_SIDE]


def three_cornered(label: Float, keypoint: Float, landmark: Float) -> tuple[float, float, float]:
    """Compute the standard deviation of three readings (n, 2) of the same places."""
    a = sigma_of(keypoint - label) ** 2
    b = sigma_of(landmark - label) ** 2
    c = sigma_of(keypoint - landmark) ** 2
    variances = np.array([a + b - c, a + c - b, b + c - a]) / 2
    sigmas = np.sqrt(variances.clip(min=0)).tolist()
    return sigmas[0], sigmas[1], sigmas[2]


def sigma_of(off: Float) -> float:
    """Fit a normal distribution in the plane, among outliers, to differences (n, 2) by EM."""
    distance = np.linalg.norm(off, axis=-1)
    distance = distance[distance < OUTLIERS_WITHIN]
    sigma, outliers = 0.03, 0.2
    for _ in range(300):
        normal = distance / sigma**2 * np.exp(-0.5 * (distance / sigma) ** 2)
        good = (1 - outliers) * normal
        good /= good + outliers * 2 * distance / OUTLIERS_WITHIN**2
        sigma = float(np.sqrt((good * distance**2).sum() / (2 * good.sum())))
        outliers = 1 - float(good.mean())
    return sigma


if __name__ == "__main__":
    main()
