"""People placed in the world: ground found, axes chosen, contacts estimated, feet that stand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d
from torch import Tensor

from staf_cli.body.posing import CHUNK, rotation_matrices
from staf_cli.body.skinning import Body, BodyPoints
from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.geometry import matrix_to_axis_angle
from staf_cli.core.records import (
    Float,
    LandmarkTrack,
    Person,
    Track,
    join_rows,
    select_rows,
)
from staf_cli.fitting.smoothing import with_surroundings
from staf_cli.world.axes import (
    ShotAxes,
    camera_to_world,
    in_world,
    levels_at,
    raised,
    shot_axes,
)
from staf_cli.world.camera_path import with_path
from staf_cli.world.contacts import contact_probability
from staf_cli.world.feet import Feet, feet_of, join_feet
from staf_cli.world.ground import Ground, find_ground, find_vertical
from staf_cli.world.legs import LEGS, Leg, reach
from staf_cli.world.levels import LYING, Stay, levels_of, lowest_points, stays_of
from staf_cli.world.options import WorldOptions
from staf_cli.world.picture import distance_from_keypoints, eased
from staf_cli.world.seen_feet import seen_speed
from staf_cli.world.soles import sole_points, soles_of
from staf_cli.world.standing import CONTACT, SHORTEST_STEP, Stand, plan_stand

# Rounds of turning legs: a pelvis that is too high for them comes down, and what sinks is held at
# the ground in the next one.
ROUNDS = 8
LEAST_DROP = 0.004  # m, above its ground where a foot may be
DROP_SECONDS = 0.1  # before and after a stretched leg, in which the pelvis comes down
SUNK = 0.003  # m
DEEP, DEEP_LASTING = 0.15, 0.2  # m below the ground, and s, of a body that is not there
DEEP_SECONDS = 0.5  # in which it is raised
DEEPEST = 0.008  # m, below the ground, of a sole after all
TRIES = 8  # of feet that stand, each with less strength where the picture fits worse than it may
SETTLING = 3  # times that contacts and the height over the ground are found from each other
MOST_PEOPLE = 20  # of a shot, those in the most frames: from these gravity and ground are found
SURVEYED = 10_000  # frames of a person that ground and gravity are found from, at most
PLACED_TOGETHER = 1000  # frames of a person: 3000 took 200 MB more, and a fifth longer
REACH = 2.0  # s, on either side of a stretch, that is looked at for it


def place_in_world(
    people: Sequence[Person],
    seen: Sequence[LandmarkTrack | None],
    body: Body,
    camera: CameraMotion,
    options: WorldOptions,
    tracks: Sequence[Track] | None = None,
) -> list[Person]:
    """Place people in the world.

    Args:
        people: all of a clip, in the camera frame.
        seen: what the landmark network saw of each; None: it did not look.
        body: theirs.
        camera: its motion over the clip.
        options: what the user knows and wants.
        tracks: what the detector saw of each, so that feet that stand fit it; None: nothing.

    Returns:
        The people, with the keys of the world.
    """
    camera = with_path(camera, [in_stretches(person) for person in people], body)
    surveyed = [survey([person], len(person.frame), body, camera) for person in people]
    axes = find_axes(surveyed, options)
    place = partial(place_stretches, body=body, camera=camera, axes=axes, options=options)
    known: Sequence[Track | None] = [None] * len(people) if tracks is None else tracks
    return [
        join_rows(list(place(in_stretches(person), own, track)))
        for person, own, track in zip(people, seen, known, strict=True)
    ]


def in_stretches(person: Person) -> Iterator[Person]:
    """Cut a person into stretches of frames that are computed together."""
    for first in range(0, len(person.frame), PLACED_TOGETHER):
        yield select_rows(person, slice(first, first + PLACED_TOGETHER))


def survey(stretches: Iterable[Person], frames: int, body: Body, camera: CameraMotion) -> Feet:
    """Collect what gravity and ground are found from; of a long person every few stretches.

    Args:
        stretches: of the person, in order.
        frames: how many these have together.
        body: theirs.
        camera: its motion over the clip.

    Returns:
        Some of the frames, or all.
    """
    soles, step = soles_of(body), 1 + frames // SURVEYED
    return join_feet([feet_of(one, soles, camera) for one in islice(stretches, None, None, step)])


def find_axes(feet: Sequence[Feet], options: WorldOptions) -> dict[int, ShotAxes]:
    """Find gravity and ground of each shot, and how high over it each person's camera is.

    Args:
        feet: of all people of a clip.
        options: what the user knows.

    Returns:
        The world's axes, by shot.
    """
    axes = {}
    for shot in sorted({number for one in feet for number in np.unique(one.shot).tolist()}):
        here = [one.in_shot(shot) for one in feet if (one.shot == shot).any()]
        here.sort(key=lambda one: -len(one.frame))
        longest = here[:MOST_PEOPLE]
        ground = find_ground(longest, options)
        up = find_vertical(longest, options)
        stays = [stays_of(one, up, ground.height) for one in here]
        if any(len(own) > 1 for own in stays[: len(longest)]):
            parts = zip(longest, stays, strict=False)
            standing = [one.rows(stay.rows) for one, own in parts for stay in own if stay.standing]
            ground = find_ground(standing, options)
        starts = iter(ground.heights)
        levels = {}
        for one, own in zip(here, stays, strict=True):
            heights = [_height(one, stay, ground, starts) for stay in own]
            levels[one.id] = levels_of(one, own, heights, ground.height)
        axes[shot] = shot_axes(ground, here, levels)
    return axes


def _height(feet: Feet, stay: Stay, ground: Ground, starts: Iterator[float]) -> float:
    """The height (m) of a person's camera over the level of one of their stays."""
    if stay.standing:
        return _settled(feet.rows(stay.rows), ground.up, next(starts, ground.height))
    return -float(np.percentile(lowest_points(feet.rows(stay.touched), ground.up), LYING))


