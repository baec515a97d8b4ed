"""Plausible single poses that nobody recorded: parts of several frames, shaken, and sports.

Only the 23 joints below the pelvis; which way the whole body lies is the scene's affair.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.people.motion import Motions, mirror_pose
from staf_cli.training.people.retargeting import collar_lift

LEGS = [1, 2, 4, 5, 7, 8, 10, 11]
ARMS = ([13, 16, 18, 20, 22], [14, 17, 19, 21, 23])  # left, right
OTHER_LEGS = 0.5  # share of poses whose legs come from another frame
OTHER_ARM = 0.3  # share of poses, for each arm, whose arm comes from another frame

# How far each joint is shaken, rad, standard deviation of each component.
SHAKE = torch.tensor(
    [
        *(0, 0.15, 0.15, 0.06, 0.12, 0.12, 0.06, 0.15, 0.15, 0.06, 0.05, 0.05),
        *(0.1, 0.06, 0.06, 0.15, 0.2, 0.2, 0.2, 0.2, 0.15, 0.15, 0, 0),
    ]
)
WIDER = 0.1  # rad beyond the recorded ranges that a shaken joint may reach
RANGE = 0.001  # share of the recorded frames beyond either end of a range

# Shares of the poses with something that the recordings hardly have.
ARMS_UP, FOLDED, ON_ONE_LEG, LUNGE, STRADDLE, BENT_BACK = 0.2, 0.12, 0.12, 0.08, 0.06, 0.05


@dataclass(frozen=True)
class _Dice:
    """Random numbers for n poses at once."""

    n: int
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> Tensor:
        """(n,) in [low, high)."""
        return low + (high - low) * torch.rand(self.n, generator=self.generator)

    def normal(self, sigma: float) -> Tensor:
        return sigma * torch.randn(self.n, generator=self.generator)

    def rarely(self, share: float) -> Tensor:
        """(n,) true for this share of the poses."""
        return torch.rand(self.n, generator=self.generator) < share


def random_poses(motions: Motions, n: int, generator: torch.Generator) -> Tensor:
    """n plausible poses: rotation vectors (n, 23, 3) float32 of the joints 1..23, rad.

    Legs and each arm may come from other frames than the rest, mirrored or not. Every joint is
    shaken and kept in the range it has in the motions, a little widened. Then some poses get
    raised or spread arms, a deep fold, one leg in the air, a lunge, a straddle or a bent back.
    """
    dice = _Dice(n, generator)
    pose = _pick(motions, dice)
    for joints, share in ((LEGS, OTHER_LEGS), *((arm, OTHER_ARM) for arm in ARMS)):
        _replace(pose, joints, _pick(motions, dice), dice.rarely(share))
    shaken = axis_angle_to_matrix(SHAKE[:, None] * torch.randn(n, 24, 3, generator=generator))
    pose = matrix_to_axis_angle(axis_angle_to_matrix(pose) @ shaken)
    recorded = torch.from_numpy(motions.rotvec[::5]).float()
    low, high = joint_ranges(torch.cat([recorded, mirror_pose(recorded)]))
    pose = pose.clamp(low - WIDER, high + WIDER)

    for joints, change, share in (
        (LEGS, _on_one_leg, ON_ONE_LEG),
        (LEGS, _lunge, LUNGE),
        (LEGS, _straddle, STRADDLE),
        ([3, 6, 9, *LEGS], _folded, FOLDED),
        ([3, 6, 9, 12, 15], _bent_back, BENT_BACK),
    ):
        _replace(pose, joints, change(pose, dice), dice.rarely(share))
    up = dice.rarely(ARMS_UP)
    for left, arm in zip((True, False), ARMS, strict=True):
        _replace(pose, arm, _arm_up(pose, dice, left), up & dice.rarely(0.8))
    return pose[:, 1:]


def joint_ranges(poses: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and highest components (J, 3) of poses (N, J, 3), but for a share of RANGE."""
    ordered = poses.sort(0).values
    left_out = int(RANGE * len(poses))
    return ordered[left_out], ordered[len(poses) - 1 - left_out]


def _pick(motions: Motions, dice: _Dice) -> Tensor:
    """Recorded poses (n, 24, 3), half of them mirrored."""
    rows = torch.randint(len(motions.root), (dice.n,), generator=dice.generator)
    pose = torch.from_numpy(motions.rotvec[rows.numpy()]).float()
    return torch.where(dice.rarely(0.5)[:, None, None], mirror_pose(pose), pose)


def _replace(pose: Tensor, joints: list[int], other: Tensor, where: Tensor) -> None:
    pose[:, joints] = torch.where(where[:, None, None], other[:, joints], pose[:, joints])


def _some_mirrored(pose: Tensor, dice: _Dice) -> Tensor:
    return torch.where(dice.rarely(0.5)[:, None, None], mirror_pose(pose), pose)


