"""staf: 3D human bodies from video with spatio-temporal alignment fusion.

From Python: `import staf_cli as staf`, then `staf.run("clip.mp4")`; api.py tells all of it.
"""

from typing import TYPE_CHECKING, Any

from staf_cli.core.errors import (
    BodyError,
    DatasetError,
    MissingTool,
    NobodyFound,
    OutOfMemory,
    OutputError,
    StafError,
    TracksError,
    UsageError,
    VideoError,
    WeightsError,
)
from staf_cli.core.span import Span
from staf_cli.core.version import __version__

__all__ = [
    "BodyError",
    "Boxes",
    "DatasetError",
    "ExportOptions",
    "Frame",
    "Human",
    "Look",
    "MissingTool",
    "NobodyFound",
    "Options",
    "OutOfMemory",
    "OutputError",
    "Person",
    "Recovery",
    "RecoveryOptions",
    "Result",
    "Span",
    "StafError",
    "Tools",
    "Track",
    "TrackOptions",
    "TracksError",
    "UsageError",
    "VideoError",
    "Watch",
    "WeightsError",
    "WorldOptions",
    "__version__",
    "load",
    "prepare",
    "prepare_recovery",
    "read_frames",
    "recover",
    "run",
]

if TYPE_CHECKING:
    from staf_cli.api import (
        Boxes,
        ExportOptions,
        Frame,
        Human,
        Look,
        Options,
        Person,
        Recovery,
        RecoveryOptions,
        Result,
        Tools,
        Track,
        TrackOptions,
        Watch,
        WorldOptions,
        load,
        prepare,
        prepare_recovery,
        read_frames,
        recover,
        run,
    )
else:

    def __getattr__(name: str) -> Any:
        """What needs torch is imported when it is first asked for: `staf --help` is quick."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from staf_cli import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
