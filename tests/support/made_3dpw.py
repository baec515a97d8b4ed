"""A small copy of 3DPW in its authors' layout, pickled as Python 2 did, and SMPL bodies for it."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.body.format import SMPL_PARENTS, BodyArrays, save_body

VERTICES = 90
FRAMES = 14
SIZE = 108, 192  # width, height px
FOCAL = 196.0


PythonPickler: Any = pickle._Pickler  # the one in Python, whose opcodes can be chosen


class Python2Pickler(PythonPickler):  # type: ignore[misc]
    """Protocol 2 as Python 2 wrote it: every text is a byte string, numpy has its old names."""

    dispatch = dict(PythonPickler.dispatch)  # noqa: RUF012

    def save_text(self, value: str | bytes) -> None:
        encoded = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(encoded)) + encoded)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global


def python2_pickle(value: object) -> bytes:
    """The value as Python 2 pickled it."""
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(value)
    return stream.getvalue()


def make_bodies(folder: Path) -> None:
    """Write bodies smpl-neutral, smpl-male (the same) and smpl-female as imports leave them.

    Their first beta makes the whole body larger: 0.1 by a tenth.
    """
    for gender, seed in (("neutral", 1), ("male", 1), ("female", 2)):
        rng = np.random.default_rng(seed)
        template = rng.normal(0, 1, (VERTICES, 3)) * [0.25, 0.6, 0.15]
        shapedirs = rng.normal(0, 0.01, (VERTICES, 3, 10))
        shapedirs[..., 0] = template
        sharp = rng.uniform(0, 1, (VERTICES, 24)) ** 8
        body = BodyArrays(
            v_template=template.astype(np.float32),
            shapedirs=shapedirs.astype(np.float32),
            posedirs=np.zeros((VERTICES, 3, 207), np.float32),
            J_regressor=_mix(rng, 24),
            weights=(sharp / sharp.sum(1, keepdims=True)).astype(np.float32),
            parents=np.array(SMPL_PARENTS),
            faces=np.arange(VERTICES).reshape(-1, 3),
            sample_index=np.arange(431)[:, None] % VERTICES,
            sample_weight=np.ones((431, 1), np.float32),
            lsp14_regressor=_mix(rng, 14),
        )
        target = folder / "bodies" / f"smpl-{gender}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_body(body, target)


def make_regressor(path: Path) -> Path:
    """Write a J_regressor_h36m.npy for these bodies."""
    np.save(path, _mix(np.random.default_rng(3), 17).astype(np.float64))
    return path


def _mix(rng: np.random.Generator, points: int) -> Any:
    sharp = rng.uniform(0, 1, (points, VERTICES)) ** 8
    return (sharp / sharp.sum(1, keepdims=True)).astype(np.float32)


def make_entries(name: str, genders: str, seed: int, frames: int = FRAMES) -> dict[str, Any]:
    """A sequence's dictionary; cameras move, a few frames are not to be judged."""
    rng = np.random.default_rng(seed)
    people = len(genders)
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    turns = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec(
        np.linspace(0, 0.4, frames)[:, None] * rng.normal(0, 1, 3)
    )
    cameras[:, :3, :3] = turns.as_matrix()
    cameras[:, :3, 3] = rng.normal([0, 0, 5], 0.1, (frames, 3))
    poses = [np.cumsum(rng.normal(0, 0.05, (frames, 72)), 0) for _ in genders]
    trans = [np.cumsum(rng.normal(0, 0.02, (frames, 3)), 0) for _ in genders]
    points = [rng.uniform(10, 90, (frames, 3, 18)) for _ in genders]
    valid = [np.ones(frames, bool) for _ in genders]
    for one in points:
        one[:, 2] = rng.uniform(0.4, 1, (frames, 18))
        one[:, :, 15] = 0  # an eye that OpenPose never saw
        one[4, 2, 5:] = 0.2  # 5 joints are visible
        one[5, 2, 6:] = 0  # 6 are
    valid[0][8] = False
    cameras[8, 0, 0] = np.nan if people == 1 else cameras[8, 0, 0]
    focal = np.diag([FOCAL, FOCAL + 2, 1])
    focal[:2, 2] = np.array(SIZE) / 2
    return {
        "sequence": name,
        "betas": [rng.normal(0, 0.05, 10) for _ in genders],
        "poses": poses,
        "trans": trans,
        "poses2d": points,
        "cam_poses": cameras,
        "cam_intrinsics": focal,
        "campose_valid": valid,
        "genders": list(genders),
        "jointPositions": [rng.normal(0, 1, (frames, 72)) for _ in genders],
        "img_frame_ids": np.arange(frames) * 2,
        "betas_clothed": [np.zeros(10) for _ in genders],
        "v_template_clothed": [np.zeros((6890, 3)) for _ in genders],
        "texture_maps": [np.zeros((4, 4, 3), np.uint8) for _ in genders],
        "poses_60Hz": [np.zeros((2 * frames, 72)) for _ in genders],
        "trans_60Hz": [np.zeros((2 * frames, 3)) for _ in genders],
    }


def write_sequence(root: Path, split: str, entries: dict[str, Any]) -> Path:
    """Write the pickle and grey images; returns the pickle."""
    path = root / "sequenceFiles" / split / f"{entries['sequence']}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(python2_pickle(entries))
    images = root / "imageFiles" / entries["sequence"]
    images.mkdir(parents=True)
    grey = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for number in range(len(entries["cam_poses"])):
        cv2.imwrite(str(images / f"image_{number:05d}.jpg"), grey)
    return path


def make_3dpw(root: Path) -> Path:
    """A copy with two sequences to judge and one for validation."""
    write_sequence(root, "test", make_entries("downtown_walk_00", "mf", 4))
    write_sequence(root, "test", make_entries("office_call_00", "m", 5))
    write_sequence(root, "validation", make_entries("courtyard_box_00", "f", 6))
    return root
