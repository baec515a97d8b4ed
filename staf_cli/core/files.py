"""Atomic writes, hashes, and where the user's own data lie."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from staf_cli.core.errors import OutputError, one_line, reason_of
from staf_cli.core.interrupts import undone_by

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LARGEST_JSON = 8 * 2**20  # bytes, of which hostile ones make forty times as many in memory
TEMPORARY = ".staf-"  # how the names of unfinished files start; a kill leaves them behind


def data_folder() -> Path:
    """The folder for fetched weights and imported bodies: $STAF_DATA, or the platform's own."""
    chosen = os.environ.get("STAF_DATA")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path  # not on machines that only train

    return user_data_path("staf", appauthor=False)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(folder: Path, pattern: str) -> str | None:
    """A hash of names and contents of a folder's files like a glob pattern; None without any."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        return None
    total = hashlib.sha256()
    for path in found:
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def sweep(folder: Path) -> None:
    """Remove what `atomic` could not, because its process was killed, in and below a folder.

    Nobody else may be writing there.
    """
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.is_file() or leftover.is_symlink():
            leftover.unlink(missing_ok=True)


def check_links(folder: Path) -> None:
    """Raise OutputError where a folder inside of this one is a link, through which to write.

    A result may come from a stranger; where the folder itself lies is the user's own choice.
    """
    for place in (*folder.glob("*"), *folder.glob("meshes/*")):
        if place.is_symlink() and place.is_dir():
            raise OutputError(
                f"{printable(place)}: is a link to another folder; remove the link, "
                "so that nothing is written there"
            )


def read_json(path: Path) -> Any:
    """What a JSON file says that staf wrote, or that a stranger says so of.

    Raises OSError, or ValueError where it is no JSON, larger than any of ours, or too deep.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    if not path.is_file() or path.stat().st_size > LARGEST_JSON:  # a pipe would be waited for
        raise ValueError(f"{printable(path)}: not a file of staf's")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{printable(path)}: nested too deeply") from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, which becomes `path` only if the block succeeds.

    The temporary name keeps the suffix (writers choose a format by it). The file is synced
    before it is renamed, so that no reader ever sees a part of it; on any failure, Ctrl-C
    included, it is removed and an older file under `path` stays as it was.

    Raises OutputError where the folder or the file cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    # Before the file is there: an interrupt may come between any two instructions.
    with undone_by(lambda: temporary.unlink(missing_ok=True)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("r+b") as written:  # Windows syncs only what may be written
                os.fsync(written.fileno())
            temporary.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error


@contextmanager
def locked(folder: Path, lock: str, busy: str) -> Iterator[None]:
    """Keep other processes of this machine out of a folder for the block.

    The lock is a file in the system's temporary folder, named by a hash of the folder's path:
    the folder itself stays clean, and need not exist.

    Args:
        folder: What is locked.
        lock: How the lock file's name begins; locks of different names do not meet.
        busy: What the error says after the folder's path, where another process has the lock.

    Raises:
        OutputError: Another process has the lock.
    """
    from filelock import FileLock, Timeout  # not on machines that only train

    path = str(folder.resolve()).encode(errors="surrogateescape")
    name = f"{lock}-{hashlib.sha256(path).hexdigest()[:16]}.lock"
    held = FileLock(Path(tempfile.gettempdir()) / name, timeout=0)
    try:
        held.acquire()
    except Timeout as error:
        raise OutputError(f"{printable(folder)}: {busy}") from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder outside the user's own, which is gone after the block.

    Raises OutputError where the system has no room for it.
    """
    folder = Path(tempfile.gettempdir(), f"{TEMPORARY}{secrets.token_hex(8)}")
    with undone_by(lambda: shutil.rmtree(folder, ignore_errors=True)):
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield folder


def printable(path: Path | str) -> str:
    """A path as text for messages: control characters and stray bytes are escaped."""
    return one_line(str(path))


def check_writable(folder: Path) -> None:
    """Try a file in the folder, or in its nearest parent that exists; leave nothing there.

    Raises OutputError, so that hours of work do not end at a read-only disk.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The one line for a failed write, from the system's own reason."""
    reason, room = reason_of(error), "free some space or " if error.errno in NO_ROOM else ""
    return OutputError(f"cannot write {printable(path)}: {reason}; {room}choose another --output")
