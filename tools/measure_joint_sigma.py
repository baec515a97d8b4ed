"""Measure the numbers of staf_cli/fitting/uncertainty.py, and check them.

    staf train clips DATA CLIPS --count 80 --frames 8 --detect
    staf train clips DATA LONGER --count 12 --frames 40 --seed 11 --detect
    staf train clips DATA OTHERS --count 12 --frames 20 --seed 99 --detect
    python -m tools.measure_joint_sigma CLIPS LONGER --check OTHERS

Bodies are recovered as `staf run` does with the open weights: with landmarks and without, also with
frames in which the detector saw nobody, and with the network alone. USUAL and POWERS are the
quantile regression of the logarithm of the joints' errors, each clip with the same weight. What
the numbers that are in uncertainty.py say of OTHERS is compared with their truth.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from staf_cli.body.format import JOINT_COUNT, load_body
from staf_cli.body.posing import joints, rotation_matrices
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.format import load_checkpoint
from staf_cli.checkpoints.registry import OPEN_BODY, OPEN_WEIGHTS, locate
from staf_cli.core.devices import choose_dtype
from staf_cli.core.records import Float, LandmarkTrack, Person, Track
from staf_cli.evaluation.evaluation import contender
from staf_cli.evaluation.truth import Footage, Truth, open_dataset
from staf_cli.fitting.joint_limits import RIGHT
from staf_cli.fitting.landmark_cue import landmark_cue
from staf_cli.fitting.refine import refine
from staf_cli.fitting.shape import shape_from_masks
from staf_cli.fitting.skeleton import reduce_body
from staf_cli.fitting.smoothing import with_shape
from staf_cli.fitting.uncertainty import POWERS, SHARE, USUAL, evidence, network_sigma
from staf_cli.landmarks.following import follow
from staf_cli.landmarks.reader import load_reader
from staf_cli.recovery import engine
from staf_cli.recovery.cadence import choose_cadence
from staf_cli.recovery.recover import Recovery, place_people
from staf_cli.recovery.spool import MemorySpool
from staf_cli.video import Damage

FRAMES_LOST = 0.3  # s in which the detector sees nobody
STEPS = 100  # of reweighted least squares
GROUPS = {
    "spine, neck, head": (3, 6, 9, 12, 15, 13, 14),
    "hips": (1, 2),
    "shoulders": (16, 17),
    "elbows": (18, 19),
    "wrists, hands": (20, 21, 22, 23),
    "knees": (4, 5),
    "ankles, toes": (7, 8, 10, 11),
}


@dataclass(frozen=True)
class Sample:
    """One person, recovered in one way, in F frames; the pelvis is left out."""

    clip: str
    way: str
    error: Float  # (F, 23) m
    found: dict[str, Float]  # evidence, (F, 23) each
    sigma: Float  # (F, 23) m, by the numbers that are in uncertainty.py


def main() -> None:
    """Print numbers measured on one folder of clips, and what those in use say of another."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_joint_sigma")
    parser.add_argument("clips", type=Path, nargs="+", help="with truth, to measure the numbers on")
    parser.add_argument("--check", type=Path, help="other clips, to check those in use on")
    options = parser.parse_args()
    body = Body(OPEN_BODY, load_body(locate(OPEN_BODY)))
    recovery = recovery_of(body)
    samples = [one for folder in options.clips for one in _samples(folder, recovery)]
    usual, powers = _measured(samples)
    print("USUAL =", {joint: round(value, 3) for joint, value in usual.items()})
    print("POWERS =", {name: round(value, 2) for name, value in powers.items()})
    for folder in filter(None, [*options.clips, options.check]):
        print(f"\n{folder}, by the numbers in uncertainty.py")
        _report(
            [one for one in samples if one.clip.startswith(f"{folder}/")]
            or list(_samples(folder, recovery))
        )


