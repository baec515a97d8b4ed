"""Clothes: cut for a small body of tubes, and the file they are kept in."""

import dataclasses

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from staf_cli.core.errors import BodyError
from staf_cli.training.people.garment_colours import plain_colours, vertex_colours
from staf_cli.training.people.garment_fitting import (
    Binding,
    base_influence,
    bind,
    covered_skin,
    height_above,
    move_with_skin,
    place_on_base,
    push_out,
)
from staf_cli.training.people.makehuman import Mesh, read_fitting, read_mesh
from staf_cli.training.people.tailoring import TargetBody, make_piece
from staf_cli.training.people.wardrobe import Wardrobe, read_wardrobe, write_wardrobe

ELBOW, SHOULDER = 18, 16
AROUND, ALONG = 24, 31
RADIUS, LENGTH, EASE = 0.05, 0.6, 0.02  # m
STANCE = Rotation.from_euler("z", -40, degrees=True)  # arms hang in the clothes' own stance


def tube(radius: float, first: float = 0.0, last: float = LENGTH) -> np.ndarray:
    """Vertices (AROUND * ALONG, 3) of a tube along x from `first` to `last`."""
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    x = np.linspace(first, last, ALONG)
    ring = radius * np.stack([np.zeros(AROUND), np.cos(angle), np.sin(angle)], 1)
    return (x[:, None, None] * [1, 0, 0] + ring).reshape(-1, 3)


def tube_quads() -> np.ndarray:
    """Its quads (Q, 4), seen from outside."""
    row, column = np.meshgrid(np.arange(ALONG - 1), np.arange(AROUND), indexing="ij")
    beside = (column + 1) % AROUND
    corners = [(row, column), (row, beside), (row + 1, beside), (row + 1, column)]
    return np.stack([r * AROUND + c for r, c in corners], -1).reshape(-1, 4)


def halves(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def arm() -> TargetBody:
    """An arm whose first beta makes it 1 cm thicker; its base mesh has a sleeve as a helper."""
    skin = tube(RADIUS)
    bend = np.clip((skin[:, 0] - 0.25) / 0.1, 0, 1)
    weights = np.zeros((len(skin), 24))
    weights[:, SHOULDER], weights[:, ELBOW] = 1 - bend, bend
    shapedirs = np.zeros((len(skin), 3, 10))
    shapedirs[:, 1:, 0] = 0.01 * skin[:, 1:] / RADIUS
    helper = tube(RADIUS + EASE, 0.05, 0.5)
    base = np.concatenate([skin, helper])
    bones = np.zeros((len(base), 2))
    bones[:, 1] = np.clip((base[:, 0] - 0.25) / 0.1, 0, 1)
    bones[:, 0] = 1 - bones[:, 1]
    index = np.arange(len(skin))
    return TargetBody(
        base=STANCE.apply(base),
        influence=base_influence(bones, index, weights),
        index=index,
        v_template=skin,
        shapedirs=shapedirs,
        weights=weights,
        faces=halves(tube_quads()),
    )


def sleeve(folder, offset=0.0):
    """The sleeve's two files, hung on the helper: the obj in another place, as it may be."""
    count = AROUND * ALONG
    obj = ["# sleeve", *(f"v {x} {y} {z}" for x, y, z in tube(9.0))]
    obj += [f"vt {i % AROUND / AROUND} {i // AROUND / ALONG}" for i in range(count)]
    obj += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in quad) for quad in tube_quads()]
    clo = ["# fitting", "name sleeve", f"y_scale {count} {count + AROUND // 2} 0.1", "verts 0"]
    clo += ["material sleeve.mhmat"]
    clo += [f"{count + i} {count + i} {count + i} 0.5 0.25 0.25 0 {offset} 0" for i in range(count)]
    clo += ["", "delete_verts", "300 - 303 310"]
    (folder / "sleeve.obj").write_text("\n".join(obj))
    (folder / "sleeve.mhclo").write_text("\n".join(clo))
    return read_mesh(folder / "sleeve.obj"), read_fitting(folder / "sleeve.mhclo")


