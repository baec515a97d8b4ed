"""One clip from video to results, in three passes: track, recover, show.

`run` is the whole way on one screen; passes.py has the passes. The tables between them are files:
each pass reads what the one before has written, and a pass that still stands is not done again
(journal.py).
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from staf_cli import report, video
from staf_cli.body.skinning import Body
from staf_cli.core import files
from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.interrupts import undone_by
from staf_cli.core.records import Track
from staf_cli.core.span import Span
from staf_cli.core.version import __version__
from staf_cli.export import FORMATS, Scene
from staf_cli.fitting.smoothing import total
from staf_cli.pipeline import passes
from staf_cli.pipeline.loading import OPEN_WEIGHTS, Tools
from staf_cli.pipeline.options import Look, Options
from staf_cli.pipeline.passes import Source, Watch
from staf_cli.recovery.placement import default_focal
from staf_cli.result import folder as result_folder
from staf_cli.result import journal, person_npz, tracks_csv
from staf_cli.result.journal import Journal, key_of


@dataclass(frozen=True)
class Presence:
    """When a person is in a clip."""

    person: int
    frames: int
    first: int  # index of a frame
    last: int
    interpolated: int  # frames

    @classmethod
    def of(cls, track: Track) -> "Presence":
        """That of a track."""
        first, last = int(track.frame[0]), int(track.frame[-1])
        return cls(track.id, len(track.frame), first, last, int(track.interpolated.sum()))


@dataclass(frozen=True)
class Summary:
    """What a finished run can say of itself."""

    folder: Path
    overlay: Path
    people: list[Presence]
    frames: int
    damage: video.Damage
    seconds: dict[str, float]  # per pass, whenever it was done
    notes: list[str]  # lines for the user
    reused: bool  # everything stood already


def run(
    path: Path,
    folder: Path,
    options: Options,
    tools: Tools,
    watch: Watch,
    mended: Sequence[Track] | None = None,
) -> Summary:
    """Recover everybody in a video and write the results into a folder of the clip's own.

    What stands there already, from this very video and with these options, is kept. mended:
    tracks that somebody has put right, in place of those that would be found. Raises
    VideoError, NobodyFound, TracksError, OutOfMemory or OutputError; the folder is then as it
    was, or unmistakably unfinished, and the same call goes on from there.
    """
    result_folder.check_free(folder, path)
    files.check_writable(folder)
    with journal.opened(folder) as log:
        if options.force:
            log.forget()
        source = checked(path, options.span, options.fps, log)
        if mended is None:
            tracks = _tracked(source, options, tools, log, watch)
        else:
            tracks = _mended(mended, source, options, tools, log, watch)
        source = _counted(source, log)
        _recovered(source, tracks, options, tools, log, watch)
        overlay, notes = shown(source, tracks, options.look, tools.body, log, watch)
        exported(tracks, options.export, tools.body, log, watch)
        return _finished(source, tracks, overlay, notes, options, tools, log)


def identity(path: Path, options: Options, tools: Tools) -> str:
    """A hash of a video and of all that decides who is found in it. Raises VideoError."""
    return _track_key(video.content_hash(path), options, tools)


def checked(path: Path, span: Span, fps: float | None, log: Journal) -> Source:
    """The video, with its damage as it was counted, or is counted now."""
    clip, sha256 = video.probe(path, span, fps), video.content_hash(path)
    key = key_of("check", __version__, sha256, asdict(span), clip.fps)
    if known := log.standing("check", key):
        return Source(clip, video.Damage(**known.facts), sha256)
    start = time.perf_counter()
    damage = video.inspect(clip)
    log.keep("check", key, [], {"check": time.perf_counter() - start}, asdict(damage))
    return Source(clip, damage, sha256)


def _tracked(
    source: Source, options: Options, tools: Tools, log: Journal, watch: Watch
) -> list[Track]:
    """The tracks as tracks.csv has them: that table is what all later passes go by."""
    key = _track_key(source.sha256, options, tools)
    path = log.folder / result_folder.TRACKS
    if not _tracks_stand(key, log):
        start = time.perf_counter()
        frames, tracks = passes.track(source, options, tools, watch)
        seconds = {"track": time.perf_counter() - start}
        _refines(tracks, options, tools)  # what cannot be refined is told before anything is lost
        log.begin()
        tracks_csv.save(path, tracks)
        del tracks  # before they are read again: those of a long clip are large
        log.keep("track", key, [path.name], seconds, _facts(frames, log))
        log.save()
    return tracks_csv.load(path)


def _tracks_stand(key: str, log: Journal) -> bool:
    """Whether the tracks in the folder are those that this key asks for, or their mended form.

    Raises TracksError where finding people would throw away what somebody has mended by hand.
    """
    known = log.passes.get("track")
    if known is None:
        return False
    table = log.folder / result_folder.TRACKS
    mended = "instead_of" in known.facts
    changed = log.edited("track") is not None
    if changed or (
        mended and known.facts["instead_of"] != key and log.standing("track", known.key)
    ):
        raise TracksError(
            f"{table}: was changed by hand; go on with it by --tracks {table}, "
            "or add --force to find everybody anew"
        )
    return log.standing("track", known.key if mended else key) is not None


def _mended(
    tracks: Sequence[Track],
    source: Source,
    options: Options,
    tools: Tools,
    log: Journal,
    watch: Watch,
) -> list[Track]:
    """These tracks in tracks.csv, in place of those that would be found.

    Raises TracksError where they do not fit the video.
    """
    found = _track_key(source.sha256, options, tools)
    path = log.folder / result_folder.TRACKS
    key = key_of("mended", found, [[one.digest, one.name] for one in tracks])
    _refines(tracks, options, tools)  # what cannot be refined is told before anything is lost
    if not log.standing("track", key):
        frames = _indices(source, log, watch)
        for one in tracks:
            if one.frame[0] not in frames or one.frame[-1] not in frames:
                raise TracksError(
                    f"tracks: person {one.id} is in frames {one.frame[0]} to "
                    f"{one.frame[-1]}, the video has {frames.start} to {frames.stop - 1}"
                )
        log.begin()
        tracks_csv.save(path, tracks)
        facts = {**_facts(frames, log), "instead_of": found}
        log.keep("track", key, [path.name], {}, facts)
        log.save()
    return tracks_csv.load(path)


def _indices(source: Source, log: Journal, watch: Watch) -> range:
    """The indices of a clip's frames, as an earlier first pass has counted them or as they are."""
    known = log.passes.get("track", journal.Pass("")).facts
    if known.get("of") == log.passes["check"].key:
        return _frames(log)
    indices = [frame.index for frame in source.frames("count", watch)]
    return range(indices[0], indices[-1] + 1)


