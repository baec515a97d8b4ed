"""camera.npz: how the camera moves in a clip, without pickles."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.body.format import read_npz
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.errors import StafError, TracksError
from staf_cli.core.files import atomic

FIELDS = [field.name for field in fields(CameraMotion)]
MOST_BYTES = 2**30  # of a file, unpacked: days of video


def save(path: Path, motion: CameraMotion) -> None:
    """Write a camera's motion, every field under its name.

    Args:
        path: of the npz.
        motion: to write.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays = {name: np.asarray(getattr(motion, name)) for name in FIELDS}
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
        arrays: dict[str, Any] = {**read_npz(path, FIELDS, MOST_BYTES)}
        return CameraMotion(**{**arrays, "moving": bool(arrays["moving"])})
    except KeyError as error:
        raise TracksError(f"{path}: has no {error}; run the clip again") from error
    except StafError as error:
        raise TracksError(str(error)) from error
    except (ValueError, TypeError) as error:
        raise TracksError(f"{path}: {error}; run the clip again") from error
