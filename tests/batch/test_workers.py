"""Worker processes: clips that fail, workers that die, and nothing left behind."""

import os
import subprocess
import sys
import time
from contextlib import closing

import pytest

from staf_cli.batch.events import Finished, Note, Progress, Started
from staf_cli.core.errors import StafError, WeightsError
from tests.support import scripted_workers
from tests.support.made_batch import pool_of
from tests.support.waiting import gone, wait_for


def rows_of(events):
    return {event.name: event.row for event in events if isinstance(event, Finished)}


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


def test_a_worker_waits_for_no_library_but_those_that_it_loads():
    """The pool alone imports no torch, which takes seconds in each process."""
    code = "import sys, staf_cli.batch.workers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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
