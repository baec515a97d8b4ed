"""The pinhole camera, windows cut out of its image, and a second camera looking from the side.

Camera frame, pixels and their centres are geometry.py's: x right, y down, z forward, metres;
the pixel in column i covers [i, i + 1).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from staf_cli.core.geometry import project
from staf_cli.core.records import Float

NEAR = 0.1  # m: whatever is closer to the camera is not drawn
FAR = 1000.0  # m

Points = NDArray[np.float32]  # (N, 3) m, camera frame


class Window(NamedTuple):
    """A rectangle of whole pixels: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def rows_and_columns(self) -> tuple[slice, slice]:
        """Where the window lies in an image array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: "Window") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def union(self, other: "Window") -> "Window":
        """The smallest window that holds both."""
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class Camera:
    """A pinhole: focal length and principal point in px, image size in px."""

    focal: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def centred(cls, focal: float, image_size: tuple[int, int]) -> "Camera":
        """The camera of a whole frame: image_size is (width, height), the axis its middle."""
        width, height = image_size
        return cls(focal, width / 2, height / 2, width, height)

    def window(self, window: Window) -> "Camera":
        """The camera that sees only this window, pixel for pixel the same."""
        return Camera(
            self.focal,
            self.cx - window.left,
            self.cy - window.top,
            window.width,
            window.height,
        )

    def finer(self, factor: int) -> "Camera":
        """The same view with factor x factor samples a pixel."""
        return Camera(
            self.focal * factor,
            self.cx * factor,
            self.cy * factor,
            self.width * factor,
            self.height * factor,
        )

    def project(self, points: Points) -> NDArray[np.float32]:
        """Points (..., 3), metres, to pixels (..., 2); z must be positive."""
        pixels: NDArray[np.float32] = project(
            torch.from_numpy(points), self.focal, (self.cx, self.cy)
        ).numpy()
        return pixels

    def cover(self, points: Points) -> Window | None:
        """The pixels that points (N, 3) can touch; None where that is outside of the image."""
        visible = points[points[:, 2] >= NEAR]
        if not len(visible):
            return None
        pixels = self.project(visible)
        size = (self.width, self.height)
        low = np.clip(np.floor(pixels.min(0)), 0, size).astype(int)
        high = np.clip(np.ceil(pixels.max(0)), 0, size).astype(int)
        if (low >= high).any():
            return None
        return Window(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


PANEL_SHAPE = 0.8  # width of the side panel over the frame's shorter side
PANEL_FOCAL = 2.0  # over the panel's height: a long lens, so that depth hardly changes sizes
BODY_MARGIN = 0.3  # m around joints: skin, hands, feet and some air
SOLE = 0.06  # m from the foot's joint down to the ground


@dataclass(frozen=True)
class SideView:
    """A camera beside the people, fixed for a clip, looking at them from the video camera's right.

    The video camera is then off to the left, so what is farther from it lies farther right.
    """

    centre: tuple[float, float, float]  # m, video camera's frame: what the side camera looks at
    distance: float  # m from the side camera to the centre
    floor: float  # m, y of the ground grid in the video camera's frame
    camera: Camera

    def turn(self, points: Points) -> Points:
        """Points (N, 3) of the video camera's frame in the side camera's frame."""
        x, y, z = (points - np.asarray(self.centre, points.dtype)).T
        return np.stack([z, y, self.distance - x], -1).astype(np.float32)


def side_view(joints3d: Float, image_size: tuple[int, int]) -> SideView:
    """Place the side camera so that a whole clip's people stay in its panel.

    joints3d: (N, 3) m, video camera's frame: every joint of every person and frame of the clip.
    image_size: (width, height) px of the video; the panel beside it is as high.
    One joint in fifty may stick out, so that a single bad frame does not shrink everyone.
    """
    low, high = np.percentile(joints3d, [1, 99], axis=0)
    centre = (low + high) / 2
    half = (high - low) / 2 + BODY_MARGIN
    width, height = 2 * round(PANEL_SHAPE * min(image_size) / 2), image_size[1]
    focal = PANEL_FOCAL * height
    distance = half[0] + max(half[2] * focal / (width / 2), half[1] * focal / (height / 2))
    return SideView(
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        distance=float(distance),
        floor=float(high[1]) + SOLE,
        camera=Camera.centred(focal, (width, height)),
    )
