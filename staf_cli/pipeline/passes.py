"""The passes over a clip: track, camera, landmarks, recover, show; between them only small tables.

Each is a chain of generators over the clip's frames, so memory does not grow with the clip.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import dropwhile, pairwise, repeat
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli import video
from staf_cli.body.posing import vertices
from staf_cli.body.skinning import Body
from staf_cli.camera.background import follow_background, zoom_of
from staf_cli.camera.estimate import estimate
from staf_cli.camera.focal import find_focal
from staf_cli.core import files
from staf_cli.core.camera_motion import CameraMotion, still_camera
from staf_cli.core.errors import NobodyFound
from staf_cli.core.progress import Watch
from staf_cli.core.records import (
    STRETCH_FRAMES,
    Clip,
    Detections,
    Float,
    Float32,
    Frame,
    LandmarkTrack,
    Person,
    Track,
)
from staf_cli.core.threads import in_thread
from staf_cli.export.motion import in_level_camera
from staf_cli.landmarks.both_ways import follow_both_ways
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.reader import CropReader
from staf_cli.landmarks.reading import look_at
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.options import Look, Options
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.placement import default_focal
from staf_cli.recovery.recover import Recovered, recover_people
from staf_cli.recovery.spool import DiskSpool
from staf_cli.rendering import (
    Camera,
    Figure,
    SideView,
    open_rasterizer,
    overlay,
    side_view,
)
from staf_cli.result import camera_npz, landmarks_npz, person_npz
from staf_cli.result import folder as result_folder
from staf_cli.tracking.detection import detect
from staf_cli.tracking.linking import choose_people, link_people
from staf_cli.tracking.shots import find_cuts
from staf_cli.world.camera_path import with_path
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import PLACED_TOGETHER, find_axes, place_stretches, survey

SKINNED_TOGETHER = 16  # frames of a person: a sixth of the time of single ones, 1.3 MB

# A mesh (V, 3), m: in the camera frame, and, for a side view of the world, of a level camera.
Meshes = tuple[Float32, Float32 | None]


@dataclass(frozen=True)
class Source:
    """A video, checked for damage once: every pass decodes the same frames from it."""

    clip: Clip
    damage: video.Damage
    sha256: str  # of the video's content

    @property
    def pictures(self) -> list[Any]:
        """All that decides what the frames look like, for keys."""
        return [self.sha256, self.clip.deinterlace, self.clip.fit]

    def decode(self) -> Iterator[Frame]:
        """Yield all frames in order, decoded in a thread a little ahead of their use."""
        return in_thread(video.frames(self.clip, self.damage))

    def decode_before(self, times: Float, end: int) -> Iterator[Frame]:
        """Yield the frames before one of these (T,), times in s, the last one first."""
        return video.frames_before(self.clip, self.damage, times, end)


def track_people(
    source: Source, options: Options, tools: Tools, watch: Watch
) -> tuple[range, list[Track], int]:
    """First pass: find out who is where.

    Args:
        source: the video.
        options: detector, tracker, and who is kept.
        tools: the detector.
        watch: the progress callback.

    Returns:
        The indices of the clip's frames, the tracks, and how many people were left out because
        the options limit their number.

    Raises:
        NobodyFound: no person was seen for long enough.
        VideoError: the video cannot be decoded.
        OutOfMemory: the device is too small for the detector.
        UsageError: a person is asked for who is not in the clip.
    """
    cuts: list[int] = []
    frames = range(0)

    def counted() -> Iterator[Detections]:
        nonlocal frames
        for seen in detect(
            find_cuts(watch("track", source.decode(), source.clip.frames), cuts),
            tools.detector,
            tracker=options.tracker,
            conf=options.tracks.conf,
            pixels=options.detect_size,
            device=tools.settings.device,
            dtype=tools.settings.dtype,
        ):
            frames = range(frames.start if frames else seen.frame, seen.frame + 1)
            yield seen

    linked = link_people(counted(), cuts)
    if tools.landmark_reader is not None:
        look = partial(look_at, tools.landmark_reader)
        shots = list(pairwise([*frames[:1], *cuts, frames.stop])) if frames else []

        on = source.decode()  # once for all stretches, which come in order

        def read(first: int, backwards: bool) -> Iterator[Frame]:
            if not backwards:
                return dropwhile(lambda frame: frame.index < first, on)
            return source.decode_before(linked.time, first + 1 - frames.start)

        people = follow_both_ways(linked.people, shots, read, look, source.clip.image_size)
        linked = replace(linked, people=people)
    selected = choose_people(linked, options.tracks)
    if not selected.tracks:
        raise NobodyFound(_nobody(source.clip, len(frames), selected.longest, options))
    return frames, selected.tracks, selected.left_out


def _nobody(clip: Clip, frames: int, longest: float, options: Options) -> str:
    """The error where nobody is kept; longest: s, for which anybody was seen."""
    seen = f"the longest was {longest:.2g} s" if longest else "nobody at all was seen"
    too_short = 0 < longest < options.tracks.min_track
    shorter = f" or --min-track {floor(1000 * longest) / 1000:g}" if too_short else ""
    return (
        f"{files.printable(clip.path)}: nobody was seen for long enough in {frames} frames "
        f"({seen}); try --conf 0.1{shorter}"
    )


def follow_camera(
    source: Source, tracks: Sequence[Track], given: float | None, tripod: bool, watch: Watch
) -> CameraMotion:
    """Estimate how the camera turns, from what is behind the people.

    Args:
        source: the video.
        tracks: the people.
        given: px, the focal length that the user knows; None: it is measured where turns tell it.
        tripod: whether a camera that does not move beyond noise counts as one at rest.
        watch: the progress callback.

    Returns:
        A row for each frame.

    Raises:
        VideoError: the video cannot be decoded.
    """
    cuts: list[int] = []
    frames = find_cuts(watch("camera", source.decode(), source.clip.frames), cuts)
    background = follow_background(frames, tracks, cuts)
    size = source.clip.image_size
    if given is None:
        found = find_focal(background)
        if found is not None:
            motion = estimate(background, found.pixels, tripod)
            if motion.moving and not motion.travels.any():  # else it was no turn that told it
                return replace(motion, focal_length=found.pixels / zoom_of(size))
    return estimate(background, (given or default_focal(size)) * zoom_of(size), tripod)


def read_landmarks(
    source: Source, tracks: Sequence[Track], network: CropReader, watch: Watch
) -> list[LandmarkTrack]:
    """Look at some people with the landmark network.

    Args:
        source: the video.
        tracks: the people; none: no frame is decoded.
        network: on the device that computes.
        watch: the progress callback.

    Returns:
        A record for each track.

    Raises:
        VideoError: the video cannot be decoded.
    """
    found: list[LandmarkTrack] = []
    if tracks:
        frames = watch("landmarks", source.decode(), source.clip.frames)
        for _ in follow(frames, tracks, network, source.clip.fps, found):
            pass
    return found


def recover_tracks(
    source: Source,
    tracks: Sequence[Track],
    landmarks: Sequence[LandmarkTrack] | None,
    options: RecoveryOptions,
    tools: Tools,
    folder: Path,
    watch: Watch,
) -> tuple[DiskSpool, Recovered]:
    """Second pass: recover the bodies of some tracks.

    Args:
        source: the video.
        tracks: the people; none: no frame is decoded.
        landmarks: of the same people; None: bodies are fitted without.
        options: with `refine` decided.
        tools: network and body.
        folder: gets temporary files.
        watch: the progress callback.

    Returns:
        The people in temporary files, and what is worth knowing of the recovery.

    Raises:
        VideoError: the video cannot be decoded.
        OutOfMemory: not even one crop or window fits into the device's memory.
        WeightsError: the network's answer is not finite.
    """
    spool = DiskSpool(len(tracks), folder)
    if not tracks:
        return spool, Recovered(None, {"recover": 0.0})
    return spool, recover_people(
        source.decode(),
        tracks,
        landmarks,
        source.clip,
        source.damage,
        tools,
        options,
        spool,
        watch,
    )


def place_people(
    tracks: Sequence[Track], options: WorldOptions, body: Body, folder: Path, frames: range
) -> Iterator[tuple[DiskSpool, Path]]:
    """Place people in the world, one after the other.

    Args:
        tracks: of the people.
        options: what the user knows and wants.
        body: the people's.
        folder: holds the people's files, and gets temporary ones.
        frames: the indices of the clip's frames.

    Yields:
        Each person in temporary files, and the path of their own.

    Raises:
        TracksError: a person's file, that of their landmarks, or that of the camera is damaged.
    """
    paths = [person_npz.path_of(folder, track.id) for track in tracks]
    filmed = (person_npz.stretches(path, STRETCH_FRAMES) for path in paths)
    camera = with_path(camera_of(folder, frames), filmed, body)
    surveyed = [
        survey(person_npz.stretches(path), len(track.frame), body, camera)
        for track, path in zip(tracks, paths, strict=True)
    ]
    axes = find_axes(surveyed, options)
    for track, path in zip(tracks, paths, strict=True):
        looks = landmarks_npz.path_of(folder, track.id)
        seen = landmarks_npz.load(looks) if looks.exists() else None
        spool = DiskSpool(1, folder)
        stretches = person_npz.stretches(path, PLACED_TOGETHER)
        for stretch in place_stretches(stretches, seen, track, body, camera, axes, options):
            spool.add(0, stretch)
        yield spool, path


def camera_of(folder: Path, frames: range) -> CameraMotion:
    """Read how the camera moved; where nobody has looked it stood still.

    Args:
        folder: of the clip's results.
        frames: the indices of the clip's frames.

    Returns:
        Its motion over the clip.

    Raises:
        TracksError: the camera's file is damaged.
    """
    path = folder / camera_npz.FILE
    return camera_npz.load(path) if path.exists() else still_camera(np.array(frames))


def draw_overlay(
    source: Source,
    folder: Path,
    tracks: Sequence[Track],
    path: Path,
    body: Body,
    look: Look,
    watch: Watch,
) -> list[str]:
    """Third pass: draw all people over the video.

    Args:
        source: the video.
        folder: holds the people's files.
        tracks: of the people.
        path: of the overlay.
        body: the people's.
        look: what is shown, and how it is encoded.
        watch: the progress callback.

    Returns:
        Lines that the user should see.

    Raises:
        VideoError: the video cannot be decoded.
        TracksError: a person's file does not fit its track.
        MissingTool: renderer or encoder are not there.
        OutputError: the overlay cannot be written.
    """
    side, in_world = None, False
    if look.side_view:
        joints, in_world = result_folder.sample_joints(folder, tracks)
        side = side_view(joints, source.clip.image_size, 0.0 if in_world else None)
    skin = partial(_meshes, body, in_world)
    drawn = _drawn(source.decode(), folder, tracks, body, look, side, skin)
    shown = watch("show", in_thread(drawn), source.clip.frames)
    if source.clip.still and look.codec is None:
        video.write_picture(path, source.clip, shown)
        return []
    note = video.write(path, source.clip, shown, look.codec)
    return [note] if note else []


def _drawn(
    frames: Iterable[Frame],
    folder: Path,
    tracks: Sequence[Track],
    body: Body,
    look: Look,
    side: SideView | None,
    skin: Callable[[Person], Iterator[Meshes]],
) -> Iterator[Frame]:
    """Each frame with all people in it drawn over it."""
    faces, style = body.faces.astype(np.int32), look.style(body.arrays, side)
    one = result_folder.first_frame_of(folder, tracks[0])
    camera = Camera.centred(one.focal_length, one.image_size)
    with open_rasterizer(look.renderer) as rasterizer:  # GL draws in the thread that opened it
        for frame, here in result_folder.frames_with_saved_people(frames, folder, tracks, skin):
            figures = [
                Figure(
                    tracks[number].id,
                    mesh,
                    tracks[number].box[row],
                    tracks[number].kp2d[row],
                    tracks[number].name,
                    placed,
                )
                for (number, row), (mesh, placed) in here
            ]
            image = overlay(frame.image, figures, faces, camera, rasterizer, style)
            yield Frame(frame.index, frame.pts, frame.time, image)


def _meshes(body: Body, in_world: bool, person: Person) -> Iterator[Meshes]:
    """A person's meshes in each frame; skinned several frames at a time."""
    placed = in_level_camera(person) if in_world else None
    for first in range(0, len(person.frame), SKINNED_TOGETHER):
        rows = slice(first, first + SKINNED_TOGETHER)
        beside = vertices(placed, body, rows) if placed else repeat(None)
        yield from zip(vertices(person, body, rows), beside, strict=False)