@pytest.fixture
def piece(tmp_path):
    mesh, fitting = sleeve(tmp_path)
    colours = np.full((len(mesh.vertices), 3), 90, np.uint8)
    return make_piece("male_sleeve", mesh, fitting, colours, arm())


def test_a_fitting_places_vertices_by_shares_and_scaled_offsets(tmp_path):
    (tmp_path / "it.mhclo").write_text(
        "# words\nx_scale 0 1 2.0\nz_scale 0 2 1.0\nverts 0\nmaterial between.mhmat\n"
        "0 1 2 0.5 0.25 0.25 1 1 1\n2\n\ndelete_verts\n3 - 5 9\n11 - 12\n"
    )
    fitting = read_fitting(tmp_path / "it.mhclo")
    base = np.array([[0.0, 0, 0], [4, 0, 0], [0, 0, -3]])
    # x: 4 apart where 2 is usual, so offsets count twice; y has no scale; z: three times.
    expected = np.array([[1 + 2, 1, -0.75 + 3], [0, 0, -3]])
    np.testing.assert_allclose(place_on_base(fitting, base), expected)
    assert fitting.covered.tolist() == [3, 4, 5, 9, 11, 12]


def test_a_triangle_of_an_obj_is_drawn_once(tmp_path):
    vertices = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\n"
    (tmp_path / "it.obj").write_text(vertices + "f 1/1 2/1 3/1 4/1\nf 1/1/7 3/1/7 4/1/7\n")
    assert read_mesh(tmp_path / "it.obj").triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 2, 3]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("it.mhclo", "name nothing\n"),
        ("it.mhclo", "verts 0\n1 2 x 1 1 1 1 1 1\n"),
        ("it.obj", "v 0 0 0\nvt 0 0\nf 1/1 2/1 3/1\n"),
        ("it.obj", "v 0 0 zero\n"),
    ],
)
def test_files_that_are_no_garment_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(BodyError, match=name):
        (read_mesh if name.endswith("obj") else read_fitting)(tmp_path / name)


def test_points_follow_a_rigid_motion_of_the_skin_exactly():
    generator = np.random.default_rng(0)
    before, points = generator.normal(size=(50, 3)), generator.normal(size=(9, 3))
    share = generator.random((9, 12))
    index = np.stack([generator.permutation(50)[:12] for _ in points])
    binding = Binding(index, share / share.sum(1, keepdims=True))
    shift = np.array([1.0, 2.0, 3.0])
    for turn in Rotation.random(5, random_state=0):
        after = turn.apply(before) + shift
        moved = move_with_skin(points, binding, before, after)
        np.testing.assert_allclose(moved, turn.apply(points) + shift, atol=1e-9)


def test_a_sleeve_hangs_on_the_arm_even_where_the_hip_is_nearer():
    arm_skin = tube(RADIUS)
    hip_skin = arm_skin - np.array([0, 2 * RADIUS + 0.03, 0])
    joints = np.eye(24)[[ELBOW, 1]]
    skin_influence = np.repeat(joints, len(arm_skin), 0)
    loose = np.array([[0.3, -RADIUS - 0.018, 0.0]])  # 18 mm below the arm, 12 mm above the hip
    binding = bind(loose, joints[:1], np.concatenate([arm_skin, hip_skin]), skin_influence)
    on_hip = binding.index >= len(arm_skin)
    assert np.isclose(binding.share.sum(), 1)
    assert binding.share[on_hip].sum() < 0.1


def test_height_above_a_surface_agrees_with_trimesh():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.2)
    points = np.random.default_rng(1).normal(scale=0.15, size=(200, 3))
    height, normal = height_above(points, np.array(ball.vertices), np.array(ball.faces))
    _, distance, _ = trimesh.proximity.closest_point_naive(ball, points)
    np.testing.assert_allclose(np.abs(height), distance, atol=2e-4)
    outward = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert (np.sign(height) == np.sign(np.linalg.norm(points, axis=1) - 0.2)).mean() > 0.97
    assert ((normal * outward).sum(1) > 0.9)[np.abs(height) < 0.1].all()


