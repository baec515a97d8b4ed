"""A window on the user's display, by OpenCV; and why there is none."""

import os
import subprocess
import sys

import cv2
import numpy as np

from staf_cli.core.errors import one_line
from staf_cli.core.records import Image

TITLE = "staf live (q ends it)"
# OpenCV's Qt ends the whole process where it finds no display: tried in another one.
TRIAL = "import cv2; cv2.namedWindow('staf'); cv2.waitKey(1)"
TRIAL_SECONDS = 30
END_KEYS = (ord("q"), ord("Q"), 27)  # 27: Escape
LARGEST = (1280, 720)  # px of a new window; the user may enlarge it


def why_no_window() -> str | None:
    """Say why no window can be opened here; None where it can."""
    if not cv2.currentUIFramework():
        return (
            "this OpenCV is built without windows (opencv-python-headless); "
            "install opencv-python in its place"
        )
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        return "there is no display (DISPLAY is not set)"
    try:
        trial = subprocess.run(
            [sys.executable, "-c", TRIAL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    if trial.returncode == 0:
        return None
    lines = [line for line in trial.stderr.decode(errors="replace").splitlines() if line.strip()]
    return f"no window can be opened: {one_line(lines[0])[:200] if lines else 'no reason given'}"


class Window:
    """The window; it opens with the first image."""

    def __init__(self) -> None:
        self._is_open = False

    def show(self, image: Image) -> None:
        """Show an image (H, W, 3) RGB uint8."""
        if not self._is_open:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            height, width = image.shape[:2]
            zoom = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
            cv2.resizeWindow(TITLE, round(zoom * width), round(zoom * height))
            self._is_open = True
        cv2.imshow(TITLE, np.ascontiguousarray(image[..., ::-1]))

    def is_closed(self) -> bool:
        """Whether the user has closed it, or pressed a key that ends it; lets it draw itself."""
        if not self._is_open:
            return False
        key = cv2.pollKey()
        return (key >= 0 and key & 0xFF in END_KEYS) or not self._is_visible()

    def close(self) -> None:
        """Close the window, if it is open."""
        if self._is_open and self._is_visible():
            cv2.destroyWindow(TITLE)
        self._is_open = False

    @staticmethod
    def _is_visible() -> bool:
        return bool(cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1)
