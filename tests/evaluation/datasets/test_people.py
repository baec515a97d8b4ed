"""What training gets of every published layout."""

import sys

import numpy as np
import pytest
import scipy.io
from scipy.spatial.transform import Rotation

from staf_cli.core.errors import DatasetError
from staf_cli.evaluation.datasets import eft_json, mpi_inf_3dhp, spin_npz, threedpw, vibe_db
from staf_cli.evaluation.datasets.people import COCO_OF_18, COCO_OF_25, join
from staf_cli.pipeline.loading import open_body
from tests.support import made_training_sets as made
from tests.support.made_3dpw import make_bodies
from tests.support.made_joblib import joblib_file

COCO = (
    *("nose", "l eye", "r eye", "l ear", "r ear", "l shoulder", "r shoulder", "l elbow"),
    *("r elbow", "l wrist", "r wrist", "l hip", "r hip", "l knee", "r knee", "l ankle", "r ankle"),
)
OPENPOSE_18 = (
    *("nose", "neck", "r shoulder", "r elbow", "r wrist", "l shoulder", "l elbow", "l wrist"),
    *("r hip", "r knee", "r ankle", "l hip", "l knee", "l ankle", "r eye", "l eye"),
    *("r ear", "l ear"),
)
OPENPOSE_25 = (*OPENPOSE_18[:8], "hips", *OPENPOSE_18[8:])
LSP = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow"),
    *("left_wrist", "neck", "head_top"),
)
DHP_28 = (  # as its authors list them
    *("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top"),
    *("left_clavicle", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    *("right_clavicle", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    *("left_hip", "left_knee", "left_ankle", "left_foot", "left_toe"),
    *("right_hip", "right_knee", "right_ankle", "right_foot", "right_toe"),
)


def test_the_joints_of_every_list_are_the_same():
    assert tuple(OPENPOSE_18[at] for at in COCO_OF_18) == COCO
    assert tuple(OPENPOSE_25[at] for at in COCO_OF_25) == COCO
    assert tuple(DHP_28[at] for at in mpi_inf_3dhp.LSP_OF_28) == LSP


def test_videos_of_a_table_are_read_at_25_frames_a_second(tmp_path):
    path = made.write_h36m(tmp_path)
    table, people = np.load(path), spin_npz.read_people(path, 50.0)
    rows = [*range(0, 24, 2), *range(24, 48, 2)]
    assert people.pictures == tuple(table["imgname"][rows])
    assert people.windows(9).tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    np.testing.assert_allclose(people.square[:, 2], 200 * table["scale"][rows], rtol=1e-6)
    np.testing.assert_allclose(people.kp2d[:, :14], table["part"][rows][:, :14], rtol=1e-6)
    np.testing.assert_allclose(people.kp2d[:, 14:19], table["part"][rows][:, 19:], rtol=1e-6)
    assert not people.kp2d[:, 19:].any() and not people.kp3d[:, 19:].any()
    np.testing.assert_allclose(people.kp3d[:, :14], table["S"][rows][:, :14], rtol=1e-6)
    np.testing.assert_allclose(people.poses, table["pose"][rows], rtol=1e-6)
    assert people.smpl_weight.all()


def test_photos_have_only_what_the_table_has(tmp_path):
    people = spin_npz.read_people(made.write_photos(tmp_path, "mpii_train.npz"), None)
    assert len(people) == len(set(people.track.tolist())) == 6
    assert len(people.windows(1)) == 6 and len(people.windows(9)) == 0
    assert not people.smpl_weight.any() and not people.kp3d.any()


def test_fits_that_a_table_says_are_none_do_not_count(tmp_path):
    names = [f"{n}.jpg" for n in range(4)]
    fitted = np.array([1, 0, 1, 0], np.uint8)
    path = made.write_table(tmp_path, "a.npz", names, has_smpl=fitted, **made.fits_of(4))
    assert spin_npz.read_people(path, None).smpl_weight.tolist() == [1, 0, 1, 0]


def test_3dhp_is_read_from_its_authors_files(tmp_path):
    path = made.write_3dhp(tmp_path)
    people = mpi_inf_3dhp.read_people(mpi_inf_3dhp.training_files(tmp_path))
    frames = made.FRAMES - 1  # in the last one an ankle is outside
    assert len(people) == 8 * frames
    assert people.pictures[frames] == "S1/Seq1/imageFrames/video_1/frame_000001.jpg"
    assert len(people.windows(9)) == 8 * (frames - 8)
    cells = scipy.io.loadmat(path)
    points = cells["annot2"][4, 0].reshape(-1, 28, 2)[2]
    joints = cells["annot3"][4, 0].reshape(-1, 28, 3)[2]
    row = 3 * frames + 2  # the fourth camera in use is number 4
    lsp = [DHP_28.index(name) for name in LSP]
    np.testing.assert_allclose(people.kp2d[row, :14, :2], points[lsp], rtol=1e-6)
    np.testing.assert_allclose(people.kp3d[row, :14, :3], joints[lsp] / 1000, rtol=1e-5)
    boxed = points[[*lsp, 3, 4, 6]]
    side = 1.2 * np.ptp(boxed, axis=0).max()
    np.testing.assert_allclose(people.square[row, 2], side, rtol=1e-6)


@pytest.mark.parametrize("cameras", [(), (0, 1, 2)])
def test_a_camera_without_frames_is_one_line(tmp_path, cameras):
    made.write_3dhp(tmp_path, cameras)
    with pytest.raises(DatasetError, match=r"video_\d: is missing.*ffmpeg -i"):
        mpi_inf_3dhp.read_people(mpi_inf_3dhp.training_files(tmp_path))


def test_an_annotation_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = made.write_3dhp(tmp_path)
    monkeypatch.setattr(mpi_inf_3dhp, "LARGEST_UNPACKED", 1000)
    with pytest.raises(DatasetError, match="unpacks to more"):
        mpi_inf_3dhp.read_people([path])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="damaged"):
        mpi_inf_3dhp.read_people([path])


def test_3dpw_s_poses_are_those_that_evaluation_judges(tmp_path, monkeypatch):
    monkeypatch.setenv("STAF_DATA", str(tmp_path / "data"))
    make_bodies(tmp_path / "data")
    made.write_3dpw(tmp_path)
    people = threedpw.read_people(tmp_path, "train")
    (footage,) = threedpw.open_split(tmp_path, "train", open_body)
    (truth,) = footage.people
    assert truth.pose is not None
    assert people.frame.tolist() == truth.frame.tolist()
    np.testing.assert_allclose(people.poses, truth.pose.poses, atol=1e-5)
    np.testing.assert_allclose(people.betas, truth.pose.betas, atol=1e-6)
    middle, size = (truth.box[:, :2] + truth.box[:, 2:]) / 2, truth.box[:, 2:] - truth.box[:, :2]
    square = np.concatenate([middle, 1.1 * size.max(1, keepdims=True)], 1)
    np.testing.assert_allclose(people.square, square, rtol=1e-5)
    assert not people.kp2d[:, 14 + COCO.index("l eye"), 2].any()  # OpenPose never saw it
    assert (people.kp2d[:, 14 + COCO.index("r hip"), 2] > 0).any()


def test_eft_s_fits_become_rotation_vectors(tmp_path):
    path = made.write_eft(tmp_path)
    people = eft_json.read_people(path, tmp_path)
    assert people.root == tmp_path / "train2014" and len(people) == 5
    turned = Rotation.from_rotvec(people.poses.reshape(-1, 3)).as_matrix()
    np.testing.assert_allclose(turned, np.tile(np.diag([1, -1, -1]), (120, 1, 1)), atol=1e-6)
    assert people.kp2d[:4, :14, 2].all() and not people.kp2d[4].any()
    (tmp_path / "train2014" / people.pictures[2]).unlink()
    with pytest.raises(DatasetError, match=r"1 of the pictures of COCO2014-All-ver01\.json"):
        eft_json.read_people(path, tmp_path)


def test_vibe_s_files_are_read_where_they_name_pictures(tmp_path):
    people = vibe_db.read_people(made.write_insta(tmp_path))
    assert people.pictures[0] == "images/dance_0/000000.jpg"  # the authors' own folders are cut off
    assert people.windows(9).tolist() == [0, 1, 2, 3, 12, 13, 14, 15]
    np.testing.assert_allclose(people.square[0], [54, 48, 88])
    assert people.kp2d[..., 2].all()
    assert not people.smpl_weight.any() and not people.kp3d.any()


NOT_TEXT = np.array(["a.jpg"] * 24).view(np.uint32) + sys.maxunicode


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"img_name": None}, "has no img_name; training needs pictures"),
        ({"img_name": np.arange(24)}, "img_name is no list"),
        ({"img_name": np.array(["images/../../x.jpg"] * 24)}, "no image in its folder"),
        ({"img_name": np.array([""] * 24)}, "no image in its folder"),
        ({"img_name": NOT_TEXT.view("U5")}, "no text"),
        ({"img_name": np.array(["images/none.jpg"] * 24)}, "24 of the pictures|1 of the pictures"),
        ({"bbox": np.zeros((24, 2))}, "bbox holds no numbers"),
        ({"joints2D": np.full((24, 49, 3), np.nan)}, "not finite"),
    ],
)
def test_files_of_vibe_that_do_not_fit_are_refused(tmp_path, changed, complaint):
    path = made.write_insta(tmp_path)
    entries = {k: v for k, v in (made.database() | changed).items() if v is not None}
    path.write_bytes(joblib_file(entries))
    with pytest.raises(DatasetError, match=complaint):
        vibe_db.read_people(path)


def test_tracks_stay_apart_when_joined(tmp_path):
    people = vibe_db.read_people(made.write_insta(tmp_path))
    both = join([people, people])
    assert len(both) == 48 and len(np.unique(both.track)) == 4
    assert len(both.windows(9)) == 16
