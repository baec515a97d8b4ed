"""Random single poses: recorded frames recombined and perturbed, and poses as in sports.

Only the 23 joints below the pelvis; the scene chooses the orientation of the whole body.
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

# Standard deviation of each component of the random turn that perturbs a joint, rad.
NOISE = torch.tensor(
    [
        *(0, 0.15, 0.15, 0.06, 0.12, 0.12, 0.06, 0.15, 0.15, 0.06, 0.05, 0.05),
        *(0.1, 0.06, 0.06, 0.15, 0.2, 0.2, 0.2, 0.2, 0.15, 0.15, 0, 0),
    ]
)
WIDER = 0.1  # rad beyond the recorded ranges that a perturbed joint may reach
RANGE_TAIL = 0.001  # share of the recorded frames beyond either end of a range

# Shares of the poses with something that is rare in the recordings. Their knees are hardly ever
# straight: in nine frames of ten they are bent by more than 19 degrees from the T-pose.
STANDING = 0.3
ARMS_UP, FOLDED, ON_ONE_LEG, LUNGE, STRADDLE, BENT_BACK = 0.2, 0.12, 0.12, 0.08, 0.06, 0.05


@dataclass(frozen=True)
class _Draws:
    """Random numbers for n poses at once."""

    n: int
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> Tensor:
        """(n,) in [low, high)."""
        return low + (high - low) * torch.rand(self.n, generator=self.generator)

    def normal(self, sigma: float) -> Tensor:
        """(n,) around 0 with this standard deviation."""
        return sigma * torch.randn(self.n, generator=self.generator)

    def mask(self, share: float) -> Tensor:
        """(n,) bool, true for this share of the poses."""
        return torch.rand(self.n, generator=self.generator) < share


def random_poses(motions: Motions, n: int, generator: torch.Generator) -> Tensor:
    """Draw plausible poses.

    Legs and each arm may come from other frames than the rest, mirrored or not. Every joint is
    perturbed and kept in the range it has in the motions, a little widened. Then some poses get
    raised or spread arms, a deep fold, one leg in the air, a lunge, a straddle or a bent back.

    Args:
        motions: Recorded poses to start from.
        n: Number of poses.
        generator: On the CPU.

    Returns:
        (n, 23, 3) float32 rotation vectors of the joints 1 to 23, rad.
    """
    draw = _Draws(n, generator)
    pose = _pick(motions, draw)
    for joints, share in ((LEGS, OTHER_LEGS), *((arm, OTHER_ARM) for arm in ARMS)):
        _replace(pose, joints, _pick(motions, draw), draw.mask(share))
    noise = axis_angle_to_matrix(NOISE[:, None] * torch.randn(n, 24, 3, generator=generator))
    pose = matrix_to_axis_angle(axis_angle_to_matrix(pose) @ noise)
    recorded = torch.from_numpy(motions.rotvec[::5]).float()
    low, high = joint_ranges(torch.cat([recorded, mirror_pose(recorded)]))
    pose = pose.clamp(low - WIDER, high + WIDER)

    for joints, change, share in (
        (LEGS, _standing, STANDING),
        (LEGS, _on_one_leg, ON_ONE_LEG),
        (LEGS, _lunge, LUNGE),
        (LEGS, _straddle, STRADDLE),
        ([3, 6, 9, *LEGS], _folded, FOLDED),
        ([3, 6, 9, 12, 15], _bent_back, BENT_BACK),
    ):
        _replace(pose, joints, change(pose, draw), draw.mask(share))
    up = draw.mask(ARMS_UP)
    for left, arm in zip((True, False), ARMS, strict=True):
        _replace(pose, arm, _arm_up(pose, draw, left), up & draw.mask(0.8))
    return pose[:, 1:]


def joint_ranges(poses: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the range of each joint, without the share RANGE_TAIL at both ends.

    Args:
        poses: (N, J, 3) rad.

    Returns:
        The lowest and the highest components, (J, 3) each.
    """
    ordered = poses.sort(0).values
    left_out = int(RANGE_TAIL * len(poses))
    return ordered[left_out], ordered[len(poses) - 1 - left_out]


def _pick(motions: Motions, draw: _Draws) -> Tensor:
    """Draw recorded poses (n, 24, 3), half of them mirrored."""
    rows = torch.randint(len(motions.root), (draw.n,), generator=draw.generator)
    pose = torch.from_numpy(motions.rotvec[rows.numpy()]).float()
    return _some_mirrored(pose, draw)


def _replace(pose: Tensor, joints: list[int], other: Tensor, where: Tensor) -> None:
    """Take these joints from other poses where the mask (n,) is true; in place."""
    pose[:, joints] = torch.where(where[:, None, None], other[:, joints], pose[:, joints])


def _some_mirrored(pose: Tensor, draw: _Draws) -> Tensor:
    """Mirror half of the poses."""
    return torch.where(draw.mask(0.5)[:, None, None], mirror_pose(pose), pose)


