"""Locks of folders: one process at a time, on whatever machine; nothing is left behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from staf_cli.core.errors import OutputError
from staf_cli.core.files import TEMPORARY
from staf_cli.core.locks import locked

NAME = ".staf.lock"


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def our_record(folder):
    with locked(folder, NAME, "busy"):
        return (folder / NAME).read_text().splitlines()


def test_the_lock_is_in_the_folder_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))  # another machine has another one
    folder = tmp_path / "out" / "clip"
    with locked(folder, NAME, "busy"):
        assert [path.name for path in folder.iterdir()] == [NAME]
        with locked(folder, ".other.lock", "busy"):
            pass
        same = tmp_path / "out" / "x" / ".." / "clip"
        owner = rf"busy \(process {os.getpid()} of .*, since 20"
        with pytest.raises(OutputError, match=owner), locked(same, NAME, "busy"):
            pass
    assert list(tmp_path.iterdir()) == []  # nothing that was not there before
    folder.mkdir(parents=True)
    with locked(folder, NAME, "busy"):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]
    assert not NAME.startswith(TEMPORARY)  # `remove_leftovers` runs while it is held


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    _, machine, *start = our_record(tmp_path)
    (tmp_path / NAME).write_text("\n".join([str(dead_process()), machine, *start, ""]))
    with locked(tmp_path, NAME, "busy"):
        assert (tmp_path / NAME).read_text().startswith(f"{os.getpid()}\n")
    assert list(tmp_path.iterdir()) == []


def test_of_another_machine_the_error_says_who_and_what_to_remove(tmp_path):
    record = f"{dead_process()}\nworkstation-7\n123\n"
    (tmp_path / NAME).write_text(record)
    place = re.escape(str(tmp_path / NAME))
    who = rf" on workstation-7, since .* remove {place}$"
    with pytest.raises(OutputError, match=who), locked(tmp_path, NAME, "busy"):
        pass
    assert (tmp_path / NAME).read_text() == record
    (tmp_path / NAME).unlink()
    with locked(tmp_path, NAME, "busy"):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"nonsense"])
def test_a_lock_that_names_nobody_is_one_line(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    what = r"busy .* if it is gone, remove"
    with pytest.raises(OutputError, match=what), locked(tmp_path, NAME, "busy"):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    what = r"cannot write .* choose another --output"
    folder = tmp_path / "file" / "clip"
    with pytest.raises(OutputError, match=what), locked(folder, NAME, "busy"):
        pass
    assert Path(tmp_path / "file").is_file()
