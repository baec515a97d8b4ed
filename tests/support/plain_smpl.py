"""SMPL written a second time, plainly, for one frame in float64."""

import numpy as np
from scipy.spatial.transform import Rotation


def plain_mesh(arrays, pose, betas):
    """(V, 3) of one frame in float64: SMPL's skinning, joint by joint."""
    shaped = arrays["v_template"] + arrays["shapedirs"].astype(float) @ betas
    joints = arrays["J_regressor"].astype(float) @ shaped
    parents = arrays["kintree_table"][0]
    placed: list[np.ndarray] = []
    for joint, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(pose[3 * joint : 3 * joint + 3]).as_matrix()
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        placed.append(placed[parent] @ local if joint else local)
    mesh = np.zeros_like(shaped)
    for joint, matrix in enumerate(placed):
        moved = (shaped - joints[joint]) @ matrix[:3, :3].T + matrix[:3, 3]
        mesh += arrays["weights"][:, [joint]].astype(float) * moved
    return mesh
