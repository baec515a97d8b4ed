"""What can be chosen about a batch.

This module imports no heavy library: `staf --help` is made from it.
"""

from dataclasses import dataclass

from staf_cli.core.errors import UsageError
from staf_cli.core.options import option


@dataclass(frozen=True)
class Choice:
    """Which files of a folder are clips."""

    recursive: bool = option(False, "Also the videos in a FOLDER's folders.")
    pattern: str | None = option(  # None: files with a video's suffix
        None, "Only a FOLDER's files like this: '*.mp4'.", metavar="GLOB"
    )


@dataclass(frozen=True)
class PoolOptions:
    """How many workers process the clips, and where.

    Raises:
        UsageError: a value is invalid, or two contradict each other.
    """

    jobs: int | None = option(  # clips at a time; None: one a device, or as the cluster chooses
        None, "Clips at a time, each in its own process.", metavar="N"
    )
    devices: tuple[int, ...] = option(  # numbers of CUDA devices that the workers share
        (), "Share these CUDA devices: 0 or 0,1.", metavar="IDS"
    )
    ray: str | None = option(  # a cluster's address, or local
        None,
        "Do the clips on a Ray cluster (HOST:PORT, auto), or on one started here (local).",
        metavar="ADDRESS",
    )

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs}: choose 1 or more")
        if self.ray is not None and self.devices:
            raise UsageError("--devices is for this machine; with --ray leave it out")
        if self.jobs is not None and self.jobs < len(self.devices):
            raise UsageError(
                f"--jobs {self.jobs} leaves a device idle; give --jobs {len(self.devices)} or more"
            )
