"""Where people are and where the camera is: poses in the camera's frame, places in its image.

World: y up. Camera: geometry.py's. The whole image is a pinhole's with its centre in the middle.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.body.skinning import joint_transforms
from staf_cli.core.geometry import axis_angle_to_matrix, project
from staf_cli.training.chance import chance, direction, normal, uniform
from staf_cli.training.people.motion import Motions, random_sequence
from staf_cli.training.people.outfits import Anatomy

TUMBLING, TUMBLING_POSE = 0.04, 0.25  # shares of sequences and of poses that are not upright
FOLLOWED = 0.3  # share of sequences whose camera turns with the person
CUT_OFF = 0.15  # share of scenes whose person reaches out of the image
LEAST_SEEN = 0.35  # of the box of a person that is cut off
NEAREST = 0.6  # m between the camera and the nearest part of the person
OUTLINE_STEP = 5  # every so many vertices of the body make its outline
LONGER_SIDE = (90.0, 480.0)  # px of the person's box
LONGER_SIDE_CUT = (200.0, 900.0)  # px where the person reaches out of the image

EDGES = torch.tensor([0.22, 0.22, 0.06, 0.5])  # how often it is the left, right, top, bottom
GONE = (0.12, 0.5)  # share of the box that is beyond the edge

# World axes in the frame of a level camera in front of a body that has not turned.
LEVEL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


@dataclass(frozen=True, eq=False)
class Cast:
    """A person in T frames without a place: axes of the camera, metres from the pelvis' path."""

    rotmats: Tensor  # (T, 24, 3, 3) local, the root's in the camera's frame
    path: Tensor  # (T, 3) of the pelvis, 0 in the middle frame
    pelvis: Tensor  # (3,) of the body at rest
    points: Tensor  # (T, 31, 3) from the pelvis
    outline: Tensor  # (T, N, 3) some of the surface, from the pelvis


@dataclass(frozen=True, eq=False)
class Placed:
    """A cast in front of a camera; px of the whole image."""

    cast: Cast
    focal: float
    place: Tensor  # (T, 3) m, of the pelvis in the camera's frame
    pan: Tensor  # (T, 2) by which what stands still moves right and down
    extent: Tensor  # (T, 4) x1, y1, x2, y2 of the person, outside the image as well
    points: Tensor  # (T, 31, 2)

    @property
    def trans(self) -> Tensor:
        """(T, 3) m: what is added to the posed body."""
        return self.place - self.cast.pelvis


def random_camera(generator: torch.Generator) -> Tensor:
    """World to camera (3, 3): mostly level, at times from above or below, a little rolled."""
    if chance(generator, 0.25):
        pitch = uniform(generator, -35, 35)
    else:
        pitch = max(-20.0, min(20.0, normal(generator, 7) + 4))
    roll = max(-10.0, min(10.0, normal(generator, 3)))
    return _about((0, 0, 1), roll) @ _about((1, 0, 0), pitch) @ LEVEL


