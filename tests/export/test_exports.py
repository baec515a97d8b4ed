"""Exports are read back by other readers than the code that wrote them.

glTF by pygltflib, skinned here in numpy; BVH by bvhio, which has its own forward kinematics;
AMASS by numpy with the checks of its readers; PLY, OBJ, CSV and JSON from their definitions.
"""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import bvhio
import numpy as np
import pygltflib
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.clothes import tones_of
from staf_cli.body.format import SMPL_PARENTS, body_arrays
from staf_cli.body.posing import vertices, with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.camera_motion import still_camera
from staf_cli.core.errors import UsageError
from staf_cli.core.palette import person_colour
from staf_cli.core.records import Clip
from staf_cli.export import FORMATS, Scene, bvh, glb
from staf_cli.export.motion import JOINT_NAMES, motion_of, resample
from staf_cli.export.seams import split_at_seams
from staf_cli.pipeline.options import EXPORT_FORMATS
from tests.support.gltf_rules import check_gltf
from tests.support.made_people import make_person, make_track, open_body

FPS = 29.97
FRAMES = 25
CLIP = Clip(Path("clip.mp4"), 640, 480, FPS, Fraction(1, 30000), FRAMES, False)
MILLIMETRE = 1e-3
ELBOW, WRIST = JOINT_NAMES.index("left_elbow"), JOINT_NAMES.index("left_wrist")


def y_up(points):
    """The camera looks along -z and y points up, as in glTF."""
    return points * [1, -1, -1]


def z_up(points):
    """Blender's axes: what is far from the camera has a large y, what is high a large z."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x, z, -y], -1)


def make_scene(body: Body) -> Scene:
    """A person with a gap and a changing shape, a late one with uneven times, one who spins."""
    one = make_track(1, 12)
    kept = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    names = ("frame", "time", "box", "score", "interpolated", "kp2d")
    columns = {name: getattr(one, name)[kept] for name in names}
    uneven = np.random.default_rng(5).uniform(-0.012, 0.012, 14)
    tracks = [replace(one, **columns), make_track(2, 14, seed=1), make_track(3, FRAMES, seed=2)]
    tracks[2] = replace(tracks[2], frame=np.arange(FRAMES))
    tracks = [replace(track, time=track.frame / FPS) for track in tracks]
    tracks[1] = replace(tracks[1], time=tracks[1].time + uneven)
    people = [make_person(track, body, CLIP) for track in tracks]

    changing = people[0].betas + np.linspace(-0.5, 0.5, len(kept))[:, None]
    people[0] = _moved(people[0], body, betas=changing)
    spin = Rotation.from_euler("y", np.linspace(0, 800, FRAMES)[:, None], degrees=True)
    poses = people[2].poses.copy()
    poses[:, :3] = (Rotation.from_rotvec([np.pi, 0, 0]) * spin).as_rotvec()
    people[2] = _moved(people[2], body, poses=poses)
    still = still_camera(np.arange(FRAMES))
    angles = np.linspace([0, 0, 0], [40, 10, -5], FRAMES)
    turned = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    camera = replace(still, rotation=turned, moving=True)
    return Scene(tracks, people, body, range(FRAMES), camera=camera)


def _moved(person, body, poses=None, betas=None):
    poses = person.poses if poses is None else poses
    betas = person.betas if betas is None else betas
    rotmats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    parts = (torch.from_numpy(part) for part in (rotmats, betas, person.trans))
    return with_parameters(person, body, *parts)


@pytest.fixture(scope="module")
def body():
    """The open body, its pelvis as far from the origin as SMPL's: what turns, turns there."""
    arrays = open_body().arrays
    away = np.array([0, -0.22, 0.03], np.float32)
    return Body("away", replace(arrays, v_template=arrays.v_template + away))


@pytest.fixture(scope="module")
def scene(body):
    return make_scene(body)


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    """A result folder with every format."""
    place = tmp_path_factory.mktemp("exports")
    for form in FORMATS.values():
        assert list(form.write(place, scene))
    return place


