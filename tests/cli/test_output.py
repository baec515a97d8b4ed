"""What commands print: commands that the user can type."""

import sys

import pytest

from staf_cli.cli import output

FOLDER = "out/my walk"


@pytest.mark.skipif(sys.platform == "win32", reason="quotes of a POSIX shell")
@pytest.mark.parametrize(
    ("found", "called", "line"),
    [
        ("/usr/bin/staf", ".venv/bin/staf", "staf view 'out/my walk'"),
        (None, ".venv/bin/staf", ".venv/bin/staf view 'out/my walk'"),
        (None, "/lib/staf_cli/__main__.py", "/bin/python -m staf_cli view 'out/my walk'"),
    ],
)
def test_a_command_is_written_as_it_can_be_typed(monkeypatch, found, called, line):
    monkeypatch.setattr("shutil.which", lambda name: found)
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setattr("sys.executable", "/bin/python")
    assert output.written_command("view", FOLDER) == line
