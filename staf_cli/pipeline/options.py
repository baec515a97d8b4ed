"""Everything that can be said about computing a clip, checked before any work is done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from staf_cli.core.errors import UsageError
from staf_cli.core.span import WHOLE, Span
from staf_cli.export import FORMATS
from staf_cli.fitting.smoothing import check_strength
from staf_cli.rendering import SideView, Style
from staf_cli.tracking.detection import Tracker
from staf_cli.tracking.linking import TrackOptions


@dataclass(frozen=True)
class Look:
    """What the overlay shows, and how it is drawn and encoded."""

    alpha: float = 0.9
    plain: bool = False
    wireframe: bool = False
    boxes: bool = False
    side_view: bool = False
    renderer: str = "auto"
    codec: str | None = None

    def __post_init__(self) -> None:
        self.style(None)  # refuses what cannot be drawn, before anything is computed

    def style(self, side: SideView | None) -> Style:
        """The same for the renderer; `side` is the clip's side camera, if it is wanted."""
        return Style(self.alpha, self.plain, self.wireframe, self.boxes, side)


@dataclass(frozen=True)
class Options:
    """Everything that `staf run` can be told about computing a clip."""

    span: Span = WHOLE  # what of the clip
    fps: float | None = None  # of a folder of pictures
    detector: str = "yolo11n-pose"
    trust: bool = False  # load a detector file whose hash is unknown
    tracker: Tracker = "bytetrack"
    tracks: TrackOptions = field(default_factory=TrackOptions)
    weights: str | None = None  # None: `default_weights`
    body: str | None = None  # None: the one the weights were trained for
    focal: float | None = None  # px; None: the image's diagonal
    refine: bool | None = None  # None: with the open weights, which it makes better
    smooth: float = 0.0  # s, `smoothing.smooth`
    constant_shape: bool = False  # one shape a person
    device: str = "auto"
    half: bool | None = None  # None: on CUDA only
    batch: int = 16
    look: Look = field(default_factory=Look)
    export: tuple[str, ...] = ()
    force: bool = False  # do again what stands already

    def __post_init__(self) -> None:
        if self.focal is not None and not 0 < self.focal < math.inf:
            raise UsageError(f"focal is {self.focal}: give a focal length in pixels, above 0")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}: choose 1 or more")
        check_strength(self.smooth)
        check_exports(self.export)


def check_exports(names: Sequence[str]) -> None:
    """Raise UsageError for a format that nobody writes."""
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(FORMATS)}")
