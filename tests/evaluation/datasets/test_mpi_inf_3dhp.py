"""MPI-INF-3DHP from its authors' files: a predictor whose errors are known, and hostile files."""

import sys

import numpy as np
import pytest
import scipy.io

from staf_cli.core.errors import DatasetError, MissingTool
from staf_cli.evaluation.datasets import mpi_inf_3dhp
from staf_cli.evaluation.datasets.layouts import find_benchmark, open_dataset
from staf_cli.pipeline.loading import open_body
from tests.support.known_network import measure
from tests.support.made_3dhp import (
    LSP_NAMES,
    SIZE,
    TEST_NAMES,
    entries_of,
    write_annotation,
    write_sequence,
    write_training,
)
from tests.support.made_3dpw import make_bodies, make_regressor
from tests.support.plain_smpl import plain_mesh

H36M_OF_17 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]
TEST_OF_17 = [TEST_NAMES.index(name) for name in (*LSP_NAMES, "pelvis", "spine", "head")]
FRAMES, VALID, OUTSIDE = 12, [0, 1, 4, 6, 8], 5  # of TS1: a joint is outside of frame 5


@pytest.fixture(autouse=True)
def bodies(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    make_bodies(tmp_path / "data")
    return tmp_path / "data" / "bodies"


@pytest.fixture
def regressor(tmp_path):
    return make_regressor(tmp_path / "J_regressor_h36m.npy")


@pytest.fixture
def entries():
    return entries_of(np.random.default_rng(3).normal(0, 0.5, (FRAMES, 17, 3)), VALID)


def test_known_errors_come_out_of_valid_frames(tmp_path, bodies, regressor, monkeypatch):
    pytest.importorskip("h5py")
    arrays, mix = dict(np.load(bodies / "smpl-neutral.npz")), np.load(regressor).astype(np.float32)
    rng = np.random.default_rng(7)
    poses = rng.normal(0, 0.3, (FRAMES, 72))
    joints = np.array([mix @ plain_mesh(arrays, pose, np.zeros(10)) for pose in poses])
    off = rng.normal(0, 0.02, (FRAMES, 17, 3))
    true = np.zeros((FRAMES, 17, 3))
    true[:, TEST_OF_17] = joints[:, H36M_OF_17] + off + rng.normal(0, 3, (FRAMES, 1, 3))
    made = entries_of(true, VALID)
    made["annot2"][OUTSIDE, 0, 3] = [SIZE[0], 50]
    root = tmp_path / "set" / "mpi_inf_3dhp_test_set"
    write_sequence(root, "TS1", made)
    write_sequence(root, "TS4", entries_of(true, []))  # nothing is valid
    inside = [frame for frame in range(FRAMES) if frame != OUTSIDE]
    for folder in (root, root.parent):
        table = measure(folder, "3dhp", regressor, poses[inside], monkeypatch)
        centred = off - off[:, [14]]
        assert [row.clip for row in table.rows] == ["TS1", "all"]
        overall = table.rows[-1]
        assert overall.frames == len(VALID)
        errors = np.linalg.norm(centred[VALID], axis=-1)
        assert overall.mpjpe == pytest.approx(1000 * errors.mean(), 1e-5)
        assert overall.pve is overall.pck is None
        bends = centred[2:] - 2 * centred[1:-1] + centred[:-2]  # frames 1, 2, ...
        counted = [bends[frame - 1] for frame in (1, 8)]  # with both neighbours inside
        expected = 1000 * np.linalg.norm(counted, axis=-1).mean()
        assert overall.accel == pytest.approx(expected, 1e-5)
        (curve,) = table.curves
        assert curve.frame[~np.isnan(curve.accel)].tolist() == [1, 8]


def test_the_crop_is_1_2_times_the_square_around_the_joints(tmp_path, entries):
    write_sequence(tmp_path, "TS5", entries)
    (footage,) = open_dataset(tmp_path, find_benchmark(tmp_path, None), open_body)
    assert (footage.clip.fps, footage.clip.image_size) == (25, SIZE)
    assert len(list(footage.frames())) == FRAMES
    points = entries["annot2"][:, 0]
    low, high = points.min(1), points.max(1)
    box = footage.people[0].box
    np.testing.assert_allclose((box[:, :2] + box[:, 2:]) / 2, (low + high) / 2)
    longer = (high - low).max(1)
    np.testing.assert_allclose((box[:, 2] - box[:, 0]) * 1.1, 1.2 * longer)


def test_the_command_measures_it_and_prints_the_paper_s_rows(staf, tmp_path, entries, regressor):
    write_sequence(tmp_path / "set" / "mpi_inf_3dhp_test_set", "TS2", entries)
    write_training(tmp_path / "set", 6)
    code, out, err = staf("data", "check", tmp_path / "set")
    assert (code, err) == (0, "")
    assert "S1/Seq1/annot.mat: 14 cameras, 6 frames" in out
    assert f"TS2: {FRAMES} frames, {len(VALID)} of them valid" in out
    assert "eval 3dhp" in out
    chosen = ("--body", "smpl-neutral", "--device", "cpu", "--method", "mean")
    code, out, err = staf("eval", "3dhp", tmp_path / "set", "--regressor", regressor, *chosen)
    assert code == 0, err
    assert "STAF" in out
    assert "58.8" in out


def test_the_training_set_is_described(staf, tmp_path):
    path = write_training(tmp_path, 6)
    code, out, err = staf("data", "check", tmp_path)
    assert (code, err) == (0, "")
    assert "annot.mat: 14 cameras, 6 frames; annot2 annot3 univ_annot3" in out
    assert "no benchmark" in out
    whole = path.read_bytes()
    scipy.io.savemat(path, {"annot2": np.zeros((14, 56)), "frames": np.arange(6)})
    assert staf("data", "check", tmp_path)[0] == 1
    same = {name: np.zeros((14, 2)) for name in ("annot2", "annot3", "univ_annot3", "frames")}
    scipy.io.savemat(path, same)
    code, _, err = staf("data", "check", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert "have no cell a camera" in err
    for content in (whole[: len(whole) // 2], b"", b"MATLAB 5.0", whole[:128] + bytes(64)):
        path.write_bytes(content)
        code, _, err = staf("data", "check", tmp_path)
        assert (code, err.count("\n")) == (1, 1)


def test_without_h5py_a_line_says_what_to_install(staf, tmp_path, monkeypatch):
    (tmp_path / "TS1").mkdir()
    (tmp_path / "TS1" / "annot_data.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingTool, match=r"pip install 'staf-cli\[datasets\]'"):
        open_dataset(tmp_path, "3dhp", open_body)
    for command in (("data", "check", tmp_path), ("eval", tmp_path)):
        code, _, err = staf(*command)
        assert (code, err.count("\n")) == (1, 1)
        assert "needs h5py" in err


def test_what_a_copy_lacks_is_named(staf, tmp_path, entries):
    write_sequence(tmp_path, "TS1", entries)
    write_sequence(tmp_path, "TS3", entries)
    (tmp_path / "TS1/imageSequence/img_000004.jpg").unlink()
    (tmp_path / "TS3/imageSequence/img_000013.jpg").write_bytes(b"")
    code, _, err = staf("data", "check", tmp_path)
    assert code == 1
    first, second = err.splitlines()
    assert "1 of 12 images are missing, img_000004.jpg first" in first
    assert "img_000013.jpg is none of the 12 images" in second


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"annot2": None}, "has no annot2"),
        ({"annot2": np.zeros((FRAMES, 1, 17, 3))}, r"expected \(any, 1, 17, 2\)"),
        ({"annot2": np.zeros((0, 1, 17, 2))}, "annot2 has shape"),
        ({"annot2": np.zeros((20_001, 1, 17, 2), np.int8)}, "annot2 has shape"),
        ({"annot2": np.full((FRAMES, 1, 17, 2), 50)}, "coincide"),
        ({"annot2": np.full((FRAMES, 1, 17, 2), -5)}, "no frame is valid"),
        ({"univ_annot3": np.zeros((FRAMES - 1, 1, 17, 3))}, r"expected \(12, 1, 17, 3\)"),
        ({"univ_annot3": np.full((FRAMES, 1, 17, 3), np.nan)}, "finite"),
        ({"univ_annot3": np.full((FRAMES, 1, 17, 3), b"x")}, "holds no numbers"),
        ({"valid_frame": np.zeros((FRAMES, 1))}, "no frame is valid"),
        ({"valid_frame": 1.0}, "valid_frame has shape"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path, entries, changed, complaint):
    path = write_sequence(tmp_path, "TS1", entries)
    content = {name: value for name, value in (entries | changed).items() if value is not None}
    write_annotation(path, content)
    if len(content.get("annot2", [])) != FRAMES:
        with pytest.raises(DatasetError, match=complaint):
            mpi_inf_3dhp.read_sequence(path)
        return
    with pytest.raises(DatasetError, match=complaint) as error:
        open_dataset(tmp_path, "3dhp", open_body)
    assert "\n" not in str(error.value)


def test_hostile_hdf5_is_refused(tmp_path, staf, entries):
    h5py = pytest.importorskip("h5py")
    path = write_sequence(tmp_path / "set", "TS1", entries)
    other = write_annotation(tmp_path / "other.mat", entries)
    whole = path.read_bytes()
    shape = (FRAMES, 1, 17, 2)

    def external(file):
        file["annot2"] = h5py.ExternalLink(str(other), "annot2")

    def soft(file):
        file["annot2"] = h5py.SoftLink("/annot3")

    def group(file):
        file.create_group("annot2")

    def virtual(file):
        layout = h5py.VirtualLayout(shape, float)
        layout[:] = h5py.VirtualSource(str(other), "annot2", shape)
        file.create_virtual_dataset("annot2", layout)

    def raw_elsewhere(file):
        file.create_dataset("annot2", shape, float, external=[(str(other), 0, 10**6)])

    def endless(file):
        file.create_dataset("annot2", (10**12, 1, 17, 2), float, chunks=(64, 1, 17, 2))

    def large_chunks(file):
        file.create_dataset("annot2", shape, "u1", chunks=(10**7, 1, 17, 2), maxshape=(None,) * 4)

    def other_filter(file):
        file.create_dataset("annot2", data=np.zeros(shape), compression="lzf")

    plain = (external, soft, group, virtual, raw_elsewhere, endless, large_chunks, other_filter)
    for change in plain:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            del file["annot2"]
            change(file)
        code, _, err = staf("data", "check", tmp_path / "set")
        assert (code, err.count("\n")) == (1, 1), change.__name__
        assert "annot2" in err, err
    for content in (b"", whole[:512], whole[:3000], whole[:-700]):
        path.write_bytes(content)
        code, _, err = staf("data", "check", tmp_path / "set")
        assert (code, err.count("\n")) == (1, 1)
        assert "is damaged or no HDF5" in err
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match="is no file"):
        mpi_inf_3dhp.read_sequence(path)
