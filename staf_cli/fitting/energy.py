"""The energy of a motion: minus its log probability, as a sum of terms in plain units.

Each term is a squared deviation over the deviation that is usual (`*_SIGMA`).
"""

import torch
from torch import Tensor

from staf_cli.fitting.bones import BONE_SIGMA, bones_of
from staf_cli.fitting.landmark_cue import POINT_SIGMA, points_of
from staf_cli.fitting.motion import Motion
from staf_cli.fitting.observations import Observations
from staf_cli.fitting.prior import Prior
from staf_cli.fitting.skeleton import Posed, Skeleton

# How far off a detected keypoint usually is, in sides of the person's box, at a confidence of 1;
# COCO's order. Of 12 synthetic clips with exact truth (tools/measure_keypoint_sigma.py).
KEYPOINT_SIGMA = 0.01 * torch.tensor(
    [0.7] * 3 + [0.6] * 2 + [1.5] * 2 + [1.8] * 2 + [2.1] * 4 + [2.3] * 2 + [2.6] * 2
)
# The ln of how much farther off one is at a confidence of 0, and the same of the landmarks'
# visibility: 1.9 and 0.6 on those clips, 3.7 and 0.6 on 432 photos of athletes.
KEYPOINT_DOUBT, POINT_DOUBT = 3.0, 0.6
# So many times these sigmas where the landmark network has seen the person as well: both show the
# same points, and what hides a knee from one misleads the other. Of 1, 1.5, 2 and 3 the number with
# the smallest PA-MPJPE on 12 synthetic clips.
BESIDE_LANDMARKS = 2.0
BETAS_SIGMA = 1.0  # counted once a frame, so that a long track does not outweigh it

# m of depth: neck from pelvis, ankles from the trunk. People are mostly upright on their feet.
LEAN_SIGMA = torch.tensor([0.1, 0.15])

# Accelerations that a fit should not smooth away, m/s^2: the pelvis, then the other 23 joints
# relative to it. Along the line of sight, where nothing is seen, they are held smaller.
ACCELERATION_SIGMA = torch.tensor(
    [
        [12.0, 6, 6, 4, 20, 20, 6, 40],  # pelvis, hips, spine, knees, spine, ankle
        [40, 8, 45, 45, 10, 8, 8, 12],  # ankle, spine, toes, neck, collars, head
        [12, 12, 30, 30, 50, 50, 55, 55],  # shoulders, elbows, wrists, hands
    ]
).flatten()
DEPTH_STIFFNESS = 2.0  # times that acceleration costs more along the line of sight
SPIN_SIGMA = 40.0  # rad/s^2, of every joint in its own frame
FULL_RATE = 30.0  # frames per second at which the smoothness counts once a frame
SLIDE_SIGMA = 0.15  # m/s, of a foot at rest
# m/s, of the pelvis along the line of sight. In 20 minutes of motion capture people are slower than
# 0.22 along an axis on the ground 68 % of the time, and faster than 2.1 in 1 % of it. Smaller ones
# brought 20 synthetic people nearer still, but cost walkers more than a tenth of their speed.
APPROACH_SIGMA = 0.5

# Sigmas from which a deviation costs in proportion, not squared.
ABRUPT = 0.8  # of an acceleration
BEND = 1.5  # of leaning, sliding and approaching


def energy(
    skeleton: Skeleton,
    motion: Motion,
    prior: Prior,
    observed: Observations,
    width: float,
    own: int,
) -> Tensor:
    """Compute minus the log probability of the first frames, but for a constant.

    Args:
        skeleton: of the person's body.
        motion: F frames.
        prior: the same frames.
        observed: the same frames.
        width: of Geman and McClure's robust function of what was seen, in sigmas.
        own: how many frames count; those after them only complete their accelerations.

    Returns:
        A scalar, differentiable.
    """
    rotmats, trans = motion.rotmats, motion.trans
    posed = skeleton.pose_as_seen(rotmats, motion.betas)
    joints = posed.joints
    shape = 0.5 * own * (motion.betas / BETAS_SIGMA).square().sum()
    terms = [
        _off_keypoints(observed, posed.detected + trans[:, None], width),
        _off_landmarks(observed, posed, trans, width),
        _off_prior(prior, motion, observed),
        _leaning(joints),
        _shaking(observed, joints, trans, motion.angles),
        _sliding(observed, joints, trans),
        _approaching(observed, joints, trans),
    ]
    return torch.stack([shape, *(term[:own].sum() for term in terms)]).sum()


def _off_keypoints(observed: Observations, keypoints: Tensor, width: float) -> Tensor:
    """(F,): distance of keypoints (F, 17, 3), m, from the seen ones, by Geman and McClure."""
    off = observed.project(keypoints) - observed.keypoints
    sigma = observed.size[:, None] * KEYPOINT_SIGMA  # (F, 17) px
    if observed.landmarks is not None:
        sigma = sigma * torch.where(observed.landmarks.seen, BESIDE_LANDMARKS, 1.0)[:, None]
    square = (off / sigma[..., None]).square().sum(-1)
    return _robust(square, _trusted(observed.weight, KEYPOINT_DOUBT), width)


