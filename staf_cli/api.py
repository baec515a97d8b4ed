"""staf from Python: what the package `staf_cli` exports beside its errors.

    import staf_cli as staf

    result = staf.run("clip.mp4")                       # all that `staf run` does
    result = staf.load("out/clip")                      # what it has left in a folder
    result = staf.recover(images, [staf.Boxes(box)], fps=25)   # your own frames and boxes
    result.people[0].vertices(frame)                    # (V, 3) m, camera frame

Conventions, as everywhere in staf: pixels with (0, 0) at the image's top left corner; a camera
frame of x right, y down, z forward, in metres; rotations as axis-angle in radians; frames by
their index in the video (from 0), times in seconds. Every error is a StafError whose message is
one line: what, where, what to do next. Lines that `staf run` would print come as warnings.
"""

import math
import operator
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from staf_cli import video
from staf_cli.batch.naming import local_path
from staf_cli.batch.single import run_single
from staf_cli.body.posing import vertices
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import OPEN_WEIGHTS
from staf_cli.core import files
from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.geometry import project
from staf_cli.core.progress import Watch, silent
from staf_cli.core.records import (
    LONGEST_NAME,
    Clip,
    Float,
    Frame,
    Image,
    Ints,
    LandmarkTrack,
    Person,
    Track,
)
from staf_cli.core.span import WHOLE, Span
from staf_cli.export import Scene
from staf_cli.landmarks.following import follow
from staf_cli.pipeline import rework
from staf_cli.pipeline.clip import describe_run
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.loading import prepare as load_tools
from staf_cli.pipeline.loading import prepare_recovery as load_recovery
from staf_cli.pipeline.options import ExportOptions, Look, Options, check_exports
from staf_cli.pipeline.passes import Source
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.recover import Recovery, recover_people, should_refine
from staf_cli.recovery.spool import MemorySpool
from staf_cli.result import exports, journal, person_npz, tracks_csv
from staf_cli.result import folder as result_folder
from staf_cli.result.run_record import DetectorRecord, PeopleFacts, RunRecord, TrackFacts
from staf_cli.tracking.options import TrackOptions
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import place_in_world

__all__ = [
    "Boxes",
    "ExportOptions",
    "Frame",
    "Human",
    "Look",
    "Options",
    "Person",
    "Recovery",
    "RecoveryOptions",
    "Result",
    "Tools",
    "Track",
    "TrackOptions",
    "Watch",
    "WorldOptions",
    "load",
    "prepare",
    "prepare_recovery",
    "read_frames",
    "recover",
    "run",
]

PathLike = str | os.PathLike[str]
DEFAULTS = Options()
RECOVERY_DEFAULTS = RecoveryOptions()
LARGEST_BOX = 20  # sides of the image
TICK = Fraction(1, 90_000)  # s, of the clock on which frames given here are put
GIVEN = "frames given in Python"  # in place of a video's path
SAVED = "saved from Python"  # in place of the clip that a journal's passes are of


