"""Measure what each cue of the fit is worth: the errors of synthetic people without it.

    staf train clips DATA CLIPS --count 20 --detect
    python -m tools.measure_cues CLIPS

Network and landmarks look at every clip once; then people are fitted as `staf run` does, again
without each of the terms of fitting/energy.py (its sigmas are made a thousand times as wide), and
without what else helps the fit. Prints a row of docs/how-it-works.md for each.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch

from staf_cli.body.format import load_body
from staf_cli.body.posing import joints, rotation_matrices
from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import OPEN_BODY, locate
from staf_cli.core.records import Float, LandmarkTrack, Person, Track
from staf_cli.evaluation.truth import Footage, Truth, open_dataset
from staf_cli.fitting import energy, prior, refine
from staf_cli.fitting.shape import shape_from_masks
from staf_cli.fitting.smoothing import with_shape
from tools.measure_joint_sigma import recovery_of, seen_by_networks

WIDE = 1e3  # times a sigma: the term no longer counts

# What is left out: the constants of a module, each with what it is multiplied by.
LEFT_OUT: dict[str, tuple[tuple[ModuleType, str, float], ...]] = {
    "nothing": (),
    "detector's keypoints": ((energy, "KEYPOINT_SIGMA", WIDE),),
    "landmarks in the image": ((energy, "POINT_SIGMA", WIDE),),
    "directions of bones": ((energy, "BONE_SIGMA", WIDE),),
    "network's pose": ((refine, "GOOD_START", 0.0),),
    "network's depth": ((prior, "START_DEPTH_SIGMA", WIDE),),
    "upright along the line of sight": ((energy, "LEAN_SIGMA", WIDE),),
    "usual accelerations and spins": (
        (energy, "ACCELERATION_SIGMA", WIDE),
        (energy, "SPIN_SIGMA", WIDE),
    ),
    "feet at rest": ((energy, "SLIDE_SIGMA", WIDE),),
    "usual speed in depth": ((energy, "APPROACH_SIGMA", WIDE),),
}


@dataclass(frozen=True)
class Case:
    """A person as the networks saw them, and what is true."""

    truth: Truth
    track: Track
    start: Person
    seen: LandmarkTrack


def main() -> None:
    """Print a row for everything that can be left out."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_cues")
    parser.add_argument("clips", type=Path, help="with truth and a detector's keypoints")
    options = parser.parse_args()
    body = Body(OPEN_BODY, load_body(locate(OPEN_BODY)))
    cases = list(_cases(open_dataset(options.clips), body))
    print("| without | PA-MPJPE | MPJPE | Accel | depth, 0.5 s |\n|---|---|---|---|---|")
    for name, changes in LEFT_OUT.items():
        with ExitStack() as changed:
            for module, constant, factor in changes:
                value = getattr(module, constant)
                changed.enter_context(patch.object(module, constant, value * factor))
            _print(name, [_errors(one, _fitted(one, one.seen, body), body) for one in cases])
    _print("all of the landmarks", [_errors(one, _fitted(one, None, body), body) for one in cases])
    unshaped = [refine.refine(one.start, one.track, body, one.seen) for one in cases]
    pairs = zip(cases, unshaped, strict=True)
    _print("shape from masks", [_errors(one, person, body) for one, person in pairs])
    _print("the fit: the network alone", [_errors(one, one.start, body) for one in cases])


def _cases(footages: Sequence[Footage], body: Body) -> Iterator[Case]:
    tools = recovery_of(body)
    for footage in footages:
        for truth in footage.people:
            track, start, seen = seen_by_networks(footage, truth, tools)
            yield Case(truth, track, start, seen)


def _fitted(case: Case, seen: LandmarkTrack | None, body: Body) -> Person:
    """A person as `fit_people` makes them."""
    fitted = refine.refine(case.start, case.track, body, seen)
    if seen is None:
        return fitted
    shape = shape_from_masks(fitted, seen, body)
    return with_shape(fitted, body, shape.betas) if shape.frames else fitted


def _errors(case: Case, person: Person, body: Body) -> tuple[float, ...]:
    """PA-MPJPE and MPJPE of the 24 joints, mm, Accel, mm / frame^2, and depth over 0.5 s, mm."""
    pose = case.truth.pose
    assert pose is not None
    rotmats, betas = rotation_matrices(pose.poses), torch.from_numpy(pose.betas)
    place, size = torch.from_numpy(pose.trans), person.image_size
    true, _ = joints(body, rotmats, betas, place, size, person.focal_length)
    found = person.joints3d
    own, wanted = found - found[:, :1], true - true[:, :1]
    late = max(1, round(person.fps / 2))
    travelled = [x[late:, 0, 2] - x[:-late, 0, 2] for x in (found, true)]
    shaken = np.diff(own, 2, axis=0) - np.diff(wanted, 2, axis=0)
    aligned = np.linalg.norm(_aligned(own, wanted) - wanted, axis=-1)
    distance = np.linalg.norm(own - wanted, axis=-1)
    depth = np.abs(travelled[0] - travelled[1])
    means = (aligned, distance, np.linalg.norm(shaken, axis=-1), depth)
    return tuple(1000 * float(values.mean()) for values in means)


def _aligned(points: Float, target: Float) -> Float:
    """Points (F, J, 3) after the similarity of each frame that brings them closest to others."""
    middle = target.mean(1, keepdims=True)
    one, other = points - points.mean(1, keepdims=True), target - middle
    u, size, vh = np.linalg.svd(one.transpose(0, 2, 1) @ other)
    size[:, 2] *= (sign := np.sign(np.linalg.det(u @ vh)))
    u[:, :, 2] *= sign[:, None]
    scale = size.sum(1) / (one**2).sum((1, 2))
    aligned: Float = scale[:, None, None] * (one @ (u @ vh)) + middle
    return aligned


def _print(name: str, errors: Sequence[tuple[float, ...]]) -> None:
    pa_mpjpe, mpjpe, accel, depth = np.mean(errors, 0)
    print(f"| {name} | {pa_mpjpe:.1f} | {mpjpe:.1f} | {accel:.1f} | {depth:.0f} |", flush=True)


if __name__ == "__main__":
    main()
