"""Arrays in files: as numpy reads them, with a place on the disk before they are written."""

import errno
import os
import sys

import numpy as np
import pytest

from staf_cli.core.errors import OutputError
from staf_cli.core.files import atomic
from staf_cli.core.large_arrays import create_array

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="others have no posix_fallocate")


def test_it_is_what_numpy_reads(tmp_path):
    array = create_array(tmp_path / "a.npy", np.float16, (3, 4, 5))
    array[1] = 2
    array.flush()
    read = np.load(tmp_path / "a.npy")
    assert read.dtype == np.float16 and read.shape == (3, 4, 5)
    assert (read[1] == 2).all() and not read[[0, 2]].any()


@only_linux
def test_the_file_has_no_holes(tmp_path):
    create_array(tmp_path / "a.npy", np.uint8, (3_000_000,))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 3_000_000


@only_linux
def test_a_full_disk_is_one_line_and_nothing_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(OutputError, match=r"images\.npy.*[Nn]o space left"),
        atomic(tmp_path / "images.npy") as temporary,
    ):
        create_array(temporary, np.uint8, (10,))
    assert list(tmp_path.iterdir()) == []
