"""A result folder: what one clip's run leaves behind, and reading it back.

OUT/<clip>/  overlay.mp4  report.html  tracks.csv  person_<id>.npz  run.json  and what --export
asks for
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.files import read_json
from staf_cli.core.records import (
    Float,
    Frame,
    Person,
    Track,
    TrackRow,
    frames_with_people,
    select_rows,
)
from staf_cli.export import FORMATS
from staf_cli.result import person_npz, tracks_csv
from staf_cli.result.journal import RUN
from staf_cli.video import content_hash

TRACKS = "tracks.csv"
LONGEST_PATH = 4096  # as Linux has it
REPORT = "report.html"
OVERLAYS = ("overlay.mp4", "overlay.mov")  # which of them depends on the codec
# Of run.json, needed to go on from it.
KEYS = {"video", "frames", "damage", "body_file", "options", "passes"}
MOST_JOINTS = 100_000  # frames of all people whose joints are looked at together


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
        earlier = read_json(folder / RUN)["video"]
        moved = earlier["path"] != str(video.absolute())
        other = moved and earlier["sha256"] != content_hash(video)
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing there, or nothing that can be used
    if other:
        raise UsageError(
            f"{folder} holds the results of {earlier['path']!s:.300}; choose another --output"
        )


def tidy(folder: Path, kept: Collection[str]) -> None:
    """Remove what an older run left of the kinds that `staf run` writes, but for what is kept.

    kept: patterns of files in the folder. Links are removed, never followed.
    """
    wanted = {path for pattern in kept for path in folder.glob(pattern)}
    formats = (one.FILES for one in FORMATS.values())
    for pattern in (*OVERLAYS, REPORT, "person_[0-9]*.npz", *formats):
        for old in set(folder.glob(pattern)) - wanted:
            above = [place for place in old.parents if folder in place.parents]
            if not any(place.is_symlink() for place in above):
                old.unlink()
                for emptied in above:
                    if not any(emptied.iterdir()):
                        emptied.rmdir()


def load_people(folder: Path, tracks: Sequence[Track]) -> list[Person]:
    """The people of these tracks from their files.

    Raises TracksError where one is missing or damaged, or was made of another track.
    """
    people = [
        person_npz.load(person_npz.path_of(folder, track.id), len(track.frame)) for track in tracks
    ]
    same = all(
        np.array_equal(track.frame, person.frame)
        for track, person in zip(tracks, people, strict=True)
    )
    if not people or not same:
        raise TracksError(f"{folder}: tracks.csv no longer fits the people; run the clip again")
    return people


def attend(
    frames: Iterable[Frame], folder: Path, tracks: Sequence[Track]
) -> Iterator[tuple[Frame, list[tuple[TrackRow, Person]]]]:
    """Each frame with everybody in it: the place in the tracks, and the person at this one frame.

    Memory grows with the people in a frame, not with the clip. Raises what `load_people` raises,
    as soon as the damaged or foreign part is reached.
    """
    reading: dict[int, Iterator[Person]] = {}  # by number in the list of tracks
    for frame, places in frames_with_people(frames, tracks):
        here = []
        for number, row in places:
            if number not in reading:
                reading[number] = _rows(folder, tracks[number], row)
            here.append(((number, row), next(reading[number])))
            if row == len(tracks[number].frame) - 1:
                del reading[number]
        yield frame, here


def check_people(folder: Path, tracks: Sequence[Track]) -> None:
    """Raise what `load_people` raises, in little memory."""
    for track in tracks:
        for _ in _stretches(folder, track):
            pass


def anybody(folder: Path, tracks: Sequence[Track]) -> Person:
    """The first person in their first frame, for what is the same for everybody."""
    return select_rows(next(_stretches(folder, tracks[0])), slice(1))


def joints(folder: Path, tracks: Sequence[Track]) -> Float:
    """Everybody's joints, (N, 3) m, camera frame; of a long clip's frames an even choice."""
    step = 1 + sum(len(track.frame) for track in tracks) // MOST_JOINTS
    chosen = [
        stretch.joints3d[::step].reshape(-1, 3)
        for track in tracks
        for stretch in _stretches(folder, track)
    ]
    return np.concatenate(chosen)


def _rows(folder: Path, track: Track, first: int) -> Iterator[Person]:
    """A person frame by frame, from one of the track's rows on."""
    begin = 0
    for stretch in _stretches(folder, track):
        for row in range(max(0, first - begin), len(stretch.frame)):
            yield select_rows(stretch, slice(row, row + 1))
        begin += len(stretch.frame)


def _stretches(folder: Path, track: Track) -> Iterator[Person]:
    """A track's person in stretches. Raises TracksError where it is another track's."""
    begin = 0
    for stretch in person_npz.stretches(person_npz.path_of(folder, track.id)):
        end = begin + len(stretch.frame)
        if not np.array_equal(stretch.frame, track.frame[begin:end]):
            break
        yield stretch
        begin = end
    if begin != len(track.frame):
        raise TracksError(f"{folder}: tracks.csv no longer fits the people; run the clip again")


def load(folder: Path) -> tuple[Results, dict[str, Any]]:
    """Read a finished folder and its run.json.

    Raises TracksError where it is none, or where a part is missing or damaged.
    """
    try:
        run = read_json(folder / RUN)
    except FileNotFoundError as error:
        raise TracksError(
            f"{folder}: is no finished result (no {RUN}); give the folder that staf run made"
        ) from error
    except (OSError, ValueError) as error:
        raise TracksError(f"{folder / RUN}: cannot be read; run the clip again") from error
    if not _was_written(run):
        raise TracksError(f"{folder / RUN}: was not written by staf run; run the clip again")
    tracks = tracks_csv.load(folder / TRACKS)
    return Results(folder, tracks, load_people(folder, tracks)), run


def _was_written(run: Any) -> bool:
    """Whether run.json has what is needed to go on from it, in the types that are needed."""
    if not isinstance(run, dict) or not run.keys() >= KEYS or not isinstance(run["video"], dict):
        return False
    texts = (run["video"].get("path"), run["video"].get("sha256"), run["body_file"])
    counts = (run["frames"], *run["damage"].values()) if isinstance(run["damage"], dict) else (-1,)
    return all(isinstance(text, str) and len(text) <= LONGEST_PATH for text in texts) and all(
        type(count) is int and 0 <= count < 2**53 for count in counts
    )
