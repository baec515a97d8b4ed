"""The stretch of a video to process, and times as users write them."""

import re
from dataclasses import dataclass
from math import inf
from numbers import Real

from staf_cli.core.errors import UsageError
from staf_cli.core.options import option

CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)")  # h:mm:ss.s, m:ss.s, s.s


def parse_time(text: str) -> float:
    """Read a time as users write it.

    Args:
        text: Such as "12.5", "1:30" or "0:01:30.25".

    Returns:
        Seconds.

    Raises:
        UsageError: The text is an invalid time.
    """
    matched = CLOCK.fullmatch(text.strip())
    if matched is None:
        raise UsageError(f"invalid time {text!r}: write seconds (12.5), m:ss (1:30) or h:mm:ss.s")
    hours, minutes, seconds = matched.groups()
    if minutes is not None and float(seconds) >= 60:
        raise UsageError(f"invalid time {text!r}: after a colon, seconds go up to 59")
    # As one decimal, so that it is the nearest number to what was written, as a frame's time is.
    whole, _, fraction = seconds.partition(".")
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(whole or 0)
    return float(f"{total}.{fraction or 0}")


@dataclass(frozen=True)
class Span:
    """The frames whose presentation time t, in seconds, satisfies start <= t < end.

    Raises:
        UsageError: The start is negative, or the end is not after the start.
    """

    start: float = option(
        0.0, "From here: seconds (12.5), m:ss or h:mm:ss.", metavar="TIME", parse=parse_time
    )
    end: float | None = option(  # None: to the end of the clip
        None, "Up to here.", metavar="TIME", parse=parse_time
    )

    def __post_init__(self) -> None:
        """Check both ends."""
        for name, time in (("start", self.start), ("end", self.end)):
            if time is not None and not isinstance(time, Real):
                raise UsageError(f"{name} is {time!r:.60}: give a time in seconds")
        if self.start is None:
            raise UsageError("start is None: give a time in seconds, such as 0")
        if not 0 <= self.start < inf:
            raise UsageError(f"start is {self.start:g}: choose a time in seconds, 0 or later")
        if self.end is not None and not self.start < self.end < inf:
            raise UsageError(f"end is {self.end:g}: choose a time after start ({self.start:g} s)")

    def ended(self, time: float) -> bool:
        """Whether a time is at or after the end."""
        return self.end is not None and time >= self.end

    def __contains__(self, time: float) -> bool:
        """Whether a time is in the span."""
        return time >= self.start and not self.ended(time)

    def __str__(self) -> str:
        """Describe the span in an error or a note."""
        last = "the end" if self.end is None else f"{self.end:g} s"
        return f"{self.start:g} s to {last}"


WHOLE = Span()  # all of a clip
