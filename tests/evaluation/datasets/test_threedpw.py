"""3DPW from its authors' layout: predictors whose errors are known, and the protocol done plainly.

The plain protocol is written here a second time, frame by frame, from the field's definition; it
shares nothing with the package but the format of a body's npz.
"""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from staf_cli.core import progress
from staf_cli.core.crop import square_box
from staf_cli.core.errors import DatasetError
from staf_cli.core.geometry import image_translation_to_crop
from staf_cli.evaluation import evaluation
from staf_cli.evaluation.datasets.layouts import find_benchmark, open_dataset
from staf_cli.evaluation.datasets.threedpw import read_sequence
from staf_cli.evaluation.evaluation import evaluate
from staf_cli.evaluation.joints import read_regressor
from staf_cli.evaluation.options import EvaluationOptions
from staf_cli.pipeline.loading import open_body
from staf_cli.recovery import engine
from staf_cli.recovery.placement import Estimate
from tests.support.made_3dpw import (
    FRAMES,
    SIZE,
    make_3dpw,
    make_bodies,
    make_entries,
    make_regressor,
    python2_pickle,
    write_sequence,
)
from tests.support.plain_smpl import plain_mesh
from tests.support.untrusted.attacks import Canary

JUDGED = [n for n in range(FRAMES) if n not in (4, 8)]  # of the first person of a sequence
GENDERS = {"m": "male", "f": "female"}
H36M_OF_LSP = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]


