"""Each clip's result folder, by its name; no heavy library is imported for it.

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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePath
from urllib.parse import unquote_to_bytes

from staf_cli.core.errors import VideoError

ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/{1,3}(.*)", re.DOTALL)  # Path takes slashes
LEDGER = ("summary.csv", "summary.json", "summary.html")  # names in OUT that no clip may take


@dataclass(frozen=True)
class Job:
    """A clip to be processed, and where its results go."""

    video: Path  # or a folder of numbered pictures
    folder: Path  # of its results
    name: str  # the folder relative to OUT, with /


@dataclass(frozen=True)
class NamedClip:
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
        """The result folder relative to OUT."""
        parts = self.parent.parts[1:]  # without the root, or the drive
        shown = parts[max(0, len(parts) - self.depth) :]
        return PurePath(*shown, (self.name if self.with_suffix else self.stem) + self.hash)

    @property
    def key(self) -> tuple[str, ...]:
        """The path as file systems see it that ignore case, accents or final dots."""
        return tuple(
            unicodedata.normalize("NFC", part).casefold().rstrip(". ") for part in self.path.parts
        )


def single_job(video: Path, output: Path) -> Job:
    """Make the job of a command with a single clip.

    Args:
        video: the clip.
        output: the folder of all result folders.

    Returns:
        The job, under its shortest name.
    """
    video = local_path(video)
    path = name_clip(video, 0).path
    return Job(video, output / path, path.as_posix())


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
        raise VideoError(
            f"{text}: no such file; `staf live {text}` follows the people before a camera"
        )
    if address[1].lower() == "file":
        place = "/" + address[2].removeprefix("localhost/")
        return Path(os.fsdecode(unquote_to_bytes(os.fsencode(place))))
    raise VideoError(
        f"{address[1]}://{address[2]}: is an address; download the video first, and name the file; "
        "`staf live` follows the people of a stream"
    )


def name_clip(video: Path, depth: int) -> NamedClip:
    """Give a clip its shortest name; folders, and files named by dots alone, keep their suffix."""
    if video.name in ("", ".."):  # of a folder that is named relatively
        parent, name = video.resolve().parent, video.resolve().name
    else:
        parent, name = video.parent.resolve(), video.name
    stem = name if video.is_dir() else PurePath(name).stem
    if not stem.strip(". "):  # "...mp4" would name the folder above
        stem = name
    return NamedClip(video, parent, name, stem, depth)


def with_unique_names(clips: Sequence[NamedClip]) -> list[NamedClip]:
    """Lengthen names until none is equal to another's, or inside another's folder."""
    named = list(clips)
    while True:
        longer = _lengthen(named)
        if longer == named:
            return named
        named = longer


def _lengthen(named: Sequence[NamedClip]) -> list[NamedClip]:
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


def _hash(one: NamedClip) -> str:
    """Return a short hash of the clip's path."""
    path = str(one.parent / one.name).encode(errors="surrogateescape")
    return "-" + hashlib.sha256(path).hexdigest()[:8]
