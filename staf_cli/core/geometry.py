"""Rotations, projections and boxes; each function states its convention.

Pixels: continuous coordinates with the origin at the image's top left CORNER, so that the
pixel in column i covers [i, i + 1) and has its centre at i + 0.5; the image's centre is
(W / 2, H / 2). A library that puts (0, 0) on the first pixel's centre is corrected by half
a pixel where it is called.

Camera: OpenCV's frame, x right, y down, z forward, in metres. Angles are in radians.
Rotations act on column vectors: x_parent = R @ x_child. Torch functions take leading batch
dimensions, are differentiable and keep the dtype of their input; `box_iou` is numpy.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from staf_cli.core.records import Float

NETWORK_FOCAL = 5000.0  # px: focal length of the network's own, nearly orthographic camera
CROP_PIXELS = 224  # side of the network's input
CROP_SCALE = 1.1  # side of the square crop over the longer side of the box (the authors' crops)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Convert rotation vectors to rotation matrices by Rodrigues' formula.

    Convention: the vector's direction is the axis, its length the angle; positive angles turn
    counter-clockwise as seen with the axis pointing at the viewer (right-hand rule). Smooth at 0.

    Args:
        axis_angle: (..., 3) radians.

    Returns:
        (..., 3, 3) rotation matrices R for column vectors, x_parent = R @ x_child.
    """
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / (angle * angle))
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*x.shape, 3, 3)  # cross product
    return torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device) + a * k + b * (k @ k)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Convert rotation matrices to rotation vectors, the inverse of `axis_angle_to_matrix`.

    Convention: right-hand rule, angles in [0, pi]; at exactly pi the sign of the axis is
    arbitrary. It goes through the unit quaternion (w, x, y, z) and divides by its largest
    component, so that it is accurate near 0 and near pi alike.

    Args:
        matrix: (..., 3, 3) rotation matrices for column vectors.

    Returns:
        (..., 3) radians.
    """
    m = matrix
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    x, y, z = diagonal.unbind(-1)
    w = x + y + z
    # Four ways to write 4 * q_i * q, one for each component i; the largest q_i is used.
    off = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1])
    cross = (m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2])
    candidates = torch.stack(
        [
            torch.stack([1 + w, off[0], off[1], off[2]], -1),
            torch.stack([off[0], 1 + 2 * x - w, cross[0], cross[1]], -1),
            torch.stack([off[1], cross[0], 1 + 2 * y - w, cross[2]], -1),
            torch.stack([off[2], cross[1], cross[2], 1 + 2 * z - w], -1),
        ],
        -2,
    )  # (..., 4, 4), rows are multiples of (w, x, y, z)
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    quaternion = normalize(
        torch.take_along_dim(candidates, best.expand(*best.shape[:-1], 4), -2).squeeze(-2), dim=-1
    )
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    vector = quaternion[..., 1:]
    sine = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return vector * torch.where(sine < 1e-7, torch.full_like(sine, 2.0), angle / sine.clamp(1e-7))


def rot6d_to_matrix(rot6d: Tensor) -> Tensor:
    """Convert 6-D rotations to rotation matrices by Gram-Schmidt on two columns.

    Convention: the six numbers are a (3, 2) matrix, row by row: the first two COLUMNS of the
    rotation matrix, as [r00, r01, r10, r11, r20, r21]. The first column is normalised, the second
    is made orthogonal to it and normalised, the third is their cross product. From Zhou et al.,
    "On the Continuity of Rotation Representations in Neural Networks", 2019; the order of the
    six numbers is SPIN's.

    Args:
        rot6d: (..., 6); it need not be normalised.

    Returns:
        (..., 3, 3) rotation matrices for column vectors.
    """
    first, second = rot6d.reshape(*rot6d.shape[:-1], 3, 2).unbind(-1)
    x = normalize(first, dim=-1, eps=1e-6)
    y = normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def matrix_to_rot6d(matrix: Tensor) -> Tensor:
    """Convert rotation matrices to the 6-D form that `rot6d_to_matrix` reads.

    Convention: the first two columns, row by row: [r00, r01, r10, r11, r20, r21].

    Args:
        matrix: (..., 3, 3) rotation matrices for column vectors.

    Returns:
        (..., 6).
    """
    return matrix[..., :2].flatten(-2)


def project(points: Tensor, focal: float, centre: tuple[float, float]) -> Tensor:
    """Project points with a pinhole camera.

    Convention: OpenCV's camera frame, x right, y down, z forward; pixels from the image's top
    left corner: u = focal * x / z + centre_x.

    Args:
        points: (..., 3) m, camera frame, with z > 0.
        focal: Focal length, px.
        centre: (x, y) px of the principal point.

    Returns:
        (..., 2) px.
    """
    offset = torch.tensor(centre, dtype=points.dtype, device=points.device)
    return points[..., :2] / points[..., 2:] * focal + offset


def project_to_crop(points: Tensor, pred_cam: Tensor) -> Tensor:
    """Project points with the network's own camera: Pi of Eq. 3 and 10 of the paper.

    Convention: pred_cam (s, tx, ty) is a translation (tx, ty, 2 f / (224 s)) m in front of a
    pinhole with f = 5000 px, so that the projection is nearly orthographic: x ~ s * (X + tx).
    In the crop -1 is the left or top edge and +1 the right or bottom edge.

    Args:
        points: (B, N, 3) m, the body's points with the axes of the camera (x right, y down).
        pred_cam: (B, 3) s, tx, ty; tx and ty in m.

    Returns:
        (B, N, 2) x, y in the crop's [-1, 1] coordinates.
    """
    s, tx, ty = pred_cam.unbind(-1)
    depth = 2 * NETWORK_FOCAL / (CROP_PIXELS * s + 1e-9)
    camera = points + torch.stack([tx, ty, depth], -1)[:, None]
    return camera[..., :2] / camera[..., 2:] * (NETWORK_FOCAL / (CROP_PIXELS / 2))


def crop_to_image_translation(
    pred_cam: Tensor, box: Tensor, image_size: tuple[int, int], focal: float
) -> Tensor:
    """Convert the crop's camera to a translation in the whole image's camera frame.

    Convention: the depth is 2 focal / (s * side); x and y are those of the ray through the crop's
    centre at that depth, moved by (tx, ty). The principal point is the image's centre.

    Args:
        pred_cam: (..., 3) s, tx, ty as in `project_to_crop`.
        box: (..., 3) the square crop's centre x, y and side, px of the image.
        image_size: (width, height) px.
        focal: Focal length of the image's camera, px.

    Returns:
        (..., 3) m, camera frame: x right, y down, z forward.
    """
    s, tx, ty = pred_cam.unbind(-1)
    x, y, side = box.unbind(-1)
    width, height = image_size
    scale = s * side
    return torch.stack(
        [
            tx + (2 * x - width) / scale,
            ty + (2 * y - height) / scale,
            2 * focal / scale,
        ],
        -1,
    )


def image_translation_to_crop(
    trans: Tensor, box: Tensor, image_size: tuple[int, int], focal: float
) -> Tensor:
    """Convert a translation in the image's camera frame to the crop's camera.

    Convention: the exact inverse of `crop_to_image_translation`.

    Args:
        trans: (..., 3) m, camera frame, with z > 0.
        box: (..., 3) the square crop's centre x, y and side, px of the image.
        image_size: (width, height) px.
        focal: Focal length of the image's camera, px.

    Returns:
        (..., 3) s, tx, ty as in `project_to_crop`.
    """
    x, y, side = box.unbind(-1)
    width, height = image_size
    scale = 2 * focal / trans[..., 2]  # s * side
    return torch.stack(
        [
            scale / side,
            trans[..., 0] - (2 * x - width) / scale,
            trans[..., 1] - (2 * y - height) / scale,
        ],
        -1,
    )


def ray_rotation(points: Float, focal: float, centre: tuple[float, float]) -> Float:
    """Rotations that turn the optical axis to the rays through pixels, by the smallest angle.

    What a camera that looks along such a ray sees at its centre, in its own frame, is brought to
    the frame of the picture's camera by them.

    Args:
        points: (N, 2) px.
        focal: px.
        centre: px, of the image.

    Returns:
        (N, 3, 3)
    """
    ray = np.concatenate([points - centre, np.full((len(points), 1), focal)], 1)
    x, y, z = (ray / np.linalg.norm(ray, axis=1, keepdims=True)).T
    a, b, c = 1 - x * x / (1 + z), -x * y / (1 + z), 1 - y * y / (1 + z)
    rows = [[a, b, x], [b, c, y], [-x, -y, z]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def box_area(box: Float) -> Float:
    """Compute the areas of boxes.

    Args:
        box: (..., 4) x1, y1, x2, y2, px.

    Returns:
        (...) px^2.
    """
    area: Float = (box[..., 2:] - box[..., :2]).prod(-1)
    return area


def box_iou(a: Float, b: Float) -> Float:
    """Compute the intersection over union of every box of `a` with every box of `b`.

    Args:
        a: (N, 4) x1, y1, x2, y2, px.
        b: (M, 4) in the same frame.

    Returns:
        (N, M) float64 in [0, 1]; 0 for two boxes without any area.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    iou: Float = np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)
    return iou
