"""Joint angles of known poses, and the files of movement science read back by their definitions."""

import csv
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.core.records import Clip
from staf_cli.export import FORMATS, Scene
from staf_cli.export.anatomy import clinical_angles, continuous, euler
from staf_cli.export.markers import skin_markers
from staf_cli.export.mot import coordinates
from staf_cli.export.motion import JOINT_NAMES, Motion
from tests.support.made_people import make_person, make_track, open_body

FPS = 29.97
FRAMES = 14
CLIP = Clip(Path("clip.mp4"), 640, 480, FPS, Fraction(1, 30000), FRAMES, False)
FORWARD, UP, RIGHT = np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), np.array([-1.0, 0, 0])
BODY_AXES = np.stack([FORWARD, UP, RIGHT], 1)


def motion(**turns: Rotation) -> Motion:
    """One frame with the arms lowered to the sides, joints turned from there in the body's axes.

    A turn is that of the joint's own segment and all beyond it; for the trunk name `spine1`.
    """
    rotations = np.tile(np.eye(3), (1, 24, 1, 1))
    for side, sign in (("left", -1), ("right", 1)):
        lowered = Rotation.from_euler("z", sign * 90, degrees=True)
        shoulder = f"{side}_shoulder"
        rotations[0, JOINT_NAMES.index(shoulder)] = lowered.as_matrix()
        elbow = turns.pop(f"{side}_elbow", None)
        if elbow is not None:  # told in the body's axes with the arm hanging
            local = lowered.inv() * elbow * lowered
            rotations[0, JOINT_NAMES.index(f"{side}_elbow")] = local.as_matrix()
        if shoulder in turns:
            turns[shoulder] *= lowered
    for name, turn in turns.items():
        rotations[0, JOINT_NAMES.index(name)] = turn.as_matrix()
    return Motion(np.zeros(1), rotations, np.zeros((1, 3)))


def about(axis, degrees):
    return Rotation.from_rotvec(axis * np.radians(degrees))


# What moves which way: (joint, axis, turn in degrees) of the right side, and the angle it is.
MOVES = [
    ("pelvis", RIGHT, -20, "pelvis_tilt", 20),  # the upper rim forward
    ("pelvis", FORWARD, 15, "pelvis_obliquity", 15),  # the left side up
    ("pelvis", UP, 120, "pelvis_rotation", 120),  # to the left
    ("spine1", RIGHT, -25, "trunk_flexion", 25),
    ("spine2", FORWARD, 25, "trunk_bending", 25),  # to the right
    ("spine3", UP, 25, "trunk_rotation", 25),  # to the left
    ("right_hip", RIGHT, 70, "right_hip_flexion", 70),
    ("right_hip", FORWARD, -30, "right_hip_abduction", 30),
    ("right_hip", UP, 20, "right_hip_rotation", 20),  # internal
    ("right_knee", RIGHT, -100, "right_knee_flexion", 100),
    ("right_knee", FORWARD, -5, "right_knee_abduction", 5),
    ("right_knee", UP, 10, "right_knee_rotation", 10),
    ("right_ankle", RIGHT, 15, "right_ankle_dorsiflexion", 15),
    ("right_ankle", FORWARD, 10, "right_ankle_inversion", 10),
    ("right_ankle", UP, 10, "right_ankle_rotation", 10),
    ("right_shoulder", FORWARD, -110, "right_shoulder_elevation", 110),
    ("right_elbow", RIGHT, 130, "right_elbow_flexion", 130),
    ("right_elbow", FORWARD, -10, "right_elbow_abduction", 10),
    ("right_elbow", UP, 60, "right_elbow_pronation", 60),
]