def _on_one_leg(pose: Tensor, dice: _Dice) -> Tensor:
    """One leg nearly straight, the other kicking, drawn up or stretched behind."""
    new = pose.clone()
    for joint in (1, 4):
        new[:, joint] = 0
    new[:, 1, 0] = dice.normal(0.15)
    new[:, 1, 2] = dice.normal(0.1)
    new[:, 4, 0] = dice.normal(0.2).abs()
    new[:, 2] = torch.stack([dice.uniform(-2, 0.8), dice.normal(0.3), -dice.uniform(0, 1)], -1)
    new[:, 5] = 0
    new[:, 5, 0] = 2.2 * dice.uniform(0, 1) ** 2
    return _some_mirrored(new, dice)


def _lunge(pose: Tensor, dice: _Dice) -> Tensor:
    """One leg far in front, the other far behind."""
    new = pose.clone()
    new[:, 1] = torch.stack([dice.uniform(-1.8, -0.5), dice.normal(0.2), dice.normal(0.2)], -1)
    new[:, 2] = torch.stack([dice.uniform(0.1, 0.7), dice.normal(0.2), dice.normal(0.2)], -1)
    for knee in (4, 5):
        new[:, knee] = 0
        new[:, knee, 0] = dice.uniform(0, 1.8)
    return _some_mirrored(new, dice)


def _straddle(pose: Tensor, dice: _Dice) -> Tensor:
    """Both legs spread to the sides, often turned out."""
    new = pose.clone()
    for hip, knee, side in ((1, 4, 1.0), (2, 5, -1.0)):
        turned, spread = dice.uniform(-0.1, 0.7), dice.uniform(0.2, 1.0)
        new[:, hip] = torch.stack([dice.uniform(-1.2, 0.2), side * turned, side * spread], -1)
        new[:, knee] = 0
        new[:, knee, 0] = 1.8 * dice.uniform(0, 1) ** 2
    return new


def _folded(pose: Tensor, dice: _Dice) -> Tensor:
    """Bent forward, crouching or with straight legs."""
    new = pose.clone()
    bend, hips, knees = dice.uniform(0.1, 0.5), dice.uniform(-2.1, -0.5), dice.uniform(0, 2.3)
    for spine in (3, 6, 9):
        new[:, spine, 0] = bend + dice.normal(0.08)
    for hip, knee, side in ((1, 4, 1.0), (2, 5, -1.0)):
        new[:, hip, 0] = hips + dice.normal(0.2)
        new[:, hip, 1:] = torch.stack([side * dice.normal(0.2), side * dice.uniform(-0.1, 0.5)], -1)
        new[:, knee] = 0
        new[:, knee, 0] = (knees + dice.normal(0.2)).clamp(0, 2.5)
    return new


def _bent_back(pose: Tensor, dice: _Dice) -> Tensor:
    """The back arched, the head with it."""
    new = pose.clone()
    arch = dice.uniform(-0.4, -0.1)
    for joint in (3, 6, 9, 12, 15):
        new[:, joint, 0] = arch + dice.normal(0.08)
    return new


def _arm_up(pose: Tensor, dice: _Dice, left: bool) -> Tensor:
    """One arm between level and straight up, from a bit behind the back to the front."""
    new = pose.clone()
    side = 1.0 if left else -1.0
    collar, shoulder, elbow = ARMS[0 if left else 1][:3]
    height, around = dice.uniform(-0.2, 1.5), dice.uniform(-0.4, 1.4)
    direction = torch.stack(
        [side * height.cos() * around.cos(), height.sin(), height.cos() * around.sin()], -1
    )  # (n, 3) in the chest's frame
    rest = torch.tensor([side, 0.0, 0.0]).expand(dice.n, 3)
    axis = torch.linalg.cross(rest, direction)
    angle = torch.atan2(axis.norm(dim=-1), (rest * direction).sum(-1))
    swing = axis_angle_to_matrix(
        axis / axis.norm(dim=-1, keepdim=True).clamp(1e-6) * angle[:, None]
    )
    twist = torch.zeros(dice.n, 3)
    # An arm that points up has turned its elbow's inside from the front towards the head.
    twist[:, 0] = dice.normal(0.4) - 0.4 * direction[:, 1].clamp(0, 1)
    lift = torch.zeros(dice.n, 3)
    lift[:, 2] = side * collar_lift(direction[:, 1])
    raised = axis_angle_to_matrix(lift)
    new[:, collar] = lift
    new[:, shoulder] = matrix_to_axis_angle(raised.mT @ swing @ axis_angle_to_matrix(twist))
    new[:, elbow] = 0
    new[:, elbow, 1] = -side * 2.3 * dice.uniform(0, 1) ** 2
    return new
