"""How bodies are recovered from people whose boxes are known."""

from dataclasses import dataclass
from math import inf

from staf_cli.core.options import Precision, Range, check_options, option


@dataclass(frozen=True)
class RecoveryOptions:
    """Everything that can be chosen about recovery.

    Raises:
        UsageError: a value is out of range.
    """

    weights: str | None = option(  # None: `loading.default_weights`
        None, "A checkpoint's name or file.", metavar="NAME"
    )
    body: str | None = option(  # None: the one the weights were trained for
        None, "A body's name or npz file.", metavar="NAME"
    )
    focal: float | None = option(  # px; None: what the camera's turns tell, or the image's diagonal
        None,
        "The camera's focal length.  [default: what its turns tell, else the image's diagonal]",
        metavar="PX",
        valid=Range(0, inf, open=True),
        advice="give a focal length in pixels, above 0",
    )
    every: int = option(
        1,
        "At 60 frames a second and more: compute each Nth frame, interpolate the others.",
        metavar="N",
        show_default=True,
        valid=Range(1),
        advice="choose 2 at 60 frames a second, 2 or 4 at 120",
    )
    refine: bool | None = option(  # None: `recover.should_refine` decides
        None, "Fit each body to the detected 2D keypoints; the default with the open weights."
    )
    landmarks: bool | None = option(  # None: where bodies are fitted
        None, "Fit also to the 33 landmarks of a second network, which see depth; the default."
    )
    smooth: float = option(  # s, see fitting/smoothing.py
        0.0,
        "Smooth motion over S seconds; 0.07 calms without flattening.  [default: not]",
        metavar="S",
        valid=Range(0, 1),
        advice="choose seconds from 0 (off) to 1; 0.05 is gentle, 0.15 strong",
    )
    constant_shape: bool = option(False, "One body shape a person.")
    device: str = option("auto", "cpu, cuda, cuda:1, mps.", show_default=True)
    precision: Precision = option(  # of convolutions, see `core.devices.choose_dtype`
        "auto",
        "auto is half on CUDA, bfloat16 on processors that have it; full is float32.",
        show_default=True,
    )
    batch: int = option(
        16,
        "Crops at a time; halved when memory runs out.",
        show_default=True,
        valid=Range(1),
        advice="choose 1 or more",
    )

    def __post_init__(self) -> None:
        check_options(self)
