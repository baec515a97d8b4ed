"""The joints that are judged, against the authors' 49 and against a network's own regressor."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from staf_cli.body.posing import rotation_matrices
from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.evaluation.evaluation import contender
from staf_cli.evaluation.joints import mixed, read_regressor, weights_of, with_extra
from staf_cli.pipeline.loading import open_body
from tests.model.test_staf import joints_49
from tests.support import golden
from tests.support.known_network import measure
from tests.support.made_3dpw import VERTICES, make_bodies, make_regressor
from tests.support.made_networks import golden_body, golden_checkpoint
from tests.support.made_tables import DHP_NAMES, entries_of, write_images
from tests.support.plain_smpl import plain_mesh

# As TCMR lists MPI-INF-3DHP's test joints by name, and where SPIN has these names among its 49.
NAMES_OF_49 = {
    **{"r ankle": 25, "r knee": 26, "r hip": 27, "l hip": 28, "l knee": 29, "l ankle": 30},
    **{"r wrist": 31, "r elbow": 32, "r shoulder": 33, "l shoulder": 34, "l elbow": 35},
    **{"l wrist": 36, "neck": 37, "head top": 38, "pelvis": 39, "spine": 41, "head": 43},
}


@pytest.fixture
def bodies(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    make_bodies(tmp_path / "data")
    return tmp_path / "data" / "bodies"


def posed(body):
    rotmats = torch.linalg.matrix_exp(torch.randn(2, 24, 3, 3).triu(1) * 0.3)
    rotmats = torch.linalg.qr(rotmats)[0]
    with torch.no_grad():
        return body(rotmats * torch.linalg.det(rotmats)[..., None, None], torch.randn(2, 10))


def test_the_17_are_those_of_the_authors_49():
    vertices, joints = posed(golden_body())
    weights = with_extra(golden.extra_regressor())
    own = mixed(weights, joints.numpy(), vertices.numpy())
    expected = joints_49(vertices, joints)[:, list(NAMES_OF_49.values())]
    np.testing.assert_allclose(own, expected, atol=1e-5)


def test_files_of_either_regressor_are_read(tmp_path, bodies):
    body = open_body("smpl-neutral")
    vertices, joints = (part.numpy() for part in posed(body))
    extra = np.random.default_rng(1).uniform(0, 1, (9, VERTICES))
    np.save(tmp_path / "J_regressor_extra.npy", extra)
    own = mixed(read_regressor(tmp_path / "J_regressor_extra.npy"), joints, vertices)
    np.testing.assert_allclose(own[:, [0, 6, 9]], joints[:, [8, 21, 16]], atol=1e-6)
    np.testing.assert_allclose(own[:, [2, 3]], extra[:2] @ vertices, atol=1e-4)
    np.testing.assert_allclose(own[:, 12:], extra[[2, 3, 4, 6, 8]] @ vertices, atol=1e-4)
    h36m = read_regressor(make_regressor(tmp_path / "J_regressor_h36m.npy"))
    rows = np.load(tmp_path / "J_regressor_h36m.npy")
    own = mixed(h36m, joints, vertices)
    np.testing.assert_allclose(own[:, 14:], rows[[0, 7, 9]] @ vertices, atol=1e-5)
    own = mixed(weights_of(body, None), joints, vertices)
    np.testing.assert_allclose(own, body.arrays.lsp14_regressor @ vertices, atol=1e-5)
    with pytest.raises(UsageError, match="--regressor mixes 90 vertices, but body"):
        weights_of(open_body("open-body"), h36m)


def test_a_checkpoint_brings_the_joints_of_its_authors():
    one = contender("golden", golden_checkpoint(), golden_body())
    assert one.regressor is not None
    np.testing.assert_array_equal(one.regressor, with_extra(golden.extra_regressor()))
    whole = golden_checkpoint()
    other = replace(whole, tensors=whole.tensors | {"joints.extra_regressor": torch.zeros(9, 5)})
    with pytest.raises(WeightsError, match=r"joints.extra_regressor"):
        contender("golden", other, golden_body())


def test_mpi_inf_3dhp_is_judged_on_17_joints_where_a_network_has_them(
    tmp_path, bodies, monkeypatch
):
    folder = tmp_path / "set"
    write_images(folder, DHP_NAMES)
    rng = np.random.default_rng(2)
    poses = rng.normal(0, 0.3, (len(DHP_NAMES), 72))
    true = rng.normal(0, 0.3, (len(DHP_NAMES), 17, 3))
    entries: Any = entries_of(DHP_NAMES, true)
    np.savez(folder / "mpi_inf_3dhp_test.npz", **entries)
    extra = rng.uniform(0, 0.1, (9, VERTICES)).astype(np.float32)
    arrays = dict(np.load(bodies / "smpl-neutral.npz"))
    brought = measure(folder, "3dhp", None, poses, monkeypatch, with_extra(extra)).rows[-1]
    own = measure(folder, "3dhp", None, poses, monkeypatch).rows[-1]
    meshes = np.array([plain_mesh(arrays, pose, np.zeros(10)) for pose in poses])
    judged = arrays["lsp14_regressor"] @ meshes
    hips = judged[:, 2:4].mean(1, keepdims=True)
    true_hips = true[:, 2:4].mean(1, keepdims=True)
    errors = np.linalg.norm(judged - hips - true[:, :14] + true_hips, axis=-1)
    assert own.mpjpe == pytest.approx(1000 * errors.mean(), 1e-5)
    rotmats, betas = rotation_matrices(poses).float(), torch.zeros(len(poses), 10)
    with torch.no_grad():
        vertices, joints = open_body("smpl-neutral")(rotmats, betas)
    seventeen = mixed(with_extra(extra), joints.numpy(), vertices.numpy())
    centred = seventeen - seventeen[:, [14]] - true + true[:, [14]]
    assert brought.mpjpe == pytest.approx(1000 * np.linalg.norm(centred, axis=-1).mean(), 1e-4)
