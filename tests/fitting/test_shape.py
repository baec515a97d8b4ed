"""Shapes found from masks that are drawn here, of bodies of known shape: bare, dressed, wrong."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import vertices, with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.records import Float, LandmarkTrack, Person, select_rows
from staf_cli.core.regions import around_boxes, crop_axes
from staf_cli.fitting.shape import CLOTHES, PARTS, Shape, shape_from_masks
from staf_cli.fitting.silhouette import draw_silhouette, find_rim
from staf_cli.fitting.smoothing import with_shape
from tests.support.made_people import open_body

FRAMES, SIZE, FOCAL = 8, (640, 640), 800.0
BIG, PIXELS = 512, 64  # sides of masks as they are drawn, and as they are kept
SHAPES = {  # belly, hips and limbs of betas 1 and 2
    "average": np.zeros(10),
    "slim": np.array([0, -1.5, -0.5, 0, 0, 0, 0, 0, 0, 0]),
    "heavy": np.array([0, 1.5, 1.0, 0, 0, 0, 0, 0, 0, 0]),
}


@cache
def body() -> Body:
    return open_body()


@cache
def person_of(shape: str) -> Person:
    """A person who turns around, arms and legs swinging, 3.5 m away."""
    turn = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(
        np.linspace(0, np.pi, FRAMES)[:, None] * [0, 1, 0]
    )
    rotvecs = np.zeros((FRAMES, 24, 3))
    rotvecs[:, 0] = turn.as_rotvec()
    swing = 0.3 * np.sin(np.arange(FRAMES))
    rotvecs[:, 1, 2], rotvecs[:, 2, 2] = 0.2, -0.2
    rotvecs[:, 1, 0], rotvecs[:, 2, 0] = swing, -swing
    rotvecs[:, 16, 2], rotvecs[:, 17, 2] = -0.9 + swing, 0.9 + swing
    rotvecs[:, 18, 1] = -0.4
    rotmats = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    empty = Person(
        id=1,
        frame=np.arange(FRAMES),
        time=np.arange(FRAMES) / 30,
        poses=np.zeros((FRAMES, 72)),
        betas=np.zeros((FRAMES, 10)),
        trans=np.zeros((FRAMES, 3)),
        pred_cam=np.zeros((FRAMES, 3)),
        box=np.tile([320.0, 320, 500], (FRAMES, 1)),
        joints3d=np.zeros((FRAMES, 24, 3)),
        joints2d=np.zeros((FRAMES, 24, 2)),
        score=np.ones(FRAMES),
        interpolated=np.zeros(FRAMES, bool),
        focal_length=FOCAL,
        image_size=SIZE,
        fps=30.0,
        gender="neutral",
        body=body().identity,
        weights="",
    )
    trans = torch.tensor([0.1, -0.1, 3.5]).expand(FRAMES, 3)
    betas = torch.from_numpy(SHAPES[shape]).expand(FRAMES, 10)
    return with_parameters(empty, body(), torch.from_numpy(rotmats), betas, trans)


def dressed(person: Person, thickness: float) -> Float:
    """The person's mesh (F, V, 3) m in clothes so many times as thick as usual."""
    mesh = vertices(person, body(), slice(None)).astype(float)
    faces, owner = body().faces, body().arrays.weights.argmax(1)
    cloth = np.zeros(mesh.shape[1])
    for part, usual in zip(PARTS, CLOTHES, strict=True):
        cloth[np.isin(owner, part)] = usual * thickness
    for frame in mesh:
        a, b, c = (frame[faces[:, k]] for k in range(3))
        normals = np.zeros_like(frame)
        for k in range(3):
            np.add.at(normals, faces[:, k], np.cross(b - a, c - a))
        frame += cloth[:, None] * normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return mesh


@cache
def seen(shape: str, thickness: float = 1.0, turned: float = 0.2, extra: str = "") -> LandmarkTrack:
    """The masks of a person in clothes, drawn triangle by triangle, and something extra."""
    person = person_of(shape)
    mesh = dressed(person, thickness)
    points = mesh[..., :2] / mesh[..., 2:] * FOCAL + np.array(SIZE) / 2
    regions = around_boxes(np.concatenate([points.min(1), points.max(1)], 1), turned)
    masks = []
    for corners, joints, region in zip(points, person.joints2d, regions, strict=True):
        picture = np.zeros((BIG, BIG), np.uint8)
        for triangle in in_picture(corners, region)[body().faces]:
            cv2.fillConvexPoly(picture, triangle, 255)
        for polygon in EXTRAS.get(extra, lambda _: [])(joints):
            cv2.fillPoly(picture, [in_picture(np.array(polygon), region)], 255)
        masks.append(cv2.resize(picture, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA))
    return LandmarkTrack(
        id=1,
        frame=person.frame,
        mirrored=np.zeros(FRAMES, bool),
        kp2d=np.zeros((FRAMES, 33, 3), np.float32),
        metres=np.zeros((FRAMES, 33, 3), np.float32),
        score=np.ones(FRAMES),
        region=regions,
        mask_row=np.arange(len(masks)),
        mask=np.stack(masks),
    )


