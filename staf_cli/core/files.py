"""Atomic writes, hashes, and the folder of the user's own data."""

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
from staf_cli.core.interrupts import cleanup
from staf_cli.core.numbered import unpack

# The pictures of a folder that is one clip.
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LARGEST_JSON = 8 * 2**20  # bytes, an untrusted file can take forty times as many in memory
TEMPORARY = ".staf-"  # how the names of unfinished files start; a kill leaves them behind


def data_folder() -> Path:
    """Return the folder for fetched weights and imported bodies: $STAF_DATA, or the platform's."""
    chosen = os.environ.get("STAF_DATA")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path  # not on machines that only train

    return user_data_path("staf", appauthor=False)


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's content, in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(folder: Path, files: str) -> str | None:
    """Compute one hash over the names and contents of some files of a folder.

    Args:
        folder: Where they are.
        files: A name, or several as `numbered.pack` names them.

    Returns:
        Lower-case hexadecimal; None where there is none of them.

    Raises:
        ValueError: `files` stands for more names than can be meant.
    """
    found = [name for name in unpack([files]) if (folder / name).is_file()]
    if not found:
        return None
    total = hashlib.sha256()
    for name in found:
        total.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return total.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what `atomic` could not because its process was killed, in and below a folder.

    No other process may be writing there.
    """
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        if leftover.is_file() or leftover.is_symlink():
            leftover.unlink(missing_ok=True)


def check_links(folder: Path) -> None:
    """Refuse a result folder in which a folder is a link, through which files would be written.

    A result may be untrusted; the path of the folder itself is the user's own choice.

    Raises:
        OutputError: A folder inside of this one is a link.
    """
    for inner in (*folder.glob("*"), *folder.glob("meshes/*")):
        if inner.is_symlink() and inner.is_dir():
            raise OutputError(
                f"{printable(inner)}: is a link to another folder; remove the link, "
                "so that nothing is written there"
            )


def read_json(path: Path) -> Any:
    """Read a JSON file of ours, which may be untrusted.

    Returns:
        The content.

    Raises:
        FileNotFoundError: The file is not there.
        OSError: The file cannot be read.
        ValueError: The file is no JSON, larger than any of ours, or nested too deeply.
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
    """Write a file as a whole or not at all.

    The temporary name keeps the suffix (writers choose a format by it). The file is synced
    before it is renamed, so that no reader ever sees a part of it; on any failure, Ctrl-C
    included, it is removed and an older file under `path` stays as it was.

    Args:
        path: The file to write; its folder is made where it is missing.

    Yields:
        A temporary path in the same folder, which becomes `path` if the block succeeds.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    # Before the file is there: an interrupt may come between any two instructions.
    with cleanup(lambda: temporary.unlink(missing_ok=True)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("r+b") as written:  # Windows syncs only what may be written
                os.fsync(written.fileno())
            temporary.replace(path)
        except OSError as error:
            raise OutputError(cannot_write(path, error)) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder in the system's temporary one, and remove it after the block.

    Yields:
        Its path.

    Raises:
        OutputError: The system cannot make it.
    """
    folder = Path(tempfile.gettempdir(), f"{TEMPORARY}{secrets.token_hex(8)}")
    with cleanup(lambda: shutil.rmtree(folder, ignore_errors=True)):
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(cannot_write(folder, error)) from error
        yield folder


def printable(path: Path | str) -> str:
    """Return a path as text for messages: control characters and stray bytes are escaped."""
    return one_line(str(path))


def check_writable(folder: Path) -> None:
    """Try to write in a folder, or in its nearest parent that exists; leave nothing there.

    To be called before hours of work, which should not end at a read-only disk.

    Raises:
        OutputError: Nothing can be written there.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise OutputError(cannot_write(folder, error)) from error


def cannot_write(path: Path, error: OSError) -> str:
    """Word the message of an OutputError after a failed write.

    Args:
        path: What could not be written.
        error: The system's error, whose reason is quoted.

    Returns:
        The message.
    """
    advice = "free some space or " if error.errno in NO_SPACE else ""
    reason = reason_of(error)
    return f"cannot write {printable(path)}: {reason}; {advice}choose another --output"