def _standing(pose: Tensor, draw: _Draws) -> Tensor:
    """Both legs nearly straight, feet level with the pelvis."""
    new = pose.clone()
    for hip, knee, ankle, side in ((1, 4, 7, 1.0), (2, 5, 8, -1.0)):
        bend, swing = draw.normal(0.08).abs(), draw.normal(0.12)
        turned, spread = draw.normal(0.15) + 0.1, draw.uniform(-0.06, 0.25)
        new[:, hip] = torch.stack([swing - bend / 2, side * turned, side * spread], -1)
        new[:, knee] = 0
        new[:, knee, 0] = bend
        new[:, ankle] = 0
        new[:, ankle, 0] = draw.normal(0.05) - swing - bend / 2
    return new


def _on_one_leg(pose: Tensor, draw: _Draws) -> Tensor:
    """One leg nearly straight, the other kicking, drawn up or stretched behind."""
    new = pose.clone()
    for joint in (1, 4):
        new[:, joint] = 0
    new[:, 1, 0] = draw.normal(0.15)
    new[:, 1, 2] = draw.normal(0.1)
    new[:, 4, 0] = draw.normal(0.2).abs()
    new[:, 2] = torch.stack([draw.uniform(-2, 0.8), draw.normal(0.3), -draw.uniform(0, 1)], -1)
    new[:, 5] = 0
    new[:, 5, 0] = 2.2 * draw.uniform(0, 1) ** 2
    return _some_mirrored(new, draw)


def _lunge(pose: Tensor, draw: _Draws) -> Tensor:
    """One leg far in front, the other far behind."""
    new = pose.clone()
    new[:, 1] = torch.stack([draw.uniform(-1.8, -0.5), draw.normal(0.2), draw.normal(0.2)], -1)
    new[:, 2] = torch.stack([draw.uniform(0.1, 0.7), draw.normal(0.2), draw.normal(0.2)], -1)
    for knee in (4, 5):
        new[:, knee] = 0
        new[:, knee, 0] = draw.uniform(0, 1.8)
    return _some_mirrored(new, draw)


def _straddle(pose: Tensor, draw: _Draws) -> Tensor:
    """Both legs spread to the sides, often turned out."""
    new = pose.clone()
    for hip, knee, side in ((1, 4, 1.0), (2, 5, -1.0)):
        turned, spread = draw.uniform(-0.1, 0.7), draw.uniform(0.2, 1.0)
        new[:, hip] = torch.stack([draw.uniform(-1.2, 0.2), side * turned, side * spread], -1)
        new[:, knee] = 0
        new[:, knee, 0] = 1.8 * draw.uniform(0, 1) ** 2
    return new


def _folded(pose: Tensor, draw: _Draws) -> Tensor:
    """Bent forward, crouching or with straight legs."""
    new = pose.clone()
    bend, hips, knees = draw.uniform(0.1, 0.5), draw.uniform(-2.1, -0.5), draw.uniform(0, 2.3)
    for spine in (3, 6, 9):
        new[:, spine, 0] = bend + draw.normal(0.08)
    for hip, knee, side in ((1, 4, 1.0), (2, 5, -1.0)):
        new[:, hip, 0] = hips + draw.normal(0.2)
        new[:, hip, 1:] = torch.stack([side * draw.normal(0.2), side * draw.uniform(-0.1, 0.5)], -1)
        new[:, knee] = 0
        new[:, knee, 0] = (knees + draw.normal(0.2)).clamp(0, 2.5)
    return new


def _bent_back(pose: Tensor, draw: _Draws) -> Tensor:
    """The back arched, the head with it."""
    new = pose.clone()
    arch = draw.uniform(-0.4, -0.1)
    for joint in (3, 6, 9, 12, 15):
        new[:, joint, 0] = arch + draw.normal(0.08)
    return new


def _arm_up(pose: Tensor, draw: _Draws, left: bool) -> Tensor:
    """One arm between level and straight up, from a bit behind the back to the front."""
    new = pose.clone()
    side = 1.0 if left else -1.0
    collar, shoulder, elbow = ARMS[0 if left else 1][:3]
    height, around = draw.uniform(-0.2, 1.5), draw.uniform(-0.4, 1.4)
    direction = torch.stack(
        [side * height.cos() * around.cos(), height.sin(), height.cos() * around.sin()], -1
    )  # (n, 3) in the chest's frame
    rest = torch.tensor([side, 0.0, 0.0]).expand(draw.n, 3)
    axis = torch.linalg.cross(rest, direction)
    angle = torch.atan2(axis.norm(dim=-1), (rest * direction).sum(-1))
    swing = axis_angle_to_matrix(
        axis / axis.norm(dim=-1, keepdim=True).clamp(1e-6) * angle[:, None]
    )
    twist = torch.zeros(draw.n, 3)
    # On a raised arm the inside of the elbow faces the head rather than the front.
    twist[:, 0] = draw.normal(0.4) - 0.4 * direction[:, 1].clamp(0, 1)
    lift = torch.zeros(draw.n, 3)
    lift[:, 2] = side * collar_lift(direction[:, 1])
    raised = axis_angle_to_matrix(lift)
    new[:, collar] = lift
    new[:, shoulder] = matrix_to_axis_angle(raised.mT @ swing @ axis_angle_to_matrix(twist))
    new[:, elbow] = 0
    new[:, elbow, 1] = -side * 2.3 * draw.uniform(0, 1) ** 2
    return new
