"""Labels in COCO's JSON, with tracks where there are any: COCO, PoseTrack18.

images       [{"id", "file_name", ...}]
annotations  [{"image_id", "keypoints": [x, y, v, ...], "bbox", "track_id", ...}]
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from staf_cli.core.errors import DatasetError
from staf_cli.core.files import printable

FOLDERS = ("annotations", "annotations/*", "posetrack_data/annotations/*")
LARGEST_FILE = 2**29  # bytes; COCO's largest, of people in 2017, takes 240 MB


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
    if path.stat().st_size > LARGEST_FILE:
        raise DatasetError(f"{printable(path)}: is larger than any of COCO's files; get it again")
    try:
        content: Any = json.loads(path.read_bytes())
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        labels = [one for one in content["annotations"] if one.get("keypoints")]
        of_people = {one["image_id"] for one in labels}
        tracks = {
            (PurePosixPath(images[one["image_id"]]).parent, one["track_id"])
            for one in labels
            if "track_id" in one
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{printable(path)}: is damaged or holds no images and annotations as COCO's JSON does"
        ) from error
    names = tuple(images[one] for one in sorted(of_people, key=str))
    for name in names:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            raise DatasetError(f"{printable(path)}: names {name!a:.80}, not an image in its folder")
    return Contents(names, len(labels), len(tracks))
