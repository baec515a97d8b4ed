"""Atomic writes, hashes, and where the user's own data lie."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from staf_cli.errors import OutputError


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


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, which becomes `path` only if the block succeeds.

    The temporary name keeps the suffix (writers choose a format by it). The file is synced
    before it is renamed, so that no reader ever sees a part of it; on any failure, Ctrl-C
    included, it is removed and an older file under `path` stays as it was.

    Raises OutputError where the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
        )
        os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as written:  # Windows syncs only what may be written
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def printable(path: Path) -> str:
    """A path as text for messages: control characters and stray bytes are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


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
    reason = (error.strerror or str(error)).lower()
    return OutputError(
        f"cannot write {printable(path)}: {reason}; free some space or choose another --output"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
