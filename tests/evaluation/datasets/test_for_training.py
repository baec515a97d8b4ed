"""What `staf data check` says of sets that are no benchmark: VIBE's files, COCO's JSON, 3DHP's."""

import json
import pickle
import zlib

import numpy as np
import pytest

from staf_cli.core.errors import DatasetError
from staf_cli.evaluation.datasets import coco_json, vibe_db
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
