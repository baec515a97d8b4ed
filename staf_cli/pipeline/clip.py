"""One clip from video to results, in passes: track, camera, landmarks, recover, show.

`run_clip` is the whole way on one screen; passes.py has the passes. The tables between them are
files: each pass reads what the one before wrote, and a pass that is up to date is not done again
(result/journal.py).
"""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from staf_cli import report, video
from staf_cli.body.skinning import Body
from staf_cli.core import files
from staf_cli.core.compiled import free_results, openvino_version
from staf_cli.core.errors import TracksError
from staf_cli.core.interrupts import cleanup
from staf_cli.core.memory import give_back
from staf_cli.core.numbered import pack
from staf_cli.core.options import Rig, Space
from staf_cli.core.progress import Watch
from staf_cli.core.records import Clip, Track
from staf_cli.core.version import __version__
from staf_cli.export import FORMATS, WORLD_FORMATS, Scene
from staf_cli.pipeline import passes
from staf_cli.pipeline.loading import Tools
from staf_cli.pipeline.options import ExportOptions, Look, Options
from staf_cli.pipeline.passes import Source
from staf_cli.recovery.cadence import choose_cadence
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.placement import default_focal
from staf_cli.recovery.recover import Recovery, should_refine
from staf_cli.result import camera_npz, exports, journal, landmarks_npz, person_npz, tracks_csv
from staf_cli.result import folder as result_folder
from staf_cli.result.journal import Journal, key_of
from staf_cli.result.run_record import (
    CameraFacts,
    DetectorRecord,
    PeopleFacts,
    Presence,
    RunRecord,
    TrackFacts,
    VideoRecord,
)
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import place_in_world

EXPORT_CHOICES = tuple(
    (ExportOptions(root_motion, rig, space), clothes)
    for root_motion in (False, True)
    for rig in get_args(Rig)
    for space in get_args(Space)
    for clothes in (False, True)
)
LIBRARIES = ("torch", "numpy", "opencv-python", "av", "ultralytics")  # named in run.json


@dataclass(frozen=True)
class Summary:
    """What there is to print of a finished run."""

    folder: Path
    overlay: Path
    people: list[Presence]
    frames: int
    still: bool  # the clip is one picture
    damage: video.Damage
    camera: str  # how it moves, in a few words; "" where it is said to be static
    seconds: dict[str, float]  # by part of every pass, whenever it was done
    notes: list[str]  # lines for the user
    reused: bool  # everything was up to date

    @property
    def times(self) -> str:
        """How long each part took; its frames a second, unless it was too short to measure."""
        return ", ".join(
            f"{name} {took:.1f} s" + (f" ({self.frames / took:.1f} frames/s)" if took else "")
            for name, took in self.seconds.items()
        )


def run_clip(
    path: Path,
    folder: Path,
    options: Options,
    tools: Tools,
    watch: Watch,
    edited: Sequence[Track] | None = None,
) -> Summary:
    """Recover the people of a video and write the results into a folder of the clip's own.

    What is up to date in the folder, from this video and with these options, is kept. After an
    error the folder is as it was, or marked as unfinished, and the same call continues there.

    Args:
        path: a video file, or a folder of numbered pictures.
        folder: of the clip's results.
        options: what to compute.
        tools: from `loading.prepare` with the same options.
        watch: the progress callback.
        edited: tracks corrected by hand, in place of those that would be found.

    Returns:
        What there is to print.

    Raises:
        VideoError: the video cannot be read.
        NobodyFound: no person was seen for long enough.
        TracksError: the edited tracks do not fit, or would be lost.
        OutOfMemory: the device is too small.
        OutputError: the folder cannot be written.
        UsageError: the options cannot be meant for this clip.
    """
    result_folder.check_free(folder, path)
    files.check_writable(folder)
    with journal.opened(folder) as log:
        if options.force:
            log.forget()
        source = check_source(open_clip(path, options), log)
        choose_cadence(source.clip.fps, options.recovery.every)  # raises before any work
        if edited is None:
            tracks = _track(source, options, tools, log, watch)
        else:
            tracks = _use_edited(edited, source, options, tools, log, watch)
        _free_memory()
        source = with_frame_count(source, len(log.frames))
        refine = should_refine(options.recovery, tracks, tools.weights)
        _follow_camera(source, tracks, options, log, watch)
        focal = _focal(source, options.recovery, log)
        recovery = replace(options.recovery, refine=refine, focal=focal)
        _read_landmarks(source, tracks, recovery, tools, log, watch)
        _free_memory()
        _recover(source, tracks, recovery, tools, log, watch)
        _free_memory()
        _place(tracks, options.world, tools.body, log, watch)
        overlay, notes = show(source, tracks, options.look, tools.body, log, watch)
        clothes = options.look.clothes
        export(tracks, options.export, options.exporting, clothes, tools.body, log, watch)
        return _finish_run(source, tracks, overlay, notes, options, tools, log)


