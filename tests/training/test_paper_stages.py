"""The plan `paper` on miniature copies of its datasets, with a network as small as it can be."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from staf_cli.body.format import load_body
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.core.crop import crop_image
from staf_cli.core.errors import DatasetError, UsageError, WeightsError
from staf_cli.evaluation.datasets.people import People, make_people
from staf_cli.model import hmr, pyramid, staf
from staf_cli.model.regressor import POSE, MeanParameters, Regressor
from staf_cli.model.staf import load_network
from staf_cli.training import loop, mix
from staf_cli.training.losses import labelled_points, theta_loss
from staf_cli.training.mix import Mix, make_group, read_crop, truth_of
from staf_cli.training.paper_plan import PAPER, PaperPlan
from staf_cli.training.paper_stages import PaperOptions, run_paper, spread_vertices
from staf_cli.training.published_sets import choose_sets, open_set, split_held_out
from staf_cli.training.stages import ARCHITECTURES
from tests.support import made_training_sets as made
from tests.support.made_3dpw import make_bodies

CPU = torch.device("cpu")
FOREVER = 1e9
ENCODER = "resnet18"
CROP = 32  # px
SETS = ("lsp", "h36m", "3dhp", "3dpw", "insta")


class SmallRegressor(Regressor):
    """Its hidden layers have 16 numbers."""

    def __init__(self, features: int) -> None:
        super().__init__(8)
        self.fc1 = nn.Linear(features + POSE + 13, 16)
        self.fc2 = nn.Linear(16, 16)
        self.decpose, self.decshape, self.deccam = (nn.Linear(16, n) for n in (POSE, 10, 3))


def small_encoder(_: str) -> nn.Module:
    """The whole crop becomes one pixel of 512 channels, behind a BatchNorm."""
    return nn.Sequential(nn.AvgPool2d(CROP), nn.Conv2d(3, 512, 1), nn.BatchNorm2d(512), nn.ReLU())


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(pyramid, "WIDTH", 8)
    for module in (staf, hmr):
        monkeypatch.setattr(module, "Regressor", SmallRegressor)
        monkeypatch.setattr(module, "build_encoder", small_encoder)
    monkeypatch.setattr(mix, "crop_image", partial(crop_image, size=CROP))
    monkeypatch.setattr(loop, "plot_curves", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: sets under their names, and an encoder."""
    folder = tmp_path_factory.mktemp("sets")
    made.write_photos(folder / "lsp", "lsp_dataset_original_train.npz")
    made.write_h36m(folder / "h36m")
    made.write_3dhp(folder / "3dhp")
    made.write_3dpw(folder / "3dpw")
    made.write_insta(folder / "insta")
    torch.manual_seed(0)
    save_file(small_encoder(ENCODER).state_dict(), folder / f"{ENCODER}.safetensors")
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Body:
    """SMPL's neutral body as an import leaves it: it has keypoints, but no sampled vertices."""
    folder = tmp_path_factory.mktemp("bodies")
    make_bodies(folder)
    arrays = load_body(folder / "bodies" / "smpl-neutral.npz")
    coco17 = np.eye(17, len(arrays.v_template), dtype=np.float32)
    arrays = replace(arrays, coco17_regressor=coco17, sample_index=None, sample_weight=None)
    return Body("smpl-neutral", arrays)


def plan(epochs: int = 5) -> PaperPlan:
    """20 steps: five epochs of 2 steps in each stage unless it is told otherwise."""
    single = [replace(stage, batch=10, epochs=epochs, epoch=2) for stage in PAPER.single]
    temporal = replace(PAPER.temporal, batch=3, epochs=epochs, epoch=2)
    return replace(PAPER, single=tuple(single), temporal=temporal, held_out=3)


def options(data: Path, runs: Path, **changed) -> PaperOptions:
    default = PaperOptions(data, runs, SETS, "apm", 0, FOREVER, CPU, None, "paper", ENCODER, plan())
    return replace(default, **changed)