def recovery_of(body: Body) -> Recovery:
    """Load the open weights and the landmark network.

    Args:
        body: the open body.

    Returns:
        What `staf run` recovers people with, on the processor.
    """
    device = torch.device("cpu")
    one = contender(OPEN_WEIGHTS, load_checkpoint(locate(OPEN_WEIGHTS)), body)
    settings = engine.Settings(device, choose_dtype(device, "auto"), 16)
    engine.prepare(one.network, settings)
    return Recovery(body, one.network, one.identity, one.crop_scale, settings, load_reader(device))


def _samples(folder: Path, tools: Recovery) -> Iterator[Sample]:
    """All people of a folder, in each way of recovering them."""
    for footage in open_dataset(folder):
        for truth in footage.people:
            yield from _of_person(f"{folder}/{footage.name}", footage, truth, tools)


def seen_by_networks(
    footage: Footage, truth: Truth, tools: Recovery
) -> tuple[Track, Person, LandmarkTrack]:
    """Let the networks look at a person whose boxes are the true ones.

    Args:
        footage: the clip.
        truth: of one of its people, with a detector's keypoints.
        tools: the networks.

    Returns:
        The track, the person before any fit, and the landmarks.
    """
    track = _track(truth, footage.clip.fps)
    spool, found = MemorySpool(1), list[LandmarkTrack]()
    rest = Damage(), tools, footage.focal, choose_cadence(footage.clip.fps, 1), spool
    place_people(footage.frames(), [track], footage.clip, *rest)
    (start,) = spool.people()
    assert tools.landmark_reader is not None
    for _ in follow(footage.frames(), [track], tools.landmark_reader, footage.clip.fps, found):
        pass
    return track, start, found[0]


def _of_person(clip: str, footage: Footage, truth: Truth, tools: Recovery) -> Iterator[Sample]:
    track, start, seen = seen_by_networks(footage, truth, tools)
    error = _error(start, truth, tools.body)
    nothing = np.zeros_like(error)
    unfitted = {name: nothing + (name == "unfitted") for name in POWERS}
    yield Sample(clip, "network", error, unfitted, network_sigma(len(error))[:, 1:])
    yield _fitted(clip, "landmarks", start, truth, track, seen, tools.body)
    yield _fitted(clip, "no landmarks", start, truth, track, None, tools.body)
    lost = _lost(track)
    if lost.interpolated.any():
        yield _fitted(clip, "lost, landmarks", start, truth, lost, seen, tools.body)
        yield _fitted(clip, "lost, no landmarks", start, truth, lost, None, tools.body)


def _track(truth: Truth, fps: float) -> Track:
    count = len(truth.frame)
    assert truth.detected is not None
    ones, none = np.ones(count), np.zeros(count, bool)
    time = truth.frame / fps
    return Track(1, truth.frame, time, truth.box, ones, none, truth.detected)