def _free_memory() -> None:
    """Free what a pass with a network leaves, which is of no use to the next one."""
    free_results()
    give_back()


def tracking_key(path: Path, options: Options, tools: Tools) -> str:
    """Hash a video and everything that decides who is found in it.

    Args:
        path: the video.
        options: span, rate, tracker, and who is kept.
        tools: the detector.

    Returns:
        The hash in hexadecimal.

    Raises:
        VideoError: the video cannot be read.
    """
    return _track_key(video.content_hash(path), options, tools)


def open_clip(path: Path, options: Options) -> Clip:
    """Read a video's description.

    Args:
        path: a video file, or a folder of numbered pictures.
        options: how it is read.

    Returns:
        The clip.

    Raises:
        VideoError: it cannot be read.
        UsageError: `fps` is given for a video.
    """
    return video.probe(path, options.span, options.fps, options.deinterlace, options.fit)


def check_source(clip: Clip, log: Journal) -> Source:
    """Count a video's damage, unless the journal knows it.

    Args:
        clip: the video's description.
        log: the clip's journal.

    Returns:
        The video.

    Raises:
        VideoError: it cannot be read.
    """
    sha256 = video.content_hash(clip.path)
    key = key_of("check", __version__, sha256, asdict(clip.span), clip.fps, clip.fit)
    known = log.up_to_date("check", key)
    if known and isinstance(known.facts, video.Damage):
        return Source(clip, known.facts, sha256)
    start = time.perf_counter()
    damage = video.inspect(clip)
    log.keep("check", key, [], {"check": time.perf_counter() - start}, damage)
    return Source(clip, damage, sha256)


def with_frame_count(source: Source, frames: int) -> Source:
    """Set how many frames a video has, as the first pass counted them.

    Args:
        source: the video.
        frames: how many it has.

    Returns:
        The video with that number.
    """
    return replace(source, clip=replace(source.clip, frames=frames))


def _track(
    source: Source, options: Options, tools: Tools, log: Journal, watch: Watch
) -> list[Track]:
    """The tracks, as later passes read them from tracks.csv."""
    key = _track_key(source.sha256, options, tools)
    path = log.folder / result_folder.TRACKS
    if not _tracks_up_to_date(key, log):
        start = time.perf_counter()
        frames, tracks, left_out = passes.track_people(source, options, tools, watch)
        seconds = {"track": time.perf_counter() - start}
        # Raises before anything is replaced where refinement is asked for and impossible.
        should_refine(options.recovery, tracks, tools.weights)
        log.begin()
        tracks_csv.save(path, tracks)
        del tracks  # before they are read again: those of a long clip are large
        checked = log.passes["check"].key
        facts = TrackFacts(frames.start, len(frames), checked, left_out=left_out)
        log.keep("track", key, [path.name], seconds, facts)
        log.save()
    return tracks_csv.load(path)


def _tracks_up_to_date(key: str, log: Journal) -> bool:
    """Whether the folder has the tracks of this key, or tracks that were edited from them.

    Args:
        key: of the tracks that are wanted.
        log: the clip's journal.

    Returns:
        Whether tracking can be skipped.

    Raises:
        TracksError: tracking again would lose what was edited by hand.
    """
    known = log.passes.get("track")
    if known is None:
        return False
    table = log.folder / result_folder.TRACKS
    facts = log.track_facts
    replaced = facts.instead_of if facts else None
    changed = log.edited("track") is not None
    if changed or (replaced and replaced != key and log.up_to_date("track", known.key)):
        raise TracksError(
            f"{table}: was changed by hand; go on with it by --tracks {table}, "
            "or add --force to find everybody anew"
        )
    return log.up_to_date("track", known.key if replaced else key) is not None


