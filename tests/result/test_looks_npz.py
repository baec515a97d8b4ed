"""Looks on disk: read back as they were written, and refused where they are damaged."""

from dataclasses import fields

import numpy as np
import pytest

from staf_cli.core.errors import TracksError
from staf_cli.landmarks.reading import Landmarks
from staf_cli.result import looks_npz


def looks(count, start):
    rng = np.random.default_rng(start)
    return Landmarks(
        kp2d=rng.random((count, 33, 3)),
        metres=rng.random((count, 33, 3)),
        score=rng.random(count),
        region=rng.random((count, 4)),
        next_region=rng.random((count, 4)),
        mask=rng.integers(0, 256, (count, 64, 64), np.uint8),
    )


def test_looks_are_read_as_they_were_written(tmp_path):
    written = {3: looks(1, 3), 4: looks(2, 4), 90: looks(1, 90)}
    looks_npz.save(tmp_path / looks_npz.FILE, written)
    found = looks_npz.load(tmp_path / looks_npz.FILE)
    assert list(found) == [3, 4, 90]
    for frame, one in written.items():
        for field in fields(Landmarks):
            np.testing.assert_array_equal(
                getattr(found[frame], field.name), getattr(one, field.name)
            )


@pytest.mark.parametrize("content", [b"", b"PK nothing"])
def test_a_damaged_file_is_one_line(content, tmp_path):
    path = tmp_path / looks_npz.FILE
    path.write_bytes(content)
    with pytest.raises(TracksError, match=r"looks\.npz"):
        looks_npz.load(path)


def test_a_column_that_is_too_short_is_one_line(tmp_path):
    path = tmp_path / looks_npz.FILE
    one = looks(2, 4)
    arrays = {field.name: getattr(one, field.name) for field in fields(Landmarks)}
    np.savez(path, frame=np.array([4, 4, 4]), **arrays)
    with pytest.raises(TracksError, match=r"looks\.npz"):
        looks_npz.load(path)
