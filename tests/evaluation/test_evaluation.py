"""Evaluation with stub networks whose errors are known, and the command from end to end."""

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.checkpoints import registry
from staf_cli.checkpoints.format import Checkpoint
from staf_cli.core import progress
from staf_cli.core.crop import square_box
from staf_cli.core.errors import BodyError, UsageError
from staf_cli.core.geometry import axis_angle_to_matrix, image_translation_to_crop
from staf_cli.core.records import Detections
from staf_cli.evaluation import evaluation
from staf_cli.evaluation.evaluation import Contender, evaluate
from staf_cli.evaluation.options import EvaluationOptions
from staf_cli.evaluation.table import save
from staf_cli.evaluation.truth import Pose, open_dataset
from staf_cli.model.staf import STAF, Architecture
from staf_cli.pipeline import loading
from staf_cli.recovery import engine, recover
from staf_cli.recovery.placement import Estimate
from tests.support.made_datasets import walk_truth, write_clip, write_photos
from tests.support.made_people import open_body
from tests.support.walking_person import FOCAL, SIZE

FRAMES = 16
BODY = open_body()
NETWORK = ("network",)


@pytest.fixture(scope="module")
def truth():
    return walk_truth(BODY, FRAMES)


@pytest.fixture(scope="module")
def small():
    """A network that is never asked but for its mean parameters."""
    network = STAF(Architecture("resnet18"), BODY.sample_points()).eval()
    rotvecs = torch.zeros(24, 3)
    rotvecs[0, 0] = torch.pi
    network.mean.pose.copy_(axis_angle_to_matrix(rotvecs)[..., :2].flatten())
    return Contender("small", "small 0123", network, BODY, 1.1)


@pytest.fixture
def dataset(tmp_path, truth):
    write_clip(tmp_path, truth)
    return tmp_path


@pytest.fixture
def answer(monkeypatch):
    """Let the network answer these poses of the walk instead of looking at the crops."""

    def put(*poses):
        def infer(frames, tracks, network, crop_scale, settings, cadence):
            assert len(list(frames)) == FRAMES
            (track,) = tracks
            pose = remaining.pop(0) if remaining else poses[-1]
            yield 0, slice(FRAMES), estimate(pose, track, crop_scale)

        remaining = list(poses)
        monkeypatch.setattr(engine, "infer_tracks", infer)

    def estimate(pose, track, crop_scale):
        squares = square_box(track.box, crop_scale)
        cameras = image_translation_to_crop(
            torch.from_numpy(pose.trans), torch.from_numpy(squares), SIZE, FOCAL
        )
        rotmats = axis_angle_to_matrix(torch.from_numpy(pose.poses).reshape(-1, 24, 3))
        return Estimate(
            rotmats.numpy().astype(np.float32),
            pose.betas.astype(np.float32),
            cameras.numpy().astype(np.float32),
            squares,
        )

    return put


def measured(folder, one, *methods):
    return evaluate(
        open_dataset(folder), [one], EvaluationOptions(methods, "cpu"), None, progress.silent
    )


def turned(pose: Pose, rows, degrees=8.0):
    """The pose with the whole person turned about the line of sight in some frames."""
    poses = pose.poses.copy()
    turn = Rotation.from_euler("z", degrees, degrees=True)
    poses[rows, :3] = (turn * Rotation.from_rotvec(poses[rows, :3])).as_rotvec()
    return replace(pose, poses=poses)


def first(truth, frames):
    """The truth of the first frames alone."""
    parts = {name: getattr(truth, name)[:frames] for name in ("frame", "box", "kp2d", "detected")}
    of_pose = {name: getattr(truth.pose, name)[:frames] for name in ("poses", "betas", "trans")}
    return replace(truth, **parts, pose=replace(truth.pose, **of_pose))


