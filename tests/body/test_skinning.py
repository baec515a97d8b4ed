"""The body: shortcuts against the whole, and joints against forward kinematics written plainly."""

import numpy as np
import pytest
import torch

from staf_cli.body.format import SMPL_PARENTS
from staf_cli.body.skinning import Body, dense_regressor
from staf_cli.core.errors import BodyError
from staf_cli.core.geometry import axis_angle_to_matrix
from tests.support import golden
from tests.support.made_networks import golden_body


@pytest.fixture(scope="module")
def posed():
    generator = torch.Generator().manual_seed(0)
    rotmats = axis_angle_to_matrix(torch.randn(3, 24, 3, generator=generator) * 0.5)
    return rotmats, torch.randn(3, 10, generator=generator)


def test_skinning_equals_its_definition(posed):
    """v = sum_j w_j G_j (v_shaped + posedirs (R - I) - J_j) + joint_j, in float64."""
    arrays = golden.body()
    rotmats, betas = (x.double().numpy() for x in posed)
    vertices, joints = golden_body()(*posed)
    for n in range(3):
        shaped = arrays.v_template + arrays.shapedirs @ betas[n]
        rest = arrays.J_regressor @ shaped
        offsets = arrays.posedirs @ (rotmats[n, 1:] - np.eye(3)).reshape(-1)
        turn, place = [rotmats[n, 0]], [rest[0]]
        for j, parent in enumerate(SMPL_PARENTS[1:], 1):
            turn.append(turn[parent] @ rotmats[n, j])
            place.append(place[parent] + turn[parent] @ (rest[j] - rest[parent]))
        moved = np.stack([(shaped + offsets - rest[j]) @ turn[j].T + place[j] for j in range(24)])
        want = np.einsum("vj,jvc->vc", arrays.weights, moved)
        assert np.abs(vertices[n].numpy() - want).max() < 1e-4
        assert np.abs(joints[n].numpy() - np.stack(place)).max() < 1e-4


def test_points_are_those_of_the_whole_body(posed):
    body = golden_body()
    rng = np.random.default_rng(0)
    regressor = np.zeros((5, 6890), np.float32)
    for row in regressor:
        row[rng.choice(6890, 7, replace=False)] = rng.random(7)
    points, joints = body.points(regressor)(*posed)
    vertices, whole_joints = body(*posed)
    assert (points - torch.from_numpy(regressor) @ vertices).abs().max() < 1e-5
    assert (joints - whole_joints).abs().max() < 1e-5
    samples, _ = body.sample_points()(*posed)
    index = golden.body().sample_index
    assert index is not None
    assert (samples - vertices[:, index[:, 0]]).abs().max() < 1e-5


def test_skeleton_gives_joints_and_no_points(posed):
    points, joints = golden_body().skeleton(*posed)
    assert points.shape == (3, 0, 3)
    assert (joints - golden_body()(*posed)[1]).abs().max() < 1e-5


def test_sparse_rows_become_a_matrix():
    dense = dense_regressor(
        np.array([[1, 1], [0, 2]]), np.array([[0.25, 0.5], [1, 0]], np.float32), 3
    )
    assert dense.tolist() == [[0, 0.75, 0], [1, 0, 0]]


def test_a_body_without_samples_is_reported():
    arrays = {**vars(golden.body()), "sample_index": None, "sample_weight": None}
    with pytest.raises(BodyError, match="no sampled vertices"):
        Body("smpl", type(golden.body())(**arrays)).sample_points()
