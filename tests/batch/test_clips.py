"""Which clips a command names, and the folder of each one's results."""

import re
from itertools import combinations, permutations
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import pytest

from staf_cli.batch import task
from staf_cli.batch.clips import gather, is_single_clip
from staf_cli.batch.naming import single_job
from staf_cli.batch.options import Choice
from staf_cli.core.errors import UsageError, VideoError
from staf_cli.pipeline.options import Options

ALL = Choice(recursive=True)


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Make files in a folder that is the working folder; returns it."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def names(*arguments, choice=ALL, lists=(), output="out"):
    jobs, _ = gather(map(Path, arguments), map(Path, lists), choice, Path(output))
    for job in jobs:
        assert job.folder == Path(output, *PurePosixPath(job.name).parts)
    return {str(job.video): job.name for job in jobs}


def test_a_folder_s_clips_are_mirrored(put):
    put("clips/x.mp4", "clips/a/y.MOV", "clips/a/b/z.v2.mkv", "clips/notes.txt", "clips/.h.mp4")
    put("clips/.git/w.mp4")
    assert names("clips", choice=Choice()) == {"clips/x.mp4": "x"}
    assert names("clips") == {
        "clips/x.mp4": "x",
        "clips/a/y.MOV": "a/y",
        "clips/a/b/z.v2.mkv": "a/b/z.v2",
    }
    assert names("clips/a/y.MOV", "./clips/x.mp4") == {"clips/a/y.MOV": "y", "clips/x.mp4": "x"}


def test_a_pattern_selects_the_files(put):
    put("clips/x.mp4", "clips/a/take.MP4", "clips/a/raw.dat")
    assert set(names("clips", choice=Choice(True, "*.mp4"))) == {"clips/x.mp4", "clips/a/take.MP4"}
    assert set(names("clips", choice=Choice(True, "a/*"))) == {
        "clips/a/take.MP4",
        "clips/a/raw.dat",
    }
    with pytest.raises(VideoError, match=r"no file like \*.avi in this folder"):
        names("clips", choice=Choice(True, "*.avi"))
    put("bare/notes.txt", "bare/deep/x.mp4")
    with pytest.raises(VideoError, match="no video in this folder; --recursive"):
        names("bare", choice=Choice())


def test_results_are_no_clips(put):
    put("clips/x.mp4", "clips/out/x/overlay.mp4", "clips/old/x/overlay.mp4", "clips/old/x/run.json")
    put("clips/new/x/overlay.mp4", "clips/new/x/unfinished.json")
    assert names("clips", output="clips/out") == {"clips/x.mp4": "x"}
    # The results may lie beside the clips.
    assert names("clips", output="clips", choice=Choice()) == {"clips/x.mp4": "x"}
    assert set(names("clips", output="clips")) == {"clips/x.mp4", "clips/out/x/overlay.mp4"}


def test_a_list_is_read_line_by_line(put):
    folder = put("lists/a.mp4", "lists/b c.mp4", "lists/more/d.mp4")
    text = "﻿# tonight\n\na.mp4\r\n  b c.mp4  \nmore\ngone.mp4\n"
    (folder / "lists" / "l.txt").write_text(text, encoding="utf-8")
    jobs, notes = gather((), [Path("lists/l.txt")], ALL, Path("out"))
    assert [job.name for job in jobs] == ["a", "b c", "d", "gone"]
    assert notes == ["lists/l.txt, line 6: no such file lists/gone.mp4"]
    (folder / "lists" / "l.txt").write_bytes(b"a.mp4\nx\0y\n")
    with pytest.raises(UsageError, match="line 2: no path"):
        names(lists=["lists/l.txt"])
    with pytest.raises(UsageError, match="cannot be read"):
        names(lists=["nowhere.txt"])
    (folder / "lists" / "l.txt").write_text("# nothing\n")
    with pytest.raises(VideoError, match="no clip"):
        names(lists=["lists/l.txt"])


def test_the_same_file_is_one_clip(put):
    folder = put("clips/x.mp4")
    (folder / "link").symlink_to(folder / "clips")
    assert list(names("clips/x.mp4", "clips", "./clips/../clips/x.mp4", "link/x.mp4").values()) == [
        "x"
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["a/x.mp4", "b/x.mp4", "c/y.mp4"], ["a/x", "b/x", "y"]),
        (["r/a/x.mp4", "s/a/x.mp4"], ["r/a/x", "s/a/x"]),
        (["x.mp4", "x.mov"], ["x.mp4", "x.mov"]),
        (["a/x.mp4", "b/x.mp4", "a/x.mov"], ["a/x.mp4", "b/x", "a/x.mov"]),
        (["summary.csv.mp4", "Summary.JSON.mov"], ["summary.csv.mp4", "Summary.JSON.mov"]),
        (["...mp4", "..mp4"], ["...mp4", "..mp4"]),
    ],
)
def test_names_that_meet_become_longer(put, found, expected):
    put(*found)
    for order in permutations(found):
        assert names(*order) == dict(zip(found, expected, strict=True))