def points(pose: Pose):
    """Vertices and LSP joints of a pose from the middle of the hips, m."""
    rotmats = Rotation.from_rotvec(pose.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    with torch.no_grad():
        vertices, _ = BODY(torch.from_numpy(rotmats).float(), torch.from_numpy(pose.betas).float())
    lsp = BODY.arrays.lsp14_regressor @ vertices.numpy()
    hips = (lsp[:, 2] + lsp[:, 3])[:, None] / 2
    return vertices.numpy() - hips, lsp - hips


def test_a_perfect_network_has_no_errors(dataset, truth, small, answer):
    answer(truth.pose)
    walk, overall = measured(dataset, small, "network").rows
    assert (walk.clip, overall.clip, walk.frames) == ("walk", "all", FRAMES)
    assert (walk.weights, walk.identity, walk.method) == ("small", "small 0123", "network")
    for row in (walk, overall):
        assert max(row.mpjpe, row.pa_mpjpe, row.pve, row.accel) < 0.01
        assert row.pck == 1
        assert row.error_2d < 1e-4


def test_a_person_turned_is_off_by_the_chords_of_the_turn(dataset, truth, small, answer):
    answer(turned(truth.pose, slice(None)))
    row = measured(dataset, small, "network").rows[0]
    vertices, lsp = points(truth.pose)
    chord = 2 * np.sin(np.radians(8) / 2) * 1000  # mm a metre from the axis
    for found, place in ((row.mpjpe, lsp), (row.pve, vertices)):
        assert found == pytest.approx(chord * np.hypot(place[..., 0], place[..., 1]).mean(), 1e-4)
    assert row.pa_mpjpe < 0.01


def test_a_person_elsewhere_is_off_in_2d_only(dataset, truth, small, answer):
    answer(replace(truth.pose, trans=truth.pose.trans * [1, 1, 1.001] + [0, 0.03, 0]))
    row = measured(dataset, small, "network").rows[0]
    assert max(row.mpjpe, row.pa_mpjpe, row.pve, row.accel) < 0.01
    assert row.error_2d > 0.01


def test_shaking_is_measured_in_closed_form(tmp_path, truth, small, answer):
    """A person stands still; the answer turns to and fro: |a| is twice the error of a turn."""
    still = replace(
        truth.pose,
        poses=np.tile(truth.pose.poses[:1], (FRAMES, 1)),
        trans=np.tile(truth.pose.trans[:1], (FRAMES, 1)),
    )
    write_clip(tmp_path, replace(truth, pose=still))
    answer(turned(still, slice(1, None, 2)))
    table = measured(tmp_path, small, "network")
    row = table.rows[0]
    assert row.accel == pytest.approx(2 * 2 * row.mpjpe, 1e-4)  # MPJPE counts every other frame
    (curve,) = table.curves
    np.testing.assert_allclose(curve.accel[1:-1], row.accel, rtol=1e-4)
    assert np.isnan(curve.accel[[0, -1]]).all()


def test_2d_errors_count_labelled_joints_in_boxes_and_torsos(tmp_path, truth, small, answer):
    kp2d = truth.kp2d.copy()
    kp2d[..., :2] += [3, 4]
    kp2d[: FRAMES // 2, 0, 0] += 100  # an ankle far off, and the head top unlabelled
    kp2d[:, 13] = [-1000, 0, 0]
    kp2d[:, 14:, :2] = 0  # COCO keypoints are not judged
    write_clip(tmp_path, replace(truth, kp2d=kp2d, pose=None), "photos")
    answer(truth.pose)
    row = measured(tmp_path, small, "network").rows[0]
    side = (truth.box[:, 2:] - truth.box[:, :2]).max(-1)
    pixels = np.full((FRAMES, 13), 5.0)
    pixels[: FRAMES // 2, 0] = np.hypot(103, 4)
    assert row.error_2d == pytest.approx((pixels / side[:, None]).mean(), 1e-3)
    assert row.pck == pytest.approx(1 - 0.5 / 13)
    assert row.mpjpe is row.pa_mpjpe is row.pve is row.accel is None


def test_all_clips_together_count_every_frame_alike(tmp_path, truth, small, answer):
    few = first(truth, 4)
    write_clip(tmp_path, few, "brief", frames=FRAMES)
    write_clip(tmp_path, truth)
    answer(turned(few.pose, slice(None)), truth.pose)
    brief, walk, overall = measured(tmp_path, small, "network").rows
    assert (brief.frames, walk.frames, overall.frames) == (4, FRAMES, FRAMES + 4)
    assert overall.mpjpe == pytest.approx((4 * brief.mpjpe + FRAMES * walk.mpjpe) / (FRAMES + 4))
    accelerations = 2 * brief.accel + (FRAMES - 2) * walk.accel
    assert overall.accel == pytest.approx(accelerations / FRAMES)


def test_the_mean_is_the_checkpoint_s_own(dataset, truth, small):
    row = measured(dataset, small, "mean").rows[0]
    _, lsp = points(truth.pose)
    upright = np.zeros((1, 72))
    upright[0, 0] = np.pi
    _, mean = points(Pose(upright, np.zeros((1, 10)), np.zeros((1, 3)), ""))
    assert row.mpjpe == pytest.approx(1000 * np.linalg.norm(mean - lsp, axis=-1).mean(), 1e-4)


def test_refining_brings_the_mean_closer_and_keeps_what_is_right(
    dataset, truth, small, answer, monkeypatch
):
    monkeypatch.setattr("staf_cli.fitting.refine.STEPS", 100)
    answer(truth.pose)
    table = measured(dataset, small, "mean", "refine", "network", "network+refine")
    mean, refined, network, both = (row for row in table.rows if row.clip == "all")
    assert [row.method for row in (mean, refined, network, both)] == [
        "mean", "refine", "network", "network+refine",
    ]  # fmt: skip
    assert refined.mpjpe < 0.5 * mean.mpjpe
    assert refined.error_2d < 0.2 * mean.error_2d
    assert network.mpjpe < 0.01
    assert both.mpjpe < 0.5 * refined.mpjpe


def test_keypoints_are_those_of_the_person_in_the_box(tmp_path, truth, monkeypatch, small):
    """Where the truth has none, of all who are detected the one whose box fits best is taken."""
    write_clip(tmp_path, replace(truth, detected=None))
    refined = []

    def find_people(frames, detector, conf):
        for frame in frames:
            own, empty = truth.box[frame.index], frame.index == 5
            box = own + np.array([[300, 0, 300, 0], [3, 3, 3, 3], [9, 0, 60, 0]])
            kp2d = np.full((3, 17, 3), 0.5) + np.arange(3.0)[:, None, None]
            n = 1 if empty else 3
            none = np.zeros(n, np.int64)
            yield frame, Detections(frame.index, 0.0, box[:n], np.ones(n), none, kp2d[:n])

    def refine_stretches(stretches, track, landmarks, body):
        refined.append(track)
        return stretches

    monkeypatch.setattr(evaluation, "load_detector", lambda *_: None)
    monkeypatch.setattr(evaluation, "find_people", find_people)
    monkeypatch.setattr(recover, "refine_stretches", refine_stretches)
    options = EvaluationOptions(("refine",), "cpu")
    evaluate(open_dataset(tmp_path), [small], options, tmp_path / "some.pt", progress.silent)
    (track,) = refined
    expected = np.full((FRAMES, 17, 3), 1.5)
    expected[5] = 0
    np.testing.assert_array_equal(track.kp2d, expected)
    np.testing.assert_array_equal(track.box, truth.box.astype(np.float32))
    with pytest.raises(UsageError, match="needs a detector"):
        measured(tmp_path, small, "refine")


def test_photos_have_2d_errors_alone(tmp_path, small):
    write_photos(tmp_path, photos=3)
    table = measured(tmp_path, small, "mean")
    photos, _ = table.rows
    assert (photos.clip, photos.frames) == ("photos", 3)
    assert photos.error_2d > 0
    assert photos.mpjpe is None
    assert not table.curves
    assert {path.name for path in save(table, tmp_path / "out")} == {
        "metrics.csv", "metrics.json",
    }  # fmt: skip


def test_truth_of_another_body_is_refused(tmp_path, truth, small):
    write_clip(tmp_path, replace(truth, pose=replace(truth.pose, body="smpl-neutral 0123")))
    with pytest.raises(BodyError, match=r"walk\.mp4: its truth is of body smpl-neutral 0123"):
        measured(tmp_path, small, "network")
    bare = open_body()
    bare.arrays = replace(bare.arrays, lsp14_regressor=None)
    with pytest.raises(BodyError, match="lsp14_regressor"):
        measured(tmp_path, replace(small, body=bare), "network")


def checkpoint(small, name, **architecture):
    """The small network, or what a lesser architecture has of it, as a checkpoint."""
    described: dict[str, Any] = {"encoder": "resnet18", "apm": True, "tcfm": 1, "safm": 2}
    described |= architecture
    left_out = tuple(part for part in ("tcfm", "safm") if described[part] is None)
    tensors = {
        key: tensor
        for key, tensor in small.network.state_dict().items()
        if not key.startswith(("samples", *left_out))
    }
    tensors["samples.index"] = torch.from_numpy(BODY.arrays.sample_index)
    tensors["samples.weight"] = torch.from_numpy(BODY.arrays.sample_weight)
    return Checkpoint(tensors, name, described, BODY.identity, 1.1, "none", 64 * name[0])


def test_several_checkpoints_share_one_table(staf, dataset, truth, small, answer, monkeypatch):
    base = checkpoint(small, "base", apm=False, tcfm=None, safm=None)
    known = {"full": checkpoint(small, "full"), "base": base}
    locate = registry.locate
    monkeypatch.setattr(registry, "locate", lambda name: name if name in known else locate(name))
    monkeypatch.setattr("staf_cli.checkpoints.format.load_checkpoint", known.get)
    answer(turned(truth.pose, slice(None), 20), truth.pose)
    output = dataset / "out"
    chosen = ("--weights", "base", "--weights", "full", "--method", "mean,network")
    code, out, err = staf("eval", dataset, *chosen, "-o", output, "--device", "cpu")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    rows = [line for line in lines if line[0] in known]
    assert [line[:3] for line in rows] == [
        [name, method, str(FRAMES)] for name in ("base", "full") for method in ("mean", "network")
    ]
    with (output / "metrics.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 8  # a clip's and all clips', of two methods of two networks
    assert {row["identity"] for row in table} == {"base " + 16 * "b", "full " + 16 * "f"}
    by_json = json.loads((output / "metrics.json").read_text())["rows"]
    assert [str(row["mpjpe"]) for row in by_json] == [row["mpjpe"] for row in table]
    assert float(table[2]["mpjpe"]) > 10 > float(table[-1]["mpjpe"])
    assert rows[1][3] == f"{float(table[2]['mpjpe']):.1f}"
    assert (output / "accel.png").read_bytes().startswith(b"\x89PNG")
    code, again, err = staf("eval", dataset, *chosen, "-o", output, "--device", "cpu")
    assert code == 0, err
    assert "4 of the results" in again
    lines = [line.split() for line in again.splitlines()]
    assert [line for line in lines if line[0] in known] == rows


def test_without_weights_the_network_is_the_mean(staf, tmp_path, truth, monkeypatch):
    """Through the real engine: the untrained network answers what it started with."""
    monkeypatch.setattr(loading, "default_weights", lambda body: None)
    write_clip(tmp_path, first(truth, 9))
    code, out, err = staf("eval", tmp_path, "--batch", 4, "--device", "cpu")
    assert code == 0, err
    assert "no trained weights" in out
    network, mean = (line.split() for line in out.splitlines() if line.startswith("untrained"))
    assert network[1:2] + mean[1:2] == ["network", "mean"]
    assert network[2:] == mean[2:]


def test_an_evaluation_goes_on_where_it_ended(dataset, truth, small, answer, monkeypatch):
    write_photos(dataset, photos=3)
    answer(turned(truth.pose, slice(None), 20), truth.pose)
    kept, recovered = dataset / "out" / "measured", []
    detector = dataset / "detector.pt"
    detector.touch()
    monkeypatch.setattr(evaluation, "_detected", lambda footage, tracks, *rest: tracks)
    real = evaluation._recovered

    def counting(footage, tracks, one, methods, setup):
        recovered.append((footage.name, one.name, tuple(methods)))
        if footage.name == stop_at:
            raise KeyboardInterrupt
        return real(footage, tracks, one, methods, setup)

    def table(*methods, one=small, regressor=None):
        recovered.clear()
        options = EvaluationOptions(methods, "cpu")
        opened = open_dataset(dataset)
        return evaluate(opened, [one], options, detector, progress.silent, regressor, kept)

    monkeypatch.setattr(evaluation, "_recovered", counting)
    stop_at = "photos"
    with pytest.raises(KeyboardInterrupt):
        table("mean")
    stop_at = ""
    went_on = table("mean")
    assert recovered == [("photos", "small", ("mean",))]
    assert went_on.kept == 1
    both = table("mean", "refine")
    assert recovered == [(name, "small", ("refine",)) for name in ("walk", "photos")]
    again = table("mean", "refine")
    assert (recovered, again.kept) == ([], 4)
    assert again.rows == both.rows
    assert again.rows[:3] == went_on.rows
    for mine, theirs in zip(again.curves, both.curves, strict=True):
        np.testing.assert_array_equal(mine.accel, theirs.accel)

    table("mean", one=replace(small, identity="small 4567"))
    assert len(recovered) == 2
    table("mean", regressor=np.ones((17, 24 + len(BODY.arrays.v_template)), np.float32))
    assert len(recovered) == 2
    write_clip(dataset, replace(truth, box=truth.box + 1))
    table("mean")
    assert [name for name, _, _ in recovered] == ["walk"]
    np.save(dataset / "images.npy", np.zeros((3, 1, 96, 96, 3), np.uint8))
    table("mean")
    assert [name for name, _, _ in recovered] == ["photos"]
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert table("mean").kept == 0


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--method", "network,guess"], 2, "unknown method 'guess'"),
        (["--method", ""], 2, "no method given"),
        (["--batch", "0"], 2, "batch"),
        (["--device", "toaster"], 1, "--device auto"),
        (["--weights", "nothing"], 1, "nothing"),
        (["--body", "smpl-neutral"], 1, "staf body import"),
        (["-o", "/proc/nowhere"], 1, "cannot write"),
    ],
)
def test_impossible_options_are_one_line(staf, dataset, arguments, code, complaint):
    got, out, err = staf("eval", dataset, "-q", *arguments)
    assert got == code
    assert complaint in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_dataset_that_cannot_be_used_is_one_line(staf, dataset, truth, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = staf("eval", tmp_path / "empty")
    assert (code, err.count("\n")) == (1, 1)
    assert "nothing to evaluate" in err
    (dataset / "walk.npz").write_bytes(b"PK not a zip")
    code, _, err = staf("eval", dataset)
    assert (code, err.count("\n")) == (1, 1)
    assert "walk.npz: is damaged" in err
    write_clip(dataset, replace(truth, pose=replace(truth.pose, body="other 0")))
    code, _, err = staf("eval", dataset)
    assert (code, err.count("\n")) == (1, 1)
    assert "truth is of body other 0" in err
