"""The three passes over a clip: track, recover, show; between them only small tables.

Each is a chain of generators over the clip's frames, so memory does not grow with the clip.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from staf_cli import video
from staf_cli.body.posing import vertices
from staf_cli.body.skinning import Body
from staf_cli.core import files
from staf_cli.core.errors import NobodyFound
from staf_cli.core.records import Clip, Detections, Frame, Person, Track, select_rows
from staf_cli.fitting.refine import refine_stretches
from staf_cli.fitting.smoothing import Effect, common_shape, effect, smooth_stretches, with_shape
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.options import Look, Options
from staf_cli.recovery import engine
from staf_cli.recovery.placement import default_focal, place
from staf_cli.rendering import (
    Camera,
    Figure,
    Rasterizer,
    Style,
    open_rasterizer,
    overlay,
    side_view,
)
from staf_cli.result import folder as result_folder
from staf_cli.result import person_npz
from staf_cli.tracking.detection import detect
from staf_cli.tracking.linking import build_tracks
from staf_cli.tracking.shots import watch_cuts

Item = TypeVar("Item")


class Watch(Protocol):
    """Passes items on and shows how a pass is getting along; `total` may be unknown."""

    def __call__(self, what: str, items: Iterable[Item], total: int | None) -> Iterator[Item]: ...


@dataclass(frozen=True)
class Source:
    """A video, looked through once: every pass decodes the same frames from it."""

    clip: Clip
    damage: video.Damage
    sha256: str  # of the video's content

    def frames(self, what: str, watch: Watch) -> Iterator[Frame]:
        """All its frames in order, watched as the pass `what`."""
        return watch(what, video.frames(self.clip, self.damage), self.clip.frames)


def track(
    source: Source, options: Options, tools: Tools, watch: Watch
) -> tuple[range, list[Track]]:
    """First pass: who is where. Gives the indices of the frames and the tracks."""
    cuts: list[int] = []
    frames = range(0)

    def counted() -> Iterator[Detections]:
        nonlocal frames
        for seen in detect(
            watch_cuts(source.frames("track", watch), cuts),
            tools.detector,
            tracker=options.tracker,
            conf=options.tracks.conf,
            device=tools.settings.device,
        ):
            frames = range(frames.start if frames else seen.frame, seen.frame + 1)
            yield seen

    tracks = build_tracks(counted(), cuts, options.tracks)
    if not tracks:
        raise NobodyFound(
            f"{files.printable(source.clip.path)}: nobody was seen for long enough in "
            f"{len(frames)} frames; try --conf 0.1 or --min-track 5"
        )
    return frames, tracks


def recover(
    source: Source,
    tracks: Sequence[Track],
    options: Options,
    tools: Tools,
    folder: Path,
    watch: Watch,
) -> list[list[Path]]:
    """Second pass: the network's parameters of everybody, placed in the image's camera.

    Gives for each track the temporary files of its stretches, in order.
    """
    frames = source.frames("recover", watch)
    focal = options.focal or default_focal(source.clip.image_size)
    parts: list[list[Path]] = [[] for _ in tracks]
    for number, rows, estimate in engine.stretches(
        frames, tracks, tools.network, tools.crop_scale, tools.settings
    ):
        own = select_rows(tracks[number], rows)
        person = replace(
            place(own, estimate, source.clip, tools.body, tools.weights, focal),
            damaged_packets=source.damage.packets,
            missing_packets=source.damage.missing,
        )
        path = folder / f"{files.TEMPORARY}{person.id}-{len(parts[number])}.npz"
        person_npz.save(path, person)
        parts[number].append(path)
    return parts


def refined(parts: Sequence[Sequence[Path]], tracks: Sequence[Track], body: Body) -> Iterator[Path]:
    """Fit the tracks' people, in their files, to the keypoints; gives each file as it is done."""
    for its_track, own in zip(tracks, parts, strict=True):
        refined = refine_stretches(map(person_npz.load, own), its_track, body)
        for path, person in zip(own, refined, strict=True):
            person_npz.save(path, person)
            yield path


def steady(parts: Sequence[Sequence[Path]], body: Body, options: Options) -> Iterator[Effect]:
    """Give everybody one shape and smooth them, as far as asked for, in their files.

    Tells for each file what that did to it.
    """
    for own in parts:
        people: Iterator[Person] = map(person_npz.load, own)
        if options.constant_shape:
            people = _with_common_shape(people, own, body)
        steadied = smooth_stretches(people, body, options.smooth)
        for path, person in zip(own, steadied, strict=True):
            yield effect(person_npz.load(path), person)  # the file still holds what it was
            person_npz.save(path, person)


def _with_common_shape(
    people: Iterable[Person], parts: Sequence[Path], body: Body
) -> Iterator[Person]:
    everywhere = [person_npz.load(path) for path in parts]
    betas, score, interpolated = (
        np.concatenate([getattr(one, name) for one in everywhere])
        for name in ("betas", "score", "interpolated")
    )
    shape = common_shape(betas, score, interpolated)
    return (with_shape(person, body, shape) for person in people)


def show(
    source: Source,
    folder: Path,
    tracks: Sequence[Track],
    path: Path,
    body: Body,
    look: Look,
    watch: Watch,
) -> list[str]:
    """Third pass: draw everybody over the video, into a file. Gives lines for the user."""
    side = None
    if look.side_view:
        side = side_view(result_folder.joints(folder, tracks), source.clip.image_size)
    frames = source.frames("show", watch)
    with open_rasterizer(look.renderer) as rasterizer:
        drawn = _drawn(frames, folder, tracks, body, rasterizer, look.style(side))
        note = video.write(path, source.clip, drawn, look.codec)
    return [note] if note else []


def _drawn(
    frames: Iterable[Frame],
    folder: Path,
    tracks: Sequence[Track],
    body: Body,
    rasterizer: Rasterizer,
    style: Style,
) -> Iterator[Frame]:
    """Each frame with everybody who is in it drawn on it."""
    faces = body.faces.astype(np.int32)
    one = result_folder.anybody(folder, tracks)
    camera = Camera.centred(one.focal_length, one.image_size)
    for frame, here in result_folder.attend(frames, folder, tracks):
        figures = [
            Figure(
                person.id,
                vertices(person, body, slice(0, 1))[0],
                tracks[number].box[row],
                tracks[number].kp2d[row],
                tracks[number].name,
            )
            for (number, row), person in here
        ]
        image = overlay(frame.image, figures, faces, camera, rasterizer, style)
        yield Frame(frame.index, frame.pts, frame.time, image)
