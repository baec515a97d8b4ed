"""Rendering against ray-cast spheres, projected points and exact coverage."""

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
import trimesh

from staf_cli.core import geometry
from staf_cli.core.errors import MissingTool, UsageError
from staf_cli.core.palette import PALETTE, person_colour
from staf_cli.rendering import (
    Camera,
    Figure,
    Style,
    drawing,
    open_rasterizer,
    overlay,
    side_view,
)
from staf_cli.rendering import gl as gl_module
from staf_cli.rendering.camera import Window
from staf_cli.rendering.rasterizer import CpuRasterizer, Surface
from staf_cli.rendering.shading import shade, vertex_normals

SIZE = (320, 240)
FOCAL = 400.0
CAMERA = Camera.centred(FOCAL, SIZE)
CPU = CpuRasterizer()

BALL = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
FACES = BALL.faces.astype(np.int32)


def ball(centre, radius):
    return (BALL.vertices * radius + centre).astype(np.float32)


def body(yaw=0.0, at=(0.0, 0.0, 4.0)):
    """A stick figure of capsules, arms uneven, head up: -y. Vertices (V, 3), faces (M, 3)."""
    bones = np.array(
        [  # from, to: m
            [[0, -0.45, 0], [0, 0.1, 0]],
            [[0, -0.75, 0], [0, -0.70, 0]],
            [[-0.15, -0.4, 0], [-0.7, -0.7, 0.1]],
            [[0.15, -0.4, 0], [0.5, 0.0, -0.3]],
            [[-0.1, 0.1, 0], [-0.2, 0.85, 0.1]],
            [[0.1, 0.1, 0], [0.3, 0.8, -0.2]],
        ]
    )
    parts = []
    for (start, end), radius in zip(bones, (0.16, 0.11, 0.05, 0.05, 0.08, 0.08), strict=True):
        part = trimesh.creation.capsule(np.linalg.norm(end - start), radius, count=[16, 16])
        part.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], end - start))
        part.apply_translation((start + end) / 2)
        parts.append(part)
    whole = trimesh.util.concatenate(parts)
    assert isinstance(whole, trimesh.Trimesh)
    turn = cv2.Rodrigues(np.array([0.0, yaw, 0.0]))[0]
    vertices = whole.vertices @ turn.T + np.asarray(at)
    return vertices.astype(np.float32), whole.faces.astype(np.int32)


def surface(*parts):
    """Spheres (vertices, rgb) joined by hand."""
    vertices = np.concatenate([v for v, _ in parts])
    colours = np.concatenate([np.tile(np.float32(rgb), (len(v), 1)) for v, rgb in parts])
    faces = np.concatenate([FACES + i * len(BALL.vertices) for i in range(len(parts))])
    return Surface(vertices, faces.astype(np.int32), colours)


