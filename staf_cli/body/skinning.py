"""A body in SMPL format, posed by linear blend skinning: parameters in, vertices and joints out.

Shapes: N frames, V vertices, P points.
"""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import BodyError

# SMPL's tree as (parents, joints), from the root outwards: joint i of a slice is the child of
# parent i, or all are children of the one parent.
BRANCHES = (
    (slice(0, 1), slice(1, 4)),
    (slice(1, 4), slice(4, 7)),
    (slice(4, 7), slice(7, 10)),
    (slice(7, 10), slice(10, 13)),
    (slice(9, 10), slice(13, 15)),
    (slice(12, 15), slice(15, 18)),
    (slice(16, 18), slice(18, 20)),
    (slice(18, 20), slice(20, 22)),
    (slice(20, 22), slice(22, 24)),
)


class Body(nn.Module):
    """The whole body: V vertices and 24 joints in SMPL's order, in metres, in the body's frame.

    The body's frame: y up, facing +z, left arm along +x in the T-pose, pelvis near the origin.
    `name` and `hash` identify the body; parameters are valid for that body only.
    """

    def __init__(self, name: str, arrays: BodyArrays, gender: str = "neutral") -> None:
        """Build a body.

        Args:
            name: Of the model, such as "smpl-neutral".
            arrays: Its arrays.
            gender: As results record it.
        """
        super().__init__()
        self.name = name
        self.hash = arrays.hash
        self.gender = gender
        self.arrays = arrays
        self.faces = arrays.faces  # (F, 3)
        self.skin = Skin(arrays, np.arange(len(arrays.v_template)))

    @property
    def identity(self) -> str:
        """Name and hash in one string, as results and checkpoints record it."""
        return f"{self.name} {self.hash}"

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose the body.

        Args:
            rotmats: (N, 24, 3, 3) rotation of each joint relative to its parent, in SMPL's order.
            betas: (N, 10)

        Returns:
            Vertices (N, V, 3) and joints (N, 24, 3), m, body's frame.
        """
        vertices, joints = self.skin(rotmats, betas)
        return vertices, joints

    @cached_property
    def skeleton(self) -> "BodyPoints":
        """The body without its surface: 0 points and the 24 joints, in a fraction of the time."""
        return self.points(np.zeros((0, len(self.arrays.v_template)), np.float32))

    def points(self, regressor: NDArray[np.float32]) -> "BodyPoints":
        """Build a smaller body that poses some points only.

        Args:
            regressor: (P, V) mixes each point from vertices; few columns are nonzero.

        Returns:
            The points' body.
        """
        return BodyPoints(self.arrays, regressor)

    def sample_points(self) -> "BodyPoints":
        """Build a smaller body of the 431 points at which the network samples its maps.

        Returns:
            The points' body.

        Raises:
            BodyError: The body has no such points.
        """
        index, weight = self.arrays.sample_index, self.arrays.sample_weight
        if index is None or weight is None:
            raise BodyError(f"body {self.name} has no sampled vertices; use its checkpoint's")
        return self.points(dense_regressor(index, weight, len(self.arrays.v_template)))


class BodyPoints(nn.Module):
    """P points of the body's surface; only the vertices they are mixed from are skinned."""

    mix: Tensor  # (P, used vertices)

    def __init__(self, arrays: BodyArrays, regressor: NDArray[np.float32]) -> None:
        """Build the points' body.

        Args:
            arrays: Of the whole body.
            regressor: (P, V) mixes each point from vertices; few columns are nonzero.
        """
        super().__init__()
        used = np.flatnonzero(np.abs(regressor).sum(0))
        self.skin = Skin(arrays, used)
        self.register_buffer("mix", torch.from_numpy(regressor[:, used].copy()), persistent=False)

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose the points.

        Args:
            rotmats: (N, 24, 3, 3) rotation of each joint relative to its parent, in SMPL's order.
            betas: (N, 10)

        Returns:
            Points (N, P, 3) and joints (N, 24, 3), m, body's frame.
        """
        vertices, joints = self.skin(rotmats, betas)
        # All people in one product of matrices, ten times as fast as one product for each.
        people, count = len(vertices), len(self.mix)
        points = vertices.transpose(1, 2).flatten(0, 1) @ self.mix.T  # (3 N, P)
        return points.view(people, 3, count).transpose(1, 2), joints


class Skin(nn.Module):
    """Some V vertices of a body, and how shape and pose move them (SMPL, 2015, Eq. 2-10).

    The buffers come from the body's arrays and are not saved with a network.
    """

    v_template: Tensor  # (V, 3) m
    shapedirs: Tensor  # (10, V * 3) m per unit of beta
    posedirs: Tensor | None  # (207, V * 3) m; None where the pose moves nothing by itself
    weights: Tensor  # (V, 24)
    joints: Tensor  # (24, 3) m, of the mean shape in the T-pose
    joint_dirs: Tensor  # (24, 3, 10) m per unit of beta

    def __init__(self, arrays: BodyArrays, used: NDArray[np.int64]) -> None:
        """Build the skin.

        Args:
            arrays: Of the whole body.
            used: (V,) indices of its vertices that are wanted.
        """
        super().__init__()
        posed = arrays.posedirs[used]
        for name, array in {
            "v_template": arrays.v_template[used],
            "shapedirs": arrays.shapedirs[used].reshape(-1, arrays.shapedirs.shape[-1]).T,
            "posedirs": posed.reshape(-1, posed.shape[-1]).T if posed.any() else None,
            "weights": arrays.weights[used],
            "joints": arrays.J_regressor @ arrays.v_template,
            "joint_dirs": np.einsum("jv,vcb->jcb", arrays.J_regressor, arrays.shapedirs),
        }.items():
            tensor = None if array is None else torch.from_numpy(np.ascontiguousarray(array))
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Pose the body.

        Args:
            rotmats: (N, 24, 3, 3) rotation of each joint relative to its parent, in SMPL's order.
            betas: (N, 10)

        Returns:
            Vertices (N, V, 3) and joints (N, 24, 3), m, body's frame.
        """
        rest = self.joints + torch.einsum("jcb,nb->njc", self.joint_dirs, betas)  # (N, 24, 3)
        transforms, joints = joint_transforms(rotmats, rest)
        shaped = self.v_template + (betas @ self.shapedirs).reshape(len(betas), -1, 3)  # (N, V, 3)
        if self.posedirs is not None:
            bent = rotmats[:, 1:] - torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)
            shaped = shaped + (bent.flatten(1) @ self.posedirs).reshape(shaped.shape)
        blend = (self.weights @ transforms.flatten(2)).reshape(len(betas), -1, 3, 4)
        return (blend[..., :3] @ shaped[..., None]).squeeze(-1) + blend[..., 3], joints


