"""What `staf data check` says of sets that are no benchmark: VIBE's files, COCO's JSON, 3DHP's."""

import json
import pickle
import tracemalloc
import zlib

import numpy as np
import pytest

from staf_cli.core.errors import DatasetError
from staf_cli.core.records import COCO_KEYPOINTS
from staf_cli.evaluation.datasets import coco_json, eft_json, vibe_db
from staf_cli.training.published_sets import open_set
from tests.support.made_joblib import joblib_file
from tests.support.untrusted.attacks import Canary

FRAMES = 7


def database():
    """The entries of VIBE's posetrack_train_db.pt and 3dpw_val_db.pt."""
    rng = np.random.default_rng(1)
    return {
        "vid_name": np.array(["000001_bonn_0"] * 4 + ["000002_bonn_3"] * 3),
        "frame_id": np.arange(FRAMES),
        "joints3D": rng.normal(0, 1, (FRAMES, 14, 3)).astype(np.float32),
        "joints2D": np.asfortranarray(rng.normal(0, 1, (FRAMES, 49, 3))),
        "bbox": rng.uniform(0, 1, (FRAMES, 4)),
        "features": rng.normal(0, 1, (FRAMES, 2048)).astype(">f4"),
        "valid": np.ones(FRAMES, bool),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("aligned", [False, True])
def test_arrays_of_joblib_are_found_on_the_disk(tmp_path, protocol, aligned):
    path = tmp_path / "3dpw_val_db.pt"
    path.write_bytes(joblib_file(database(), protocol, aligned))
    found = vibe_db.read_contents(path)
    assert (found.people, found.frames) == (2, FRAMES)
    assert list(found.entries) == list(database())
    for name, array in database().items():
        np.testing.assert_array_equal(found.entries[name].mapped(), array)


def test_vibe_s_files_are_described(staf, tmp_path):
    (tmp_path / "posetrack_train_db.pt").write_bytes(joblib_file(database()))
    code, out, err = staf("data", "check", tmp_path)
    assert (code, err) == (0, "")
    assert "posetrack_train_db.pt: 2 clips of a person, 7 frames; vid_name frame_id" in out
    assert "no benchmark" in out


def contents_of(**changed):
    entries = database() | changed
    return {key: value for key, value in entries.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (joblib_file(contents_of(vid_name=None)), "has no vid_name"),
        (joblib_file(contents_of(vid_name=np.arange(FRAMES))), "has no vid_name"),
        (joblib_file(contents_of(bbox=np.zeros((3, 4)))), "'bbox' is of .3,. frames"),
        (joblib_file(contents_of(img_name=np.array([None] * FRAMES))), "damaged or no VIBE"),
        (joblib_file(database())[:-9000], "damaged or no VIBE"),
        (joblib_file([1, 2]), "no named arrays"),
        (zlib.compress(joblib_file(database())), "compressed or no file of joblib"),
        (b"", "compressed or no file of joblib"),
        (
            b"\x80\x02}X\x01\x00\x00\x00acjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81s.",
            "is damaged",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, staf, content, complaint):
    path = tmp_path / "insta_train_db.pt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=complaint):
        vibe_db.read_contents(path)
    code, _, err = staf("data", "check", tmp_path)
    assert (code, err.count("\n")) == (1, 1)


def test_code_in_vibe_s_files_is_not_run(tmp_path):
    path = tmp_path / "a_db.pt"
    canary = Canary(tmp_path)
    objects = np.array([canary] * FRAMES, dtype=object)
    for content in (
        pickle.dumps({"x": canary}, 2),
        joblib_file(database() | {"x": canary}),
        joblib_file(database() | {"x": objects}),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            vibe_db.read_contents(path)
    assert not (tmp_path / "canary").exists()


def labels():
    """As PoseTrack18 has them."""
    frames = [
        {"id": 100 + n, "file_name": f"images/val/000342_mpii_test/{n:06d}.jpg", "frame_id": n}
        for n in range(3)
    ]
    people = [
        {"image_id": 100 + n, "keypoints": [1.0, 2, 1] * 17, "track_id": track, "bbox": [0] * 4}
        for n in range(2)
        for track in (0, 1)
    ]
    return {"images": frames, "annotations": [*people, {"image_id": 102, "bbox": [0] * 4}]}


def test_labels_of_posetrack_are_described(staf, tmp_path):
    folder = tmp_path / "annotations" / "val"
    folder.mkdir(parents=True)
    (folder / "000342_mpii_test.json").write_text(json.dumps(labels()))
    code, out, err = staf("data", "check", tmp_path)
    assert (code, err) == (0, "")
    assert "000342_mpii_test.json: 4 people in 2 images, 2 tracks" in out


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({"images": 5, "annotations": []}),
        json.dumps(labels() | {"images": []}),
        json.dumps(
            labels() | {"images": [{"id": 100 + n, "file_name": "/etc/x"} for n in range(3)]}
        ),
        json.dumps(labels() | {"images": [{"id": 100 + n, "file_name": "../x"} for n in range(3)]}),
        json.dumps({"images": [{"id": [], "file_name": "x"}], "annotations": []}),
    ],
)
def test_labels_that_do_not_fit_are_refused(staf, tmp_path, content):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text(content)
    with pytest.raises(DatasetError):
        coco_json.read_contents(tmp_path / "annotations" / "a.json")
    code, _, err = staf("data", "check", tmp_path)
    assert (code, err.count("\n")) == (1, 1)


def fits(people=3):
    """As EFT publishes them: COCO2014-All-ver01.json."""
    rng = np.random.default_rng(1)
    data = [
        {
            "parm_pose": np.tile(np.eye(3), (24, 1, 1)).tolist(),
            "parm_shape": rng.normal(0, 1, 10).tolist(),
            "parm_cam": [0.9, 0.01, -0.02],
            "bbox_scale": 1.7,
            "bbox_center": [120.5, 200],
            "gt_keypoint_2d": rng.uniform(0, 300, (49, 3)).tolist(),
            "joint_validity_openpose18": [1.0] * 18,
            "smpltype": "smpl",
            "annotId": number,
            "imageName": f"COCO_train2014_{number // 2:012d}.jpg",
        }
        for number in range(people)
    ]
    return {"ver": 0.1, "data": data, "meta": {"annotation_num": people}}


@pytest.mark.parametrize("piece", [11, 1000, 2**20])
def test_eft_s_fits_are_described(staf, tmp_path, monkeypatch, piece):
    monkeypatch.setattr(eft_json, "PIECE", piece)
    made = fits()
    del made["data"][1]["gt_keypoint_2d"]
    (tmp_path / "eft_fit").mkdir()
    path = tmp_path / "eft_fit" / "COCO2014-All-ver01.json"
    for content in (made, {"meta": [], "data": made["data"], "ver": 1.25e-1}):
        path.write_text(json.dumps(content, indent=1 if piece > 100 else None))
        code, out, err = staf("data", "check", tmp_path)
        assert (code, err) == (0, "")
        assert "eft_fit/COCO2014-All-ver01.json: 3 people in 2 images, 2 with keypoints" in out


def test_eft_s_people_are_in_memory_one_by_one(tmp_path):
    people = fits(60)["data"]
    text = json.dumps(people)[1:-1] + ", "
    path = tmp_path / "MPII_ver01.json"
    with path.open("w") as stream:
        stream.write('{"ver": 0.1, "data": [')
        for _ in range(30):
            stream.write(text)
        stream.write(json.dumps(people[0]) + "]}")
    peaks = []
    for _ in range(3):  # whatever else happens in this process meanwhile can only add to it
        tracemalloc.start()
        found = eft_json.read_contents(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (found.people, found.images) == (1801, 30)
    assert min(peaks) < 8 * 2**20 < path.stat().st_size


def person_with(**changed):
    made = fits()
    made["data"][1] = {k: v for k, v in (made["data"][1] | changed).items() if v is not None}
    return json.dumps(made)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ("{", "is damaged"),
        ('{"ver": 1', "is damaged"),
        ('{"ver": 1}', "holds nobody"),
        ('{"data": []}', "holds nobody"),
        ('{"data": [1]}', "is damaged"),
        ('{"data": {}}', "is damaged"),
        ('{"data": [' + "[" * 100_000, "is damaged"),
        ('{"data": ' + "1" * 10_000 + "}", "is damaged"),
        ('{"data": "' + "a" * (5 * 2**20), "is damaged"),
        (json.dumps(fits())[:-2000], "is damaged"),
        (person_with(parm_pose=None), "is damaged"),
        (person_with(parm_pose=[[0.0] * 3] * 24), "is damaged"),
        (person_with(parm_shape=["a"] * 10), "is damaged"),
        (person_with(parm_shape=[float("nan")] * 10), "is damaged"),
        (person_with(bbox_center=[1, [2]]), "is damaged"),
        (person_with(gt_keypoint_2d=[[0, 0, 0]] * 25), "is damaged"),
        (person_with(imageName="../a.jpg"), "not an image in its folder"),
        (person_with(imageName="/etc/passwd"), "not an image in its folder"),
        (person_with(imageName=5), "not an image in its folder"),
    ],
)
def test_fits_that_do_not_fit_are_refused(staf, tmp_path, content, complaint):
    (tmp_path / "LSPet_ver01.json").write_text(content)
    code, _, err = staf("data", "check", tmp_path)
    assert (code, err.count("\n")) == (1, 1)
    assert complaint in err


