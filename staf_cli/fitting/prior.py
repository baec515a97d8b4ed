"""What motion is likely before any keypoint is seen, and where the fit starts."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.core.records import Float
from staf_cli.fitting.facing import Stance
from staf_cli.fitting.joint_limits import joint_limits
from staf_cli.fitting.landmark_cue import LandmarkCue, far_turned
from staf_cli.fitting.motion import Motion
from staf_cli.fitting.observations import Observations

# How far off a good start usually is.
START_SIGMA = 0.6  # rad, of each joint, where its own sigma is not smaller
START_TURN_SIGMA = 0.3  # rad, of the pelvis
START_DEPTH_SIGMA = 0.1  # of ln z
# How far off one is that is made from the keypoints alone.
# Beyond FAR_TURN from what landmarks say the start faces another way, and theirs is taken.
FAR_TURN = 1.0  # rad
LANDMARK_TURN_SIGMA = 0.6  # rad, of the pelvis
STANCE_TURN_SIGMA = 1.0  # rad, of the pelvis
STANCE_DEPTH_SIGMA = 0.3  # of ln z
RAY_SIGMA = 0.3  # sides of the box; of both
LEG_JOINTS = ((1, 4, 7, 10), (2, 5, 8, 11))  # hip, knee, ankle and toes, left and right
STANDING_SIGMA = 0.5  # times the usual deviation from rest, of the joints of a leg that stands


@dataclass(frozen=True)
class Prior:
    """Normal distributions around a start, F frames."""

    start: Motion
    rest: Tensor  # (F, 23, 3) rad, mean of the angles
    rest_sigma: Tensor  # (F, 23, 3) rad
    turn_sigma: Tensor  # (F, 1) rad, of the pelvis
    depth_sigma: float  # of ln z
    ray_sigma: float  # sides of the box

    def rows(self, rows: slice) -> "Prior":
        """Select some of the frames."""
        return replace(
            self,
            start=self.start.rows(rows),
            rest=self.rest[rows],
            rest_sigma=self.rest_sigma[rows],
            turn_sigma=self.turn_sigma[rows],
        )


def near_start(start: Motion) -> Prior:
    """Make the prior of a start that is right but for small errors."""
    frames = len(start.angles)
    sigma = joint_limits().sigma.clamp(max=START_SIGMA).repeat(frames, 1, 1)
    turn_sigma = torch.full((frames, 1), START_TURN_SIGMA)
    return Prior(start, start.angles, sigma, turn_sigma, START_DEPTH_SIGMA, RAY_SIGMA)


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
    sigma = limits.sigma.repeat(frames, 1, 1)
    turn_sigma = torch.full((frames, 1), STANCE_TURN_SIGMA)
    return Prior(start, start.angles, sigma, turn_sigma, STANCE_DEPTH_SIGMA, RAY_SIGMA)


def turned_to(prior: Prior, cue: LandmarkCue) -> Prior:
    """Turn a prior's start to where landmarks say that the person faces.

    Where both nearly agree, the start is half-way between them. Where they do not, the pose that
    goes with the other facing is worth nothing: a relaxed one takes its place.

    Args:
        prior: F frames.
        cue: the same frames.

    Returns:
        The prior with that start.
    """
    start, limits = prior.start, joint_limits()
    far = far_turned(start.root, cue.root, FAR_TURN) & cue.seen
    near = cue.seen & ~far
    half = 0.5 * matrix_to_axis_angle(start.root.mT @ cue.root)
    root = torch.where(near[:, None, None], start.root @ axis_angle_to_matrix(half), start.root)
    root = torch.where(far[:, None, None], cue.root, root)
    other = far[:, None, None]
    return replace(
        prior,
        start=replace(start, root=root, angles=torch.where(other, limits.rest, start.angles)),
        rest=torch.where(other, limits.rest, prior.rest),
        rest_sigma=torch.where(other, limits.sigma, prior.rest_sigma),
        turn_sigma=torch.where(far[:, None], LANDMARK_TURN_SIGMA, prior.turn_sigma),
    )


def standing(prior: Prior, outside: Tensor) -> Prior:
    """Let legs stand that are outside of the picture.

    What network and landmarks say of them is a guess, by people who mostly bend their knees.

    Args:
        prior: F frames.
        outside: (F, 2) in [0, 1]: how surely the left and the right leg are outside.

    Returns:
        The prior with those legs at rest.
    """
    limits, share = joint_limits(), torch.zeros(len(outside), len(prior.rest[0]), 1)
    for side, joints in enumerate(LEG_JOINTS):
        share[:, [joint - 1 for joint in joints], 0] = outside[:, side, None]
    angles = torch.lerp(prior.start.angles, limits.rest.expand_as(prior.rest), share)
    return replace(
        prior,
        start=replace(prior.start, angles=angles),
        rest=torch.lerp(prior.rest, limits.rest.expand_as(prior.rest), share),
        rest_sigma=torch.lerp(
            prior.rest_sigma, STANDING_SIGMA * limits.sigma.expand_as(prior.rest), share
        ),
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