@dataclass(frozen=True, eq=False)
class Human:
    """One recovered person: the arrays, and their meshes on demand.

    All arrays of `motion` and `track` have a row for each of the person's F frames, which are
    `motion.frame`. To change a person: `dataclasses.replace(human, motion=...)`.

    Raises:
        UsageError: the three do not belong together.
    """

    motion: Person  # poses, shape, place, joints: the content of person_<id>.npz
    track: Track  # box and 2D keypoints that it was made from, and the person's name
    body: Body  # the body model that the parameters mean

    def __post_init__(self) -> None:
        if self.track.id != self.motion.id:
            raise UsageError(f"person {self.motion.id} and track {self.track.id} are two")
        if not np.array_equal(self.track.frame, self.motion.frame):
            raise UsageError(f"person {self.motion.id}: the track has other frames")
        if self.body.identity != self.motion.body:
            raise UsageError(
                f"person {self.motion.id} has the body {self.motion.body}, not {self.body.identity}"
            )

    @property
    def faces(self) -> Ints:
        """The mesh's triangles, (T, 3) int64 indices of vertices; the same in every frame."""
        return self.body.faces

    def row(self, frame: SupportsIndex) -> int:
        """Find the row of `motion`'s arrays that belongs to a frame of the video.

        Args:
            frame: the frame's index.

        Returns:
            The row.

        Raises:
            UsageError: the person is not in that frame.
        """
        own = self.motion.frame
        try:
            index = operator.index(frame)
        except TypeError as error:
            raise UsageError(f"frame is {frame!r:.60}: give the frame's index") from error
        row = int(np.searchsorted(own, index))
        if row == len(own) or own[row] != index:
            raise UsageError(
                f"person {self.motion.id} is not in frame {index}; `motion.frame` lists the frames"
            )
        return row

    def vertices(self, frame: SupportsIndex) -> NDArray[np.float32]:
        """Compute the mesh in a frame of the video, by linear blend skinning (SMPL, 2015).

        Every call computes it again, in some milliseconds.

        Args:
            frame: the frame's index.

        Returns:
            (V, 3) m, camera frame.

        Raises:
            UsageError: the person is not in that frame.
        """
        row = self.row(frame)
        mesh: NDArray[np.float32] = vertices(self.motion, self.body, slice(row, row + 1))[0]
        return mesh

    def pixels(self, points: ArrayLike) -> Float:
        """Project points into the image.

        The camera is a pinhole with `motion.focal_length` px and its centre in the image's.

        Args:
            points: (..., 3) m, camera frame.

        Returns:
            (..., 2) px.

        Raises:
            UsageError: these are no points.
        """
        width, height = self.motion.image_size
        array = _array("points", points)
        if array.shape[-1:] != (3,):
            raise UsageError(f"points: shape {array.shape}, give (..., 3) m")
        placed = torch.from_numpy(array.astype(np.float64))
        seen: Float = project(placed, self.motion.focal_length, (width / 2, height / 2)).numpy()
        return seen