@pytest.mark.parametrize(("joint", "axis", "turn", "angle", "value"), MOVES)
def test_one_joint_turned_is_that_angle_alone(joint, axis, turn, angle, value):
    """On the right; on the left with the mirrored turn."""
    left = joint.replace("right", "left")
    mirrored = about(axis * [1, -1, -1], turn) if left != joint else about(axis, turn)
    for name, part, rotation in (
        (joint, angle, about(axis, turn)),
        (left, angle.replace("right", "left"), mirrored),
    ):
        found = clinical_angles(motion(**{name: rotation}))
        assert found.pop(part)[0] == pytest.approx(value, abs=1e-6)
        # of an arm that only hangs, the plane is not told: it is 0 or 180 with no elevation
        others = {
            key: values[0]
            for key, values in found.items()
            if not key.endswith(("shoulder_plane", "shoulder_rotation"))
        }
        assert others == pytest.approx(dict.fromkeys(others, 0), abs=1e-6)


def test_neutral_has_no_angles_and_says_nothing_of_the_planes_direction():
    found = clinical_angles(motion())
    for side in ("left", "right"):
        both = found.pop(f"{side}_shoulder_plane") + found.pop(f"{side}_shoulder_rotation")
        assert both % 360 == pytest.approx(0, abs=1e-6)
    assert np.abs(list(found.values())).max() < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_combined_turns_are_composed_in_the_stated_order(seed):
    """Z, X, Y in the proximal segment's frame; of the shoulder Y, then raised about -X, then Y."""
    one, two, three = np.random.default_rng(seed).uniform(-70, 70, 3)
    solved = Rotation.from_euler("ZXY", [one, two, three], degrees=True)
    basis = Rotation.from_matrix(BODY_AXES)
    turn = basis * solved * basis.inv()
    hip = clinical_angles(motion(right_hip=turn))
    got = [hip[f"right_hip_{part}"][0] for part in ("flexion", "abduction", "rotation")]
    assert got == pytest.approx([one, -two, three])
    knee = clinical_angles(motion(right_hip=about(UP, 33), right_knee=turn))
    got = [knee[f"right_knee_{part}"][0] for part in ("flexion", "abduction", "rotation")]
    assert got == pytest.approx([-one, -two, three])
    raised = 75 + two
    solved = Rotation.from_euler("YXY", [one, -raised, three], degrees=True)
    arm = clinical_angles(motion(right_shoulder=basis * solved * basis.inv()))
    got = [arm[f"right_shoulder_{part}"][0] for part in ("plane", "elevation", "rotation")]
    assert got == pytest.approx([one, raised, three])
    heading = Rotation.from_euler("YXZ", [3 * one, two, three], degrees=True)
    pelvis = clinical_angles(motion(pelvis=basis * heading * basis.inv()))
    got = [pelvis[f"pelvis_{part}"][0] for part in ("rotation", "obliquity", "tilt")]
    assert got == pytest.approx([(3 * one + 180) % 360 - 180, two, -three])


def test_an_arm_raised_forward_is_in_the_plane_of_90_degrees():
    arm = clinical_angles(motion(right_shoulder=about(RIGHT, 80), left_shoulder=about(RIGHT, 80)))
    for side in ("left", "right"):
        got = [arm[f"{side}_shoulder_{part}"][0] for part in ("plane", "elevation", "rotation")]
        assert got == pytest.approx([90, 80, -90])


def test_a_mirrored_pose_has_mirrored_angles():
    rng = np.random.default_rng(8)
    turns = Rotation.from_rotvec(rng.normal(0, 0.5, (24, 3))).as_matrix()
    one = Motion(np.zeros(1), turns[None], np.zeros((1, 3)))
    mirror = np.diag([-1.0, 1, 1])
    partner = [
        JOINT_NAMES.index(
            name.replace("left", "_").replace("right", "left").replace("_", "right", 1)
            if name.startswith("left")
            else name.replace("right", "left")
        )
        for name in JOINT_NAMES
    ]
    other = replace(one, rotations=(mirror @ turns[partner] @ mirror)[None])
    straight, mirrored = clinical_angles(one), clinical_angles(other)
    for name, value in straight.items():
        if name.startswith("right"):
            assert mirrored[name.replace("right", "left")] == pytest.approx(value)
    for name, sign in (("tilt", 1), ("obliquity", -1), ("rotation", -1)):
        assert mirrored[f"pelvis_{name}"] == pytest.approx(sign * straight[f"pelvis_{name}"])
    for name, sign in (("flexion", 1), ("bending", -1), ("rotation", -1)):
        assert mirrored[f"trunk_{name}"] == pytest.approx(sign * straight[f"trunk_{name}"])


