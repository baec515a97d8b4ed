"""A Ray cluster of two machines, both this one: a machine dies in mid-clip, every clip is done."""

import io
import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

from staf_cli.batch import cluster
from staf_cli.batch.cluster import RayPool
from staf_cli.batch.run import run_batch
from staf_cli.core.errors import MissingTool
from tests.support import scripted_workers

HEAD, *NODES = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # Ray takes 127.0.0.1 for any machine's own


def test_without_ray_one_line_explains_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    pool = RayPool(partial(scripted_workers.load, tmp_path), "local", None, "cpu")
    with pytest.raises(MissingTool, match=r"pip install 'staf-cli\[ray\]'"):
        next(pool.submit(scripted_workers.tasks(tmp_path, a="done")))


@pytest.fixture
def nodes(monkeypatch, tmp_path):
    """A head without processors, and two nodes with one each."""
    pytest.importorskip("ray")
    for name, value in cluster.OFFLINE.items():
        if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER":  # machines reach each other
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the nodes' Pythons find `tests`
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "node_ip_address": HEAD, "include_dashboard": False},
    )
    two = [made.add_node(num_cpus=1, node_ip_address=address) for address in NODES]
    made.wait_for_nodes()
    yield made, two
    made.shutdown()


@pytest.mark.full
@pytest.mark.loopback
def test_a_node_dies_in_mid_clip(tmp_path, nodes):
    made, two = nodes
    log = tmp_path / "log"
    log.mkdir()
    contents = {"a": "slow 60", "b": "slow 60", "c": "fail", "d": "done", "e": "slow 5"}
    tasks = scripted_workers.tasks(tmp_path, **contents)
    pool = RayPool(partial(scripted_workers.load, log), made.address, None, "cpu")
    killed = False

    def submit(given):
        nonlocal killed
        for event in pool.submit(given):
            yield event
            if not killed and len(list((tmp_path / "out").rglob(".staf-part*"))) == 2:
                made.remove_node(two[0], allow_graceful=False)
                killed = True

    out, err = (Console(file=io.StringIO(), width=200) for _ in "oe")
    jobs = [task.job for task in tasks]
    code = run_batch(jobs, tmp_path / "out", SimpleNamespace(submit=submit), out, err, False)
    assert killed
    assert code == 1
    assert isinstance(err.file, io.StringIO)
    assert err.file.getvalue() == "error: c: no good\n"
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["clips"]
    statuses = [(row["folder"], row["status"]) for row in rows]
    assert statuses == [(name, "failed" if name == "c" else "done") for name in contents]
    assert {path.parent.name for path in (tmp_path / "out").rglob(scripted_workers.RESULT)} == set(
        "abde"
    )
    begun = scripted_workers.count_events(log)
    assert begun["a"] + begun["b"] == 3  # the one that was lost, once more; the other one never
    assert [begun[name] for name in "cde"] == [1, 1, 1]


@pytest.mark.full
@pytest.mark.loopback
def test_the_command_starts_a_cluster_of_its_own(tmp_path):
    """The results are those of worker processes, and nothing is left running."""
    pytest.importorskip("ray")
    clips = scripted_workers.make_walking_clips(tmp_path / "clips")
    for output, options in (("alone", ()), ("cluster", ("--ray", "local", "--jobs", "1"))):
        command = [
            sys.executable,
            "-m",
            "staf_cli",
            "run",
            clips,
            "-o",
            tmp_path / output,
            *options,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=400,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "clips:   2 done" in done.stdout
    assert scripted_workers.person_arrays(tmp_path / "cluster") == scripted_workers.person_arrays(
        tmp_path / "alone"
    )