def test_folders_whose_clips_meet_become_longer(put):
    put(
        "one/x.mp4",
        "two/x.mp4",
        "two/y.mp4",
        "one/a.mp4",
        "one/a/b.mp4",
        "one/a/c/d.mp4",
        "one/a.mov",
    )
    assert names("one", "two") == {
        "one/x.mp4": "one/x",
        "two/x.mp4": "two/x",
        "two/y.mp4": "y",
        "one/a.mp4": "a.mp4",
        "one/a.mov": "a.mov",
        "one/a/b.mp4": "a/b",
        "one/a/c/d.mp4": "a/c/d",
    }


def test_no_two_results_ever_meet(put):
    """Every three of many awkward files: no folder twice, none in another, none outside OUT."""
    found = [
        "x.mp4",
        "X.MP4",
        "x.mov",
        "x/x.mp4",
        "x/x/x.mp4",
        "x.mp4.mov",
        "x/x.mov",
        "\u00e9.mp4",
    ]
    found += ["e\u0301.mp4", "x..mp4", "x .mp4", "y/x.mp4", "y/x/x.mp4", "...mp4", "y/...mp4"]
    root = put(*found)
    for three in combinations(found, 3):
        chosen = [str(root / name) for name in three]
        reported = [PurePosixPath(name) for name in names(*chosen).values()]
        assert len(reported) == 3
        same = [
            tuple(normalize("NFC", part.casefold()) for part in name.parts) for name in reported
        ]
        for one, other in permutations(same, 2):
            assert other[: len(one)] != one, (three, reported)
        assert all(".." not in name.parts and not name.is_absolute() for name in reported)
    assert len(set(names(str(root)).values())) == len(found) - 2  # hidden ones


def test_a_folder_of_pictures_is_one_clip(put):
    put(
        "seq/0001.png",
        "seq/0002.png",
        "clips/shot.v2/1.jpg",
        "clips/x.mp4",
        "mixed/x.mp4",
        "mixed/x.jpg",
    )
    assert names("seq", "mixed") == {"seq": "seq", "mixed/x.mp4": "x"}
    assert names("clips") == {"clips/x.mp4": "x", "clips/shot.v2": "shot.v2"}
    assert is_single_clip(Path("seq"))
    assert is_single_clip(Path("gone.mp4"))
    assert not is_single_clip(Path("mixed"))
    assert single_job(Path("seq"), Path("out")).folder == Path("out/seq")
    assert single_job(Path("clips/x.mp4"), Path("out")).folder == Path("out/x")
    assert single_job(Path("...mp4"), Path("out")).folder == Path("out/...mp4")


@pytest.mark.parametrize("path", ["https://example.com/a.mp4", "rtsp://10.0.0.1/live", "0"])
def test_what_is_no_file_is_said_so_and_stops_no_other(put, path):
    put("b.mp4")
    said = rf"^{re.escape(path)}: (is an address; download|.* before a camera)"  # as it was typed
    with pytest.raises(VideoError, match=said):
        single_job(Path(path), Path("out"))
    jobs, notes = gather([Path(path), Path("b.mp4")], [], Choice(), Path("out"))
    assert len(jobs) == 2 and len(notes) == 1
    assert re.match(said, notes[0])
    Path("list.txt").write_text(f"{path}\nb.mp4\n")
    jobs, notes = gather([], [Path("list.txt")], Choice(), Path("out"))
    assert len(jobs) == 2
    tools: Any = None  # no clip is opened
    (row,) = (
        task._run_task(task.Task(job), Options(), tools, watch=lambda _, items, __: items)
        for job in jobs
        if job.video != Path("b.mp4")
    )
    assert re.match(said, row.message)


def test_file_addresses_and_quoted_lines_are_paths(put):
    folder = put("my clip.mp4", "0")
    address = f"file://{folder}/my%20clip.mp4"
    for given in (address, address.replace("file://", "file://localhost")):
        assert single_job(Path(given), Path("out")).video == folder / "my clip.mp4"
    assert single_job(Path("0"), Path("out")).video == Path("0")  # a file of that name
    lines = ['"my clip.mp4"', f"'{folder}/my clip.mp4'", address]
    (folder / "list.txt").write_text("\n".join(lines))
    jobs, notes = gather([], [folder / "list.txt"], Choice(), Path("out"))
    assert [job.name for job in jobs] == ["my clip"] and notes == []
