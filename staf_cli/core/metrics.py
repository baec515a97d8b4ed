"""Distances between a recovered body and the true one, as HMMR, VIBE, TCMR and this paper measure.

Points are float arrays in metres (3D, camera frame) or pixels (2D); F counts frames. "LSP"
stands for the 14 LSP joints, which the body's own `lsp14_regressor` makes of the posed mesh:
R ankle, R knee, R hip, L hip, L knee, L ankle, R wrist, R elbow, R shoulder, L shoulder, L elbow,
L wrist, neck, head top. MPI-INF-3DHP has 17: these, then pelvis, spine and head. J is 14 or 17. The
pelvis of all 3D metrics is the middle of the two hips, of 17 joints the pelvis among them.
Every function returns one value for each frame (or frame and joint), so that the caller chooses
what to average over; NaN marks what cannot be measured and must be left out.
"""

import numpy as np

from staf_cli.core.records import Float, Ints

RIGHT_HIP, LEFT_HIP, RIGHT_SHOULDER, LEFT_SHOULDER = 2, 3, 8, 9  # among the 14 LSP joints
JOINTS_3DHP, PELVIS = 17, 14  # of MPI-INF-3DHP, and the pelvis among them
MM = 1000.0  # per m
PCK_SHARE = 0.2  # of the torso's diameter


def pelvis(joints: Float) -> Float:
    """Find the pelvis: the middle of the hips, or where it is one of the joints.

    Args:
        joints: (F, J, 3) m.

    Returns:
        (F, 1, 3) m.
    """
    if joints.shape[1] == JOINTS_3DHP:
        return joints[:, [PELVIS]]
    middle: Float = (joints[:, [RIGHT_HIP]] + joints[:, [LEFT_HIP]]) / 2
    return middle


def mpjpe(joints: Float, true_joints: Float) -> Float:
    """Compute the mean distance of the joints after both pelvises are moved to the origin.

    Args:
        joints: (F, J, 3) m, recovered joints.
        true_joints: (F, J, 3) m, true ones.

    Returns:
        (F,) mm.
    """
    return _mean_distance(joints - pelvis(joints), true_joints - pelvis(true_joints))


def pa_mpjpe(joints: Float, true_joints: Float) -> Float:
    """Compute the mean distance of the joints after `align`, each frame by itself.

    Args:
        joints: (F, J, 3) m, recovered joints.
        true_joints: (F, J, 3) m, true ones.

    Returns:
        (F,) mm.
    """
    return _mean_distance(align(joints, true_joints), true_joints)


def pve(vertices: Float, true_vertices: Float, joints: Float, true_joints: Float) -> Float:
    """Compute the mean distance of the vertices after both pelvises are moved to the origin.

    Args:
        vertices: (F, V, 3) m, recovered mesh.
        true_vertices: (F, V, 3) m, true mesh.
        joints: (F, J, 3) m, recovered joints.
        true_joints: (F, J, 3) m, true ones.

    Returns:
        (F,) mm.
    """
    return _mean_distance(vertices - pelvis(joints), true_vertices - pelvis(true_joints))


def acceleration_error(joints: Float, true_joints: Float, frame: Ints) -> Float:
    """Compute the mean over the joints of |a - a_true| (the "Accel" of the tables).

    a[t] = x[t + 1] - 2 x[t] + x[t - 1] of the pelvis-centred joints x at the clip's own frame
    rate: a difference of frames, not divided by any time.

    Args:
        joints: (F, J, 3) m, recovered joints.
        true_joints: (F, J, 3) m, true ones.
        frame: (F,) ascending indices of the frames.

    Returns:
        (F,) mm / frame^2; NaN where a neighbour is missing, at both ends and beside gaps.
    """
    off = (joints - pelvis(joints)) - (true_joints - pelvis(true_joints))
    error = np.full(len(off), np.nan)
    middle = np.flatnonzero(frame[2:] - frame[:-2] == 2) + 1
    acceleration = off[middle + 1] - 2 * off[middle] + off[middle - 1]  # differences are linear
    error[middle] = MM * np.linalg.norm(acceleration, axis=-1).mean(-1)
    return error