def in_picture(points: Float, region: Float) -> NDArray[np.int32]:
    """From px of the frame to whole px of a mask as it is drawn."""
    turned = (points - region[:2]) @ crop_axes(region[None])[0]
    pixels: NDArray[np.int32] = np.floor(turned * BIG / region[2] + BIG / 2).astype(np.int32)
    return pixels


def skirt(joints: Float) -> list[list[Float]]:
    """From the waist to below the knees, wide."""
    waist, knees, metre = joints[3], joints[[4, 5]].mean(0), FOCAL / 3.5
    top, bottom = np.array([0.16 * metre, 0]), np.array([0.38 * metre, 0.1 * metre])
    return [[waist - top, waist + top, knees + bottom, knees + bottom * (-1, 1)]]


def coat(joints: Float) -> list[list[Float]]:
    """From the shoulders to the middle of the thighs, loose."""
    neck, legs, metre = joints[12], joints[[1, 2, 4, 5]].mean(0), FOCAL / 3.5
    top, bottom = np.array([0.22 * metre, 0]), np.array([0.30 * metre, 0])
    return [[neck - top, neck + top, legs + bottom, legs - bottom]]


EXTRAS = {"skirt": skirt, "coat": coat}


def given(shape: str, start: str = "average") -> Person:
    """The person as a fit leaves them: the pose is right, the shape is another."""
    return with_shape(person_of(shape), body(), SHAPES[start])


def girths(betas: Float) -> Float:
    """Girths of belly, thigh and upper arm over the height, in the T-pose."""
    arrays = body().arrays
    mesh = arrays.v_template + arrays.shapedirs @ betas
    joints = arrays.J_regressor @ mesh
    owner = arrays.weights.argmax(1)
    cuts = (((3, 6), joints[6], 1), ((1,), joints[[1, 4]].mean(0), 1), ((16,), joints[18], 0))
    found = []
    for part, middle, along in cuts:
        near = np.isin(owner, part) & (np.abs(mesh[:, along] - middle[along]) < 0.04)
        found.append(np.pi * np.ptp(np.delete(mesh[near], along, 1), axis=0).mean())
    return np.array(found) / np.ptp(mesh[:, 1])


def error(found: Shape | str, shape: str) -> Float:
    """How much too thick belly, thigh and upper arm are, in per cent."""
    betas = SHAPES[found] if isinstance(found, str) else found.betas
    return 100 * (girths(betas) / girths(SHAPES[shape]) - 1)


@pytest.mark.parametrize(
    ("shape", "thickness", "most"),
    [
        ("average", 1, 2),
        ("average", 0, 6),
        ("average", 2, 9),
        ("slim", 0, 8),
        ("slim", 1, 15),
        ("heavy", 1, 9),
        ("heavy", 2, 7),
    ],
)
def test_girths_are_found_under_usual_clothes(shape, thickness, most):
    found = shape_from_masks(given(shape), seen(shape, thickness), body())
    assert found.frames == FRAMES and found.overlap > 0.7
    assert np.abs(error(found, shape)).max() < most
    assert (found.sigma < 1).all() and found.sigma[1] < 0.8
    assert (found.clothes > -0.005).all() and (found.clothes < 0.07).all()


@pytest.mark.parametrize("shape", ["slim", "heavy"])
def test_most_of_the_error_goes(shape):
    found = shape_from_masks(given(shape), seen(shape), body())
    assert (np.abs(error(found, shape)) < 0.65 * np.abs(error("average", shape))).all()


def test_result_does_not_depend_on_the_given_shape_or_on_how_regions_are_turned():
    one = shape_from_masks(given("slim", "average"), seen("slim"), body())
    other = shape_from_masks(given("slim", "heavy"), seen("slim", turned=-1.0), body())
    assert np.abs(error(one, "slim") - error(other, "slim")).max() < 4


