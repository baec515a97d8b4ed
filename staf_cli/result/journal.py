"""What has been done for a clip, pass by pass, so that nothing right is ever done again.

A pass is known by a key, the hash of all that it depends on, and by the hashes of the files it
wrote. The journal of a finished clip is part of its run.json; while a clip is being worked on,
its folder has unfinished.json instead. A pass still stands if its key is the one asked for and
its files are as they were written.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from staf_cli.core.errors import OutputError
from staf_cli.core.files import atomic, check_links, digest, locked, printable, read_json, sweep

RUN = "run.json"  # written last: a folder without it is not finished
UNFINISHED = "unfinished.json"


@dataclass(frozen=True)
class Pass:
    """One thing done: what it depended on, what it wrote, and what is worth remembering.

    Raises ValueError for what no pass can be: the journal may come from anybody.
    """

    key: str
    files: dict[str, str] = field(default_factory=dict)  # pattern in the folder: its `digest`
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of its parts

    def __post_init__(self) -> None:
        kinds = ((self.key, str), (self.files, dict), (self.facts, dict), (self.seconds, dict))
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise ValueError("a pass has a key, files, facts and seconds")
        if not all(isinstance(value, int | float) for value in self.seconds.values()):
            raise ValueError("seconds are numbers")
        for file in map(PurePosixPath, self.files):
            if file.is_absolute() or ".." in file.parts or not file.parts:
                raise ValueError(f"{file}: is not inside the folder")


def key_of(*parts: Any) -> str:
    """One hash over values that JSON can say."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The passes of one clip's folder."""

    def __init__(self, folder: Path, passes: Mapping[str, Pass], finished: bool) -> None:
        self.folder = folder
        self.passes = dict(passes)
        self.finished = finished  # run.json is there and says what `passes` says
        self.changed = False  # since it was read

    def standing(self, name: str, key: str) -> Pass | None:
        """A pass that need not be done again, else None."""
        known = self.passes.get(name)
        if known is None or known.key != key:
            return None
        return known if all(self.intact(*item) for item in known.files.items()) else None

    def edited(self, name: str) -> str | None:
        """What somebody has changed since a pass wrote it, else None; what is gone is not."""
        known = self.passes.get(name, Pass(""))
        changed = (
            file
            for file, written in known.files.items()
            if digest(self.folder, file) not in (written, None)
        )
        return next(changed, None)

    def begin(self) -> None:
        """Say that the folder is being worked on, before anything in it is replaced."""
        self.save()
        (self.folder / RUN).unlink(missing_ok=True)
        self.finished = False

    def keep(
        self,
        name: str,
        key: str,
        files: Iterable[str],
        seconds: dict[str, float],
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Remember a pass whose files are written: patterns that find them in the folder.

        It is on the disk with the next `save`.
        """
        hashes = {file: digest(self.folder, file) or "" for file in files}
        rounded = {part: round(value, 2) for part, value in seconds.items()}
        self.passes[name] = Pass(key, hashes, facts or {}, rounded)
        self.changed = True

    def save(self) -> None:
        """Bring what is remembered to the disk, as the journal of an unfinished clip."""
        passes = {name: asdict(one) for name, one in self.passes.items()}
        with atomic(self.folder / UNFINISHED) as temporary:
            temporary.write_text(json.dumps({"passes": passes}) + "\n", encoding="utf-8")

    def forget(self) -> None:
        """Take nothing for done."""
        self.passes = {}
        self.changed = True

    def drop(self, name: str) -> None:
        """Forget one pass."""
        del self.passes[name]
        self.changed = True

    def finish(self, account: dict[str, Any]) -> None:
        """Write run.json: from now on the folder counts as finished.

        Raises OutputError where somebody has removed what was written.
        """
        for file in (file for one in self.passes.values() for file in one.files):
            if not any(self.folder.glob(file)):
                raise OutputError(
                    f"{printable(self.folder / file)}: was removed while its clip was worked on; "
                    "run the clip again"
                )
        passes = {name: asdict(one) for name, one in self.passes.items()}
        with atomic(self.folder / RUN) as temporary:
            text = json.dumps({**account, "passes": passes}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        self.finished = True

    def intact(self, file: str, written: str) -> bool:
        """Whether the files of a pattern still have the digest with which they were written."""
        try:
            return digest(self.folder, file) == written
        except OSError:
            return False


def read(folder: Path) -> Journal:
    """The journal of a folder; an empty one where there is none that can be understood."""
    for name in (UNFINISHED, RUN):  # where a kill has left both, the first is to be believed
        try:
            passes = read_json(folder / name)["passes"]
            known = {str(key): Pass(**value) for key, value in passes.items()}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Journal(folder, {}, finished=False)
        return Journal(folder, known, finished=name == RUN)
    return Journal(folder, {}, finished=False)


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """The journal of a folder in which nobody else works meanwhile; killed runs' leavings go.

    The folder is not made: who has nothing to write leaves none. Raises OutputError where
    another process is working on the same clip. A KeyboardInterrupt takes a note of what is done.
    """
    busy = "another staf is at work on this clip; wait for it, or choose another --output"
    with locked(folder, "staf", busy):
        check_links(folder)
        sweep(folder)
        log = read(folder)
        try:
            yield log
        except KeyboardInterrupt as stop:
            if log.passes:
                stop.add_note(f"{printable(folder)} keeps: {', '.join(log.passes)}")
            raise