def _use_edited(
    tracks: Sequence[Track],
    source: Source,
    options: Options,
    tools: Tools,
    log: Journal,
    watch: Watch,
) -> list[Track]:
    """Write edited tracks to tracks.csv, in place of those that would be found.

    Args:
        tracks: the edited ones.
        source: the video.
        options: with those of tracking, for the key.
        tools: with the detector, for the key.
        log: the clip's journal.
        watch: the progress callback.

    Returns:
        The tracks, as later passes read them from tracks.csv.

    Raises:
        TracksError: they do not fit the video.
    """
    found = _track_key(source.sha256, options, tools)
    path = log.folder / result_folder.TRACKS
    key = key_of("edited", found, [[one.digest, one.name] for one in tracks])
    should_refine(options.recovery, tracks, tools.weights)  # raises before anything is replaced
    if not log.up_to_date("track", key):
        frames = _frame_indices(source, log, watch)
        for one in tracks:
            if one.frame[0] not in frames or one.frame[-1] not in frames:
                raise TracksError(
                    f"tracks: person {one.id} is in frames {one.frame[0]} to "
                    f"{one.frame[-1]}, the video has {frames.start} to {frames.stop - 1}"
                )
        log.begin()
        tracks_csv.save(path, tracks)
        facts = TrackFacts(frames.start, len(frames), log.passes["check"].key, found)
        log.keep("track", key, [path.name], {}, facts)
        log.save()
    return tracks_csv.load(path)


def _frame_indices(source: Source, log: Journal, watch: Watch) -> range:
    """The indices of a clip's frames, as an earlier first pass counted them or counted now."""
    facts = log.track_facts
    if facts and facts.of == log.passes["check"].key:
        return facts.indices
    frames = watch("count", source.decode(), source.clip.frames)
    indices = [frame.index for frame in frames]
    return range(indices[0], indices[-1] + 1)


def _follow_camera(
    source: Source, tracks: Sequence[Track], options: Options, log: Journal, watch: Watch
) -> None:
    """Estimate how the camera moves, unless it is known or said to be static."""
    if options.camera == "static" or source.clip.still:
        if "camera" in log.passes:
            log.begin()
            log.drop("camera")
            log.save()
            (log.folder / camera_npz.FILE).unlink(missing_ok=True)  # the world would follow it
        return
    people, given = [one.digest for one in tracks], options.recovery.focal
    key = key_of("camera", __version__, *source.pictures, people, options.camera, given)
    if log.up_to_date("camera", key):
        return
    start = time.perf_counter()
    motion = passes.follow_camera(source, tracks, given, options.camera == "auto", watch)
    log.begin()
    camera_npz.save(log.folder / camera_npz.FILE, motion)
    seconds = {"camera": time.perf_counter() - start}
    log.keep("camera", key, [camera_npz.FILE], seconds, CameraFacts.of(motion))
    log.save()


def _focal(source: Source, options: RecoveryOptions, log: Journal) -> float:
    """The focal length, px: as given, as the camera's turns told it, or the usual one."""
    measured = log.camera_facts.focal_length if log.camera_facts else None
    return options.focal or measured or default_focal(source.clip.image_size)


def _read_landmarks(
    source: Source,
    tracks: Sequence[Track],
    options: RecoveryOptions,
    tools: Tools,
    log: Journal,
    watch: Watch,
) -> None:
    """Look at people with the landmark network, if that is wanted; who is unchanged is kept."""
    if tools.landmark_reader is None or not options.refine:
        if "landmarks" in log.passes:
            log.drop("landmarks")
        return
    paths = {one.id: landmarks_npz.path_of(log.folder, one.id) for one in tracks}
    how = [*source.pictures, tools.settings.device.type]
    keys = {one.id: key_of("landmarks", __version__, one.digest, *how) for one in tracks}
    key = _key_of_all(keys)
    if log.up_to_date("landmarks", key):
        return
    start = time.perf_counter()
    outdated = _outdated(tracks, "landmarks", keys, paths, log)
    found = passes.read_landmarks(source, outdated, tools.landmark_reader, watch)
    log.begin()
    for one in found:
        landmarks_npz.save(paths[one.id], one)
    seconds = {"landmarks": time.perf_counter() - start}
    names = [path.name for path in paths.values()]
    log.keep("landmarks", key, names, seconds, PeopleFacts(keys))
    log.save()


