"""People's landmarks, read from their regions of frames by the landmark network.

Letters in shapes: N people, each with a frame and a region of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from staf_cli.core.devices import send
from staf_cli.core.records import Float, Image
from staf_cli.core.regions import CROP_PIXELS, around_landmarks, cut, to_camera, to_frame
from staf_cli.landmarks.network import POINTS, PoseLandmarkNetwork

LANDMARKS = (  # left and right are the person's own
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)
BODY = len(LANDMARKS)  # the first of the network's points
BATCH = 8  # crops at a time


def _mirrored(name: str) -> str:
    """The landmark of the other side."""
    other = {"left": "right", "right": "left"}
    return "_".join(other.get(word, word) for word in name.split("_"))


# In a mirrored picture landmark i is found where MIRROR[i] is.
MIRROR = np.array([*(LANDMARKS.index(_mirrored(name)) for name in LANDMARKS), *range(BODY, POINTS)])


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the network saw of people."""

    kp2d: Float  # (N, 33, 3) x, y px of the frame, visibility in [0, 1]
    metres: Float  # (N, 33, 3) m from the centre of the hips, camera axes: x right, y down, z away
    score: Float  # (N,) in [0, 1], that there is a person
    region: Float  # (N, 4) where the network looked (regions.py)
    next_region: Float  # (N, 4) where it asks to look instead
    disagreement: Float | None  # (N, 33) m between picture and mirrored picture; None: not asked


def read(
    network: PoseLandmarkNetwork,
    images: Sequence[Image],
    regions: Float,
    mirrored: bool = False,
) -> Landmarks:
    """Read the landmarks of people.

    Args:
        network: On the device that computes, in float32.
        images: N frames (H, W, 3) RGB uint8, one for each person; the same frame may be repeated.
        regions: (N, 4) the region of each person (regions.py).
        mirrored: Whether mirrored crops are read as well, in twice the time: points, visibility
            and score are the averages of both.

    Returns:
        The landmarks, float64.
    """
    found = [np.empty((0, 1 + mirrored, POINTS, 7))]
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        crops = np.stack([cut(images[row], regions[row]) for row in rows])
        views = [_look(network, crops)]
        if mirrored:
            views.append(_mirror(_look(network, crops[:, :, ::-1])))
        found.append(np.stack(views, 1))
    seen = np.concatenate(found)  # (N, 1 or 2, 39, 7)
    mean = seen.mean(1)
    places = to_frame(mean[..., :2], regions)  # (N, 39, 2)
    disagreement = np.linalg.norm(seen[:, 0, :, 4:] - seen[:, -1, :, 4:], axis=-1)
    return Landmarks(
        kp2d=np.concatenate([places, mean[..., 2:3]], -1)[:, :BODY],
        metres=to_camera(mean[:, :BODY, 4:], regions),
        score=mean[:, 0, 3],
        region=regions,
        next_region=around_landmarks(places),
        disagreement=disagreement[:, :BODY] if mirrored else None,
    )


@torch.inference_mode()
def _look(network: PoseLandmarkNetwork, crops: Image) -> Float:
    """Run the network on crops (N, 256, 256, 3).

    Returns:
        (N, 39, 7) x, y px of the crop, visibility, the crop's score, and x, y, z m.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(crops))
    images = send(pixels, network.stem.weight.device).permute(0, 3, 1, 2)  # channels last
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # it moves points by cm
        points = network.points(images.float() / 255)
    score = points.score[:, None, None].expand(-1, POINTS, 1)
    visibility = points.landmarks[..., 3:4].sigmoid()
    columns = [points.landmarks[..., :2], visibility, score, points.metres]
    return torch.cat(columns, -1).double().cpu().numpy()


def _mirror(seen: Float) -> Float:
    """Convert what `_look` found in mirrored crops to the crops themselves."""
    mirrored = seen[:, MIRROR]
    mirrored[..., 0] = CROP_PIXELS - mirrored[..., 0]
    mirrored[..., 4] *= -1
    return mirrored
