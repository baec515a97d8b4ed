"""`staf run` answers at once: its first line is there before anything slow is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

STOP_AT_SLOW_IMPORTS = """
import sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name in ("av", "cv2", "numpy", "scipy", "torch"):
            sys.exit(f"imports {name}")

sys.meta_path.insert(0, Stop())
from staf_cli.cli import app
app.main()
"""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["clips/walk.mp4"],
            f"{Path('clips/walk.mp4')}: the results will be in {Path('out/walk')} (",
        ),
        (["clips"], "clips: the results will be in out\n"),
        (["clips", "clips/walk.mp4", "-o", "new"], "the results will be in new: a folder for each"),
        (["clips/missing.mp4"], ""),
        (["-q", "clips/walk.mp4"], ""),
    ],
)
def test_the_first_line_comes_before_slow_imports(tmp_path, arguments, line):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "walk.mp4").touch()
    command = [sys.executable, "-c", STOP_AT_SLOW_IMPORTS, "run", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.startswith("imports ")
    assert done.stdout.startswith(line)
    assert done.stdout.count("\n") == bool(line)


def test_what_is_no_path_is_refused_before_slow_imports(tmp_path):
    command = [sys.executable, "-c", STOP_AT_SLOW_IMPORTS, "run", "https://a.org/walk.mp4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "download the video first" in done.stderr
