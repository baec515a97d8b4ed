"""Files, folders and lists become jobs: clips that each have their own result folder.

A clip found in a folder keeps its place there (clips/a/x.mp4 -> OUT/a/x/), one that is named
itself does not (clips/a/x.mp4 -> OUT/x/). Where names would be equal all of them become longer,
so that the order of the arguments does not matter: by their folders' names if they are in
different ones (OUT/a/x/ and OUT/b/x/), by their suffix if they are side by side (OUT/x.mp4/,
OUT/x.mov/).
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePath
from urllib.parse import unquote_to_bytes

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
ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/{1,3}(.*)", re.DOTALL)  # Path takes slashes
LEDGER = ("summary.csv", "summary.json")  # names in OUT that no clip may take


@dataclass(frozen=True)
class Job:
    """A clip to be processed, and where its results go."""

    video: Path  # or a folder of numbered pictures
    folder: Path  # of its results
    name: str  # the folder relative to OUT, with /


@dataclass(frozen=True)
class _NamedClip:
    """A clip and how much of its path is in the name of its result folder."""

    video: Path
    parent: Path  # the video's folder, absolute
    name: str
    stem: str
    depth: int  # how many of the last parts of `parent` are in the name
    with_suffix: bool = False
    hash: str = ""  # where nothing else distinguishes two clips

    @property
    def path(self) -> PurePath:
        parts = self.parent.parts[1:]  # without the root, or the drive
        shown = parts[max(0, len(parts) - self.depth) :]
        return PurePath(*shown, (self.name if self.with_suffix else self.stem) + self.hash)

    @property
    def key(self) -> tuple[str, ...]:
        """The path as file systems see it that ignore case, accents or final dots."""
        return tuple(
            unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in self.path.parts
        )


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
            line = _noted(line, notes)
            if not line.exists():
                notes.append(f"{printable(path)}, line {number}: no such file {printable(line)}")
            found += _expand(line, choice, output)
    unique = {clip.parent / clip.name: clip for clip in reversed(found)}
    jobs = [
        Job(clip.video, output / clip.path, clip.path.as_posix())
        for clip in _with_unique_names(list(reversed(unique.values())))
    ]
    if not jobs:
        raise VideoError("no clip in the lists; write the path of a video in every line")
    return jobs, notes


def single_job(video: Path, output: Path) -> Job:
    """Make the job of a command with a single clip.

    Args:
        video: the clip.
        output: the folder of all result folders.

    Returns:
        The job, under its shortest name.
    """
    video = local_path(video)
    path = _named(video, 0).path
    return Job(video, output / path, path.as_posix())


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


def local_path(path: Path) -> Path:
    """Make a path of what was given as a video: file:// is taken off.

    Args:
        path: the argument; an address in it may have lost one of its slashes.

    Returns:
        The path of a file or folder; it need not exist.

    Raises:
        VideoError: it is an address on the network, or the number of a camera.
    """
    text = str(path)
    address = ADDRESS.fullmatch(text)
    if (address is None and not text.isdigit()) or path.exists():
        return path
    if address is None:
        raise VideoError(f"{text}: no such file; cameras are not read: record a video, and name it")
    if address[1].lower() == "file":
        place = "/" + address[2].removeprefix("localhost/")
        return Path(os.fsdecode(unquote_to_bytes(os.fsencode(place))))
    raise VideoError(f"{text}: is an address; download the video first, and name the file")


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


def _expand(path: Path, choice: Choice, output: Path) -> Iterator[_NamedClip]:
    """Yield the clips of one argument."""
    if not path.is_dir() or _is_picture_folder(path):
        yield _named(path, 0)
        return
    found = False
    for video, depth in _walk(path, choice, output.resolve()):
        yield _named(video, depth)
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


def _named(video: Path, depth: int) -> _NamedClip:
    """Give a clip its shortest name; folders, and files named by dots alone, keep their suffix."""
    if video.name in ("", ".."):  # of a folder that is named relatively
        parent, name = video.resolve().parent, video.resolve().name
    else:
        parent, name = video.parent.resolve(), video.name
    stem = name if video.is_dir() else PurePath(name).stem
    if not stem.strip(". "):  # "...mp4" would name the folder above
        stem = name
    return _NamedClip(video, parent, name, stem, depth)


def _with_unique_names(clips: Sequence[_NamedClip]) -> list[_NamedClip]:
    """Lengthen names until none is equal to another's, or inside another's folder."""
    named = list(clips)
    while True:
        longer = _lengthen(named)
        if longer == named:
            return named
        named = longer


def _lengthen(named: Sequence[_NamedClip]) -> list[_NamedClip]:
    """Make names one step longer that are equal, or that another's folder would be inside of."""
    deeper, with_suffix, hashed = set[int](), set[int](), set[int]()
    by_key: dict[tuple[str, ...], list[int]] = {}
    for index, one in enumerate(named):
        by_key.setdefault(one.key, []).append(index)
    for same in by_key.values():
        for a, b in combinations(same, 2):
            apart = named[a].parent != named[b].parent
            can = [i for i in (a, b) if named[i].depth < len(named[i].parent.parts) - 1]
            if apart and can:
                deeper.update(can)
            elif not named[a].with_suffix or not named[b].with_suffix:
                with_suffix.update((a, b))
            else:
                hashed.update((a, b))
    above = {one.key[:n] for one in named for n in range(1, len(one.key))} | {(n,) for n in LEDGER}
    for index, one in enumerate(named):
        if one.key in above:
            (hashed if one.with_suffix else with_suffix).add(index)
    return [
        replace(
            one,
            depth=one.depth + (index in deeper),
            with_suffix=one.with_suffix or index in with_suffix,
            hash=one.hash or _hash(one) * (index in hashed),
        )
        for index, one in enumerate(named)
    ]


def _hash(one: _NamedClip) -> str:
    """Return a short hash of the clip's path."""
    path = str(one.parent / one.name).encode(errors="surrogateescape")
    return "-" + hashlib.sha256(path).hexdigest()[:8]
