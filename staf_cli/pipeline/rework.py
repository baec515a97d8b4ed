"""Finished results taken up again: drawn with another look, written in other formats, mended."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core import files
from staf_cli.core.errors import BodyError, TracksError
from staf_cli.core.span import Span
from staf_cli.export import FORMATS
from staf_cli.pipeline import clip as clip_pipeline
from staf_cli.pipeline.clip import Summary
from staf_cli.pipeline.loading import open_body, prepare
from staf_cli.pipeline.options import Look, Options, check_exports
from staf_cli.pipeline.passes import Watch
from staf_cli.result import folder as result_folder
from staf_cli.result import journal
from staf_cli.tracking import edits as mending
from staf_cli.tracking.edits import Edits
from staf_cli.tracking.linking import TrackOptions


def render(folder: Path, moved_to: Path | None, look: Look, watch: Watch) -> tuple[Path, list[str]]:
    """Draw the overlay of a finished result again, nothing else computed anew.

    moved_to: the video, where it no longer lies where it was. Raises TracksError when the video
    is another one than the result was made of.
    """
    if look.codec is not None:
        video.check_codec(look.codec)
    done, account = result_folder.load(folder)
    path = _video_of(account, moved_to)
    result_folder.check_free(folder, path)
    with journal.opened(folder) as log:
        span = Span(account["video"]["start"], account["video"]["end"])
        fps = account["video"]["fps"] if path.is_dir() else None
        source = clip_pipeline.checked(path, span, fps, log)
        if source.sha256 != account["video"]["sha256"]:
            raise TracksError(
                f"{files.printable(path)}: is not the video that {folder} was made of"
            )
        source = replace(source, clip=replace(source.clip, frames=account["frames"]))
        body = body_of(done, account)
        overlay, notes = clip_pipeline.shown(source, done.tracks, look, body, log, watch)
        account["options"]["look"] = asdict(look)
        clip_pipeline.reported(done.tracks, overlay, body, account, log)
        if not log.finished:
            clip_pipeline.finish(account, log)
    return overlay, notes


def export(folder: Path, names: Sequence[str], watch: Watch) -> None:
    """Write a finished result in further formats, nothing else computed anew.

    Raises UsageError for an unknown format, TracksError for a folder that is no result.
    """
    check_exports(names)
    done, account = result_folder.load(folder)
    with journal.opened(folder) as log:
        clip_pipeline.exported(done.tracks, names, body_of(done, account), log, watch)
        if not log.finished:
            clip_pipeline.finish(account, log)


def export_place(name: str) -> str:
    """What a format leaves in a result folder: a file or a folder of files."""
    return FORMATS[name].FILES.split("/")[0]


def mend(folder: Path, edits: Edits, moved_to: Path | None, watch: Watch) -> Summary:
    """Put a finished result's tracks right, and recover and draw anew what that changes.

    Raises TracksError for an edit that cannot be, and as `render` and `run` do.
    """
    done, account = result_folder.load(folder)
    tracks = mending.mend(done.tracks, edits)
    options = _options_of(folder, account)
    path = _video_of(account, moved_to)
    tools, _ = prepare(options)
    return clip_pipeline.run(path, folder, options, tools, watch, tracks)


def body_of(done: result_folder.Results, run: dict[str, Any]) -> Body:
    """The body a result was made with. Raises BodyError when it is not here, or has changed."""
    body = open_body(run["body_file"])
    if body.identity != done.people[0].body:
        raise BodyError(
            f"{done.folder} was made with body {done.people[0].body}, here is {body.identity}; "
            "run the clip again"
        )
    return body


def _video_of(account: dict[str, Any], moved_to: Path | None) -> Path:
    path = moved_to or Path(account["video"]["path"])
    if moved_to is None and not path.exists():
        raise TracksError(
            f"{files.printable(path)}: the video is no longer there; say with --video where it is"
        )
    return path


def _options_of(folder: Path, account: dict[str, Any]) -> Options:
    """The options that a result was made with. Raises TracksError where they make no sense."""
    try:
        saved = account["options"]
        tracks = {**saved["tracks"], "person": tuple(saved["tracks"]["person"])}
        return Options(
            **{
                **saved,
                "span": Span(**saved["span"]),
                "tracks": TrackOptions(**tracks),
                "look": Look(**saved["look"]),
                "export": tuple(saved["export"]),
                "force": False,
            }
        )
    except (KeyError, TypeError) as error:
        raise TracksError(
            f"{files.printable(folder / journal.RUN)}: was written by another version of staf; "
            "run the clip again"
        ) from error
