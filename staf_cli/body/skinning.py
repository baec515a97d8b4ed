"""A body in SMPL format, posed by linear blend skinning: parameters in, vertices and joints out."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from staf_cli.body.format import BodyArrays
from staf_cli.core.errors import BodyError

# The joints' tree in slices: parents that come before them and follow each other, or are one.
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
    """The whole body: V vertices and 24 joints in SMPL order, metres, its own frame.

    Its own frame: y up, facing +z, left arm along +x in the T-pose, pelvis near the origin.
    `name` and `hash` say which body it is; parameters only mean something for the same body.
    """

    def __init__(self, name: str, arrays: BodyArrays, gender: str = "neutral") -> None:
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
        """rotmats (B, 24, 3, 3) and betas (B, 10) -> vertices (B, V, 3), joints (B, 24, 3), m."""
        vertices, joints = self.skin(rotmats, betas)
        return vertices, joints

    @cached_property
    def skeleton(self) -> "BodyPoints":
        """The body without its surface: gives no points, only the joints, for a fraction."""
        return self.points(np.zeros((0, len(self.arrays.v_template)), np.float32))

    def points(self, regressor: NDArray[np.float32]) -> "BodyPoints":
        """Points that are mixtures of vertices, (P, V) with few nonzero columns."""
        return BodyPoints(self.arrays, regressor)

    def sample_points(self) -> "BodyPoints":
        """The body's own 431 points for the network. Raises BodyError where it has none."""
        index, weight = self.arrays.sample_index, self.arrays.sample_weight
        if index is None or weight is None:
            raise BodyError(f"body {self.name} has no sampled vertices; use its checkpoint's")
        return self.points(sample_regressor(index, weight, len(self.arrays.v_template)))


class BodyPoints(nn.Module):
    """P points of the body's surface, skinning no more vertices than they are made of."""

    mix: Tensor

    def __init__(self, arrays: BodyArrays, regressor: NDArray[np.float32]) -> None:
        super().__init__()
        used = np.flatnonzero(np.abs(regressor).sum(0))
        self.skin = Skin(arrays, used)
        self.register_buffer("mix", torch.from_numpy(regressor[:, used].copy()), persistent=False)

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """rotmats (B, 24, 3, 3) and betas (B, 10) -> points (B, P, 3), joints (B, 24, 3), m."""
        vertices, joints = self.skin(rotmats, betas)
        return self.mix @ vertices, joints


class Skin(nn.Module):
    """Some vertices of a body, and how shape and pose move them (SMPL, 2015, Eq. 2-10).

    The buffers follow the body's arrays and are no part of a network's state.
    """

    v_template: Tensor  # (V, 3) m
    shapedirs: Tensor  # (10, V * 3) m per unit of beta
    posedirs: Tensor | None  # (207, V * 3) m; None where the pose moves nothing by itself
    weights: Tensor  # (V, 24)
    joints: Tensor  # (24, 3) m, in the template
    joint_dirs: Tensor  # (24, 3, 10) m per unit of beta

    def __init__(self, arrays: BodyArrays, used: NDArray[np.int64]) -> None:
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
        """rotmats (B, 24, 3, 3) and betas (B, 10) -> vertices (B, V, 3), joints (B, 24, 3), m."""
        rest = self.joints + torch.einsum("jcb,nb->njc", self.joint_dirs, betas)
        moves, places = joint_transforms(rotmats, rest)
        shaped = self.v_template + (betas @ self.shapedirs).reshape(len(betas), -1, 3)
        if self.posedirs is not None:
            bent = rotmats[:, 1:] - torch.eye(3, dtype=rotmats.dtype, device=rotmats.device)
            shaped = shaped + (bent.flatten(1) @ self.posedirs).reshape(shaped.shape)
        blend = (self.weights @ moves.flatten(2)).reshape(len(betas), -1, 3, 4)
        return (blend[..., :3] @ shaped[..., None]).squeeze(-1) + blend[..., 3], places


def joint_transforms(rotmats: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """How each joint moves what hangs on it: x_posed = R x_rest + t, (B, 24, 3, 4); its place.

    Local rotations (B, 24, 3, 3) in SMPL's order; joints at rest (B or 1, 24, 3), m; places
    (B, 24, 3), m. The root turns about its own place at rest.
    """
    frames, places = forward_kinematics(rotmats, rest)
    shift = places - (frames @ rest[..., None]).squeeze(-1)
    return torch.cat([frames, shift[..., None]], -1), places


def forward_kinematics(rotmats: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Local rotations (B, 24, 3, 3) and joints at rest (B, 24, 3), m, down SMPL's tree.

    Gives every joint's rotation in the body's frame (B, 24, 3, 3) and its place (B, 24, 3), m.
    A leading dimension of 1 stands for all.
    """
    frames = rotmats[:, :1]
    places = rest[:, :1].expand(len(rotmats), 1, 3)
    for parents, joints in BRANCHES:
        above = frames[:, parents]
        bones = (rest[:, joints] - rest[:, parents])[..., None]
        places = torch.cat([places, places[:, parents] + (above @ bones).squeeze(-1)], 1)
        frames = torch.cat([frames, above @ rotmats[:, joints]], 1)
    return frames, places


def sample_regressor(
    index: NDArray[np.int64], weight: NDArray[np.float32], vertices: int
) -> NDArray[np.float32]:
    """Sparse rows (P, K) of vertex indices and weights as a dense matrix (P, vertices)."""
    dense = np.zeros((len(index), vertices), np.float32)
    rows = np.arange(len(index))[:, None]
    np.add.at(dense, (rows, index), weight)
    return dense