def state_of(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "state.pt", weights_only=True)
    return state


def test_a_dry_run_learns_resumes_and_leaves_a_checkpoint(data, body, tmp_path):
    lines: list[str] = []
    output = run_paper(options(data, tmp_path / "whole"), body, lines.append)
    assert lines[0] == (
        "base: h36m 50 %, 3dhp 20 %, lsp 30 %; temporal: insta 60 %, h36m+3dhp+3dpw 40 %"
    )
    assert output is not None and lines[-1] == f"written: {output}"
    for run in ("base", "temporal-apm"):
        progress = json.loads(state_of(tmp_path / "whole" / run)["progress"])
        assert progress["step"] == 10
        losses = [[v for k, v in one.items() if k != "step"] for one in progress["losses"]]
        assert np.isfinite(losses).all() and (np.max(losses, 0) > 0).all()
        assert all(np.isfinite(one["PA-MPJPE"]) for one in progress["errors"])
    checkpoint = load_checkpoint(output)
    assert checkpoint.body == body.identity and "lsp, h36m, 3dhp, 3dpw, insta" in checkpoint.licence
    assert load_network(checkpoint, body).architecture == replace(
        ARCHITECTURES["apm"], encoder=ENCODER
    )

    parts = options(data, tmp_path / "parts", time_limit=0)
    for _ in range(3):  # a step each
        assert run_paper(parts, body, lines.append) is None
    assert lines[-1] == "stopped at step 3 of 10; the same command goes on"
    run_paper(replace(parts, time_limit=FOREVER), body, lines.append)
    for run in ("base", "temporal-apm"):
        one, other = (state_of(tmp_path / name / run)["modules"] for name in ("whole", "parts"))
        assert all(torch.equal(one[key], other[key]) for key in one)

    with pytest.raises(WeightsError, match="another run"):
        run_paper(options(data, tmp_path / "whole", sets=("h36m", "lsp")), body, lines.append)


def test_the_encoder_learns_in_stage_1_alone(data, body, tmp_path):
    output = run_paper(options(data, tmp_path, plan=plan(1)), body, lambda _: None)
    assert output is not None
    name = "1.weight"
    torch.manual_seed(0)
    first = small_encoder("").state_dict()[name]
    base = state_of(tmp_path / "base")["modules"][f"network.encoder.{name}"]
    assert not torch.equal(first, base)
    assert torch.equal(base, load_checkpoint(output).tensors[f"encoder.{name}"])
    assert not any("encoder" in key for key in state_of(tmp_path / "temporal-apm")["modules"])


@pytest.mark.parametrize("architecture", ["hmr-hafi", "mps-net-apm"])
def test_rows_of_table_5_are_trained_as_the_others(data, body, tmp_path, architecture):
    lines: list[str] = []
    longer = plan(1)
    temporal = replace(longer.temporal, epochs=2, epoch=12)
    single = tuple(replace(stage, epoch=12) for stage in longer.single)
    longer = replace(longer, single=single, temporal=temporal, rate=1e-3)
    chosen = options(data, tmp_path, architecture=architecture, plan=longer, loss="soft")
    output = run_paper(chosen, body, lines.append)
    assert output is not None and output.name == f"staf-paper-{architecture}.safetensors"
    network = load_network(load_checkpoint(output), body)
    assert network.architecture == replace(ARCHITECTURES[architecture], encoder=ENCODER)
    first, last = json.loads(state_of(tmp_path / f"temporal-{architecture}")["progress"])["losses"]
    assert sum(last.values()) - last["step"] < sum(first.values()) - first["step"]
    assert (tmp_path / "hmr-base" / "state.pt").exists()


@pytest.fixture(scope="module")
def sets(data) -> dict[str, People]:
    return {name: open_set(name, place) for name, place in choose_sets(data, SETS).items()}


