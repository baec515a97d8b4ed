"""Splatted triangles against body.py's projection, OpenCV's rasterizer and ray-cast triangles."""

import cv2
import numpy as np
import pytest
import torch

from staf_cli.body.skinning import joint_transforms
from staf_cli.core.geometry import axis_angle_to_matrix, project
from staf_cli.rendering import Camera
from staf_cli.rendering.rasterizer import CpuRasterizer, Surface
from staf_cli.training.studio.splatting import (
    Fragments,
    interpolate_at_pixels,
    skin,
    splat,
    vertex_normals,
)
from tests.support.made_people import open_body

SIZE = 288
FOCAL = 600.0
CENTRE = (150.0, 137.0)
BODY = open_body()
FACES = torch.from_numpy(BODY.faces)


def poses(count: int, seed: int = 0) -> torch.Tensor:
    """Bent limbs, anywhere turned about the vertical: (count, 24, 3, 3)."""
    generator = torch.Generator().manual_seed(seed)
    rotmats = axis_angle_to_matrix(0.25 * torch.randn(count, 24, 3, generator=generator))
    yaw = torch.zeros(count, 3)
    yaw[:, 1] = torch.linspace(0, 6, count)
    rotmats[:, 0] = torch.diag(torch.tensor([1.0, -1, -1])) @ axis_angle_to_matrix(yaw)
    return rotmats