def _settled(feet: Feet, up: Float, height: float) -> float:
    """The height of a person's camera at which what is in contact is on the ground, mostly."""
    over = feet.soles @ up
    for _ in range(SETTLING):
        standing = over[contact_probability(feet, over + height, None) > CONTACT]
        if len(standing):
            height = -float(np.median(standing))
    return height


def place_stretches(
    stretches: Iterable[Person],
    seen: LandmarkTrack | None,
    track: Track | None,
    body: Body,
    camera: CameraMotion,
    axes: Mapping[int, ShotAxes],
    options: WorldOptions,
) -> Iterator[Person]:
    """Place one person in the world, in stretches.

    Args:
        stretches: of the person, in order.
        seen: what the landmark network saw of all of them; None: it did not look.
        track: what the detector saw; None: nothing.
        body: theirs.
        camera: its motion over the clip.
        axes: by shot.
        options: what the user wants.

    Yields:
        Each stretch with the keys of the world, found from all frames within REACH of it.
    """
    soles = soles_of(body)
    for window, rows in with_surroundings(stretches, REACH):
        placed = _placed(window, seen, soles, camera, axes)
        if options.lock_feet:
            placed = locked(placed, track, body, soles, camera)
        level = levels_at(window.id, window.frame, camera, axes)
        yield select_rows(raised(placed, level), rows)


def _placed(
    person: Person,
    seen: LandmarkTrack | None,
    soles: BodyPoints,
    camera: CameraMotion,
    axes: Mapping[int, ShotAxes],
) -> Person:
    """The person with the keys of the world, but with the level that they are on at 0."""
    feet = feet_of(person, soles, camera)
    to_world = camera_to_world(person.id, person.frame, camera, axes)
    sigma = np.stack([axes[shot].sigma for shot in feet.shot.tolist()])
    level = levels_at(person.id, person.frame, camera, axes)
    placed = raised(in_world(person, to_world, sigma), -level)
    placed = _not_below(placed, DEEP, DEEP_LASTING, soles, feet.runs)
    assert placed.world_poses is not None and placed.world_trans is not None
    points = sole_points(placed.world_poses, person.betas, placed.world_trans, soles)
    speed = None if seen is None else seen_speed(seen, person, camera)
    contacts = contact_probability(feet, points[..., 1], speed)
    return replace(placed, world_contacts=contacts.astype(np.float32))