@pytest.mark.parametrize("order", ["ZXY", "YXZ", "YXY"])
def test_through_gimbal_lock_the_rotation_is_kept(order):
    """And the third angle does not spin where nothing tells it from the first."""
    locks = (0, 180) if order == "YXY" else (-90, 90)
    for lock in locks:
        middle = lock + np.linspace(-2, 2, 41)
        angles = np.stack([np.full(41, 30.0), middle, np.full(41, 20.0)], 1)
        turns = Rotation.from_euler(order, angles, degrees=True)
        solved = euler(turns.as_matrix(), order)
        again = Rotation.from_euler(order, solved)
        assert np.degrees((again * turns.inv()).magnitude()).max() < 1
        assert np.isfinite(solved).all()
        near = np.abs(middle - lock) < 0.4
        assert np.ptp(solved[near, 2]) == 0
    exactly = Rotation.from_euler(order, [[30, lock, 0]], degrees=True).as_matrix()
    assert np.degrees(euler(exactly, order)[0]) == pytest.approx([30, lock, 0], abs=1e-5)


def test_continuous_angles_are_the_same_rotations_without_jumps():
    time = np.linspace(0, 1, 200)[:, None]
    wanted = np.radians([40, 0, 500] + time * [0, 170, 300])
    turns = Rotation.from_euler("ZXY", wanted)
    smooth = continuous(euler(turns.as_matrix(), "ZXY"))
    assert np.degrees((Rotation.from_euler("ZXY", smooth) * turns.inv()).magnitude()).max() < 1
    assert np.degrees(np.abs(np.diff(smooth, axis=0)).max()) < 5


def test_coordinates_of_the_model_are_its_own_directions():
    """Rajagopal's: flexion of the knee is positive, adduction of the hip too, palms turned back."""
    posed = motion(
        right_hip=about(FORWARD, 10), right_knee=about(RIGHT, -60), left_elbow=about(RIGHT, 40)
    )
    found = {name: value[0] for name, value in coordinates(posed).items()}
    wanted = dict.fromkeys(found, 0.0) | {
        "pelvis_rotation": -90,  # facing z, where OpenSim's people face x
        "hip_adduction_r": 10,
        "knee_angle_r": 60,
        "elbow_flex_l": 40,
        "pro_sup_r": 90,
        "pro_sup_l": 90,
    }
    assert found == pytest.approx(wanted, abs=1e-6)
    named = coordinates(motion(right_ankle=about(FORWARD, 12), left_foot=about(RIGHT, 20)))
    assert named["subtalar_angle_r"] == pytest.approx(12)
    assert named["mtp_angle_l"] == pytest.approx(20)


@pytest.fixture(scope="module")
def scene():
    """Someone with a gap, and someone at an uneven rate."""
    body = open_body()
    one, two = make_track(1, 12), make_track(2, FRAMES, seed=1)
    kept = [0, 1, 2, 3, 7, 8, 9, 10, 11]
    names = ("frame", "time", "box", "score", "interpolated", "kp2d")
    one = replace(one, **{name: getattr(one, name)[kept] for name in names})
    uneven = np.random.default_rng(5).uniform(-0.012, 0.012, FRAMES)
    tracks = [
        replace(one, time=one.frame / FPS),
        replace(two, time=two.frame / FPS + uneven),
    ]
    people = [make_person(track, body, CLIP) for track in tracks]
    return Scene(tracks, people, body, range(30))


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    place = tmp_path_factory.mktemp("science")
    for name in ("angles", "c3d", "mot", "trc"):
        assert list(FORMATS[name].write(place, scene))
    return place


