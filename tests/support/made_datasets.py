"""Small datasets for evaluation: the walk with its truth, and photos with labels."""

from pathlib import Path

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.core.geometry import matrix_to_axis_angle
from staf_cli.evaluation.truth import Pose, Truth, save_truth
from tests.support import made_clips
from tests.support.made_people import labelled_regressor
from tests.support.walking_person import FOCAL, SIZE, motion, walk


def on_image(points):
    """Points (..., 3) m of the walk's camera frame, in pixels (..., 2)."""
    return points[..., :2] / points[..., 2:] * FOCAL + np.array(SIZE) / 2


def walk_truth(body: Body, frames: int) -> Truth:
    """Everything that is true of the walk."""
    rotmats, trans = motion(frames)
    vertices, _ = walk(body, frames)
    shown = on_image(vertices)
    kp2d = np.ones((frames, 31, 3))
    kp2d[..., :2] = on_image(labelled_regressor(body) @ vertices)
    poses = matrix_to_axis_angle(rotmats.double()).flatten(1).numpy()
    return Truth(
        frame=np.arange(frames),
        box=np.concatenate([shown.min(1), shown.max(1)], -1).astype(np.float64),
        pose=Pose(poses, np.zeros((frames, 10)), trans.double().numpy(), body.identity),
        kp2d=kp2d,
        detected=kp2d[:, 14:],
    )


def write_clip(folder: Path, truth: Truth, name: str = "walk", frames: int | None = None) -> Path:
    """The truth beside a video of as many frames, on which a pattern moves instead of a person."""
    width, height = SIZE
    video = folder / f"{name}.mp4"
    made_clips.make_clip(video, range(frames or len(truth.frame)), width=width, height=height)
    save_truth(video.with_suffix(".npz"), truth, SIZE, FOCAL)
    return video


def write_photos(folder: Path, photos: int, times: int = 1) -> None:
    """Grey pictures, whose people have their joints in a row."""
    np.save(folder / "images.npy", np.full((photos, times, 96, 96, 3), 128, np.uint8))
    kp2d = np.ones((photos, times, 31, 3), np.float32)
    kp2d[..., 0] = 20 + 2 * np.arange(31)
    kp2d[..., 1] = 50
    box = np.tile(np.array([10, 20, 80, 90], np.float32), (photos, times, 1))
    np.savez(folder / "labels.npz", kp2d=kp2d, box=box, poses=np.zeros((photos, times, 72)))
