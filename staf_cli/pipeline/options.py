"""Everything that can be chosen about computing a clip, checked before any work is done.

This module imports no heavy library: `staf --help` is made from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_args

from staf_cli.core.errors import UsageError
from staf_cli.core.options import Range, Rig, Space, check_options, option
from staf_cli.core.span import WHOLE, Span
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.tracking.options import Tracker, TrackOptions
from staf_cli.world.options import WorldOptions

if TYPE_CHECKING:
    from staf_cli.body.format import BodyArrays
    from staf_cli.rendering import SideView, Style

# The names in `export.FORMATS`, which is not imported for the sake of a quick `--help`.
EXPORT_FORMATS = (
    "amass",
    "angles",
    "bvh",
    "c3d",
    "camera",
    "csv",
    "glb",
    "mot",
    "obj",
    "openpose",
    "ply",
    "trc",
)


@dataclass(frozen=True)
class Look:
    """What the overlay shows, and how it is drawn and encoded.

    Raises:
        UsageError: a value is out of range.
    """

    alpha: float = option(
        0.7,
        "How much the bodies cover the photo.",
        metavar="0..1",
        show_default=True,
        valid=Range(0, 1),
        advice="choose a number from 0 to 1",
    )
    plain: bool = option(False, "Bodies on a plain ground, no photo.")
    wireframe: bool = option(False, "The mesh's edges instead of skin.")
    clothes: bool = option(True, "Shorts and a short top, as darker skin; glb too. The default.")
    boxes: bool = option(False, "Boxes, ids and keypoints as well.")
    side_view: bool = option(False, "Add a panel that shows the side.")
    renderer: str = option(
        "auto",
        "pyrender needs a graphics card.",
        choices=("auto", "cpu", "pyrender"),
        show_default=True,
    )
    codec: str | None = option(
        None, "An encoder of your own ffmpeg: h264_nvenc, hevc, prores_ks, ...", metavar="NAME"
    )

    def __post_init__(self) -> None:
        check_options(self)

    def style(self, body: "BodyArrays", side: "SideView | None") -> "Style":
        """Return the same for the renderer.

        Args:
            body: the people's.
            side: the clip's side camera, if it is wanted.

        Returns:
            What `rendering.overlay` draws.
        """
        from staf_cli.body.clothes import tones_of
        from staf_cli.rendering import Style

        tones = tones_of(body) if self.clothes else None
        return Style(self.alpha, self.plain, self.wireframe, self.boxes, side, tones)


@dataclass(frozen=True)
class ExportOptions:
    """How exports are written.

    Raises:
        UsageError: there is no such rig or space.
    """

    root_motion: bool = option(
        False, "glb: place and heading in a bone `root` above the pelvis, as games want."
    )
    rig: Rig = option("smpl", "glb and bvh: whose names the bones have.", show_default=True)
    space: Space = option(
        "world",
        "All but obj, ply and openpose: people on the ground, y up; or as the video camera sees "
        "them.",
        show_default=True,
    )

    def __post_init__(self) -> None:
        for name, choices in (("rig", get_args(Rig)), ("space", get_args(Space))):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} is {value!r:.60}: choose {', '.join(choices)}")


@dataclass(frozen=True)
class Options:
    """Everything that can be chosen about computing a clip.

    Raises:
        UsageError: a value is out of range, names an unknown export format, or asks for root
            motion without glb or for a rig without glb or bvh.
    """

    span: Span = WHOLE  # the part of the clip
    fps: float | None = option(None, "The rate of a folder of pictures.  [default: 25]")
    deinterlace: bool = option(
        True, "Make whole pictures of those that are flagged as interlaced; the default."
    )
    fit: bool = option(False, "Fit pictures of a folder whose size is another than most have.")
    detector: str = option(
        "yolo11n-pose",
        "A name from `staf weights list`, or a YOLO .pt file.",
        show_default=True,
    )
    trust: bool = option(False, "Load a detector file of unknown origin.")
    detect_size: int | None = option(  # None: see `tracking.detection.find_people`
        None,
        "Pixels of the longer side that the detector sees.  [default: 640 or 960, as people need]",
        valid=Range(160, 4096),
        advice="choose 160 to 4096, such as 1280 for people who are far away",
    )
    tracker: Tracker = option("bytetrack", "botsort follows a moving camera.", show_default=True)
    tracks: TrackOptions = field(default_factory=TrackOptions)
    camera: str = option(
        "auto",
        "auto finds out whether the camera moves, and how it turns.",
        choices=("auto", "static", "moving"),
        show_default=True,
    )
    recovery: RecoveryOptions = field(default_factory=RecoveryOptions)
    world: WorldOptions = field(default_factory=WorldOptions)
    look: Look = field(default_factory=Look)
    export: tuple[str, ...] = option(
        (), f"Further files, by commas: {', '.join(EXPORT_FORMATS)}.", metavar="NAMES"
    )
    exporting: ExportOptions = field(default_factory=ExportOptions)
    force: bool = option(False, "Do everything again, also what is up to date.")

    def __post_init__(self) -> None:
        check_options(self)
        for name, kind in NESTED.items():
            if not isinstance(getattr(self, name), kind):
                raise UsageError(
                    f"{name} is {getattr(self, name)!r:.60}: give {kind.__name__}(...)"
                )
        check_exports(self.export, self.exporting)
        if "camera" in self.export and self.camera == "static":
            raise UsageError("camera: a static camera has no path to export; leave out one of both")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for run.json, where the options of recovery are not nested."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            values |= value if name == "recovery" else {name: value}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Options":
        """Make the options that `to_json` returned, also those of older versions.

        Args:
            values: "options" of run.json; an untrusted file may hold anything.

        Returns:
            The options.

        Raises:
            KeyError, TypeError, AttributeError: these are not the options of a clip.
            UsageError: a value is out of range.
        """
        values = {**values}
        if "half" in values:  # of version 0.1.0: None, False or True
            values["every"], values["landmarks"] = 1, False
            values["precision"] = {None: "auto", False: "full", True: "half"}[values.pop("half")]
        # new after version 0.2.0
        new = {"deinterlace": True, "fit": False, "camera": "static", "exporting": {}, "world": {}}
        values = {**new, **values}
        recovery = {one.name: values[one.name] for one in fields(RecoveryOptions)}
        others = {name: value for name, value in values.items() if name not in recovery}
        tracks = {**values["tracks"], "person": tuple(values["tracks"]["person"])}
        if isinstance(tracks["min_track"], int):  # versions up to 0.2.0 counted frames
            tracks["min_track"] = TrackOptions.min_track
        nested = {
            "span": Span(**values["span"]),
            "tracks": TrackOptions(**tracks),
            "recovery": RecoveryOptions(**recovery),
            "world": WorldOptions(**values["world"]),
            "look": Look(**values["look"]),
            "export": tuple(values["export"]),
            "exporting": ExportOptions(**values["exporting"]),
        }
        return cls(**{**others, **nested})


def expected_passes(options: Options) -> tuple[str, ...]:
    """Name the passes of a run that begins anew, in their order, as progress shows them."""
    recovery = options.recovery
    refines = recovery.refine is not False
    fitting = ["refine"] * refines + ["smooth"] * (recovery.smooth > 0)
    landmarks = ["landmarks"] * (refines and recovery.landmarks is not False)
    exports = [f"export {name}" for name in options.export]
    both = [" and ".join(fitting)] * bool(fitting)
    camera = ["camera"] * (options.camera != "static")
    return ("track", *camera, *landmarks, "recover", *both, "world", "show", *exports)


NESTED: Mapping[str, type] = {
    "span": Span,
    "tracks": TrackOptions,
    "recovery": RecoveryOptions,
    "world": WorldOptions,
    "look": Look,
    "exporting": ExportOptions,
}


def check_exports(formats: Sequence[str], options: ExportOptions) -> None:
    """Check that every format is one that `staf export` writes, and that the options are for them.

    Args:
        formats: their names.
        options: how they are written.

    Raises:
        UsageError: one is unknown, or an option is for none of the formats.
    """
    named = [formats] if isinstance(formats, str) else formats
    for name in named:
        if name not in EXPORT_FORMATS:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(EXPORT_FORMATS)}")
    if options.root_motion and "glb" not in named:
        raise UsageError("root-motion: only glb has it; export glb as well, or leave it out")
    if options.rig != "smpl" and not {"glb", "bvh"} & set(named):
        raise UsageError("rig: only glb and bvh have it; export one as well, or leave it out")
