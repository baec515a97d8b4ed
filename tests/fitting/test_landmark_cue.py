"""The fit to landmarks, on a walk whose true motion is known."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from staf_cli.body.posing import rotation_matrices
from staf_cli.core.records import (
    COCO_KEYPOINTS,
    LANDMARKS,
    MIRRORED_LANDMARKS,
    Float,
    LandmarkTrack,
    Person,
    select_rows,
)
from staf_cli.fitting import bones, refine
from staf_cli.fitting import landmark_cue as cues
from staf_cli.fitting.keypoints import OTHER_SIDE
from staf_cli.fitting.landmark_cue import landmark_cue
from staf_cli.fitting.skeleton import Posed, reduce_body
from tests.support.made_networks import zero_bone_network
from tests.support.simple_walk import FPS, Truth, detected, mean_pose, small_body, walk

STEP = 3  # frames between looks


@pytest.fixture(autouse=True)
def without_errors(monkeypatch):
    """The looks here do not err as the landmark network does: nothing is to be put right."""
    monkeypatch.setattr(bones, "bone_network", zero_bone_network)


def looks(truth: Truth, seed: int = 0, noise: float = 0.01) -> LandmarkTrack:
    """Landmarks of every third frame: what the true body would show, with some noise."""
    person, rng = truth.person, np.random.default_rng(seed)
    rows = np.arange(0, len(person.frame), STEP)
    posed = reduce_body(small_body()).pose_as_seen(
        rotation_matrices(person.poses[rows]).float(), torch.from_numpy(person.betas[0]).float()
    )
    points = torch.cat([posed.landmarks, posed.joints], 1).double().numpy()
    placed = points + person.trans[rows, None]
    centre = np.array(person.image_size) / 2
    image = placed[..., :2] / placed[..., 2:] * person.focal_length + centre
    kp2d, metres = np.zeros((2, len(rows), 33, 3))
    point, landmark = cues.POINTS.T
    kp2d[:, landmark, :2] = image[:, point]
    kp2d[:, landmark, 2] = 0.9
    metres[:, landmark] = points[:, point] - points[:, [11, 12]].mean(1, keepdims=True)
    metres += rng.normal(0, noise, metres.shape)
    count = len(rows)
    hips = image[:, [11, 12]].mean(1)  # where the network's crops are
    metres = np.einsum("fab,fpa->fpb", _turns(hips, person), metres)
    return LandmarkTrack(
        id=1,
        frame=person.frame[rows],
        mirrored=np.zeros(count, bool),
        kp2d=kp2d.astype(np.float32),
        metres=metres.astype(np.float32),
        score=np.full(count, 0.8),
        region=np.hstack([hips, np.tile([500.0, 0], (count, 1))]),
        mask_row=np.zeros(0, np.int64),
        mask=np.zeros((0, 64, 64), np.uint8),
    )


def _turns(centre: Float, person: Person) -> Float:
    """Turns (N, 3, 3) from the frame of a camera that looks at these pixels (N, 2) to the own."""
    x, y = ((centre - np.array(person.image_size) / 2) / person.focal_length).T
    off = np.hypot(x, y)
    axis = np.stack([-y, x, np.zeros_like(x)], -1) / np.maximum(off, 1e-9)[:, None]
    turns: Float = Rotation.from_rotvec(axis * np.arctan(off)[:, None]).as_matrix()
    return turns


def exchanged(seen: LandmarkTrack, rows: list[int]) -> LandmarkTrack:
    """Some looks take the back for the front."""
    kp2d, metres = seen.kp2d.copy(), seen.metres.copy()
    other = np.arange(33)
    for left in (7, 9, *range(11, 33, 2)):
        other[[left, left + 1]] = left + 1, left
    other[1:7] = 4, 5, 6, 1, 2, 3
    kp2d[rows] = kp2d[rows][:, other]
    metres[rows] = metres[rows][:, other] * [1, 1, -1]
    return replace(seen, kp2d=kp2d, metres=metres)


def off(person: Person, truth: Truth) -> float:
    """Mean distance of the joints, both from the pelvis, m."""
    one, other = person.joints3d, truth.person.joints3d
    apart = (one - one[:, :1]) - (other - other[:, :1])
    return float(np.linalg.norm(apart, axis=-1).mean())


def test_bones_of_who_stands_aside_are_in_the_camera_s_frame() -> None:
    truth = walk(np.full(45, 0.4))
    aside = truth.person.trans + np.array([1.5, -0.5, 0])
    truth = replace(truth, person=replace(truth.person, trans=aside))
    seen, rows = looks(truth, noise=0.0), np.arange(0, 45, STEP)
    cue = landmark_cue(seen, detected(truth, 7), truth.person)
    posed = reduce_body(small_body()).pose_as_seen(
        rotation_matrices(truth.person.poses[rows]).float(),
        torch.from_numpy(truth.person.betas[0]).float(),
    )
    assert cue is not None
    compared = [row for row, bone in enumerate(bones.BONES) if bone[0][0] != (3,)]  # not the ears
    want = bones.bones_of(posed)[:, compared]
    torch.testing.assert_close(cue.bones[rows][:, compared], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("yaw", [0.4, 3.0])
def test_landmarks_show_the_depth_that_keypoints_do_not(yaw: float) -> None:
    truth = walk(np.full(45, yaw))
    start, track = mean_pose(truth), detected(truth, 1)
    alone = refine.refine(start, track, small_body())
    with_landmarks = refine.refine(start, track, small_body(), looks(truth))
    assert off(with_landmarks, truth) < 0.75 * off(alone, truth)


def test_where_the_keypoints_are_wrong_and_unsure_landmarks_decide() -> None:
    truth = walk(np.full(45, 0.4))
    track = detected(truth, 2)
    height = np.ptp(truth.keypoints[..., 1], 1).mean()
    upside_down = track.kp2d * [1, -1, 1] + [0, 2 * truth.keypoints[..., 1].mean(), 0]
    sure = replace(track, kp2d=upside_down)
    wrong = replace(sure, score=np.full(45, 0.3))
    misled = refine.refine(mean_pose(truth), sure, small_body())
    right = refine.refine(mean_pose(truth), wrong, small_body(), looks(truth))
    assert off(misled, truth) > 0.3
    assert off(right, truth) < 0.12
    assert np.abs(right.joints2d - truth.person.joints2d).mean() < 0.05 * height


@pytest.mark.parametrize("rows", [[4], [3, 4, 5], [0, 1], [*range(15)]])
def test_looks_that_take_the_back_for_the_front_are_put_right(rows: list[int]) -> None:
    truth = walk(np.full(45, 0.4))
    track, seen = detected(truth, 3), looks(truth, noise=0.0)
    want, got = (
        landmark_cue(seen, track, truth.person),
        landmark_cue(exchanged(seen, rows), track, truth.person),
    )
    assert want is not None and got is not None
    torch.testing.assert_close(got.points, want.points)
    torch.testing.assert_close(got.bones, want.bones)
    torch.testing.assert_close(got.root, want.root)


@pytest.mark.parametrize(
    ("limbs", "rows"), [(range(13, 23), [3]), (range(25, 33), [3]), (range(25, 33), [2, 3, 7])]
)
def test_looks_that_take_a_left_limb_for_the_right_one_are_put_right(
    limbs: range, rows: list[int]
) -> None:
    truth = walk(np.full(30, 0.9))
    seen, track = looks(truth), detected(truth, 4)
    kp2d, metres = seen.kp2d.copy(), seen.metres.copy()
    for array in (kp2d, metres):
        for row in rows:
            array[row, list(limbs)] = array[row, MIRRORED_LANDMARKS[list(limbs)]]
    wrong = replace(seen, kp2d=kp2d, metres=metres)
    right, found = (landmark_cue(one, track, truth.person) for one in (seen, wrong))
    assert right is not None and found is not None
    torch.testing.assert_close(found.points, right.points)
    torch.testing.assert_close(found.bones, right.bones)


def test_without_keypoints_the_looks_are_taken_as_most_of_them_are() -> None:
    truth = walk(np.full(45, 0.4))
    track, seen = detected(truth, 3), looks(truth, noise=0.0)
    unseen = replace(track, kp2d=track.kp2d * [1, 1, 0])
    want, got = (
        landmark_cue(seen, track, truth.person),
        landmark_cue(exchanged(seen, [6, 7]), unseen, truth.person),
    )
    assert want is not None and got is not None
    torch.testing.assert_close(got.bones, want.bones)


def test_the_root_is_the_pelvis_rotation() -> None:
    truth = walk(np.linspace(-3, 3, 45))
    cue = landmark_cue(looks(truth, noise=0.0), detected(truth, 4), truth.person)
    assert cue is not None
    true = rotation_matrices(truth.person.poses)[:, 0].float()
    trace = (cue.root * true).sum((-2, -1))
    angle = ((trace - 1) / 2).clamp(-1, 1).acos()
    assert angle.median() < 0.15 and angle.max() < 0.4  # rad; the trunk is not stiff


def test_bones_point_from_joint_to_joint() -> None:
    joints, keypoints = torch.zeros(1, 24, 3), torch.zeros(1, 17, 3)
    keypoints[0, 5], keypoints[0, 7] = torch.tensor([1.0, 0, 0]), torch.tensor([1.0, 3, 0])
    directions = bones.bones_of(Posed(joints, keypoints.flip(1), keypoints))
    upper_arm = [bone[:2] for bone in bones.BONES].index((((7,), (5,)), ((13,), (11,))))
    torch.testing.assert_close(directions[0, upper_arm], torch.tensor([0.0, 1, 0]))


def test_nothing_is_known_between_looks_that_are_far_apart() -> None:
    truth = walk(np.full(60, 0.4))
    track, seen = detected(truth, 5), looks(truth)
    score = seen.score.copy()
    score[5:10] = 0  # frames 15 to 27, so that 12 and 30 are the next ones: 0.6 s
    score[-2:] = 0
    cue = landmark_cue(replace(seen, score=score), track, truth.person)
    assert cue is not None
    known = np.flatnonzero(cue.seen.numpy())
    assert known.tolist() == [*range(13), *range(30, 52)]
    assert (cue.point_weight[~cue.seen] == 0).all() and (cue.bone_weight[~cue.seen] == 0).all()
    assert (18 / FPS > cues.LONGEST_GAP) and (3 / FPS < cues.LONGEST_GAP)
    assert landmark_cue(replace(seen, score=0 * seen.score), track, truth.person) is None


@pytest.mark.parametrize(("degrees", "between"), [(0, True), (20, True), (60, False), (-80, False)])
def test_nothing_is_known_while_somebody_turns_over_between_two_looks(
    degrees: float, between: bool
) -> None:
    """Points that go straight from look to look would draw the person together half-way."""
    truth = walk(np.full(45, 0.4))
    seen = looks(truth)
    kp2d = seen.kp2d.copy()
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
    middle = kp2d[5:, :, :2].mean(1, keepdims=True)
    kp2d[5:, :, :2] = (kp2d[5:, :, :2] - middle) @ turn.T + middle
    cue = landmark_cue(replace(seen, kp2d=kp2d), detected(truth, 5), truth.person)
    assert cue is not None
    known = cue.seen.numpy()
    assert known[[*range(13), *range(15, 43)]].all()
    assert known[13:15].tolist() == [between, between]


def test_between_looks_landmarks_move_evenly() -> None:
    truth = walk(np.full(45, 0.4))
    track, seen = detected(truth, 6), looks(truth, noise=0.0)
    cue = landmark_cue(seen, track, truth.person)
    assert cue is not None
    first, last = cue.points[3], cue.points[6]
    torch.testing.assert_close(cue.points[4], first + (last - first) / 3)
    want = seen.kp2d[1][cues.POINTS[:, 1], :2]
    np.testing.assert_allclose(first.numpy(), want, atol=1e-3)


def test_a_long_person_in_stretches_is_fitted_to_its_own_landmarks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refine, "STRETCH_FRAMES", 30)
    monkeypatch.setattr(refine, "CONTEXT", 10)
    truth = walk(np.linspace(0.4, 1.4, 70))
    start, track = mean_pose(truth), detected(truth, 7)
    alone = refine.refine(start, track, small_body())
    refined = refine.refine(start, track, small_body(), looks(truth))
    for rows in (slice(0, 30), slice(30, 60), slice(60, 70)):
        own = Truth(
            select_rows(truth.person, rows),
            truth.keypoints[rows],
            truth.facing[rows],
            truth.seen[rows],
        )
        assert off(select_rows(refined, rows), own) < 0.9 * off(select_rows(alone, rows), own)


def test_a_stretch_is_seen_as_it_would_be_with_all_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With looks that take the front for the back, bias to one side, and wrong keypoints."""
    monkeypatch.setattr(refine, "SURROUNDINGS", 45)
    truth = walk(np.linspace(0.4, 1.4, 200))
    seen = exchanged(looks(truth), [4, 5, 18, 19, 31, 50, 51])
    seen = replace(seen, mirrored=np.arange(len(seen.frame)) % 2 == 1)
    track = detected(truth, 7)
    kp2d = track.kp2d.copy()
    kp2d[::9, 9, :2] += 80
    track = replace(track, kp2d=kp2d)
    whole_track = cues.without_contradicted(track, seen)
    whole = landmark_cue(seen, whole_track, truth.person)
    assert whole is not None
    assert (whole_track.kp2d[..., 2] != track.kp2d[..., 2]).any()
    for rows in (slice(0, 60), slice(60, 130), slice(130, 200)):
        own, cue = refine._seen(track, seen, rows, truth.person)
        np.testing.assert_array_equal(own.kp2d, whole_track.kp2d[rows])
        assert cue is not None
        for name, part in vars(cue).items():
            torch.testing.assert_close(part, getattr(whole, name)[rows], msg=name)