def joint_transforms(rotmats: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Compute how each joint moves the vertices that are fixed to it.

    The root turns about its own position at rest.

    Args:
        rotmats: (N, 24, 3, 3) rotation of each joint relative to its parent, in SMPL's order.
        rest: (N or 1, 24, 3) m, joints in the T-pose.

    Returns:
        Transforms [R | t] (N, 24, 3, 4), x_posed = R x_rest + t, and joints (N, 24, 3), m.
    """
    rotations, joints = forward_kinematics(rotmats, rest)
    translations = joints - (rotations @ rest[..., None]).squeeze(-1)
    return torch.cat([rotations, translations[..., None]], -1), joints


def forward_kinematics(rotmats: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Pose the joints, from the root down SMPL's tree.

    Args:
        rotmats: (N, 24, 3, 3) rotation of each joint relative to its parent, in SMPL's order.
        rest: (N or 1, 24, 3) m, joints in the T-pose.

    Returns:
        Each joint's rotation in the body's frame (N, 24, 3, 3), and the joints (N, 24, 3), m.
    """
    rotations = rotmats[:, :1]
    positions = rest[:, :1].expand(len(rotmats), 1, 3)
    for parents, joints in BRANCHES:
        above = rotations[:, parents]
        bones = (rest[:, joints] - rest[:, parents])[..., None]
        positions = torch.cat([positions, positions[:, parents] + (above @ bones).squeeze(-1)], 1)
        rotations = torch.cat([rotations, above @ rotmats[:, joints]], 1)
    return rotations, positions


def dense_regressor(
    index: NDArray[np.int64], weight: NDArray[np.float32], vertices: int
) -> NDArray[np.float32]:
    """Convert points that are mixed from K vertices each to a regressor matrix.

    Args:
        index: (P, K) vertex indices.
        weight: (P, K) their shares, 0 where padded.
        vertices: V.

    Returns:
        (P, V)
    """
    dense = np.zeros((len(index), vertices), np.float32)
    rows = np.arange(len(index))[:, None]
    np.add.at(dense, (rows, index), weight)
    return dense
