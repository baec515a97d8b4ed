"""Random cameras, and people placed in front of them.

World frame: y up. Camera frame: x right, y down, z forward. The whole image is that of a pinhole
camera whose principal point is in the middle.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from staf_cli.body.skinning import joint_transforms
from staf_cli.core.geometry import axis_angle_to_matrix, project
from staf_cli.training.chance import chance, direction, normal, uniform
from staf_cli.training.people.motion import Motions, random_sequence
from staf_cli.training.people.outfits import BodyTensors

TUMBLING, TUMBLING_POSE = 0.04, 0.25  # shares of sequences and of poses that are not upright
FOLLOWED = 0.3  # share of sequences whose camera turns with the person
CUT_OFF = 0.15  # share of scenes whose person is partly outside the image
LEAST_SEEN = 0.35  # of the box of a person that is cut off
NEAREST = 0.6  # m between the camera and the nearest part of the person
OUTLINE_STEP = 5  # every so many vertices of the body make its outline
LONGER_SIDE = (90.0, 480.0)  # px of the person's box
LONGER_SIDE_CUT = (200.0, 900.0)  # px if the person is partly outside the image

EDGES = torch.tensor([0.22, 0.22, 0.06, 0.5])  # how often it is the left, right, top, bottom edge
BEYOND = (0.12, 0.5)  # share of the box that is beyond the edge

# World to camera for a level camera in front of a body that faces it.
LEVEL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


@dataclass(frozen=True, eq=False)
class UnplacedPerson:
    """A person in T frames who has no position yet; m, along the axes of the camera."""

    rotmats: Tensor  # (T, 24, 3, 3) local, the root's in the camera's frame
    path: Tensor  # (T, 3) of the pelvis, 0 in the middle frame
    rest_pelvis: Tensor  # (3,) of the body at rest
    points: Tensor  # (T, 31, 3) from the pelvis
    outline: Tensor  # (T, N, 3) a part of the vertices, from the pelvis


@dataclass(frozen=True, eq=False)
class PlacedPerson:
    """A person in front of a camera; px of the whole image."""

    person: UnplacedPerson
    focal: float
    pelvis: Tensor  # (T, 3) m, camera frame
    pan: Tensor  # (T, 2) by which the background moves right and down
    extent: Tensor  # (T, 4) x1, y1, x2, y2 of the whole person, also beyond the image
    points: Tensor  # (T, 31, 2)

    @property
    def trans(self) -> Tensor:
        """(T, 3) m, added to the posed body."""
        return self.pelvis - self.person.rest_pelvis


def random_camera(generator: torch.Generator) -> Tensor:
    """Draw a rotation (3, 3), world to camera: mostly level, sometimes pitched, a little rolled."""
    if chance(generator, 0.25):
        pitch = uniform(generator, -35, 35)
    else:
        pitch = max(-20.0, min(20.0, normal(generator, 7) + 4))
    roll = max(-10.0, min(10.0, normal(generator, 3)))
    return _about((0, 0, 1), roll) @ _about((1, 0, 0), pitch) @ LEVEL


def random_person(
    body: BodyTensors,
    betas: Tensor,
    motions: Motions,
    frames: int,
    pose: Tensor | None,
    camera: Tensor,
    generator: torch.Generator,
) -> UnplacedPerson:
    """Pose a person by a random window of a motion, facing a random direction.

    In a small share of cases the whole body is tilted, up to upside down.

    Args:
        body: The body.
        betas: (10,) shape.
        motions: Motions to draw from.
        frames: Length of the window, T; 1 with a pose.
        pose: (23, 3) rad, joints 1 to 23 of a single frame; None for those of the motion.
        camera: (3, 3) world to camera.
        generator: On the CPU.

    Returns:
        The person in T frames, on the body's device.

    Raises:
        DatasetError: No motion is long enough.
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
    return _unplaced(body, betas, rotmats, path)


def _unplaced(body: BodyTensors, betas: Tensor, rotmats: Tensor, path: Tensor) -> UnplacedPerson:
    """Compute points and outline from local rotations (T, 24, 3, 3) and the pelvis' path (T, 3)."""
    device = body.template.device
    rotmats, path, betas = rotmats.to(device), path.to(device), betas.to(device)
    rest = body.template + body.shapedirs @ betas  # (V, 3)
    joints = body.joint_regressor @ rest
    transforms, _ = joint_transforms(rotmats, joints[None])  # (T, 24, 3, 4)
    homogeneous = torch.cat([rest, torch.ones_like(rest[:, :1])], -1)
    # Skinning is linear in the transforms, so regressed points need no posed vertices.
    shares = (body.weights[:, :, None] * homogeneous[:, None]).view(len(rest), -1)
    regressed = (body.point_regressor @ shares).view(-1, 24, 4)
    points = torch.einsum("tjck,pjk->tpc", transforms, regressed)
    some = shares[::OUTLINE_STEP].view(-1, 24, 4)
    outline = torch.einsum("tjck,pjk->tpc", transforms, some)
    return UnplacedPerson(rotmats, path, joints[0], points - joints[0], outline - joints[0])