def test_landmarks_of_a_track_with_other_frames_do_not_shift() -> None:
    truth = walk(np.full(45, 0.4))
    own, seen = detected(truth, 8), looks(truth, noise=0.0)
    later = replace(own, frame=own.frame + 100)
    cue = landmark_cue(replace(seen, frame=seen.frame + 100), later, truth.person)
    want = landmark_cue(seen, own, truth.person)
    assert cue is not None and want is not None
    torch.testing.assert_close(cue.points, want.points)


def test_landmarks_are_the_ones_that_their_names_say() -> None:
    names = LANDMARKS
    for keypoint, landmark in cues.POINTS[:17]:
        assert names[landmark] == COCO_KEYPOINTS[keypoint]
    for name, other in zip(names, MIRRORED_LANDMARKS, strict=True):
        mirrored = {"left": "right", "right": "left"}
        assert names[other] == "_".join(mirrored.get(word, word) for word in name.split("_"))


def test_what_the_network_sees_on_one_side_only_is_averaged_with_the_mirror() -> None:
    truth = walk(np.full(45, 0.4))
    seen = looks(truth, noise=0)
    seen = replace(seen, mirrored=np.arange(len(seen.frame)) % 2 == 1)
    bias = np.linspace(-0.05, 0.05, 33)[None, :, None] * [1.0, 0.5, 2]  # m
    side = np.where(seen.mirrored, -1, 1)[:, None, None]
    biased = replace(seen, metres=(seen.metres + side * bias).astype(np.float32))
    track = detected(truth, 4)
    wanted, freed, as_seen = (
        landmark_cue(one, track, truth.person)
        for one in (seen, biased, replace(biased, mirrored=np.zeros(len(seen.frame), bool)))
    )
    assert wanted is not None and freed is not None and as_seen is not None
    inner = slice(STEP, -STEP)  # the first and the last look have a neighbour on one side only
    off = (freed.bones - wanted.bones)[inner].norm(dim=-1)
    assert off.max() < 0.02
    assert (as_seen.bones - wanted.bones)[inner].norm(dim=-1).mean() > 5 * off.mean()


