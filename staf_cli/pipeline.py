"""One clip from video to results, in three passes: track, recover, show.

`run` is the whole way on one screen. Between the passes there are only small tables, so memory
does not grow with the clip, and the last pass can be redone alone (`render`, `export_meshes`).
"""

import math
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from staf_cli import __version__, engine, files, results, video, weights
from staf_cli.body import Body
from staf_cli.body_format import load_body
from staf_cli.checkpoint import load_checkpoint
from staf_cli.devices import choose_device
from staf_cli.errors import BodyError, NobodyFound, TracksError, UsageError
from staf_cli.export import obj
from staf_cli.geometry import CROP_SCALE
from staf_cli.model.staf import STAF, load_network, mean_pose_network
from staf_cli.people import default_focal, place, vertices
from staf_cli.records import Clip, Frame, Person, Track, alive_by_frame
from staf_cli.refine import refine
from staf_cli.rendering import (
    Camera,
    Figure,
    Rasterizer,
    SideView,
    Style,
    open_rasterizer,
    overlay,
    side_view,
)
from staf_cli.shots import watch_cuts
from staf_cli.tracking import Tracker, detect
from staf_cli.tracks import TrackOptions, build_tracks

Item = TypeVar("Item")
OPEN_BODY = "open-body"
OPEN_WEIGHTS = "staf-open"  # what is used where nothing else is asked for
EXPORTS = ("obj",)


class Watch(Protocol):
    """Passes items on and shows how a pass is getting along; `total` may be unknown."""

    def __call__(self, what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]: ...


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

    detector: str = "yolo11n-pose"
    trust: bool = False  # load a detector file whose hash is unknown
    tracker: Tracker = "bytetrack"
    tracks: TrackOptions = field(default_factory=TrackOptions)
    weights: str | None = None  # None: `default_weights`
    body: str | None = None  # None: the one the weights were trained for
    focal: float | None = None  # px; None: the image's diagonal
    refine: bool | None = None  # None: with the open weights, which it makes better
    device: str = "auto"
    half: bool | None = None  # None: on CUDA only
    batch: int = 16
    look: Look = field(default_factory=Look)
    export: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.focal is not None and not 0 < self.focal < math.inf:
            raise UsageError(f"focal is {self.focal}: give a focal length in pixels, above 0")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}: choose 1 or more")
        check_exports(self.export)


def check_exports(names: Sequence[str]) -> None:
    """Raise UsageError for a format that nobody writes."""
    for name in names:
        if name not in EXPORTS:
            raise UsageError(f"unknown format {name!r}; choose from {', '.join(EXPORTS)}")


@dataclass(frozen=True)
class Tools:
    """What is loaded once and serves any number of clips."""

    detector: Path
    body: Body
    network: STAF
    weights: str  # identity of the checkpoint, for the records
    crop_scale: float
    settings: engine.Settings


@dataclass(frozen=True)
class Source:
    """A video, looked through once: every pass decodes the same frames from it."""

    clip: Clip
    damage: video.Damage
    sha256: str

    def frames(self, what: str, watch: Watch) -> Iterator[Frame]:
        """All its frames in order, watched as the pass `what`."""
        return watch(what, video.frames(self.clip, self.damage), self.clip.frames)


@dataclass(frozen=True)
class Summary:
    """What a finished run can say of itself."""

    folder: Path
    overlay: Path
    people: list[Person]
    frames: int
    damage: video.Damage
    seconds: dict[str, float]  # per pass
    notes: list[str]  # lines for the user


def prepare(options: Options) -> tuple[Tools, list[str]]:
    """Load network, body and detector; with lines the user should see.

    Raises before any work is done where something is missing or does not fit.
    """
    if options.look.codec is not None:
        video.check_codec(options.look.codec)
    detector = weights.locate_detector(options.detector, options.trust)
    device = choose_device(options.device)
    half = device.type == "cuda" if options.half is None else options.half
    if half and device.type == "cpu":
        raise UsageError("--precision half is for graphics cards; leave it out on a CPU")
    settings = engine.Settings(device, half, options.batch)
    notes = []
    chosen = options.weights or default_weights(options.body)
    if chosen is None:
        body = open_body(options.body or OPEN_BODY)
        network, identity, crop_scale = mean_pose_network(body), "untrained", CROP_SCALE
        notes.append(f"no trained weights for body {body.name}: the network answers the mean pose")
        if not options.refine:
            notes[0] += "; add --refine to fit the bodies to the people"
    else:
        checkpoint = load_checkpoint(weights.locate(chosen))
        body = open_body(options.body or checkpoint.body.rsplit(maxsplit=1)[0])
        network = load_network(checkpoint, body)
        identity, crop_scale = checkpoint.identity, checkpoint.crop_scale
    network = engine.prepare(network, settings)
    return Tools(detector, body, network, identity, crop_scale, settings), notes