def _not_below(
    person: Person, depth: float, lasting: float, soles: BodyPoints, runs: Sequence[slice]
) -> Person:
    """The person raised where they are deeper (m) below what they are on, for so long (s)."""
    # With their camera, so that the picture stays: ground or distance are off for them.
    assert person.world_poses is not None and person.world_trans is not None
    assert person.world_joints3d is not None
    points = sole_points(person.world_poses, person.betas, person.world_trans, soles)
    lowest = np.minimum(points[..., 1].min(1), person.world_joints3d[..., 1].min(1))
    deep = np.maximum(-depth - lowest, 0)
    if not deep.any():
        return person
    lift = np.zeros_like(deep)
    for run in runs:
        steps = np.maximum(np.diff(person.time[run]), SHORTEST_STEP)
        frames = round(lasting / 2 / float(np.median(steps))) if len(steps) else 0
        lasts = minimum_filter1d(deep[run], 2 * frames + 1, mode="nearest")
        lift[run] = _envelope(lasts, person.time[run], DEEP_SECONDS)
    return raised(person, lift)


def locked(
    person: Person, track: Track | None, body: Body, soles: BodyPoints, camera: CameraMotion
) -> Person:
    """Let feet stand, as far as the picture allows, and not sink.

    Args:
        person: F frames, placed in the world, what they are on at 0.
        track: what the detector saw; None: nothing.
        body: theirs.
        soles: of it.
        camera: its motion over the clip.

    Returns:
        The person with other legs and another place.
    """
    runs = feet_of(person, soles, camera).runs
    moved = _locked(person, track, body, soles, runs)
    if moved is not None:
        return moved
    # What sinks costs too much to bend out of the ground: the ground is elsewhere there.
    lifted = _not_below(person, DEEPEST, 0.0, soles, runs)
    return _locked(lifted, track, body, soles, runs) or lifted


def _locked(
    person: Person, track: Track | None, body: Body, soles: BodyPoints, runs: list[slice]
) -> Person | None:
    """The person with feet that stand; None: even a little of it costs too much in the picture."""
    assert person.world_poses is not None and person.world_trans is not None
    assert person.world_camera is not None and person.world_contacts is not None
    points = sole_points(person.world_poses, person.betas, person.world_trans, soles)
    sight = np.einsum("fij,fj->fi", person.world_camera[..., :3], person.joints3d[:, 0])
    contacts = person.world_contacts.astype(np.float64)
    whole = plan_stand(points, contacts, sight, person.time, runs)
    strength = np.ones(len(person.frame))
    for _ in range(TRIES):
        stand = whole.eased(points, strength)
        moved = above_ground(_standing(person, body, soles, stand, runs), soles, runs)
        if track is None:
            return moved
        before, after = (distance_from_keypoints(one, track) for one in (person, moved))
        weaker = eased(strength, before, after, person.time)
        if weaker is None:
            return moved
        if np.array_equal(weaker, strength):
            break
        strength = weaker
    return None


def _standing(
    person: Person, body: Body, soles: BodyPoints, stand: Stand, runs: Sequence[slice]
) -> Person:
    """The person whose pelvis and legs put the feet where they stand, and not into the ground."""
    assert person.world_poses is not None and person.world_joints3d is not None
    start = rotation_matrices(person.world_poses)
    pelvis = torch.from_numpy(person.world_joints3d[:, 0] + stand.shift)
    wanted, held = torch.from_numpy(stand.soles.copy()), torch.from_numpy(stand.held.copy())
    legs = [_leg(person, body, soles, side) for side in range(len(LEGS))]
    rotmats, reached = start.clone(), torch.empty_like(wanted)
    changed = torch.ones(len(start), dtype=torch.bool)
    for last in [False] * (ROUNDS - 1) + [True]:
        rows = changed.nonzero().flatten()
        for side, joints in enumerate(LEGS):
            own, begun = slice(2 * side, 2 * side + 2), start[rows][:, joints]
            turned, reached[rows, own] = reach(
                side,
                legs[side].rows(rows),
                pelvis[rows],
                start[rows, 0],
                begun,
                wanted[rows, own],
                held[rows, own],
            )
            rotmats[rows[:, None], torch.tensor(joints)] = turned
        drop = torch.from_numpy(_drop(reached, wanted, held, person.time, runs))
        sunk = (reached[..., 1] < -SUNK) & (held < 1)
        changed = (drop > 0) | sunk.any(1)
        if last or not changed.any():
            break
        pelvis[changed, 1] -= drop[changed]
        wanted = torch.where(sunk[..., None], reached * wanted.new_tensor([1, 0, 1]), wanted)
        held = torch.where(sunk, 1.0, held)
    return _posed(person, body, rotmats, pelvis)


