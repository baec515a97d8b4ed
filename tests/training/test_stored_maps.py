"""Training on the stored maps of an encoder that stays as it is."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from staf_cli.checkpoints.format import load_checkpoint, save_checkpoint
from staf_cli.core.errors import UsageError, WeightsError
from staf_cli.core.geometry import CROP_SCALE
from staf_cli.model import blazepose, yolo
from staf_cli.model.hmr import HMR
from staf_cli.model.staf import STAF, Architecture, load_network
from staf_cli.training import stages
from staf_cli.training.plan import PLANS
from staf_cli.training.stored_maps import WIDE, start_from
from tests.support.made_people import open_body
from tests.support.made_training_data import write_data

BODY = open_body()
CPU = torch.device("cpu")
PLAN = replace(
    PLANS["frozen"],
    poses=2,
    sequences=1,
    held_out=1,
    batch=8,
    stage1_steps=2,
    stage2_steps=0,
    stage2_batch=4,
    validate_every=2,
)


def write_start(path: Path, encoder: str) -> Path:
    torch.manual_seed(0)
    network = STAF(Architecture(encoder=encoder), BODY.sample_points())
    assert BODY.arrays.sample_index is not None and BODY.arrays.sample_weight is not None
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    state["samples.index"] = torch.from_numpy(BODY.arrays.sample_index)
    state["samples.weight"] = torch.from_numpy(BODY.arrays.sample_weight)
    save_checkpoint(
        path,
        state,
        name="start",
        architecture=asdict(network.architecture),
        body=BODY.identity,
        crop_scale=CROP_SCALE,
        licence="none",
    )
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors", "yolo11n")


def wide_network() -> STAF:
    architecture = Architecture(encoder=blazepose.NAME, apm=False, tcfm=None, safm=None)
    return STAF(architecture, BODY.sample_points()).eval()


@torch.no_grad()
def test_the_start_answers_as_the_checkpoint_does(start):
    narrow = STAF(
        Architecture(encoder="yolo11n", apm=False, tcfm=None, safm=None), BODY.sample_points()
    )
    learned = load_checkpoint(start).tensors
    narrow.load_state_dict({k: learned.get(k, v) for k, v in narrow.state_dict().items()})
    network = wide_network()
    start_from(network, start)
    crops = torch.randn(2, 3, 224, 224)
    maps = network.encoder(crops)
    assert maps[:, yolo.CHANNELS :].std() > 0.1
    expected = narrow.eval().base_model(narrow.encoder(crops))[0][-1]
    assert torch.allclose(network.base_model(maps)[0][-1].pose6d, expected.pose6d, atol=1e-5)


def test_other_checkpoints_are_refused(tmp_path):
    other = write_start(tmp_path / "other.safetensors", "resnet50")
    with pytest.raises(WeightsError, match=r"other\.safetensors: is of encoder resnet50"):
        start_from(wide_network(), other)


def test_a_plan_of_stored_maps_needs_a_start(tmp_path):
    with pytest.raises(UsageError, match="--start"):
        stages.TrainingOptions(tmp_path, tmp_path, PLAN, "base", 0, 1e9, CPU)


@pytest.fixture(scope="module")
def options(start: Path, tmp_path_factory: pytest.TempPathFactory) -> stages.TrainingOptions:
    data, runs = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    write_data(data, BODY, "resnet18", photos=4)
    return stages.TrainingOptions(data, runs, PLAN, "base", 0, 1e9, CPU, start=start)


@pytest.fixture(scope="module")
def path(options: stages.TrainingOptions) -> Path:
    """What stage 1 alone trains."""
    written = stages.run_stages(options, BODY, lambda line: None)
    assert written is not None
    return written


def test_stage_1_trains_all_but_the_encoder(start, options, path):
    again = wide_network()
    start_from(again, path)  # what was trained so is a start as well
    trained = load_network(load_checkpoint(path), BODY).state_dict()
    assert torch.equal(again.pyramid.state_dict()["deconv.0.weight"], trained[WIDE])
    before, after = load_checkpoint(start).tensors, load_checkpoint(path).tensors
    assert not any(key.startswith(blazepose.TRUNK) for key in after)
    assert load_network(load_checkpoint(path), BODY).architecture.encoder == blazepose.NAME
    for key in ("pyramid.deconv.1.weight", "regressor.0.fc1.weight", "sampler.2.layer.0.weight"):
        assert not torch.equal(before[key].half(), after[key].half())
    wide = after["pyramid.deconv.0.weight"]
    assert wide[yolo.CHANNELS :].abs().max() > 0
    for key, tensor in before.items():
        if key.startswith("encoder."):
            kept = after[key.replace("encoder.", "encoder.yolo.", 1)]
            assert torch.allclose(kept, tensor, atol=1e-3, rtol=1e-3)
    other = replace(options, architecture="mps-net-hafi", plan=replace(PLAN, stage2_steps=2))
    task = stages._frozen_task(other, BODY, lambda line: None)  # Table 5, on the same stored maps
    assert isinstance(task.network, HMR)
    assert all(torch.isfinite(term) for term in task.losses(0).values())
    assert [part for _, part in task.groups] == [1.0]  # the head; the encoder has no group


def test_stage_2_works_with_the_stored_maps_and_features_of_stage_1(options, path):
    lines: list[str] = []
    full = replace(options, architecture="full", plan=replace(PLAN, stage2_steps=2))
    after = stages.run_stages(full, BODY, lines.append)
    assert after is not None
    kept = [folder for folder in options.folder.glob("encoded-*") if folder.is_dir()]
    assert len(kept) == 1  # no crop was encoded by another key
    assert sum(line.startswith("step 2/2") for line in lines) == 1  # stage 1 was not run again
    one, two = load_checkpoint(path).tensors, load_checkpoint(after).tensors
    for key, tensor in one.items():
        same = torch.equal(tensor, two[key])
        assert same != key.startswith("regressor.") or key.endswith("num_batches_tracked"), key
    assert two["tcfm.mask.weight"].abs().max() > 0
    assert two["safm.attend.4.weight"].abs().max() > 0
