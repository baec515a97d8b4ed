"""EFT's fits as its authors publish them: eft_fit/COCO2014-All-ver01.json and the like.

    {"ver": 0.1, "data": [a person, ...], "meta": ...}

    parm_pose (24, 3, 3) rotations, parm_shape (10,), parm_cam (3,) scale, x, y in the crop,
    bbox_scale, bbox_center (2,) px: the square crop, whose side is 200 bbox_scale,
    joint_validity_openpose18 (18,), gt_keypoint_2d (49, 3) px and weight, in SPIN's order,
    imageName, smpltype, annotId

Such a file takes half a gigabyte, and several as Python's objects: people are read one by one.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import printable
from staf_cli.core.geometry import matrix_to_axis_angle
from staf_cli.evaluation.datasets.people import (
    People,
    make_people,
    missing_pictures,
    points_of_49,
)

PLACES = ("eft_fit", ".")  # in a folder
NAME = "[!.]*ver[0-9][0-9].json"
SHAPES = {
    "parm_pose": (24, 3, 3),
    "parm_shape": (10,),
    "parm_cam": (3,),
    "bbox_scale": (),
    "bbox_center": (2,),
    "joint_validity_openpose18": (18,),
}
SCALE = 200  # px
KEYPOINTS = (49, 3)  # of gt_keypoint_2d, which not every file has
LARGEST_FILE = 2**31  # bytes; of COCO's 79,051 people it takes a quarter of that
LARGEST_VALUE = 2**22  # letters; a person takes 10,000
PIECE = 2**20  # letters that are read at a time
DECODER = json.JSONDecoder()
END = re.compile(r"[,}\]\s]")  # of a number


@dataclass(frozen=True)
class Contents:
    """What such a file holds."""

    images: int
    people: int
    with_keypoints: int  # people


def files_in(folder: Path) -> list[Path]:
    """List the files of EFT in a folder by name."""
    return sorted(
        path for place in PLACES for path in (folder / place).glob(NAME) if path.is_file()
    )


def read_contents(path: Path) -> Contents:
    """Read what a file holds, in bounded memory.

    Args:
        path: The JSON.

    Returns:
        How many images, people, and people with keypoints.

    Raises:
        DatasetError: The file is damaged, too large or something else.
    """
    images, people, with_keypoints = set[str](), 0, 0
    for name, person in _fits(path):
        images.add(name)
        people += 1
        with_keypoints += "gt_keypoint_2d" in person
    return Contents(len(images), people, with_keypoints)


def read_people(path: Path, folder: Path) -> People:
    """Read a file for training.

    Args:
        path: The JSON.
        folder: Of the dataset: its images lie in it, or in one of the folders below.

    Returns:
        The people; those without keypoints have fits alone.

    Raises:
        DatasetError: The file or images are missing, damaged or do not fit each other.
    """
    pictures, rows = [], []
    for name, person in _fits(path):
        rotations = torch.tensor(person["parm_pose"], dtype=torch.float64)
        rows.append(
            (
                matrix_to_axis_angle(rotations).flatten().numpy(),
                np.array(person["parm_shape"], float),
                np.array([*person["bbox_center"], SCALE * person["bbox_scale"]], float),
                np.array(person.get("gt_keypoint_2d", np.zeros(KEYPOINTS)), np.float32),
            )
        )
        pictures.append(name)
    root = next((Path(at) for at, _, files in os.walk(folder) if pictures[0] in files), folder)
    problem = missing_pictures(root, pictures, path.name)
    if problem is not None:
        raise DatasetError(problem)
    poses, betas, square, points = (np.stack(one) for one in zip(*rows, strict=True))
    smpl = (poses, betas, np.ones(len(poses)))
    return make_people(root, pictures, square, points_of_49(points), smpl=smpl)


def _fits(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The people of a file and the names of their images. Raises DatasetError."""
    if path.stat().st_size > LARGEST_FILE:
        raise DatasetError(f"{printable(path)}: is larger than any of EFT's files; get it again")
    anybody = False
    try:
        with path.open(encoding="utf-8") as stream:
            for person in _people(_Values(stream)):
                yield _checked(path, person), person
                anybody = True
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DatasetError(
            f"{printable(path)}: is damaged or holds no fits as EFT's JSON does; get it again"
        ) from error
    if not anybody:
        raise DatasetError(f"{printable(path)}: holds nobody; get it again")


def _checked(path: Path, person: dict[str, Any]) -> str:
    """The name of a person's image. Raises ValueError or LookupError for another kind of person."""
    for key, shape in SHAPES.items():
        _check(person[key], shape)
    if "gt_keypoint_2d" in person:
        _check(person["gt_keypoint_2d"], KEYPOINTS)
    name = person["imageName"]
    if not isinstance(name, str) or name != PurePosixPath(name).name or "\0" in name:
        raise DatasetError(f"{printable(path)}: names {name!a:.80}, not an image in its folder")
    return name


def _check(value: Any, shape: tuple[int, ...]) -> None:
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "biuf" or numbers.shape != shape:
        raise ValueError("no numbers of that shape")
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")


def _people(values: "_Values") -> Iterator[dict[str, Any]]:
    """The entries of "data", one after the other. Raises ValueError where this is no such JSON."""
    values.take("{")
    mark = ","
    while mark == ",":
        key = values.value()
        values.take(":")
        if key != "data":
            values.value()
        elif values.take("[") and values.next() != "]":
            while True:
                person = values.value()
                if not isinstance(person, dict):
                    raise ValueError("no person")
                yield person
                if values.take(",]") == "]":
                    break
        else:
            values.take("]")
        mark = values.take(",}")


class _Values:
    """A stream of JSON, of which a value at a time is in memory. Raises ValueError at its end."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.text = ""
        self.at = 0

    def next(self) -> str:
        """The next letter that is no space; it is not taken."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read():
                raise ValueError("the text ends")

    def take(self, letters: str) -> str:
        """Take the next letter, which must be one of these."""
        found = self.next()
        if found not in letters:
            raise ValueError(f"no {letters}")
        self.at += 1
        return found

    def value(self) -> Any:
        """Take the next value, whatever it is."""
        bracketed = self.next() in '{["'
        while not bracketed and not END.search(self.text, self.at) and self._read():
            pass  # of a number there may be more to come
        while True:
            try:
                found, self.at = DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if not self._read():
                    raise
            else:
                return found

    def _read(self) -> bool:
        """Read a piece more, and drop what is taken; False at the end, and if it is too much."""
        if len(self.text) - self.at > LARGEST_VALUE:
            return False
        more = self.stream.read(PIECE)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)
