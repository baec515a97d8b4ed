"""Tables of labelled images: predictors whose errors are known, and tables that do not fit."""

import numpy as np
import pytest

from staf_cli.core.errors import DatasetError, UsageError
from staf_cli.evaluation.datasets.layouts import find_benchmark, open_dataset
from staf_cli.pipeline.loading import open_body
from tests.support.known_network import measure
from tests.support.made_3dpw import make_bodies, make_regressor
from tests.support.made_tables import DHP_NAMES, H36M_NAMES, SIZE, entries_of, write_images
from tests.support.plain_smpl import plain_mesh
from tests.support.untrusted.attacks import Canary

H36M_OF_17 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]  # SPIN's H36M_TO_J17


@pytest.fixture(autouse=True)
def bodies(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    make_bodies(tmp_path / "data")
    return tmp_path / "data" / "bodies"


@pytest.fixture
def regressor(tmp_path):
    return make_regressor(tmp_path / "J_regressor_h36m.npy")


def poses_of(rows):
    return np.random.default_rng(7).normal(0, 0.3, (rows, 72))


def joints_of(bodies, regressor, poses, count=14):
    """(N, count, 3) of the neutral body in its mean shape, from the regressor's pelvis."""
    arrays, mix = dict(np.load(bodies / "smpl-neutral.npz")), np.load(regressor).astype(np.float32)
    regressed = [mix @ plain_mesh(arrays, pose, np.zeros(10)) for pose in poses]
    return np.array([joints[H36M_OF_17[:count]] - joints[0] for joints in regressed])


def write_table(root, name, names, lsp, **changed):
    write_images(root, names)
    entries = entries_of(names, lsp) | changed
    np.savez(root / name, **{key: value for key, value in entries.items() if value is not None})
    return root


@pytest.mark.parametrize(
    ("benchmark", "name", "names", "rows_of_clips"),
    [
        ("h36m-p2", "h36m_valid_protocol2.npz", H36M_NAMES, [range(7, 14), range(7)]),
        ("3dhp", "mpi_inf_3dhp_valid.npz", DHP_NAMES, [range(7), range(7, 14)]),
    ],
)
def test_known_errors_come_out(
    tmp_path, bodies, regressor, monkeypatch, benchmark, name, names, rows_of_clips
):
    poses = poses_of(len(names))
    judged = joints_of(bodies, regressor, poses, 17 if benchmark == "3dhp" else 14)
    rng = np.random.default_rng(9)
    off = rng.normal(0, 0.02, judged.shape)
    folder = write_table(tmp_path / "set", name, names, judged + off)
    # Clips come by name; the network answers what the truth was made of.
    order = [row for rows in rows_of_clips for row in rows]
    table = measure(folder, benchmark, regressor, poses[order], monkeypatch)
    pelvis = off[:, [14]] if benchmark == "3dhp" else off[:, 2:4].mean(1, keepdims=True)
    centred = off - pelvis
    assert [row.clip for row in table.rows] == [
        *sorted({name.rpartition("_")[0] for name in names}),
        "all",
    ]
    overall = table.rows[-1]
    assert overall.frames == len(names)
    assert overall.mpjpe == pytest.approx(1000 * np.linalg.norm(centred, axis=-1).mean(), 1e-5)
    assert overall.pa_mpjpe < overall.mpjpe
    assert overall.pve is overall.pck is None
    bends = []
    for rows in rows_of_clips:
        numbers = [int(names[row].rpartition("_")[2].partition(".")[0]) for row in rows]
        step = min(np.diff(numbers))
        for k in range(1, len(rows) - 1):
            if numbers[k + 1] - numbers[k - 1] == 2 * step:
                own = centred[list(rows)]
                bend = own[k + 1] - 2 * own[k] + own[k - 1]
                bends.append(np.linalg.norm(bend, axis=-1).mean())
    assert overall.accel == pytest.approx(1000 * np.mean(bends), 1e-5)


@pytest.mark.parametrize("step", [1, 2])
def test_accel_of_human36m_is_of_25_frames_a_second(
    staf, tmp_path, bodies, regressor, monkeypatch, step
):
    """A table with every frame of 50 a second, and one with every second of them."""
    numbers = [number for number in range(3, 23, step) if number not in (11, 12)]
    names = [f"images/S9_Eating.55011271_{number:06d}.jpg" for number in numbers]
    poses = poses_of(len(names))
    off = np.random.default_rng(9).normal(0, 0.02, (len(names), 14, 3))
    true = joints_of(bodies, regressor, poses) + off
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", names, true)
    judged = [row for row, number in enumerate(numbers) if number % 2]
    table = measure(folder, "h36m-p2", regressor, poses[judged], monkeypatch)
    (footage,) = open_dataset(folder, "h36m-p2", open_body)
    assert footage.clip.fps == 25
    assert [int(path.stem[-6:]) for path in footage.pictures] == [3, 5, 7, 9, 13, 15, 17, 19, 21]
    centred = (off - off[:, 2:4].mean(1, keepdims=True))[judged]
    bends = [centred[k - 1] - 2 * centred[k] + centred[k + 1] for k in (1, 2, 5, 6, 7)]
    expected = 1000 * np.linalg.norm(bends, axis=-1).mean()
    assert table.rows[-1].frames == 9
    assert table.rows[-1].accel == pytest.approx(expected, 1e-5)
    chosen = ("--body", "smpl-neutral", "--device", "cpu", "--method", "mean")
    code, out, err = staf("eval", "h36m-p2", folder, *chosen)
    assert code == 0, err
    assert "frames a second" not in out


def test_the_crop_is_the_published_square(tmp_path, bodies, regressor):
    poses = poses_of(len(H36M_NAMES))
    lsp = joints_of(bodies, regressor, poses)
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp)
    entries = entries_of(H36M_NAMES, lsp)
    walking, directions = open_dataset(folder, "h36m-p2", open_body)
    assert (walking.clip.fps, walking.clip.image_size) == (10, SIZE)
    box = np.concatenate([directions.people[0].box[:, :2], directions.people[0].box[:, 2:]], 1)
    np.testing.assert_allclose((box[:, :2] + box[:, 2:]) / 2, entries["center"][:7])
    np.testing.assert_allclose((box[:, 2] - box[:, 0]) * 1.1, 200 * entries["scale"][:7])


