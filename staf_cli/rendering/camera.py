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

NEAR = 0.1  # m; what is closer to the camera is not drawn
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
        """Number of columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def rows_and_columns(self) -> tuple[slice, slice]:
        """Index of the window in an image array (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: "Window") -> bool:
        """Whether the two windows have a pixel in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def union(self, other: "Window") -> "Window":
        """Return the smallest window that contains both."""
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: focal length, principal point and image size, all in px."""

    focal: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def centred(cls, focal: float, image_size: tuple[int, int]) -> "Camera":
        """Make the camera of a whole frame, its principal point in the middle.

        Args:
            focal: Focal length, px.
            image_size: (width, height) px.

        Returns:
            The camera.
        """
        width, height = image_size
        return cls(focal, width / 2, height / 2, width, height)

    def crop(self, window: Window) -> "Camera":
        """Return the camera whose image is this window of the image, with the same pixels."""
        return Camera(
            self.focal,
            self.cx - window.left,
            self.cy - window.top,
            window.width,
            window.height,
        )

    def supersampled(self, factor: int) -> "Camera":
        """Return the camera of the same view with factor x factor samples for each pixel."""
        return Camera(
            self.focal * factor,
            self.cx * factor,
            self.cy * factor,
            self.width * factor,
            self.height * factor,
        )

    def project(self, points: Points) -> NDArray[np.float32]:
        """Project points with z > 0 to pixels.

        Args:
            points: (..., 3) m, camera frame.

        Returns:
            (..., 2) px.
        """
        pixels: NDArray[np.float32] = project(
            torch.from_numpy(points), self.focal, (self.cx, self.cy)
        ).numpy()
        return pixels

    def bounding_window(self, points: Points) -> Window | None:
        """Find the pixels that a surface can cover.

        Args:
            points: (N, 3) m, camera frame: the surface's vertices.

        Returns:
            The bounding rectangle of the points in front of `NEAR`, cut at the image's border;
            None where nothing of it is in the image.
        """
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


PANEL_WIDTH = 0.8  # of the side panel, over the frame's shorter side
PANEL_FOCAL = 2.0  # over the panel's height: a long lens, so that depth hardly changes sizes
LARGEST_RATIO = 2.0  # of the sizes of the nearest and the farthest person: a longer lens yet
BODY_MARGIN = 0.3  # m around joints: skin, hands, feet and some space
SOLE = 0.06  # m from the foot's joint down to the ground


@dataclass(frozen=True)
class SideView:
    """A camera to the right of the people, fixed for a clip, that looks to the left.

    It stands on the ground where people are placed in the world, and then takes points as a level
    camera at the world's origin has them; else in the video camera's frame. What is farther from
    the video camera is farther to the right.
    """

    centre: tuple[float, float, float]  # m: what the side camera looks at
    distance: float  # m from the side camera to the centre
    depth: float  # m that people come nearer than the centre, or are farther away
    floor: float  # m, y of the ground grid
    camera: Camera

    def transform(self, points: Points) -> Points:
        """Transform points (N, 3), m, to the side camera's frame."""
        x, y, z = (points - np.asarray(self.centre, points.dtype)).T
        return np.stack([z, y, self.distance - x], -1).astype(np.float32)


def side_view(joints3d: Float, image_size: tuple[int, int], floor: float | None = None) -> SideView:
    """Place the side camera so that the people of a whole clip stay in its image.

    The lowest and highest percent of the joints' coordinates are ignored, so that a single bad
    frame does not make all people small.

    Args:
        joints3d: (N, 3) m: the joints of all people and frames.
        image_size: (width, height) px of the video; the panel beside it has the same height.
        floor: m, y of the ground; None: it lies under the lowest joints.

    Returns:
        The view, with the camera of the panel.
    """
    low, high = np.percentile(joints3d, [1, 99], axis=0)
    floor = float(high[1]) + SOLE if floor is None else floor
    high[1] = max(high[1], floor - SOLE)
    centre = (low + high) / 2
    half = (high - low) / 2 + BODY_MARGIN
    width, height = 2 * round(PANEL_WIDTH * min(image_size) / 2), image_size[1]
    focal = PANEL_FOCAL * height
    near = max(half[2] * focal / (width / 2), half[1] * focal / (height / 2))
    longer = max(1.0, 2 * half[0] / (LARGEST_RATIO - 1) / near)
    return SideView(
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        distance=float(half[0] + longer * near),
        depth=float(half[0]),
        floor=floor,
        camera=Camera.centred(longer * focal, (width, height)),
    )
