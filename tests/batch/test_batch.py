"""Many clips: which, where to, in which processes, and what is known of them afterwards."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from rich.console import Console

from staf_cli.batch import display
from staf_cli.batch.clips import gather, is_single_clip, single_job
from staf_cli.batch.events import Finished, Note, Progress, Started, progress_callback
from staf_cli.batch.ledger import Row, open_ledger
from staf_cli.batch.options import Choice, PoolOptions
from staf_cli.batch.run import create_pool, run_batch
from staf_cli.batch.workers import ProcessPool
from staf_cli.core.errors import OutputError, StafError, UsageError, VideoError, WeightsError
from staf_cli.pipeline.options import Options
from staf_cli.recovery.options import RecoveryOptions
from tests.support import made_clips, scripted_workers

ALL = Choice(recursive=True)


# --- which clips, and where to


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Make files in a folder that is the working folder; gives it."""
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


# --- the ledger

ROW = Row("/clips/x.mp4", "x", "done", False, 2, 30, 0, 4.25, "")


def saved(output):
    return json.loads((output / "summary.json").read_text())["clips"]


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
    assert [row["people"] for row in saved(tmp_path)] == [2, 0]


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


# --- workers


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def pool_of(log, number, start=""):
    return ProcessPool((partial(scripted_workers.load, log, start),) * number)


def rows_of(events):
    return {event.name: event.row for event in events if isinstance(event, Finished)}


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_no_bad_clip_stops_the_others(tmp_path, log):
    tasks = scripted_workers.tasks(
        tmp_path, good="done", bad="fail", killed="kill", once="kill once", crashed="crash",
        raised="raise", last="done",
    )  # fmt: skip
    events = list(pool_of(log, 2, "welcome").submit(tasks))
    rows = rows_of(events)
    assert [event.text for event in events if isinstance(event, Note)].count("welcome") == 1
    assert len(rows) == len([e for e in events if isinstance(e, Finished)]) == len(tasks)
    assert {name for name, row in rows.items() if row.status == "done"} == {"good", "once", "last"}
    assert rows["killed"].message == "its process died (signal 9); out of memory? try fewer --jobs"
    assert rows["crashed"].message == "its process died (signal 11)"
    assert rows["raised"].message == "its process died (exit code 1)"
    assert rows["bad"].message == "no good"
    begun = scripted_workers.count_events(log)
    assert begun.pop("ready") <= 2 + 5  # nobody is replaced who has not died
    assert begun == dict.fromkeys(rows, 1) | {"killed": 2, "once": 2}
    assert all(gone(pid) for pid in scripted_workers.worker_pids(log))


def test_progress_comes_from_the_workers(tmp_path, log):
    tasks = scripted_workers.tasks(tmp_path, a="slow 6", b="done")
    seen = list(pool_of(log, 1).submit(tasks))
    assert seen[:2] == [Started("a"), Progress("a", "track", 0, 6)]
    reported = [event.done for event in seen if isinstance(event, Progress)]
    assert len(reported) >= 2
    assert reported == sorted(set(reported))
    assert [event.name for event in seen if isinstance(event, Finished)] == ["a", "b"]
    assert scripted_workers.count_events(log)["ready"] == 1


def test_work_that_no_worker_can_do_is_reported_once(tmp_path, log):
    tasks = scripted_workers.tasks(tmp_path, a="done", b="done", c="done")
    with pytest.raises(WeightsError, match="no weights here"):
        list(pool_of(log, 2, "refuse").submit(tasks))
    for start, reason in [("break", "CUDA out of memory"), ("die", "signal 11")]:
        reported = []
        with pytest.raises(StafError, match=f"no worker process is left .*{reason}"):
            for event in pool_of(log, 1, start).submit(tasks):
                reported.append(event)
        assert [type(event) for event in reported] == [Note]