@pytest.fixture(autouse=True)
def bodies(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    make_bodies(tmp_path / "data")
    return tmp_path / "data" / "bodies"


@pytest.fixture
def regressor(tmp_path):
    return make_regressor(tmp_path / "J_regressor_h36m.npy")


@pytest.fixture
def male(tmp_path):
    """One sequence of one man."""
    write_sequence(tmp_path / "3DPW", "test", make_entries("office_call_00", "m", 5))
    return tmp_path / "3DPW"


@pytest.fixture(scope="module")
def network():
    """Is never asked."""
    return torch.nn.Linear(1, 1)


@pytest.fixture
def answer(monkeypatch):
    """Let the network answer the truth, changed by a function of (poses (F, 72), betas)."""

    def put(dataset, change):
        poses = {truth.box.tobytes(): truth.pose for footage in dataset for truth in footage.people}

        def infer(frames, tracks, network, crop_scale, settings, cadence):
            list(frames)
            for number, track in enumerate(tracks):
                pose = poses[track.box.tobytes()]
                theta, betas = change(pose.poses.copy(), pose.betas.copy())
                squares = square_box(track.box, crop_scale)
                cameras = image_translation_to_crop(
                    torch.from_numpy(pose.trans), torch.from_numpy(squares), SIZE, 197.0
                )
                turns = Rotation.from_rotvec(theta.reshape(-1, 3)).as_matrix()
                rows = len(theta)
                yield (
                    number,
                    slice(rows),
                    Estimate(turns.reshape(rows, 24, 3, 3), betas, cameras.numpy(), squares),
                )

        monkeypatch.setattr(engine, "infer_tracks", infer)
        monkeypatch.setattr(engine, "prepare", lambda network, settings: network)

    return put


def opened(folder, body_of):
    return open_dataset(folder, find_benchmark(folder, None), body_of)


def measure(folder, answer, network, change, regressor=None):
    """The table of a network that changes the truth."""
    dataset = opened(folder, open_body)
    answer(dataset, change)
    one = evaluation.Contender("known", "known 0", network, open_body("smpl-neutral"), 1.1)
    options = EvaluationOptions(("network",), "cpu")
    joints = None if regressor is None else read_regressor(regressor)
    return evaluate(dataset, [one], options, None, progress.silent, joints)


# --- the protocol, plainly ---------------------------------------------------------------------


def plain_people(folder, bodies):
    """Judged frames and parameters in the camera of all people, in the order of the dataset."""
    for path in sorted((folder / "sequenceFiles" / "test").glob("*.pkl")):
        content = pickle.loads(path.read_bytes(), encoding="latin1")
        for person, gender in enumerate(content["genders"]):
            arrays = dict(np.load(bodies / f"smpl-{GENDERS[gender]}.npz"))
            rows = []
            for frame in range(len(content["cam_poses"])):
                visible = (content["poses2d"][person][frame][2] > 0.3).sum()
                if not content["campose_valid"][person][frame] or visible < 6:
                    continue
                pose = content["poses"][person][frame].copy()
                world = Rotation.from_rotvec(pose[:3]).as_matrix()
                camera = content["cam_poses"][frame][:3, :3]
                pose[:3] = Rotation.from_matrix(camera @ world).as_rotvec()
                rows.append((frame, pose, content["betas"][person]))
            yield content, person, arrays, rows


def plain_figures(folder, bodies, change, regressor):
    """Mean MPJPE, PA-MPJPE, PVE and Accel over the test split, in mm."""
    mix = np.load(regressor).astype(np.float32).astype(float)[H36M_OF_LSP]
    neutral = dict(np.load(bodies / "smpl-neutral.npz"))
    errors: dict[str, list[float]] = {"mpjpe": [], "pa_mpjpe": [], "pve": [], "accel": []}
    for _, _, arrays, rows in plain_people(folder, bodies):
        poses = np.array([pose for _, pose, _ in rows])
        theta, own = change(poses.copy(), np.array([betas for _, _, betas in rows]))
        offsets = {}
        for (frame, pose, betas), pose_own, betas_own in zip(rows, theta, own, strict=True):
            true, mesh = plain_mesh(arrays, pose, betas), plain_mesh(neutral, pose_own, betas_own)
            true_joints, joints = mix @ true, mix @ mesh
            true_pelvis, pelvis = true_joints[2:4].mean(0), joints[2:4].mean(0)
            offsets[frame] = (joints - pelvis) - (true_joints - true_pelvis)
            errors["mpjpe"].append(np.linalg.norm(offsets[frame], axis=1).mean())
            errors["pve"].append(np.linalg.norm(mesh - pelvis - true + true_pelvis, axis=1).mean())
            a, b = joints - joints.mean(0), true_joints - true_joints.mean(0)
            turn, scale = orthogonal_procrustes(a, b)
            if np.linalg.det(turn) < 0:
                u, s, vt = np.linalg.svd(a.T @ b)
                turn, scale = u @ np.diag([1, 1, -1]) @ vt, s[0] + s[1] - s[2]
            aligned = scale / (a**2).sum() * a @ turn
            errors["pa_mpjpe"].append(np.linalg.norm(aligned - b, axis=1).mean())
        for frame in offsets:
            if {frame - 1, frame + 1} <= offsets.keys():
                bend = offsets[frame + 1] - 2 * offsets[frame] + offsets[frame - 1]
                errors["accel"].append(np.linalg.norm(bend, axis=1).mean())
    return {name: 1000 * np.mean(values) for name, values in errors.items()}


def disturbed(poses, betas):
    """The same disturbance of the same person each time."""
    rng = np.random.default_rng(len(poses))
    return poses + rng.normal(0, 0.1, poses.shape), betas + rng.normal(0, 0.1, betas.shape)


def unchanged(poses, betas):
    return poses, betas


def test_figures_agree_with_the_protocol_done_plainly(tmp_path, bodies, answer, network, regressor):
    folder = make_3dpw(tmp_path / "3DPW")
    overall = measure(folder, answer, network, disturbed, regressor).rows[-1]
    plain = plain_figures(folder, bodies, disturbed, regressor)
    assert plain["mpjpe"] > plain["pa_mpjpe"] > 10
    for name, value in plain.items():
        assert getattr(overall, name) == pytest.approx(value, rel=1e-6), name
    assert overall.frames == (FRAMES - 2) + (FRAMES - 1) + (FRAMES - 2)
    assert overall.pck is overall.error_2d is None


def test_people_are_where_the_cameras_saw_them(tmp_path, bodies):
    """Vertices in the camera frame are those of the world, moved by the camera."""
    folder = make_3dpw(tmp_path / "3DPW")
    dataset = opened(folder, open_body)
    truths = [truth for footage in dataset for truth in footage.people]
    people = list(plain_people(folder, bodies))
    for (content, person, arrays, rows), truth in zip(people, truths, strict=True):
        assert truth.frame.tolist() == [frame for frame, _, _ in rows]
        assert truth.pose is not None
        for row in (0, -1):
            frame, _, betas = rows[row]
            camera = content["cam_poses"][frame]
            world = plain_mesh(arrays, content["poses"][person][frame], betas)
            world += content["trans"][person][frame]
            seen = world @ camera[:3, :3].T + camera[:3, 3]
            own = plain_mesh(arrays, truth.pose.poses[row], truth.pose.betas[row])
            np.testing.assert_allclose(own + truth.pose.trans[row], seen, atol=1e-6)
            points = content["poses2d"][person][frame]
            shown = points[:2, points[2] > 0.3]
            np.testing.assert_array_equal(truth.box[row], [*shown.min(1), *shown.max(1)])
    assert [footage.clip.fps for footage in dataset] == [30, 30]
    assert {footage.focal for footage in dataset} == {197.0}


def points_of_man(folder, bodies):
    """Vertices and the body's own LSP joints of the man, from the middle of the hips, m."""
    ((_, _, arrays, rows),) = plain_people(folder, bodies)
    meshes = np.array([plain_mesh(arrays, pose, betas) for _, pose, betas in rows])
    joints = arrays["lsp14_regressor"].astype(float) @ meshes
    hips = joints[:, 2:4].mean(1, keepdims=True)
    return meshes - hips, joints - hips


def test_the_truth_itself_has_no_error(male, answer, network):
    row = measure(male, answer, network, unchanged).rows[0]
    assert (row.clip, row.frames) == ("office_call_00", len(JUDGED))
    assert max(row.mpjpe, row.pa_mpjpe, row.pve, row.accel) < 1e-3


def test_a_turn_is_off_by_its_chords(male, bodies, answer, network):
    def turned(poses, betas):
        turn = Rotation.from_euler("z", 8, degrees=True)
        poses[:, :3] = (turn * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
        return poses, betas

    row = measure(male, answer, network, turned).rows[0]
    meshes, joints = points_of_man(male, bodies)
    chord = 2 * np.sin(np.radians(8) / 2) * 1000  # mm a metre from the axis
    for found, place in ((row.mpjpe, joints), (row.pve, meshes)):
        assert found == pytest.approx(chord * np.hypot(place[..., 0], place[..., 1]).mean(), 1e-5)
    assert row.pa_mpjpe < 1e-3


def test_growth_is_off_by_a_share_of_the_distances_from_the_hips(tmp_path, bodies, answer, network):
    """The mean shape made larger by a tenth: offsets and their accelerations in proportion."""
    entries = make_entries("office_call_00", "m", 5) | {"betas": [np.zeros(10)]}
    write_sequence(tmp_path / "3DPW", "test", entries)

    def grown(poses, betas):
        return poses, betas + 0.1 * np.eye(10)[0]

    table = measure(tmp_path / "3DPW", answer, network, grown)
    row = table.rows[0]
    meshes, joints = points_of_man(tmp_path / "3DPW", bodies)
    assert row.mpjpe == pytest.approx(100 * np.linalg.norm(joints, axis=-1).mean(), 1e-5)
    assert row.pve == pytest.approx(100 * np.linalg.norm(meshes, axis=-1).mean(), 1e-5)
    assert row.pa_mpjpe < 1e-3
    (curve,) = table.curves
    judged = [n for n in JUDGED if {n - 1, n + 1} <= set(JUDGED)]
    assert curve.frame[~np.isnan(curve.accel)].tolist() == judged
    bends = []
    for n in judged:
        k = JUDGED.index(n)
        bends.append(np.linalg.norm(joints[k + 1] - 2 * joints[k] + joints[k - 1], axis=-1).mean())
    assert row.accel == pytest.approx(100 * np.mean(bends), 1e-5)


def test_without_the_regressor_other_joints_are_judged(male, answer, network, regressor):
    own = measure(male, answer, network, disturbed).rows[0]
    brought = measure(male, answer, network, disturbed, regressor).rows[0]
    assert own.mpjpe != pytest.approx(brought.mpjpe, 1e-3)


def test_a_body_with_other_vertices_has_no_pve(male, answer, network):
    dataset = opened(male, open_body)
    answer(dataset, unchanged)
    one = evaluation.Contender("open", "open 0", network, open_body("open-body"), 1.1)
    options = EvaluationOptions(("network",), "cpu")
    row = evaluate(dataset, [one], options, None, progress.silent).rows[0]
    assert row.pve is None
    assert row.mpjpe


def test_a_split_is_judged_by_its_own_folder(tmp_path):
    folder = make_3dpw(tmp_path / "3DPW")
    of_root = [footage.name for footage in opened(folder, open_body)]
    assert of_root == ["downtown_walk_00", "office_call_00"]
    validation = opened(folder / "sequenceFiles" / "validation", open_body)
    assert [footage.name for footage in validation] == ["courtyard_box_00"]


def test_the_command_measures_3dpw(staf, male, answer, regressor, tmp_path):
    answer(opened(male, open_body), unchanged)
    chosen = ("--body", "smpl-neutral", "--device", "cpu", "--method", "network")
    output = tmp_path / "out"
    code, out, err = staf("eval", male, *chosen, "--regressor", regressor, "-o", output)
    assert code == 0, err
    assert "--regressor" not in out
    rows = json.loads((output / "metrics.json").read_text())["rows"]
    assert rows[0]["clip"] == "office_call_00"
    assert rows[0]["frames"] == len(JUDGED)
    assert max(rows[0]["mpjpe"], rows[0]["pve"]) < 1e-3
    code, out, err = staf("eval", male, "--body", "open-body", "--regressor", regressor)
    assert (code, err.count("\n")) == (2, 1)
    assert "--regressor mixes 90 vertices, but body open-body has" in err


# --- what is wrong with a copy -----------------------------------------------------------------


def test_a_whole_copy_is_described(staf, tmp_path):
    folder = make_3dpw(tmp_path / "3DPW")
    code, out, err = staf("data", "check", folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "layout: 3DPW, as its authors publish it",
        f"validation: 1 sequence, {FRAMES} images, 1 people, judged in 12 frames of people",
        f"test: 2 sequences, {2 * FRAMES} images, 3 people, judged in 37 frames of people",
    ]
    assert out.splitlines()[3].startswith("complete: ")


def test_what_a_copy_lacks_is_named(staf, tmp_path, bodies):
    folder = make_3dpw(tmp_path / "3DPW")
    (folder / "imageFiles/office_call_00/image_00003.jpg").unlink()
    (folder / "imageFiles/courtyard_box_00/late.jpg").write_bytes(b"")
    (folder / "sequenceFiles/test/downtown_walk_00.pkl").write_bytes(b"\x80\x02}")
    (bodies / "smpl-female.npz").unlink()
    code, out, err = staf("data", "check", folder)
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 4
    for line, text in zip(
        lines,
        (
            "late.jpg is none of the 14 images",
            "downtown_walk_00.pkl: is damaged or no 3DPW pickle",
            "1 of 14 images are missing, image_00003.jpg first",
            "body smpl-female is not on this machine",
        ),
        strict=True,
    ):
        assert text in line
    assert "test: 1 sequence," in out
    assert "complete" not in out


def test_staf_s_own_datasets_and_unknown_folders_are_told_apart(staf, tmp_path):
    code, out, err = staf("data", "check", "examples/held_out")
    assert (code, err) == (0, "")
    assert out.startswith("layout: staf's own clips and photos\n")
    (tmp_path / "empty").mkdir()
    code, out, err = staf("data", "check", tmp_path / "empty")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "3DPW" in err
    (tmp_path / "empty" / "sequenceFiles").mkdir()
    for command in (("data", "check"), ("eval",)):
        code, out, err = staf(*command, tmp_path / "empty")
        assert (code, err.count("\n")) == (1, 1)
        assert "no sequences (pkl)" in err


def test_images_of_another_size_are_refused(male):
    entries = make_entries("office_call_00", "m", 5)
    entries["cam_intrinsics"][:2] *= 2
    path = male / "sequenceFiles/test/office_call_00.pkl"
    path.write_bytes(python2_pickle(entries))
    with pytest.raises(DatasetError, match="images are 108x192 px, but the camera is of 216x384"):
        opened(male, open_body)


@pytest.mark.parametrize(
    ("entry", "value", "complaint"),
    [
        ("poses", None, "poses"),
        ("poses", [np.zeros((FRAMES - 1, 72))], r"poses has shape \(13, 72\), expected \(14, 72\)"),
        ("poses", np.zeros((FRAMES, 72)), "no list"),
        ("poses", [np.full((FRAMES, 72), np.inf)], "not finite"),
        ("trans", ["x"], "trans is no array"),
        ("trans", [[np.zeros((FRAMES, 3))]], "in place of an array"),
        ("betas", [np.zeros(9)], "betas are 9"),
        ("genders", ["x"], "neither f nor m"),
        ("genders", ["m"] * 9, "1 to 8"),
        ("cam_poses", np.zeros((0, 4, 4)), "cam_poses has shape"),
        ("cam_poses", np.zeros((20_001, 4, 4), np.int8), "cam_poses has shape"),
        ("cam_intrinsics", np.zeros((3, 3)), "no focal length"),
        ("campose_valid", [np.zeros(FRAMES)], "anybody visible"),
        ("sequence", "../office_call_00", "does not name a folder"),
        ("sequence", "..", "does not name a folder"),
        ("sequence", 5, "in place of an array"),
        ("poses2d", [np.ones((FRAMES, 3, 18))], "coincide"),
        ("poses2d", [np.full((FRAMES, 3, 18), b"x")], "array of 'S1'"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(male, entry, value, complaint):
    entries = make_entries("office_call_00", "m", 5) | {entry: value}
    if value is None:
        del entries[entry]
    path = male / "sequenceFiles/test/office_call_00.pkl"
    path.write_bytes(python2_pickle(entries))
    with pytest.raises(DatasetError, match=complaint) as error:
        opened(male, open_body)
    assert "\n" not in str(error.value)
    assert entry == "campose_valid" or "office_call_00.pkl" in str(error.value)


def test_no_hostile_pickle_is_run(male, tmp_path, staf):
    path = male / "sequenceFiles/test/office_call_00.pkl"
    entries = make_entries("office_call_00", "m", 5)
    canary = Canary(tmp_path)
    objects = np.array([canary], dtype=object)
    for hostile in (canary, {"poses": canary}, {"unused": [objects]}, {"poses": [objects]}):
        for protocol in (0, 2, 4):
            content = entries | hostile if isinstance(hostile, dict) else hostile
            path.write_bytes(pickle.dumps(content, protocol))
            with pytest.raises(DatasetError, match=r"asks for .*mkdir.* nothing was run"):
                read_sequence(path)
    for command in (("eval", male), ("data", "check", male)):
        code, _, err = staf(*command)
        assert (code, err.count("\n")) == (1, 1)
        assert "nothing was run" in err
    assert not (tmp_path / "canary").exists()


def test_pickles_cannot_take_memory_without_end(male, monkeypatch):
    monkeypatch.setattr("staf_cli.body.smpl_pickle.LARGEST_FILE", 2**20)
    path = male / "sequenceFiles/test/office_call_00.pkl"
    large = np.zeros(2**16, np.int8)
    path.write_bytes(python2_pickle({"poses": [large] * 60}))
    with pytest.raises(DatasetError, match="more bytes than its file can have"):
        read_sequence(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="is no file"):
        read_sequence(path)


def test_later_pickles_read_the_same(male):
    path = male / "sequenceFiles/test/office_call_00.pkl"
    first = read_sequence(path)
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(make_entries("office_call_00", "m", 5), protocol))
        again = read_sequence(path)
        np.testing.assert_array_equal(again.cameras, first.cameras)
        for name in ("poses", "betas", "trans", "points", "camera_valid"):
            np.testing.assert_array_equal(
                getattr(again.actors[0], name), getattr(first.actors[0], name)
            )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.zeros((14, 90)), r"float64 \(14, 90\), not numbers \(17, V\) or \(9, V\)"),
        (np.zeros((17, 90), int), "not numbers"),
        (np.full((17, 90), np.nan), "not finite"),
        (np.array([{}]), "damaged or no numpy array"),
        (None, "no such file"),
    ],
)
def test_regressors_of_something_else_are_refused(tmp_path, content, complaint):
    path = tmp_path / "J.npy"
    if content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DatasetError, match=complaint):
        read_regressor(path)