def posed(person, body, betas, hands=True):
    """Vertices and joints (F, ., 3) in one shape, the pelvis where it was recovered."""
    rotmats = Rotation.from_rotvec(person.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    if not hands:
        rotmats[:, 22:] = np.eye(3)
    shape = torch.from_numpy(np.tile(betas, (len(rotmats), 1))).float()
    mesh, joints = body(torch.from_numpy(rotmats).float(), shape)
    shift = person.joints3d[:, :1] - joints.numpy()[:, :1]
    return mesh.numpy() + shift, joints.numpy() + shift


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_those_that_were_announced(name, scene, folder, tmp_path):
    """And the same again, byte for byte, when they are written again."""
    form = FORMATS[name]
    written = list(form.write(tmp_path, scene))
    assert [path.relative_to(tmp_path).as_posix() for path in written] == form.names(scene)
    everything = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert everything == sorted(written) == sorted(tmp_path.glob(form.files))
    for path in written:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_scene_refuses_what_does_not_belong_together(scene, body):
    with pytest.raises(ValueError, match="is not that of person"):
        Scene(scene.tracks[::-1], scene.people, body, range(FRAMES))
    with pytest.raises(ValueError, match="not within"):
        Scene(scene.tracks, scene.people, body, range(20))


@pytest.mark.parametrize(("model", "numbers"), [("smplh", 156), ("smplx", 165)])
def test_amass_has_what_its_readers_ask_for(folder, scene, body, model, numbers):
    for person in scene.people:
        path = folder / "amass" / f"person_{person.id}_{model}.npz"
        with np.load(path, allow_pickle=False) as archive:
            data = dict(archive)
        # Blender's SMPL-X add-on: these keys, str(gender), int(rate), a row of 55 joints a frame
        assert {"trans", "gender", "mocap_frame_rate", "betas", "poses"} <= data.keys()
        assert str(data["gender"]) == "neutral"
        assert data["gender"].shape == ()
        assert int(data["mocap_frame_rate"]) == 30
        # aitviewer's SMPLSequence.from_amass: this spelling, tolist() a number, betas 1-D
        assert data["mocap_framerate"].tolist() == 30
        assert data["betas"].shape == (10,)
        assert data["fps_exact"] == FPS
        assert all(data[key].dtype == np.float64 for key in data.keys() - {"gender"})
        frames = len(data["poses"])
        assert data["poses"].shape == (frames, numbers)
        assert data["trans"].shape == (frames, 3)
        assert not data["poses"][:, 66:].any()
        assert np.abs(np.diff(data["time"]) - 1 / FPS).max() < 1e-9

        if person.id == 2:  # its times are uneven: the rows are between its frames
            continue
        mesh = _amass_mesh(data, body)[person.frame - person.frame[0]]
        want = z_up(posed(person, body, data["betas"], hands=False)[0])
        assert np.abs(mesh - want).max() < MILLIMETRE


def _amass_mesh(data, body):
    """What a reader with our body would draw: SMPL(poses, betas) + trans."""
    poses = np.zeros((len(data["poses"]), 72))
    poses[:, :66] = data["poses"][:, :66]
    rotmats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    betas = np.tile(data["betas"], (len(poses), 1))
    mesh, _ = body(torch.from_numpy(rotmats).float(), torch.from_numpy(betas).float())
    return mesh.numpy() + data["trans"][:, None]


def test_amass_keeps_the_shape_for_bodies_that_share_it(scene, body, tmp_path):
    """A body of SMPL's size has SMPL's shapes; trans fits the body in just this shape."""
    arrays, most = body.arrays, 6890
    regressor = arrays.J_regressor[:, :most]
    smpl = replace(
        arrays,
        v_template=arrays.v_template[:most],
        shapedirs=arrays.shapedirs[:most],
        posedirs=arrays.posedirs[:most],
        J_regressor=regressor / regressor.sum(1, keepdims=True),
        weights=arrays.weights[:most],
        faces=arrays.faces[(arrays.faces < most).all(1)],
        sample_index=None,
        sample_weight=None,
        coco17_regressor=None,
        lsp14_regressor=None,
        uv=None,
        uv_faces=None,
    )
    like_smpl = Body("like-smpl", smpl)
    person = _moved(scene.people[2], like_smpl)
    list(
        FORMATS["amass"].write(
            tmp_path, Scene([scene.tracks[2]], [person], like_smpl, range(FRAMES))
        )
    )
    of_smplh, of_smplx = (dict(np.load(path)) for path in sorted(tmp_path.glob("amass/*")))
    assert np.abs(of_smplh["betas"] - person.betas[0]).max() < 1e-6
    assert np.abs(of_smplh["betas"]).max() > 0.5
    assert not of_smplx["betas"].any()
    want = z_up(
        vertices(replace(person, poses=_without_hands(person.poses)), like_smpl, slice(0, 25))
    )
    assert np.abs(_amass_mesh(of_smplh, like_smpl) - want).max() < MILLIMETRE


def _without_hands(poses):
    straight = poses.copy()
    straight[:, 66:] = 0
    return straight


@pytest.fixture(scope="module")
def gltf(folder):
    return pygltflib.GLTF2().load_binary(str(folder / "people.glb"))


def accessor(gltf, number):
    """The numbers behind an accessor, (N,) or (N, columns)."""
    table = gltf.accessors[number]
    view = gltf.bufferViews[table.bufferView]
    dtype = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}[table.componentType]
    columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[table.type]
    start = view.byteOffset + (table.byteOffset or 0)
    flat = np.frombuffer(gltf.binary_blob(), dtype, table.count * columns, start)
    if table.min:
        rows = flat.reshape(table.count, -1)
        assert np.array_equal(rows.min(0), np.float32(table.min))
        assert np.array_equal(rows.max(0), np.float32(table.max))
    return flat.reshape(table.count, columns) if columns > 1 else flat


def node_number(gltf, name):
    (number,) = [i for i, node in enumerate(gltf.nodes) if node.name == name]
    return number


