"""camera.npz holds what was written, and refuses what was not."""

import numpy as np
import pytest

from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import TracksError
from staf_cli.result import camera_npz


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "camera.npz"
    motion = still_camera(np.arange(5, 9))
    camera_npz.save(path, motion)
    again = camera_npz.load(path)
    assert again.frame.tolist() == [5, 6, 7, 8]
    assert again.moving is False
    assert (again.rotation == motion.rotation).all()


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
