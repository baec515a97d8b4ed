"""What a track shows of a person, as tensors, and the camera that saw it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from staf_cli.core.geometry import project
from staf_cli.core.records import Person, Track
from staf_cli.fitting.bones import LEG_BONES
from staf_cli.fitting.keypoints import USUAL_HEIGHT, SeenKeypoints
from staf_cli.fitting.landmark_cue import POINTS, LandmarkCue

FOOT_AT_REST = 0.4  # m/s: an ankle keypoint slower than this is at rest
LEG_KEYPOINTS = ((13, 15), (14, 16))  # COCO's knee and ankle, left and right
EDGE = 0.02  # of the picture's height: a box that ends nearer to its lower edge is cut off
CLEARLY_SEEN = 0.4  # confidence of a knee or ankle, from which a leg is in the picture
LEAST_DEPTH = 0.1  # m: points nearer to the camera, or behind it, are projected from there


@dataclass(frozen=True)
class Observations:
    """F frames of a track, float32."""

    keypoints: Tensor  # (F, 17, 2) px
    weight: Tensor  # (F, 17) confidence; 0: not used
    size: Tensor  # (F,) px, longer side of the box
    step: Tensor  # (F,) s to the next frame
    joined: Tensor  # (F,) 1 where the next frame follows without a gap, 0 elsewhere
    at_rest: Tensor  # (F, 2) in [0, 1]: how surely the left and right foot rest until then
    focal: float  # px
    centre: tuple[float, float]  # px
    landmarks: LandmarkCue | None  # what the landmark network says of the same frames

    def rows(self, rows: slice) -> "Observations":
        """Select some of the frames."""
        return replace(
            self,
            keypoints=self.keypoints[rows],
            weight=self.weight[rows],
            size=self.size[rows],
            step=self.step[rows],
            joined=self.joined[rows],
            at_rest=self.at_rest[rows],
            landmarks=None if self.landmarks is None else self.landmarks.rows(rows),
        )

    def project(self, points: Tensor) -> Tensor:
        """Project points into the image; those behind the camera as if just before it.

        Args:
            points: (..., 3) m, camera frame.

        Returns:
            (..., 2) px.
        """
        in_front = torch.cat([points[..., :2], points[..., 2:].clamp(min=LEAST_DEPTH)], -1)
        return project(in_front, self.focal, self.centre)


def observe(seen: SeenKeypoints, person: Person, landmarks: LandmarkCue | None) -> Observations:
    """Convert a track's keypoints to tensors and find the feet that rest.

    Args:
        seen: F frames of keypoints, sides corrected.
        person: whose camera saw them.
        landmarks: of the same frames, if the landmark network looked at them.

    Returns:
        F frames.
    """
    keypoints, weight = torch.from_numpy(seen.keypoints), torch.from_numpy(seen.weight)
    size, step = torch.from_numpy(seen.size), torch.from_numpy(seen.step)
    joined = torch.from_numpy(seen.joined).double()
    width, height = person.image_size
    return Observations(
        keypoints=keypoints.float(),
        weight=weight.float(),
        size=size.float(),
        step=step.float(),
        joined=joined.float(),
        at_rest=_feet_at_rest(keypoints[:, 15:], weight[:, 15:], size, step, joined).float(),
        focal=person.focal_length,
        centre=(width / 2, height / 2),
        landmarks=landmarks,
    )


def legs_outside(observed: Observations, track: Track, height: int) -> Tensor:
    """Find the legs of which nothing is seen, and that go on below the picture.

    Args:
        observed: F frames.
        track: the same frames.
        height: of the picture, px.

    Returns:
        (F, 2) in [0, 1]: how surely the left and the right leg are outside.
    """
    seen = torch.stack([observed.weight[:, leg].amax(1) for leg in LEG_KEYPOINTS], 1)
    if observed.landmarks is not None:
        point = torch.from_numpy(POINTS[:, 0])
        weight = observed.landmarks.point_weight
        columns = [torch.isin(point, torch.tensor(leg)) for leg in LEG_KEYPOINTS]
        seen = torch.maximum(seen, torch.stack([weight[:, leg].amax(1) for leg in columns], 1))
    cut_off = torch.from_numpy(track.box[:, 3] > (1 - EDGE) * height).float()
    return (1 - seen / CLEARLY_SEEN).clamp(min=0) * cut_off[:, None]


def without_legs(observed: Observations, outside: Tensor) -> Observations:
    """Leave out the directions of the bones of legs that are outside (F, 2) of the picture."""
    if observed.landmarks is None:
        return observed
    weight = observed.landmarks.bone_weight.clone()
    for side, bones in enumerate(LEG_BONES):
        weight[:, bones] *= 1 - outside[:, side, None]
    return replace(observed, landmarks=replace(observed.landmarks, bone_weight=weight))


def _feet_at_rest(
    ankles: Tensor, weight: Tensor, size: Tensor, step: Tensor, joined: Tensor
) -> Tensor:
    """How surely each ankle (F, 2, 2) px is at rest until the next frame: (F, 2) in [0, 1]."""
    # From a mean over five frames, because single keypoints jitter faster than feet walk.
    total = torch.cat([ankles * weight[..., None], weight[..., None]], -1)  # (F, 2, 3)
    gaps = (joined[:-1] == 0).nonzero().flatten() + 1
    summed = torch.cat([_sum_of_five(run) for run in torch.tensor_split(total, gaps.tolist())])
    mean = summed[..., :2] / summed[..., 2:].clamp(min=1e-6)
    # One height for every box is enough to distinguish slow from fast.
    speed = (mean.roll(-1, 0) - mean).norm(dim=-1) * USUAL_HEIGHT / (size * step)[:, None]
    sure = torch.minimum(weight, weight.roll(-1, 0)) * joined[:, None]
    return sure * torch.exp(-((speed / FOOT_AT_REST) ** 2))


def _sum_of_five(run: Tensor) -> Tensor:
    """Each frame of (F, 2, 3) added to its two neighbours on either side, as far as there are."""
    kernel = torch.ones(1, 1, 5, dtype=run.dtype)
    summed = torch.nn.functional.conv1d(run.flatten(1).T[:, None], kernel, padding=2)
    return summed[:, 0].T.reshape(run.shape)