def channels(gltf, node):
    """{path: (times, values, interpolation)} of a node."""
    (animation,) = gltf.animations
    found = {}
    for channel in animation.channels:
        if channel.target.node == node:
            sampler = animation.samplers[channel.sampler]
            times, values = (accessor(gltf, n) for n in (sampler.input, sampler.output))
            assert len(times) == len(values)
            assert (np.diff(times) > 0).all()
            assert gltf.accessors[sampler.input].min  # glTF asks for the bounds of times
            found[channel.target.path] = (times, values, sampler.interpolation)
    return found


def skinned(gltf, name):
    """Key times (F,) and vertices (F, V, 3) of a person, by the definition of glTF's skins."""
    mesh = node_number(gltf, f"{name}_body")
    skin = gltf.skins[gltf.nodes[mesh].skin]
    assert gltf.nodes[skin.skeleton].name == name
    parents = {child: i for i in skin.joints for child in gltf.nodes[i].children or ()}
    matrices: dict[int, np.ndarray] = {}
    for joint in skin.joints:  # parents come before children
        moves = channels(gltf, joint)
        times, turns, how = moves["rotation"]
        assert how == "LINEAR"
        assert np.abs(np.linalg.norm(turns, axis=1) - 1).max() < 1e-5
        assert (turns[1:] * turns[:-1]).sum(1).min() >= 0  # no program goes the long way round
        local = np.tile(np.eye(4), (len(times), 1, 1))
        local[:, :3, :3] = Rotation.from_quat(turns).as_matrix()
        local[:, :3, 3] = gltf.nodes[joint].translation
        if "translation" in moves:
            local[:, :3, 3] = moves["translation"][1]
        above = parents.get(joint)
        matrices[joint] = local if above is None else matrices[above] @ local
    inverse = accessor(gltf, skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    moved = np.stack([matrices[joint] for joint in skin.joints], 1) @ inverse
    (primitive,) = gltf.meshes[gltf.nodes[mesh].mesh].primitives
    points, joints, weights = (
        accessor(gltf, getattr(primitive.attributes, part))
        for part in ("POSITION", "JOINTS_0", "WEIGHTS_0")
    )
    assert gltf.accessors[primitive.attributes.POSITION].min  # and of places
    assert np.abs(weights.sum(1) - 1).max() < 1e-5
    blend = (moved[:, joints] * weights[None, :, :, None, None]).sum(2)
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
    everything = (blend @ homogeneous[:, :, None])[..., :3, 0]
    original = originals(points)
    assert np.array_equal(everything, everything[:, original])  # copies stay at the seams
    return times, everything[:, original == np.arange(len(points))]


def originals(points):
    """For each of the points (C, 3) the first one that is at the same place."""
    _, first, place = np.unique(points, axis=0, return_index=True, return_inverse=True)
    return first[place.ravel()]


def test_glb_moves_all_people_as_recovered(gltf, scene, body):
    for person in scene.people:
        times, mesh = skinned(gltf, f"person_{person.id}")
        assert np.array_equal(times, np.float32(person.time))
        want = y_up(posed(person, body, person.betas.mean(0))[0])
        assert np.abs(mesh - want).max() < MILLIMETRE
    constant_shape = y_up(vertices(scene.people[2], body, slice(None)))
    assert np.abs(mesh - constant_shape).max() < MILLIMETRE


def test_glb_has_named_joints_and_a_closed_skin(gltf, scene, body):
    assert [gltf.nodes[i].name for i in gltf.scenes[0].nodes] == [
        "camera",
        *("person_1", "person_1_body", "person_2", "person_2_body", "person_3", "person_3_body"),
    ]
    for skin in gltf.skins:
        assert [gltf.nodes[joint].name for joint in skin.joints] == list(JOINT_NAMES)
    (primitive,) = gltf.meshes[0].primitives
    faces = accessor(gltf, primitive.indices).reshape(-1, 3)
    points, normals = (
        accessor(gltf, getattr(primitive.attributes, part)) for part in ("POSITION", "NORMAL")
    )
    original = originals(points)
    assert np.array_equal(original[faces], body.faces)
    assert np.array_equal(original[: len(body.arrays.v_template)], np.arange(6900))
    assert np.array_equal(normals, normals[original])  # no seam is seen
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-5
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    outward = np.cross(b - a, c - a)
    agree = (outward * normals[faces[:, 0]]).sum(1) > 0
    assert agree.mean() > 0.99


def test_glb_shows_people_only_while_they_are_there(gltf, scene):
    for person in scene.people:
        pelvis = channels(gltf, gltf.skins[person.id - 1].joints[0])
        if person.id == 3:  # from the first frame to the last
            assert "scale" not in pelvis
            continue
        moments, scales, how = pelvis["scale"]
        assert how == "STEP"
        assert (scales == scales[:, :1]).all()
        there = dict(
            zip(person.frame.tolist(), person.time.astype(np.float32).tolist(), strict=True)
        )
        for frame in range(FRAMES):
            now = there.get(frame, np.float32((frame + 0.5) / FPS))  # in no doubt: between frames
            shown = scales[np.searchsorted(moments, now, "right") - 1, 0]
            assert shown == (frame in there), (person.id, frame)


def test_glb_camera_sees_the_image(gltf, scene):
    view = gltf.cameras[0].perspective
    for person in scene.people:
        x, y, z = np.moveaxis(y_up(person.joints3d), -1, 0)
        up = y / -z / np.tan(view.yfov / 2)
        right = x / -z / np.tan(view.yfov / 2) / view.aspectRatio
        pixels = np.stack([(1 + right) * 320, (1 - up) * 240], -1)
        assert np.abs(pixels - person.joints2d).max() < 0.01


def test_glb_leaves_pose_dependent_shape_out(scene, body, folder, tmp_path):
    swelling = np.full_like(body.arrays.posedirs, 0.01)
    other = Body("swelling", replace(body.arrays, posedirs=swelling))
    list(glb.write(tmp_path, replace(scene, body=other)))
    assert (tmp_path / "people.glb").read_bytes() == (folder / "people.glb").read_bytes()


def test_glb_places_a_texture_as_the_body_does(gltf, body):
    """Each corner of each triangle, v from the upper edge; copies are few."""
    for mesh in gltf.meshes:
        (primitive,) = mesh.primitives
        corners = accessor(gltf, primitive.indices).reshape(-1, 3)
        uv = accessor(gltf, primitive.attributes.TEXCOORD_0)
        want = body.arrays.uv[body.arrays.uv_faces]
        assert np.abs(uv[corners] - np.stack([want[..., 0], 1 - want[..., 1]], -1)).max() < 1e-6
        assert 6900 < len(uv) < 7600


def test_seams_of_any_body_are_split():
    """Vertex 3 is in no face, vertex 1 on a seam; two vertices share a row."""
    faces = np.array([[0, 1, 2], [2, 1, 4]])
    uv = np.arange(10, dtype=np.float32).reshape(5, 2)
    rows = np.array([[0, 1, 2], [2, 4, 0]])
    arrays = body_arrays(
        {
            "v_template": np.zeros((5, 3)),
            "shapedirs": np.zeros((5, 3, 10)),
            "J_regressor": np.zeros((24, 5)),
            "weights": np.eye(5, 24),
            "parents": np.array(SMPL_PARENTS),
            "faces": faces,
            "uv": uv,
            "uv_faces": rows,
        }
    )
    corners = split_at_seams(arrays)
    assert corners.vertex.tolist() == [0, 1, 2, 3, 4, 1]
    assert np.array_equal(corners.vertex[corners.faces], faces)
    assert corners.uv is not None
    assert np.array_equal(corners.uv[corners.faces], uv[rows])
    plain = split_at_seams(replace(arrays, uv=None, uv_faces=None))
    assert plain.uv is None
    assert np.array_equal(plain.faces, faces)


def test_glb_people_have_the_colours_of_the_overlay(gltf):
    for person, (material, mesh) in enumerate(zip(gltf.materials, gltf.meshes, strict=True), 1):
        assert mesh.primitives[0].material == person - 1
        *linear, alpha = material.pbrMetallicRoughness.baseColorFactor
        encoded = 1.055 * np.array(linear) ** (1 / 2.4) - 0.055  # sRGB, IEC 61966-2-1
        assert np.abs(encoded * 255 - person_colour(person)).max() < 0.2
        assert alpha == 1


def test_glb_people_wear_clothes_unless_they_shall_not(scene, body, gltf, tmp_path):
    found = tones_of(body.arrays)
    assert found is not None
    tones = found[split_at_seams(body.arrays).vertex]
    (shared,) = {mesh.primitives[0].attributes.COLOR_0 for mesh in gltf.meshes}
    assert gltf.accessors[shared].normalized
    colours = accessor(gltf, shared) / 255
    assert np.abs(colours[:, :3] - tones[:, None]).max() < 0.003
    assert (colours[:, 3] == 1).all()
    bent = replace(body.arrays, v_template=body.arrays.v_template[:, ::-1].copy())
    for part in (replace(scene, clothes=False), replace(scene, body=Body("bent", bent))):
        list(glb.write(tmp_path, part))
        document = check_gltf(tmp_path / "people.glb")
        for mesh in document["meshes"]:
            assert "COLOR_0" not in mesh["primitives"][0]["attributes"]


@pytest.fixture(scope="module")
def rooted(scene, tmp_path_factory):
    """The glb with root motion."""
    place = tmp_path_factory.mktemp("rooted")
    list(glb.write(place, replace(scene, root_motion=True)))
    return place / "people.glb"


def test_glb_with_root_motion_moves_people_alike(rooted, scene, body):
    gltf = pygltflib.GLTF2().load_binary(str(rooted))
    for skin, person in zip(gltf.skins, scene.people, strict=True):
        assert [gltf.nodes[joint].name for joint in skin.joints] == ["root", *JOINT_NAMES]
        _, mesh = skinned(gltf, f"person_{person.id}")
        want = y_up(posed(person, body, person.betas.mean(0))[0])
        assert np.abs(mesh - want).max() < MILLIMETRE / 10
        root, pelvis = (channels(gltf, joint) for joint in skin.joints[:2])
        places, turns = root["translation"][1], Rotation.from_quat(root["rotation"][1])
        assert np.ptp(places[:, 1]) == 0
        assert np.abs(places[:, [0, 2]] - y_up(person.joints3d)[:, 0, [0, 2]]).max() < 1e-5
        assert np.abs(turns.apply([0, 1, 0]) - [0, 1, 0]).max() < 1e-6  # upright
        assert np.abs(pelvis["translation"][1][:, [0, 2]]).max() < 1e-6
        soles = want[..., 1].min(1)
        assert np.abs(np.median(soles) - places[0, 1]) < 0.06
    spin = Rotation.from_quat(channels(gltf, gltf.skins[2].joints[0])["rotation"][1])
    steps = (spin[:-1].inv() * spin[1:]).as_rotvec(degrees=True)
    assert np.abs(np.abs(steps) - [0, 800 / (FRAMES - 1), 0]).max() < 1e-3


def test_root_motion_of_people_who_lie_or_stand_on_their_hands(scene, body, tmp_path):
    """Whichever way the pelvis points, the body is where it was."""
    person = scene.people[2]
    poses = person.poses.copy()
    poses[:, :3] = Rotation.random(FRAMES, 3).as_rotvec()
    poses[5, :3] = 0  # upside down: y of the camera points down
    person = _moved(person, body, poses=poses)
    list(glb.write(tmp_path, Scene(scene.tracks[2:], [person], body, range(FRAMES), True)))
    check_gltf(tmp_path / "people.glb")
    gltf = pygltflib.GLTF2().load_binary(str(tmp_path / "people.glb"))
    want = y_up(posed(person, body, person.betas.mean(0))[0])
    assert np.abs(skinned(gltf, "person_3")[1] - want).max() < MILLIMETRE / 10


def test_glb_keeps_the_rules_of_gltf(folder, rooted, scene, body, tmp_path):
    """Also without texture, of a single frame, and so late that float32 merges times."""
    check_gltf(folder / "people.glb")
    check_gltf(rooted)
    bare = Body("bare", replace(body.arrays, uv=None, uv_faces=None))
    tracks, person = scene.tracks[2:], scene.people[2]
    names = ("frame", "time", "betas", "trans", "pred_cam", "box", "joints3d", "joints2d", "score")
    first = {name: getattr(person, name)[:1] for name in (*names, "poses", "interpolated")}
    once = replace(
        tracks[0],
        **{
            name: getattr(tracks[0], name)[:1]
            for name in ("frame", "time", "box", "score", "interpolated", "kp2d")
        },
    )
    late = replace(person, time=person.time / 50 + 40_000)
    for part in (
        Scene(tracks, [person], bare, range(FRAMES)),
        Scene([once], [replace(person, **first)], body, range(FRAMES)),
        Scene(tracks, [late], body, range(FRAMES + 1)),
    ):
        list(glb.write(tmp_path, part))
        document = check_gltf(tmp_path / "people.glb")
        (primitive,) = document["meshes"][0]["primitives"]
        assert ("TEXCOORD_0" in primitive["attributes"]) == (part.body is body)


def bvh_joints(path):
    """bvhio's places of all joints, (F, 24, 3) m, in SMPL's order; and its raw table."""
    table = bvhio.readAsBvh(str(path))
    root = bvhio.readAsHierarchy(str(path))
    places = []
    for frame in range(table.FrameCount):
        found = {
            joint.Name: np.array(joint.PositionWorld) for joint, *_ in root.loadPose(frame).layout()
        }
        places.append([found[name] for name in JOINT_NAMES])
    assert len(found) == len(JOINT_NAMES)
    return np.array(places) / 100, table


def test_bvh_moves_the_joints_as_recovered(folder, scene, body):
    for person in scene.people:
        places, table = bvh_joints(folder / "bvh" / f"person_{person.id}.bvh")
        assert table.FrameTime == pytest.approx(1 / FPS, abs=1e-7)
        if person.id == 2:
            continue
        rows = person.frame - person.frame[0]
        assert len(places) == rows[-1] + 1
        want = y_up(posed(person, body, person.betas.mean(0))[1])
        assert np.abs(places[rows] - want).max() < MILLIMETRE


@pytest.mark.parametrize("rig", ["mixamo", "unreal"])
def test_a_rig_has_its_own_names_and_moves_alike(rig, folder, scene, tmp_path):
    """Hierarchies as of Mixamo's skeleton and of Unreal's Mannequin; rest is the T-pose."""
    above = {
        "mixamo": "Hips Spine Spine1 Spine2 Neck Head, Spine2 LeftShoulder LeftArm LeftForeArm "
        "LeftHand LeftHandMiddle1, Hips LeftUpLeg LeftLeg LeftFoot LeftToeBase",
        "unreal": "pelvis spine_01 spine_02 spine_03 neck_01 head, spine_03 clavicle_l upperarm_l "
        "lowerarm_l hand_l middle_01_l, pelvis thigh_l calf_l foot_l ball_l",
    }[rig]
    chains = [chain.split() for chain in above.split(", ")]
    chains += [[_right(name) for name in chain] for chain in chains]
    if rig == "mixamo":
        chains = [[f"mixamorig:{name}" for name in chain] for chain in chains]
    wanted = {pair for chain in chains for pair in pairwise(chain)}
    other = replace(scene, rig=rig)
    list(FORMATS["bvh"].write(tmp_path, other))
    list(FORMATS["glb"].write(tmp_path, other))

    gltf = pygltflib.GLTF2().load_binary(str(tmp_path / "people.glb"))
    plain = pygltflib.GLTF2().load_binary(str(folder / "people.glb"))
    for skin, person in zip(gltf.skins, scene.people, strict=True):
        nodes = [gltf.nodes[joint] for joint in skin.joints]
        pairs = {
            (node.name, gltf.nodes[child].name) for node in nodes for child in node.children or ()
        }
        assert pairs == wanted
        places = _joints_of(gltf, skin)
        assert np.abs(places - _joints_of(plain, skin)).max() == 0
        want = y_up(posed(person, scene.body, person.betas.mean(0))[1])
        assert np.abs(places - want).max() < 5e-6  # of float32, at 5 m
    arm = np.array([node.translation for node in nodes])[[18, 20, 22]]
    assert (np.abs(arm[:, 1:]).max(1) < 0.01 * arm[:, 0]).all()  # to the side, within 0.6 degrees
    assert gltf.binary_blob() == plain.binary_blob()

    for person in scene.people:
        name = f"bvh/person_{person.id}.bvh"
        lines, others = ((place / name).read_text().splitlines() for place in (folder, tmp_path))
        changed = [(a, b) for a, b in zip(lines, others, strict=True) if a != b]
        assert all(a.split()[0] in ("ROOT", "JOINT") for a, _ in changed)
        root = bvhio.readAsHierarchy(str(tmp_path / name))
        joints = [joint for joint, *_ in root.layout()]
        assert {(joint.Parent.Name, joint.Name) for joint in joints if joint.Parent} == wanted


def _right(name):
    return name.replace("Left", "Right").removesuffix("_l") + ("_r" if name.endswith("_l") else "")


def _joints_of(gltf, skin):
    """Places of a skin's joints (F, J, 3), by the definition of glTF's nodes."""
    parents = {child: i for i in skin.joints for child in gltf.nodes[i].children or ()}
    turned: dict[int, np.ndarray] = {}
    places: dict[int, np.ndarray] = {}
    for joint in skin.joints:
        moves = channels(gltf, joint)
        turn = Rotation.from_quat(moves["rotation"][1]).as_matrix()
        place = np.tile(gltf.nodes[joint].translation, (len(turn), 1))
        if "translation" in moves:
            place = moves["translation"][1].astype(float)
        if joint in parents:
            above = parents[joint]
            place = places[above] + (turned[above] @ place[..., None])[..., 0]
            turn = turned[above] @ turn
        turned[joint], places[joint] = turn, place
    return np.stack([places[joint] for joint in skin.joints], 1)


def test_bvh_of_uneven_times_is_resampled(folder, scene, body):
    """Against every joint's own shortest turn, computed at each moment by powers of a rotation."""
    person = scene.people[1]
    places, _ = bvh_joints(folder / "bvh" / "person_2.bvh")
    assert len(places) == round((person.time[-1] - person.time[0]) * FPS) + 1
    moment = min(person.time[0] + 6 / FPS, person.time[-1])
    after = int(np.searchsorted(person.time, moment))
    share = (moment - person.time[after - 1]) / (person.time[after] - person.time[after - 1])
    before, then = (
        Rotation.from_rotvec(person.poses[row].reshape(24, 3)) for row in (after - 1, after)
    )
    poses = (before * (before.inv() * then) ** share).as_rotvec().reshape(1, 72)
    pelvis = (1 - share) * person.joints3d[after - 1, 0] + share * person.joints3d[after, 0]
    names = ("frame", "time", "betas", "trans", "pred_cam", "box", "joints3d", "joints2d", "score")
    first = {name: getattr(person, name)[:1] for name in (*names, "poses", "interpolated")}
    one = replace(person, **first)
    joints = one.joints3d.copy()
    joints[:, 0] = pelvis
    want = y_up(posed(replace(one, poses=poses, joints3d=joints), body, person.betas.mean(0))[1])
    assert 0.1 < share < 0.9
    assert np.abs(places[6] - want[0]).max() < MILLIMETRE


def test_bvh_bridges_gaps_evenly(folder, scene):
    """Frames 4 to 6 after the first are missing: the pelvis goes straight, joints turn evenly."""
    places, _ = bvh_joints(folder / "bvh" / "person_1.bvh")
    pelvis = places[3:8, 0]
    assert np.abs(np.diff(pelvis, axis=0, n=2)).max() < 1e-5
    filled = resample(motion_of(scene.people[0], np.eye(3)), FPS)
    turns = Rotation.from_matrix(filled.rotations[3:8, ELBOW])
    steps = (turns[:-1].inv() * turns[1:]).magnitude()
    assert steps[0] > 0.01
    assert np.ptp(steps) < 1e-6


def test_bvh_angles_never_jump(folder):
    """Programs draw curves through the angles: no step of more than half a turn."""
    lines = (folder / "bvh" / "person_3.bvh").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("Frame Time"))
    angles = np.array([line.split() for line in lines[start + 1 :]], float)[:, 3:]
    assert angles.shape == (FRAMES, 72)
    assert np.ptp(angles[:, 2]) > 700  # it does spin
    assert np.abs(np.diff(angles, axis=0)).max() < 180