def test_every_batch_has_the_ratios_of_the_paper(body, sets):
    points = labelled_points(body)
    stage = PAPER.single[1]
    groups = [
        make_group(share, {name: sets[name] for name in names if name in sets}, 1)
        for share, names in stage.groups
    ]
    batches = Mix(groups, points, stage.batch, 1, 0)
    owner = {id(people): name for name, people in sets.items()}
    counts: dict[str, list[int]] = {name: [] for name in ("h36m", "3dhp", "lsp")}
    for step in range(50):
        names = [owner[id(people)] for people, _ in batches.rows(step)]
        for name, found in counts.items():
            found.append(names.count(name))
    for name, share in (("h36m", 0.5), ("3dhp", 0.2), ("lsp", 0.3)):
        assert set(counts[name]) <= {int(64 * share), int(np.ceil(64 * share))}
        assert np.mean(counts[name]) == pytest.approx(64 * share, abs=0.25)
    assert [(p.root, r.tolist()) for p, r in batches.rows(7)] == [
        (p.root, r.tolist()) for p, r in Mix(groups, points, 64, 1, 0).rows(7)
    ]


def test_a_group_draws_from_its_sets_by_their_sizes(body, sets):
    group = make_group(1.0, {name: sets[name] for name in ("h36m", "3dpw")}, 9)
    drawn = Mix([group], labelled_points(body), 400, 9, 1).rows(0)
    share = np.mean([people is sets["h36m"] for people, _ in drawn])
    windows = len(sets["h36m"].windows(9)), len(sets["3dpw"].windows(9))
    assert share == pytest.approx(windows[0] / sum(windows), abs=0.08)
    for people, rows in drawn:
        assert np.ptp(people.track[rows]) == 0 and np.diff(people.frame[rows]).tolist() == [1] * 8


def test_sets_with_2d_labels_alone_have_no_3d_terms(body, sets):
    points = labelled_points(body)
    theta = MeanParameters()(4)
    for name, known in (("lsp", 0), ("insta", 0), ("3dhp", 1), ("3dpw", 1), ("h36m", 1)):
        truth = truth_of([(sets[name], np.arange(4))], points)
        terms = {key: float(term) for key, term in theta_loss(theta, truth, points).items()}
        assert terms["kp2d"] > 0
        assert (terms["kp3d"] > 0) == bool(known), name
        assert (terms["pose"] > 0) == (name in ("3dpw", "h36m")), name


def test_3d_joints_are_the_labelled_ones_before_those_of_the_fit(body, sets):
    points = labelled_points(body)
    people = sets["h36m"]
    truth = truth_of([(people, np.arange(3))], points)
    hips = people.kp3d[:3, 2:4, :3].mean(1, keepdims=True)
    np.testing.assert_allclose(truth.kp3d[:, :14], people.kp3d[:3, :14, :3] - hips, atol=1e-6)
    assert truth.kp3d_weight[:, :19].all() and not truth.kp3d_weight[:, 19:].any()
    without = people.kp3d.copy()
    without[:, 2, 3] = 0  # a hip is not labelled
    fitted = truth_of([(replace(people, kp3d=without), np.arange(3))], points)
    assert fitted.kp3d_weight.all()
    posed, _ = points(fitted.rotmats, fitted.betas)
    assert torch.allclose(fitted.kp3d, posed - posed[:, 2:4].mean(1, keepdim=True), atol=1e-6)