def align(points: Float, target: Float) -> Float:
    """Move, turn and scale the points of each frame to be as close as possible to the target's.

    The least-squares similarity transform (Procrustes; Umeyama 1991), without reflection. Points
    that all coincide are only moved.

    Args:
        points: (F, N, 3).
        target: (F, N, 3) in the same unit.

    Returns:
        (F, N, 3) aligned points.
    """
    middle, target_middle = points.mean(1, keepdims=True), target.mean(1, keepdims=True)
    a, b = points - middle, target - target_middle
    u, stretch, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)  # a^T b = u diag(stretch) vt
    mirrored = np.linalg.det(u @ vt) < 0
    u[mirrored, :, 2] *= -1
    stretch[mirrored, 2] *= -1
    spread = np.square(a).sum((1, 2))
    scale = np.divide(stretch.sum(1), spread, out=np.ones(len(a)), where=spread > 0)
    aligned: Float = scale[:, None, None] * (a @ u @ vt) + target_middle
    return aligned


def torso(kp2d: Float) -> Float:
    """Compute LSP's torso diameter, from the left shoulder to the right hip.

    Where one of these has no weight, it is from the right shoulder to the left hip.

    Args:
        kp2d: (F, 14, 3) labelled LSP joints: x, y px, weight.

    Returns:
        (F,) px; NaN where neither line is labelled.
    """
    lengths = [
        np.where(
            (kp2d[:, [shoulder, hip], 2] > 0).all(1),
            np.linalg.norm(kp2d[:, shoulder, :2] - kp2d[:, hip, :2], axis=-1),
            np.nan,
        )
        for shoulder, hip in ((LEFT_SHOULDER, RIGHT_HIP), (RIGHT_SHOULDER, LEFT_HIP))
    ]
    diameter: Float = np.where(np.isnan(lengths[0]), lengths[1], lengths[0])
    return diameter


def correct_keypoints(points: Float, kp2d: Float) -> Float:
    """Find the joints within 0.2 torso diameters of their labels (PCK@0.2 is their share).

    Args:
        points: (F, 14, 2) px, recovered LSP joints in the image.
        kp2d: (F, 14, 3) labelled LSP joints: x, y px, weight.

    Returns:
        (F, 14) 1 or 0; NaN for joints without weight, and for frames whose `torso` is not labelled.
    """
    within = _distance_2d(points, kp2d) / torso(kp2d)[:, None]
    correct: Float = np.where(np.isnan(within), np.nan, within <= PCK_SHARE)
    return correct


def error_2d(points: Float, kp2d: Float, box: Float) -> Float:
    """Compute the distance of the joints from their labels, relative to the person's box.

    Args:
        points: (F, 14, 2) px, recovered LSP joints in the image.
        kp2d: (F, 14, 3) labelled LSP joints: x, y px, weight.
        box: (F, 4) x1, y1, x2, y2, px.

    Returns:
        (F, 14) in longer sides of the box; NaN for joints without weight.
    """
    side = (box[:, 2:] - box[:, :2]).max(-1)
    error: Float = _distance_2d(points, kp2d) / side[:, None]
    return error


def _distance_2d(points: Float, kp2d: Float) -> Float:
    """(F, 14) px; NaN for joints without weight."""
    distance = np.linalg.norm(points - kp2d[..., :2], axis=-1)
    labelled: Float = np.where(kp2d[..., 2] > 0, distance, np.nan)
    return labelled


def _mean_distance(points: Float, target: Float) -> Float:
    """Mean over N of |points - target|, both (F, N, 3) m: (F,) mm."""
    mean: Float = MM * np.linalg.norm(points - target, axis=-1).mean(-1)
    return mean