def test_frames_that_come_evenly_are_kept(scene):
    """A container's rounding to milliseconds is no change of rate."""
    person = scene.people[2]
    rounded = replace(person, time=person.time.round(3))
    motion = motion_of(rounded, np.eye(3))
    assert resample(motion, FPS) is motion
    alone = replace(motion, time=motion.time[:1], rotations=motion.rotations[:1])
    assert resample(alone, FPS) is alone


def test_joints_table_says_how_sure_the_fit_is(tmp_path, scene):
    sure, unfitted, *others = scene.people
    unfitted = replace(unfitted, joint_sigma=None)
    sigma = np.linspace(0, 1, len(sure.frame) * 24, dtype=np.float32).reshape(-1, 24)
    people = [replace(sure, joint_sigma=sigma), unfitted, *others]
    list(FORMATS["csv"].write(tmp_path, replace(scene, people=people)))
    with (tmp_path / "joints.csv").open(newline="") as stream:
        column = [line["sigma"] for line in csv.DictReader(stream)]
    assert np.array(column[: sigma.size], float) == pytest.approx(sigma.ravel(), abs=1e-4)
    assert set(column[sigma.size :]) == {""}


def test_joints_table_has_what_was_recovered(folder, scene):
    with (folder / "joints.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    wanted = [
        (person, row, joint)
        for person in scene.people
        for row in range(len(person.frame))
        for joint in range(24)
    ]
    assert len(lines) == len(wanted)
    for line, (person, row, joint) in zip(lines, wanted, strict=True):
        assert (int(line["person"]), int(line["frame"])) == (person.id, person.frame[row])
        assert line["joint"] == JOINT_NAMES[joint]
        assert float(line["time"]) == pytest.approx(person.time[row], abs=1e-6)
        assert float(line["score"]) == pytest.approx(person.score[row], abs=1e-3)
        place = [float(line[name]) for name in "xyz"]
        assert np.abs(place - person.joints3d[row, joint]).max() < 1e-5
        pixel = [float(line[name]) for name in "uv"]
        assert np.abs(pixel - person.joints2d[row, joint]).max() < 1e-3


