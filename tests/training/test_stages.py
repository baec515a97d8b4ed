"""A whole training, as small as it can be: from prepared data to a checkpoint that is loaded."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.model.hmr import PooledArchitecture
from staf_cli.model.staf import STAF, Architecture, load_network
from staf_cli.training import stages
from staf_cli.training.batches import Phase
from staf_cli.training.checkpoint import load_network_state
from staf_cli.training.plan import PLANS, Plan
from staf_cli.training.samples import read_samples
from staf_cli.training.studio import rendering
from tests.support.made_people import open_body
from tests.support.made_training_data import HELD_OUT_PHOTOS, write_data

BODY = open_body()
CPU = torch.device("cpu")
FOREVER = 1e9
ENCODER = "resnet18"
SIZES: dict[str, Any] = {
    "poses": 2,
    "sequences": 1,
    "held_out": 1,
    "encoder": ENCODER,
    "batch": 8,
    "pretraining_steps": 2,
    "stage1_steps": 2,
    "stage2_steps": 2,
    "stage2_batch": 4,
    "validate_every": 2,
}
PHASES = (Phase(0.5, 96, 2), Phase(1.0, 128, 3))
ABSENT = (  # on a machine that has what training needs and nothing else
    "av",
    "cv2",
    "ffmpeg",
    "lap",
    "matplotlib",
    "platformdirs",
    "pyrender",
    "rich",
    "scipy",
    "smplx",
    "trimesh",
    "ultralytics",
)
BARE_MACHINE = f"""
import runpy, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Absent())
import torch
torch.set_num_threads(1)
"""
WHOLE_RUN = f"""
from dataclasses import replace
from staf_cli.training import plan
from staf_cli.training.batches import Phase
phases = tuple(Phase(*p) for p in {[tuple(vars(p).values()) for p in PHASES]})
plan.PLANS["tiny"] = replace(plan.PLANS["cpu"], pretraining_phases=phases, **{SIZES})
runpy.run_module("staf_cli.training", run_name="__main__")
"""


def tiny() -> Plan:
    return replace(PLANS["cpu"], pretraining_phases=PHASES, **SIZES)


def options(data: Path, runs: Path, **changed: Any) -> stages.TrainingOptions:
    default = stages.TrainingOptions(data, runs, tiny(), "full", 0, FOREVER, CPU)
    return replace(default, **changed)


def on_a_bare_machine(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BARE_MACHINE + code, *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "STAF_DATA"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, BODY, ENCODER, photos=4)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `python -m staf_cli.training run` leaves where nothing but torch is installed."""
    folder = tmp_path_factory.mktemp("runs")
    arguments = ("run", str(data), str(folder), "--plan", "tiny", "--device", "cpu")
    done = on_a_bare_machine(WHOLE_RUN, *arguments)
    assert done.returncode == 0, done.stderr
    output = folder / "staf-open-full.safetensors"
    assert done.stdout.splitlines()[-1] == f"written: {output}"
    return folder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """And no curves: tests/training/test_loop.py looks at them."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_torch_is_enough_to_train_and_the_checkpoint_is_loaded(data, runs):
    checkpoint = load_checkpoint(runs / "staf-open-full.safetensors")
    network = load_network(checkpoint, BODY)
    assert network.architecture == Architecture(encoder=ENCODER)
    with torch.no_grad():
        thetas = network(torch.randn(1, 9, 3, 224, 224))
    assert thetas[-1].pose6d.shape == (1, 144) and thetas[-1].pose6d.isfinite().all()
    for run, steps in (
        ("seeing", tiny().pretraining_steps),
        ("base", tiny().stage1_steps),
        ("temporal-full", tiny().stage2_steps),
    ):
        progress = json.loads(torch.load(runs / run / "state.pt", weights_only=True)["progress"])
        assert progress["step"] == steps
        assert all(np.isfinite(list(p.values())).all() for p in progress["losses"])
        measured = "field 1" if run == "seeing" else "MPJPE"
        assert np.isfinite(progress["errors"][-1][f"synthetic-held-out {measured}"])
    assert len(read_samples(data / "photos-held-out")) == HELD_OUT_PHOTOS
    assert read_samples(data / "synthetic").images.shape[:2] == (1, 16)


def test_stage_2_begins_where_stage_1_ended(runs):
    """Nine copies of a frame, before any step: APM, TCFM and SAFM change nothing."""
    base = stages.network_for_stage2(
        runs / "base", BODY, options(runs, runs).make_architecture("base"), 0
    ).eval()
    full = stages.network_for_stage2(
        runs / "base", BODY, options(runs, runs).make_architecture("full"), 0
    ).eval()
    crop = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone, _ = base.base_model(base.encoder(crop))
        window = full(crop.expand(9, -1, -1, -1)[None])
    assert torch.allclose(window[-1].pose6d, alone[-1].pose6d, atol=1e-4)
    assert torch.allclose(window[-1].pred_cam, alone[-1].pred_cam, atol=1e-4)


def test_stage_2_moves_all_but_the_encoder(runs):
    base, full = load_network_state(runs / "base"), load_network_state(runs / "temporal-full")
    assert not any(name.startswith("encoder") for name in full)
    for part in ("pyramid.deconv", "sampler", "regressor"):
        names = [name for name in full if name.startswith(part) and name.endswith("weight")]
        assert names and all(not torch.equal(full[name], base[name]) for name in names)
    assert all(torch.equal(full[n], base[n]) for n in full if "running_mean" in n)
    shipped = load_checkpoint(runs / "staf-open-full.safetensors").tensors
    scale = full["regressor.2.fc1.weight"].abs().amax(1, keepdim=True)
    off = (shipped["regressor.2.fc1.weight"] - full["regressor.2.fc1.weight"]).abs()
    assert (off <= scale / 253 + 2**-25).all()  # half the distance of float16s near 0


def test_stopped_by_the_time_limit_and_gone_on_with_it_is_the_same_checkpoint(data, runs, tmp_path):
    lines: list[str] = []
    stopped = options(data, tmp_path, time_limit=0.0)
    results: list[Path | None] = []
    while not results or results[-1] is None:
        results.append(stages.run_stages(stopped, BODY, lines.append))
    assert len(results) == 6  # a step a call
    on = "the same command goes on"
    assert [line for line in lines if on in line] == [
        f"stopped at step 1 of 2; {on}",
        f"the time is over; {on}",
        f"stopped at step 1 of 2; {on}",
        f"the time is over; {on}",
        f"stopped at step 1 of 2; {on}",
    ]
    written = [folder / "staf-open-full.safetensors" for folder in (runs, tmp_path)]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_another_architecture_starts_from_the_same_stage_1(data, runs, tmp_path):
    shutil.copytree(runs / "base", tmp_path / "base")
    for encoded in runs.glob("encoded-*"):  # the encoder's maps serve all architectures
        shutil.copytree(encoded, tmp_path / encoded.name)
    before = sorted(tmp_path.rglob("*.npy"))
    one_step = replace(tiny(), stage2_steps=1)
    other = options(data, tmp_path, architecture="base", plan=one_step)
    path = stages.run_stages(other, BODY, lambda line: None)
    assert path is not None and path == tmp_path / "staf-open-base.safetensors"
    network = load_network(load_checkpoint(path), BODY)
    assert network.architecture == Architecture(ENCODER, apm=False, tcfm=None, safm=None)
    assert sorted(tmp_path.rglob("*.npy")) == before


def test_a_row_of_table_5_starts_from_the_same_encoder(data, runs, tmp_path):
    shutil.copytree(runs / "seeing", tmp_path / "seeing")
    plan = replace(tiny(), stage1_steps=1, stage2_steps=1)
    path = stages.run_stages(
        options(data, tmp_path, architecture="hmr-apm", plan=plan), BODY, lambda line: None
    )
    assert path is not None
    network = load_network(load_checkpoint(path), BODY)
    assert network.architecture == PooledArchitecture(ENCODER, "hmr", "apm")
    with pytest.raises(UsageError, match=r"hmr-apm needs steps of both stages.*--plan frozen"):
        options(data, tmp_path, architecture="hmr-apm", plan=PLANS["cpu"])


def test_the_paper_s_loss_goes_through_both_stages_and_is_another_run(data, runs, tmp_path):
    shutil.copytree(runs / "seeing", tmp_path / "seeing")
    plan = replace(tiny(), stage1_steps=1, stage2_steps=1)
    own = options(data, tmp_path, architecture="base", plan=plan, loss="paper")
    assert stages.run_stages(own, BODY, lambda line: None) is not None
    with pytest.raises(WeightsError, match=r"belongs to another run.*loss paper"):
        stages.run_stages(replace(own, loss="soft"), BODY, lambda line: None)


def test_a_plan_may_end_with_what_was_solved_for(data, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "SOLVED_FRAMES", 1)
    lines: list[str] = []
    shutil.copytree(runs / "seeing", tmp_path / "seeing")
    plan = replace(tiny(), stage1_steps=0, stage2_steps=0)
    path = stages.run_stages(options(data, tmp_path, plan=plan), BODY, lines.append)
    assert [np.load(p).shape[:2] for p in sorted(tmp_path.rglob("poses-*.npy"))] == 2 * [(1, 1)]
    assert len(read_samples(data / "poses")) == 2  # of which one was to be read
    begins = [line for line in lines if line.startswith("step 0/0")]
    assert len(begins) == 2 and "synthetic-held-out Accel" in begins[1]  # a row of Table 4
    assert path is not None
    network = load_network(load_checkpoint(path), BODY)
    with torch.no_grad():
        theta = network(torch.randn(1, 9, 3, 224, 224))[-1]
    assert theta.pose6d.isfinite().all()
    assert isinstance(network, STAF) and network.tcfm is not None
    assert torch.equal(network.tcfm.mask.weight, torch.zeros_like(network.tcfm.mask.weight))


def test_seeing_starts_from_a_checkpoint_s_encoder_and_pyramid(data, runs, tmp_path):
    start = runs / "staf-open-full.safetensors"
    stopped = options(data, tmp_path, start=start, time_limit=0.0)
    assert stages.run_stages(stopped, BODY, lambda line: None) is None
    state, before = load_network_state(tmp_path / "seeing"), load_checkpoint(start).tensors
    off = (state["encoder.layer4.1.conv2.weight"] - before["encoder.layer4.1.conv2.weight"]).abs()
    assert 0 < off.max() < 2 * tiny().pretraining_rate  # one step of Adam away from it
    smaller = replace(tiny(), encoder="yolo11n")
    with pytest.raises(WeightsError, match="has another encoder than the plan's"):
        stages.run_stages(
            replace(stopped, plan=smaller, folder=tmp_path / "b"), BODY, lambda _: None
        )


def test_several_processes_render_what_one_does(data, tmp_path, monkeypatch):
    order = rendering.RenderJob("poses", "training", 5, 1, seed=3)
    sets = []
    for processes in (1, 2):
        monkeypatch.setattr(rendering, "WORTH_PROCESSES", 0)
        monkeypatch.setattr(rendering, "AT_ONCE", 2)
        monkeypatch.setattr(rendering, "_cores", lambda count=processes: count)
        folder = tmp_path / str(processes)
        folder.mkdir()
        for name in ("motions.npz", "wardrobe.npz", "backgrounds.npy"):
            (folder / name).symlink_to(data / name)
        rendering.render_set(order, folder, BODY.arrays, lambda line: None)
        sets.append(read_samples(folder / "poses"))
    assert np.array_equal(sets[0].images, sets[1].images)
    assert np.array_equal(sets[0].labels.kp2d, sets[1].labels.kp2d)


def test_what_does_not_fit_is_one_line(data, runs, tmp_path):
    with pytest.raises(UsageError, match="unknown architecture 'best'; choose from base"):
        options(data, runs, architecture="best")
    with pytest.raises(UsageError, match="unknown loss 'best'; choose from soft, paper"):
        options(data, runs, loss="best")
    with pytest.raises(WeightsError, match=r"belongs to another run.*seed 0"):
        stages.run_stages(options(data, runs, seed=1), BODY, lambda line: None)
    done = on_a_bare_machine(
        "runpy.run_module('staf_cli.training', run_name='__main__')",
        *("run", str(tmp_path), str(tmp_path), "--device", "cpu"),
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "motions.npz: there is no such file" in done.stderr and done.stderr.count("\n") == 1
