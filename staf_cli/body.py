"""A body in SMPL format, skinned by smplx: parameters in, vertices and joints out."""

import contextlib
import io
from functools import cached_property

import numpy as np
import smplx
import torch
from numpy.typing import NDArray
from smplx.utils import Struct
from torch import Tensor, nn

from staf_cli.body_format import JOINTS, SMPL_PARENTS, BodyArrays
from staf_cli.errors import BodyError

# The vertices that smplx's SMPL insists on knowing by name; this project asks for none of them.
_FACE = ("nose", "reye", "leye", "rear", "lear")
_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_FINGERS = tuple(s + f for s in "lr" for f in ("thumb", "index", "middle", "ring", "pinky"))


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
        self.smpl = _smpl(
            arrays.v_template,
            arrays.shapedirs,
            arrays.posedirs,
            arrays.J_regressor,
            arrays.weights,
            arrays.faces,
        )

    @property
    def identity(self) -> str:
        """Name and hash in one string, as results and checkpoints record it."""
        return f"{self.name} {self.hash}"

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """rotmats (B, 24, 3, 3) and betas (B, 10) -> vertices (B, V, 3), joints (B, 24, 3), m."""
        return _pose(self.smpl, rotmats, betas)

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
    """P points of the body's surface, skinning no more vertices than they are made of.

    A body of the used vertices alone is built, with the 24 joints as 24 further vertices whose
    shape follows the whole body's regressor, so that the joints stay exactly the same.
    """

    mix: Tensor

    def __init__(self, arrays: BodyArrays, regressor: NDArray[np.float32]) -> None:
        super().__init__()
        used = np.flatnonzero(np.abs(regressor).sum(0))
        joints = arrays.J_regressor
        count = len(used) + JOINTS
        own_joints = np.zeros((JOINTS, count), np.float32)
        own_joints[:, len(used) :] = np.eye(JOINTS)
        no_pose = np.zeros((JOINTS, *arrays.posedirs.shape[1:]), np.float32)
        self.smpl = _smpl(
            np.concatenate([arrays.v_template[used], joints @ arrays.v_template]),
            np.concatenate(
                [arrays.shapedirs[used], np.einsum("jv,vcb->jcb", joints, arrays.shapedirs)]
            ),
            np.concatenate([arrays.posedirs[used], no_pose]),
            own_joints,
            np.concatenate([arrays.weights[used], np.eye(JOINTS, dtype=np.float32)]),
            np.zeros((1, 3), np.int64),
        )
        self.register_buffer("mix", torch.from_numpy(regressor[:, used].copy()), persistent=False)

    def forward(self, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """rotmats (B, 24, 3, 3) and betas (B, 10) -> points (B, P, 3), joints (B, 24, 3), m."""
        vertices, joints = _pose(self.smpl, rotmats, betas)
        return self.mix @ vertices[:, : self.mix.shape[1]], joints


def sample_regressor(
    index: NDArray[np.int64], weight: NDArray[np.float32], vertices: int
) -> NDArray[np.float32]:
    """Sparse rows (P, K) of vertex indices and weights as a dense matrix (P, vertices)."""
    dense = np.zeros((len(index), vertices), np.float32)
    rows = np.arange(len(index))[:, None]
    np.add.at(dense, (rows, index), weight)
    return dense


def _pose(model: smplx.SMPL, rotmats: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    posed = model(
        betas=betas, global_orient=rotmats[:, :1], body_pose=rotmats[:, 1:], pose2rot=False
    )
    return posed.vertices, posed.joints[:, :JOINTS]


def _smpl(
    v_template: NDArray[np.float32],
    shapedirs: NDArray[np.float32],
    posedirs: NDArray[np.float32],
    J_regressor: NDArray[np.float32],
    weights: NDArray[np.float32],
    faces: NDArray[np.int64],
) -> smplx.SMPL:
    """An smplx.SMPL from arrays instead of a pickle, without parameters of its own."""
    data = Struct(
        v_template=v_template,
        shapedirs=shapedirs,
        posedirs=posedirs,
        J_regressor=J_regressor,
        weights=weights,
        f=faces,
        kintree_table=np.stack([SMPL_PARENTS, np.arange(JOINTS)]),
    )
    # smplx prints a warning about 10 betas, and selects named vertices that nobody asked for.
    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.SMPL(
            model_path="",
            data_struct=data,
            vertex_ids=dict.fromkeys(_FACE + _FEET + _FINGERS, 0),
            create_betas=False,
            create_global_orient=False,
            create_body_pose=False,
            create_transl=False,
        )