def test_what_sinks_in_is_pushed_out_and_what_lies_outside_stays():
    skin, faces = tube(RADIUS), halves(tube_quads())
    garment = tube(RADIUS + 0.02, 0.1, 0.5)
    dent = np.flatnonzero((garment[:, 1] > 0.06) & (np.abs(garment[:, 0] - 0.3) < 0.05))
    garment[dent, 1] -= 0.03
    out = push_out(garment, faces, skin, faces, np.full(len(garment), 0.005))
    height, _ = height_above(out, skin, faces)
    assert height.min() > 0.004
    far = np.abs(garment[:, 0] - 0.3) > 0.15
    np.testing.assert_allclose(out[far], garment[far])


def test_a_sewn_sleeve_lies_around_the_straight_arm(piece):
    # Closed form: the helper's tube, turned back out of the stance.
    np.testing.assert_allclose(piece.v_template, tube(RADIUS + EASE, 0.05, 0.5), atol=1e-5)
    np.testing.assert_allclose(piece.weights.sum(1), 1, atol=1e-6)
    bend = np.clip((piece.v_template[:, 0] - 0.25) / 0.1, 0, 1)
    assert np.abs(piece.weights[:, ELBOW] - bend).max() < 0.1
    body = arm()
    height, _ = height_above(piece.v_template.astype(float), body.v_template, body.faces)
    assert (height > -0.005).all() and (height < 0.15).all()
    assert (piece.kind, piece.female, piece.held_out) == ("suit", 0, False)


@pytest.mark.parametrize("beta", [-2, 2])
def test_a_sleeve_keeps_its_distance_when_the_arm_grows(piece, beta):
    body = arm()
    skin = body.v_template + beta * body.shapedirs[..., 0]
    cloth = piece.v_template + beta * piece.shapedirs[..., 0]
    height, _ = height_above(cloth.astype(float), skin, body.faces)
    np.testing.assert_allclose(height, EASE, atol=0.003)


def test_a_shift_in_the_fitting_arrives_turned_with_the_arm(tmp_path):
    mesh, fitting = sleeve(tmp_path, offset=0.01)
    body = arm()
    piece = make_piece("sleeve", mesh, fitting, np.zeros((len(mesh.vertices), 3), np.uint8), body)
    first, second = AROUND * ALONG, AROUND * ALONG + AROUND // 2
    stretch = abs(body.base[first, 1] - body.base[second, 1]) / 0.1
    shift = STANCE.inv().apply([0, 0.01 * stretch, 0])
    np.testing.assert_allclose(piece.v_template, tube(RADIUS + EASE, 0.05, 0.5) + shift, atol=1e-4)


def test_only_skin_well_under_the_garment_is_hidden(piece):
    x = tube(RADIUS)[:, 0]
    named = np.isin(np.arange(len(x)), [300, 301, 302, 303, 310])  # by the fitting itself
    assert piece.hides[(x > 0.12) & (x < 0.43)].all()
    assert not piece.hides[((x < 0.07) | (x > 0.48)) & ~named].any()
    nowhere = tube(RADIUS + EASE) + np.array([0, 1, 0])
    faces = halves(tube_quads())
    assert not covered_skin(tube(RADIUS), faces, nowhere, faces).any()


def test_colours_come_from_under_the_quad_and_not_from_beside_it():
    texture = np.full((64, 64, 3), 255, np.uint8)
    texture[32:, :32] = (200, 0, 0)  # the lower left quarter, which is all that the quads use
    grid = np.stack(np.meshgrid([0, 0.25, 0.48], [0, 0.25, 0.48]), -1).reshape(-1, 2)
    quads = np.array([[r, r + 1, r + 4, r + 3] for r in (0, 1, 3, 4)])
    mesh = Mesh(np.zeros((9, 3)), quads, grid, quads)
    colours = vertex_colours(mesh, texture).astype(int)
    assert np.abs(colours - (200, 0, 0)).max() <= 1  # white nearby would add green and blue


