"""Legs that reach where feet stand: Gauss and Newton's steps on rotations, within joint ranges."""

from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.fitting.joint_limits import joint_limits

LEGS = ((1, 4, 7), (2, 5, 8))  # hip, knee and ankle
BENT = 0.1  # rad, of a knee where the search begins, at least
STEPS = 15
HELD_SIGMA, FREE_SIGMA = 0.002, 0.05  # m, of a sole that stands, and of one that does not
TURN_SIGMA = 0.2  # rad, of each joint from where it was


@dataclass(frozen=True)
class Leg:
    """One leg at rest: m, in the T-pose, N frames."""

    hip: Tensor  # (N, 3) from the pelvis
    thigh: Tensor  # (N, 3) from hip to knee
    shin: Tensor  # (N, 3) from knee to ankle
    soles: Tensor  # (N, 2, 3) heel and toe from the ankle

    def rows(self, rows: Tensor) -> "Leg":
        """Select some of the frames."""
        return Leg(self.hip[rows], self.thigh[rows], self.shin[rows], self.soles[rows])


def reach(
    side: int, leg: Leg, pelvis: Tensor, root: Tensor, rotmats: Tensor, soles: Tensor, held: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn hip, knee and ankle so that heel and toe are where they shall be.

    Args:
        side: 0 left, 1 right.
        leg: N frames.
        pelvis: (N, 3) m, world.
        root: (N, 3, 3) the pelvis' rotation in the world.
        rotmats: (N, 3, 3, 3) of hip, knee and ankle, where the search begins.
        soles: (N, 2, 3) m, world: where heel and toe shall be.
        held: (N, 2) in [0, 1]: how surely they stand there.

    Returns:
        The three joints' rotations (N, 3, 3, 3), within their ranges, or where they begin
        beyond, not farther from them; and where heel and toe are with them (N, 2, 3).
    """
    limits, joints = joint_limits(), [joint - 1 for joint in LEGS[side]]
    start = matrix_to_axis_angle(rotmats)
    low = torch.minimum(limits.lowest[joints].to(start), start)
    high = torch.maximum(limits.highest[joints].to(start), start)
    weight = (held / HELD_SIGMA + (1 - held) / FREE_SIGMA)[..., None]  # (N, 2, 1)
    stiff = start.new_tensor([1 / TURN_SIGMA**2] * 9)

    def seen(turned: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        points, jacobian = _forward(leg, pelvis, root, turned)
        off = (weight * (soles - points)).flatten(1)  # (N, 6)
        back = matrix_to_axis_angle(turned.mT @ rotmats).flatten(1)  # (N, 9) to the start
        slope = (weight[..., None] * jacobian).flatten(1, 2)  # (N, 6, 9)
        return (off**2).sum(1) + (stiff * back**2).sum(1), off, back, slope

    bent = start.clone()  # a straight knee does not show the search which way to bend
    bent[:, 1, 0] = bent[:, 1, 0].clamp(min=BENT)
    turned, damping = axis_angle_to_matrix(bent), start.new_full((len(start),), 1.0)
    cost, off, back, slope = seen(turned)
    for _ in range(STEPS):
        normal = slope.mT @ slope + torch.diag_embed(stiff * (1 + damping[:, None]))
        right = (slope.mT @ off[..., None]).squeeze(-1) + stiff * back
        step = torch.linalg.solve(normal, right).reshape(-1, 3, 3)
        vectors = matrix_to_axis_angle(turned @ axis_angle_to_matrix(step))
        tried = axis_angle_to_matrix(torch.minimum(torch.maximum(vectors, low), high))
        found = seen(tried)
        better = found[0] < cost
        damping = torch.where(better, damping / 4, damping * 8)
        turned = torch.where(better[:, None, None, None], tried, turned)
        cost, off, back, slope = (
            torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(found, (cost, off, back, slope), strict=True)
        )
    return turned, soles - off.reshape_as(soles) / weight


def _forward(leg: Leg, pelvis: Tensor, root: Tensor, rotmats: Tensor) -> tuple[Tensor, Tensor]:
    """Heel and toe (N, 2, 3), and how they move (N, 2, 3, 9) as joints turn in their own frames."""
    hip = pelvis + _turned(root, leg.hip)
    upper = root @ rotmats[:, 0]
    knee = hip + _turned(upper, leg.thigh)
    lower = upper @ rotmats[:, 1]
    ankle = knee + _turned(lower, leg.shin)
    foot = lower @ rotmats[:, 2]
    points = ankle[:, None] + (foot[:, None] @ leg.soles[..., None]).squeeze(-1)
    parts = []
    for place, frame in ((hip, upper), (knee, lower), (ankle, foot)):
        arm = (points - place[:, None])[:, :, None].expand(-1, -1, 3, -1)
        axes = frame.mT[:, None].expand(-1, 2, -1, -1)  # rows: the joint's axes in the world
        parts.append(torch.linalg.cross(axes, arm).mT)
    return points, torch.cat(parts, -1)


def _turned(rotation: Tensor, vector: Tensor) -> Tensor:
    turned: Tensor = (rotation @ vector[..., None]).squeeze(-1)
    return turned
