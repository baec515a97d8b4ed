"""Datasets read back as they were written, and every fault reported in one line."""

import numpy as np
import pytest

from staf_cli.core.errors import DatasetError, VideoError
from staf_cli.evaluation.truth import open_dataset
from tests.support import made_clips
from tests.support.made_datasets import walk_truth, write_clip, write_photos
from tests.support.made_people import open_body
from tests.support.walking_person import FOCAL, FPS, SIZE

FRAMES = 12


@pytest.fixture(scope="module")
def truth():
    return walk_truth(open_body(), FRAMES)


@pytest.fixture
def dataset(truth, tmp_path):
    """A folder with the walk."""
    write_clip(tmp_path, truth)
    return tmp_path


def change(folder, **arrays):
    """Put other arrays into the walk's truth, or take some out with None."""
    path = folder / "walk.npz"
    with np.load(path) as found:
        kept = {name: found[name] for name in found.files}
    kept.update(arrays)
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})


def test_clips_come_back_as_they_were_written(dataset, truth):
    write_clip(dataset, truth, "another", frames=FRAMES + 3)
    another, walk = open_dataset(dataset)
    assert [another.name, walk.name] == ["another", "walk"]
    assert walk.clip.image_size == SIZE
    assert walk.focal == FOCAL
    (read,) = walk.people
    np.testing.assert_array_equal(read.frame, truth.frame)
    for name in ("box", "kp2d", "detected"):
        np.testing.assert_allclose(getattr(read, name), getattr(truth, name), atol=1e-4)
    for name in ("poses", "betas", "trans"):
        np.testing.assert_allclose(getattr(read.pose, name), getattr(truth.pose, name), atol=1e-6)
    assert read.pose is not None
    assert read.pose.body == open_body().identity
    frames = list(walk.frames())
    assert [frame.index for frame in frames] == list(range(FRAMES))


def test_one_shape_serves_all_frames(dataset):
    change(dataset, betas=np.arange(10.0))
    (walk,) = open_dataset(dataset)
    pose = walk.people[0].pose
    assert pose is not None
    np.testing.assert_array_equal(pose.betas, np.tile(np.arange(10), (FRAMES, 1)))


def test_a_clip_may_have_2d_truth_alone(dataset):
    change(dataset, poses=None, betas=None, trans=None, body=None, detected=None)
    (walk,) = open_dataset(dataset)
    assert walk.people[0].pose is None
    assert walk.people[0].detected is None
    assert walk.people[0].kp2d is not None


def test_photos_are_frames_and_each_person_a_sequence(tmp_path):
    write_photos(tmp_path, photos=3, times=2)
    np.save(tmp_path / "images.npy", np.arange(6 * 12, dtype=np.uint8).reshape(3, 2, 2, 2, 3))
    (photos,) = open_dataset(tmp_path)
    assert [person.frame.tolist() for person in photos.people] == [[0, 1], [2, 3], [4, 5]]
    assert photos.people[0].kp2d is not None
    assert photos.people[0].kp2d.shape == (2, 31, 3)
    assert photos.people[0].pose is None
    frames = list(photos.frames())
    assert [frame.image.flat[0] for frame in frames] == [0, 12, 24, 36, 48, 60]
    assert frames[3].time == pytest.approx(3 / FPS)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"frame": None}, "has no frame"),
        ({"body": None}, "has no body"),
        ({"kp2d": None, "poses": None, "betas": None, "trans": None, "body": None}, "has no poses"),
        ({"poses": np.zeros((FRAMES - 1, 72))}, r"poses has shape \(11, 72\), expected \(12, 72\)"),
        ({"trans": np.full((FRAMES, 3), np.nan)}, "trans holds values that are not finite"),
        ({"box": np.zeros((FRAMES, 4))}, "a box is empty"),
        ({"box": np.full((FRAMES, 4), "x")}, "box holds <U1, not numbers"),
        ({"frame": np.arange(FRAMES)[::-1]}, "ascending"),
        ({"frame": np.zeros(0, int)}, "box has shape"),
        ({"focal_length": np.array(0)}, "focal_length"),
        ({"frame": np.arange(FRAMES) + 1}, "has 12 frames, but its truth goes on to frame 12"),
        ({"image_size": np.array([640, 480])}, "is 480x360 px, but its truth is of 640x480"),
        ({"poses": np.array([{}], object)}, "Python objects"),
    ],
)
def test_truth_that_does_not_fit_is_refused(dataset, arrays, complaint):
    change(dataset, **arrays)
    with pytest.raises(DatasetError, match=complaint) as error:
        open_dataset(dataset)
    assert "\n" not in str(error.value)
    assert "walk" in str(error.value)


def test_what_is_missing_is_named(dataset, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DatasetError, match="nothing to evaluate"):
        open_dataset(empty)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(empty / "nowhere")
    (dataset / "walk.npz").rename(dataset / "run.npz")
    with pytest.raises(DatasetError, match=r"run\.mp4 is missing"):
        open_dataset(dataset)
    (dataset / "run.npz").unlink()
    with pytest.raises(DatasetError, match=r"walk\.npz is missing"):
        open_dataset(dataset)


def test_files_that_are_damaged_are_named(dataset):
    whole = (dataset / "walk.npz").read_bytes()
    (dataset / "walk.npz").write_bytes(whole[:500])
    with pytest.raises(DatasetError, match=r"walk\.npz: is damaged"):
        open_dataset(dataset)
    (dataset / "walk.npz").write_bytes(whole)
    made_clips.overwrite(dataset / "walk.mp4", 40, seed=1)
    with pytest.raises(VideoError, match=r"walk\.mp4"):
        open_dataset(dataset)


def test_photos_that_do_not_fit_are_refused(tmp_path):
    write_photos(tmp_path, photos=3)
    labels, images = tmp_path / "labels.npz", tmp_path / "images.npy"
    np.savez(labels, kp2d=np.zeros((2, 1, 31, 3)), box=np.zeros((3, 1, 4)))
    with pytest.raises(DatasetError, match="kp2d has shape"):
        open_dataset(tmp_path)
    np.savez(labels, kp2d=np.zeros((3, 1, 31, 3)))
    with pytest.raises(DatasetError, match="has no box"):
        open_dataset(tmp_path)
    np.save(images, np.zeros((3, 96, 96, 3), np.uint8))
    with pytest.raises(DatasetError, match="not uint8"):
        open_dataset(tmp_path)
    np.save(images, np.array([{}], object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"images\.npy: is damaged or no"):
        open_dataset(tmp_path)
    images.unlink()
    with pytest.raises(DatasetError, match=r"images\.npy is missing"):
        open_dataset(tmp_path)
