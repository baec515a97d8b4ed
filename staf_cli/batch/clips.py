"""What to work on: files, folders and lists become clips, each with a result folder of its own.

A clip of a folder is mirrored (clips/a/x.mp4 -> OUT/a/x/), one that is named itself is not
(clips/a/x.mp4 -> OUT/x/). Names that would meet become longer, all of them alike, so that the
order of the arguments does not matter: by their folders' names where they lie in different ones
(OUT/a/x/ and OUT/b/x/), by their suffix where they lie side by side (OUT/x.mp4/, OUT/x.mov/).
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePath

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import printable
from staf_cli.result.journal import RUN, UNFINISHED
from staf_cli.video import is_sequence

# fmt: off
VIDEOS = frozenset({
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
RESULTS = (RUN, UNFINISHED)  # by which the folder of an earlier result is known
LEDGER = ("summary.csv", "summary.json")  # names in OUT that no clip may take


@dataclass(frozen=True)
class Job:
    """One clip to be done: a video, or a folder of numbered pictures, and where to."""

    video: Path
    folder: Path
    name: str  # the folder as seen from OUT, with /


@dataclass(frozen=True)
class Choice:
    """Which files of a folder are meant."""

    recursive: bool = False
    pattern: str | None = None  # None: files with a video's suffix


@dataclass(frozen=True)
class _Named:
    """A clip and how much of its path its result folder shows."""

    video: Path
    place: Path  # the video's folder, absolute
    name: str
    stem: str
    depth: int  # how many of the place's parts are shown
    whole: bool = False  # the name with its suffix
    mark: str = ""  # where nothing else tells two apart

    @property
    def path(self) -> PurePath:
        parts = self.place.parts[1:]  # without the root, or the drive
        shown = parts[max(0, len(parts) - self.depth) :]
        return PurePath(*shown, (self.name if self.whole else self.stem) + self.mark)

    @property
    def key(self) -> tuple[str, ...]:
        """What file systems that know no case, accents or final dots take for the same."""
        return tuple(
            unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in self.path.parts
        )


def gather(
    arguments: Iterable[Path], lists: Iterable[Path], choice: Choice, output: Path
) -> tuple[list[Job], list[str]]:
    """The clips of a command in a fixed order, none twice, and lines the user should see.

    A file that is not there is a clip all the same: one that will fail, and stop no other.
    Raises UsageError for a list that cannot be read, VideoError where no clip is found at all.
    """
    notes: list[str] = []
    named = [found for path in arguments for found in _expand(path, choice, output)]
    for path in lists:
        for number, line in _lines(path):
            if not line.exists():
                notes.append(f"{printable(path)}, line {number}: no such file {printable(line)}")
            named += _expand(line, choice, output)
    unique = {found.place / found.name: found for found in reversed(named)}
    jobs = [
        Job(found.video, output / found.path, found.path.as_posix())
        for found in _told_apart(list(reversed(unique.values())))
    ]
    if not jobs:
        raise VideoError("no clip in the lists; write the path of a video in every line")
    return jobs, notes


def alone(video: Path, output: Path) -> Job:
    """The job of a command with a single clip."""
    path = _named(video, 0).path
    return Job(video, output / path, path.as_posix())


def is_one(path: Path) -> bool:
    """Whether an argument is a single clip. Raises VideoError for an unreadable folder."""
    return not path.is_dir() or is_pictures(path)


def is_pictures(folder: Path) -> bool:
    """Whether a folder is one clip: it holds pictures and no videos. Raises VideoError."""
    if not is_sequence(folder):
        return False
    return not any(_meant(PurePath(path.name), None) for path in folder.iterdir())


def _expand(path: Path, choice: Choice, output: Path) -> Iterator[_Named]:
    """The clips of one argument. Raises VideoError for a folder without any."""
    if is_one(path):
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
    """The clips in a folder, and how many folders deep each lies.

    Left out: hidden ones, the output folder, earlier results, and folders behind links.
    """

    def refuse(error: OSError) -> None:
        raise VideoError(
            f"{printable(folder)}: cannot be read: {(error.strerror or str(error)).lower()}"
        )

    for place, folders, names in os.walk(folder, onerror=refuse):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        for name in sorted(names):
            if not _hidden(name) and _meant(here.relative_to(folder) / name, choice.pattern):
                yield here / name, depth
        kept = [
            name
            for name in sorted(folders)
            if choice.recursive
            and not _hidden(name)
            and (here / name).resolve() != output
            and not any((here / name / result).exists() for result in RESULTS)
        ]
        sequences = [name for name in kept if choice.pattern is None and is_pictures(here / name)]
        for name in sequences:
            yield here / name, depth
        folders[:] = kept


def _meant(path: PurePath, pattern: str | None) -> bool:
    if pattern is None:
        return path.suffix.lower() in VIDEOS
    return PurePath(str(path).casefold()).match(pattern.casefold())


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _lines(path: Path) -> Iterator[tuple[int, Path]]:
    """The paths in a list, each with the number of its line; relative ones start at the list."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{printable(path)}: the list cannot be read: {reason}") from error
    for number, line in enumerate(text.split("\n"), 1):
        name = line.strip()
        if "\0" in name:
            raise UsageError(f"{printable(path)}, line {number}: no path; is this a text file?")
        if name and not name.startswith("#"):
            yield number, path.parent / name


def _named(video: Path, depth: int) -> _Named:
    """A clip under its shortest name. A picture folder's is whole; so is one of dots alone."""
    if video.name in ("", ".."):  # of a folder that is named relatively
        place, name = video.resolve().parent, video.resolve().name
    else:
        place, name = video.parent.resolve(), video.name
    stem = name if video.is_dir() else PurePath(name).stem
    if not stem.strip(". "):  # "...mp4" would name the folder above
        stem = name
    return _Named(video, place, name, stem, depth)


def _told_apart(clips: Sequence[_Named]) -> list[_Named]:
    """The same clips under names of which none is another's, or lies inside another's."""
    named = list(clips)
    while True:
        longer = _lengthened(named)
        if longer == named:
            return named
        named = longer


def _lengthened(named: Sequence[_Named]) -> list[_Named]:
    """Every clip that meets another, or that another's folder would lie in, one step longer."""
    deeper, whole, marked = set[int](), set[int](), set[int]()
    by_key: dict[tuple[str, ...], list[int]] = {}
    for index, one in enumerate(named):
        by_key.setdefault(one.key, []).append(index)
    for same in by_key.values():
        for a, b in combinations(same, 2):
            apart = named[a].place != named[b].place
            can = [i for i in (a, b) if named[i].depth < len(named[i].place.parts) - 1]
            if apart and can:
                deeper.update(can)
            elif not named[a].whole or not named[b].whole:
                whole.update((a, b))
            else:
                marked.update((a, b))
    above = {one.key[:n] for one in named for n in range(1, len(one.key))} | {(n,) for n in LEDGER}
    for index, one in enumerate(named):
        if one.key in above:
            (marked if one.whole else whole).add(index)
    return [
        replace(
            one,
            depth=one.depth + (index in deeper),
            whole=one.whole or index in whole,
            mark=one.mark or _mark(one) * (index in marked),
        )
        for index, one in enumerate(named)
    ]


def _mark(one: _Named) -> str:
    """A few letters that belong to this very path."""
    path = str(one.place / one.name).encode(errors="surrogateescape")
    return "-" + hashlib.sha256(path).hexdigest()[:8]
