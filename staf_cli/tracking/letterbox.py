"""Pictures as a detector sees them: scaled, with grey borders to sides that it can halve."""

from dataclasses import dataclass

import cv2
import numpy as np

from staf_cli.core.records import Float, Image

GREY = (114, 114, 114)  # what the detector was trained to see beyond the edges of a picture


@dataclass(frozen=True)
class Letterbox:
    """Where in the detector's input a picture lies."""

    zoom: float  # px of the input in one of the picture
    corner: Float  # (2,) x, y px of the input
    size: Float  # (2,) width, height of the picture, px

    def to_picture(self, points: Float) -> Float:
        """Convert points (..., 2) of the input, px, to points in the picture, px."""
        inside: Float = np.clip((points - self.corner) / self.zoom, 0, self.size)
        return inside


def letterboxed(images: list[Image], pixels: int, stride: int) -> tuple[Image, Letterbox]:
    """Bring pictures of one size into a detector's shape.

    Args:
        images: (H, W, 3) RGB.
        pixels: to which the longer side is scaled.
        stride: what the input's sides are multiples of.

    Returns:
        (B, H', W', 3) RGB, and where the pictures lie in it.
    """
    height, width = images[0].shape[:2]
    zoom = pixels / max(height, width)
    inner = (round(width * zoom), round(height * zoom))
    left, top = (-inner[0] % stride) // 2, (-inner[1] % stride) // 2
    right, bottom = -inner[0] % stride - left, -inner[1] % stride - top
    batch: Image = np.stack(
        [
            cv2.copyMakeBorder(
                cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR),
                *(top, bottom, left, right),
                cv2.BORDER_CONSTANT,
                value=GREY,
            )
            for image in images
        ]
    )
    return batch, Letterbox(zoom, np.array([left, top]), np.array([width, height]))
