"""How a live view keeps up: rate, latency and what was passed over, as text and in the corner."""

import time
from collections import deque

import cv2

from staf_cli.core.errors import counted
from staf_cli.core.records import Image

RECENT = 2.0  # s over which the rate is counted
MOST_RECENT = 512  # frames
PIXELS_PER_SIZE = 900  # of the image's shorter side, for each unit of the font's size
WHITE, BLACK = (255, 255, 255), (24, 24, 24)


class Pace:
    """Counts what was drawn. Latency is from the moment when a picture was decoded."""

    def __init__(self) -> None:
        self.drawn = 0
        self.dropped = 0  # passed over, because newer ones were there already
        self._recent: deque[float] = deque(maxlen=MOST_RECENT)  # when frames were drawn, s
        self._first = self._last = 0.0  # when they were drawn, s
        self._newest = self._longest = self._total = 0.0  # latencies, s

    def add(self, arrived: float, dropped: int) -> None:
        """Count a frame that has just been drawn.

        Args:
            arrived: when it was decoded, s, time.monotonic().
            dropped: how many were passed over before it.
        """
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._newest = self._last - arrived
        self._longest = max(self._longest, self._newest)
        self._total += self._newest
        self.drawn += 1
        self.dropped += dropped
        self._recent.append(self._last)
        while self._last - self._recent[0] > RECENT and len(self._recent) > 2:
            self._recent.popleft()

    def now(self) -> str:
        """Say how it keeps up at this moment."""
        rate = _rate(len(self._recent) - 1, self._recent[-1] - self._recent[0])
        return f"{rate}  {1000 * self._newest:.0f} ms  {self.dropped} dropped"

    def summary(self) -> str:
        """Say how it has kept up from the beginning."""
        came = counted(self.drawn + self.dropped, "frame")
        text = f"{self.drawn} of {came} drawn, {self.dropped} dropped"
        if not self.drawn:
            return text
        return (
            f"{text}; {_rate(self.drawn - 1, self._last - self._first)}, "
            f"latency {1000 * self._total / self.drawn:.0f} ms, "
            f"at most {1000 * self._longest:.0f} ms"
        )


def _rate(frames: int, seconds: float) -> str:
    return f"{frames / seconds:.1f} frames/s" if seconds > 0 else "- frames/s"


def draw_caption(image: Image, text: str) -> None:
    """Write a line into the lower left corner of an image.

    Args:
        image: (H, W, 3) RGB uint8, changed in place.
        text: ASCII.
    """
    size = max(0.4, min(image.shape[:2]) / PIXELS_PER_SIZE)
    thickness, font = max(1, round(size)), cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, size, thickness)
    bottom, pad = image.shape[0], below
    corner = (width + 2 * pad, bottom - height - below - 2 * pad)
    cv2.rectangle(image, (0, bottom), corner, BLACK, cv2.FILLED)
    place = (pad, bottom - below - pad)
    cv2.putText(image, text, place, font, size, WHITE, thickness, cv2.LINE_AA)
