"""Fit a person's parameters to 2D keypoints and landmarks, over a long stretch at once.

The fit is a maximum a posteriori estimate in plain units: Adam looks for the motion whose
energy (energy.py), summed over all frames, is smallest. No surface is skinned (skeleton.py).

1. Left and right are exchanged back where the detector took one for the other (keypoints.py).
2. A start that is far from the keypoints, such as an untrained network's mean pose, is replaced
   by a relaxed person placed and facing as the keypoints show (facing.py, prior.py).
3. `_fit` moves everything together while the robust term narrows: a wrist that is far off in
   the beginning is still pulled, one that no motion explains is ignored in the end.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from staf_cli.body.posing import with_parameters
from staf_cli.body.skinning import Body
from staf_cli.core.records import (
    STRETCH_FRAMES,
    LandmarkTrack,
    Person,
    Track,
    join_rows,
    select_rows,
)
from staf_cli.fitting.energy import energy
from staf_cli.fitting.facing import estimate_scale, estimate_stance
from staf_cli.fitting.joint_limits import joint_limits
from staf_cli.fitting.keypoints import correct_sides, seen_keypoints
from staf_cli.fitting.landmark_cue import (
    LandmarkCue,
    landmark_cue,
    looks_within,
    points_of,
    without_contradicted,
)
from staf_cli.fitting.motion import Motion, motion_of
from staf_cli.fitting.observations import Observations, legs_outside, observe, without_legs
from staf_cli.fitting.prior import Prior, continued, near_start, relaxed_at, standing, turned_to
from staf_cli.fitting.skeleton import Skeleton, reduce_body, relaxed_keypoints
from staf_cli.fitting.uncertainty import joint_sigma, network_sigma

STEPS = 200  # of Adam
RATE = 0.05  # rad, Adam's first step of an angle
PLACE_RATE = 0.4  # times that: of place, depth and shape
LAST_RATE = 0.02  # times that: all steps at the end
ROBUST_WIDTH = (40.0, 8.0)  # Geman-McClure's width, in sigmas: first, last
NARROWING = 0.6  # share of the steps over which the width goes from first to last
CONTEXT = 50  # frames on either side of a stretch that are fitted together with it
SURROUNDINGS = 500  # frames on either side, whose looks help to understand those of a stretch
CHUNK = 2000  # frames whose graph is in memory at a time: about 100 MB
GOOD_START = 0.1  # sides of the box: a start with a smaller 2D error keeps its facing
OUTLIER = 0.2  # sides of the box: a keypoint that is farther off counts as so much


def refine(
    person: Person, track: Track, body: Body, landmarks: LandmarkTrack | None = None
) -> Person:
    """Move a person onto the track's keypoints, starting from the person's own parameters.

    More than STRETCH_FRAMES frames go through `refine_stretches`.

    Args:
        person: F frames.
        track: the same frames.
        body: the person's body model.
        landmarks: what the landmark network saw of the person, if it looked.

    Returns:
        The person with one shape for the whole track, joints within JOINT_RANGES and smooth
        motion in each run of frames, never across a gap, and with `joint_sigma`. The motion is
        unchanged where no keypoint was seen, and where the fit is no closer to the keypoints than
        the start was.
    """
    firsts = range(0, len(person.frame), STRETCH_FRAMES)
    stretches = (select_rows(person, slice(first, first + STRETCH_FRAMES)) for first in firsts)
    return join_rows(list(refine_stretches(stretches, track, landmarks, body)))


def refine_stretches(
    stretches: Iterable[Person], track: Track, landmarks: LandmarkTrack | None, body: Body
) -> Iterator[Person]:
    """Refine a person in stretches, one after the other.

    A stretch is fitted together with the CONTEXT frames before it, which keep their result, and
    with those after it, which are fitted again with the next one; so the motion continues
    smoothly. The shape is that of the first stretch.

    Args:
        stretches: parts of the person, in order; together they have the track's frames.
        track: the whole track.
        landmarks: of the whole track; None: the landmark network did not look.
        body: the person's body model.

    Yields:
        Each stretch, refined.
    """
    coming = (replace(one, joint_sigma=network_sigma(len(one.frame))) for one in stretches)
    now, first, before = next(coming, None), 0, None
    while now is not None:
        after = next(coming, None)
        ahead = None if after is None else select_rows(after, slice(CONTEXT))
        window = join_rows([one for one in (before, now, ahead) if one is not None])
        held = 0 if before is None else len(before.frame)
        rows = slice(first - held, first - held + len(window.frame))
        own_track, cue = _seen(track, landmarks, rows, now)
        refined = _refined(window, own_track, cue, body, held)
        own = select_rows(refined, slice(held, held + len(now.frame)))
        yield own
        before = None if refined is window else select_rows(own, slice(-CONTEXT, None))
        first += len(now.frame)
        now = after


def _seen(
    track: Track, landmarks: LandmarkTrack | None, rows: slice, person: Person
) -> tuple[Track, LandmarkCue | None]:
    """Some rows of a track without what landmarks contradict, and what the landmarks say there."""
    if landmarks is None:
        return select_rows(track, rows), None
    first = max(0, rows.start - SURROUNDINGS)
    around = select_rows(track, slice(first, rows.stop + SURROUNDINGS))
    looks = looks_within(landmarks, int(around.frame[0]), int(around.frame[-1]))
    around = without_contradicted(around, looks)
    cue = landmark_cue(looks, around, person)
    own = slice(rows.start - first, rows.stop - first)
    return select_rows(around, own), None if cue is None else cue.rows(own)


def _refined(
    person: Person, track: Track, cue: LandmarkCue | None, body: Body, held: int
) -> Person:
    """The fit of one stretch, whose first `held` frames are finished and stay as they are."""
    skeleton = reduce_body(body)
    relaxed = relaxed_keypoints(skeleton)
    seen = seen_keypoints(track, person.image_size)
    if not (seen.weight.any() or (cue is not None and cue.seen.any())):
        return person
    scale = estimate_scale(seen, relaxed)
    seen = correct_sides(seen, scale)
    observed = observe(seen, person, cue)
    outside = legs_outside(observed, track, person.image_size[1])
    observed = without_legs(observed, outside)

    start = motion_of(person)
    if held:
        start = replace(start, betas=torch.from_numpy(person.betas[0]).float())
    new = slice(held, None)
    before = _error(skeleton, start.rows(new), observed.rows(new))
    if before < GOOD_START:
        prior = near_start(start)
    else:
        prior = relaxed_at(estimate_stance(seen, relaxed, scale), observed)
    if cue is not None:
        prior = turned_to(prior, cue)
    prior = standing(prior, outside)
    if held:
        prior = continued(prior, start, held)
    with one_thread():
        fitted = _fit(skeleton, prior, observed, held)
    if not _error(skeleton, fitted.rows(new), observed.rows(new)) < before:
        return person
    betas = fitted.betas.expand(len(person.frame), -1)
    moved = with_parameters(person, body, fitted.rotmats, betas, fitted.trans)
    return replace(moved, joint_sigma=joint_sigma(person, moved, track, cue, skeleton))


def _error(skeleton: Skeleton, motion: Motion, observed: Observations) -> float:
    """Mean 2D error in sides of the box, weighted by confidence; inf if not finite."""
    with torch.no_grad():
        posed = skeleton.pose_as_seen(motion.rotmats, motion.betas)
        places, wanted, weight = posed.detected, observed.keypoints, observed.weight
        if observed.landmarks is not None:
            places = torch.cat([places, points_of(posed)], 1)
            wanted = torch.cat([wanted, observed.landmarks.points], 1)
            weight = torch.cat([weight, observed.landmarks.point_weight], 1)
        off = observed.project(places + motion.trans[:, None]) - wanted
        if not off.isfinite().all():
            return math.inf
        error = (off.norm(dim=-1) / observed.size[:, None]).clamp(max=OUTLIER)
        return float((error * weight).sum() / weight.sum().clamp(min=1e-6))


@contextmanager
def one_thread() -> Iterator[int]:
    """Let torch compute on one thread: with tensors this small, several wait longer than they save.

    Yields:
        How many threads there were, and are again afterwards.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _fit(skeleton: Skeleton, prior: Prior, observed: Observations, held: int) -> Motion:
    """The likeliest motion, by Adam from the prior's start; held frames and their shape stay."""
    limits, start = joint_limits(), prior.start
    motion = Motion(
        root=start.root,
        turn=start.turn.clone().requires_grad_(),
        angles=start.angles.clamp(limits.lowest, limits.highest).requires_grad_(),
        ray=start.ray.clone().requires_grad_(),
        log_depth=start.log_depth.clone().requires_grad_(),
        betas=start.betas.clone().requires_grad_(),
    )
    box = float((observed.size / observed.focal).median())  # side of the box as a ray
    adam = torch.optim.Adam(
        [
            {"params": [motion.turn, motion.angles], "lr": RATE},
            {"params": [motion.ray], "lr": PLACE_RATE * RATE * box},
            {"params": [motion.log_depth, motion.betas], "lr": PLACE_RATE * RATE},
        ],
        betas=(0.9, 0.99),
    )
    slowing = torch.optim.lr_scheduler.LambdaLR(adam, _rate_at)
    for step in range(STEPS):
        adam.zero_grad()
        for rows, own in _chunks(len(start.root)):
            parts = motion.rows(rows), prior.rows(rows), observed.rows(rows)
            energy(skeleton, *parts, _width_at(step), own).backward()  # type: ignore[no-untyped-call]
        if held:
            _hold(motion, held)
        adam.step()
        slowing.step()
        with torch.no_grad():
            motion.angles.clamp_(limits.lowest, limits.highest)
    return Motion(
        root=start.root,
        turn=motion.turn.detach(),
        angles=motion.angles.detach(),
        ray=motion.ray.detach(),
        log_depth=motion.log_depth.detach(),
        betas=motion.betas.detach(),
    )


def _rate_at(step: int) -> float:
    """The learning rate of a step over the first one."""
    return LAST_RATE + (1 - LAST_RATE) * math.cos(0.5 * math.pi * step / STEPS) ** 2


def _width_at(step: int) -> float:
    """The robust width of a step, in sigmas."""
    first, last = ROBUST_WIDTH
    return float(last * (first / last) ** max(0.0, 1 - step / (NARROWING * STEPS)))


def _hold(motion: Motion, held: int) -> None:
    """Leave the first frames and the shape without a gradient: Adam then never moves them."""
    for unknown in (motion.turn, motion.angles, motion.ray, motion.log_depth):
        if unknown.grad is not None:
            unknown.grad[:held] = 0
    if motion.betas.grad is not None:
        motion.betas.grad.zero_()


def _chunks(frames: int) -> Iterator[tuple[slice, int]]:
    """Rows to be computed together, and how many of them are a chunk's own."""
    # With the two frames after its own, so that the sum over chunks is the whole energy.
    for first in range(0, frames, CHUNK):
        yield slice(first, min(first + CHUNK + 2, frames)), min(CHUNK, frames - first)
