"""Finished results changed: drawn with another look, exported, their tracks edited."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core import files
from staf_cli.core.errors import BodyError, TracksError
from staf_cli.core.progress import Watch
from staf_cli.core.records import Clip
from staf_cli.core.span import Span
from staf_cli.export import FORMATS
from staf_cli.pipeline import clip as clip_pipeline
from staf_cli.pipeline.clip import Summary
from staf_cli.pipeline.loading import open_body, prepare
from staf_cli.pipeline.options import ExportOptions, Look, Options, check_exports
from staf_cli.result import folder as result_folder
from staf_cli.result import journal
from staf_cli.result.folder import SavedResult
from staf_cli.result.run_record import RunRecord
from staf_cli.tracking.edits import Edits, apply_edits


def render(folder: Path, moved_to: Path | None, look: Look, watch: Watch) -> tuple[Path, list[str]]:
    """Draw the overlay of a finished result again; nothing else is computed.

    Args:
        folder: of the result.
        moved_to: the video, where it is no longer where it was.
        look: what is shown.
        watch: the progress callback.

    Returns:
        The overlay's path, and lines that the user should see.

    Raises:
        TracksError: the folder is no result, or the video is not the one it was made from.
        VideoError: the video cannot be read.
        BodyError: the result's body is not on this machine.
        MissingTool: renderer or encoder are not there.
        OutputError: the folder cannot be written.
    """
    if look.codec is not None:
        video.check_codec(look.codec)
    saved = result_folder.load(folder)
    record = saved.record
    clip = clip_of(saved, moved_to)
    result_folder.check_free(folder, clip.path)
    with journal.opened(folder) as log:
        source = clip_pipeline.check_source(clip, log)
        if source.sha256 != record.video.sha256:
            raise TracksError(
                f"{files.printable(clip.path)}: is not the video that {folder} was made of"
            )
        source = clip_pipeline.with_frame_count(source, record.frames)
        body = body_of(saved)
        overlay, notes = clip_pipeline.show(source, saved.tracks, look, body, log, watch)
        record = replace(record, options={**record.options, "look": asdict(look)})
        clip_pipeline.write_report(saved.tracks, overlay, body, record, log)
        if not log.finished:
            clip_pipeline.finish(record, log)
    return overlay, notes


def export(folder: Path, names: Sequence[str], options: ExportOptions, watch: Watch) -> None:
    """Write a finished result in further formats; nothing else is computed.

    Args:
        folder: of the result.
        names: of the formats.
        options: how they are written.
        watch: the progress callback.

    Raises:
        UsageError: a format is unknown, or root motion is asked for without glb.
        TracksError: the folder is no result.
        BodyError: the result's body is not on this machine.
        OutputError: the folder cannot be written.
    """
    check_exports(names, options)
    saved = result_folder.load(folder)
    with journal.opened(folder) as log:
        clothes = saved.record.clothes
        clip_pipeline.export(saved.tracks, names, options, clothes, body_of(saved), log, watch)
        if not log.finished:
            clip_pipeline.finish(saved.record, log)


def export_path(name: str) -> str:
    """Name the file, or the folder of files, that a format writes into a result folder.

    Args:
        name: of the format.

    Returns:
        The path in the folder.
    """
    return FORMATS[name].files.split("/")[0]


def edit_tracks(folder: Path, edits: Edits, moved_to: Path | None, watch: Watch) -> Summary:
    """Edit a finished result's tracks, and recover and draw again what that changes.

    Args:
        folder: of the result.
        edits: merge, split, drop and rename.
        moved_to: the video, where it is no longer where it was.
        watch: the progress callback.

    Returns:
        What there is to print.

    Raises:
        TracksError: the folder is no result, or an edit is impossible; also what
            `clip.run_clip` raises.
    """
    saved = result_folder.load(folder)
    tracks = apply_edits(saved.tracks, edits)
    options = _options_of(folder, saved.record)
    path = _video_of(saved.record, moved_to)
    tools, _ = prepare(options)
    return clip_pipeline.run_clip(path, folder, options, tools, watch, tracks)


def body_of(saved: SavedResult) -> Body:
    """Load the body that a result was made with.

    Args:
        saved: the result.

    Returns:
        The body.

    Raises:
        BodyError: it is not on this machine, or has changed.
    """
    body = open_body(saved.record.body_file)
    if body.identity != saved.people[0].body:
        raise BodyError(
            f"{saved.folder} was made with body {saved.people[0].body}, here is {body.identity}; "
            "run the clip again"
        )
    return body


def clip_of(saved: SavedResult, moved_to: Path | None) -> Clip:
    """Open the video that a result was made of, as it was read then.

    Args:
        saved: the result.
        moved_to: the video, where it is no longer where it was.

    Returns:
        The clip; that its content is still the same is not checked.

    Raises:
        TracksError: the video is not there.
        VideoError: the video cannot be read.
    """
    record = saved.record
    path = _video_of(record, moved_to)
    span = Span(record.video.start, record.video.end)
    fps = record.video.fps if path.is_dir() else None
    deinterlace = record.options.get("deinterlace") is not False
    fit = record.options.get("fit") is True
    return video.probe(path, span, fps, deinterlace, fit)


def _video_of(record: RunRecord, moved_to: Path | None) -> Path:
    path = moved_to or Path(record.video.path)
    if moved_to is None and not path.exists():
        raise TracksError(
            f"{files.printable(path)}: the video is no longer there; say with --video where it is"
        )
    return path


def _options_of(folder: Path, record: RunRecord) -> Options:
    """The options that a result was made with. Raises TracksError where they make no sense."""
    try:
        return replace(Options.from_json(record.options), force=False)
    except (KeyError, TypeError, AttributeError) as error:
        raise TracksError(
            f"{files.printable(folder / journal.RUN)}: was written by another version of staf; "
            "run the clip again"
        ) from error
