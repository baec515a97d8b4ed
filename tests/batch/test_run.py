"""A batch from its jobs to the exit code, and `staf run` with many clips."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from staf_cli.batch.events import Finished, Started
from staf_cli.batch.ledger import Row, open_ledger
from staf_cli.batch.options import PoolOptions
from staf_cli.batch.run import create_pool, run_batch
from staf_cli.batch.workers import ProcessPool
from staf_cli.core.errors import UsageError
from staf_cli.pipeline.options import Options
from staf_cli.recovery.options import RecoveryOptions
from tests.support import made_clips, scripted_workers
from tests.support.made_batch import ROW, pool_of, printed_on, saved_rows
from tests.support.waiting import gone, wait_for


@pytest.fixture
def screens():
    return Console(file=io.StringIO(), width=200), Console(file=io.StringIO(), width=200)


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


def test_a_verbose_batch_says_how_long_the_parts_took(tmp_path, screens):
    jobs = [task.job for task in scripted_workers.tasks(tmp_path, a="done")]

    def submit(given):
        for task in given:
            name = task.job.name
            yield Finished(name, replace(ROW, folder=name, times="track 1.5 s"))

    out, err = screens
    run_batch(jobs, tmp_path / "out", SimpleNamespace(submit=submit), out, err, False, True)
    assert printed_on(out).splitlines()[1] == "time:    track 1.5 s"


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


def test_the_command_does_a_folder(staf, detector, tmp_path):
    """With the real detector: a clip without people and a text are reported and remembered."""
    (tmp_path / "clips" / "a").mkdir(parents=True)
    made_clips.make_clip(tmp_path / "clips" / "empty.mp4", range(4))
    (tmp_path / "clips" / "a" / "text.mp4").write_text("no video")
    command = ("run", tmp_path / "clips", "--recursive", "-o", tmp_path / "out")
    code, out, err = staf(*command)
    assert code == 1
    assert err.count("\n") == 1
    assert "a/text: " in err
    assert "not a video" in err
    rows = {row["folder"]: row for row in saved_rows(tmp_path / "out")}
    assert (rows["empty"]["status"], rows["empty"]["reused"]) == ("nobody", False)
    assert len(rows["empty"]["identity"]) == 64
    assert rows["a/text"]["status"] == "failed"
    (tmp_path / "clips" / "a" / "text.mp4").unlink()
    code, out, err = staf(*command)
    assert (code, err) == (0, "")
    assert "nobody   empty: up to date already" in out
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
        batch.communicate()  # also closes its pipes
        finished = saved_rows(output) if (output / "summary.json").exists() else []
        assert [row["folder"] for row in finished] == ["first"] * file.startswith("second")
        code, out, err = finish(program(filmed, "-o", output))
        assert (code, err) == (0, "")
        reused = "first: 1 person, 26 frames, up to date already" in out
        assert reused == file.startswith("second")
        assert [row["status"] for row in saved_rows(output)] == ["done", "done"]
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
