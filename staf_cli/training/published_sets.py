"""The datasets that the paper trains on (4.1), from the user's own copies."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from staf_cli.core.errors import DatasetError, UsageError, counted
from staf_cli.core.files import printable
from staf_cli.evaluation.datasets import (
    coco_json,
    eft_json,
    mpi_inf_3dhp,
    spin_npz,
    threedpw,
    vibe_db,
)
from staf_cli.evaluation.datasets.people import People

RATES = {  # of a dataset's videos, frames a second; None: photos
    "coco": None,
    "lsp": None,
    "lspet": None,
    "mpii": None,
    "h36m": 50.0,
    "3dhp": 25.0,
    "3dpw": threedpw.FPS,
    "insta": 25.0,
    "posetrack": 25.0,
}
HELD_OUT = 50  # where 3DPW's validation split is not there: one track of so many
NOT_FOR_TRAINING = re.compile(r"(^|_)(test|valid|val)(_|\.|$)")


def choose_sets(data: Path, named: tuple[str, ...]) -> dict[str, Path]:
    """Find the datasets to train on.

    Args:
        data: The folder in which a set lies under its name, unless another place is given.
        named: NAME or NAME=PATH, each of a set; none: all that the paper trains on.

    Returns:
        Their folders or files, by name.

    Raises:
        UsageError: A name is unknown or there twice.
        DatasetError: Sets are missing.
    """
    places: dict[str, Path] = {}
    for one in named or tuple(RATES):
        name, _, place = one.partition("=")
        if name not in RATES:
            raise UsageError(f"--set {one}: unknown set; sets are {', '.join(RATES)}")
        if name in places:
            raise UsageError(f"--set {name} is there twice; name each set once")
        places[name] = Path(place) if place else data / name
    missing = [f"{name} ({printable(at)})" for name, at in places.items() if not at.exists()]
    if missing:
        raise DatasetError(
            f"missing: {', '.join(missing)}; bring them, or name with --set only those to train on"
        )
    return places


def open_set(name: str, place: Path) -> People:
    """Read a dataset's part for training.

    Args:
        name: Of `RATES`.
        place: Its folder, or the one file of its labels.

    Returns:
        The people.

    Raises:
        DatasetError: There are no labels or several, or something is missing or damaged.
    """
    if name == "3dpw" and place.is_dir():
        return threedpw.read_people(_root_of_3dpw(place), "train")
    raw = mpi_inf_3dhp.training_files(place) if name == "3dhp" else []
    if raw:
        return mpi_inf_3dhp.read_people(raw)
    labels = [] if place.is_file() or _tables(place) else coco_json.training_files(place)
    if labels:
        return coco_json.read_people(labels, place)
    path = place if place.is_file() else _labels_in(name, place)
    if path.suffix == ".npz":
        return spin_npz.read_people(path, RATES[name])
    annotated = coco_json.dataset_of(path)
    if path.suffix == ".json" and annotated is not None:
        return coco_json.read_people([path], annotated)
    if path.suffix == ".json":
        beside = path.parent.parent if path.parent.name in eft_json.PLACES else path.parent
        return eft_json.read_people(path, beside)
    return vibe_db.read_people(path)


def split_held_out(
    sets: Mapping[str, People], places: Mapping[str, Path]
) -> tuple[dict[str, People], list[People]]:
    """Hold people out, on whom it is measured how good a network is.

    Args:
        sets: By name.
        places: Of the sets.

    Returns:
        The sets to train on, and people with 3D labels: 3DPW's validation split; where it is not
        there every fiftieth track of the sets with 3D labels, and at least one.

    Raises:
        DatasetError: No set has 3D labels, or 3DPW's validation split is damaged.
    """
    at = places.get("3dpw")
    if at is not None and at.is_dir():
        root = _root_of_3dpw(at)
        if threedpw.sequence_files(root, "validation"):
            return dict(sets), [threedpw.read_people(root, "validation")]
    training, held_out = dict(sets), []
    for name, people in sets.items():
        tracks = np.unique(people.track)
        if not (people.smpl_weight.any() or people.kp3d[..., 3].any()) or len(tracks) < 2:
            continue
        last = tracks[HELD_OUT - 1 :: HELD_OUT] if len(tracks) >= HELD_OUT else tracks[-1:]
        kept = np.isin(people.track, last)
        training[name] = people.take(np.flatnonzero(~kept))
        held_out.append(people.take(np.flatnonzero(kept)))
    if not held_out:
        raise DatasetError(
            "no set has 3D labels of two people or clips: name one that has, such as 3dpw; the "
            "learning rate falls when errors in 3D no longer do"
        )
    return training, held_out


def _root_of_3dpw(place: Path) -> Path:
    found = threedpw.find_split(place)
    if found is None:
        raise DatasetError(f"{printable(place)}: is not 3DPW; unpack sequenceFiles.zip there")
    return found[0]


def _tables(folder: Path) -> list[Path]:
    """The files of labels for training in a folder, but for those in COCO's JSON."""
    found = [
        *spin_npz.tables_in(folder),
        *eft_json.files_in(folder),
        *sorted(folder.glob("[!.]*_db.pt")),
    ]
    return [path for path in found if not NOT_FOR_TRAINING.search(path.name.lower())]


def _labels_in(name: str, folder: Path) -> Path:
    """The one file of labels for training in a folder."""
    usable = _tables(folder)
    if len(usable) == 1:
        return usable[0]
    if usable:
        names = ", ".join(printable(path.name) for path in usable)
        raise DatasetError(
            f"{printable(folder)}: has {counted(len(usable), 'file')} of labels ({names}); name "
            f"one of them: --set {name}={usable[0]}"
        )
    raise DatasetError(
        f"{printable(folder)}: has no labels for training (SPIN's npz, EFT's JSON, VIBE's _db.pt "
        "or COCO's JSON); `staf data check` says what it holds"
    )
