"""Who is followed through a clip, and who is kept."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from staf_cli.core.options import Range, check_options, option

Tracker = Literal["bytetrack", "botsort"]


@dataclass(frozen=True)
class TrackOptions:
    """Which people are kept.

    Raises:
        UsageError: a value is out of range.
    """

    conf: float = option(  # also of a track's mean, where bridged frames count 0
        0.25,
        "Score from which a detection is believed.",
        show_default=True,
        valid=Range(0, 1, open=True),
        advice="choose a score between 0 and 1, such as 0.25",
    )
    min_track: float = option(  # s; see tracking/selection.py
        0.4,
        "Drop who is seen for fewer seconds; a third of a short clip is enough.",
        metavar="S",
        show_default=True,
        valid=Range(0, inf, open=True),
        advice="choose seconds above 0, such as 0.4",
    )
    max_people: int | None = option(  # None: no limit
        None,
        "At most N people at a time, the largest.",
        valid=Range(1),
        advice="choose 1 or more",
    )
    main: int | None = option(  # None: no limit
        None,
        "Only the N most prominent people of the clip: large, seen for long, sure.",
        valid=Range(1),
        advice="choose 1 or more",
    )
    person: tuple[int, ...] = option(  # none given: all
        (), "Only these people: 1 or 1,3.", metavar="IDS"
    )

    def __post_init__(self) -> None:
        check_options(self)
