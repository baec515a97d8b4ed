"""Labels in COCO's JSON, with tracks where there are any: COCO, PoseTrack18.

images       [{"id", "file_name", ...}]
annotations  [{"image_id", "keypoints": [x, y, v, ...], "bbox": [x, y, w, h], "track_id", ...}]
categories   [{"keypoints": [a name, ...], ...}]
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import printable
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.core.records import COCO_KEYPOINTS
from staf_cli.evaluation.datasets.people import (
    POINTS,
    People,
    make_people,
    missing_pictures,
)

FOLDERS = ("annotations", "annotations/*", "posetrack_data/annotations/*")
LARGEST_FILE = 2**29  # bytes; COCO's largest, of people in 2017, takes 240 MB
# Where keypoints are among the 31 points: COCO's behind LSP's 14; PoseTrack has neck and head too.
PLACES = {name: 14 + n for n, name in enumerate(COCO_KEYPOINTS)} | {
    "head_bottom": 12,
    "head_top": 13,
}
FEWEST_KNOWN = 6  # keypoints of a person that training can use, as of 3DPW
NUMBER = re.compile(r"(\d+)\.\w+$")  # of a frame, at the end of its name
# Track, frame, picture, crop (centre x, y, side, px), and points (31, 3).
_Row = tuple[tuple[str, int], int, str, tuple[float, float, float], NDArray[np.float32]]
UNFIT = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Contents:
    """What such a file holds."""

    images: tuple[str, ...]  # relative to a folder of the dataset's
    people: int  # labels with keypoints
    tracks: int  # of people, by `track_id`; 0: none are told


def labels_in(folder: Path) -> list[Path]:
    """List the JSON files in a dataset's folders of annotations by name."""
    return sorted(
        path for place in FOLDERS for path in folder.glob(f"{place}/[!.]*.json") if path.is_file()
    )


def read_contents(path: Path) -> Contents:
    """Read what a file holds.

    Args:
        path: The JSON.

    Returns:
        Its images, people and tracks.

    Raises:
        DatasetError: The file is damaged, too large or something else.
    """
    content = _content(path)
    try:
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        labels = [one for one in content["annotations"] if one.get("keypoints")]
        of_people = {one["image_id"] for one in labels}
        tracks = {
            (PurePosixPath(images[one["image_id"]]).parent, one["track_id"])
            for one in labels
            if "track_id" in one
        }
    except UNFIT as error:
        raise DatasetError(_unfit(path)) from error
    names = tuple(images[one] for one in sorted(of_people, key=str))
    _check_names(path, names)
    return Contents(names, len(labels), len(tracks))


def training_files(folder: Path) -> list[Path]:
    """List the files of a dataset's training part: person_keypoints_train*.json, train/*.json."""
    return [
        path
        for path in labels_in(folder)
        if path.parent.name == "train"
        or (path.name.startswith("person_keypoints") and "train" in path.name)
    ]


def read_people(files: Sequence[Path], folder: Path) -> People:
    """Read files for training: pictures, crops and 2D points, and tracks where there are any.

    Args:
        files: The JSONs, one or more.
        folder: Of the dataset: its images lie in it, or in one of the folders below.

    Returns:
        The people who have a box and 6 keypoints and are no crowd. Crops are 1.1 times the box.

    Raises:
        DatasetError: A file or images are missing, damaged or do not fit each other.
    """
    rows = [(n, *row) for n, path in enumerate(files) for row in _rows_of(path)]
    if not rows:
        raise DatasetError(
            f"{printable(folder)}: nobody has a box and {FEWEST_KNOWN} keypoints; get the labels "
            "again"
        )
    file_numbers, tracks, frames, names, squares, kp2d = zip(*rows, strict=True)
    root = next((at for at in _folders(folder) if (at / names[0]).is_file()), folder)
    what = files[0].name if len(files) == 1 else "the labels"
    problem = missing_pictures(root, names, what)
    if problem is not None:
        raise DatasetError(problem)
    people = list(zip(file_numbers, tracks, strict=True))
    number_of = {person: n for n, person in enumerate(dict.fromkeys(people))}
    order = (np.array([number_of[one] for one in people]), np.array(frames))
    return make_people(root, names, np.array(squares), np.stack(kp2d), order=order)


def dataset_of(path: Path) -> Path | None:
    """Return the folder of the dataset that a file of labels belongs to; None: of none."""
    return next((at.parent for at in path.parents[:2] if at.name == FOLDERS[0]), None)


def _rows_of(path: Path) -> list[_Row]:
    """The people of a file of whom training can use something, tracks together, in time."""
    content = _content(path)
    rows: list[_Row] = []
    try:
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        place = [PLACES.get(str(name)) for name in content["categories"][0]["keypoints"]]
        for one in content["annotations"]:
            if not one.get("keypoints") or one.get("iscrowd"):
                continue
            points = np.array(one["keypoints"], np.float32).reshape(len(place), 3)
            points[:, 2] = points[:, 2] > 0
            x, y, width, height = (float(number) for number in one["bbox"])
            if points[:, 2].sum() < FEWEST_KNOWN or max(width, height) <= 0:
                continue
            kp2d = np.zeros((POINTS, 3), np.float32)
            for row, point in zip(place, points, strict=True):
                if row is not None:
                    kp2d[row] = point
            square = (x + width / 2, y + height / 2, CROP_SCALE * max(width, height))
            name = images[one["image_id"]]
            # Who has no track is alone.
            track = ("of", int(one["track_id"])) if "track_id" in one else ("alone", len(rows))
            number = NUMBER.search(name)
            rows.append((track, int(number[1]) if number else 0, name, square, kp2d))
    except UNFIT as error:
        raise DatasetError(_unfit(path)) from error
    _check_names(path, [row[2] for row in rows])
    return sorted(rows, key=lambda row: row[:2])


def _folders(folder: Path) -> list[Path]:
    """The folder and those in which its images may lie, the nearest first."""
    return sorted((Path(at) for at, _, _ in os.walk(folder)), key=lambda at: len(at.parts))


def _content(path: Path) -> Any:
    """What a file holds, as Python's objects."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DatasetError(
                f"{printable(path)}: is larger than any of COCO's files; get it again"
            )
        return json.loads(path.read_bytes())
    except UNFIT as error:
        raise DatasetError(_unfit(path)) from error


def _unfit(path: Path) -> str:
    return f"{printable(path)}: is damaged or holds no images and annotations as COCO's JSON does"


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raises DatasetError where a name leads out of the dataset's folder."""
    for name in names:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise DatasetError(f"{printable(path)}: names {name!a:.80}, not an image in its folder")