def _recover(
    source: Source,
    tracks: Sequence[Track],
    options: RecoveryOptions,
    tools: Tools,
    log: Journal,
    watch: Watch,
) -> None:
    """Recover people into their files; who is unchanged is not recovered again."""
    paths = {one.id: person_npz.path_of(log.folder, one.id) for one in tracks}
    keys = _person_keys(source, tracks, options, tools, log)
    key = _key_of_all(keys)
    if log.up_to_date("recover", key):
        return
    outdated = _outdated(tracks, "recover", keys, paths, log)
    seen = None
    if log.landmark_facts is not None:
        seen = [landmarks_npz.load(landmarks_npz.path_of(log.folder, one.id)) for one in outdated]
    with cleanup(lambda: files.remove_leftovers(log.folder)):
        spool, recovered = passes.recover_tracks(
            source, outdated, seen, options, tools, log.folder, watch
        )
        log.begin()
        for number, one in enumerate(outdated):
            spool.write(number, paths[one.id])
    facts = PeopleFacts(keys, recovered.smoothing)
    log.keep("recover", key, [path.name for path in paths.values()], recovered.seconds, facts)
    log.save()


def _place(
    tracks: Sequence[Track], options: WorldOptions, body: Body, log: Journal, watch: Watch
) -> None:
    """Place people in the world, in the files that "recover" wrote."""
    camera = log.folder / camera_npz.FILE
    filmed = files.sha256(camera) if camera.exists() else None
    key = key_of("world", __version__, log.passes["recover"].key, filmed, asdict(options))
    if log.up_to_date("world", key):
        return
    start = time.perf_counter()
    placed = passes.place_people(tracks, options, body, log.folder, log.frames)
    with cleanup(lambda: files.remove_leftovers(log.folder)):
        log.begin()
        for spool, path in watch("world", placed, len(tracks)):
            spool.write(0, path)
            log.written("recover", path.name)
            log.save()
    names = [person_npz.path_of(log.folder, one.id).name for one in tracks]
    log.keep("world", key, names, {"world": time.perf_counter() - start})
    log.save()


def _key_of_all(keys: Mapping[int, str]) -> str:
    return key_of({str(person): own for person, own in keys.items()})


def _outdated(
    tracks: Sequence[Track],
    name: str,
    keys: Mapping[int, str],
    paths: Mapping[int, Path],
    log: Journal,
) -> list[Track]:
    """The tracks whose files a pass must write again: another key, or the file has changed."""
    before = log.passes.get(name)
    if before is None or not isinstance(before.facts, PeopleFacts):
        return list(tracks)
    known, written = before.facts.keys, before.files

    def unchanged(one: Track) -> bool:
        file = paths[one.id].name
        return known.get(one.id) == keys[one.id] and log.intact(file, written.get(file, ""))

    return [one for one in tracks if not unchanged(one)]


def show(
    source: Source,
    tracks: list[Track],
    look: Look,
    body: Body,
    log: Journal,
    watch: Watch,
) -> tuple[Path, list[str]]:
    """Draw the overlay, unless it is up to date.

    Args:
        source: the video.
        tracks: of the people.
        look: what is shown.
        body: the people's.
        log: the clip's journal.
        watch: the progress callback.

    Returns:
        The overlay's path, and lines that the user should see.

    Raises:
        VideoError: the video cannot be decoded.
        TracksError: a person's file does not fit its track.
        MissingTool: renderer or encoder are not there.
        OutputError: the overlay cannot be written.
    """
    path = (log.folder / "overlay").with_suffix(video.suffix_for(look.codec, source.clip.still))
    names = [one.name for one in tracks]
    people_key = _people_key(log) if look.side_view else log.passes["recover"].key
    key = key_of("show", __version__, people_key, names, asdict(look), path.name)
    if log.up_to_date("show", key):
        return path, []
    start = time.perf_counter()
    result_folder.check_people(log.folder, tracks)
    log.begin()
    notes = passes.draw_overlay(source, log.folder, tracks, path, body, look, watch)
    log.keep("show", key, [path.name], {"show": time.perf_counter() - start})
    log.save()
    return path, notes


