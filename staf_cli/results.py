"""A result folder: what one clip's run leaves behind, and reading it back.

OUT/<clip>/  overlay.mp4  tracks.csv  person_<id>.npz  run.json  and what --export asks for
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from staf_cli.errors import TracksError
from staf_cli.export import person_npz, tracks_csv
from staf_cli.files import atomic
from staf_cli.records import Person, Track

RUN = "run.json"  # written last: a folder without it is not finished


@dataclass(frozen=True)
class Results:
    """What a result folder holds of its people; tracks and people in the same order."""

    folder: Path
    tracks: list[Track]
    people: list[Person]


def begin(folder: Path) -> None:
    """Take an older run's claim to be finished away, before anything of it is replaced."""
    (folder / RUN).unlink(missing_ok=True)


def save(folder: Path, tracks: Sequence[Track], people: Sequence[Person]) -> None:
    """Write the tables; people of an older run who are not among these go."""
    tracks_csv.save(folder / "tracks.csv", tracks)
    for person in people:
        person_npz.save(person_npz.path_of(folder, person.person), person)
    ours = {person_npz.path_of(folder, person.person) for person in people}
    for old in set(folder.glob("person_*.npz")) - ours:
        old.unlink()


def finish(folder: Path, run: dict[str, Any]) -> None:
    """Write run.json: from now on the folder counts as finished."""
    with atomic(folder / RUN) as temporary:
        temporary.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Results, dict[str, Any]]:
    """Read a finished folder and its run.json.

    Raises TracksError where it is none, or where a part is missing or damaged.
    """
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TracksError(
            f"{folder}: is no finished result (no {RUN}); give the folder that staf run made"
        ) from error
    except (OSError, ValueError) as error:
        raise TracksError(f"{folder / RUN}: cannot be read; run the clip again") from error
    tracks = tracks_csv.load(folder / "tracks.csv")
    people = [person_npz.load(person_npz.path_of(folder, track.person)) for track in tracks]
    return Results(folder, tracks, people), run
