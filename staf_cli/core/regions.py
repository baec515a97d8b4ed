"""Where in a frame the landmark network looks: a turned square for each person, and the way back.

A region is (centre x, centre y, side, angle): px of the frame, and rad clockwise in the picture. In
its crop the frame's direction (sin angle, -cos angle) points up, so a person whose head is there
stands upright. Pixels of both sides are counted from the top left corner, as everywhere.

Letters in shapes: N regions, P points.
"""

import numpy as np

from staf_cli.core.crop import square_box, supersampling, warp
from staf_cli.core.records import Float, Float32, Image

CROP_PIXELS = 256  # side of a crop that the landmark network reads
MARGIN = 1.25  # side of a region over the person's size, as the network was trained
HIPS, TIP = 33, 34  # landmarks: centre of the hips; end of the radius around it that holds all


def around_boxes(boxes: Float, angles: Float | float = 0.0, margin: float = MARGIN) -> Float:
    """Compute the regions around people's boxes.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, px of the frame.
        angles: (N,) or one number: how far each person is turned, rad clockwise; k quarter turns
            that `np.rot90(picture, k)` undoes are k pi / 2.
        margin: Side of the region over the longer side of the box.

    Returns:
        (N, 4) regions.
    """
    turns = np.broadcast_to(np.asarray(angles, float), len(boxes))
    return np.concatenate([square_box(boxes, margin), turns[:, None]], 1)


def around_landmarks(points: Float, margin: float = MARGIN) -> Float:
    """Compute the regions which the landmarks themselves ask for, to look again.

    MediaPipe's rule (pose_landmarks_to_roi): the circle around the hips through the tip, its
    bounding square, with a margin; turned so that the tip is straight above the hips.

    Args:
        points: (N, 39, 2) all landmarks, px of the frame.
        margin: Side of the region over the diameter of the circle.

    Returns:
        (N, 4) regions, angles in (-pi, pi].
    """
    x, y = (points[:, TIP] - points[:, HIPS]).T
    side = 2 * margin * np.hypot(x, y)
    return np.column_stack([points[:, HIPS], side, np.arctan2(x, -y)])


def crop_axes(regions: Float) -> Float:
    """Compute the directions of the crops' x and y axes in the frame.

    Args:
        regions: (N, 4)

    Returns:
        (N, 2, 2) rotation matrices R for column vectors, d_frame = R @ d_crop.
    """
    c, s = np.cos(regions[:, 3]), np.sin(regions[:, 3])
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def cut(image: Image, region: Float, pixels: int = CROP_PIXELS) -> Image:
    """Cut one region out of a frame, upright; where it shrinks, pixels are averages.

    Args:
        image: (H, W, 3) RGB uint8, the frame.
        region: (4,)
        pixels: Side of the crop, px.

    Returns:
        (pixels, pixels, 3) RGB uint8; black outside of the frame.
    """
    k = supersampling(region[2] / pixels)
    zoom = pixels * k / region[2]
    linear = zoom * crop_axes(region[None])[0].T  # from the frame to the crop
    shift = pixels * k / 2 - linear @ region[:2]
    return warp(image, np.column_stack([linear, shift]), (pixels, pixels), k)


def to_frame(points: Float, regions: Float, pixels: int = CROP_PIXELS) -> Float:
    """Convert points from pixels of the crops to pixels of the frame.

    Args:
        points: (N, P, 2) px of the crops.
        regions: (N, 4)
        pixels: Side of the crops, px.

    Returns:
        (N, P, 2) px of the frame.
    """
    scale = regions[:, None, 2:3] / pixels
    turned = (points - pixels / 2) @ crop_axes(regions).transpose(0, 2, 1)
    return regions[:, None, :2] + scale * turned


def to_crop(points: Float, regions: Float, pixels: int = CROP_PIXELS) -> Float:
    """Convert points from pixels of the frame to pixels of the crops.

    Args:
        points: (N, P, 2) px of the frame.
        regions: (N, 4)
        pixels: Side of the crops, px.

    Returns:
        (N, P, 2) px of the crops.
    """
    turned = (points - regions[:, None, :2]) @ crop_axes(regions)
    return pixels / 2 + turned * (pixels / regions[:, None, 2:3])


def to_camera(metres: Float, regions: Float) -> Float:
    """Turn points in metres from the crops' axes to the camera's, about z.

    Args:
        metres: (N, P, 3) m from the hips: x to the right of the crop, y down in it, z away.
        regions: (N, 4)

    Returns:
        (N, P, 3) m from the hips: x right, y down in the frame, z away.
    """
    flat = metres[..., :2] @ crop_axes(regions).transpose(0, 2, 1)
    return np.concatenate([flat, metres[..., 2:]], -1)


def mask_in_box(mask: Float32, region: Float, box: tuple[int, int, int, int]) -> Float32:
    """Put a region's mask back into the frame.

    Args:
        mask: (S, S) in the crop, as probabilities (the sigmoid of the network's logits).
        region: (4,)
        box: The part of the frame that is wanted: x1, y1, x2, y2, whole px; x2 > x1, y2 > y1.

    Returns:
        (y2 - y1, x2 - x1) probabilities; 0 outside of the region.
    """
    x1, y1, x2, y2 = box
    pixels = len(mask)
    k = supersampling(pixels / region[2])
    linear = k * region[2] / pixels * crop_axes(region[None])[0]  # from the crop to the box
    centre = np.full(2, pixels / 2)
    shift = k * (region[:2] - (x1, y1)) - linear @ centre
    return warp(mask, np.column_stack([linear, shift]), (x2 - x1, y2 - y1), k)
