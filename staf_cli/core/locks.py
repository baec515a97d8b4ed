"""Locks of folders: a file in the folder itself, which every machine that shares the folder sees.

The file names the process and its machine (`filelock.SoftFileLock`), and is removed afterwards. One
that a dead process of this machine left behind is taken over. Whether one on another machine still
lives cannot be known here: the error says who it is, and which file to remove if it is gone.
"""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from staf_cli.core.errors import OutputError
from staf_cli.core.files import cannot_write, printable
from staf_cli.core.interrupts import cleanup

PATIENCE = 0.3  # s; taking over a dead process's lock may need a second attempt


@contextmanager
def locked(folder: Path, name: str, busy: str) -> Iterator[None]:
    """Keep other processes, of this machine and of others, out of a folder for the block.

    A folder that does not exist is made; it is removed after the block if nothing was put there.

    Args:
        folder: What is locked.
        name: Of the lock's file; locks of different names do not meet.
        busy: What the error says of a folder whose lock another process has.

    Raises:
        OutputError: Another process has the lock, or the folder cannot be written.
    """
    from filelock import SoftFileLock, Timeout  # not on machines that only train

    place = folder.resolve()
    made = [path for path in (place, *place.parents) if not path.exists()]
    path = place / name
    held = SoftFileLock(path, timeout=PATIENCE, poll_interval=PATIENCE / 3, thread_local=False)

    def release() -> None:
        held.release(force=True)
        for empty in made:
            empty.rmdir()  # raises OSError, which ends this, where something was put

    with cleanup(release):
        try:
            place.mkdir(parents=True, exist_ok=True)
            held.acquire()
        except Timeout as error:
            raise OutputError(f"{printable(folder)}: {busy} {_holder(path)}") from error
        except OSError as error:
            raise OutputError(cannot_write(folder, error)) from error
        yield


def _holder(path: Path) -> str:
    """Say who holds a lock, since when, and what to do: in words that end the error's line."""
    owner, since = "somebody", ""
    with suppress(OSError):
        changed = path.stat().st_mtime
        since = time.strftime(", since %Y-%m-%d %H:%M", time.localtime(changed))
    with suppress(OSError, KeyError, NotImplementedError):
        owner = path.owner()
    wait = "wait for it, or choose another --output"
    try:
        process, machine, *_ = path.read_text(encoding="utf-8")[:1000].splitlines()
    except (OSError, ValueError):
        return f"({owner}{since}); {wait}; if it is gone, remove {printable(path)}"
    host = machine.partition("?")[0]  # what follows tells containers of one machine apart
    who = f"(process {process} of {owner} on {host}{since}); {wait}"
    elsewhere = machine != platform.node()
    return f"{who}; if it is gone, remove {printable(path)}" if elsewhere else who
