"""Small copies of the datasets that the paper trains on, each in a layout of its own."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io

from tests.support import made_3dpw, made_tables
from tests.support.made_joblib import joblib_file

FRAMES = 12  # of a video
SIZE = 108, 96  # width, height px


def write_images(root: Path, names: list[str]) -> None:
    """Noise, of which a network can learn something."""
    rng = np.random.default_rng(len(names))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (6, 7, 3), np.uint8)
        cv2.imwrite(str(root / name), cv2.resize(coarse, SIZE))


def write_table(root: Path, name: str, names: list[str], **entries: Any) -> Path:
    """A table of SPIN's with 2D joints, and what else is given."""
    write_images(root, names)
    rng = np.random.default_rng(3)
    part = rng.uniform(20, 80, (len(names), 24, 3))
    part[..., 2] = 1
    made = made_tables.entries_of(names, np.zeros((len(names), 14, 3)))
    kept: dict[str, Any] = {key: made[key] for key in ("imgname", "center", "scale")}
    np.savez(root / name, **kept, part=part, **entries)
    return root / name


def joints_of(count: int) -> np.ndarray:
    """(N, 24, 4) anywhere within half a metre, all known."""
    joints = np.random.default_rng(4).uniform(-0.5, 0.5, (count, 24, 4))
    joints[..., 3] = 1
    return joints


def fits_of(count: int) -> dict[str, np.ndarray]:
    """Poses and shapes."""
    rng = np.random.default_rng(6)
    pose = np.cumsum(rng.normal(0, 0.05, (count, 72)), 0)
    pose[:, 0] += np.pi
    return {"pose": pose, "shape": rng.normal(0, 0.1, (count, 10))}


def write_h36m(root: Path) -> Path:
    """Two videos with joints and fits, every image of 50 a second."""
    names = [f"images/S{s}_Eating.60457274_{n + 1:06d}.jpg" for s in (1, 5) for n in range(24)]
    fits = fits_of(len(names))
    return write_table(root, "h36m_train.npz", names, S=joints_of(len(names)), **fits)


def write_photos(root: Path, name: str, count: int = 6) -> Path:
    """Photos with 2D joints alone."""
    return write_table(root, name, [f"images/im{n:05d}.jpg" for n in range(count)])


def write_3dhp(root: Path, cameras: tuple[int, ...] = (0, 1, 2, 4, 5, 6, 7, 8)) -> Path:
    """One sequence of the training set, with the frames of some cameras; one leaves the image."""
    path = root / "S1" / "Seq1" / "annot.mat"
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(8)
    cells: dict[str, Any] = {
        name: np.empty((14, 1), object) for name in ("annot2", "annot3", "univ_annot3")
    }
    for camera in range(14):
        points = rng.uniform(20, 80, (FRAMES, 28, 2))
        points[-1, 25] = -5
        cells["annot2"][camera, 0] = points.reshape(FRAMES, 56)
        joints = rng.uniform(-500, 500, (FRAMES, 84))
        cells["annot3"][camera, 0] = cells["univ_annot3"][camera, 0] = joints
    scipy.io.savemat(path, cells | {"frames": np.arange(FRAMES)[:, None]}, do_compression=True)
    folders = [f"S1/Seq1/imageFrames/video_{camera}" for camera in cameras]
    write_images(root, [f"{at}/frame_{n + 1:06d}.jpg" for at in folders for n in range(FRAMES)])
    return path


def write_3dpw(root: Path) -> Path:
    """A sequence to train on, and one for validation."""
    for split, name in (("train", "outdoors_fencing_01"), ("validation", "courtyard_box_00")):
        entries = made_3dpw.make_entries(name, "f", 6, frames=24)
        made_3dpw.write_sequence(root, split, entries)
    return root


def database(where: str = "/home/somebody/data/insta") -> dict[str, np.ndarray]:
    """Two clips as VIBE's files have them, with images."""
    rng = np.random.default_rng(9)
    joints = rng.uniform(20, 80, (2 * FRAMES, 49, 3))
    joints[..., 2] = 1
    clips = [f"dance_{clip}" for clip in (0, 1) for _ in range(FRAMES)]
    pictures = [f"{where}/images/{clip}/{n % FRAMES:06d}.jpg" for n, clip in enumerate(clips)]
    return {
        "vid_name": np.array(clips),
        "img_name": np.array(pictures),
        "frame_id": np.arange(2 * FRAMES) % FRAMES,
        "bbox": np.tile([54.0, 48, 60, 80], (2 * FRAMES, 1)),
        "joints2D": joints,
        "features": np.zeros((2 * FRAMES, 4), np.float32),
    }


def write_insta(root: Path) -> Path:
    """InstaVariety with pictures."""
    made = database()
    cut = len("/home/somebody/data/insta/")
    write_images(root, [str(name)[cut:] for name in made["img_name"]])
    (root / "insta_train_db.pt").write_bytes(joblib_file(made))
    return root / "insta_train_db.pt"


def write_eft(root: Path, count: int = 5) -> Path:
    """COCO with EFT's fits; the last person has no keypoints."""
    names = [f"COCO_train2014_{n:012d}.jpg" for n in range(count)]
    write_images(root / "train2014", names)
    rng = np.random.default_rng(10)
    people: list[dict[str, Any]] = []
    for name in names:
        points = rng.uniform(20, 80, (49, 3))
        points[:, 2] = 1
        people.append(
            {
                "parm_pose": np.tile(np.diag([1.0, -1, -1]), (24, 1, 1)).tolist(),
                "parm_shape": rng.normal(0, 1, 10).tolist(),
                "parm_cam": [0.9, 0, 0],
                "bbox_scale": 0.4,
                "bbox_center": [54.0, 48.0],
                "joint_validity_openpose18": [1] * 18,
                "gt_keypoint_2d": points.tolist(),
                "imageName": name,
            }
        )
    del people[-1]["gt_keypoint_2d"]
    path = root / "eft_fit" / "COCO2014-All-ver01.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"ver": 0.1, "data": people}))
    return path