@pytest.mark.alone
def test_closing_ends_all_workers_at_once(tmp_path, log):
    tasks = scripted_workers.tasks(
        tmp_path, a=f"slow {scripted_workers.SLOW}", b=f"slow {scripted_workers.SLOW}"
    )
    with closing(pool_of(log, 2).submit(tasks)) as events:
        started = {next(event.name for event in events if isinstance(event, Started)) for _ in "12"}
        assert started == {"a", "b"}
        wait_for(lambda: len(list((tmp_path / "out").rglob(".staf-*"))) == 2)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    assert all(gone(pid) for pid in scripted_workers.worker_pids(log))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_workers_end_when_their_parent_is_killed(tmp_path, log):
    code = """if __name__ == "__main__":
        import sys
        from functools import partial
        from pathlib import Path
        from staf_cli.batch.workers import ProcessPool
        from tests.support import scripted_workers
        folder = Path(sys.argv[1])
        tasks = scripted_workers.tasks(folder, a="slow 200")
        pool = ProcessPool((partial(scripted_workers.load, folder / "log"),))
        list(pool.submit(tasks))
    """
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_for(lambda: list((tmp_path / "out").rglob(".staf-*")))
    (worker,) = scripted_workers.worker_pids(log)
    assert not gone(worker)
    parent.kill()
    parent.wait()
    wait_for(lambda: gone(worker), 2)


# --- a batch


@pytest.fixture
def screens():
    return Console(file=io.StringIO(), width=200), Console(file=io.StringIO(), width=200)


def printed_on(screen):
    """What a console printed into memory."""
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def run_tasks(tasks, output, pool, screens, quiet=True):
    out, err = screens
    return run_batch([task.job for task in tasks], output, pool, out, err, quiet)


def batch(tmp_path, log, screens, quiet=False, number=1, **files):
    tasks = scripted_workers.tasks(tmp_path, **files)
    pool = pool_of(log, number)
    code = run_tasks(tasks, tmp_path / "out", pool, screens, quiet)
    return code, *map(printed_on, screens)


def test_a_batch_reports_how_it_went(tmp_path, log, screens):
    code, out, err = batch(tmp_path, log, screens, a="done", b="fail", c="done done")
    assert code == 1
    assert out.splitlines()[0] == "done     a: 1 person, 1 frame"
    assert "failed   b: no good" in out
    assert "clips:   2 done, 1 failed" in out
    assert err == "error: b: no good\n"
    with open_ledger(tmp_path / "out") as book:
        assert [row.status for row in book.rows.values()] == ["done", "failed", "done"]


def test_quiet_reports_failures_only(tmp_path, log, screens):
    assert batch(tmp_path, log, screens, True, a="done", b="fail") == (
        1,
        "",
        "error: b: no good\n",
    )


def pool_that_yields(*rows):
    def submit(tasks):
        for row in rows:
            yield Started(row.folder)
            yield Finished(row.folder, row)

    return SimpleNamespace(submit=submit)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["done", "nobody"], 0),
        (["done", "damaged", "nobody"], 3),
        (["damaged", "failed", "done"], 1),
    ],
)
def test_exit_codes(tmp_path, screens, statuses, code):
    rows = [replace(ROW, folder=str(n), status=status) for n, status in enumerate(statuses)]
    tasks = scripted_workers.tasks(tmp_path, **{row.folder: "" for row in rows})
    assert run_tasks(tasks, tmp_path / "out", pool_that_yields(*rows), screens) == code


def test_clips_without_people_are_remembered(tmp_path, screens):
    tasks = scripted_workers.tasks(tmp_path, a="", b="")
    seen = []

    def submit(given):
        seen.append([task.known_empty for task in given])
        for task in given:
            identity = "abc" if task.job.name == "a" else ""
            row = Row(str(task.job.video), task.job.name, "nobody", identity=identity)
            yield Finished(task.job.name, row)

    pool = SimpleNamespace(submit=submit)
    for _ in range(2):
        run_tasks(tasks, tmp_path / "out", pool, screens)
    assert seen == [["", ""], ["abc", ""]]


