"""A process in which the command line gets untrusted files.

It measures each command's time and memory, and records every program started and every
connection tried. What a library opens by itself is asked of the kernel (`opened_files`).
"""

import contextlib
import ctypes
import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.paths import ROOT

HANGS = 240  # s after which the child is ended
ADDRESS_SPACE = 6 * 2**30  # bytes of address space for the child beyond what its libraries take
IN_OPEN = 0x20
DANGEROUS = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen"),
    *("socket.connect", "socket.getaddrinfo", "socket.sendto", "webbrowser.open"),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one command."""

    code: int
    out: str
    err: str
    seconds: float  # of processor time
    megabytes: float  # of memory at its highest, beyond what was held before
    events: list[str]  # programs started and connections tried


def attempt(commands: Sequence[Sequence[str | Path]], folder: Path) -> list[Outcome]:
    """Run `staf` with each of these arguments in one child, and return what happened.

    Fewer outcomes than commands: the child crashed, or hung, in the first that is missing.
    """
    outcomes = folder / "outcomes.jsonl"
    outcomes.touch()
    data = folder / "data"
    data.mkdir(exist_ok=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-m", "tests.support.measured_process", str(outcomes)],
            input=json.dumps([[str(a) for a in command] for command in commands]),
            text=True,
            timeout=HANGS,
            cwd=ROOT,
            env=os.environ | {"STAF_DATA": str(data), "OMP_NUM_THREADS": "1"},
        )
    return [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]


@contextlib.contextmanager
def opened_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Collect, from the kernel, which of these files are opened, also by libraries."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    watches = {libc.inotify_add_watch(descriptor, os.fsencode(p), IN_OPEN): p for p in paths}
    assert descriptor >= 0 and min(watches, default=0) >= 0
    seen: list[Path] = []
    try:
        yield seen
        with contextlib.suppress(BlockingIOError):
            while content := os.read(descriptor, 2**16):
                seen += [watches[event[0]] for event in struct.iter_unpack("iIII", content)]
    finally:
        os.close(descriptor)


def _child(outcomes: Path, commands: Sequence[Sequence[str]]) -> None:
    from staf_cli.cli import app
    from staf_cli.pipeline.loading import prepare_recovery
    from staf_cli.recovery.options import RecoveryOptions
    from staf_cli.tracking.ultralytics_import import import_ultralytics

    import_ultralytics()
    prepare_recovery(RecoveryOptions())  # where OpenVINO is, the first time takes seconds
    with contextlib.suppress(ImportError):
        import h5py  # noqa: F401  its import asks the system for the processor's name
    events: list[str] = []
    recording = False

    def notice(event: str, arguments: object) -> None:
        if recording and event in DANGEROUS:
            events.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(notice)
    recording = True
    sys.audit("os.system", "a trial")
    recording = False
    assert len(events) == 1
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESS_SPACE, held + ADDRESS_SPACE))
    with outcomes.open("a") as lines:
        for command in commands:
            events.clear()
            recording = True
            outcome = _measured(app, command, events)
            recording = False
            lines.write(json.dumps(asdict(outcome)) + "\n")
            lines.flush()


def _measured(cli: object, command: Sequence[str], events: list[str]) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.process_time()
    sys.argv = ["staf", *command]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()  # type: ignore[attr-defined]
        except SystemExit as stop:
            code = int(stop.code or 0)
    seconds = time.process_time() - start
    megabytes = (_memory("VmHWM") - before) / 1e3
    return Outcome(code, out.getvalue(), err.getvalue(), seconds, megabytes, events[:])


def _memory(name: str) -> int:
    """One of the kernel's numbers on this process's memory, kB."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    _child(Path(sys.argv[1]), json.load(sys.stdin))
