"""What can be chosen about the world that people are placed in."""

from dataclasses import dataclass
from math import inf

from staf_cli.core.options import Range, check_options, option


@dataclass(frozen=True)
class WorldOptions:
    """How gravity and ground are found, and what is done about feet.

    Raises:
        UsageError: a value is out of range.
    """

    camera_height: float | None = option(  # None: from the people
        None,
        "The camera's height over the ground.  [default: from the people]",
        metavar="M",
        valid=Range(0, inf, open=True),
        advice="give metres, above 0",
    )
    tilt: float | None = option(  # None: from the people
        None,
        "Degrees that the camera looks down; up is negative.  [default: from the people]",
        metavar="DEG",
        valid=Range(-89, 89),
        advice="give degrees from -89 (up) to 89 (down)",
    )
    lock_feet: bool = option(
        True, "Feet that stand neither slide nor sink in the world; the default."
    )

    def __post_init__(self) -> None:
        check_options(self)