def export(
    tracks: list[Track],
    names: Sequence[str],
    options: ExportOptions,
    clothes: bool,
    body: Body,
    log: Journal,
    watch: Watch,
) -> None:
    """Write formats that are not up to date; other formats that are up to date stay.

    Files of an earlier export that are not written again are removed, here or by `finish`.

    Args:
        tracks: of the people.
        names: of the formats.
        options: how they are written; a format that is not named stays as it was written.
        clothes: whether people wear any, as the overlay shows them.
        body: the people's.
        log: the clip's journal.
        watch: the progress callback.

    Raises:
        TracksError: a person's file does not fit its track.
        OutputError: a file cannot be written.
    """
    for name in [known for known in log.passes if known.startswith("export ")]:
        named = name.removeprefix(journal.EXPORT) in names
        wanted = [(options, clothes)] if named else EXPORT_CHOICES
        if not any(log.up_to_date(name, _export_key(name, *one, log)) for one in wanted):
            log.drop(name)
    missing = [name for name in names if f"export {name}" not in log.passes]
    if not missing:
        return
    people = result_folder.load_people(log.folder, tracks)
    camera = passes.camera_of(log.folder, log.frames)
    if options.space == "world" and any(one.world_poses is None for one in people):
        people = place_in_world(people, [None] * len(people), body, camera, WorldOptions(), tracks)
    scene = Scene(
        tracks,
        people,
        body,
        log.frames,
        options.root_motion,
        options.rig,
        options.space,
        camera if "camera" in log.passes else None,
        clothes,
    )
    log.begin()
    for name in missing:
        start = time.perf_counter()
        names_of_files = FORMATS[name].names(scene)
        written = exports.write(log.folder, name, scene)
        for _ in watch(f"export {name}", written, len(names_of_files)):
            pass
        seconds = {f"export {name}": time.perf_counter() - start}
        key = _export_key(f"export {name}", options, clothes, log)
        log.keep(f"export {name}", key, pack(names_of_files), seconds)
        log.save()


def _people_key(log: Journal) -> str:
    """Hash all that the people's files depend on, the world too."""
    world = log.passes.get("world")
    return key_of(log.passes["recover"].key, world and world.key)


def _export_key(name: str, options: ExportOptions, clothes: bool, log: Journal) -> str:
    """Hash everything that the pass `name`, an export, depends on."""
    form = name.removeprefix(journal.EXPORT)
    chosen: dict[str, Any] = {"space": options.space} if form in WORLD_FORMATS else {}
    if form == "glb":
        chosen = {**asdict(options), "clothes": clothes}
    elif form == "bvh":
        chosen["rig"] = options.rig
    elif form == "camera" and "camera" in log.passes:
        chosen["camera"] = log.passes["camera"].key
    return key_of(name, __version__, _people_key(log), chosen)


def write_report(
    tracks: Sequence[Track], overlay: Path, body: Body, record: RunRecord, log: Journal
) -> None:
    """Write report.html, unless it is up to date.

    Args:
        tracks: of the people.
        overlay: the clip's overlay.
        body: the people's.
        record: what run.json will hold.
        log: the clip's journal.

    Raises:
        TracksError: a person's file does not fit its track.
        VideoError: the overlay cannot be read.
        OutputError: the report cannot be written.
    """
    read = [asdict(record.damage), record.video.remarks]
    key = key_of("report", __version__, log.passes["show"].key, _people_key(log), *read)
    if log.up_to_date("report", key):
        return
    start = time.perf_counter()
    log.begin()
    report.write(log.folder, tracks, log.frames, body, overlay, record)
    log.keep("report", key, [report.FILES], {"report": time.perf_counter() - start})
    log.save()