def test_names_may_be_bytes(tmp_path, bodies, regressor):
    lsp = joints_of(bodies, regressor, poses_of(len(H36M_NAMES)))
    names = np.array([name.encode() for name in H36M_NAMES])
    folder = write_table(
        tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp, imgname=names
    )
    walking, directions = open_dataset(folder, "h36m-p2", open_body)
    assert [path.name for path in (walking.pictures[0], directions.pictures[-1])] == [
        "S11_Walking.60457274_000001.jpg",
        "S9_Directions_1.54138969_000031.jpg",
    ]


def test_images_without_all_joints_do_not_count(tmp_path, bodies, regressor):
    lsp = joints_of(bodies, regressor, poses_of(len(H36M_NAMES)))
    joints = entries_of(H36M_NAMES, lsp)["S"]
    joints[3, 18, 3] = 0
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp, S=joints)
    _, directions = open_dataset(folder, "h36m-p2", open_body)
    assert directions.people[0].frame.tolist() == [0, 1, 2, 4, 5, 6]
    assert len(list(directions.frames())) == 6


def test_the_command_prints_the_paper_s_rows(staf, tmp_path, bodies, regressor):
    lsp = joints_of(bodies, regressor, poses_of(len(H36M_NAMES)))
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp)
    chosen = ("--body", "smpl-neutral", "--device", "cpu", "--method", "mean")
    out = tmp_path / "out"
    code, text, err = staf("eval", "h36m-p2", folder, "--regressor", regressor, *chosen, "-o", out)
    assert code == 0, err
    assert "STAF" in text
    assert "44.5" in text
    assert "Accel is of 10 frames a second; papers give it for 25" in text
    assert "S9_Directions" in (out / "metrics.csv").read_text()
    code, _, err = staf("eval", "3dhp", folder, *chosen)
    assert (code, err.count("\n")) == (1, 1)
    assert "is no dataset of 3dhp" in err
    code, _, err = staf("eval", "h36m", folder, *chosen)
    assert (code, err.count("\n")) == (2, 1)
    np.savez(folder / "h36m_valid_protocol1.npz", imgname=np.array(H36M_NAMES))
    code, _, err = staf("eval", folder, *chosen)
    assert (code, err.count("\n")) == (2, 1)
    assert "by h36m-p1 and h36m-p2" in err
    with pytest.raises(UsageError):
        find_benchmark(folder, None)


