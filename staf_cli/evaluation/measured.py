"""Errors that were measured before, kept in a folder, so that an evaluation goes on where it ended.

A file holds the errors of a clip's people by one network and method, and is named after the hash of
all they depend on: these two, options, joints, and the clip's truth and pictures.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from staf_cli.body.format import read_npz
from staf_cli.core.errors import StafError
from staf_cli.core.files import atomic
from staf_cli.core.records import Float
from staf_cli.evaluation.truth import Footage, Truth
from staf_cli.result.journal import key_of
from staf_cli.video import pictures_in

MEASURED = "measured"  # the folder, beside metrics.csv
MEASURES = ("mpjpe", "pa_mpjpe", "pve", "accel", "pck", "error_2d")
Errors = dict[str, Float]  # of one person: MEASURES, (F,) or (F, 14), where there is truth


def load(path: Path, people: Sequence[Truth]) -> list[Errors] | None:
    """Read the errors of a clip's people; None: they are not there, or damaged.

    Args:
        path: The file.
        people: What is true of them.

    Returns:
        Their errors.
    """
    names = [f"{number}.{name}" for number in range(len(people)) for name in MEASURES]
    if not path.is_file():
        return None
    try:
        found = read_npz(path, names)
    except StafError:
        return None
    errors: list[Errors] = [{} for _ in people]
    for key, array in found.items():
        number, _, name = key.partition(".")
        if array.dtype != np.float64 or array.shape[:1] != people[int(number)].frame.shape:
            return None
        errors[int(number)][name] = array.astype(np.float64)
    return errors


def save(path: Path, errors: Sequence[Errors]) -> None:
    """Write the errors of a clip's people for `load`.

    Args:
        path: The file.
        errors: Of each person.

    Raises:
        OutputError: The file cannot be written.
    """
    arrays = {
        f"{number}.{name}": values
        for number, own in enumerate(errors)
        for name, values in own.items()
    }
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def key_of_clip(footage: Footage) -> str:
    """Hash a clip's truth, and the names, sizes and times of its pictures or video.

    Args:
        footage: The clip with its people.

    Returns:
        The SHA-256 in hexadecimal.
    """
    path = footage.clip.path
    files = footage.pictures or (tuple(pictures_in(path)) if path.is_dir() else (path,))
    states = [(file.name, file.stat()) for file in files]
    clip = [footage.clip.width, footage.clip.height, footage.clip.fps, footage.focal]
    return key_of(
        clip,
        [[name, state.st_size, state.st_mtime_ns] for name, state in states],
        [_hash_of(truth) for truth in footage.people],
    )


def _hash_of(truth: Truth) -> str:
    pose = truth.pose
    arrays = [truth.frame, truth.box, truth.kp2d, truth.detected, truth.joints, truth.judged]
    body = ""
    if pose is not None:
        arrays += [pose.poses, pose.betas, pose.trans]
        body = pose.body
    hashed = hashlib.sha256(body.encode())
    for array in arrays:
        if array is not None:
            hashed.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        hashed.update(b"|")
    return hashed.hexdigest()