@pytest.mark.parametrize(("extra", "most"), [("skirt", 2), ("coat", 15)])  # fills the mask: 26, 72
def test_loose_clothes_make_nobody_fat(extra, most):
    plain = seen("average").mask > 127
    loose = seen("average", extra=extra)
    assert (loose.mask > 127).sum() > 1.15 * plain.sum()
    found = shape_from_masks(given("average"), loose, body())
    assert found.frames == FRAMES
    assert np.abs(error(found, "average")).max() < most


@pytest.mark.parametrize("shape", ["slim", "heavy"])
def test_joints_stay_in_place(shape):
    before = given(shape)
    found = shape_from_masks(before, seen(shape), body())
    after = with_shape(before, body(), found.betas)
    moved = np.linalg.norm(after.joints2d - before.joints2d, axis=-1)
    assert moved.mean() < 0.006 * FOCAL / 3.5 and moved.max() < 0.025 * FOCAL / 3.5  # m
    height = [np.ptp(one.joints3d[:, :, 1], axis=1) for one in (before, after)]
    assert np.abs(height[1] / height[0] - 1).max() < 0.04


def test_bad_masks_change_nothing():
    right, rng = seen("heavy"), np.random.default_rng(0)
    person = given("heavy")
    aside = right.region + np.array([0.3 * right.region[0, 2], 0, 0, 0])
    nothing = np.zeros_like(right.region)
    for wrong in (
        replace(right, mask=np.zeros_like(right.mask)),
        replace(right, mask=np.full_like(right.mask, 255)),
        replace(right, mask=rng.integers(0, 256, right.mask.shape, np.uint8)),
        replace(right, region=aside),  # another person
        replace(right, score=np.full(FRAMES, 0.2)),
        replace(right, score=np.zeros(FRAMES), region=nothing),
    ):
        found = shape_from_masks(person, wrong, body())
        assert found.frames == 0 and (found.betas == person.betas[0]).all()
        assert (found.sigma == 1).all()


def test_few_frames_change_nothing():
    person = select_rows(given("heavy"), slice(0, 2))
    found = shape_from_masks(person, seen("heavy"), body())
    assert found.frames == 0 and (found.betas == person.betas[0]).all()


def test_a_few_bad_masks_among_good_ones_do_not_matter():
    right = seen("heavy")
    mask = right.mask.copy()
    mask[[1, 4]] = 0
    found = shape_from_masks(given("heavy"), replace(right, mask=mask), body())
    assert found.frames == FRAMES - 2
    assert np.abs(error(found, "heavy")).max() < 9


def test_offsets_are_how_thick_clothes_are():
    mesh = vertices(person_of("average"), body(), slice(None))
    shins = np.isin(body().arrays.weights.argmax(1), PARTS[4])
    for thickness in (0, 1, 3):
        masks = seen("average", thickness)
        for row in (0, 3):
            at = masks.mask[row], masks.region[row], FOCAL, SIZE
            rim = find_rim(mesh[row], body().faces, shins, *at)
            assert len(rim.vertex) >= 40 and shins[rim.vertex].all()
            assert abs(np.median(rim.offset) - thickness * CLOTHES[4]) < 0.006  # m
            assert np.allclose(np.linalg.norm(rim.across[:, :2], axis=1), 1)


def test_what_leaves_the_picture_is_not_used():
    mesh = vertices(person_of("average"), body(), slice(0, 1))[0]
    masks = seen("average")
    everything = np.ones(len(mesh), bool)
    counts = []
    for height in (SIZE[1], 200):
        # The camera's centre is the image's: a lower image shows less at the top and the bottom.
        moved = masks.region[0] + np.array([0, (height - SIZE[1]) / 2, 0, 0])
        image = SIZE[0], height
        rim = find_rim(mesh, body().faces, everything, masks.mask[0], moved, FOCAL, image)
        rows = mesh[rim.vertex, 1] / mesh[rim.vertex, 2] * FOCAL + image[1] / 2
        assert (rows > 0).all() and (rows < height).all()
        counts.append(len(rim.vertex))
    assert 100 < counts[1] < 0.7 * counts[0]


def test_silhouette_is_that_of_its_triangles():
    points = np.array([[8.0, 8], [56, 8], [8, 56], [200, 200]])
    drawn = draw_silhouette(points, np.array([[0, 1, 2], [0, 2, 1], [1, 3, 3]]), 64)
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    inside = (x > 8) & (y > 8) & (x + y < 64)
    assert (drawn != inside).sum() <= 48  # the diagonal
    assert drawn.dtype == np.uint8 and set(np.unique(drawn)) == {0, 1}