def test_angles_have_a_line_for_each_frame(folder, scene):
    with (folder / "angles.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    people = [(person.id, frame) for person in scene.people for frame in person.frame]
    assert [(int(row["person"]), int(row["frame"])) for row in rows] == people
    first = Rotation.from_rotvec(scene.people[0].poses[0].reshape(24, 3))
    knee = first[JOINT_NAMES.index("left_knee")].as_matrix()
    mirror = np.diag([-1.0, 1, 1])
    inside = BODY_AXES.T @ mirror @ knee @ mirror @ BODY_AXES
    wanted = Rotation.from_matrix(inside).as_euler("ZXY", degrees=True) * [-1, -1, 1]
    parts = ("flexion", "abduction", "rotation")
    assert [float(rows[0][f"left_knee_{part}"]) for part in parts] == pytest.approx(
        wanted, abs=1e-3
    )


def read_trc(path):
    """By OpenSim's description of the format: (header, names, times, (F, M, 3))."""
    lines = path.read_text(encoding="ascii").splitlines()
    assert lines[0].split("\t") == ["PathFileType", "4", "(X/Y/Z)", path.name]
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    names = lines[3].rstrip("\t").split("\t")
    assert names[:2] == ["Frame#", "Time"]
    names = [name for name in names[2:] if name]
    axes = [f"{axis}{n + 1}" for n in range(len(names)) for axis in "XYZ"]
    assert lines[4].split("\t") == ["", "", *axes]
    assert lines[5] == ""
    table = np.array([line.split("\t") for line in lines[6:]], float)
    assert np.array_equal(table[:, 0], np.arange(1, len(table) + 1))
    return header, names, table[:, 1], table[:, 2:].reshape(len(table), -1, 3)


def read_c3d(path):
    """By the C3D user guide, slowly: (header words, parameters, (F, M, 4))."""
    data = path.read_bytes()
    assert data[:2] == b"\x02\x50"
    words = struct.unpack("<6H", data[:12])
    at, groups, values = 512, {}, {}
    _, _, blocks, processor = data[at : at + 4]
    assert processor == 84
    at += 4
    while data[at]:
        length, group = struct.unpack("<bb", data[at : at + 2])
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        after = at + struct.unpack("<h", data[at : at + 2])[0]
        if group < 0:
            groups[-group] = name
        else:
            kind, dimensions = struct.unpack("<bB", data[at + 2 : at + 4])
            shape = list(data[at + 4 : at + 4 + dimensions])
            dtype = {-1: "S1", 2: "<u2", 4: "<f4"}[kind]
            many = int(np.prod(shape))
            flat = np.frombuffer(data, dtype, many, at + 4 + dimensions)
            values[f"{groups[group]}:{name}"] = flat.reshape(shape[::-1])
        at = after
    assert at < 512 * (1 + blocks)
    start = 512 * (int(values["POINT:DATA_START"]) - 1)
    assert start == 512 * (struct.unpack("<H", data[16:18])[0] - 1) == 512 * (1 + blocks)
    points = np.frombuffer(data[start:], "<f4").reshape(-1, words[1], 4)
    return words, values, points


def test_c3d_and_trc_hold_the_joints_as_recovered(folder, scene):
    for person in scene.people:
        header, names, times, places = read_trc(folder / "trc" / f"person_{person.id}.trc")
        words, values, points = read_c3d(folder / "c3d" / f"person_{person.id}.c3d")
        frames = round((person.time[-1] - person.time[0]) * FPS) + 1
        assert header["Units"] == "mm"
        assert int(header["NumFrames"]) == len(places) == len(points) == frames
        assert int(header["NumMarkers"]) == len(names) == words[1] == 29
        assert float(header["DataRate"]) == pytest.approx(FPS)
        assert times == pytest.approx(person.time[0] + np.arange(frames) / FPS, abs=1e-6)
        assert words[3:5] == (1, frames)
        assert words[2] == values["ANALOG:USED"] == values["ANALOG:RATE"] == 0
        labels = [b"".join(row).decode().rstrip() for row in values["POINT:LABELS"]]
        assert labels == names
        assert names[:24] == list(JOINT_NAMES)
        assert values["POINT:RATE"] == pytest.approx(FPS)
        assert b"".join(values["POINT:UNITS"]) == b"mm"
        assert np.abs(points[..., :3] - places).max() < 1e-2
        assert not points[..., 3].any()
        if person.id == 1:
            rows = person.frame - person.frame[0]
            recovered = person.joints3d * [1000, -1000, -1000]
            assert np.abs(places[rows, :24] - recovered).max() < 0.1


def test_heels_toes_and_head_are_where_the_mesh_has_them():
    body = open_body()
    places = body.arrays.v_template
    skin = skin_markers(body)
    for side in ("left", "right"):
        heel, toe = (places[skin[f"{side}_{part}"][1]] for part in ("heel", "toe"))
        assert toe[2] - heel[2] > 0.2  # a foot's length, forward
        assert max(heel[1], toe[1]) < places[:, 1].min() + 0.08
        assert np.sign(heel[0]) == np.sign(toe[0]) == (1 if side == "left" else -1)
    assert places[skin["head_top"][1], 1] == places[:, 1].max()


def test_mot_has_the_header_and_the_pelvis_that_opensim_reads(folder, scene):
    for person in scene.people:
        lines = (folder / "mot" / f"person_{person.id}.mot").read_text("ascii").splitlines()
        end = lines.index("endheader")
        header = dict(line.split("=") for line in lines[1:end])
        names = lines[end + 1].split("\t")
        table = np.array([line.split("\t") for line in lines[end + 2 :]], float)
        assert header["inDegrees"] == "yes"
        assert (int(header["nRows"]), int(header["nColumns"])) == table.shape
        assert names[0] == "time"
        assert np.diff(table[:, 0]) == pytest.approx(1 / FPS, abs=2e-6)
        if person.id == 2:
            continue
        rows = person.frame - person.frame[0]
        column = {name: table[rows, number] for number, name in enumerate(names)}
        turns = Rotation.from_euler(
            "ZXY",
            np.stack([column[f"pelvis_{part}"] for part in ("tilt", "list", "rotation")], 1),
            degrees=True,
        )
        wanted = Rotation.from_euler("x", 180, degrees=True) * Rotation.from_rotvec(
            person.poses[:, :3]
        )
        body = turns * Rotation.from_matrix(BODY_AXES).inv()
        assert np.degrees((body * wanted.inv()).magnitude()).max() < 1e-3
        place = np.stack([column[f"pelvis_t{axis}"] for axis in "xyz"], 1)
        assert np.abs(place - person.joints3d[:, 0] * [1, -1, -1]).max() < 1e-5


def test_markers_are_those_of_the_posed_body(scene, folder):
    """Against the body's own skinning; the points on the skin are near it where joints bend."""
    person = scene.people[0]
    rotmats = Rotation.from_rotvec(person.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    mesh, joints = scene.body(
        torch.from_numpy(rotmats).float(), torch.from_numpy(person.betas).float()
    )
    mesh = mesh.numpy() + person.joints3d[:, :1] - joints.numpy()[:, :1]
    _, _, _, places = read_trc(folder / "trc" / "person_1.trc")
    vertices = [vertex for _, vertex in skin_markers(scene.body).values()]
    skin = mesh[:, vertices] * [1000, -1000, -1000]
    assert np.abs(places[person.frame - person.frame[0], 24:] - skin).max() < 20