def above_ground(person: Person, soles: BodyPoints, runs: Sequence[slice]) -> Person:
    """Lift a person, smoothly in time, where a sole is below the ground.

    Args:
        person: F frames, placed in the world, what they are on at 0.
        soles: of their body.
        runs: slices of frames without a gap.

    Returns:
        The person with no sole deeper than DEEPEST.
    """
    assert person.world_poses is not None and person.world_trans is not None
    assert person.world_joints3d is not None
    points = sole_points(person.world_poses, person.betas, person.world_trans, soles)
    sunk = np.maximum(-DEEPEST - points[..., 1].min(1), 0)
    lift = np.zeros_like(points[:, 0])
    for run in runs:
        lift[run, 1] = _envelope(sunk[run], person.time[run], DROP_SECONDS)
    return replace(
        person,
        world_trans=person.world_trans + lift,
        world_joints3d=person.world_joints3d + lift[:, None],
    )


def _envelope(values: Float, time: Float, seconds: float) -> Float:
    """A curve (F,), smooth over so many seconds, that is nowhere below values (F,)."""
    if len(values) < 2:
        return values
    step = max(float(np.median(np.diff(time))), SHORTEST_STEP)
    frames = max(1, round(seconds / step))  # also of frames that are far apart
    highest = maximum_filter1d(values, 2 * frames + 1, mode="nearest")
    smooth: Float = gaussian_filter1d(highest, frames / 2, mode="nearest", radius=frames)
    return smooth


def _drop(
    reached: Tensor, wanted: Tensor, held: Tensor, time: Float, runs: Sequence[slice]
) -> Float:
    """How far (F,) m a pelvis is too high for legs that are stretched already; smooth in time."""
    above = (reached - wanted)[..., 1] * (held > 0)
    short = (above.amax(1) - LEAST_DROP).clamp(min=0).numpy()
    drop = np.zeros_like(short)
    for run in runs:
        if len(short[run]) > 1:
            drop[run] = _envelope(short[run], time[run], DROP_SECONDS)
    return drop


def _posed(person: Person, body: Body, rotmats: Tensor, pelvis: Tensor) -> Person:
    """The person with these rotations (F, 24, 3, 3), and a pelvis (F, 3), in the world."""
    rest = torch.from_numpy(person.joints3d[:, 0] - person.trans)
    betas = torch.from_numpy(person.betas).float()
    with torch.no_grad():
        own = [
            body.skeleton(*piece)[1].double()
            for piece in zip(
                torch.split(rotmats.float(), CHUNK), torch.split(betas, CHUNK), strict=True
            )
        ]
    trans = pelvis - rest
    return replace(
        person,
        world_poses=matrix_to_axis_angle(rotmats).flatten(1).numpy(),
        world_trans=trans.numpy(),
        world_joints3d=(torch.cat(own) + trans[:, None]).numpy(),
    )


def _leg(person: Person, body: Body, soles: BodyPoints, side: int) -> Leg:
    """One leg of the person's body in the T-pose, in each frame."""
    identity = torch.eye(3).expand(len(person.betas), 24, 3, 3)
    betas = torch.from_numpy(person.betas).float()
    with torch.no_grad():
        points, joints = soles(identity, betas)
    points, joints = points.double(), joints.double()
    hip, knee, ankle = (joints[:, joint] for joint in LEGS[side])
    return Leg(
        hip=hip - joints[:, 0],
        thigh=knee - hip,
        shin=ankle - knee,
        soles=points[:, 2 * side : 2 * side + 2] - ankle[:, None],
    )