def default_weights(body: str | None) -> str | None:
    """The checkpoint for a body where none is named; None for bodies that nothing came with."""
    return OPEN_WEIGHTS if body in (None, OPEN_BODY) else None


def open_body(name_or_path: str) -> Body:
    """A body by name (open-body, or one that `staf body import` made) or from its npz file."""
    if name_or_path == OPEN_BODY:
        return Body(OPEN_BODY, load_body(weights.locate(OPEN_BODY)))
    imported = files.data_folder() / "bodies" / f"{name_or_path}.npz"
    path = imported if imported.is_file() else Path(name_or_path)
    if not path.is_file():
        raise BodyError(
            f"body {name_or_path} is not on this machine; "
            "bring the SMPL file in with `staf body import FILE`, or use open-body"
        )
    gender = next((g for g in ("female", "male") if g in path.stem.split("-")), "neutral")
    return Body(path.stem, load_body(path), gender)


def run(path: Path, output: Path, options: Options, tools: Tools, watch: Watch) -> Summary:
    """Recover everybody in a video and write the results into the folder output/<clip>/.

    Raises VideoError, NobodyFound, OutOfMemory or OutputError; an older result of the clip is
    then left as it was, or unmistakably unfinished.
    """
    seconds: dict[str, float] = {}
    folder = output / path.stem
    results.check_free(folder, path)
    files.check_writable(folder)
    with _timed(seconds, "check"):
        source = open_source(path)
    with _timed(seconds, "track"):
        frames, tracks = track(source, options, tools, watch)
    refines = _refines(tracks, options, tools)
    source = replace(source, clip=replace(source.clip, frames=frames))
    with _timed(seconds, "recover"):
        people = recover(source, tracks, options, tools, watch)
    if refines:
        with _timed(seconds, "refine"):
            pairs = watch("refine", zip(people, tracks, strict=True), len(people))
            people = [refine(person, its_track, tools.body) for person, its_track in pairs]
    results.begin(folder)
    results.save(folder, tracks, people)
    done = results.Results(folder, tracks, people)
    with _timed(seconds, "show"):
        shown, notes = show(source, done, tools.body, options.look, watch)
    for name in options.export:
        with _timed(seconds, f"export {name}"):
            export_meshes(folder, people, tools.body, watch)
    summary = Summary(folder, shown, people, frames, source.damage, seconds, notes)
    results.finish(folder, _account(source, options, tools, summary))
    return summary


def _refines(tracks: list[Track], options: Options, tools: Tools) -> bool:
    """Whether to fit the people to their keypoints. Raises UsageError where that cannot be done."""
    seen = any(its_track.kp2d[..., 2].any() for its_track in tracks)
    if options.refine and not seen:
        raise UsageError(
            f"--refine needs keypoints, and {tools.detector.name} gives none; "
            "choose a pose detector such as yolo11n-pose"
        )
    if options.refine is None:
        return seen and tools.weights.split()[0] == OPEN_WEIGHTS
    return options.refine


def open_source(path: Path) -> Source:
    """Probe a video and count its damage. Raises VideoError."""
    clip = video.probe(path)
    return Source(clip, video.inspect(clip), files.sha256(path))


def track(source: Source, options: Options, tools: Tools, watch: Watch) -> tuple[int, list[Track]]:
    """First pass: who is where. Gives the number of frames and the tracks."""
    cuts: list[int] = []
    detections = list(
        detect(
            watch_cuts(source.frames("track", watch), cuts),
            tools.detector,
            tracker=options.tracker,
            conf=options.tracks.conf,
            device=tools.settings.device,
        )
    )
    tracks = build_tracks(detections, cuts, options.tracks)
    if not tracks:
        raise NobodyFound(
            f"{files.printable(source.clip.path)}: nobody was seen for long enough in "
            f"{len(detections)} frames; try --conf 0.1 or --min-track 5"
        )
    return len(detections), tracks


def recover(
    source: Source, tracks: Sequence[Track], options: Options, tools: Tools, watch: Watch
) -> list[Person]:
    """Second pass: the network's parameters of everybody, placed in the image's camera."""
    frames = source.frames("recover", watch)
    estimates = engine.recover(frames, tracks, tools.network, tools.crop_scale, tools.settings)
    clip = source.clip
    focal = options.focal or default_focal(clip.image_size)
    return [
        place(its_track, estimate, clip, tools.body, tools.weights, focal)
        for its_track, estimate in zip(tracks, estimates, strict=True)
    ]


