"""The open body's file: what anyone who loads weights/open_body.npz may rely on."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from tests.support.paths import ROOT

FILE = ROOT / "weights" / "open_body.npz"
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
OTHER_SIDE = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def body() -> dict[str, np.ndarray]:
    with np.load(FILE, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def joints(body: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(body["J_regressor"] @ body["v_template"])


@pytest.fixture(scope="module")
def people(body: dict[str, np.ndarray]) -> np.ndarray:
    """200 shapes (200, V, 3) with betas drawn from N(0, 1)."""
    betas = np.random.default_rng(0).normal(size=(200, 10))
    return np.asarray(body["v_template"] + np.einsum("vck,nk->nvc", body["shapedirs"], betas))


def solid(vertices: np.ndarray, body: dict[str, np.ndarray]) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, body["f"], process=False)


def volume(vertices: np.ndarray, body: dict[str, np.ndarray]) -> float:
    """Cubic metres inside the surface, by the divergence theorem."""
    a, b, c = (vertices[body["f"][:, k]] for k in range(3))
    return float(np.einsum("fc,fc->", a, np.cross(b, c)) / 6)


def test_names_shapes_and_types(body: dict[str, np.ndarray]) -> None:
    v, f = len(body["v_template"]), len(body["f"])
    assert 6800 <= v <= 7000
    shapes = {
        "v_template": (v, 3),
        "shapedirs": (v, 3, 10),
        "J_regressor": (24, v),
        "weights": (v, 24),
        "kintree_table": (2, 24),
        "f": (f, 3),
        "sample_index": (431, 1),
        "sample_weight": (431, 1),
        "coco17_regressor": (17, v),
        "lsp14_regressor": (14, v),
        "makehuman_index": (v,),
        "vt": (len(body["vt"]), 2),
        "ft": (f, 3),
    }
    whole = {"kintree_table", "f", "ft", "sample_index", "makehuman_index"}
    assert {name: array.shape for name, array in body.items()} == shapes
    for name, array in body.items():
        assert array.dtype.kind == ("i" if name in whole else "f"), name
        assert array.dtype != np.float64, name
        assert np.isfinite(array).all(), name
    assert FILE.stat().st_size <= 1_600_000


def test_texture_coordinates_unfold_the_skin(body: dict[str, np.ndarray]) -> None:
    """Each row belongs to one vertex; almost no triangle is turned over, large or a needle."""
    vertex = np.full(len(body["vt"]), -1)
    vertex[body["ft"]] = body["f"]
    assert (vertex[body["ft"]] == body["f"]).all()
    assert (vertex >= 0).all()
    assert (body["vt"] > 0).all() and (body["vt"] < 1).all()
    assert len(vertex) < 1.15 * len(body["v_template"])  # copies at seams
    flat, solid = body["vt"][body["ft"]], body["v_template"][body["f"]]
    (a, b), (c, d) = ((flat[:, k] - flat[:, 0]).T for k in (1, 2))
    area = (a * d - b * c) / 2
    assert (area < 0).mean() < 0.002
    assert 0.3 < area.sum() < 1
    length = np.linalg.norm(flat - np.roll(flat, 1, 1), axis=2)
    metres = np.linalg.norm(solid - np.roll(solid, 1, 1), axis=2)
    assert (length < 5 * metres).all()  # no triangle reaches across the texture


def test_parents_are_those_of_smpl(body: dict[str, np.ndarray]) -> None:
    assert body["kintree_table"][0, 1:].tolist() == PARENTS[1:]
    assert body["kintree_table"][1].tolist() == list(range(24))


def test_weights_share_each_vertex_among_at_most_four_joints(body: dict[str, np.ndarray]) -> None:
    weights = body["weights"]
    assert weights.min() >= 0
    assert (weights > 0).sum(1).max() <= 4
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert (weights.max(0) > 0.9).sum() >= 18  # the big segments have parts of their own


@pytest.mark.parametrize("name", ["J_regressor", "coco17_regressor", "lsp14_regressor"])
def test_regressors_are_sparse_convex_rows(body: dict[str, np.ndarray], name: str) -> None:
    rows = body[name]
    assert rows.min() >= 0
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    assert (rows > 0).sum(1).max() <= 400


def test_surface_is_closed_and_faces_outward(body: dict[str, np.ndarray]) -> None:
    """One body and two eyeballs: every edge has two faces that agree on which side is out."""
    mesh = solid(body["v_template"], body)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    parts = mesh.split(only_watertight=True)
    assert len(parts) == 3
    assert all(part.volume > 0 for part in parts)
    assert 0.05 < mesh.volume < 0.1  # cubic metres
    assert np.unique(body["f"]).size == len(body["v_template"])
    assert mesh.area_faces.min() > 1e-8


def test_left_and_right_are_mirror_images(body: dict[str, np.ndarray], joints: np.ndarray) -> None:
    template = body["v_template"]
    distance, mirror = cKDTree(template).query(template * FLIP)
    assert distance.max() < 1e-6
    np.testing.assert_allclose(joints[OTHER_SIDE], joints * FLIP, atol=1e-5)
    flipped = body["weights"][mirror][:, OTHER_SIDE]
    assert abs(flipped - body["weights"]).max() < 2e-3
    across = body["shapedirs"][mirror] * FLIP[:, None]
    assert abs(across - body["shapedirs"]).max() < 2e-5


def test_t_pose_in_smpl_axes(joints: np.ndarray, body: dict[str, np.ndarray]) -> None:
    """Metres, y up, facing +z, left arm along +x, pelvis at the origin."""
    assert np.linalg.norm(joints[0]) < 0.01
    arm = joints[[16, 18, 20, 22]]
    assert (np.diff(arm[:, 0]) > 0.08).all()
    assert np.ptp(arm[:, 1]) < 0.01
    assert np.ptp(arm[:, 2]) < 0.01
    assert joints[15, 1] > joints[12, 1] > joints[9, 1] > joints[3, 1] > 0 > joints[4, 1]
    leg = joints[7] - joints[1]
    assert np.degrees(np.arctan2(np.hypot(leg[0], leg[2]), -leg[1])) < 5
    assert joints[10, 2] - joints[7, 2] > 0.1
    nose = body["coco17_regressor"][0] @ body["v_template"]
    assert nose[2] > joints[15, 2] + 0.05


def test_palms_look_down(body: dict[str, np.ndarray], joints: np.ndarray) -> None:
    """Relaxed fingers hang below the wrist; the thumb is on the front side."""
    hand = body["v_template"][body["weights"][:, 22] > 0.9]
    tips = hand[hand[:, 0] > hand[:, 0].max() - 0.03]
    assert -0.09 < tips[:, 1].mean() - joints[20, 1] < -0.02
    wrist = body["v_template"][body["weights"][:, [20, 22]].sum(1) > 0.9]
    thumb = wrist[wrist[:, 2].argmax()]
    assert thumb[2] - joints[22, 2] > 0.04
    assert thumb[0] < joints[22, 0] + 0.06


def test_bones_have_human_lengths(joints: np.ndarray) -> None:
    bones = {4: (0.36, 0.5), 7: (0.36, 0.5), 18: (0.22, 0.33), 20: (0.21, 0.3), 10: (0.1, 0.2)}
    for child, (shortest, longest) in bones.items():
        length = np.linalg.norm(joints[child] - joints[PARENTS[child]])
        assert shortest < length < longest, child


def test_shapes_span_grown_ups(body: dict[str, np.ndarray], people: np.ndarray) -> None:
    stature = np.ptp(people[..., 1], axis=1)
    assert 1.38 < stature.min() < 1.55
    assert 1.9 < stature.max() < 2.1
    assert 0.08 < stature.std() < 0.12
    index = [volume(v, body) * 1000 / h**2 for v, h in zip(people, stature, strict=True)]
    assert 14 < min(index) < 21  # body-mass index, at the density of water
    assert 29 < max(index) < 42


def test_first_betas_are_stature_and_weight(body: dict[str, np.ndarray]) -> None:
    def measure(k: int, beta: float) -> tuple[float, float]:
        vertices = body["v_template"] + beta * body["shapedirs"][..., k]
        return float(np.ptp(vertices[:, 1])), volume(vertices, body)

    assert measure(0, 3)[0] - measure(0, -3)[0] > 0.5
    assert abs(measure(1, 3)[0] - measure(1, -3)[0]) < 0.06
    assert measure(1, 3)[1] > 1.5 * measure(1, -3)[1]


def test_eyes_stay_in_their_sockets(body: dict[str, np.ndarray], people: np.ndarray) -> None:
    """In every shape the pupils lie between nose and ear, just behind the brow's depth."""
    points = np.einsum("kv,nvc->nkc", body["coco17_regressor"], people)
    nose, left, right, ear = points[:, 0], points[:, 1], points[:, 2], points[:, 3]
    between = left[:, 0] - right[:, 0]
    assert ((between > 0.05) & (between < 0.08)).all()
    assert (left[:, 1] > nose[:, 1]).all()
    assert ((left[:, 2] < nose[:, 2]) & (left[:, 2] > ear[:, 2] + 0.04)).all()
    eyeball = body["coco17_regressor"][1].argmax()
    skin = np.setdiff1d(np.arange(people.shape[1]), eyes_of(body))
    distance, _ = cKDTree(body["v_template"][skin]).query(body["v_template"][eyeball])
    assert distance < 0.01
    assert (body["weights"][eyes_of(body), 15] == 1).all()


