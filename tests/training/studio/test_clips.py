"""Filmed clips: opened as evaluation opens them, people are where the truth has them, seeded."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from staf_cli.core.errors import DatasetError
from staf_cli.core.geometry import axis_angle_to_matrix, project
from staf_cli.core.records import Detections
from staf_cli.evaluation.truth import Truth, open_dataset
from staf_cli.training.people.motion import join_clips
from staf_cli.training.studio import clips
from staf_cli.training.studio.clips import FPS, film_clips
from staf_cli.training.studio.scenes import CLIP_SIZE, Studio, open_studio
from tests.support.made_people import open_body
from tests.support.made_training_data import write_scenery

BODY = open_body()
FRAMES = 3
GREEN = (0, 255, 0)


def ignore(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """What is held out, in front of nothing but green."""
    data = tmp_path_factory.mktemp("data")
    write_scenery(data, BODY)
    studio = open_studio(data, BODY.arrays, "held-out", torch.device("cpu"))
    return replace(studio, backgrounds=np.tile(np.array(GREEN, np.uint8), (1, 8, 8, 1)))


@pytest.fixture(scope="module")
def folder(studio: Studio, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("clips")
    film_clips(studio, folder, 1, FRAMES, 4, BODY, ignore)
    return folder


def joints_on_image(truth: Truth, focal: float) -> np.ndarray:
    """The LSP joints (F, 14, 2) px, by body.py."""
    pose = truth.pose
    assert pose is not None
    rotmats = axis_angle_to_matrix(torch.from_numpy(pose.poses).float().view(-1, 24, 3))
    vertices, _ = BODY(rotmats, torch.from_numpy(pose.betas).float())
    joints = torch.from_numpy(BODY.arrays.lsp14_regressor) @ vertices
    placed = joints + torch.from_numpy(pose.trans).float()[:, None]
    return project(placed, focal, (CLIP_SIZE[0] / 2, CLIP_SIZE[1] / 2)).numpy()


def test_the_truth_s_joints_are_on_whoever_the_video_shows(folder) -> None:
    (footage,) = open_dataset(folder)
    (truth,) = footage.people
    assert footage.name == "00_13_01"
    assert footage.clip.image_size == CLIP_SIZE
    assert footage.clip.fps == FPS
    assert truth.frame.tolist() == list(range(FRAMES))
    assert truth.pose is not None
    assert truth.pose.body == BODY.identity
    images = np.stack([frame.image for frame in footage.frames()]).astype(int)
    assert len(images) == FRAMES
    wall = np.median(images.reshape(-1, 3), 0)  # most of the image, whatever colour it now has
    shown = np.abs(images - wall).max(-1) > 40
    joints = joints_on_image(truth, footage.focal)
    for row, (mask, box) in enumerate(zip(shown, truth.box, strict=True)):
        x, y = np.floor(joints[row]).astype(int).T
        assert mask[y, x].all()
        # The person fills the box, but for hair and clothes, and nothing else is there.
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        left, top, width, height = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax(), :4]
        assert np.abs(box - [left, top, left + width, top + height]).max() < 12
        assert mask.sum() < 0.7 * (box[2:] - box[:2]).prod()


def test_same_seed_same_clips(studio: Studio, folder, tmp_path) -> None:
    film_clips(studio, tmp_path / "same", 1, FRAMES, 4, BODY, ignore)
    film_clips(studio, tmp_path / "other", 1, FRAMES, 5, BODY, ignore)
    for suffix in ("mp4", "npz"):
        name = f"00_13_01.{suffix}"
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_walls_and_keypoints_of_whoever_is_in_the_box(
    studio: Studio, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_people(frames, detector, conf):
        """Another person in the corner, and in the second frame the person, who is 3 everywhere."""
        for frame in frames:
            box = np.array([[0.0, 0, 20, 20]])
            if frame.index == 1:
                box = np.concatenate([box, truth_box[1:2] + 3])
            kp2d = np.zeros((len(box), 17, 3)) + np.arange(2, 2 + len(box))[:, None, None]
            number = np.zeros(len(box), int)
            yield frame, Detections(frame.index, 0.0, box, number + 0.9, number, kp2d)

    film_clips(studio, tmp_path / "blind", 1, 2, 6, BODY, ignore, walls=True)
    (blind,) = open_dataset(tmp_path / "blind")
    truth_box = blind.people[0].box
    assert blind.people[0].detected is None
    picture = next(blind.frames()).image
    assert np.median(picture.reshape(-1, 3), 0).min() > 5  # no green screen
    monkeypatch.setattr(clips, "load_detector", lambda *_: object())
    monkeypatch.setattr(clips, "find_people", find_people)
    detector = tmp_path / "detector.pt"
    film_clips(studio, tmp_path / "seen", 1, 2, 6, BODY, ignore, walls=True, detector=detector)
    (seen,) = open_dataset(tmp_path / "seen")
    assert (seen.people[0].box == truth_box).all()
    assert seen.people[0].detected is not None
    assert (seen.people[0].detected == np.array([0, 3.0])[:, None, None]).all()


def test_recordings_take_turns_and_those_too_short_are_left_out(studio: Studio, tmp_path) -> None:
    _, rotvec, root = next(studio.motions.clips())
    many = [(f"13_{n:02d}", rotvec[: 40 if n else 3], root[: 40 if n else 3]) for n in range(3)]
    varied = replace(studio, motions=join_clips(many, studio.motions.fps))
    films = clips._films(varied, 8, False, torch.Generator().manual_seed(0))
    names = [next(films)[0] for _ in range(4)]
    assert set(names[:2]) == {"13_01", "13_02"}
    assert names[2:] == names[:2]
    with pytest.raises(DatasetError, match="long enough"):
        film_clips(varied, tmp_path, 1, 90, 0, BODY, ignore)