def _lost(track: Track) -> Track:
    """The track with a stretch in the middle in which the detector saw nobody."""
    middle = track.time[len(track.time) // 2]
    lost = np.abs(track.time - middle) <= FRAMES_LOST / 2
    if lost[0] or lost[-1]:
        return track
    seen = np.flatnonzero(~lost)
    rows = np.arange(len(lost))
    box = np.stack([np.interp(rows, seen, side[seen]) for side in track.box.T], 1)
    kp2d = np.where(lost[:, None, None], 0, track.kp2d)
    score = np.where(lost, 0, track.score)
    return replace(track, box=box, score=score, interpolated=lost, kp2d=kp2d)


def _fitted(
    clip: str,
    way: str,
    start: Person,
    truth: Truth,
    track: Track,
    seen: LandmarkTrack | None,
    body: Body,
) -> Sample:
    """A person as `fit_people` makes them."""
    end = fitted = refine(start, track, body, seen)
    cue = None
    if seen is not None:
        cue = landmark_cue(seen, track, start)
        shape = shape_from_masks(fitted, seen, body)
        end = with_shape(fitted, body, shape.betas) if shape.frames else fitted
    found = evidence(start, fitted, track, cue, reduce_body(body))
    assert end.joint_sigma is not None
    own = {name: values[:, 1:] for name, values in found.items()}
    return Sample(clip, way, _error(end, truth, body), own, end.joint_sigma[:, 1:].astype(float))


def _error(person: Person, truth: Truth, body: Body) -> Float:
    """Distance of joints from the truth, both counted from the pelvis: (F, 23) m."""
    pose = truth.pose
    assert pose is not None
    rotmats, betas = rotation_matrices(pose.poses), torch.from_numpy(pose.betas)
    place = torch.from_numpy(pose.trans)
    size, focal = person.image_size, person.focal_length
    true, _ = joints(body, rotmats, betas, place, size, focal)
    off = person.joints3d - true
    error: Float = np.linalg.norm(off[:, 1:] - off[:, :1], axis=-1)
    return error


def _measured(samples: Sequence[Sample]) -> tuple[dict[int, float], dict[str, float]]:
    """USUAL and POWERS by quantile regression: iteratively reweighted least squares."""
    columns = np.zeros((JOINT_COUNT, len(USUAL)))
    for column, joint in enumerate(USUAL):
        columns[[joint, RIGHT.get(joint, joint)], column] = 1
    parts, logs, weights = [], [], []
    for one in samples:
        of_joint = np.broadcast_to(columns[1:], (len(one.error), *columns[1:].shape))
        rows = np.dstack([of_joint, *(one.found.get(name, 0 * one.error) for name in POWERS)])
        parts.append(rows.reshape(-1, rows.shape[-1]))
        logs.append(np.log(one.error.clip(min=1e-4)).ravel())
        weights.append(np.full(one.error.size, 1 / one.error.size))
    matrix, log, weight = np.concatenate(parts), np.concatenate(logs), np.concatenate(weights)
    share = np.full(len(log), 1.0)
    for _ in range(STEPS):
        scaled = matrix * (weight * share)[:, None]
        solved = np.linalg.solve(matrix.T @ scaled, scaled.T @ log)
        off = log - matrix @ solved
        share = np.where(off > 0, SHARE, 1 - SHARE) / np.maximum(np.abs(off), 1e-3)
    usual = dict(zip(USUAL, np.exp(solved[: len(USUAL)]).tolist(), strict=True))
    return usual, dict(zip(POWERS, solved[len(USUAL) :].tolist(), strict=True))


def _report(samples: Sequence[Sample]) -> None:
    """Print the share of joints within their sigma, and how well it ranks errors."""
    for way in dict.fromkeys(one.way for one in samples):
        own = [one for one in samples if one.way == way]
        error, sigma = (
            np.concatenate([getattr(one, name) for one in own]) for name in ("error", "sigma")
        )
        within = error <= sigma
        rank = spearmanr(error.ravel(), sigma.ravel()).statistic
        by_joint = [spearmanr(error[:, n], sigma[:, n]).statistic for n in range(error.shape[1])]
        print(f"{way}: {100 * within.mean():.0f} % within; Spearman {rank:.2f}, ", end="")
        print(f"mean of single joints {np.nan_to_num(by_joint).mean():.2f}")
        for name, numbers in GROUPS.items():
            print(f"  {name}: {100 * within[:, np.array(numbers) - 1].mean():.0f} %")
        by_clip = sorted(100 * (one.error <= one.sigma).mean() for one in own)
        print("  clips:", " ".join(f"{share:.0f}" for share in by_clip))
        order = np.array_split(sigma.ravel().argsort(kind="stable"), 10)
        for name, values in (
            ("sigma, cm", 100 * sigma),
            ("error, cm", 100 * error),
            ("%", 100 * within),
        ):
            means = (values.ravel()[rows].mean() for rows in order)
            print("  tenths by sigma,", name, " ".join(f"{mean:.0f}" for mean in means))


if __name__ == "__main__":
    main()