@dataclass(frozen=True, eq=False)
class Result:
    """The people of one clip.

    Raises:
        UsageError: there are no people, or one is outside of `frames` or has another body than
            the others.
    """

    people: tuple[Human, ...]  # in the order of tracks.csv
    frames: range  # the indices of the clip's frames, also of those without people
    record: RunRecord  # what was computed from what: run.json
    folder: Path | None  # with overlay.mp4 and the other files; None: not saved

    def __post_init__(self) -> None:
        if not self.people:
            raise UsageError("a result has one person at least")
        for human in self.people:
            number, own = human.motion.id, human.motion.frame
            first, last = int(own[0]), int(own[-1])
            if first not in self.frames or last not in self.frames:
                raise UsageError(
                    f"person {number} is in frames {first} to {last}, "
                    f"the clip has {self.frames.start} to {self.frames.stop - 1}"
                )
            if human.motion.body != self.people[0].motion.body:
                raise UsageError(f"person {number} has another body than the first")

    def save(self, folder: PathLike) -> "Result":
        """Write tracks.csv, person_<id>.npz and run.json.

        `load`, `staf export` and the like read the folder. A result that was saved there before
        is replaced; what `staf run` made is not.

        Args:
            folder: is made where it does not exist.

        Returns:
            The same result, in its folder.

        Raises:
            UsageError: the folder holds what `staf run` made.
            OutputError: the folder cannot be written.
        """
        target = _path(folder)
        files.check_writable(target)
        with journal.opened(target) as log:
            saved_before = log.track_facts is not None and log.track_facts.of == SAVED
            if log.passes and not saved_before:
                raise UsageError(
                    f"{files.printable(target)}: holds what staf run has made; "
                    "choose another folder"
                )
            log.forget()
            log.begin()
            tracks = [human.track for human in self.people]
            tracks_csv.save(target / result_folder.TRACKS, tracks)
            paths = [person_npz.path_of(target, one.id) for one in tracks]
            for path, human in zip(paths, self.people, strict=True):
                person_npz.save(path, human.motion)
            # With `instead_of`, `staf run` in this folder does not track again unless forced to.
            facts = TrackFacts(self.frames.start, len(self.frames), SAVED, SAVED)
            digests = [files.sha256(path) for path in paths]
            log.keep("track", journal.key_of(SAVED), [result_folder.TRACKS], {}, facts)
            key = journal.key_of(SAVED, digests)
            log.keep("recover", key, [path.name for path in paths], {}, PeopleFacts({}))
            if saved_before:
                result_folder.remove_outdated(target, log.files)
                exports.remove_all_but(target, ())
            log.finish(replace(self.record, passes=log.passes))
        return _loaded(target, self.people[0].body)

    def export(
        self, name: str, folder: PathLike, options: ExportOptions | None = None
    ) -> list[Path]:
        """Write a format that other programs read, in place of what this wrote there before.

        exports.json in the folder lists the files; others are not touched.

        Args:
            name: one of those that `staf export --help` lists, such as "glb".
            folder: gets the files.
            options: how they are written; None: as `staf export` does by default.

        Returns:
            The files.

        Raises:
            UsageError: the format is unknown, or the options are not for it.
            OutputError: the folder cannot be written.
        """
        options = ExportOptions() if options is None else options
        _check_kind(options, ExportOptions)
        check_exports([name], options)
        target = _path(folder)
        tracks, people = [one.track for one in self.people], [one.motion for one in self.people]
        body = self.people[0].body
        if options.space == "world" and any(one.world_poses is None for one in people):
            camera = still_camera(np.array(self.frames))
            nobody = [None] * len(people)
            people = place_in_world(people, nobody, body, camera, WorldOptions(), tracks)
        how = (options.root_motion, options.rig, options.space)
        scene = Scene(tracks, people, body, self.frames, *how, clothes=self.record.clothes)
        return list(exports.write(target, name, scene))


