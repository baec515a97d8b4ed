"""landmarks_<id>.npz: written, read back, and refused where it is damaged."""

from dataclasses import fields, replace

import numpy as np
import pytest

from staf_cli.core.errors import TracksError
from staf_cli.core.records import LandmarkTrack
from staf_cli.result import landmarks_npz


def some_landmarks():
    rng = np.random.default_rng(0)
    return LandmarkTrack(
        id=3,
        frame=np.array([4, 4, 10]),
        mirrored=np.array([False, True, False]),
        kp2d=rng.random((3, 33, 3)).astype(np.float32),
        metres=rng.normal(size=(3, 33, 3)).astype(np.float32),
        score=np.array([0.9, 0, 0.5]),
        region=rng.random((3, 4)),
        mask_row=np.array([0, 2]),
        mask=rng.integers(0, 256, (2, 64, 64)).astype(np.uint8),
    )


def test_what_is_written_is_read_back(tmp_path):
    seen, path = some_landmarks(), landmarks_npz.path_of(tmp_path, 3)
    landmarks_npz.save(path, seen)
    assert path.name == "landmarks_3.npz"
    back = landmarks_npz.load(path)
    for field in fields(LandmarkTrack):
        one, other = getattr(seen, field.name), getattr(back, field.name)
        assert np.array_equal(one, other), field.name
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_bad_files_are_refused_in_one_line(tmp_path):
    path = landmarks_npz.path_of(tmp_path, 3)
    with pytest.raises(TracksError):
        landmarks_npz.load(path)
    path.write_bytes(b"no zip")
    with pytest.raises(TracksError, match="landmarks_3"):
        landmarks_npz.load(path)
    landmarks_npz.save(path, some_landmarks())
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(TracksError, match="landmarks_3"):
        landmarks_npz.load(path)
    np.savez(path, person=3, frame=np.arange(2))
    with pytest.raises(TracksError) as caught:
        landmarks_npz.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame": np.array([4, 10, 10]), "mirrored": np.array([False, True, True])},
        {"frame": np.array([4, 10, 9])},
        {"kp2d": np.zeros((2, 33, 3))},
        {"score": np.array([0.9, np.nan, 0.5])},
        {"mask_row": np.array([0, 3])},
        {"mask": np.zeros((1, 64, 64), np.uint8)},
    ],
)
def test_landmarks_that_cannot_be_are_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match=r"landmarks of person 3|LandmarkTrack"):
        replace(some_landmarks(), **wrong)