def finish(record: RunRecord, log: Journal) -> RunRecord:
    """Remove files of earlier runs, and write run.json.

    Args:
        record: what run.json shall hold; times and passes are the journal's.
        log: the clip's journal.

    Returns:
        What run.json holds.

    Raises:
        OutputError: a file was removed meanwhile, or run.json cannot be written.
    """
    result_folder.remove_outdated(log.folder, log.files)
    exports.remove_all_but(log.folder, log.exports)
    record = replace(record, seconds=log.seconds, passes=log.passes)
    log.finish(record)
    return record


def _finish_run(
    source: Source,
    tracks: Sequence[Track],
    overlay: Path,
    notes: list[str],
    options: Options,
    tools: Tools,
    log: Journal,
) -> Summary:
    """Write report and run.json, unless all is up to date."""
    detector = DetectorRecord(tools.detector.name, tools.detector_sha256)
    record = describe_run(source, tracks, options, tools, detector)
    facts = log.recover_facts
    record = replace(record, seconds=log.seconds, smoothing=facts.smoothing if facts else None)
    write_report(tracks, overlay, tools.body, record, log)
    reused = log.finished and not log.changed
    if not reused:
        record = finish(record, log)
    return Summary(
        folder=log.folder,
        overlay=overlay,
        people=list(record.people),
        frames=record.frames,
        still=source.clip.still,
        damage=source.damage,
        camera=log.camera_facts.words if log.camera_facts else "",
        seconds=dict(record.seconds),
        notes=[*record.video.remarks, *_left_out(log), *notes],
        reused=reused,
    )


def _left_out(log: Journal) -> list[str]:
    """A line about people whom the options leave out, if there are any."""
    n = log.track_facts.left_out if log.track_facts else 0
    what = f"{n} more people were" if n > 1 else "one more person was"
    return [f"{what} seen and left out (--main, --max-people, --person)"] if n else []


def describe_run(
    source: Source,
    tracks: Sequence[Track],
    options: Options,
    tools: Recovery,
    detector: DetectorRecord,
) -> RunRecord:
    """Describe what is computed from what, and with what; times and passes come later.

    Args:
        source: the video, its frames counted.
        tracks: of the people.
        options: the run's.
        tools: network and body.
        detector: its file.

    Returns:
        The record.
    """
    clip = source.clip
    assert clip.frames is not None
    openvino = openvino_version(tools.settings.device)
    body_file = options.recovery.body
    if body_file is not None and Path(body_file).is_file():
        body_file = str(Path(body_file).absolute())
    return RunRecord(
        staf=__version__,
        video=_describe_video(source),
        frames=clip.frames,
        damage=source.damage,
        people=tuple(Presence.of(one) for one in tracks),
        options=options.to_json(),
        weights=tools.weights,
        body=tools.body.identity,
        body_file=body_file or tools.body.name,
        detector=detector,
        device=str(tools.settings.device),
        precision=tools.settings.precision,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            **({"openvino": openvino} if openvino else {}),
        },
    )


def _describe_video(source: Source) -> VideoRecord:
    clip, span = source.clip, source.clip.span
    return VideoRecord(
        path=str(clip.path.absolute()),
        sha256=source.sha256,
        width=clip.width,
        height=clip.height,
        fps=clip.fps,
        start=span.start,
        end=span.end,
        remarks=tuple(video.remarks(clip, source.damage)),
    )


def _track_key(sha256: str, options: Options, tools: Tools) -> str:
    what = [sha256, asdict(options.span), options.fps, options.deinterlace, options.fit]
    how = [tools.detector_sha256, options.detect_size, tools.settings.precision]
    how += [tools.landmark_reader is not None, openvino_version(tools.settings.device)]
    who = [options.tracker, asdict(options.tracks)]
    return key_of("track", __version__, *what, *how, *who)


def _person_keys(
    source: Source,
    tracks: Sequence[Track],
    options: RecoveryOptions,
    tools: Tools,
    log: Journal,
) -> dict[int, str]:
    """For every person a hash of everything that their parameters depend on."""
    how = [
        *source.pictures,
        tools.weights,
        tools.body.identity,
        tools.settings.precision,
        openvino_version(tools.settings.device),
        options.focal,
        options.every,
        options.refine,
        options.smooth,
        options.constant_shape,
    ]
    seen = log.landmark_facts.keys if log.landmark_facts else {}
    return {
        one.id: key_of("recover", __version__, one.digest, seen.get(one.id), *how) for one in tracks
    }