POSETRACK = ["nose", "head_bottom", "head_top", *COCO_KEYPOINTS[3:]]


def write_posetrack(folder, sequences=2, frames=10, **changed):
    """PoseTrack18's training part: two people, of whom one is not seen in frame 4."""
    for sequence in range(sequences):
        name = f"00034{sequence}_mpii_train"
        images, people = [], []
        (folder / "images" / "train" / name).mkdir(parents=True)
        for n in range(frames):
            file = f"images/train/{name}/{n:06d}.jpg"
            (folder / file).touch()
            images.append({"id": 1000 * sequence + n, "file_name": file, "frame_id": n})
            for track in (1, 0):
                points = np.ones((17, 3))
                points[:, 0], points[:, 1] = np.arange(17) + 100 * track, n
                seen = track == 1 or n != 4
                points[5 if seen else 0 :, 2] = seen
                person = {"image_id": images[-1]["id"], "track_id": track}
                box = [10.0 * n, 20, 30, 80]
                people.append(person | {"keypoints": points.ravel().tolist(), "bbox": box})
        content = {"images": images, "annotations": people}
        content |= {"categories": [{"name": "person", "keypoints": POSETRACK}]} | changed
        (folder / "annotations" / "train").mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / "train" / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_posetrack_is_read_for_training(tmp_path):
    people = open_set("posetrack", write_posetrack(tmp_path))
    assert len(people) == 2 * (10 + 9) and len(np.unique(people.track)) == 4
    # Windows of nine in two tracks of ten frames, none across the frame that is missing.
    assert len(people.windows(9)) == 4 and len(people.windows(5)) == 2 * (6 + 1)
    rows = people.windows(9)[0] + np.arange(9)
    assert people.pictures[rows[3]].endswith("/000003.jpg")
    np.testing.assert_allclose(people.square[rows[3]], [45, 60, 88])
    one_file = tmp_path / "annotations" / "train" / "000340_mpii_train.json"
    assert len(open_set("posetrack", one_file)) == 10 + 9
    own = people.kp2d[rows[3]]
    assert own[14, 2] == 1 and own[14, 0] == 100 and own[14, 1] == 3  # the nose
    assert own[12, 0] == 101 and own[13, 0] == 102  # neck and the top of the head
    assert not own[15:17].any()  # eyes: PoseTrack has none
    assert own[14 + 16, 0] == 116 and own[14 + 16, 2] == 1  # right ankle
    assert not people.smpl_weight.any() and not people.kp3d.any()