def test_plain_colours_go_by_the_size_of_the_parts():
    quads = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9], [10, 11, 12, 12]])
    colours = plain_colours(13, quads, ((1, 1, 1), (2, 2, 2)))
    assert colours[:, 0].tolist() == [2] * 4 + [1] * 6 + [2] * 3


def wardrobe(piece) -> Wardrobe:
    other = dataclasses.replace(piece, name="kept", kind="hair", female=1, held_out=True)
    skins = np.random.default_rng(0).integers(256, size=(2, len(piece.hides), 3), dtype=np.uint8)
    return Wardrobe(
        skins, ("a", "b"), np.array([True, False]), np.array([False, True]), (piece, other)
    )


def test_a_wardrobe_comes_back_as_it_went(tmp_path, piece):
    it = wardrobe(piece)
    write_wardrobe(it, tmp_path / "w.npz")
    back = read_wardrobe(tmp_path / "w.npz")
    assert back.skin_names == it.skin_names
    np.testing.assert_array_equal(back.skins, it.skins)
    for old, new in zip(it.pieces, back.pieces, strict=True):
        for field in dataclasses.fields(old):
            a, b = getattr(old, field.name), getattr(new, field.name)
            if field.name in ("weights", "shapedirs"):  # kept in half precision
                np.testing.assert_allclose(b, a, atol=1e-3)
                assert b.dtype == np.float32
            else:
                np.testing.assert_array_equal(b, a)
        np.testing.assert_allclose(new.weights.sum(1), 1, atol=1e-6)


def test_what_is_held_out_is_never_among_the_training_clothes(piece):
    it = wardrobe(piece)
    assert [p.name for p in it.training.pieces] == ["male_sleeve"]
    assert [p.name for p in it.held_out.pieces] == ["kept"]
    assert (it.training.skin_names, it.held_out.skin_names) == (("a",), ("b",))
    np.testing.assert_array_equal(it.held_out.skins, it.skins[1:])


@pytest.mark.parametrize(
    ("member", "change", "complaint"),
    [
        ("skins", None, "skins"),
        ("skins", lambda a: a[:, :-1], "hides"),
        ("skins", lambda a: a.astype(float), "float64"),
        ("kinds", lambda a: np.array(["suit", "hat"]), "hat"),
        ("held_out", lambda a: a[:1], "held_out"),
        ("kept/weights", None, "kept/weights"),
        ("kept/weights", lambda a: a * np.float16(0.5), "kept/weights"),
        ("kept/weights", lambda a: a[:, :23], "kept/weights"),
        ("kept/v_template", lambda a: a * np.nan, "finite"),
        ("kept/shapedirs", lambda a: a[..., :9], "kept/shapedirs"),
        ("kept/faces", lambda a: a + 5, "kept/faces"),
        ("kept/colours", lambda a: a[:-1], "kept/colours"),
    ],
)
def test_a_file_that_is_no_wardrobe_is_refused_in_one_line(
    tmp_path, piece, member, change, complaint
):
    path = tmp_path / "w.npz"
    write_wardrobe(wardrobe(piece), path)
    with np.load(path) as archive:
        arrays = dict(archive)
    if change is None:
        del arrays[member]
    else:
        arrays[member] = change(arrays[member])
    np.savez(path, **arrays)
    with pytest.raises(BodyError) as caught:
        read_wardrobe(path)
    message = str(caught.value)
    assert complaint in message and str(path) in message and "\n" not in message


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(BodyError, match="no such file"):
        read_wardrobe(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BodyError, match="npz"):
        read_wardrobe(tmp_path / "text.npz")
