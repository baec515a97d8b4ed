"""camera.npz: written, read back, and refused where it is damaged."""

from dataclasses import fields, replace

import numpy as np
import pytest

from staf_cli.core.camera_motion import CameraMotion, still_camera
from staf_cli.core.errors import TracksError
from staf_cli.result import camera_npz


def test_what_is_written_is_read_back(tmp_path):
    camera = replace(still_camera(np.array([3, 4, 9])), moving=True, focal_length=812.5)
    camera_npz.save(tmp_path / camera_npz.FILE, camera)
    back = camera_npz.load(tmp_path / "camera.npz")
    for field in fields(CameraMotion):
        one, other = getattr(camera, field.name), getattr(back, field.name)
        assert np.array_equal(one, other), field.name
        assert np.asarray(one).dtype == np.asarray(other).dtype


def test_files_of_before_focal_lengths_were_measured_are_read(tmp_path):
    path = tmp_path / camera_npz.FILE
    arrays = {name: getattr(still_camera(np.arange(3)), name) for name in camera_npz.FIELDS}
    del arrays["focal_length"]
    np.savez(path, **arrays)
    assert np.isnan(camera_npz.load(path).focal_length)


def test_bad_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / camera_npz.FILE
    arrays = vars(still_camera(np.arange(3)))
    mirrored = {**arrays, "rotation": -arrays["rotation"][:, :2]}
    wrong = [{"frame": np.arange(2)}, mirrored, {**arrays, "frame": np.array([2, 1, 0])}]
    wrong += [{**arrays, "focal_length": wide} for wide in (-1.0, 0.0, np.inf)]
    for content in wrong:
        np.savez(path, **content)
        with pytest.raises(TracksError, match=r"camera\.npz") as caught:
            camera_npz.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"no zip")
    with pytest.raises(TracksError, match=r"camera\.npz"):
        camera_npz.load(path)


@pytest.mark.parametrize("broken", ["missing", "text", "shape", "key"])
def test_another_file_is_refused_in_one_line(tmp_path, broken):
    path = tmp_path / "camera.npz"
    arrays = {name: getattr(still_camera(np.arange(3)), name) for name in camera_npz.FIELDS}
    if broken == "shape":
        arrays["rotation"] = np.eye(3)
    if broken == "key":
        del arrays["known"]
    if broken == "text":
        path.write_text("no npz")
    elif broken != "missing":
        np.savez(path, **arrays)
    with pytest.raises(TracksError, match=r"camera\.npz") as error:
        camera_npz.load(path)
    assert "\n" not in str(error.value)
