"""What motion is likely before any keypoint is seen, and where the fit starts."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from staf_cli.core.geometry import axis_angle_to_matrix
from staf_cli.core.records import Float
from staf_cli.fitting.facing import Stance
from staf_cli.fitting.joint_limits import joint_limits
from staf_cli.fitting.motion import Motion
from staf_cli.fitting.observations import Observations

# How far off a good start usually is.
START_SIGMA = 0.6  # rad, of each joint, where its own sigma is not smaller
START_TURN_SIGMA = 0.3  # rad, of the pelvis
START_DEPTH_SIGMA = 0.1  # of ln z
# How far off one is that is made from the keypoints alone.
STANCE_TURN_SIGMA = 1.0  # rad, of the pelvis
STANCE_DEPTH_SIGMA = 0.3  # of ln z
RAY_SIGMA = 0.3  # sides of the box; of both


@dataclass(frozen=True)
class Prior:
    """Normal distributions around a start, F frames."""

    start: Motion
    rest: Tensor  # (F, 23, 3) rad, mean of the angles
    rest_sigma: Tensor  # (23, 3) rad
    turn_sigma: float  # rad, of the pelvis
    depth_sigma: float  # of ln z
    ray_sigma: float  # sides of the box

    def rows(self, rows: slice) -> "Prior":
        """Select some of the frames."""
        return replace(self, start=self.start.rows(rows), rest=self.rest[rows])


def near_start(start: Motion) -> Prior:
    """Make the prior of a start that is right but for small errors."""
    sigma = joint_limits().sigma.clamp(max=START_SIGMA)
    return Prior(start, start.angles, sigma, START_TURN_SIGMA, START_DEPTH_SIGMA, RAY_SIGMA)


def relaxed_at(stance: Stance, observed: Observations) -> Prior:
    """Make the prior of a relaxed person of mean shape, whose limbs may be anywhere in range.

    Args:
        stance: where the person is and which way they face, F frames.
        observed: the same frames; for their camera.

    Returns:
        F frames.
    """
    frames = len(stance.yaw)
    limits = joint_limits()
    ray = (stance.pelvis - np.array(observed.centre)) / observed.focal
    # The body's y is up and the camera's down: half a turn about x makes it face the camera.
    root = (
        _about(1, np.arctan(ray[:, 0]))  # yaw counts from the line of sight
        @ _about(2, stance.roll)
        @ _about(0, np.full(frames, np.pi))
        @ _about(1, stance.yaw)
    )
    start = Motion(
        root=root.float(),
        turn=torch.zeros(frames, 3),
        angles=limits.rest.repeat(frames, 1, 1),
        ray=torch.from_numpy(ray).float(),
        log_depth=torch.from_numpy(np.log(observed.focal / stance.scale)).float(),
        betas=torch.zeros(10),
    )
    return Prior(
        start, start.angles, limits.sigma, STANCE_TURN_SIGMA, STANCE_DEPTH_SIGMA, RAY_SIGMA
    )


def continued(prior: Prior, done: Motion, held: int) -> Prior:
    """Start a prior's first frames, and the shape, from a motion that is finished there.

    Args:
        prior: F frames.
        done: F frames, of which the first `held` are finished.
        held: how many.

    Returns:
        The prior with that start; its other frames start as before.
    """
    start, before, after = prior.start, slice(held), slice(held, None)
    start = Motion(
        root=torch.cat([done.root[before], start.root[after]]),
        turn=torch.cat([done.turn[before], start.turn[after]]),
        angles=torch.cat([done.angles[before], start.angles[after]]),
        ray=torch.cat([done.ray[before], start.ray[after]]),
        log_depth=torch.cat([done.log_depth[before], start.log_depth[after]]),
        betas=done.betas,
    )
    return replace(prior, start=start)


def _about(axis: int, angle: Float) -> Tensor:
    """Rotations (F, 3, 3), float64, by angles (F,) about one axis."""
    vectors = torch.zeros(len(angle), 3, dtype=torch.float64)
    vectors[:, axis] = torch.from_numpy(angle)
    return axis_angle_to_matrix(vectors)
