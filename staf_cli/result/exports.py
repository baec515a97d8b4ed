"""exports.json: the files that exports have written into a folder, so that no older one stays.

Exports share their folders with files of the user's own. What is removed is what an earlier export
wrote by this record, and nothing else. The record names a file before it is written, so that a
killed export leaves none behind that nobody knows.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from staf_cli.core.files import atomic, read_json
from staf_cli.core.numbered import pack, unpack
from staf_cli.export import FORMATS, Scene

EXPORTS = "exports.json"


def write(folder: Path, name: str, scene: Scene) -> Iterator[Path]:
    """Write a format, and remove the files that an earlier export of it wrote and this one did not.

    Args:
        folder: of the results, or any other.
        name: of the format.
        scene: what to write.

    Yields:
        Each file's path, once the file is complete.

    Raises:
        UsageError: the format needs what the scene does not have.
        OutputError: a file cannot be written.
    """
    names = FORMATS[name].names(scene)
    recorded = read(folder)
    earlier = set(unpack(recorded.get(name, ())))
    _save(folder, {**recorded, name: pack(earlier.union(names))})
    yield from FORMATS[name].write(folder, scene)
    _remove(folder, name, earlier.difference(names))
    _save(folder, {**recorded, name: pack(names)})


def remove_all_but(folder: Path, kept: Collection[str]) -> None:
    """Remove the files of all exports but some.

    Args:
        folder: of the results.
        kept: names of the formats whose files stay.

    Raises:
        OutputError: the record cannot be written.
    """
    recorded = read(folder)
    outdated = recorded.keys() - set(kept)
    for name in outdated:
        _remove(folder, name, set(unpack(recorded[name])))
    if outdated:
        _save(folder, {name: recorded[name] for name in recorded.keys() - outdated})


def read(folder: Path) -> dict[str, list[str]]:
    """Read which files each format has written.

    Args:
        folder: of the results; it need not exist.

    Returns:
        By format what `numbered.pack` made of the names; empty where there is no record of ours.
    """
    try:
        recorded = read_json(folder / EXPORTS)
        for names in recorded.values():
            for _ in unpack(names):
                pass
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: list(names) for name, names in recorded.items() if name in FORMATS}


def _save(folder: Path, recorded: Mapping[str, list[str]]) -> None:
    if not recorded:
        (folder / EXPORTS).unlink(missing_ok=True)
        return
    with atomic(folder / EXPORTS) as temporary:
        text = json.dumps(dict(sorted(recorded.items())), indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def _remove(folder: Path, name: str, outdated: Collection[str]) -> None:
    """Remove files of a format, and the folders that they leave empty; links are not followed."""
    if not outdated:
        return
    for path in list(folder.glob(FORMATS[name].files)):  # nothing else, whatever the record says
        above = [place for place in path.parents if folder in place.parents]
        linked = any(place.is_symlink() for place in above)
        if linked or path.relative_to(folder).as_posix() not in outdated:
            continue
        path.unlink()
        for place in above:
            if not any(place.iterdir()):
                place.rmdir()