def _facts(frames: range, log: Journal) -> dict[str, Any]:
    """What is remembered of a clip's frames, and of which clip they are."""
    return {"first": frames.start, "frames": len(frames), "of": log.passes["check"].key}


def _recovered(
    source: Source,
    tracks: Sequence[Track],
    options: Options,
    tools: Tools,
    log: Journal,
    watch: Watch,
) -> None:
    """Everybody's parameters in files; who is still as before is not recovered again."""
    keys = _person_keys(source, tracks, options, tools)
    if log.standing("recover", key_of(keys)):
        return
    before = log.passes.get("recover", journal.Pass(""))
    paths = {one.id: person_npz.path_of(log.folder, one.id) for one in tracks}
    stale = [
        one
        for one in tracks
        if before.facts.get(str(one.id)) != keys[str(one.id)]
        or not log.intact(paths[one.id].name, before.files.get(paths[one.id].name, ""))
    ]
    seconds = {}
    with undone_by(lambda: files.sweep(log.folder)):
        start = time.perf_counter()
        parts = passes.recover(source, stale, options, tools, log.folder, watch) if stale else []
        seconds["recover"] = time.perf_counter() - start
        count = sum(map(len, parts))
        if parts and _refines(tracks, options, tools):
            start = time.perf_counter()
            for _ in watch("refine", passes.refined(parts, stale, tools.body), count):
                pass
            seconds["refine"] = time.perf_counter() - start
        facts: dict[str, Any] = dict(keys)
        if parts and (options.smooth or options.constant_shape):
            start = time.perf_counter()
            effects = list(watch("smooth", passes.steady(parts, tools.body, options), count))
            facts["smoothing"] = asdict(total(effects))
            seconds["smooth"] = time.perf_counter() - start
        log.begin()
        for one, own in zip(stale, parts, strict=True):
            person_npz.join(paths[one.id], own)
    log.keep("recover", key_of(keys), [path.name for path in paths.values()], seconds, facts)
    log.save()


def shown(
    source: Source,
    tracks: list[Track],
    look: Look,
    body: Body,
    log: Journal,
    watch: Watch,
) -> tuple[Path, list[str]]:
    """The overlay, drawn unless it is there as wanted; with lines for the user."""
    path = (log.folder / "overlay").with_suffix(video.suffix_for(look.codec))
    names = [one.name for one in tracks]
    key = key_of("show", __version__, log.passes["recover"].key, names, asdict(look))
    if log.standing("show", key):
        return path, []
    start = time.perf_counter()
    result_folder.check_people(log.folder, tracks)
    log.begin()
    notes = passes.show(source, log.folder, tracks, path, body, look, watch)
    log.keep("show", key, [path.name], {"show": time.perf_counter() - start})
    log.save()
    return path, notes