def test_coco_s_own_labels_are_photos_of_people_alone(tmp_path):
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotations").mkdir()
    names = [f"{n:012d}.jpg" for n in range(3)]
    for name in names:
        (tmp_path / "train2017" / name).touch()
    points = [5.0, 6, 2] * 17
    label = {"image_id": 0, "keypoints": points, "bbox": [1, 2, 3, 4], "iscrowd": 0}
    few = [5.0, 6, 2] * 5 + [0, 0, 0] * 12
    people = [label, label | {"image_id": 2}, label | {"iscrowd": 1}, label | {"keypoints": few}]
    content = {"images": [{"id": n, "file_name": name} for n, name in enumerate(names)]}
    content |= {"annotations": people, "categories": [{"keypoints": COCO_KEYPOINTS}]}
    for kind in ("person_keypoints_train2017", "person_keypoints_val2017", "captions_train2017"):
        (tmp_path / "annotations" / f"{kind}.json").write_text(json.dumps(content))
    found = open_set("coco", tmp_path)
    assert found.root == tmp_path / "train2017" and found.pictures == (names[0], names[2])
    assert len(open_set("coco", tmp_path / "annotations" / "person_keypoints_train2017.json")) == 2
    assert len(found.windows(2)) == 0 and (found.kp2d[:, 14:] == (5, 6, 1)).all()
    (tmp_path / "train2017" / names[2]).unlink()
    with pytest.raises(DatasetError, match="1 of the pictures of person_keypoints_train2017"):
        open_set("coco", tmp_path)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"categories": []}, "is damaged or holds no images"),
        ({"annotations": [{"image_id": 0, "keypoints": [1, 2], "bbox": [0, 0, 1, 1]}]}, "damaged"),
        ({"annotations": []}, "nobody has a box and 6 keypoints"),
        ({"images": [{"id": n, "file_name": "../x"} for n in range(10)]}, "not an image in its"),
    ],
)
def test_labels_that_training_cannot_use_are_one_line(tmp_path, changed, complaint):
    with pytest.raises(DatasetError, match=complaint) as refused:
        open_set("posetrack", write_posetrack(tmp_path, 1, **changed))
    assert "\n" not in str(refused.value)
