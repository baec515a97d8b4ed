"""Files, folders and lists become jobs: clips that each have their own result folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from staf_cli.batch.naming import (
    ADDRESS,
    Job,
    NamedClip,
    local_path,
    name_clip,
    with_unique_names,
)
from staf_cli.batch.options import Choice
from staf_cli.core.errors import UsageError, VideoError, reason_of
from staf_cli.core.files import printable
from staf_cli.result.journal import RUN, UNFINISHED
from staf_cli.video import is_sequence

# fmt: off
VIDEOS = frozenset({
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
RESULTS = (RUN, UNFINISHED)  # a folder with one of these is an earlier result


def gather(
    arguments: Iterable[Path], lists: Iterable[Path], choice: Choice, output: Path
) -> tuple[list[Job], list[str]]:
    """Find the clips of a command, in a fixed order and none twice.

    A file that does not exist is a clip as well: one that will fail, and stop no other.

    Args:
        arguments: videos and folders.
        lists: text files with a path in every line, relative to the list's folder.
        choice: which files of a folder are clips.
        output: the folder of all result folders.

    Returns:
        The jobs, with different names, and notes for the user.

    Raises:
        UsageError: a list cannot be read.
        VideoError: no clip is found at all, or a folder cannot be read or has none.
    """
    notes: list[str] = []
    found = [clip for path in arguments for clip in _expand(_noted(path, notes), choice, output)]
    for path in lists:
        for number, line in _lines(path):
            said = len(notes)
            line = _noted(line, notes)
            if len(notes) == said and not line.exists():
                notes.append(f"{printable(path)}, line {number}: no such file {printable(line)}")
            found += _expand(line, choice, output)
    unique = {clip.parent / clip.name: clip for clip in reversed(found)}
    jobs = [
        Job(clip.video, output / clip.path, clip.path.as_posix())
        for clip in with_unique_names(list(reversed(unique.values())))
    ]
    if not jobs:
        raise VideoError("no clip in the lists; write the path of a video in every line")
    return jobs, notes


def is_single_clip(path: Path) -> bool:
    """Whether an argument is one clip: a file, or a folder of pictures.

    Args:
        path: the argument; it need not exist.

    Returns:
        False for a folder of videos.

    Raises:
        VideoError: the folder cannot be read.
    """
    path = local_path(path)
    return not path.is_dir() or _is_picture_folder(path)


def _noted(path: Path, notes: list[str]) -> Path:
    """The same as `local_path`; what is no path is noted, and a clip that will fail."""
    try:
        return local_path(path)
    except VideoError as error:
        notes.append(str(error))
        return path


def _is_picture_folder(folder: Path) -> bool:
    """Whether a folder is one clip: it has pictures and no videos."""
    if not is_sequence(folder):
        return False
    return not any(_matches(PurePath(path.name), None) for path in folder.iterdir())


def _expand(path: Path, choice: Choice, output: Path) -> Iterator[NamedClip]:
    """Yield the clips of one argument."""
    if not path.is_dir() or _is_picture_folder(path):
        yield name_clip(path, 0)
        return
    found = False
    for video, depth in _walk(path, choice, output.resolve()):
        yield name_clip(video, depth)
        found = True
    if not found:
        wanted = f"file like {choice.pattern}" if choice.pattern else "video"
        deeper = "" if choice.recursive else "; --recursive looks into its folders as well"
        raise VideoError(f"{printable(path)}: no {wanted} in this folder{deeper}")


def _walk(folder: Path, choice: Choice, output: Path) -> Iterator[tuple[Path, int]]:
    """Yield the clips in a folder, each with how many folders deep it is.

    Left out: hidden ones, the output folder, earlier results, and folders behind links.
    """

    def refuse(error: OSError) -> None:
        raise VideoError(f"{printable(folder)}: cannot be read: {reason_of(error)}")

    for place, folders, names in os.walk(folder, onerror=refuse):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        for name in sorted(names):
            if not _hidden(name) and _matches(here.relative_to(folder) / name, choice.pattern):
                yield here / name, depth
        kept = [
            name
            for name in sorted(folders)
            if choice.recursive
            and not _hidden(name)
            and (here / name).resolve() != output
            and not any((here / name / result).exists() for result in RESULTS)
        ]
        sequences = [n for n in kept if choice.pattern is None and _is_picture_folder(here / n)]
        for name in sequences:
            yield here / name, depth
        folders[:] = kept


def _matches(path: PurePath, pattern: str | None) -> bool:
    if pattern is None:
        return path.suffix.lower() in VIDEOS
    return PurePath(str(path).casefold()).match(pattern.casefold())


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _lines(path: Path) -> Iterator[tuple[int, Path]]:
    """Yield the paths in a list with their line numbers; relative ones start at the list."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        message = f"{printable(path)}: the list cannot be read: {reason_of(error)}"
        raise UsageError(message) from error
    for number, line in enumerate(text.split("\n"), 1):
        name = line.strip()
        if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":  # as a shell writes it
            name = name if (path.parent / name).exists() else name[1:-1].strip()
        if "\0" in name:
            raise UsageError(f"{printable(path)}, line {number}: no path; is this a text file?")
        if name and not name.startswith("#"):
            yield number, Path(name) if ADDRESS.fullmatch(name) else path.parent / name