@dataclass(frozen=True, eq=False)
class Boxes:
    """Where one person is in a sequence of frames: what `recover` is given.

    Boxes are used as they are: smooth ones make smooth people. Lists and torch tensors become
    arrays.

    Raises:
        UsageError: arrays have other shapes or numbers that are not finite, a box has no area,
            frames do not ascend, a confidence is not in [0, 1], or the name cannot be shown on a
            line.
    """

    box: NDArray[Any]  # (F, 4) x1, y1, x2, y2 px, around all of the person
    frame: NDArray[np.integer[Any]] | None = None  # (F,) indices; None: 0, 1, ..., F - 1
    kp2d: NDArray[Any] | None = None  # (F, 17, 3) COCO keypoints: x, y px, confidence in [0, 1]
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("box", "frame", "kp2d"):
            if name == "box" or getattr(self, name) is not None:
                object.__setattr__(self, name, _array(f"Boxes.{name}", getattr(self, name)))
        count = len(self.box) if self.box.ndim else 1
        shapes = {"box": (count, 4), "frame": (count,), "kp2d": (count, 17, 3)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape or array.dtype.kind not in "iuf":
                raise UsageError(
                    f"Boxes.{name}: shape {array.shape} {array.dtype}, give numbers {shape}"
                )
            if not np.isfinite(array).all():
                raise UsageError(f"Boxes.{name}: holds values that are not finite")
        if count == 0:
            raise UsageError("Boxes.box: is empty; leave out who is nowhere")
        if not (self.box[:, :2] < self.box[:, 2:]).all():
            raise UsageError("Boxes.box: needs x1 < x2 and y1 < y2 in every row")
        if (
            self.kp2d is not None
            and not ((self.kp2d[..., 2] >= 0) & (self.kp2d[..., 2] <= 1)).all()
        ):
            raise UsageError("Boxes.kp2d: needs confidences from 0 to 1 beside x and y")
        if not isinstance(self.name, str):
            raise UsageError(f"Boxes.name is {self.name!r:.60}: give text")
        if not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise UsageError(f"Boxes.name: has up to {LONGEST_NAME} letters")
        if self.frame is not None:
            whole = self.frame.dtype.kind in "iu"
            if not whole or self.frame[0] < 0 or (self.frame[1:] <= self.frame[:-1]).any():
                raise UsageError("Boxes.frame: needs whole numbers from 0 on, ascending")

    @property
    def indices(self) -> Ints:
        """(F,) int64, the frames' indices, given or not."""
        return np.arange(len(self.box)) if self.frame is None else self.frame.astype(np.int64)


def prepare(options: Options = DEFAULTS) -> Tools:
    """Load detector, network and body, to be shared by several calls of `run` and `recover`.

    Args:
        options: the same as those of the calls.

    Returns:
        What was loaded.

    Raises:
        WeightsError: weights or detector are missing or do not fit.
        BodyError: the body is missing or does not fit.
        MissingTool: the device, or the ffmpeg encoder, is not there.
        UsageError: options that do not go together.
    """
    _check_kind(options, Options)
    tools, notes = load_tools(options)
    _warn(notes)
    return tools


def prepare_recovery(options: RecoveryOptions = RECOVERY_DEFAULTS) -> Recovery:
    """Load network and body, without a detector, to be shared by several calls of `recover`.

    Args:
        options: the same as those of the calls.

    Returns:
        What was loaded.

    Raises:
        WeightsError: the weights are missing or do not fit.
        BodyError: the body is missing or does not fit.
        MissingTool: the device is not there.
        UsageError: options that do not go together.
    """
    _check_kind(options, RecoveryOptions)
    recovery, notes = load_recovery(options)
    _warn(notes)
    return recovery


def run(
    path: PathLike,
    output: PathLike = "out",
    options: Options = DEFAULTS,
    tools: Tools | None = None,
    watch: Watch = silent,
) -> Result:
    """Recover the people of a video, as `staf run` does; the same call again continues.

    Args:
        path: a video, or a folder of numbered pictures.
        output: gets a folder with the video's name, and in it the result.
        options: what to compute.
        tools: from `prepare` with the same options, to do several clips with one loaded network.
        watch: the progress callback; it passes every pass's items on.

    Returns:
        The people.

    Raises:
        VideoError: the video cannot be read.
        NobodyFound: no person was seen for long enough.
        TracksError: tracks that were edited by hand would be lost.
        OutOfMemory: the device is too small.
        OutputError: the folder cannot be written.
        UsageError: the options cannot be meant for this clip.
        WeightsError: weights or detector are missing; also what else `prepare` raises.
    """
    _check_kind(options, Options)
    _check_watch(watch)
    if tools is not None:
        _check_tools(options.recovery, tools, Tools)
    place = _path(path)
    summary, tools = run_single(place, _path(output), options, watch, _warn, tools)
    if summary.damage:
        _warn([f"{files.printable(place)}: is damaged; everything readable was done"])
    return _loaded(summary.folder, tools.body)


def load(folder: PathLike) -> Result:
    """Read a finished result.

    Args:
        folder: that `staf run`, `run` or `Result.save` made.

    Returns:
        The people.

    Raises:
        TracksError: the folder is no result, or is damaged.
        BodyError: the result's body is not on this machine.
    """
    return _loaded(_path(folder), None)


def _loaded(folder: Path, body: Body | None) -> Result:
    """Read a result folder; body: the result's own, where it is loaded already."""
    saved = result_folder.load(folder)
    track = saved.record.passes.get("track")
    if track is None or not isinstance(track.facts, TrackFacts):
        raise TracksError(
            f"{files.printable(folder / journal.RUN)}: was written by another version of staf; "
            "run the clip again"
        )
    body = body or rework.body_of(saved)
    together = zip(saved.people, saved.tracks, strict=True)
    people = tuple(Human(person, track, body) for person, track in together)
    return Result(people, track.facts.indices, saved.record, folder)


def read_frames(
    path: PathLike,
    span: Span = WHOLE,
    fps: float | None = None,
    deinterlace: bool = True,
    fit: bool = False,
) -> Iterator[Frame]:
    """Decode a video frame by frame, upright: exactly the frames that `run` sees.

    The file is checked for damage first.

    Args:
        path: a video, or a folder of numbered pictures.
        span: the part that is wanted.
        fps: of a folder of pictures.
        deinterlace: whether interlaced pictures are deinterlaced.
        fit: whether pictures of a folder are fitted that have another size than most.

    Returns:
        The frames: index, time in s, image (H, W, 3) uint8 RGB.

    Raises:
        VideoError: it cannot be read.
        UsageError: `fps` is given for a video.
    """
    clip = video.probe(local_path(_path(path)), span, _rate(fps), deinterlace, fit)
    damage = video.inspect(clip)
    _warn(video.remarks(clip, damage))
    return video.frames(clip, damage)


def recover(
    frames: Iterable[Image],
    boxes: Sequence[Boxes],
    *,
    fps: float | None = None,
    times: ArrayLike | None = None,
    options: RecoveryOptions = RECOVERY_DEFAULTS,
    tools: Recovery | None = None,
    watch: Watch = silent,
) -> Result:
    """Recover people whose boxes are known, in frames that may come from anywhere.

    The result is in memory only: see `Result.save`. Somebody needs nine frames in a row for the
    network to see motion. Source: the paper's network, its crops' cameras taken back to the
    whole image (recovery/placement.py).

    Args:
        frames: images (H, W, 3) uint8 RGB, all of one size: arrays, torch tensors or PIL pictures,
            looked at one by one and not kept; those after the last box are not taken. The first
            has index 0.
        boxes: one `Boxes` for each person; they become persons 1, 2, ... in this order.
        fps: frames a second; either this or times.
        times: (N,) s, ascending, one for each frame.
        options: weights, body, focal length, refinement, smoothing, device.
        tools: from `prepare_recovery` or `prepare` with the same options.
        watch: the progress callback.

    Returns:
        The people.

    Raises:
        UsageError: frames, boxes, times or options cannot be meant.
        OutOfMemory: not even one crop or window fits into the device's memory.
        WeightsError: weights are missing or do not fit; also what `prepare_recovery` raises.
    """
    _check_kind(options, RecoveryOptions)
    _check_watch(watch)
    boxes = _people(boxes)
    if tools is not None:
        _check_tools(options, tools, Recovery)
    count = 1 + max(int(one.indices[-1]) for one in boxes)
    time, rate = _clock(fps, times, count)
    tracks = [_track(number, one, time) for number, one in enumerate(boxes, 1)]
    should_refine(options, tracks, OPEN_WEIGHTS)  # raises before anything is loaded
    tools = tools or prepare_recovery(options)
    decided = replace(options, refine=should_refine(options, tracks, tools.weights))

    coming = _frames(frames, time)
    first = next(coming)
    height, width = first.image.shape[:2]
    for number, one in enumerate(boxes, 1):
        _check_place(number, one, width, height)
    clip = Clip(Path(GIVEN), width, height, rate, TICK, count, has_audio=False)
    source, spool = Source(clip, video.Damage(), ""), MemorySpool(len(tracks))
    passing: Iterable[Frame] = chain([first], coming)
    seen: list[LandmarkTrack] | None = None
    if tools.landmark_reader is not None and decided.refine:
        seen = []  # filled while the frames pass
        passing = follow(passing, tracks, tools.landmark_reader, rate, seen)
    recovered = recover_people(
        passing, tracks, seen, clip, source.damage, tools, decided, spool, watch
    )
    still = still_camera(np.arange(count))
    looks: Sequence[LandmarkTrack | None] = seen or [None] * len(tracks)
    placed = place_in_world(spool.people(), looks, tools.body, still, WorldOptions(), tracks)
    together = zip(placed, tracks, strict=True)
    people = tuple(Human(person, track, tools.body) for person, track in together)
    detector = DetectorRecord("none, boxes were given", "")
    record = describe_run(source, tracks, Options(recovery=options), tools, detector)
    record = replace(
        record,
        video=replace(record.video, path=GIVEN),
        smoothing=recovered.smoothing,
        seconds=recovered.seconds,
    )
    return Result(people, range(count), record, None)


def _clock(fps: float | None, times: ArrayLike | None, count: int) -> tuple[Float, float]:
    """When each of so many frames is shown, (count,) s, and how many come a second."""
    if (fps is None) == (times is None):
        raise UsageError("give either fps or times")
    if (fps := _rate(fps)) is not None:
        if not 0 < fps < math.inf:
            raise UsageError(f"fps is {fps}: give frames per second, above 0")
        return np.arange(count) / fps, float(fps)
    time = _array("times", times).astype(np.float64)
    if time.ndim != 1 or len(time) < max(2, count):
        raise UsageError(
            f"times has shape {time.shape}: give ({max(2, count)},) seconds, one a frame"
            " (fps for a single frame)"
        )
    if not np.isfinite(time).all() or (np.diff(time) <= 0).any():
        raise UsageError("times: needs seconds that ascend from frame to frame")
    return time[:count], float((len(time) - 1) / (time[-1] - time[0]))


def _track(number: int, boxes: Boxes, time: Float) -> Track:
    f = len(boxes.box)
    return Track(
        id=number,
        frame=boxes.indices,
        time=time[boxes.indices],
        box=boxes.box.astype(np.float64),
        score=np.ones(f),
        interpolated=np.zeros(f, bool),
        kp2d=np.zeros((f, 17, 3)) if boxes.kp2d is None else boxes.kp2d.astype(np.float64),
        name=boxes.name,
    )


def _frames(images: Iterable[Image], time: Float) -> Iterator[Frame]:
    """As many images as there are times. Raises UsageError where they are none, or too few."""
    size, came = None, 0
    if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
        raise UsageError(
            f"frames is {images!r:.60}: give images, such as (f.image for f in read_frames(path))"
        )
    for index, given in enumerate(islice(images, len(time))):
        image = _image(index, given)
        size = size or image.shape
        if image.shape != size or image.ndim != 3 or size[2] != 3 or image.dtype != np.uint8:
            raise UsageError(
                f"frame {index}: shape {image.shape} {image.dtype}; "
                "give (height, width, 3) uint8 in RGB, all of one size"
            )
        at = float(time[index])
        came = index + 1
        yield Frame(index, round(at / TICK), at, image)
    if came < len(time):
        raise UsageError(f"frames: only {came} came, and there is a box in frame {len(time) - 1}")


def _image(index: int, given: Any) -> NDArray[Any]:
    """An image as an array. Raises UsageError for what is none."""
    if given is None:
        raise UsageError(f"frame {index} is None: its picture could not be read; check its path")
    if isinstance(given, str | bytes | os.PathLike):
        raise UsageError(f"frame {index} is a file name, {given!r:.60}: give the picture itself")
    if hasattr(given, "convert"):  # of PIL, which knows colours and transparency of its own
        if given.mode.startswith(("I", "F")):  # PIL would cut off all above 255
            raise UsageError(f"frame {index}: has more than 8 bits a pixel; make it RGB first")
        given = given.convert("RGB")
    return _array(f"frame {index}", given.image if isinstance(given, Frame) else given)


def _array(name: str, given: Any) -> NDArray[Any]:
    """Numbers as an array: also lists and torch tensors. Raises UsageError for anything else."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise UsageError(f"{name}: no array can be made of it ({error!s:.100})") from error
    if array.dtype.kind not in "biuf":
        if isinstance(given, np.ndarray):
            raise UsageError(f"{name}: shape {array.shape} {array.dtype}, give numbers")
        raise UsageError(f"{name} is {given!r:.60}: give numbers")
    return array


def _rate(fps: Any) -> float | None:
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, Real)):
        raise UsageError(f"fps is {fps!r:.60}: give a number")
    return None if fps is None else float(fps)  # of NumPy, or a fraction as videos have it


def _path(given: Any) -> Path:
    """A path. Raises UsageError for what is none, such as the number of a camera."""
    try:
        return Path(os.fsdecode(given))
    except TypeError as error:
        raise UsageError(f"{given!r:.60} is no path: give the name of a file or folder") from error


def _people(boxes: Any) -> list[Boxes]:
    """The boxes of all people, or of one. Raises UsageError for anything else."""
    given = [boxes] if isinstance(boxes, Boxes) else boxes
    if not isinstance(given, Iterable):
        raise UsageError(f"boxes is {given!r:.60}: give one Boxes for every person")
    people = list(given)
    if not people:
        raise UsageError("no boxes: give one Boxes for every person")
    for number, one in enumerate(people):
        if not isinstance(one, Boxes):
            raise UsageError(f"boxes[{number}] is {type(one).__name__}: give Boxes(box) of it")
    return people


def _check_place(number: int, boxes: Boxes, width: int, height: int) -> None:
    """Raise UsageError for boxes and keypoints that cannot be pixels of this image."""
    image = f"the image has {width} x {height} px"
    points = None if boxes.kp2d is None else boxes.kp2d[boxes.kp2d[..., 2] > 0, :2]
    for name, values in (("box", boxes.box), ("kp2d", points)):
        if values is not None and len(values) and values.min() >= 0 and values.max() <= 1:
            raise UsageError(
                f"person {number}: {name} is in 0..1, {image}; "
                "multiply x by its width and y by its height"
            )
    x1, y1, x2, y2 = boxes.box.astype(np.float64).T
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    huge = np.maximum(x2 - x1, y2 - y1) > LARGEST_BOX * max(width, height)
    for wrong, what in ((outside, "wholly outside"), (huge, "far larger than the image")):
        if wrong.any():
            row = int(wrong.argmax())
            raise UsageError(
                f"person {number}, frame {boxes.indices[row]}: the box {boxes.box[row].tolist()} "
                f"is {what}, {image}"
            )


def _check_tools(options: RecoveryOptions, tools: Any, kind: type[Recovery]) -> None:
    """Raise UsageError for tools of another kind, and where the options ask for others."""
    if not isinstance(tools, kind):
        raise UsageError(
            f"tools is {type(tools).__name__}: give what prepare returns, or for recover what "
            "prepare_recovery returns"
        )
    loaded = {"weights": tools.weights.rsplit(maxsplit=1)[0], "body": tools.body.name}
    for name, own in loaded.items():
        wanted = getattr(options, name)
        if wanted is not None and own not in (wanted, Path(wanted).stem):
            raise UsageError(
                f"options ask for {name} {wanted}, the tools have {own}; prepare them with the same"
            )


def _check_watch(watch: object) -> None:
    """Raise UsageError for a progress callback that cannot be called."""
    if not callable(watch):
        raise UsageError(f"watch is {watch!r:.60}: give a function of (what, items, total)")


def _check_kind(options: object, kind: type[object]) -> None:
    """Raise UsageError for another record of options."""
    if not isinstance(options, kind):
        raise UsageError(
            f"options is {type(options).__name__}: give {kind.__name__}; Options are for run and "
            "prepare, RecoveryOptions for recover and prepare_recovery, ExportOptions for export"
        )


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        warnings.warn(line, stacklevel=3)