def test_labels_are_where_the_crop_shows_them(body, tmp_path):
    picture = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(picture, (249, 119), 3, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    kp2d = np.tile([249.5, 119.5, 1.0], (1, 31, 1))
    people = make_people(tmp_path, ["a.png"], np.array([[210.0, 140, 160]]), kp2d)
    crop = read_crop(people, 0)[..., 0].astype(float)
    y, x = np.indices(crop.shape) + 0.5
    seen = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    truth = truth_of([(people, np.array([0]))], labelled_points(body))
    np.testing.assert_allclose((truth.kp2d[0, 0, :2].numpy() + 1) * CROP / 2, seen, atol=0.05)


def test_without_3dpw_people_are_held_out_of_the_sets_with_3d_labels(sets):
    named = {name: sets[name] for name in ("lsp", "h36m", "3dhp")}
    training, held_out = split_held_out(named, {})
    assert training["lsp"] is named["lsp"]
    assert [len(people) for people in held_out] == [12, 11]  # of two and of eight tracks the last
    assert len(training["h36m"]) == 12 and len(training["3dhp"]) == 77
    with pytest.raises(DatasetError, match="no set has 3D labels"):
        split_held_out({"lsp": sets["lsp"]}, {})


@pytest.mark.parametrize(
    ("named", "error", "complaint"),
    [
        ((), DatasetError, r"missing: coco \(.*\), lspet \(.*\), mpii \(.*\), posetrack \(.*\);"),
        (("h36m=/nowhere", "lsp"), DatasetError, r"missing: h36m \(/nowhere\); bring them"),
        (("h3.6m",), UsageError, "--set h3.6m: unknown set; sets are coco, lsp"),
        (("h36m", "h36m=x"), UsageError, "--set h36m is there twice"),
        (("lsp", "h36m=x"), DatasetError, "missing: h36m"),
        (("3dpw",), DatasetError, "no set for stage 1, single frames, is named.*coco, h36m"),
        (("lsp",), DatasetError, "no set for stage 2, windows of nine frames, is named.*insta"),
    ],
)
def test_sets_that_are_missing_are_one_line(data, body, tmp_path, named, error, complaint):
    with pytest.raises(error, match=complaint):
        run_paper(options(data, tmp_path, sets=named), body, lambda _: None)
    assert not list(tmp_path.iterdir())


def test_labels_of_a_folder_must_be_one_file_for_training(data, tmp_path):
    folder = tmp_path / "lspet"
    made.write_photos(folder, "hr-lspet_train.npz")
    np.savez(folder / "lsp_dataset_test.npz", **np.load(folder / "hr-lspet_train.npz"))
    assert len(open_set("lspet", folder)) == 6
    made.write_photos(folder, "other_train.npz")
    with pytest.raises(
        DatasetError, match=r"has 2 files of labels.*name one of them: --set lspet="
    ):
        open_set("lspet", folder)
    assert len(open_set("lspet", folder / "other_train.npz")) == 6
    assert len(open_set("coco", made.write_eft(tmp_path / "coco"))) == 5
    with pytest.raises(DatasetError, match="has no labels for training"):
        open_set("mpii", data / "3dpw")


def test_the_plan_is_the_paper_s():
    coco, base = PAPER.single
    assert (coco.batch, coco.epochs, base.batch, base.epochs) == (64, 175, 64, 60)
    assert [share for share, _ in base.groups] == [0.5, 0.2, 0.3]
    temporal = PAPER.temporal
    assert (temporal.batch, temporal.epochs, temporal.length) == (32, 45, 9)
    assert (PAPER.rate, PAPER.patience, PAPER.factor) == (5e-5, 5, 0.1)


def test_sets_are_of_the_plan_paper_alone_and_it_needs_smpl(staf, data, tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path))
    code, _, err = staf("train", "run", data, tmp_path / "runs", "--set", "lsp")
    assert (code, err.count("\n")) == (2, 1) and "--set is of the plan paper" in err
    code, _, err = staf("train", "run", data, tmp_path / "runs", "--plan", "paper")
    assert (code, err.count("\n")) == (1, 1) and "staf body import" in err


def test_spread_vertices_are_far_from_each_other():
    line = np.linspace(0, 1, 101, dtype=np.float32)[:, None] * np.eye(1, 3, dtype=np.float32)
    assert sorted(spread_vertices(line, 5)) == [0, 25, 50, 75, 100]