def test_camera_table_has_the_rotation_of_every_frame(folder, scene):
    with (folder / "camera.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    quaternions = [[float(row[name]) for name in ("qx", "qy", "qz", "qw")] for row in rows]
    read = Rotation.from_quat(quaternions).as_matrix()
    assert np.abs(read - scene.camera.rotation).max() < 1e-5
    assert [float(rows[-1][name]) for name in ("pan", "tilt", "roll")] == [40, 10, -5]
    right, up = read[-1] @ [0, 0, 1] @ [[1, 0], [0, -1], [0, 0]]
    assert right > 0 and up > 0  # where it looks, as pan and tilt say


def test_a_camera_of_which_nothing_is_known_is_not_written(scene):
    with pytest.raises(UsageError, match="run the clip with --camera auto"):
        FORMATS["camera"].names(replace(scene, camera=None))


def test_openpose_has_every_frame_and_its_own_order(folder, scene):
    files = sorted((folder / "openpose").iterdir())
    assert [path.name for path in files] == [
        f"frame_{frame:012d}_keypoints.json" for frame in range(FRAMES)
    ]
    frames = [json.loads(path.read_text())["people"] for path in files]
    seen = {
        frame: [person["person_id"][0] for person in people] for frame, people in enumerate(frames)
    }
    assert seen[0] == [3]
    assert seen[3] == [1, 3]
    assert seen[4] == [1, 3]
    assert seen[7] == [2, 3]  # person 1's gap
    assert seen[24] == [3]
    body_25 = np.reshape(frames[3][0]["pose_keypoints_2d"], (25, 3))
    coco = scene.tracks[0].kp2d[0]
    same = {0: 0, 2: 6, 3: 8, 4: 10, 5: 5, 6: 7, 7: 9, 9: 12, 10: 14, 11: 16}
    same |= {12: 11, 13: 13, 14: 15, 15: 2, 16: 1, 17: 4, 18: 3}
    for theirs, ours in same.items():
        assert np.abs(body_25[theirs] - coco[ours]).max() < 1e-3, theirs
    assert np.abs(body_25[1, :2] - (coco[5, :2] + coco[6, :2]) / 2).max() < 1e-3
    assert np.abs(body_25[8, :2] - (coco[11, :2] + coco[12, :2]) / 2).max() < 1e-3
    assert not body_25[19:].any()


def test_a_span_of_a_clip_keeps_the_clips_frames(scene, tmp_path):
    """Nobody in its first frame, and nothing before that."""
    span = replace(scene, tracks=scene.tracks[1:2], people=scene.people[1:2], frames=range(5, 22))
    written = list(FORMATS["openpose"].write(tmp_path, span))
    assert written[0].name == "frame_000000000005_keypoints.json"
    assert len(written) == len(FORMATS["openpose"].names(span)) == 17
    assert json.loads(written[0].read_text())["people"] == []
    assert json.loads(written[1].read_text())["people"][0]["person_id"] == [2]


def test_openpose_invents_nothing(scene, tmp_path):
    """Half-seen shoulders make no neck, bridged frames nobody, a detector of boxes an error."""
    track = scene.tracks[2]
    kp2d = track.kp2d.copy()
    kp2d[0, 5, 2] = 0
    kp2d[1, :, 2] = 0
    kp2d[2, 6, 2] = 0.25
    unsure = replace(scene, tracks=[replace(track, kp2d=kp2d)], people=[scene.people[2]])
    written = FORMATS["openpose"].write(tmp_path, unsure)
    first, second, third = (json.loads(next(written).read_text())["people"] for _ in range(3))
    keypoints = np.reshape(first[0]["pose_keypoints_2d"], (25, 3))
    assert not keypoints[1].any()
    assert not keypoints[5].any()
    assert keypoints[2].all()
    assert second == []
    assert np.reshape(third[0]["pose_keypoints_2d"], (25, 3))[1, 2] == 0.25
    blind = [replace(track, kp2d=np.zeros_like(track.kp2d)) for track in scene.tracks]
    with pytest.raises(UsageError, match="yolo11n-pose"):
        next(FORMATS["openpose"].write(tmp_path, replace(scene, tracks=blind)))


def read_obj(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    points = [words[1:] for words in lines if words[:1] == ["v"]]
    faces = [[word.split("/")[0] for word in words[1:]] for words in lines if words[:1] == ["f"]]
    return np.array(points, float), np.array(faces, int) - 1


def read_ply(path):
    header, _, data = path.read_bytes().partition(b"end_header\n")
    words = [line.split() for line in header.decode().splitlines()]
    assert ["format", "binary_little_endian", "1.0"] in words
    counts = {word[1]: int(word[2]) for word in words if word[0] == "element"}
    names = [word[-1] for word in words if word[0] == "property"]
    assert names == ["x", "y", "z", "vertex_indices"]
    points = np.frombuffer(data, "<f4", counts["vertex"] * 3).reshape(-1, 3)
    triangle = np.dtype([("corners", "u1"), ("index", "<i4", 3)])
    faces = np.frombuffer(data, triangle, counts["face"], points.nbytes)
    assert len(data) == points.nbytes + faces.nbytes
    assert (faces["corners"] == 3).all()
    return points, faces["index"]


@pytest.mark.parametrize(("suffix", "read"), [("obj", read_obj), ("ply", read_ply)])
def test_meshes_are_those_that_were_recovered(folder, scene, body, suffix, read):
    for person in scene.people:
        place = folder / "meshes" / f"person_{person.id}"
        for row in (0, len(person.frame) - 1):
            points, faces = read(place / f"{person.frame[row]:06d}.{suffix}")
            assert np.array_equal(faces, body.faces)
            want = y_up(vertices(person, body, slice(row, row + 1))[0])
            assert np.abs(points - want).max() < 2e-5


def test_all_formats_hold_the_same_people_and_frames(folder, gltf, scene):
    for person in scene.people:
        name, frames = f"person_{person.id}", person.frame.tolist()
        for suffix in ("obj", "ply"):
            stems = [int(path.stem) for path in (folder / "meshes" / name).glob(f"*.{suffix}")]
            assert sorted(stems) == frames
        assert len(skinned(gltf, name)[0]) == len(frames)
        whole = resample(motion_of(person, np.eye(3)), FPS)
        assert bvhio.readAsBvh(str(folder / "bvh" / f"{name}.bvh")).FrameCount == len(whole.time)
        with np.load(folder / "amass" / f"{name}_smplx.npz") as archive:
            assert np.array_equal(archive["time"], whole.time)
    assert len(list((folder / "bvh").iterdir())) == len(gltf.skins) == len(scene.people)
    assert len(bvh.names(scene)) == len(scene.people)


def test_help_names_the_formats_that_there_are():
    assert tuple(FORMATS) == EXPORT_FORMATS