def show(
    source: Source, done: results.Results, body: Body, look: Look, watch: Watch
) -> tuple[Path, list[str]]:
    """Third pass: draw everybody over the video. Gives the file and lines for the user."""
    path = (done.folder / "overlay").with_suffix(video.suffix_for(look.codec))
    joints = np.concatenate([person.joints3d.reshape(-1, 3) for person in done.people])
    style = look.style(side_view(joints, source.clip.image_size) if look.side_view else None)
    frames = source.frames("show", watch)
    with open_rasterizer(look.renderer) as rasterizer:
        drawn = _drawn(frames, done, body, rasterizer, style)
        note = video.write(path, source.clip, drawn, look.codec)
    for name in results.OVERLAYS:
        if name != path.name:
            (done.folder / name).unlink(missing_ok=True)
    return path, [note] if note else []


def _drawn(
    frames: Iterable[Frame],
    done: results.Results,
    body: Body,
    rasterizer: Rasterizer,
    style: Style,
) -> Iterator[Frame]:
    """Each frame with everybody who is in it drawn on it."""
    people, tracks = done.people, done.tracks
    camera = Camera.centred(people[0].focal_length, people[0].image_size)
    faces = body.faces.astype(np.int32)
    alive = alive_by_frame(people)
    for frame in frames:
        figures = [
            Figure(
                people[number].person,
                vertices(people[number], body, slice(row, row + 1))[0],
                tracks[number].box[row],
                tracks[number].kp2d[row],
            )
            for number, row in alive.get(frame.index, ())
        ]
        image = overlay(frame.image, figures, faces, camera, rasterizer, style)
        yield Frame(frame.index, frame.pts, frame.time, image)


def export_meshes(folder: Path, people: Sequence[Person], body: Body, watch: Watch) -> None:
    """Write every person's meshes as obj files under folder/meshes/."""
    total = sum(len(person.frame) for person in people)
    written = (path for person in people for path in obj.save(folder / "meshes", person, body))
    for _ in watch("export obj", written, total):
        pass


def render(folder: Path, moved_to: Path | None, look: Look, watch: Watch) -> tuple[Path, list[str]]:
    """Draw the overlay of a finished result again, nothing else computed anew.

    moved_to: the video, where it no longer lies where it was. Raises TracksError when the video
    is another one than the result was made of.
    """
    if look.codec is not None:
        video.check_codec(look.codec)
    done, run = results.load(folder)
    path = moved_to or Path(run["video"]["path"])
    if moved_to is None and not path.is_file():
        raise TracksError(
            f"{files.printable(path)}: the video is no longer there; say with --video where it is"
        )
    results.check_free(folder, path)
    source = open_source(path)
    if source.sha256 != run["video"]["sha256"]:
        raise TracksError(f"{files.printable(path)}: is not the video that {folder} was made of")
    source = replace(source, clip=replace(source.clip, frames=run["frames"]))
    return show(source, done, body_of(done, run), look, watch)


def body_of(done: results.Results, run: dict[str, Any]) -> Body:
    """The body a result was made with. Raises BodyError when it is not here, or has changed."""
    body = open_body(run["body_file"])
    if body.identity != done.people[0].body:
        raise BodyError(
            f"{done.folder} was made with body {done.people[0].body}, here is {body.identity}; "
            "run the clip again"
        )
    return body


def _account(source: Source, options: Options, tools: Tools, summary: Summary) -> dict[str, Any]:
    """run.json: what was computed from what, with what, and how long it took."""
    clip = source.clip
    packages = ("torch", "numpy", "opencv-python", "av", "ultralytics")
    return {
        "staf": __version__,
        "video": {
            "path": str(clip.path.absolute()),
            "sha256": source.sha256,
            "width": clip.width,
            "height": clip.height,
            "fps": clip.fps,
        },
        "frames": summary.frames,
        "damage": asdict(summary.damage),
        "people": [
            {
                "person": person.person,
                "frames": len(person.frame),
                "first": int(person.frame[0]),
                "last": int(person.frame[-1]),
                "interpolated": int(person.interpolated.sum()),
            }
            for person in summary.people
        ],
        "options": asdict(options),
        "weights": tools.weights,
        "body": tools.body.identity,
        "body_file": _absolute(options.body) or tools.body.name,
        "detector": {"file": tools.detector.name, "sha256": files.sha256(tools.detector)},
        "device": str(tools.settings.device),
        "half": tools.settings.half,
        "seconds": {name: round(value, 2) for name, value in summary.seconds.items()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }


def _absolute(name_or_path: str | None) -> str | None:
    """A file's absolute path, so that it is found from any folder; a name stays a name."""
    if name_or_path is not None and Path(name_or_path).is_file():
        return str(Path(name_or_path).absolute())
    return name_or_path


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
