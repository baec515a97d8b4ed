"""A result folder: what one clip's run leaves behind, and reading it back.

OUT/<clip>/  overlay.mp4  tracks.csv  person_<id>.npz  run.json  and what --export asks for
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.errors import TracksError, UsageError
from staf_cli.export import person_npz, tracks_csv
from staf_cli.files import atomic, sha256
from staf_cli.records import Person, Track

RUN = "run.json"  # written last: a folder without it is not finished
OVERLAYS = ("overlay.mp4", "overlay.mov")  # which of them depends on the codec
KEYS = {"video", "frames", "damage", "body_file"}  # of run.json, needed to go on from it


@dataclass(frozen=True)
class Results:
    """What a result folder holds of its people; tracks and people in the same order."""

    folder: Path
    tracks: list[Track]
    people: list[Person]


def check_free(folder: Path, video: Path) -> None:
    """Raise UsageError if results in the folder would replace the video, or another video's."""
    if video.resolve() in {(folder / name).resolve() for name in OVERLAYS}:
        raise UsageError(f"{video} would be replaced by its own overlay; choose another --output")
    try:
        earlier = json.loads((folder / RUN).read_text(encoding="utf-8"))["video"]
        other = earlier["path"] != str(video.absolute()) and earlier["sha256"] != sha256(video)
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing there, or nothing that can be used
    if other:
        raise UsageError(
            f"{folder} holds the results of {earlier['path']}; choose another --output"
        )


def begin(folder: Path) -> None:
    """Remove what an older run left, first of all its claim to be finished; nothing else."""
    (folder / RUN).unlink(missing_ok=True)
    for pattern in (*OVERLAYS, "person_[0-9]*.npz", "meshes/person_[0-9]*/[0-9]*.obj"):
        for old in folder.glob(pattern):
            old.unlink()
    for emptied in (*folder.glob("meshes/person_[0-9]*"), folder / "meshes"):
        if emptied.is_dir() and not any(emptied.iterdir()):
            emptied.rmdir()


def save(folder: Path, tracks: Sequence[Track], people: Sequence[Person]) -> None:
    """Write the tables."""
    tracks_csv.save(folder / "tracks.csv", tracks)
    for person in people:
        person_npz.save(person_npz.path_of(folder, person.person), person)


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
    if not isinstance(run, dict) or not run.keys() >= KEYS:
        raise TracksError(f"{folder / RUN}: was not written by staf run; run the clip again")
    tracks = tracks_csv.load(folder / "tracks.csv")
    people = [person_npz.load(person_npz.path_of(folder, track.person)) for track in tracks]
    same = all(
        np.array_equal(track.frame, person.frame)
        for track, person in zip(tracks, people, strict=True)
    )
    if not people or not same:
        raise TracksError(f"{folder}: tracks.csv no longer fits the people; run the clip again")
    return Results(folder, tracks, people), run