def _off_landmarks(observed: Observations, posed: Posed, trans: Tensor, width: float) -> Tensor:
    """(F,): distance from the landmarks in 2D, and of the bones from their directions in space."""
    cue = observed.landmarks
    if cue is None:
        return trans.new_zeros(len(trans))
    off = observed.project(points_of(posed) + trans[:, None]) - cue.points
    sigma = observed.size[:, None] * POINT_SIGMA  # (F, P) px
    square = (off / sigma[..., None]).square().sum(-1)
    points = _robust(square, _trusted(cue.point_weight, POINT_DOUBT), width)
    turned = (bones_of(posed) - cue.bones) / BONE_SIGMA[:, None]
    bones = _robust(turned.square().sum(-1), cue.bone_weight, width)
    return points + bones


def _trusted(confidence: Tensor, doubt: float) -> Tensor:
    """How much a point counts whose usual error grows with doubt; 0 where it is not used."""
    # As a weight, not as a wider sigma: what is too far off to be true does not depend on it.
    return (confidence > 0) * (-2 * doubt * (1 - confidence)).exp()


def _robust(square: Tensor, weight: Tensor, width: float) -> Tensor:
    """(F,): Geman and McClure's function of squared distances (F, N) in sigmas, weighted."""
    return 0.5 * (weight * square * width**2 / (square + width**2)).sum(-1)


def _off_prior(prior: Prior, motion: Motion, observed: Observations) -> Tensor:
    """(F,): distance of pose and place from where they are expected."""
    start = prior.start
    box = (observed.size / observed.focal)[:, None]
    pose = ((motion.angles - prior.rest) / prior.rest_sigma).flatten(1)
    turn = motion.turn / prior.turn_sigma
    depth = (motion.log_depth - start.log_depth)[:, None] / prior.depth_sigma
    ray = (motion.ray - start.ray) / (box * prior.ray_sigma)
    return 0.5 * torch.cat([pose, turn, depth, ray], 1).square().sum(-1)


def _leaning(joints: Tensor) -> Tensor:
    """(F,): tilt of trunk and legs along the line of sight, where keypoints hardly show it."""
    pelvis, ankles, neck = joints[:, 0, 2], joints[:, [7, 8], 2].mean(1), joints[:, 12, 2]
    lean = torch.stack([neck - pelvis, ankles - (neck + pelvis) / 2], 1) / LEAN_SIGMA
    return _soft(lean.square(), BEND).sum(-1)


def _shaking(observed: Observations, joints: Tensor, trans: Tensor, angles: Tensor) -> Tensor:
    """(F - 2,): accelerations of the joints in space and of their rotations."""
    if len(joints) < 3:
        return joints.new_zeros(0)
    # Joints count relative to the pelvis, so that a moving camera shakes one of them, not all.
    pelvis = joints[:, :1] + trans[:, None]
    places = torch.cat([pelvis, joints[:, 1:] - joints[:, :1]], 1)
    step = observed.step[:-1]
    span = (step[1:] + step[:-1]) / 2
    weight = observed.joined[:-2] * observed.joined[1:-1] * span * FULL_RATE
    sigma = ACCELERATION_SIGMA[:, None] / torch.tensor([1, 1, DEPTH_STIFFNESS])
    moved = _soft((_acceleration(places, step, span) / sigma).square().sum(-1), ABRUPT).sum(-1)
    spun = 0.5 * (_acceleration(angles, step, span) / SPIN_SIGMA).flatten(1).square().sum(-1)
    return weight * (moved + spun)


def _sliding(observed: Observations, joints: Tensor, trans: Tensor) -> Tensor:
    """(F - 1,): speed of ankles and toes while the ankle's keypoint is at rest."""
    ankles_and_toes = joints[:, [7, 8, 10, 11]] + trans[:, None]
    speed = (ankles_and_toes[1:] - ankles_and_toes[:-1]) / observed.step[:-1, None, None]
    slide = _soft((speed / SLIDE_SIGMA).square().sum(-1), BEND)  # (F - 1, 4): l, r, l, r
    return (observed.at_rest[:-1].repeat(1, 2) * slide).sum(-1)


def _approaching(observed: Observations, joints: Tensor, trans: Tensor) -> Tensor:
    """(F - 1,): speed of the pelvis along the line of sight, which only its size in 2D shows."""
    # Also across gaps: nobody comes back from one nearer than there was time for.
    depth = joints[:, 0, 2] + trans[:, 2]
    speed = (depth[1:] - depth[:-1]) / observed.step[:-1]
    return _soft((speed / APPROACH_SIGMA).square(), BEND)


def _acceleration(x: Tensor, step: Tensor, span: Tensor) -> Tensor:
    """Second derivatives (F - 2, ...) of x (F, ...) over uneven steps (F - 1,), s."""
    ones = (1,) * (x.ndim - 1)
    speed = (x[1:] - x[:-1]) / step.reshape(-1, *ones)
    return (speed[1:] - speed[:-1]) / span.reshape(-1, *ones)


def _soft(square: Tensor, bend: float) -> Tensor:
    """Half of a square that grows in proportion, not squared, from `bend` sigmas on."""
    return bend**2 * ((1 + square / bend**2).sqrt() - 1)