@pytest.fixture
def heard():
    """Have this process hear a signal, also if a shell made it ignore that."""
    before = {}

    def hear(number):
        before[number] = signal.signal(number, signal.default_int_handler)

    yield hear
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupted_batch_keeps_what_is_finished(tmp_path, log, screens, heard):
    tasks = scripted_workers.tasks(tmp_path, a="done", b=f"slow {scripted_workers.SLOW}", c="done")

    def interrupt():
        wait_for(lambda: list((tmp_path / "out").rglob(".staf-part*")))
        os.kill(os.getpid(), signal.SIGINT)

    heard(signal.SIGINT)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt) as stop:
        run_tasks(tasks, tmp_path / "out", pool_of(log, 1), screens, quiet=False)
    assert stop.value.__notes__ == ["1 of 3 clips are finished"]
    assert all(gone(pid) for pid in scripted_workers.worker_pids(log))
    assert not list((tmp_path / "out").rglob(".staf-*"))
    with open_ledger(tmp_path / "out") as book:
        assert [row.folder for row in book.rows.values()] == ["a"]


def on_device(device):
    return Options(recovery=RecoveryOptions(device=device))


def test_impossible_worker_pools_are_refused():
    impossible: list[dict[str, Any]] = [
        {"jobs": 0}, {"jobs": 1, "devices": (0, 1)}, {"devices": (0,), "ray": "local"},
    ]  # fmt: skip
    for pool in impossible:
        with pytest.raises(UsageError):
            PoolOptions(**pool)
    with pytest.raises(UsageError, match="exclude each other"):
        create_pool(PoolOptions(devices=(0, 1)), on_device("cpu"))
    with pytest.raises(UsageError, match="write --device cuda"):
        create_pool(PoolOptions(ray="auto"), on_device("cuda:1"))
    with pytest.raises(UsageError, match="--jobs"):
        create_pool(PoolOptions(ray="auto", jobs=2), Options())


