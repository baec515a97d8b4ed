"""What the tests of batches share."""

import pytest


@pytest.fixture
def log(tmp_path):
    """An empty folder for the events of scripted workers."""
    folder = tmp_path / "log"
    folder.mkdir()
    return folder
