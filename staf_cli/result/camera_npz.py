"""camera.npz: how the camera moves in a clip, without pickles."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.body.format import read_npz
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.errors import StafError, TracksError
from staf_cli.core.files import atomic

FILE = "camera.npz"
FIELDS = [field.name for field in fields(CameraMotion)]
SINGLE = {"moving": bool, "focal_length": float}  # fields that are one value
OPTIONAL = ("focal_length",)  # older files lack it
MOST_BYTES = 2**30  # of a file, unpacked: a day of video


def save(path: Path, camera: CameraMotion) -> None:
    """Write a camera's motion, every field under its name.

    Args:
        path: of the npz.
        camera: to write.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays = {name: np.asarray(getattr(camera, name)) for name in FIELDS}
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load(path: Path) -> CameraMotion:
    """Read what `save` wrote.

    Args:
        path: of the npz.

    Returns:
        The camera's motion.

    Raises:
        TracksError: the file is missing, damaged, or holds something else.
    """
    try:
        found = read_npz(path, FIELDS, MOST_BYTES)
        names = [name for name in FIELDS if name in found or name not in OPTIONAL]
        arrays: dict[str, Any] = {name: found[name] for name in names}
        single = {name: kind(arrays[name]) for name, kind in SINGLE.items() if name in arrays}
        return CameraMotion(**{**arrays, **single})
    except KeyError as error:
        raise TracksError(f"{path}: has no {error}; run the clip again") from error
    except StafError as error:
        raise TracksError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error
