"""Atomic writes and hashes."""

import hashlib

import pytest

from staf_cli.core.errors import OutputError
from staf_cli.core.files import atomic, sha256


def test_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "result.txt"
    with atomic(path) as temporary:
        assert temporary.suffix == ".txt"
        assert temporary.parent == path.parent
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    for failure in (ValueError, KeyboardInterrupt):
        with pytest.raises(failure), atomic(path) as temporary:
            temporary.write_text("half")
            raise failure
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["result.txt"]


def test_what_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"cannot write .*: file exists; choose another --output"
    complaint = pytest.raises(OutputError, match=message)
    with complaint, atomic(tmp_path / "file" / "result.txt"):
        pass


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"staf" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"staf" * 100_000).hexdigest()