def test_keypoints_that_are_not_where_the_landmarks_are_do_not_count() -> None:
    truth = walk(np.zeros(12))
    seen, track = looks(truth), detected(truth, 0)
    size = (track.box[:, 2:] - track.box[:, :2]).max(-1)
    off = np.linalg.norm(track.kp2d[..., :2] - truth.seen, axis=-1) / size[:, None]
    off[seen.frame[-1] + 1 :] = 0  # nothing is known after the last look
    wrong = track.kp2d.copy()
    wrong[8] = wrong[8, OTHER_SIDE]
    kept = cues.without_contradicted(replace(track, kp2d=wrong), seen)
    dropped = (wrong[..., 2] > 0) & (kept.kp2d[..., 2] == 0)
    dropped[8] = dropped[8, OTHER_SIDE]
    assert dropped[(off > 0.2) & (track.kp2d[..., 2] > 0.2)].all() and dropped.sum() > 2
    assert not dropped[off < 0.1].any()  # whichever side is left
    nowhere = replace(seen, score=np.zeros(len(seen.frame)))
    assert cues.without_contradicted(track, nowhere) is track


def test_what_the_detector_sees_of_a_landmark_is_at_or_next_to_it() -> None:
    next_to = {"mouth": "nose", "heel": "ankle", "foot": "ankle"}
    next_to |= dict.fromkeys(("pinky", "index", "thumb"), "wrist")
    for landmark, keypoint in zip(LANDMARKS, cues._SEEN_AS, strict=True):
        words = landmark.split("_")  # "left_eye_inner", "mouth_left", "nose"
        side = next((word for word in words if word in ("left", "right")), "")
        part = next(word for word in words if word != side)
        part = next_to.get(part, part)
        name = part if part == "nose" else f"{side}_{part}"
        assert COCO_KEYPOINTS[keypoint] == name