def place(
    person: UnplacedPerson, image_size: tuple[int, int], generator: torch.Generator
) -> PlacedPerson:
    """Place a person at a random position and size, seen through a random lens.

    Some are cut off by the image's edge. The camera is still, or turns with the person so that
    the background moves.

    Args:
        person: The person to place.
        image_size: Width and height of the whole image, px.
        generator: On the CPU.

    Returns:
        The placed person.
    """
    focal = math.hypot(*image_size) * uniform(generator, 0.8, 2.0)
    followed = len(person.path) > 1 and chance(generator, FOLLOWED)
    if chance(generator, CUT_OFF):
        longer = _length(LONGER_SIDE_CUT, generator)
        edge = int(torch.multinomial(EDGES, 1, generator=generator))
        cut = _place(person, image_size, focal, longer, followed, edge, generator)
        if _share_inside(cut.extent, image_size) > LEAST_SEEN:
            return cut
    longer = _length(LONGER_SIDE, generator)
    return _place(person, image_size, focal, longer, followed, None, generator)


def place_whole(
    person: UnplacedPerson, image_size: tuple[int, int], longer: float, generator: torch.Generator
) -> PlacedPerson:
    """Place a person in front of a still camera, inside the image if the motion fits into it.

    Args:
        person: The person to place.
        image_size: Width and height of the whole image, px.
        longer: px of the longer side of the person's box in the middle frame.
        generator: On the CPU.

    Returns:
        The placed person.
    """
    focal = math.hypot(*image_size) * uniform(generator, 0.8, 2.0)
    return _place(person, image_size, focal, longer, False, None, generator)


def clip_to_image(extent: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Cut off the parts of boxes outside the image.

    Args:
        extent: (T, 4) x1, y1, x2, y2 px.
        image_size: Width and height, px.

    Returns:
        (T, 4) px.
    """
    return extent.clamp(min=0).minimum(extent.new_tensor(image_size * 2))


def _place(
    person: UnplacedPerson,
    image_size: tuple[int, int],
    focal: float,
    longer: float,
    followed: bool,
    edge: int | None,
    generator: torch.Generator,
) -> PlacedPerson:
    """Place a person whose box is `longer` px long in the middle frame, perhaps beyond an edge."""
    middle = len(person.path) // 2
    path, drift = person.path, torch.zeros_like(person.path)
    if followed:
        steps = torch.arange(len(path), device=path.device) - middle
        drift = steps[:, None] * (path[-1] - path[0]) / (len(path) - 1)
        path = path - drift
    around = person.outline + path[:, None]
    size = person.outline[middle].amax(0) - person.outline[middle].amin(0)
    depth = max(focal * float(size[:2].max()) / longer, NEAREST - float(around[..., 2].min()))
    # How far the person extends from the pelvis, px, if that is in the middle of the image.
    reach = around[..., :2] * focal / (around[..., 2:] + depth)
    low, high = (end((0, 1)) for end in (reach.amin, reach.amax))
    spans = zip(low.tolist(), high.tolist(), image_size, strict=True)
    at = [_position(*span, generator) for span in spans]
    if edge is not None:
        axis, far = edge // 2, edge % 2
        beyond = uniform(generator, *BEYOND) * float(high[axis] - low[axis])
        if far:
            at[axis] = image_size[axis] - float(high[axis]) + beyond
        else:
            at[axis] = -float(low[axis]) - beyond
    away = [(at[axis] - image_size[axis] / 2) * depth / focal for axis in (0, 1)]
    pelvis = path + path.new_tensor([*away, depth])
    outline = project(person.outline + pelvis[:, None], focal, _centre(image_size))
    return PlacedPerson(
        person=person,
        focal=focal,
        pelvis=pelvis,
        pan=-drift[:, :2] * focal / depth,
        extent=torch.cat([outline.amin(1), outline.amax(1)], -1),
        points=project(person.points + pelvis[:, None], focal, _centre(image_size)),
    )


def _position(low: float, high: float, size: int, generator: torch.Generator) -> float:
    """Draw a position x so that [x + low, x + high] is inside [0, size], if that fits."""
    if high - low > size:
        return (size - low - high) / 2
    share = (uniform(generator, 0, 1) + uniform(generator, 0, 1)) / 2  # likelier in the middle
    return -low + share * (size - high + low)


def _length(sides: tuple[float, float], generator: torch.Generator) -> float:
    """Draw a length in a range, evenly on a logarithmic scale."""
    return math.exp(uniform(generator, math.log(sides[0]), math.log(sides[1])))


def _share_inside(extent: Tensor, image_size: tuple[int, int]) -> float:
    """Return the least share of a box (T, 4), over the frames, that is inside the image."""
    visible = clip_to_image(extent, image_size)
    sides, whole = visible[:, 2:] - visible[:, :2], extent[:, 2:] - extent[:, :2]
    return float((sides.prod(-1) / whole.prod(-1)).min())


def _centre(image_size: tuple[int, int]) -> tuple[float, float]:
    return image_size[0] / 2, image_size[1] / 2


def _tumble(generator: torch.Generator) -> Tensor:
    """Draw a rotation (3, 3): lying, upside down or any other."""
    if chance(generator, 0.5):
        axis = (1.0, 0.0, 0.0) if chance(generator, 0.5) else (0.0, 0.0, 1.0)
        angle = uniform(generator, 60, 180)
        return _about(axis, angle if chance(generator, 0.5) else -angle)
    return axis_angle_to_matrix(direction(generator) * uniform(generator, 0, math.pi))


def _about(axis: tuple[float, float, float], degrees: float) -> Tensor:
    """Return the rotation (3, 3) about an axis."""
    return axis_angle_to_matrix(torch.tensor(axis) * math.radians(degrees))
