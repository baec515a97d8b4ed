"""Motion capture on the open body, against a forward kinematics of this file's own and scipy."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp
from scipy.stats import multivariate_normal

from staf_cli.body.format import load_body
from staf_cli.checkpoints.registry import shipped
from staf_cli.core.errors import DatasetError
from staf_cli.core.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from staf_cli.training.people import motion as motion_module
from staf_cli.training.people.motion import (
    interpolate_rotations,
    join_clips,
    mirror_motion,
    random_sequence,
    read_motions,
    straightened,
    write_motions,
)
from staf_cli.training.people.pose_prior import fit_pose_prior
from staf_cli.training.people.poses import random_poses
from staf_cli.training.people.retargeting import (
    prepare_motions,
    read_recording,
    retarget,
    valid_stretches,
)
from tests.support.paths import DATA

# 30 or 40 frames each of three CMU clips (mocap.cs.cmu.edu, free for research and commercial
# use): 02_01 walks, 05_11 dances with raised arms, 13_11 jumps.
FOLDER = DATA / "motion"
CLIPS = ("02_01", "05_11", "13_11")

# A bone of the body, and the recording's joints at its two ends.
LIMBS = {
    (1, 4): ("lThigh", "lShin"),
    (2, 5): ("rThigh", "rShin"),
    (4, 7): ("lShin", "lFoot"),
    (5, 8): ("rShin", "rFoot"),
    (16, 18): ("lShldr", "lForeArm"),
    (17, 19): ("rShldr", "rForeArm"),
    (18, 20): ("lForeArm", "lHand"),
    (19, 21): ("rForeArm", "rHand"),
    (12, 15): ("neck", "head"),
}


@pytest.fixture(scope="module")
def body():
    return load_body(shipped("open_body.npz"))


@pytest.fixture(scope="module")
def motions(body):
    return prepare_motions(FOLDER, body)


def walk_the_tree(parents, offsets, rotvec, root):
    """Rotations [T][J] (scipy) and places (T, J, 3), one frame and one joint after the other."""
    places = np.zeros((len(rotvec), len(parents), 3))
    turned = []
    for t, row in enumerate(rotvec):
        frames: list[Rotation] = []
        for joint, parent in enumerate(parents):
            own = Rotation.from_rotvec(row[joint])
            frames.append(own if parent < 0 else frames[parent] * own)
            places[t, joint] = (
                root[t] if parent < 0 else places[t, parent] + frames[parent].apply(offsets[joint])
            )
        turned.append(frames)
    return turned, places


def recorded(name):
    """Names, rotations and places (cm) of a recording, its first frame left out."""
    with np.load(FOLDER / f"{name}.npz") as found:
        turned, places = walk_the_tree(
            found["parents"], found["offsets"], found["rotvec"][1:].astype(float), found["root"][1:]
        )
        return {str(joint): i for i, joint in enumerate(found["joints"])}, turned, places


def on_body(body, rotvec, root):
    joints = body.J_regressor @ body.v_template
    offsets = joints - joints[np.maximum(body.parents, 0)]
    return walk_the_tree(body.parents, offsets, np.asarray(rotvec), np.asarray(root))


def retargeted(name, body):
    rotmats, root = retarget(read_recording(FOLDER / f"{name}.npz"), body)
    return matrix_to_axis_angle(rotmats).numpy(), root.numpy()


def degrees_between(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


@pytest.mark.parametrize("name", CLIPS)
def test_limbs_neck_feet_and_head_point_where_they_did(name, body):
    index, source_turned, source = recorded(name)
    turned, places = on_body(body, *retargeted(name, body))
    for (upper, lower), (begin, end) in LIMBS.items():
        theirs = source[:, index[end]] - source[:, index[begin]]
        off = degrees_between(places[:, lower] - places[:, upper], theirs)
        assert off.max() < 0.1, (upper, lower)
    for joint, theirs in {0: "hip", 7: "lFoot", 8: "rFoot", 9: "chest", 15: "head"}.items():
        for ours, frames in zip(turned, source_turned, strict=True):
            above = index[{"lFoot": "lShin", "rFoot": "rShin"}.get(theirs, theirs)]
            if (frames[above].inv() * frames[index[theirs]]).magnitude() > 1.1:
                continue  # the foot flips and is bridged
            assert (ours[joint].inv() * frames[index[theirs]]).magnitude() < 0.01, theirs
    for joint, side in ((20, "l"), (21, "r")):
        across = source[:, index[f"{side}Index1"]] - source[:, index[f"{side}Pinky1"]]
        thumb_side = np.array([frames[joint].apply([0, 0, 1]) for frames in turned])
        assert degrees_between(thumb_side, across).max() < 25, side  # the knuckles' own slant
    trunk = places[:, 12] - places[:, 1:3].mean(1)
    theirs = source[:, index["neck"]] - source[:, [index["lThigh"], index["rThigh"]]].mean(1)
    assert degrees_between(trunk, theirs).max() < 8
    shoulders = source[:, index["lShldr"]] - source[:, index["rShldr"]]
    raised = np.abs(retargeted(name, body)[0][:, 13:15]).max((1, 2)) > 0.02
    off = degrees_between(places[:, 16] - places[:, 17], shoulders)
    assert off[~raised].max(initial=0) < 3
    assert off.max() < 15


@pytest.mark.parametrize("name", CLIPS)
def test_elbows_and_knees_bend_about_their_hinges_as_far_as_recorded(name, body):
    index, _, source = recorded(name)
    rotvec, _ = retargeted(name, body)
    rest = body.J_regressor @ body.v_template
    for joint, axis, names in (
        (18, (0, -1, 0), ("lShldr", "lForeArm", "lHand")),
        (19, (0, 1, 0), ("rShldr", "rForeArm", "rHand")),
        (4, (1, 0, 0), ("lThigh", "lShin", "lFoot")),
        (5, (1, 0, 0), ("rThigh", "rShin", "rFoot")),
    ):
        a, b, c = (source[:, index[end]] for end in names)
        bone = np.array([1.0, 0, 0]) if joint > 10 else np.array([0, -1.0, 0])
        # What is left of the rotation without its turn about the bone is the bend of the hinge.
        swung = Rotation.from_rotvec(rotvec[:, joint]).apply(bone)
        towards = np.cross(axis, bone)
        bend = np.degrees(np.arctan2(swung @ towards, swung @ bone))
        above, below = body.parents[joint], joint + (3 if joint < 10 else 2)
        bend += degrees_between(rest[joint] - rest[above], rest[below] - rest[joint])
        assert np.abs(bend - degrees_between(b - a, c - b)).max() < 3
        assert np.abs(swung @ np.array(axis)).max() < 0.15
        twist = rotvec[:, joint] @ bone
        assert np.abs(twist).max() < 0.9
    assert np.abs(rotvec[:, 20:22]).max() < 1.5


@pytest.mark.parametrize("name", CLIPS)
def test_the_hips_move_as_recorded_and_feet_stand_on_the_ground(name, body):
    index, _, source = recorded(name)
    _, places = on_body(body, *retargeted(name, body))
    theirs = source[:, [index["lThigh"], index["rThigh"]]].mean(1) / 100
    ours = places[:, 1:3].mean(1)
    steps, their_steps = np.diff(ours, axis=0), np.diff(theirs, axis=0)
    scale = (steps * their_steps).sum() / (their_steps**2).sum()
    assert 0.9 < scale < 1.1
    assert np.abs(steps - scale * their_steps).max() < 1e-4
    toes = places[:, 10:12, 1].min(1)
    assert 0.03 < np.quantile(toes, 0.1) < 0.07
    assert toes.min() > -0.05


def test_a_mirrored_motion_swaps_the_wrists_paths_and_comes_back(body, motions):
    rotvec, root = motions.clip(1)
    mirrored = mirror_motion(rotvec, root)
    back = mirror_motion(*mirrored)
    assert torch.equal(back[0], rotvec)
    assert torch.equal(back[1], root)
    _, places = on_body(body, rotvec, root)
    _, seen = on_body(body, *mirrored)
    flip = np.array([-1, 1, 1])
    assert np.abs(places[:, 20] - places[:, 21]).max() > 0.3
    for left, right in ((20, 21), (18, 19), (7, 8), (15, 15)):
        assert np.abs(seen[:, right] - places[:, left] * flip).max() < 1e-5
        assert np.abs(seen[:, left] - places[:, right] * flip).max() < 1e-5


def test_a_foot_that_flips_is_bridged_and_nothing_else_moves(body, tmp_path):
    with np.load(FOLDER / "02_01.npz") as found:
        arrays = dict(found)
    foot = arrays["joints"].tolist().index("lFoot")
    flipped = arrays["rotvec"].copy()
    flipped[10:15, foot] = [0, 3, 0]
    np.savez(tmp_path / "02_01.npz", **arrays | {"rotvec": flipped})
    original, _ = retarget(read_recording(FOLDER / "02_01.npz"), body)
    filled, _ = retarget(read_recording(tmp_path / "02_01.npz"), body)
    off = (filled - original).abs().amax((2, 3))  # (T, 24)
    assert off[9:14, 7].max() < 0.2
    off[9:14, 7] = 0
    assert off.max() < 1e-9


def test_flips_are_cut_out_and_long_pieces_kept():
    smooth = torch.zeros(100, 24, 3, dtype=torch.float64)
    smooth[:, 4, 0] = torch.linspace(0, 2, 100)
    whole = axis_angle_to_matrix(smooth)
    assert list(valid_stretches(whole)) == [slice(0, 100)]
    flipped = smooth.clone()
    flipped[40:70, 1, 1] = 1.0  # jumps at 40 and at 70
    pieces = list(valid_stretches(axis_angle_to_matrix(flipped)))
    assert pieces == [slice(0, 37), slice(43, 67), slice(73, 100)]
    backward = smooth.clone()
    backward[10:20, 18, 1] = 0.5  # a left elbow bends towards -y
    assert list(valid_stretches(axis_angle_to_matrix(backward))) == [slice(22, 100)]


def test_prepared_motions_are_written_read_and_split_by_subject(motions, tmp_path):
    assert motions.names == CLIPS
    assert motions.fps == 30
    assert np.diff(motions.start).tolist() == [29, 39, 29]
    path = tmp_path / "motions.npz"
    write_motions(motions, path)
    again = read_motions(path)
    assert again.names == motions.names
    for name in ("start", "rotvec", "root"):
        one, other = getattr(motions, name), getattr(again, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    assert again.training.names == ("02_01", "05_11")
    assert again.held_out.names == ("13_11",)
    for ours, whole in zip(again.held_out.clip(0), motions.clip(2), strict=True):
        assert torch.equal(ours, whole)


def test_files_that_are_no_motions_are_named(tmp_path, body):
    with pytest.raises(DatasetError, match="no such file"):
        read_motions(tmp_path / "motions.npz")
    (tmp_path / "01_01.npz").write_bytes(b"PK but no archive")
    with pytest.raises(DatasetError, match="holds no motions"):
        read_motions(tmp_path / "01_01.npz")
    with pytest.raises(DatasetError, match="01_01"):
        prepare_motions(tmp_path, body)
    with pytest.raises(DatasetError, match="holds no recordings"):
        prepare_motions(tmp_path / "elsewhere", body)


def test_interpolation_is_slerp():
    rng = np.random.default_rng(0)
    rotvec = rng.normal(0, 1, (6, 3))
    times = np.array([0, 0.25, 1, 2.75, 4.999, 5])
    wanted = Slerp(np.arange(6), Rotation.from_rotvec(rotvec))(times)
    got = interpolate_rotations(torch.from_numpy(rotvec)[:, None], torch.from_numpy(times))[:, 0]
    assert (wanted.inv() * Rotation.from_rotvec(got.numpy())).magnitude().max() < 1e-6


def test_sequences_run_at_varied_speed_and_are_the_same_for_a_seed(monkeypatch):
    monkeypatch.setattr(motion_module, "OFFSET_SHARE", 0)
    rotvec = torch.zeros(60, 24, 3)
    rotvec[:, 18, 1] = 0.02 * torch.arange(60)
    root = torch.zeros(60, 3)
    root[:, 0] = 0.01 * torch.arange(60)
    motions = join_clips([("02_01", rotvec, root)], 30)
    speeds, sides = [], []
    for seed in range(60):
        turned, moved = random_sequence(motions, 16, torch.Generator().manual_seed(seed))
        assert turned.shape == (16, 24, 3)
        mirrored = bool(turned[:, 19].any())
        sides.append(mirrored)
        rates = turned[:, 19 if mirrored else 18, 1].abs().diff()
        assert rates.std() < 1e-3
        steps = moved[:, 0].diff()
        assert (steps < 0).all() == mirrored
        assert float(steps.abs().mean()) / 0.01 == pytest.approx(float(rates.mean()) / 0.02, 0.02)
        speeds.append(float(steps.abs().mean()) / 0.01)
    assert 0.7 - 1e-3 < min(speeds) < 0.8
    assert 1.4 < max(speeds) < 1.5 + 1e-3
    assert 15 < sum(sides) < 45
    again = random_sequence(motions, 16, torch.Generator().manual_seed(59))
    assert torch.equal(again[0], turned)
    with pytest.raises(DatasetError, match="long enough"):
        random_sequence(motions, 100, torch.Generator())


def test_a_shift_is_the_same_in_every_frame(monkeypatch):
    rotvec = 0.3 * torch.randn(1, 24, 3, generator=torch.Generator().manual_seed(0))
    motions = join_clips([("02_01", rotvec.expand(40, 24, 3), torch.zeros(40, 3))], 30)
    monkeypatch.setattr(motion_module, "STRAIGHTENED_SHARE", 0)
    monkeypatch.setattr(motion_module, "OFFSET_SHARE", 1)
    turned, _ = random_sequence(motions, 9, torch.Generator().manual_seed(3))
    assert (turned - turned[:1]).abs().max() < 1e-5
    plain = axis_angle_to_matrix(motions.clip(0)[0][:1])
    monkeypatch.setattr(motion_module, "OFFSET_SHARE", 0)
    plain, _ = random_sequence(motions, 9, torch.Generator().manual_seed(3))
    moved = (turned - plain).abs().amax((0, 2)) > 1e-3
    assert 0 < int(moved.sum()) < 18
    assert not moved[[0, 10, 11, 22, 23]].any()


def test_straightened_legs_keep_their_feet_and_bend_less():
    rotvec = 0.2 * torch.randn(30, 24, 3, generator=torch.Generator().manual_seed(0))
    rotvec[:, [4, 5]] = 0
    rotvec[:, 4, 0] = 0.6 + 0.3 * torch.sin(torch.arange(30.0))
    rotvec[:, 5, 0] = 0.2 + 0.1 * torch.cos(torch.arange(30.0))
    less = straightened(rotvec, 0.75)
    chains = ((1, 4, 7), (2, 5, 8))
    for hip, knee, ankle in chains:
        taken = 0.75 * float(rotvec[:, knee, 0].min())
        assert less[:, knee, 0].numpy() == pytest.approx(
            rotvec[:, knee, 0].numpy() - taken, abs=1e-5
        )
        thigh, foot = (
            [
                Rotation.from_rotvec(pose[:, hip].numpy()),
                Rotation.from_rotvec(pose[:, hip].numpy())
                * Rotation.from_rotvec(pose[:, knee].numpy())
                * Rotation.from_rotvec(pose[:, ankle].numpy()),
            ]
            for pose in (rotvec, less)
        )
        assert (thigh[1].inv() * foot[1]).magnitude().max() < 1e-3  # feet turn as before
        assert (thigh[0].inv() * foot[0]).magnitude() == pytest.approx(taken / 2, abs=1e-3)
    legs = [joint for chain in chains for joint in chain]
    rest = [joint for joint in range(24) if joint not in legs]
    assert torch.equal(less[:, rest], rotvec[:, rest])
    assert torch.allclose(straightened(rotvec, 0.0), rotvec, atol=1e-5)


def test_people_who_stand_have_straight_knees(motions):
    poses = random_poses(motions, 3000, torch.Generator().manual_seed(0))
    straight = (poses[:, [3, 4], 0] < math.radians(8)).all(1)
    assert straight.float().mean() > 0.1


def test_invented_poses_are_varied_and_possible(motions):
    poses = random_poses(motions, 3000, torch.Generator().manual_seed(0))
    assert poses.shape == (3000, 23, 3)
    assert poses.dtype == torch.float32
    assert torch.equal(poses, random_poses(motions, 3000, torch.Generator().manual_seed(0)))
    for knee in (3, 4):
        assert poses[:, knee, 0].min() > -0.3
    for elbow, forward in ((17, -1), (18, 1)):
        assert (forward * poses[:, elbow, 1]).min() > -0.4
    left, right = poses[:, 15], poses[:, 16] * torch.tensor([1, -1, -1])
    assert (left.mean(0) - right.mean(0)).abs().max() < 0.1  # neither side is preferred
    hips = Rotation.from_rotvec(poses[:, 0].numpy()).apply([0, -1, 0])
    assert (hips[:, 2] > 0.9).mean() > 0.01  # a thigh straight ahead
    assert (hips[:, 0] > 0.6).mean() > 0.01  # a thigh far to the side
    collar, shoulder = (Rotation.from_rotvec(poses[:, j].numpy()) for j in (12, 15))
    arm = (collar * shoulder).apply([1, 0, 0])
    assert 0.02 < (arm[:, 1] > 0.8).mean() < 0.3  # an arm up


def test_the_prior_is_a_symmetric_mixture_with_limits(motions):
    prior = fit_pose_prior(motions)
    some = random_poses(motions, 50, torch.Generator().manual_seed(1))

    # The same density, written with scipy, up to one constant.
    covariance = np.linalg.inv((prior.whiten.mT @ prior.whiten).double().numpy())
    height = [multivariate_normal(cov=c).logpdf(np.zeros(69)) for c in covariance]
    density = sum(
        np.exp(float(prior.log_weight[k]) - height[k])
        * multivariate_normal(prior.mean[k].numpy(), covariance[k]).pdf(some.flatten(1).numpy())
        for k in range(len(prior.mean))
    )
    inside = ((some.flatten(1) >= prior.low) & (some.flatten(1) <= prior.high)).all(1)
    assert inside.sum() > 25
    ours = prior.energy(some)[inside].numpy()
    assert np.abs(ours + np.log(density)[inside]).max() < 0.05

    mirrored, _ = mirror_motion(torch.cat([torch.zeros(50, 1, 3), some], 1), torch.zeros(50, 3))
    assert (prior.energy(mirrored[:, 1:]) - prior.energy(some)).abs().max() < 1e-3

    usual = prior.energy(motions.clip(0)[0][:, 1:])
    assert usual.max() < prior.energy(some).median() < 70
    backward = torch.zeros(2, 23, 3, requires_grad=True)
    with torch.no_grad():
        backward[1, 3, 0] = -1  # the left knee
    energy = prior.energy(backward)
    assert energy[1] > energy[0] + 30
    energy.sum().backward()
    assert backward.grad is not None
    assert backward.grad[1, 3, 0] < -10  # down is towards a straight knee
    assert torch.isfinite(backward.grad).all()


def test_reading_needs_only_numpy_and_torch():
    absent = ("scipy", "cv2", "smplx", "av", "click", "platformdirs", "ultralytics")
    script = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n" + "\n".join(
        f"import staf_cli.training.people.{name}" for name in ("motion", "poses", "pose_prior")
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
