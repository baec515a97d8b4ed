"""Result files: what is written is read back, what is foreign or damaged is refused."""

import json
import re
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import vertices
from staf_cli.core.errors import TracksError
from staf_cli.core.records import Clip, join_rows, select_rows
from staf_cli.export import Scene, obj
from staf_cli.result import exports, journal, person_npz, tracks_csv
from staf_cli.result import folder as result_folder
from tests.support.made_people import make_person, make_track, open_body
from tests.support.made_records import make_record

CLIP = Clip(Path("clip.mp4"), 640, 480, 30.0, Fraction(1, 30), 20, False)


@pytest.fixture(scope="module")
def body():
    return open_body()


@pytest.fixture(scope="module")
def tracks():
    return [make_track(1, 5), make_track(2, 7, seed=1)]


@pytest.fixture(scope="module")
def people(tracks, body):
    return [make_person(track, body, CLIP) for track in tracks]


def test_parameters_land_on_the_image(people, body):
    """The file's own promise: Body(poses, betas) + trans, projected, are joints2d."""
    for person in people:
        rotations = Rotation.from_rotvec(person.poses.reshape(-1, 3)).as_matrix()
        rotmats = torch.from_numpy(rotations).float().reshape(-1, 24, 3, 3)
        mesh, joints = body(rotmats, torch.from_numpy(person.betas).float())
        in_camera = joints.numpy() + person.trans[:, None]
        x, y, z = np.moveaxis(in_camera, -1, 0)
        pixels = np.stack([900 * x / z + 320, 900 * y / z + 240], -1)
        assert np.abs(pixels - person.joints2d).max() < 0.01
        assert np.abs(in_camera - person.joints3d).max() < 1e-5
        whole = vertices(person, body, slice(None))
        assert np.abs(whole - (mesh.numpy() + person.trans[:, None])).max() < 1e-4


def test_person_comes_back_without_pickles(tmp_path, people):
    path = person_npz.path_of(tmp_path, 1)
    person_npz.save(path, people[0])
    with np.load(path, allow_pickle=False) as archive:
        shapes = {name: archive[name].shape for name in archive.files}
        assert archive["frame"].dtype == np.int64
        assert archive["interpolated"].dtype == bool
    n = len(people[0].frame)
    assert shapes["poses"] == (n, 72)
    assert shapes["trans"] == (n, 3)
    assert shapes["image_size"] == (2,)
    assert shapes["gender"] == ()
    back = person_npz.load(path)
    for field in fields(back):
        have, want = getattr(back, field.name), getattr(people[0], field.name)
        assert np.array_equal(have, want), field.name


def test_how_sure_the_fit_is_comes_back_and_may_be_missing(tmp_path, people):
    """Files of version 0.2.0, and people who were not fitted, have no joint_sigma."""
    path = tmp_path / "person_1.npz"
    rows = [slice(0, 2), slice(2, None)]
    without = replace(people[0], joint_sigma=None)
    sigma = np.linspace(0, 1, len(without.frame) * 24, dtype=np.float32).reshape(-1, 24)
    for person in (without, replace(without, joint_sigma=sigma)):
        parts = [tmp_path / "a.npz", tmp_path / "b.npz"]
        for part, own in zip(parts, rows, strict=True):
            person_npz.save(part, select_rows(person, own))
        person_npz.join(path, parts)
        for back in (person_npz.load(path), join_rows(list(person_npz.stretches(path)))):
            if person is without:
                assert back.joint_sigma is None
            else:
                assert back.joint_sigma is not None and back.joint_sigma.dtype == np.float32
                assert np.array_equal(back.joint_sigma, sigma)
        with np.load(path) as archive:
            assert ("joint_sigma" in archive.files) == (person is not without)


@pytest.mark.parametrize("shape", [(), (3,), (5, 23)])
def test_a_sigma_of_another_shape_is_refused(tmp_path, people, shape):
    path = tmp_path / "person_1.npz"
    person_npz.save(path, people[0])
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "joint_sigma": np.zeros(shape, np.float32)})
    with pytest.raises(TracksError, match=re.escape(str(path))):
        person_npz.load(path)
    with pytest.raises(TracksError, match=re.escape(str(path))):
        list(person_npz.stretches(path))


def test_damaged_and_foreign_persons_are_refused(tmp_path, people):
    path = tmp_path / "person_1.npz"
    with pytest.raises(TracksError, match="no such file"):
        person_npz.load(path)
    person_npz.save(path, people[0])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TracksError, match=re.escape(str(path))):
        person_npz.load(path)
    np.savez(path, frame=np.arange(3))
    with pytest.raises(TracksError, match="not written by staf run"):
        person_npz.load(path)
    np.savez(path, frame=np.array([object()]))
    with pytest.raises(TracksError, match="Python objects"):
        person_npz.load(path)


