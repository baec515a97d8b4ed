"""Shorts and a short top as darker skin: a figure that is decent to show.

The rule is geometry of the T-pose, so it holds for every body in SMPL format, whatever its
vertices. All bodies have hips, knees and shoulders in much the same places; their spines differ.
"""

import numpy as np
from numpy.typing import NDArray

from staf_cli.body.format import BodyArrays

HIPS, KNEES, NECK, SHOULDERS, WRISTS = [1, 2], [4, 5], 12, [16, 17], [20, 21]  # left, right
WAIST, RIBS = 0.25, 0.50  # where shorts end and the top begins, of the way from hips to shoulders
THIGH = 0.42  # where shorts end, of the way from hip to knee
NECKLINE = 0.60  # of half the shoulders' width: how far from the neck joint the top ends
ARMHOLE = 1.12  # of the same: how far from the middle; at 1 the flank below the arm would be bare
HEM = 0.02  # m over which skin becomes cloth: about an edge of a triangle, or hems would zigzag
CLOTH = 0.33  # of the light that skin reflects

Tones = NDArray[np.float32]  # (V,) from 0 to 1: how much of a colour's light a vertex reflects


def tones_of(body: BodyArrays) -> Tones | None:
    """Compute how dark clothes make each vertex.

    Shorts lie between the waist and a plane across each thigh. The top lies between the ribs, the
    plane across each arm beside the shoulder, and a sphere around the neck joint.

    Args:
        body: The body.

    Returns:
        (V,) from CLOTH to 1, or None for a body that does not rest upright with its arms stretched
        out: there the rule would dress the wrong parts.
    """
    joints = body.J_regressor @ body.v_template
    hips, knees, neck, shoulders = (joints[one] for one in (HIPS, KNEES, NECK, SHOULDERS))
    middle = shoulders.mean(0)
    heights = [knees[:, 1].max(), hips[:, 1].max(), middle[1], neck[1]]
    widths = [pair[0, 0] - pair[1, 0] for pair in (hips, knees, shoulders)]
    trunk, half = middle[1] - hips[:, 1].mean(), widths[2] / 2
    stretched = joints[WRISTS, 1].min() > middle[1] - trunk / 2
    if min(*np.diff(heights), *widths) <= 0 or not stretched:
        return None
    x, y, _ = (body.v_template - middle).T
    height = y + trunk  # over the hips
    shorts = np.minimum(WAIST * trunk - height, _above_hem(body.v_template, hips, knees, x > 0))
    from_neck = np.linalg.norm(body.v_template - neck, axis=1) - NECKLINE * half
    below_neck = neck[1] - body.v_template[:, 1]
    top = np.min([height - RIBS * trunk, ARMHOLE * half - np.abs(x), from_neck, below_neck], axis=0)
    inside = np.maximum(shorts, top)  # m from the nearest hem
    return np.asarray(1 - (1 - CLOTH) * (0.5 + inside / HEM).clip(0, 1), np.float32)


def _above_hem(
    points: NDArray[np.float32],
    hips: NDArray[np.float32],
    knees: NDArray[np.float32],
    left: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return how far (V,), m, points (V, 3) are above the hem of their side's thigh."""
    thighs = knees - hips
    lengths = np.linalg.norm(thighs, axis=1)
    along = np.einsum("vkc,kc->vk", points[:, None] - hips, thighs / lengths[:, None])
    above: NDArray[np.float32] = np.where(left, *(THIGH * lengths - along).T)
    return above