def ray_cast(camera, spheres):
    """Depth (H, W) and index (H, W) of the nearest sphere at every pixel's centre; inf and -1."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.focal
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.focal
    rays = np.stack([*np.meshgrid(x, y), np.ones((camera.height, camera.width))], -1)
    nearest = np.full(rays.shape[:2], np.inf)
    which = np.full(rays.shape[:2], -1)
    for index, (centre, radius) in enumerate(spheres):
        a = (rays**2).sum(-1)
        b = rays @ np.asarray(centre, float)
        under = b**2 - a * (np.dot(centre, centre) - radius**2)
        depth = np.where(under >= 0, (b - np.sqrt(np.maximum(under, 0))) / a, np.inf)
        which[depth < nearest] = index
        nearest = np.minimum(nearest, depth)
    return nearest, which


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def photo(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def coverage(figures, faces, camera=CAMERA, rasterizer=CPU):
    """Alpha (H, W) in [0, 1] of what `overlay` draws, measured between a black and white photo."""
    black = np.zeros((camera.height, camera.width, 3), np.uint8)
    on_black = overlay(black, figures, faces, camera, rasterizer, Style(alpha=1)).astype(int)
    on_white = overlay(black + 255, figures, faces, camera, rasterizer, Style(alpha=1)).astype(int)
    return 1 - (on_white - on_black).mean(-1) / 255


@pytest.fixture(scope="module")
def gl() -> Iterator[object]:
    try:
        opened = open_rasterizer("pyrender")
        rasterizer = opened.__enter__()
    except MissingTool as error:
        pytest.skip(f"no GL on this machine: {error}")
    yield rasterizer
    opened.__exit__(None, None, None)


def test_sphere_lands_where_rays_hit_it():
    for centre in ([0.6, -0.4, 4.0], [-0.9, 0.5, 3.0], [0.0, 0.0, 6.0]):
        drawn = CPU.draw(surface((ball(centre, 0.5), (1, 1, 1))), CAMERA)
        depth, which = ray_cast(CAMERA, [(centre, 0.5)])
        hit = which == 0
        assert iou(drawn.coverage > 0.5, hit) > 0.985
        shifted = np.roll(hit, 1, axis=1)
        assert iou(drawn.coverage > 0.5, shifted) < 0.98  # the test sees one pixel
        inside = cv2.erode(hit.astype(np.uint8), np.ones((9, 9))) > 0
        np.testing.assert_allclose(1 / drawn.inverse_depth[inside], depth[inside], atol=0.005)


def test_coverage_of_a_rectangle_is_exact():
    """Edges at 100, 120.5, 50 and 80.5 px: whole pixels inside, halves at two sides."""
    z = 2.0
    corners = np.array([[100, 50], [120.5, 50], [120.5, 80.5], [100, 80.5]])
    xy = (corners - np.array(SIZE) / 2) / FOCAL * z
    vertices = np.column_stack([xy, np.full(4, z)]).astype(np.float32)
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)  # outside towards the camera
    alpha = coverage([Figure(1, vertices)], faces)
    expected = np.zeros((SIZE[1], SIZE[0]))
    expected[50:80, 100:120] = 1
    expected[50:80, 120] = expected[80, 100:120] = 0.5
    expected[80, 120] = 0.25
    np.testing.assert_allclose(alpha, expected, atol=0.01)


@pytest.mark.parametrize("at", [(0.0, 0.0, 4.0), (0.9, 0.3, 4.5), (-1.0, -0.2, 5.0)])
def test_silhouette_spans_the_projected_vertices(at):
    vertices, faces = body(0.7, at)
    pixels = geometry.project(torch.from_numpy(vertices), FOCAL, (SIZE[0] / 2, SIZE[1] / 2)).numpy()
    alpha = coverage([Figure(1, vertices)], faces)
    rows, columns = np.nonzero(alpha >= 0.25)
    assert abs(columns.min() - pixels[:, 0].min()) < 1
    assert abs(columns.max() + 1 - pixels[:, 0].max()) < 1
    assert abs(rows.min() - pixels[:, 1].min()) < 1
    assert abs(rows.max() + 1 - pixels[:, 1].max()) < 1
    touched = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((3, 3))) > 0
    column, row = np.floor(pixels).astype(int).T
    assert touched[row, column].all()


def test_both_backends_draw_the_same(gl):
    one, faces = body(0.4, (-0.25, 0.0, 3.5))
    two, _faces = body(-1.0, (0.1, 0.05, 3.8))
    image = photo()
    figures = [Figure(1, one), Figure(2, two)]
    by_cpu, by_gl = (coverage(figures, faces, rasterizer=r) > 0.5 for r in (CPU, gl))
    assert iou(by_cpu, by_gl) >= 0.98
    for style in (Style(), Style(plain=True), Style(wireframe=True)):
        a, b = (overlay(image, figures, faces, CAMERA, r, style) for r in (CPU, gl))
        different = np.abs(a.astype(int) - b).max(-1) > 16
        assert different.sum() < 0.03 * by_cpu.sum()


@pytest.mark.parametrize("backend", ["cpu", "gl"])
def test_window_is_a_crop_of_the_whole(backend, request):
    rasterizer = CPU if backend == "cpu" else request.getfixturevalue("gl")
    scene = surface((ball([0.3, -0.1, 3.0], 0.6), (0.9, 0.4, 0.2)))
    whole = rasterizer.draw(scene, CAMERA)
    for window in (Window(130, 37, 243, 165), Window(0, 0, 201, 99), Window(199, 3, 320, 240)):
        part = rasterizer.draw(scene, CAMERA.crop(window))
        crop = whole.coverage[window.rows_and_columns]
        assert part.coverage.shape == crop.shape
        assert (part.coverage != crop).sum() <= 2  # a sample exactly on an edge may round away
        same = part.coverage == crop
        colours = whole.colour[window.rows_and_columns]
        np.testing.assert_allclose(part.colour[same], colours[same], atol=0.005)
        np.testing.assert_allclose(
            part.inverse_depth[same], whole.inverse_depth[window.rows_and_columns][same], atol=1e-4
        )


def test_regions_and_bands_equal_one_plain_render(monkeypatch):
    monkeypatch.setattr(drawing, "BAND_SAMPLES", 9_000)
    vertices = [ball(c, r) for c, r in (([-1.1, 0.3, 4], 0.3), ([1, -0.2, 3], 0.4))]
    vertices.append(ball([0.85, -0.3, 2.6], 0.2))
    image = photo()
    figures = [Figure(i + 1, v) for i, v in enumerate(vertices)]
    shown = overlay(image, figures, FACES, CAMERA, CPU, Style(alpha=0.7))

    colours = [
        shade(v, vertex_normals(v, FACES), person_colour(i + 1)) for i, v in enumerate(vertices)
    ]
    faces = np.concatenate([FACES + i * len(v) for i, v in enumerate(vertices)]).astype(np.int32)
    fine = Camera(2 * FOCAL, SIZE[0], SIZE[1], 2 * SIZE[0], 2 * SIZE[1])
    raster = CPU.draw(Surface(np.concatenate(vertices), faces, np.concatenate(colours)), fine)
    colour = raster.colour.reshape(SIZE[1], 2, SIZE[0], 2, 3).mean((1, 3))
    alpha = 0.7 * raster.coverage.reshape(SIZE[1], 2, SIZE[0], 2, 1).mean((1, 3))
    expected = image * (1 - alpha) + 255 * 0.7 * colour
    off = np.abs(shown - expected).max(-1)
    assert (off > 1).sum() <= 4


@pytest.mark.parametrize("backend", ["cpu", "gl"])
def test_interpenetrating_people_share_one_depth_buffer(backend, request):
    rasterizer = CPU if backend == "cpu" else request.getfixturevalue("gl")
    spheres = [([-0.2, 0.0, 4.0], 0.5), ([0.25, 0.1, 3.9], 0.4)]
    _, which = ray_cast(CAMERA, spheres)
    figures = [Figure(person, ball(*s)) for person, s in zip((1, 2), spheres, strict=True)]
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for order in (figures, figures[::-1]):
        shown = overlay(black, order, FACES, CAMERA, rasterizer, Style(alpha=1)).astype(int)
        blue = shown[..., 2] > shown[..., 0]  # person 1 is blue, person 2 orange
        for index, claimed in ((0, blue), (1, ~blue)):
            inside = cv2.erode((which == index).astype(np.uint8), np.ones((5, 5))) > 0
            assert inside.sum() > 500
            assert claimed[inside].mean() > 0.995


def test_nearer_person_wins_and_swapping_depth_swaps_the_winner():
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for near, far in ((1, 2), (2, 1)):
        figures = [Figure(far, ball([0, 0, 5.0], 0.5)), Figure(near, ball([0, 0, 3.0], 0.3))]
        alone = overlay(black, figures[1:], FACES, CAMERA, CPU, Style(alpha=1))
        for order in (figures, figures[::-1]):
            both = overlay(black, order, FACES, CAMERA, CPU, Style(alpha=1))
            np.testing.assert_array_equal(both[100:140, 140:180], alone[100:140, 140:180])


def test_antialiasing_softens_edges_only():
    centre, radius = [0.2, 0.1, 3.0], 0.5
    alpha = coverage([Figure(1, ball(centre, radius))], FACES)
    hit = (ray_cast(CAMERA, [(centre, radius)])[1] == 0).astype(np.uint8)
    inner, outer = cv2.erode(hit, np.ones((5, 5))), cv2.dilate(hit, np.ones((5, 5)))
    assert (alpha[inner > 0] > 0.99).all()
    assert (alpha[outer == 0] < 0.01).all()
    soft = (alpha > 0.1) & (alpha < 0.9)
    assert soft.sum() > 0.5 * 2 * np.pi * radius / centre[2] * FOCAL


def test_alpha_mixes_photo_and_person():
    image, figures = photo(), [Figure(1, ball([0, 0, 3], 0.5))]
    before = image.copy()
    shown = {a: overlay(image, figures, FACES, CAMERA, CPU, Style(alpha=a)) for a in (0, 0.4, 1)}
    np.testing.assert_array_equal(shown[0], image)
    np.testing.assert_allclose(shown[0.4], 0.6 * image + 0.4 * shown[1].astype(float), atol=1.1)
    np.testing.assert_array_equal(image, before)
    with pytest.raises(UsageError, match="alpha"):
        Style(alpha=1.5)


def test_clothes_are_darker_on_photo_and_side_view_and_of_the_same_hue():
    figures = [Figure(1, ball([0, 0, 3.0], 0.5))]
    tones = np.where(figures[0].vertices[:, 1] > 0, 0.33, 1).astype(np.float32)
    side = side_view(figures[0].vertices.astype(float), SIZE)
    bare, clothed = (
        overlay(photo(), figures, FACES, CAMERA, CPU, Style(alpha=1, side=side, tones=one))
        for one in (None, tones)
    )
    for column in (SIZE[0] // 2, SIZE[0] + side.camera.width // 2):
        above, below = (slice(y, y + 8) for y in (SIZE[1] // 2 - 25, SIZE[1] // 2 + 15))
        np.testing.assert_array_equal(clothed[above, column], bare[above, column])
        ratio = clothed[below, column].astype(float) / bare[below, column]
        assert (ratio > 0.5).all() and (ratio < 0.8).all()  # 0.33 of the light, and the sheen


def test_nobody_gives_the_photo_back():
    image = photo()
    behind = Figure(1, ball([0, 0, -3], 0.5))
    aside = Figure(2, ball([40, 0, 3], 0.5))
    at_lens = Figure(3, ball([0, 0, 0], 0.05))
    for figures in ([], [behind], [aside], [at_lens], [behind, aside, at_lens]):
        for style in (Style(), Style(wireframe=True), Style(boxes=True)):
            np.testing.assert_array_equal(overlay(image, figures, FACES, CAMERA, CPU, style), image)


@pytest.mark.parametrize("backend", ["cpu", "gl"])
def test_triangles_through_the_lens_do_not_smear(backend, request):
    rasterizer = CPU if backend == "cpu" else request.getfixturevalue("gl")
    # Both sides of a floor that runs from behind the camera to three metres in front of it.
    floor = np.array([[-1, 0.5, -1], [1, 0.5, -1], [1, 0.5, 3], [-1, 0.5, 3]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 1], [0, 2, 3], [0, 3, 2]], np.int32)
    image = photo()
    for style in (Style(alpha=1), Style(wireframe=True)):
        shown = overlay(image, [Figure(1, floor)], triangles, CAMERA, rasterizer, style)
        np.testing.assert_array_equal(shown, image)


def test_person_around_the_lens_shows_only_what_is_in_front():
    vertices, faces = body(0.0, (0.2, 0.3, 0.3))  # an arm and a leg reach past the lens
    vertices[0, 2] = 0  # division by zero, were it projected
    assert 10 < (vertices[:, 2] < 0.1).sum() < len(vertices) / 2
    pixels = CAMERA.project(vertices[vertices[:, 2] >= 0.1])
    low, high = np.floor(pixels.min(0)), np.ceil(pixels.max(0))
    rows, columns = np.nonzero(coverage([Figure(1, vertices)], faces) > 0)
    assert len(rows) > 1000
    assert columns.min() >= low[0] and columns.max() < high[0]
    assert rows.min() >= low[1] and rows.max() < high[1]


def test_person_larger_than_the_image_fills_it():
    alpha = coverage([Figure(1, ball([0.2, 0, 3], 2.5))], FACES)
    np.testing.assert_allclose(alpha, 1)
    vertices, faces = body(0.0, (0.75, 0.3, 2.2))  # cut by the right and the lower border
    pixels = CAMERA.project(vertices)
    assert pixels[:, 0].max() > SIZE[0] and pixels[:, 1].max() > SIZE[1]
    assert coverage([Figure(1, vertices)], faces)[:, -1].max() > 0.9


def test_head_is_above_feet_and_right_is_right():
    head, foot = Figure(1, ball([0.5, -0.6, 4], 0.1)), Figure(2, ball([0.5, 0.6, 4], 0.1))
    rows, columns = np.nonzero(coverage([head], FACES) > 0.5)
    assert rows.mean() == pytest.approx(SIZE[1] / 2 - 0.6 / 4 * FOCAL - 0.5, abs=0.3)
    assert columns.mean() == pytest.approx(SIZE[0] / 2 + 0.5 / 4 * FOCAL - 0.5, abs=0.3)
    assert np.nonzero(coverage([foot], FACES) > 0.5)[0].mean() > rows.mean() + 100


def test_light_is_smooth_and_comes_from_above_left():
    vertices = ball([0, 0, 4], 0.9)
    normals = vertex_normals(vertices, FACES)
    np.testing.assert_allclose(normals, BALL.vertices, atol=0.02)
    shown = overlay(
        np.zeros((SIZE[1], SIZE[0], 3), np.uint8),
        [Figure(1, vertices)],
        FACES,
        CAMERA,
        CPU,
        Style(alpha=1),
    )
    across = shown[120, 80:240].astype(int)
    assert np.abs(np.diff(across, axis=0)).max() <= 8
    assert len(np.unique(across[:, 1])) > 25
    assert shown[80, 120].sum() > shown[160, 200].sum() + 60


def test_colours_are_stable_and_distinct_for_colour_blind_eyes():
    assert [person_colour(i) for i in range(1, 9)] == list(PALETTE)
    assert person_colour(9) == person_colour(1)
    # Simulation of missing cones: Machado, Oliveira, Fernandes 2009, severity 1.
    simulations = np.array(
        [
            [1, 0, 0, 0, 1, 0, 0, 0, 1],
            [0.1523, 1.0526, -0.2049, 0.1145, 0.7863, 0.0992, -0.0039, -0.0481, 1.0520],
            [0.3673, 0.8606, -0.2280, 0.2801, 0.6725, 0.0474, -0.0118, 0.0429, 0.9689],
            [1.2555, -0.0767, -0.1788, -0.0784, 0.9308, 0.1476, 0.0047, 0.6914, 0.3039],
        ]
    ).reshape(-1, 3, 3)
    encoded = np.array(PALETTE) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    for matrix in simulations:
        seen = (linear @ matrix.T).clip(0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = cv2.cvtColor(seen.astype(np.float32)[None], cv2.COLOR_RGB2Lab)[0]
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(len(lab))
        assert apart.min() > 18


def test_plain_hides_the_photo_and_keeps_people_opaque():
    figures = [Figure(1, ball([0, 0, 3], 0.5))]
    one, two = (
        overlay(photo(seed), figures, FACES, CAMERA, CPU, Style(alpha=0.3, plain=True))
        for seed in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    opaque = overlay(photo(), figures, FACES, CAMERA, CPU, Style(alpha=1))
    np.testing.assert_array_equal(one[110:130, 150:170], opaque[110:130, 150:170])


def test_wireframe_shows_visible_edges_only():
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    coarse = trimesh.creation.icosphere(subdivisions=2)
    faces = coarse.faces.astype(np.int32)
    near = Figure(2, (coarse.vertices * 0.5 + [0, 0, 3]).astype(np.float32))
    hidden = Figure(1, (coarse.vertices * 0.3 + [0.05, 0, 4]).astype(np.float32))
    style = Style(alpha=1, wireframe=True)
    wires = overlay(image, [near], faces, CAMERA, CPU, style)
    solid = overlay(image, [near], faces, CAMERA, CPU, Style(alpha=1))
    assert (wires[solid.sum(-1) == 0] == 0).all()
    lit = wires.sum(-1) > 0
    assert 0.1 < lit.sum() / (solid.sum(-1) > 0).sum() < 0.8  # lines with gaps between them
    with_hidden = overlay(image, [hidden, near], faces, CAMERA, CPU, style)
    np.testing.assert_array_equal(with_hidden, wires)
    # The edges that face the camera, and no others, are where the lines are.
    pixels = CAMERA.project(near.vertices)
    towards = (coarse.vertices @ np.array([0.0, 0.0, 1.0])) < -0.4
    front = coarse.edges_unique[towards[coarse.edges_unique].all(1)]
    away = coarse.edges_unique[~towards[coarse.edges_unique].any(1)]
    brightness = wires.max(-1).astype(float)

    def along(edges):
        middle = np.floor(pixels[edges].mean(1)).astype(int)
        return brightness[middle[:, 1], middle[:, 0]]

    assert (along(front) > 30).mean() > 0.95
    assert along(front).mean() > 1.5 * along(away).mean()


def test_boxes_carry_box_label_and_keypoints():
    image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    kp2d = np.zeros((17, 3))
    kp2d[5], kp2d[7], kp2d[9] = (130, 120, 0.9), (150, 140, 0.9), (170, 120, 0.1)
    figure = Figure(3, ball([0, 0, -3], 0.5), np.array([100.0, 60, 220, 200]), kp2d)
    shown = overlay(image, [figure], FACES, CAMERA, CPU, Style(boxes=True))
    for x, y in ((100, 130), (220, 130), (160, 60), (160, 200)):
        drawn = shown[y - 1 : y + 1, x - 1 : x + 1].reshape(-1, 3).astype(int)  # either side
        assert np.abs(drawn - person_colour(3)).max(-1).min() < 90
    assert (shown[40:60, 100:115] != 40).any()  # the label is on the box
    assert (shown[139:141, 149:151] != 40).all()  # elbow
    assert (shown[118:123, 168:173] == 40).all()  # wrist, not confident
    off = overlay(image, [figure], FACES, CAMERA, CPU, Style())
    np.testing.assert_array_equal(off, image)


def test_side_view_stands_beside_the_people_and_stays():
    near, far = [-0.5, 0.0, 3.0], [0.5, 0.0, 5.0]
    side = side_view(np.array([near, far, [0, -0.8, 4], [0, 0.8, 4]]), SIZE)
    style = Style(side=side)
    width, height = SIZE[0] + side.camera.width, SIZE[1]
    assert width % 2 == 0
    image = photo()

    def panel(*centres):
        figures = [Figure(1, ball(centre, 0.1)) for centre in centres]
        shown = overlay(image, figures, FACES, CAMERA, CPU, style)
        assert shown.shape == (height, width, 3)
        return shown[:, SIZE[0] :].astype(int)

    empty = panel()

    def where(*centres):
        rows, columns = np.nonzero(np.abs(panel(*centres) - empty).max(-1) > 8)
        return columns.mean(), rows.mean()

    assert where(near)[0] < where([0, 0, 4])[0] < where(far)[0]
    assert where([0, -0.8, 4])[1] < where([0, 0.8, 4])[1] - 50
    # In the middle of the panel, and its size is that of a pinhole at side.distance.
    x, y = where([0, 0, 4.0])
    assert (x, y) == pytest.approx((side.camera.width / 2 - 0.5, height / 2 - 0.5), abs=0.5)
    # The farthest corners of the clip stay inside.
    for centre in (near, far, [0, -0.8, 4], [0, 0.8, 4]):
        drawn = np.abs(panel(centre) - empty).max(-1) > 8
        assert not (drawn[0].any() or drawn[-1].any() or drawn[:, 0].any() or drawn[:, -1].any())


def test_side_view_stands_on_the_ground_that_is_known():
    """People are drawn in it where they are for a level camera, and elsewhere over the photo."""
    joints = np.array([[0, -1.6, -3.0], [0, -0.1, -3], [0, -0.9, -5]])
    side = side_view(joints, SIZE, 0.0)
    assert side.floor == 0
    assert side.camera.project(side.transform(np.array([[0, 0, -4.0]])))[0, 1] < SIZE[1]
    filmed, level = ball([0, 0, 4.0], 0.1), ball([0, -0.9, -4.0], 0.1)
    image, style = photo(), Style(side=side)
    one, other, wanted = (
        overlay(image, [Figure(1, *vertices)], FACES, CAMERA, CPU, style)
        for vertices in ((filmed,), (filmed, None, None, "", level), (level,))
    )
    np.testing.assert_array_equal(one[:, : SIZE[0]], other[:, : SIZE[0]])
    np.testing.assert_array_equal(other[:, SIZE[0] :], wanted[:, SIZE[0] :])


def test_side_view_ignores_a_single_bad_frame():
    good = np.random.default_rng(0).normal([0, 0, 4], 0.3, (2000, 3))
    bad = np.concatenate([good, [[0, 0, 80.0], [30, 0, 4]]])
    assert side_view(bad, SIZE).distance == pytest.approx(side_view(good, SIZE).distance, rel=0.02)


def test_side_view_shows_who_runs_past_the_camera_at_most_twice_as_large():
    """A runner crosses the picture: towards the side camera, or away from it."""
    view = side_view(runner_at(np.linspace(-8, 8, 99)), SIZE, 0.0)
    near, far = (
        np.ptp(view.camera.project(view.transform(runner_at(np.array([x]))))[:, 1])
        for x in (8.0, -8.0)
    )
    assert 1.5 * far < near < 2.1 * far


def runner_at(places):
    """Feet, hips and head (3 * N, 3) m of a runner, in the axes of a level camera."""
    heights = np.array([-0.06, -0.9, -1.6])
    grid = np.stack(np.meshgrid(places, heights, [-5.0], indexing="ij"), -1)
    return grid.reshape(-1, 3).astype(np.float32)


@pytest.mark.parametrize("absent", ["pyrender", "OpenGL.error"])
def test_renderers_by_name(monkeypatch, absent):
    with pytest.raises(UsageError, match="auto, cpu, pyrender"), open_rasterizer("vulkan"):
        pass
    with open_rasterizer("cpu") as rasterizer:
        assert isinstance(rasterizer, CpuRasterizer)
    monkeypatch.setattr(gl_module, "GPU_NODES", ("null",))  # a machine with some device file ...
    monkeypatch.setitem(sys.modules, absent, None)  # ... and no working GL
    with open_rasterizer("auto") as rasterizer:
        assert isinstance(rasterizer, CpuRasterizer)
    with pytest.raises(MissingTool, match="--renderer cpu") as caught, open_rasterizer("pyrender"):
        pass
    assert "\n" not in str(caught.value)


def test_auto_avoids_software_gl(monkeypatch):
    monkeypatch.setattr(gl_module, "GPU_NODES", ("null",))
    monkeypatch.setattr(gl_module, "gl_device", lambda: "llvmpipe (LLVM 15.0.6, 256 bits)")
    with open_rasterizer("auto") as rasterizer:
        assert isinstance(rasterizer, CpuRasterizer)
    assert not gl_module.is_software("NVIDIA H200/PCIe/SSE2")
