"""Exports in the world: where people stand, and that the camera in them still sees what it saw."""

import csv
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation

from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import UsageError
from staf_cli.core.records import Track
from staf_cli.export import FORMATS, Scene, glb
from staf_cli.export.motion import rest_pose
from staf_cli.pipeline.options import ExportOptions, check_exports
from staf_cli.world.options import WorldOptions
from staf_cli.world.placing import place_in_world
from tests.export.test_exports import bvh_joints
from tests.support.gltf_rules import check_gltf
from tests.support.made_walks import body, filmed, looking, moving_camera, walk

FRAMES = 45
MILLIMETRE = 1e-3


def scene_of(people):
    frames = range(int(people[0].frame[-1]) + 1)
    return Scene([_track(one) for one in people], people, body(), frames, space="world")


def _track(person):
    count = len(person.frame)
    return Track(
        id=person.id,
        frame=person.frame,
        time=person.time,
        box=np.tile([0.0, 0, 100, 200], (count, 1)),
        score=np.ones(count),
        interpolated=np.zeros(count, bool),
        kp2d=np.zeros((count, 17, 3)),
    )


@pytest.fixture(scope="module")
def scene():
    """Two people before a still camera that looks down."""
    axes, place = looking(15, 2, 2.0)
    made = [walk(FRAMES / 30, 0.6, (-1, -7)), walk(FRAMES / 30, 2.0, (1, -6))]
    people = [filmed(one, axes, place, n + 1) for n, one in enumerate(made)]
    camera = still_camera(np.arange(FRAMES))
    return scene_of(place_in_world(people, [None] * len(people), body(), camera, WorldOptions()))


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    place = tmp_path_factory.mktemp("world")
    for name in ("amass", "bvh", "csv", "glb"):
        assert list(FORMATS[name].write(place, scene))
    return place


def node_path(gltf, name):
    """A node's places and rotations by its animation; where it has none, its own."""
    number = [node.name for node in gltf.nodes].index(name)
    node, found = gltf.nodes[number], {}
    for channel in gltf.animations[0].channels:
        if channel.target.node == number:
            sampler = gltf.animations[0].samplers[channel.sampler]
            found[channel.target.path] = _accessor(gltf, sampler.output)
    places = found.get("translation", np.array([node.translation]))
    return places, Rotation.from_quat(found.get("rotation", np.array([node.rotation])))


def _accessor(gltf, number):
    accessor = gltf.accessors[number]
    view = gltf.bufferViews[accessor.bufferView]
    columns = {"VEC3": 3, "VEC4": 4}[accessor.type]
    data = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.frombuffer(data, np.float32).reshape(-1, columns).astype(float)


def test_glb_has_people_on_the_ground_and_the_camera_above_it(folder, scene):
    check_gltf(folder / "people.glb")
    gltf = pygltflib.GLTF2().load_binary(str(folder / "people.glb"))
    for skin, person in zip(gltf.skins, scene.people, strict=True):
        places = _pelvis(gltf, skin)
        assert np.abs(places - person.world_joints3d[:, 0]).max() < MILLIMETRE
    (place,), turn = node_path(gltf, "camera")
    assert place == pytest.approx(scene.people[0].world_camera[0, :, 3], abs=1e-5)
    down = np.degrees(np.arcsin(-turn.apply([0, 0, -1])[0, 1]))
    assert down == pytest.approx(15, abs=2)


def _pelvis(gltf, skin):
    return node_path_of(gltf, skin.joints[0])


def node_path_of(gltf, number):
    for channel in gltf.animations[0].channels:
        if channel.target.node == number and channel.target.path == "translation":
            return _accessor(gltf, gltf.animations[0].samplers[channel.sampler].output)
    raise AssertionError("does not move")


@pytest.mark.parametrize("moves", [False, True])
def test_the_camera_in_the_glb_sees_people_where_they_were_filmed(moves, tmp_path):
    axes, place = looking(8, 0, 1.6)
    pan = Rotation.from_rotvec(np.linspace(0.2, -0.2, FRAMES)[:, None] * [0, 1, 0]).as_matrix()
    axes = pan @ axes if moves else np.tile(axes, (FRAMES, 1, 1))
    places = place + np.linspace(0, moves, FRAMES)[:, None] * [0.5, 0, 0]
    person = filmed(walk(FRAMES / 30, 0.6, (-1, -7)), axes, places)
    camera = moving_camera(axes, places)
    found = place_in_world([person], [None], body(), camera, WorldOptions(lock_feet=False))
    list(glb.write(tmp_path, scene_of(found)))
    check_gltf(tmp_path / "people.glb")
    gltf = pygltflib.GLTF2().load_binary(str(tmp_path / "people.glb"))
    where, turn = node_path(gltf, "camera")
    assert len(where) == (FRAMES if moves else 1)
    seen = turn.inv().apply(_pelvis(gltf, gltf.skins[0]) - where) * [1, -1, -1]
    pixels = seen[:, :2] / seen[:, 2:] * person.focal_length + np.array(person.image_size) / 2
    assert np.abs(pixels - person.joints2d[:, 0]).max() < 0.1


def test_root_motion_is_on_the_ground(scene, tmp_path):
    list(glb.write(tmp_path, replace(scene, root_motion=True)))
    gltf = pygltflib.GLTF2().load_binary(str(tmp_path / "people.glb"))
    assert np.abs(node_path_of(gltf, gltf.skins[0].joints[0])[:, 1]).max() == 0


def test_bvh_and_amass_are_in_the_world(folder, scene):
    for person in scene.people:
        places, _ = bvh_joints(folder / "bvh" / f"person_{person.id}.bvh")
        assert np.abs(places - person.world_joints3d).max() < MILLIMETRE
        _, rest = rest_pose(body(), np.zeros(10))
        with np.load(folder / "amass" / f"person_{person.id}_smplh.npz") as arrays:
            pelvis = arrays["trans"] + rest[0]
        x, y, z = person.world_joints3d[:, 0].T
        assert np.abs(pelvis - np.stack([x, -z, y], 1)).max() < MILLIMETRE


def test_csv_has_the_world_and_the_contacts(folder, scene, tmp_path):
    def read(path):
        with (path / "joints.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    row = next(one for one in read(folder) if (one["frame"], one["joint"]) == ("3", "left_foot"))
    person = scene.people[0]
    place = [float(row[axis]) for axis in "xyz"]
    assert place == pytest.approx(person.world_joints3d[3, 10], abs=1e-5)
    assert float(row["contact"]) == pytest.approx(person.world_contacts[3, 1], abs=1e-3)
    assert next(one for one in read(folder) if one["joint"] == "head")["contact"] == ""
    list(FORMATS["csv"].write(tmp_path, replace(scene, space="camera")))
    row = next(one for one in read(tmp_path) if (one["frame"], one["joint"]) == ("3", "left_foot"))
    assert [float(row[axis]) for axis in "xyz"] == pytest.approx(person.joints3d[3, 10], abs=1e-5)


def test_a_world_that_is_not_known_is_not_written(scene):
    bare = [replace(one, world_poses=None) for one in scene.people]
    with pytest.raises(ValueError, match="not placed in the world"):
        replace(scene, people=bare)
    with pytest.raises(UsageError, match="space"):
        check_exports(["glb"], ExportOptions(space="moon"))  # type: ignore[arg-type]