def test_tracks_come_back(tmp_path, tracks):
    path = tmp_path / "tracks.csv"
    tracks_csv.save(path, tracks)
    for have, want in zip(tracks_csv.load(path), tracks, strict=True):
        assert have.id == want.id
        assert np.array_equal(have.frame, want.frame)
        assert np.array_equal(have.interpolated, want.interpolated)
        for name in ("box", "kp2d", "score"):
            assert np.abs(getattr(have, name) - getattr(want, name)).max() <= 6e-4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("x1", "left", 1), "line 1: has no column x1"),
        (lambda text: text.replace("\n1,", "\none,", 1), "line 2: could not convert"),
        (lambda text: text + text.splitlines()[-1] + "\n", "must ascend"),
        (lambda text: text.replace(",1.000", ",nan", 1), "not finite"),
    ],
)
def test_bad_edits_of_tracks_name_the_place(tmp_path, tracks, change, complaint):
    path = tmp_path / "tracks.csv"
    tracks_csv.save(path, tracks)
    path.write_text(change(path.read_text()))
    with pytest.raises(TracksError, match=complaint):
        tracks_csv.load(path)


def test_meshes_open_elsewhere(tmp_path, tracks, people, body):
    scene = Scene([tracks[1]], [people[1]], body, range(100))
    files = list(obj.write(tmp_path, scene))
    assert files[0] == tmp_path / "meshes" / "person_2" / f"{people[1].frame[0]:06d}.obj"
    assert len(files) == len(people[1].frame)
    loaded = trimesh.load_mesh(files[3], process=False, maintain_order=True)
    want = vertices(people[1], body, slice(3, 4))[0] * [1, -1, -1]
    assert np.abs(loaded.vertices - want).max() < 1e-4
    assert np.array_equal(loaded.faces, body.faces)
    assert loaded.volume > 0.03  # m3: the surface faces outwards


def write_tables(folder, tracks, people):
    tracks_csv.save(folder / result_folder.TRACKS, tracks)
    for person in people:
        person_npz.save(person_npz.path_of(folder, person.id), person)


def test_folder_is_finished_only_with_its_run(tmp_path, tracks, people):
    write_tables(tmp_path, tracks, people)
    with pytest.raises(TracksError, match="no finished result"):
        result_folder.load(tmp_path)
    record = make_record()
    journal.read(tmp_path).finish(record)
    saved = result_folder.load(tmp_path)
    assert [person.id for person in saved.people] == [1, 2]
    assert json.dumps(saved.record.to_json()) == json.dumps(record.to_json())
    person_npz.path_of(tmp_path, 2).unlink()
    with pytest.raises(TracksError, match="person_2"):
        result_folder.load(tmp_path)


def test_only_what_staf_wrote_is_tidied_away(tmp_path, tracks, people):
    write_tables(tmp_path, tracks, people)
    elsewhere = tmp_path.parent / "elsewhere"
    names = [
        *("overlay.mov", "person_2.npz", "landmarks_2.npz"),
        *("meshes/person_1/000001.obj", "meshes/person_1/000001.ply", "people.glb"),
    ]
    theirs = [
        *("overlay.srt", "person_notes.npz", "person_1_edited.npz", "notes/person_1/000001.obj"),
        *("meshes/hat.obj", "meshes/person_1/000001_edited.obj", "bvh/person_1.bvh"),
    ]
    for name in names + theirs:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (elsewhere / "person_1").mkdir(parents=True)
    (elsewhere / "person_1" / "000001.obj").write_text("another's")
    (tmp_path / "openpose").symlink_to(elsewhere / "person_1")
    recorded = {
        "obj": ["meshes/person_1/{000000..000001}.obj"],
        "ply": ["meshes/person_1/000001.ply"],
        "glb": ["people.glb"],
        "openpose": ["openpose/000001.obj"],
    }
    (tmp_path / "exports.json").write_text(json.dumps(recorded))
    result_folder.remove_outdated(tmp_path, ["tracks.csv", "person_1.npz"])
    exports.remove_all_but(tmp_path, ["ply"])
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    kept = {"tracks.csv", "person_1.npz", "meshes/person_1/000001.ply", "exports.json"}
    assert left == {*kept, *theirs}
    exports.remove_all_but(tmp_path, [])
    assert not (tmp_path / "meshes" / "person_1" / "000001.ply").exists()
    assert not (tmp_path / "exports.json").exists()
    assert (elsewhere / "person_1" / "000001.obj").exists()
