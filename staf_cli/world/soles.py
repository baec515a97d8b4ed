"""Where the soles of a body are: heels and toes, as points of its skin."""

import numpy as np
import torch

from staf_cli.body.posing import CHUNK, rotation_matrices
from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core.records import Float, Ints

POINTS = ("left_heel", "left_toe", "right_heel", "right_toe")  # the order in all (F, 4) arrays
ANKLES, TOES = (7, 8), (10, 11)  # joints, left and right
SOLE = 0.01  # m above the lowest point of a foot: what is lower is sole
END = 0.2  # of the foot's length, at either end of which heel and toe are


def soles_of(body: Body) -> BodyPoints:
    """Find heels and toes in a body's T-pose: the lowest skin at the ends of each foot.

    Args:
        body: the body model.

    Returns:
        Its four points, in the order of `POINTS`.
    """
    template, carrier = body.arrays.v_template, body.arrays.weights.argmax(1)
    regressor = np.zeros((len(POINTS), len(template)), np.float32)
    for side, joints in enumerate(zip(ANKLES, TOES, strict=True)):
        foot = np.flatnonzero(np.isin(carrier, joints))
        depth = template[foot, 2]
        along = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
        for end, there in enumerate((along <= END, along >= 1 - END)):
            regressor[2 * side + end, _lowest(template, foot[there])] = 1
    regressor /= regressor.sum(1, keepdims=True)
    return body.points(regressor)


def _lowest(template: np.ndarray, vertices: Ints) -> Ints:
    """Those of some vertices that are lowest in the T-pose."""
    height = template[vertices, 1]
    lowest: Ints = vertices[height <= height.min() + SOLE]
    return lowest


def sole_points(poses: Float, betas: Float, trans: Float, soles: BodyPoints) -> Float:
    """Pose heels and toes.

    Args:
        poses: (F, 72) rad.
        betas: (F, 10)
        trans: (F, 3) m.
        soles: of the body.

    Returns:
        (F, 4, 3) m, in the frame that the parameters are of.
    """
    pieces = zip(
        torch.split(rotation_matrices(poses).float(), CHUNK),
        torch.split(torch.from_numpy(betas).float(), CHUNK),
        strict=True,
    )
    with torch.no_grad():
        own = [soles(*piece)[0] for piece in pieces]
    placed: Float = torch.cat(own).double().numpy() + trans[:, None]
    return placed
