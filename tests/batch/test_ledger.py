"""The ledger: a row for each clip, whatever the file held before."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from staf_cli.batch.ledger import Row, open_ledger
from staf_cli.core.errors import OutputError
from tests.support.made_batch import ROW, saved_rows


def test_the_ledger_keeps_a_row_a_clip(tmp_path):
    evil = Row("/clips/\x1b[2J\udcff.mp4", "y", "failed", message="no\nvideo")
    with open_ledger(tmp_path) as book:
        book.add(evil)
        book.add(ROW)
        book.add(replace(ROW, status="damaged", damaged=3))
    with open_ledger(tmp_path) as book:
        assert book.row(Path("/clips/x.mp4"), "x") == replace(ROW, status="damaged", damaged=3)
        assert book.row(Path("/clips/\x1b[2J\udcff.mp4"), "y") == evil
        assert book.row(Path("/clips/x.mp4"), "z") is None
    with (tmp_path / "summary.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["folder"] for row in table] == ["x", "y"]
    assert table[0] | {"message": ""} == {
        "clip": "/clips/x.mp4", "folder": "x", "status": "damaged", "reused": "no", "people": "2",
        "frames": "30", "damaged": "3", "seconds": "4.2", "message": "",
    }  # fmt: skip
    assert table[1]["clip"] == r"/clips/\x1b[2J\udcff.mp4"
    assert b"\x1b" not in (tmp_path / "summary.json").read_bytes()
    assert [row["people"] for row in saved_rows(tmp_path)] == [2, 0]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"clips": 3}', '{"clips": [{"clip": 3}]}', '{"clips": ["x"]}', "[" * 100_000,
        json.dumps({"clips": [{"clip": "x", "folder": "x", "status": "odd"}]}),
        json.dumps({"clips": [{"clip": "x", "folder": "x", "status": "done", "people": "many"}]}),
        json.dumps({"clips": [{"clip": "x", "folder": "x", "status": "done", "more": 1}]}),
    ],
)  # fmt: skip
def test_a_foreign_ledger_is_begun_anew(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with open_ledger(tmp_path) as book:
        assert book.rows == {}
        book.add(ROW)
    with open_ledger(tmp_path) as book:
        assert list(book.rows.values()) == [ROW]


def test_two_commands_never_fill_one_folder(tmp_path):
    with open_ledger(tmp_path):
        with pytest.raises(OutputError, match="another staf is filling"), open_ledger(tmp_path):
            pass
        with open_ledger(tmp_path / "other"):
            pass


def test_a_name_that_is_not_utf8_is_a_row_like_others(tmp_path):
    clip = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    row = Row(str(clip), clip.stem, "done", message=f"{clip}: fine")
    output = tmp_path / os.fsdecode(b"lot\xff")
    with open_ledger(output) as book:
        book.add(row)
    with open_ledger(output) as book:
        assert book.row(clip, clip.stem) == row
    assert "caf\\udce9.mp4" in (output / "summary.csv").read_text(encoding="utf-8")
