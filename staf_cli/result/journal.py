"""Which passes are done for a clip, so that nothing that is up to date is computed again.

A pass has a key, the hash of everything it depends on, and the hashes of the files it wrote. It
is up to date if its key is the one asked for and its files are unchanged. The journal of a
finished clip is part of its run.json; while a clip is computed, its folder has unfinished.json.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from staf_cli.core.errors import OutputError
from staf_cli.core.files import (
    atomic,
    check_links,
    digest,
    printable,
    read_json,
    remove_leftovers,
)
from staf_cli.core.locks import locked
from staf_cli.core.numbered import unpack
from staf_cli.result.run_record import (
    CameraFacts,
    Facts,
    PassRecord,
    PeopleFacts,
    RunRecord,
    TrackFacts,
    passes_from_json,
)

RUN = "run.json"  # written last: a folder without it is not finished
UNFINISHED = "unfinished.json"
LOCK = ".staf.lock"  # while a process works in the folder
EXPORT = "export "  # how the names of passes begin that write a format


def key_of(*parts: Any) -> str:
    """Hash values that JSON can hold.

    Args:
        *parts: the values.

    Returns:
        The SHA-256 in hexadecimal.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """The passes of one clip's folder."""

    def __init__(self, folder: Path, passes: Mapping[str, PassRecord], finished: bool) -> None:
        """Make a journal from what is known.

        Args:
            folder: of the clip's results.
            passes: that are done, by name.
            finished: whether run.json is there and holds these passes.
        """
        self.folder = folder
        self.passes = dict(passes)
        self.finished = finished
        self.changed = False  # since it was read

    @property
    def track_facts(self) -> TrackFacts | None:
        """What is kept of the pass "track"; None before it was done."""
        known = self.passes.get("track")
        return known.facts if known and isinstance(known.facts, TrackFacts) else None

    @property
    def camera_facts(self) -> CameraFacts | None:
        """What is kept of the pass "camera"; None before it was done."""
        known = self.passes.get("camera")
        return known.facts if known and isinstance(known.facts, CameraFacts) else None

    @property
    def landmark_facts(self) -> PeopleFacts | None:
        """What is kept of the pass "landmarks"; None before it was done."""
        return self._people_facts("landmarks")

    @property
    def recover_facts(self) -> PeopleFacts | None:
        """What is kept of the pass "recover"; None before it was done."""
        return self._people_facts("recover")

    def _people_facts(self, name: str) -> PeopleFacts | None:
        known = self.passes.get(name)
        return known.facts if known and isinstance(known.facts, PeopleFacts) else None

    @property
    def frames(self) -> range:
        """The indices of the clip's frames, once the pass "track" is done."""
        facts = self.track_facts
        assert facts is not None
        return facts.indices

    @property
    def seconds(self) -> dict[str, float]:
        """What every part of every pass took, whenever it was done."""
        return {part: value for one in self.passes.values() for part, value in one.seconds.items()}

    @property
    def exports(self) -> list[str]:
        """The names of the formats that are exported."""
        return [name.removeprefix(EXPORT) for name in self.passes if name.startswith(EXPORT)]

    @property
    def files(self) -> set[str]:
        """All files that passes have written, as `numbered.pack` names them."""
        return {file for one in self.passes.values() for file in one.files}

    def up_to_date(self, name: str, key: str) -> PassRecord | None:
        """Find a pass that need not be done again.

        Args:
            name: of the pass.
            key: that it must have.

        Returns:
            The pass, or None where it has another key or a file of it has changed.
        """
        known = self.passes.get(name)
        if known is None or known.key != key:
            return None
        return known if all(self.intact(*item) for item in known.files.items()) else None

    def edited(self, name: str) -> str | None:
        """Find a file that was changed since a pass wrote it; files that are gone do not count.

        Args:
            name: of the pass.

        Returns:
            The file, or None.
        """
        known = self.passes.get(name)
        if known is None:
            return None
        changed = (
            file
            for file, written in known.files.items()
            if digest(self.folder, file) not in (written, None)
        )
        return next(changed, None)

    def begin(self) -> None:
        """Mark the folder as unfinished, before anything in it is replaced."""
        self.save()
        (self.folder / RUN).unlink(missing_ok=True)
        self.finished = False

    def keep(
        self,
        name: str,
        key: str,
        files: Iterable[str],
        seconds: Mapping[str, float],
        facts: Facts | None = None,
    ) -> None:
        """Add a pass whose files are written; it is on the disk with the next `save`.

        Args:
            name: of the pass.
            key: a hash of everything it depends on.
            files: its files, as `numbered.pack` names them.
            seconds: by part of the pass.
            facts: what later passes need to know.
        """
        hashes = {file: digest(self.folder, file) or "" for file in files}
        rounded = {part: round(value, 2) for part, value in seconds.items()}
        self.passes[name] = PassRecord(key, hashes, facts, rounded)
        self.changed = True

    def written(self, name: str, file: str) -> None:
        """Note that a later pass has written a file of a pass anew.

        Args:
            name: of the pass whose file it is.
            file: its name.
        """
        known = self.passes[name]
        hashes = {**known.files, file: digest(self.folder, file) or ""}
        self.passes[name] = replace(known, files=hashes)
        self.changed = True

    def save(self) -> None:
        """Write the passes to the disk, as the journal of an unfinished clip."""
        passes = {name: one.to_json() for name, one in self.passes.items()}
        with atomic(self.folder / UNFINISHED) as temporary:
            temporary.write_text(json.dumps({"passes": passes}) + "\n", encoding="utf-8")

    def forget(self) -> None:
        """Drop all passes."""
        self.passes = {}
        self.changed = True

    def drop(self, name: str) -> None:
        """Drop one pass."""
        del self.passes[name]
        self.changed = True

    def finish(self, record: RunRecord) -> None:
        """Write run.json: from now on the folder counts as finished.

        Args:
            record: with the passes of this journal.

        Raises:
            OutputError: a file of a pass was removed meanwhile.
        """
        for file in unpack(self.files):
            if not (self.folder / file).exists():
                raise OutputError(
                    f"{printable(self.folder / file)}: was removed while its clip was worked on; "
                    "run the clip again"
                )
        with atomic(self.folder / RUN) as temporary:
            text = json.dumps(record.to_json(), indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        self.finished = True

    def intact(self, file: str, written: str) -> bool:
        """Tell whether files are unchanged.

        Args:
            file: the file, or several as `numbered.pack` names them.
            written: the digest that they had when they were written.

        Returns:
            Whether they still have it.
        """
        try:
            return digest(self.folder, file) == written
        except (OSError, ValueError):
            return False


def read(folder: Path) -> Journal:
    """Read the journal of a folder.

    Args:
        folder: of a clip's results; it need not exist.

    Returns:
        The journal; an empty one where there is none that staf can have written.
    """
    for name in (UNFINISHED, RUN):  # a killed process may have left both; the first is newer
        try:
            passes = passes_from_json(read_json(folder / name)["passes"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            return Journal(folder, {}, finished=False)
        return Journal(folder, passes, finished=name == RUN)
    return Journal(folder, {}, finished=False)


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """Keep other processes out of a folder for the block, and remove what killed ones left.

    Args:
        folder: of a clip's results; a failed run leaves none where there was none.

    Yields:
        The folder's journal.

    Raises:
        OutputError: another process is working on the same clip.
        KeyboardInterrupt: that of the block, with a note of the passes that are done.
    """
    with locked(folder, LOCK, "another staf is at work on this clip"):
        check_links(folder)
        remove_leftovers(folder)
        log = read(folder)
        try:
            yield log
        except KeyboardInterrupt as stop:
            if log.passes:
                stop.add_note(f"{printable(folder)} keeps: {', '.join(log.passes)}")
            raise


def tidy(folder: Path) -> None:
    """Remove what a killed process left in a clip's folder, unless another one is at work there.

    Args:
        folder: of the clip's results; it need not exist.
    """
    with suppress(OutputError), opened(folder):
        pass
    with suppress(OSError):
        folder.rmdir()  # where the process had not written anything yet