def posed(count: int, depth: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (count, V, 3) in front of the camera, by skinning here, and by body.py."""
    betas = torch.linspace(-2, 2, 10)
    arrays = BODY.arrays
    rest = torch.from_numpy(arrays.v_template + arrays.shapedirs @ betas.numpy())
    joints = torch.from_numpy(arrays.J_regressor) @ rest
    rotmats = poses(count)
    ours, _ = skin(
        rest,
        vertex_normals(rest, FACES),
        torch.from_numpy(arrays.weights),
        joint_transforms(rotmats, joints[None])[0],
    )
    theirs, _ = BODY(rotmats, betas.expand(count, -1))
    away = torch.tensor([0.1, 0.0, depth])
    return ours + away, theirs + away


def draw(vertices: torch.Tensor, size: int = SIZE) -> Fragments:
    count = len(vertices)
    return splat(
        vertices,
        FACES,
        torch.zeros(len(FACES), dtype=torch.bool),
        torch.full((count,), FOCAL),
        torch.tensor(CENTRE).expand(count, -1),
        size,
    )


def masks(shown: Fragments, count: int, size: int = SIZE) -> np.ndarray:
    mask = torch.zeros(count * size * size, dtype=torch.bool)
    mask[shown.pixel] = True
    return mask.view(count, size, size).numpy()


def rasterized(vertices: torch.Tensor) -> np.ndarray:
    camera = Camera(FOCAL, *CENTRE, SIZE, SIZE)
    surface = Surface(
        vertices.numpy(), BODY.faces.astype(np.int32), np.zeros_like(vertices.numpy())
    )
    return CpuRasterizer().draw(surface, camera).coverage > 0.5


def test_skinning_is_body_py_s() -> None:
    ours, theirs = posed(5, 4.0)
    assert (ours - theirs).abs().max() < 1e-4


def test_normals_stand_on_the_posed_surface() -> None:
    arrays = BODY.arrays
    rest = torch.from_numpy(arrays.v_template)
    joints = torch.from_numpy(arrays.J_regressor) @ rest
    vertices, normals = skin(
        rest,
        vertex_normals(rest, FACES),
        torch.from_numpy(arrays.weights),
        joint_transforms(poses(1), joints[None])[0],
    )
    straight = vertex_normals(vertices[0], FACES)
    agreement = (normals[0] * straight).sum(-1)
    assert agreement.median() > 0.999
    assert (agreement > 0.9).float().mean() > 0.97
    assert torch.allclose(normals.norm(dim=-1), torch.ones(1, len(rest)), atol=1e-5)


@pytest.mark.parametrize("depth", [5.0, 2.2, 1.2])  # the last reaches far out of the picture
def test_what_a_pixel_shows_is_projected_there(depth: float) -> None:
    """The seen point, mixed from body.py's vertices, lands on the centre of its pixel."""
    ours, theirs = posed(4, depth)
    shown = draw(ours)
    assert len(shown.pixel) > 4000
    places = project(interpolate_at_pixels(theirs, shown), FOCAL, CENTRE)
    x, y = shown.pixel % SIZE + 0.5, shown.pixel // SIZE % SIZE + 0.5
    assert (places - torch.stack([x, y], -1)).abs().max() < 0.05
    assert torch.allclose(shown.weight.sum(1), torch.ones(len(x)))
    assert torch.equal(FACES[shown.face], shown.corner % len(BODY.arrays.v_template))
    frame = shown.pixel // SIZE**2
    assert torch.equal(shown.corner // len(BODY.arrays.v_template), frame[:, None].expand(-1, 3))


@pytest.mark.parametrize("depth", [5.0, 2.2, 1.2])
def test_silhouette_is_opencv_s_without_holes(depth: float) -> None:
    ours, theirs = posed(4, depth)
    for mask, vertices in zip(masks(draw(ours), 4), theirs, strict=True):
        wanted = rasterized(vertices)
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.97
        inner = cv2.erode(wanted.astype(np.uint8), np.ones((3, 3)), borderValue=1) > 0
        assert mask[inner].all()


def test_nearest_surface_is_seen() -> None:
    """Against every triangle tried at every pixel, for a few dozen triangles."""
    generator = torch.Generator().manual_seed(1)
    vertices = torch.randn(2, 60, 3, generator=generator) * 0.4 + torch.tensor([0, 0, 3.0])
    faces = torch.randint(60, (40, 3), generator=generator)
    faces = faces[(faces.sort(1).values.diff(dim=1) > 0).all(1)]
    two_sided = torch.arange(len(faces)) % 2 == 0
    size = 40
    focal, centre = torch.tensor([60.0, 75.0]), torch.tensor([[20.0, 18.0], [23.5, 21.0]])
    shown = splat(vertices, faces, two_sided, focal, centre, size)
    found = torch.full((2 * size * size,), -1)
    found[shown.pixel] = shown.face

    steps = torch.arange(size, dtype=torch.float64) + 0.5
    wrong = 0
    for frame in range(2):
        x, y = torch.meshgrid(steps, steps, indexing="xy")
        rays = torch.stack([x, y], -1) - centre[frame]
        rays = torch.cat([rays / focal[frame], torch.ones(size, size, 1)], -1).double()
        a, b, c = (vertices[frame].double()[faces[:, k]] for k in range(3))
        normal = torch.linalg.cross(b - a, c - a)
        along = rays @ normal.t()  # (size, size, M)
        depth = (a * normal).sum(-1) / along
        hit = rays[:, :, None] * depth[..., None]
        inside = torch.ones_like(depth, dtype=torch.bool)
        for start, end in ((a, b), (b, c), (c, a)):
            inside &= (torch.linalg.cross((end - start).expand_as(hit), hit - start) * normal).sum(
                -1
            ) > 0
        inside &= (along < 0) | two_sided
        depth = torch.where(inside & (depth > 0.1), depth, torch.inf)
        nearest = torch.where(depth.isfinite().any(-1), depth.argmin(-1), -1)
        ours = found.view(2, size, size)[frame]
        wrong += int((ours != nearest).sum())
    assert (found >= 0).sum() > 500
    assert wrong <= 4  # pixels whose centre lies on an edge


def test_what_is_behind_or_outside_leaves_no_trace() -> None:
    ours, _ = posed(1, 4.0)
    behind = ours * torch.tensor([1.0, 1.0, -1.0])
    assert len(draw(behind).pixel) == 0
    assert len(draw(ours + torch.tensor([9.0, 0, 0])).pixel) == 0
    around = draw(ours - torch.tensor([0.0, 0, 4.0]))  # the camera is inside the body
    assert around.weight.isfinite().all()
    assert len(draw(ours[:0]).pixel) == 0


def test_frames_do_not_mix() -> None:
    ours, _ = posed(3, 3.0)
    together, alone = draw(ours), draw(ours[1:2])
    mine = together.pixel // SIZE**2 == 1
    assert torch.equal(together.pixel[mine] - SIZE**2, alone.pixel)
    assert torch.equal(together.face[mine], alone.face)
