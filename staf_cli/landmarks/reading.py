"""People's landmarks, read from their regions of frames by the landmark network.

Letters in shapes: N people, each with a frame and a region of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from staf_cli.core.records import LANDMARKS, MASK_PIXELS, MIRRORED_LANDMARKS, Bools, Float, Image
from staf_cli.core.regions import CROP_PIXELS, around_landmarks, cut, to_camera, to_frame
from staf_cli.landmarks.network import POINTS
from staf_cli.landmarks.reader import CropReader

BODY = len(LANDMARKS)  # the first of the network's points
BATCH = 8  # crops at a time


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the network saw of people."""

    kp2d: Float  # (N, 33, 3) x, y px of the frame, visibility in [0, 1]
    metres: Float  # (N, 33, 3) m from the centre of the hips, camera axes: x right, y down, z away
    score: Float  # (N,) in [0, 1], that there is a person
    region: Float  # (N, 4) where the network looked (regions.py)
    next_region: Float  # (N, 4) where it asks to look instead
    mask: Image  # (N, 64, 64) 255 times the probability that a part of the region shows the person


def read(reader: CropReader, images: Sequence[Image], regions: Float, mirrored: Bools) -> Landmarks:
    """Read the landmarks of people.

    The network errs to one side: in the mirror image it takes the other shoulder for the nearer
    one. The mean of both is nearer to the truth (bones of synthetic people: 14.2 for 16.3 degrees).

    Args:
        reader: reads landmarks from crops.
        images: N frames (H, W, 3) RGB uint8, one for each person; the same frame may be repeated.
        regions: (N, 4) the region of each person (core/regions.py).
        mirrored: (N,) whether to look at the mirror image of the region.

    Returns:
        The landmarks, float64.
    """
    found, masks = [np.empty((0, POINTS, 7))], [np.empty((0, MASK_PIXELS, MASK_PIXELS), np.uint8)]
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        crops = np.stack([cut(images[row], regions[row]) for row in rows])
        across = mirrored[rows.start : rows.stop]
        points, mask = reader(_flip_some(crops, across))
        found.append(_mirror_some(points, across))
        masks.append(_flip_some(mask, across))
    seen = np.concatenate(found)  # (N, 39, 7)
    places = to_frame(seen[..., :2], regions)  # (N, 39, 2)
    return Landmarks(
        kp2d=np.concatenate([places, seen[..., 2:3]], -1)[:, :BODY],
        metres=to_camera(seen[:, :BODY, 4:], regions),
        score=seen[:, 0, 3],
        region=regions,
        next_region=around_landmarks(places),
        mask=np.concatenate(masks),
    )


def look_at(reader: CropReader, image: Image, regions: Float) -> Landmarks:
    """Read the landmarks of people in one frame.

    Args:
        reader: reads landmarks from crops.
        image: (H, W, 3) RGB uint8.
        regions: (N, 4) the region of each person (core/regions.py).

    Returns:
        The landmarks, float64.
    """
    return read(reader, [image] * len(regions), regions, np.zeros(len(regions), bool))


def selected(seen: Landmarks, n: int) -> Landmarks:
    """Select what was seen of one person.

    Args:
        seen: N people.
        n: which of them.

    Returns:
        The same with N = 1.
    """
    return Landmarks(**{f.name: getattr(seen, f.name)[n : n + 1] for f in fields(Landmarks)})


def one_by_one(seen: Landmarks) -> Iterator[Landmarks]:
    """Take what was seen apart, by person.

    Args:
        seen: N people.

    Returns:
        N times what was seen of one.
    """
    return (selected(seen, n) for n in range(len(seen.score)))


def joined(seen: Sequence[Landmarks]) -> Landmarks:
    """Join what was seen of people.

    Args:
        seen: of some people each.

    Returns:
        What was seen of all, in order.
    """
    columns = {f.name: [getattr(one, f.name) for one in seen] for f in fields(Landmarks)}
    return Landmarks(**{name: np.concatenate(column) for name, column in columns.items()})


def _flip_some(pictures: Image, mirrored: Bools) -> Image:
    """Flip some of the pictures (N, H, W, ...) left to right."""
    flipped = pictures.copy()
    flipped[mirrored] = pictures[mirrored][:, :, ::-1]
    return flipped


def _mirror_some(points: Float, mirrored: Bools) -> Float:
    """Tell some of the points (N, 39, 7), seen in a mirror, of the picture as it is."""
    told = points.copy()
    told[mirrored, :BODY] = points[mirrored][:, MIRRORED_LANDMARKS]
    told[mirrored, :, 0] = CROP_PIXELS - told[mirrored, :, 0]
    told[mirrored, :, 4] *= -1
    return told