def test_devices_and_threads_are_shared_out(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    pool = create_pool(PoolOptions(jobs=3, devices=(0, 2)), Options())
    assert isinstance(pool, ProcessPool)
    given = [load.args for load in pool.loaders if isinstance(load, partial)]
    assert [options.recovery.device for options, _ in given] == ["cuda:0", "cuda:2", "cuda:0"]
    assert [threads for _, threads in given] == [2, 2, 2]
    pool = create_pool(PoolOptions(), on_device("cpu"))
    assert isinstance(pool, ProcessPool)
    assert [load.args for load in pool.loaders if isinstance(load, partial)] == [
        (on_device("cpu"), 8)
    ]


def test_the_table_shows_clips_at_work(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with display.open_display(screen, 3, quiet=False) as show:
        show(Started("long/\x1b[2J" + "x" * 60))
        show(Progress("long/\x1b[2J" + "x" * 60, "track", 30, 120))
        show(Started("b"))
        show(Progress("b", "refine", 1, None))
        show(Finished("b", replace(ROW, folder="b", status="failed", message="no good")))
        show(Note("[bold]a note"))
        time.sleep(0.3)  # longer than the table's own pace
    text = printed_on(screen)
    assert "track 30 of 120" in text
    assert "b: 2 people, 30 frames, 4.2 s, no good" in text
    assert "0 done, 1 failed, 2 left" in text
    assert "note: [bold]a note" in text
    assert "\x1b[2J" not in text


def test_progress_is_reported_now_and_then(monkeypatch):
    times = iter(np.arange(100) * 0.1)
    monkeypatch.setattr("staf_cli.batch.events.time.monotonic", lambda: next(times))
    reported: list[Progress] = []
    watch = progress_callback("a", reported.append)
    assert list(watch("track", "abcdefgh", None)) == list("abcdefgh")
    assert 2 <= len(reported) < 8
    assert reported[0] == Progress("a", "track", 0, None)


# --- the command


def test_the_command_does_a_folder(staf, detector, tmp_path):
    """An empty room and a text, with the real detector: both are reported and remembered."""
    (tmp_path / "clips" / "a").mkdir(parents=True)
    made_clips.make_clip(tmp_path / "clips" / "room.mp4", range(4))
    (tmp_path / "clips" / "a" / "text.mp4").write_text("no video")
    command = ("run", tmp_path / "clips", "--recursive", "-o", tmp_path / "out")
    code, out, err = staf(*command)
    assert code == 1
    assert err.count("\n") == 1
    assert "a/text: " in err
    assert "not a video" in err
    rows = {row["folder"]: row for row in saved(tmp_path / "out")}
    assert (rows["room"]["status"], rows["room"]["reused"]) == ("nobody", False)
    assert len(rows["room"]["identity"]) == 64
    assert rows["a/text"]["status"] == "failed"
    (tmp_path / "clips" / "a" / "text.mp4").unlink()
    code, out, err = staf(*command)
    assert (code, err) == (0, "")
    assert "nobody   room: stood already" in out
    kept = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    assert kept == ["summary.csv", "summary.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ([], 2, "nothing to do"),
        (["--jobs", "0", "x.mp4"], 2, "--jobs"),
        (["--devices", "zero", "x.mp4"], 2, "--devices"),
        (["--devices", "0", "--device", "cpu", "x.mp4", "y.mp4"], 2, "exclude"),
        (["--list", "nowhere.txt"], 2, "nowhere.txt"),
        (["empty"], 1, "no video in this folder"),
        (["x.mp4", "y.mp4", "--weights", "nothing"], 1, "nothing"),
    ],
)
def test_what_cannot_be_meant_is_one_line(staf, tmp_path, monkeypatch, arguments, code, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    got, _, err = staf("run", *arguments)
    assert got == code
    assert err.count("\n") == 1
    assert complaint in err
    assert not (tmp_path / "out").exists()


# --- the whole program, killed and interrupted


def program(*arguments):
    """The command line as a process group of its own."""
    command = [sys.executable, "-m", "staf_cli", "run", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def alive_in_group(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    return scripted_workers.make_walking_clips(tmp_path_factory.mktemp("filmed") / "clips")


@pytest.mark.full
def test_killed_and_begun_again_is_as_never_interrupted(filmed, detector, tmp_path):
    code, _, err = finish(program(filmed, "-o", tmp_path / "whole"))
    assert (code, err) == (0, "")
    for file in ("first/unfinished.json", "second/unfinished.json", "second/overlay.mp4"):
        output = tmp_path / file.replace("/", "-")
        batch = program(filmed, "-o", output)
        wait_for(lambda place=output / file: place.exists(), 300)
        os.kill(batch.pid, signal.SIGKILL)
        batch.wait()
        finished = saved(output) if (output / "summary.json").exists() else []
        assert [row["folder"] for row in finished] == ["first"] * file.startswith("second")
        code, out, err = finish(program(filmed, "-o", output))
        assert (code, err) == (0, "")
        assert ("first: 1 person, 26 frames, stood already" in out) == file.startswith("second")
        assert [row["status"] for row in saved(output)] == ["done", "done"]
        assert scripted_workers.person_arrays(output) == scripted_workers.person_arrays(
            tmp_path / "whole"
        )
        assert not list(output.rglob(".staf-*")) + list(output.rglob("unfinished.json"))


@pytest.mark.full
def test_ctrl_c_ends_the_batch_in_two_seconds(filmed, detector, tmp_path):
    output = tmp_path / "out"
    batch = program(filmed, "-o", output, "--jobs", 2)
    wait_for(lambda: len(list(output.rglob("unfinished.json"))) == 2, 300)
    start = time.monotonic()
    os.killpg(batch.pid, signal.SIGINT)
    code, _, err = finish(batch)
    assert time.monotonic() - start < 2
    assert code == 130
    assert err.strip() == "error: interrupted; 0 of 2 clips are finished; the same command goes on"
    assert not list(output.rglob(".staf-*"))
    wait_for(lambda: not alive_in_group(batch.pid), 5)  # the last helper sees that all is over