def eyes_of(body: dict[str, np.ndarray]) -> np.ndarray:
    """The eyeballs' vertices: the small parts of the surface."""
    labels = trimesh.graph.connected_component_labels(solid(body["v_template"], body).edges)
    return np.flatnonzero(labels != np.bincount(labels).argmax())


def test_sampled_vertices_are_distinct_and_spread(body: dict[str, np.ndarray]) -> None:
    index = body["sample_index"][:, 0]
    assert np.unique(index).size == 431
    assert not np.isin(index, eyes_of(body)).any()
    assert (body["sample_weight"] == 1).all()
    tree = cKDTree(body["v_template"][index])
    nearest = tree.query(body["v_template"][index], k=2)[0][:, 1]
    assert nearest.min() > 0.025
    gap, _ = tree.query(body["v_template"])
    assert gap.max() < 0.06


def test_keypoints_lie_where_they_are_clicked(
    body: dict[str, np.ndarray], joints: np.ndarray
) -> None:
    coco = body["coco17_regressor"] @ body["v_template"]
    lsp = body["lsp14_regressor"] @ body["v_template"]
    swap = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    np.testing.assert_allclose(coco[swap], coco * FLIP, atol=1e-5)
    smpl = [16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]
    assert np.linalg.norm(coco[5:] - joints[smpl], axis=1).max() < 0.045
    assert (coco[[11, 12], 1] > joints[[1, 2], 1] + 0.01).all()  # hips are clicked higher
    order = [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9]  # COCO's number of LSP's first twelve
    np.testing.assert_allclose(lsp[:12], coco[order], atol=1e-6)
    assert joints[12, 1] < lsp[12, 1] < joints[15, 1]
    assert lsp[13, 1] > body["v_template"][:, 1].max() - 0.002


def test_smplx_takes_it(body: dict[str, np.ndarray], joints: np.ndarray) -> None:
    smplx = pytest.importorskip("smplx")
    from smplx.utils import Struct
    from smplx.vertex_ids import vertex_ids

    vertices = len(body["v_template"])
    data = Struct(**body, posedirs=np.zeros((vertices, 3, 207), np.float32))
    model = smplx.SMPL(
        model_path="",
        data_struct=data,
        create_transl=False,
        vertex_ids=dict.fromkeys(vertex_ids["smplh"], 0),
    )
    rest = model(
        betas=torch.zeros(1, 10),
        body_pose=torch.eye(3).expand(1, 23, 3, 3),
        global_orient=torch.eye(3).expand(1, 1, 3, 3),
        pose2rot=False,
    )
    np.testing.assert_allclose(rest.vertices[0].detach().numpy(), body["v_template"], atol=1e-6)
    np.testing.assert_allclose(rest.joints[0, :24].detach().numpy(), joints, atol=1e-6)