def test_tables_are_described(staf, tmp_path, bodies, regressor):
    lsp = joints_of(bodies, regressor, poses_of(len(H36M_NAMES)))
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp)
    np.savez(
        folder / "coco_2014_train.npz",
        imgname=np.array(["train2014/a.jpg", "train2014/a.jpg", "train2014/b.jpg"]),
        pose=np.zeros((3, 72)),
    )
    write_images(folder, ["train2014/a.jpg"])
    code, out, err = staf("data", "check", folder)
    assert (code, err.count("\n")) == (1, 1)
    assert "1 of 3 images" in err
    assert out.splitlines()[1:] == [
        "coco_2014_train.npz: 3 people in 2 images; imgname pose",
        "h36m_valid_protocol2.npz: 14 people in 14 images; imgname center scale S part",
    ]
    write_images(folder, ["train2014/b.jpg"])
    code, out, err = staf("data", "check", folder)
    assert (code, err) == (0, "")
    assert "eval h36m-p2" in out


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"S": None}, "has no S"),
        ({"S": np.zeros((14, 24, 3))}, r"S holds float64 \(14, 24, 3\)"),
        ({"S": np.zeros((14, 24, 4))}, "no image has all"),
        ({"S": np.full((14, 24, 4), np.nan)}, "not finite"),
        ({"scale": np.zeros(14)}, "a scale is not above 0"),
        ({"center": np.full((14, 2), "x")}, "center holds <U1"),
        ({"imgname": np.zeros(14)}, "no list of image files"),
        ({"imgname": np.array(["../a_1.jpg"] * 14)}, "not an image in its folder"),
        ({"imgname": np.array(["/etc/a_1.jpg"] * 14)}, "not an image in its folder"),
        ({"imgname": np.array([H36M_NAMES[0]] * 14)}, "twice"),
        ({"imgname": np.array([b"\xff_1.jpg"] * 14)}, "no text"),
        ({"imgname": np.array([b"../a_1.jpg"] * 14)}, "not an image in its folder"),
        ({"imgname": np.zeros(14, complex)}, "neither numbers nor text"),
        ({"imgname": np.array(["images/lost_1.jpg"] * 14)}, "1 of 14 images are missing"),
        ({"imgname": np.array(["plain.jpg"] * 14)}, "end in a frame's number"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, changed, complaint):
    lsp = np.random.default_rng(2).normal(0, 1, (14, 14, 3))
    folder = tmp_path / "set"
    write_table(folder, "h36m_valid_protocol2.npz", H36M_NAMES, lsp, **changed)
    write_images(folder, ["plain.jpg"])
    with pytest.raises(DatasetError, match=complaint) as error:
        open_dataset(folder, "h36m-p2", open_body)
    assert "\n" not in str(error.value)


def test_tables_of_objects_are_refused(tmp_path, staf):
    folder = tmp_path / "set"
    write_table(
        folder,
        "h36m_valid_protocol2.npz",
        H36M_NAMES,
        np.zeros((14, 14, 3)),
        imgname=np.array([Canary(tmp_path)] * 14, dtype=object),
    )
    for command in (("eval", folder), ("data", "check", folder)):
        code, _, err = staf(*command)
        assert (code, err.count("\n")) == (1, 1)
        assert "Python objects" in err
    assert not (tmp_path / "canary").exists()


def test_pictures_that_are_damaged_or_of_another_size_are_named(tmp_path):
    lsp = np.random.default_rng(2).normal(0, 1, (14, 14, 3))
    folder = write_table(tmp_path / "set", "h36m_valid_protocol2.npz", H36M_NAMES, lsp)
    second = folder / H36M_NAMES[1]
    _, directions = open_dataset(folder, "h36m-p2", open_body)
    second.write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"000006.jpg: is no picture"):
        list(directions.frames())
    import cv2

    cv2.imwrite(str(second), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"is 20x20 px, but the first of its clip is 108x96"):
        list(directions.frames())
    (folder / H36M_NAMES[0]).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"000001.jpg: is no picture"):
        open_dataset(folder, "h36m-p2", open_body)