def exported(
    tracks: list[Track], names: Sequence[str], body: Body, log: Journal, watch: Watch
) -> None:
    """The formats asked for; of other ones, what is there and still right stays there."""
    people_key = log.passes["recover"].key
    for name in [known for known in log.passes if known.startswith("export ")]:
        if log.standing(name, key_of(name, __version__, people_key)) is None:
            log.drop(name)
    missing = [name for name in names if f"export {name}" not in log.passes]
    if not missing:
        return
    scene = Scene(tracks, result_folder.load_people(log.folder, tracks), body, _frames(log))
    log.begin()
    for name in missing:
        start = time.perf_counter()
        written = FORMATS[name].write(log.folder, scene)
        for _ in watch(f"export {name}", written, FORMATS[name].count(scene)):
            pass
        seconds = {f"export {name}": time.perf_counter() - start}
        key = key_of(f"export {name}", __version__, people_key)
        log.keep(f"export {name}", key, [FORMATS[name].FILES], seconds)
        log.save()


def _finished(
    source: Source,
    tracks: Sequence[Track],
    overlay: Path,
    notes: list[str],
    options: Options,
    tools: Tools,
    log: Journal,
) -> Summary:
    """Report, tidy up, and write run.json, unless all that stands already."""
    summary = Summary(
        folder=log.folder,
        overlay=overlay,
        people=[Presence.of(one) for one in tracks],
        frames=len(_frames(log)),
        damage=source.damage,
        seconds=_seconds(log),
        notes=notes,
        reused=False,
    )
    account = _account(source, options, tools, summary)
    if smoothing := log.passes["recover"].facts.get("smoothing"):
        account["smoothing"] = smoothing
    reported(tracks, overlay, tools.body, account, log)
    if log.finished and not log.changed:
        return replace(summary, reused=True)
    finish(account, log)
    return replace(summary, seconds=account["seconds"])


def reported(
    tracks: Sequence[Track], overlay: Path, body: Body, account: dict[str, Any], log: Journal
) -> None:
    """The page that a person looks at, unless it is there as it should be."""
    key = key_of("report", __version__, log.passes["show"].key, account["damage"])
    if log.standing("report", key):
        return
    start = time.perf_counter()
    log.begin()
    report.write(log.folder, tracks, _frames(log), body, overlay, account)
    log.keep("report", key, [report.FILES], {"report": time.perf_counter() - start})
    log.save()


def finish(account: dict[str, Any], log: Journal) -> None:
    """Leave nothing of earlier runs, and say in run.json that all is done."""
    result_folder.tidy(log.folder, {file for one in log.passes.values() for file in one.files})
    account["seconds"] = _seconds(log)
    log.finish(account)


def _frames(log: Journal) -> range:
    """The indices of the clip's frames."""
    facts = log.passes["track"].facts
    return range(facts["first"], facts["first"] + facts["frames"])


def _seconds(log: Journal) -> dict[str, float]:
    """What every part of every pass took, whenever it was done."""
    return {part: value for one in log.passes.values() for part, value in one.seconds.items()}


def _counted(source: Source, log: Journal) -> Source:
    """The source with the number of its frames, as the first pass has counted them."""
    return replace(source, clip=replace(source.clip, frames=len(_frames(log))))


def _track_key(sha256: str, options: Options, tools: Tools) -> str:
    what = [sha256, asdict(options.span), options.fps]
    who = [options.tracker, asdict(options.tracks), tools.detector_sha256]
    return key_of("track", __version__, *what, *who)


def _person_keys(
    source: Source, tracks: Sequence[Track], options: Options, tools: Tools
) -> dict[str, str]:
    """For every person a hash of all that their parameters depend on."""
    how = [
        source.sha256,
        tools.weights,
        tools.body.identity,
        tools.settings.half,
        options.focal or default_focal(source.clip.image_size),
        _refines(tracks, options, tools),
        options.smooth,
        options.constant_shape,
    ]
    return {str(one.id): key_of("recover", __version__, one.digest, *how) for one in tracks}


def _refines(tracks: Sequence[Track], options: Options, tools: Tools) -> bool:
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
            "start": clip.span.start,
            "end": clip.span.end,
        },
        "frames": summary.frames,
        "damage": asdict(summary.damage),
        "people": [asdict(person) for person in summary.people],
        "options": asdict(options),
        "weights": tools.weights,
        "body": tools.body.identity,
        "body_file": absolute(options.body) or tools.body.name,
        "detector": {"file": tools.detector.name, "sha256": tools.detector_sha256},
        "device": str(tools.settings.device),
        "half": tools.settings.half,
        "seconds": summary.seconds,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }


def absolute(name_or_path: str | None) -> str | None:
    """A file's absolute path, so that it is found from any folder; a name stays a name."""
    if name_or_path is not None and Path(name_or_path).is_file():
        return str(Path(name_or_path).absolute())
    return name_or_path
