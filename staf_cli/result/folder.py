"""A result folder: what one clip's run leaves behind, and reading it back.

OUT/<clip>/  overlay.mp4  report.html  tracks.csv  camera.npz  landmarks_<id>.npz  person_<id>.npz
             run.json  and exports
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.files import read_json
from staf_cli.core.numbered import unpack
from staf_cli.core.records import (
    Float,
    Frame,
    Person,
    Track,
    TrackRow,
    frames_with_people,
    select_rows,
)
from staf_cli.export.motion import Y_UP
from staf_cli.result import camera_npz, person_npz, tracks_csv
from staf_cli.result.journal import RUN
from staf_cli.result.run_record import RunRecord
from staf_cli.video import content_hash

TRACKS = "tracks.csv"
REPORT = "report.html"
OVERLAYS = ("overlay.mp4", "overlay.mov", "overlay.png")  # by the codec; png of a picture
PERSONAL = re.compile(r"(person|landmarks)_\d+\.npz")
MOST_JOINTS = 100_000  # frames of all people whose joints are looked at together


Row = TypeVar("Row")


@dataclass(frozen=True)
class SavedResult:
    """A finished result folder, read."""

    folder: Path
    tracks: list[Track]
    people: list[Person]  # in the order of the tracks
    record: RunRecord  # run.json


def check_free(folder: Path, video: Path) -> None:
    """Check that results in a folder would replace neither the video nor another video's results.

    Args:
        folder: of the clip's results.
        video: a file, or a folder of pictures.

    Raises:
        UsageError: they would.
    """
    if video.resolve() in {(folder / name).resolve() for name in OVERLAYS}:
        raise UsageError(f"{video} would be replaced by its own overlay; choose another --output")
    try:
        earlier = RunRecord.from_json(read_json(folder / RUN)).video
        other = earlier.path != str(video.absolute()) and earlier.sha256 != content_hash(video)
    except (OSError, ValueError):
        return  # nothing there, or nothing that can be used
    if other:
        raise UsageError(
            f"{folder} holds the results of {earlier.path:.300}; choose another --output"
        )


def remove_outdated(folder: Path, kept: Collection[str]) -> None:
    """Remove what an earlier run wrote and this one did not; exports have their own.

    Links are removed, never followed.

    Args:
        folder: of the clip's results.
        kept: the files that stay, as `numbered.pack` names them.
    """
    wanted = set(unpack(kept))
    for path in list(folder.iterdir()):
        ours = path.name in (*OVERLAYS, REPORT, camera_npz.FILE) or PERSONAL.fullmatch(path.name)
        if ours and path.name not in wanted and (path.is_symlink() or path.is_file()):
            path.unlink()


def load_people(folder: Path, tracks: Sequence[Track]) -> list[Person]:
    """Read the people of some tracks.

    Args:
        folder: of the clip's results.
        tracks: of the people.

    Returns:
        The people, in the order of the tracks.

    Raises:
        TracksError: a file is missing or damaged, or was made from another track.
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


def frames_with_saved_people(
    frames: Iterable[Frame],
    folder: Path,
    tracks: Sequence[Track],
    split: Callable[[Person], Iterable[Row]],
) -> Iterator[tuple[Frame, list[tuple[TrackRow, Row]]]]:
    """Pair each frame with the people in it, read from their files as frames pass.

    Memory grows with the people in a frame, not with the clip.

    Args:
        frames: of the clip, in order.
        folder: of the clip's results.
        tracks: of the people.
        split: makes of a person in some frames what is wanted of them in each.

    Yields:
        The frame; for every person in it the place in the tracks, and what `split` made.

    Raises:
        TracksError: a file is missing or damaged, or was made from another track; raised where
            reading gets there.
    """
    reading: dict[int, Iterator[Row]] = {}  # by number in the list of tracks
    for frame, places in frames_with_people(frames, tracks):
        here = []
        for number, row in places:
            if number not in reading:
                reading[number] = _rows(folder, tracks[number], row, split)
            here.append(((number, row), next(reading[number])))
            if row == len(tracks[number].frame) - 1:
                del reading[number]
        yield frame, here


def check_people(folder: Path, tracks: Sequence[Track]) -> None:
    """Check the files of some tracks' people, in little memory.

    Args:
        folder: of the clip's results.
        tracks: of the people.

    Raises:
        TracksError: a file is missing or damaged, or was made from another track.
    """
    for track in tracks:
        for _ in _stretches(folder, track):
            pass


def first_frame_of(folder: Path, track: Track) -> Person:
    """Read a person in their first frame, for what is the same in all frames.

    Args:
        folder: of the clip's results.
        track: of the person.

    Returns:
        The person with one frame.

    Raises:
        TracksError: the file is missing or damaged, or was made from another track.
    """
    return select_rows(next(_stretches(folder, track)), slice(1))


def sample_joints(folder: Path, tracks: Sequence[Track]) -> tuple[Float, bool]:
    """Read the joints of all people together, of a long clip in evenly chosen frames.

    Args:
        folder: of the clip's results.
        tracks: of the people.

    Returns:
        (N, 3) m, as a level camera at the world's origin would see them, and True; in the camera
        frame, and False, where people are not placed in the world.

    Raises:
        TracksError: a file is missing or damaged, or was made from another track.
    """
    step = 1 + sum(len(track.frame) for track in tracks) // MOST_JOINTS
    filmed, placed = [], []
    for track in tracks:
        for stretch in _stretches(folder, track):
            filmed.append(stretch.joints3d[::step].reshape(-1, 3))
            if stretch.world_joints3d is not None:
                placed.append(stretch.world_joints3d[::step].reshape(-1, 3) @ Y_UP)
    in_world = len(placed) == len(filmed)
    return np.concatenate(placed if in_world else filmed), in_world


def _rows(
    folder: Path, track: Track, first: int, split: Callable[[Person], Iterable[Row]]
) -> Iterator[Row]:
    """What `split` makes of a person, frame by frame, from one of the track's rows on."""
    begin = 0
    for stretch in _stretches(folder, track):
        skipped = max(0, first - begin)
        if skipped < len(stretch.frame):
            yield from split(select_rows(stretch, slice(skipped, None)))
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


def load(folder: Path) -> SavedResult:
    """Read a finished result folder.

    Args:
        folder: that `staf run` made.

    Returns:
        Tracks, people and the run record.

    Raises:
        TracksError: it is no finished result, or a part is missing or damaged.
    """
    try:
        values = read_json(folder / RUN)
    except FileNotFoundError as error:
        raise TracksError(
            f"{folder}: is no finished result (no {RUN}); give the folder that staf run made"
        ) from error
    except (OSError, ValueError) as error:
        raise TracksError(f"{folder / RUN}: cannot be read; run the clip again") from error
    try:
        record = RunRecord.from_json(values)
    except ValueError as error:
        raise TracksError(
            f"{folder / RUN}: was not written by staf run ({error!s:.100}); run the clip again"
        ) from error
    tracks = tracks_csv.load(folder / TRACKS)
    return SavedResult(folder, tracks, load_people(folder, tracks), record)
