"""Shorts and a short top: what they cover, on bodies of any topology, with smooth hems."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from staf_cli.body.clothes import CLOTH, HEM, THIGH, tones_of
from tests.support.made_people import open_body

# Joints as in SMPL's neutral body, from its pelvis: hips closer together and lower than in the
# open body, a spine and collars of another kind.
LIKE_SMPL = {1: (0.069, -0.091), 2: (-0.069, -0.091), 3: (0, 0.109), 6: (0, 0.244), 9: (0, 0.297)}


@pytest.fixture(scope="module")
def plain():
    return open_body().arrays


def with_joints(body, places):
    """The body with joints elsewhere, by rows of the regressor that say so of its template."""
    regressor = body.J_regressor.copy()
    known = np.column_stack([body.v_template[:, :2], np.ones(len(body.v_template))])
    for joint, place in places.items():
        off = np.array([*place, 1]) - known.T @ regressor[joint]
        regressor[joint] += (np.linalg.pinv(known.T) @ off).astype(np.float32)
    return replace(body, J_regressor=regressor)


def subdivided(body):
    """The same body of four times as many triangles."""
    vertices, faces = trimesh.remesh.subdivide(body.v_template, body.faces)
    new = len(vertices) - len(body.v_template)
    weights = np.concatenate([body.weights, np.tile(np.eye(24, dtype=np.float32)[:1], (new, 1))])
    return replace(
        body,
        v_template=vertices.astype(np.float32),
        shapedirs=np.zeros((len(vertices), 3, 10), np.float32),
        posedirs=np.zeros((len(vertices), 3, 207), np.float32),
        J_regressor=np.pad(body.J_regressor, ((0, 0), (0, new))),
        weights=weights,
        faces=faces.astype(np.int64),
        **dict.fromkeys(
            (
                "sample_index",
                "sample_weight",
                "coco17_regressor",
                "lsp14_regressor",
                "uv",
                "uv_faces",
            )
        ),
    )


@pytest.fixture(scope="module", params=["open body", "four times the triangles", "SMPL's joints"])
def body(request, plain):
    if request.param == "open body":
        return plain
    return subdivided(plain) if "four" in request.param else with_joints(plain, LIKE_SMPL)


def clothed(body):
    tones = tones_of(body)
    assert tones is not None
    return tones


def pieces(body, chosen):
    """The sizes of the connected pieces of the surface whose vertices are chosen, largest first."""
    edges = body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = edges[chosen[edges].all(1)]
    shape = (len(chosen), len(chosen))
    graph = coo_array((np.ones(len(edges)), edges.T), shape=shape)
    _, label = connected_components(graph, directed=False)
    return sorted(np.unique(label[chosen], return_counts=True)[1].tolist(), reverse=True)


def test_shorts_and_top_are_whole_and_nothing_else_is_dark(body):
    tones = clothed(body)
    assert tones.dtype == np.float32
    assert (tones.min(), tones.max()) == (pytest.approx(CLOTH), 1)
    assert len(pieces(body, tones < 0.6)) == 2
    # Head, arms, belly and legs, and the two eyeballs; holes would be more pieces.
    assert len(pieces(body, tones > 0.7)) == 8


def test_what_is_covered_is_what_underwear_covers(body):
    tones, points = clothed(body), body.v_template
    x, y, z = points.T
    trunk, legs = np.abs(x) < 0.16, y < -0.02
    bust = np.argmax(np.where(trunk & (y > 0.25) & (y < 0.45), z, -1))
    back = np.argmin(np.where(trunk & (y > 0.25) & (y < 0.45), z, 1))
    seat = np.argmin(np.where(trunk & (y > -0.15) & (y < 0.08), z, 1))
    crotch = np.argmin(np.where((np.abs(x) < 0.01) & legs, y, 1))
    flank = np.argmin(np.hypot(np.abs(x) - 0.17, y - 0.33) + np.abs(z))  # below the armpit
    for vertex in (bust, back, seat, crotch, flank):
        assert tones[vertex] == pytest.approx(CLOTH)
    skin = (y < -0.3) | (y > 0.6) | (np.abs(x) > 0.25) | ((y > 0.13) & (y < 0.18))
    assert (tones[skin] == 1).all()


def test_hems_do_not_follow_the_triangles(plain):
    """Where skin is half cloth lies on a plane across the thigh, within millimetres."""
    tones, points = clothed(plain), plain.v_template
    half = (1 + CLOTH) / 2
    edges = np.unique(np.sort(plain.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)), axis=0)
    joints = plain.J_regressor @ points
    edges = edges[(points[edges, 1] < joints[1, 1] - 0.05).all(1)]
    low, high = tones[edges].T
    crossing = (low - half) * (high - half) < 0
    share = ((half - low) / (high - low + 1e-9))[crossing, None]
    a, b = points[edges[crossing, 0]], points[edges[crossing, 1]]
    hem = a + share * (b - a)
    for side, one in ((hem[:, 0] > 0, 0), (hem[:, 0] < 0, 1)):
        thigh = joints[4 + one] - joints[1 + one]
        along = (hem[side] - joints[1 + one]) @ thigh / (thigh @ thigh)
        off = (along - THIGH) * np.linalg.norm(thigh)
        assert len(off) > 30
        assert np.abs(off).max() < HEM / 2
        assert off.std() < 0.003


def test_both_sides_are_dressed_alike(plain):
    tones, points = clothed(plain), plain.v_template
    for side in (1, -1):
        assert (tones[side * points[:, 0] > 1e-3] < 0.6).sum() > 500
    assert (tones[points[:, 0] > 1e-3]).sum() == pytest.approx(
        tones[points[:, 0] < -1e-3].sum(), rel=1e-3
    )


@pytest.mark.parametrize("axes", [[0, 2, 1], [1, 0, 2]])
def test_a_body_that_does_not_stand_upright_has_none(plain, axes):
    assert (
        tones_of(replace(plain, v_template=np.ascontiguousarray(plain.v_template[:, axes]))) is None
    )


def test_a_body_whose_arms_hang_down_has_none(plain):
    """Hands beside the thighs would wear the shorts."""
    assert tones_of(with_joints(plain, {20: (0.3, -0.1), 21: (-0.3, -0.1)})) is None
