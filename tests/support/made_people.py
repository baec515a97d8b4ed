"""Made-up tracks and people for tests."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import shipped
from staf_cli.core.records import Clip, Person, Track
from staf_cli.recovery.placement import Estimate, place


def open_body() -> Body:
    """The body that comes with the project."""
    return Body("open-body", load_body(shipped("open_body.npz")))


def labelled_regressor(body: Body) -> NDArray[np.float32]:
    """(31, V): LSP's 14 joints, then COCO's 17 keypoints."""
    arrays = body.arrays
    assert arrays.lsp14_regressor is not None and arrays.coco17_regressor is not None
    return np.concatenate([arrays.lsp14_regressor, arrays.coco17_regressor])


def make_track(person: int, frames: int, seed: int = 0) -> Track:
    """A box of 200 x 400 px with keypoints anywhere in it."""
    rng = np.random.default_rng(seed)
    box = np.tile([100.0 * person, 50, 100.0 * person + 200, 450], (frames, 1))
    kp2d = np.concatenate(
        [
            rng.uniform(box[:, None, :2], box[:, None, 2:], (frames, 17, 2)),
            np.ones((frames, 17, 1)),
        ],
        -1,
    )
    index = np.arange(frames) + 3 * person
    score = rng.uniform(0.5, 1, frames)
    return Track(person, index, index / 30, box, score, np.arange(frames) == 1, kp2d)


def make_person(track: Track, body: Body, clip: Clip, focal: float = 900.0) -> Person:
    """A person in random, gentle poses where the track is."""
    rng = np.random.default_rng(track.id)
    n = len(track.frame)
    centre, side = (track.box[:, :2] + track.box[:, 2:]) / 2, np.full((n, 1), 440.0)
    rotvecs = rng.normal(0, 0.2, (n, 24, 3))
    rotvecs[:, 0] = [np.pi, 0, 0]
    rotmats = Rotation.from_rotvec(rotvecs.reshape(-1, 3)).as_matrix().reshape(n, 24, 3, 3)
    estimate = Estimate(
        rotmats.astype(np.float32),
        np.tile(rng.normal(0, 1, 10), (n, 1)).astype(np.float32),
        np.tile(np.array([0.9, 0.05, 0.1], np.float32), (n, 1)),
        np.concatenate([centre, side], 1),
    )
    return place(track, estimate, clip, body, "untrained", focal)