def random_cast(
    who: Anatomy,
    betas: Tensor,
    motions: Motions,
    frames: int,
    pose: Tensor | None,
    camera: Tensor,
    generator: torch.Generator,
) -> Cast:
    """A person of this shape (betas (10,)) in a window of a motion, turned at random.

    With a pose (23, 3) of the joints 1..23, rad, a single frame of that instead. Now and then
    the whole body lies, hangs or stands on its head.
    """
    rotvec, root = random_sequence(motions, frames, generator)
    rotmats = axis_angle_to_matrix(rotvec)
    if pose is not None:
        rotmats = torch.cat([rotmats[:, :1], axis_angle_to_matrix(pose)[None]], 1)
        if chance(generator, 0.6):  # the recorded lean belongs to another pose
            rotmats[:, 0] = axis_angle_to_matrix(0.12 * torch.randn(3, generator=generator))
    turn = _about((0, 1, 0), uniform(generator, -180, 180))
    if chance(generator, TUMBLING if pose is None else TUMBLING_POSE):
        turn = turn @ _tumble(generator)
    to_camera = camera @ turn
    rotmats[:, 0] = to_camera @ rotmats[:, 0]
    path = (root - root[len(root) // 2]) @ to_camera.T
    return _cast(who, betas, rotmats, path)


def _cast(who: Anatomy, betas: Tensor, rotmats: Tensor, path: Tensor) -> Cast:
    device = who.template.device
    rotmats, path, betas = rotmats.to(device), path.to(device), betas.to(device)
    rest = who.template + who.shapedirs @ betas  # (V, 3)
    joints = who.joint_regressor @ rest
    transforms, _ = joint_transforms(rotmats, joints[None])  # (T, 24, 3, 4)
    homogeneous = torch.cat([rest, torch.ones_like(rest[:, :1])], -1)
    # Skinning is linear in the transforms, so that a mixture of vertices needs no vertices.
    shares = (who.weights[:, :, None] * homogeneous[:, None]).view(len(rest), -1)
    regressed = (who.point_regressor @ shares).view(-1, 24, 4)
    points = torch.einsum("tjck,pjk->tpc", transforms, regressed)
    some = shares[::OUTLINE_STEP].view(-1, 24, 4)
    outline = torch.einsum("tjck,pjk->tpc", transforms, some)
    return Cast(rotmats, path, joints[0], points - joints[0], outline - joints[0])


def place(cast: Cast, image_size: tuple[int, int], generator: torch.Generator) -> Placed:
    """Somewhere in the image at some size, through a random lens; some are cut off by its edge.

    The camera stands still, or turns with the person so that what stands still moves.
    """
    focal = math.hypot(*image_size) * uniform(generator, 0.8, 2.0)
    followed = len(cast.path) > 1 and chance(generator, FOLLOWED)
    if chance(generator, CUT_OFF):
        longer = _between(LONGER_SIDE_CUT, generator)
        edge = int(torch.multinomial(EDGES, 1, generator=generator))
        cut = _place(cast, image_size, focal, longer, followed, edge, generator)
        if _share_inside(cut.extent, image_size) > LEAST_SEEN:
            return cut
    longer = _between(LONGER_SIDE, generator)
    return _place(cast, image_size, focal, longer, followed, None, generator)


def place_whole(
    cast: Cast, image_size: tuple[int, int], longer: float, generator: torch.Generator
) -> Placed:
    """The person's box about `longer` px long, before a camera that stands still.

    All of it is inside the image in all frames if there is room for the motion.
    """
    focal = math.hypot(*image_size) * uniform(generator, 0.8, 2.0)
    return _place(cast, image_size, focal, longer, False, None, generator)


def inside(extent: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (T, 4) without what lies outside the image."""
    return extent.clamp(min=0).minimum(extent.new_tensor(image_size * 2))


def _place(
    cast: Cast,
    image_size: tuple[int, int],
    focal: float,
    longer: float,
    followed: bool,
    edge: int | None,
    generator: torch.Generator,
) -> Placed:
    """The box is `longer` px long in the middle frame, and inside or beyond the given edge."""
    middle = len(cast.path) // 2
    path, drift = cast.path, torch.zeros_like(cast.path)
    if followed:
        steps = torch.arange(len(path), device=path.device) - middle
        drift = steps[:, None] * (path[-1] - path[0]) / (len(path) - 1)
        path = path - drift
    around = cast.outline + path[:, None]
    size = cast.outline[middle].amax(0) - cast.outline[middle].amin(0)
    depth = max(focal * float(size[:2].max()) / longer, NEAREST - float(around[..., 2].min()))
    # How far the person reaches from the pelvis, px, were it in the middle of the image.
    reach = around[..., :2] * focal / (around[..., 2:] + depth)
    low, high = (end((0, 1)) for end in (reach.amin, reach.amax))
    at = [
        _room(float(low[axis]), float(high[axis]), image_size[axis], generator) for axis in (0, 1)
    ]
    if edge is not None:
        axis, far = edge // 2, edge % 2
        gone = uniform(generator, *GONE) * float(high[axis] - low[axis])
        at[axis] = image_size[axis] - float(high[axis]) + gone if far else -float(low[axis]) - gone
    away = [(at[axis] - image_size[axis] / 2) * depth / focal for axis in (0, 1)]
    pelvis = path + path.new_tensor([*away, depth])
    outline = project(cast.outline + pelvis[:, None], focal, _centre(image_size))
    return Placed(
        cast=cast,
        focal=focal,
        place=pelvis,
        pan=-drift[:, :2] * focal / depth,
        extent=torch.cat([outline.amin(1), outline.amax(1)], -1),
        points=project(cast.points + pelvis[:, None], focal, _centre(image_size)),
    )


def _room(low: float, high: float, size: int, generator: torch.Generator) -> float:
    """A place for what reaches from low (below 0) to high around it, inside [0, size] if it can."""
    if high - low > size:
        return (size - low - high) / 2
    share = (uniform(generator, 0, 1) + uniform(generator, 0, 1)) / 2  # rather in the middle
    return -low + share * (size - high + low)


def _between(sides: tuple[float, float], generator: torch.Generator) -> float:
    return math.exp(uniform(generator, math.log(sides[0]), math.log(sides[1])))


def _share_inside(extent: Tensor, image_size: tuple[int, int]) -> float:
    """The least share of a box, over the frames, that is inside the image."""
    visible = inside(extent, image_size)
    sides, whole = visible[:, 2:] - visible[:, :2], extent[:, 2:] - extent[:, :2]
    return float((sides.prod(-1) / whole.prod(-1)).min())


def _centre(image_size: tuple[int, int]) -> tuple[float, float]:
    return image_size[0] / 2, image_size[1] / 2


def _tumble(generator: torch.Generator) -> Tensor:
    """Lying, upside down, or any which way (3, 3)."""
    if chance(generator, 0.5):
        axis = (1.0, 0.0, 0.0) if chance(generator, 0.5) else (0.0, 0.0, 1.0)
        angle = uniform(generator, 60, 180)
        return _about(axis, angle if chance(generator, 0.5) else -angle)
    return axis_angle_to_matrix(direction(generator) * uniform(generator, 0, math.pi))


def _about(axis: tuple[float, float, float], degrees: float) -> Tensor:
    return axis_angle_to_matrix(torch.tensor(axis) * math.radians(degrees))