def test_what_single_looks_claim_to_see_and_the_detector_never_sees_is_hidden() -> None:
    truth = walk(np.zeros(60))
    track, seen = detected(truth, 0), looks(truth, noise=0)
    ankles = [COCO_KEYPOINTS.index(side + "_ankle") for side in ("left", "right")]
    kp2d, keypoints = seen.kp2d.copy(), track.kp2d.copy()
    kp2d[::2, [27, 28], 2] = 0  # every second look sees neither ankle
    keypoints[:30, ankles[0], 2] = 0  # and the detector not the left one, in the first half
    seen, track = replace(seen, kp2d=kp2d), replace(track, kp2d=keypoints)
    cue = landmark_cue(seen, track, truth.person)
    assert cue is not None
    columns = [cues.POINTS[:, 1].tolist().index(landmark) for landmark in (27, 28)]
    weight = cue.point_weight[seen.frame[1::2]][:, columns]  # where a look sees them
    hidden = seen.frame[1::2] < 30 - 0.35 * FPS
    shown = (seen.frame[1::2] > 30) & (seen.frame[1::2] < 57)
    assert hidden.any() and (weight[hidden, 0] == 0).all()
    assert (weight[shown, 0] > 0.8).all() and (weight[1:-1, 1] > 0.8).all()


def test_the_looks_of_an_hour_are_not_compared_each_with_each() -> None:
    count = 36_000  # every third frame
    seconds = 3 * np.arange(count) / FPS
    track = detected(walk(np.zeros(4)), 0)
    track = replace(
        track,
        frame=np.arange(count),
        time=seconds,
        box=np.repeat(track.box[:1], count, 0),
        score=np.repeat(track.score[:1], count),
        interpolated=np.zeros(count, bool),
        kp2d=np.repeat(track.kp2d[:1].astype(np.float64), count, 0),
    )
    values = np.random.default_rng(0).normal(size=(count, 2))
    mirrored = np.arange(count) % 2 == 1
    tracemalloc.start()
    cues._without_bias(values, mirrored, np.arange(count), track)
    cues._agreed_visibility(np.ones((count, 33)), np.arange(count), track)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
