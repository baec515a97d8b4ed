"""From people whose boxes are known to their bodies: the one way in which everybody is recovered.

`place_people` runs the network over the frames and puts its answers into the image's camera;
`fit_people` refines and smooths; `recover_people` is the chain of both. People pass from one to
the other in stretches of frames, kept by a spool, so that memory need not grow with the clip.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import tee
from typing import TypeVar

import numpy as np

from staf_cli.body.skinning import Body
from staf_cli.checkpoints.registry import OPEN_WEIGHTS
from staf_cli.core.errors import UsageError
from staf_cli.core.progress import Watch
from staf_cli.core.records import Clip, Float, Frame, LandmarkTrack, Person, Track, select_rows
from staf_cli.core.threads import side_by_side
from staf_cli.fitting.refine import one_thread, refine_stretches
from staf_cli.fitting.shape import Shape, shape_from_masks
from staf_cli.fitting.smoothing import (
    Effect,
    common_shape,
    effect,
    mean_effect,
    smooth_stretches,
    with_shape,
)
from staf_cli.landmarks.reader import CropReader
from staf_cli.model.network import WindowNetwork
from staf_cli.recovery import engine
from staf_cli.recovery.cadence import Cadence, choose_cadence
from staf_cli.recovery.options import RecoveryOptions
from staf_cli.recovery.placement import default_focal, place
from staf_cli.recovery.spool import Spool
from staf_cli.video import Damage

Item = TypeVar("Item")


@dataclass(frozen=True)
class Recovery:
    """What makes bodies of people whose boxes are known; loaded once."""

    body: Body
    network: WindowNetwork
    weights: str  # identity of the checkpoint, for the records
    crop_scale: float  # side of the crop over the longer side of the box
    settings: engine.Settings
    landmark_reader: CropReader | None  # for the second cue of the fit; None: without


@dataclass(frozen=True)
class Recovered:
    """What is worth knowing of a recovery, beside the people in the spool."""

    smoothing: Effect | None  # what smoothing did, where it was asked for
    seconds: Mapping[str, float]  # by stage: recover, refine, smooth


def should_refine(options: RecoveryOptions, tracks: Sequence[Track], weights: str) -> bool:
    """Decide whether people are fitted to their keypoints.

    Args:
        options: `refine` decides; None means: with the open weights, where there are keypoints.
        tracks: all people of the clip.
        weights: the checkpoint's identity, name and hash.

    Returns:
        Whether to refine.

    Raises:
        UsageError: refinement is asked for, and nobody has keypoints.
    """
    has_keypoints = any(track.kp2d[..., 2].any() for track in tracks)
    if options.refine and not has_keypoints:
        raise UsageError(
            "refine needs keypoints, and there are none: choose a pose detector such as "
            "yolo11n-pose (in Python: give Boxes.kp2d), or leave refine out"
        )
    if options.refine is None:
        return has_keypoints and weights.split()[0] == OPEN_WEIGHTS
    return options.refine


def recover_people(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    landmarks: Sequence[LandmarkTrack] | None,
    clip: Clip,
    damage: Damage,
    tools: Recovery,
    options: RecoveryOptions,
    spool: Spool,
    watch: Watch,
) -> Recovered:
    """Recover the people of some tracks: network, placement, refinement, smoothing.

    Args:
        frames: the clip's, in order; they are looked at one by one and not kept.
        tracks: the people.
        landmarks: of the same people; None: bodies are fitted without.
        clip: gives image size, frame rate and the number of frames.
        damage: of the video, for the records.
        tools: network and body.
        options: `focal`, `every`, `smooth`, `constant_shape`; `refine` as `should_refine` decided.
        spool: takes the people; empty, with a place for each track.
        watch: the progress callback.

    Returns:
        Times, and what smoothing did. The people are in the spool.

    Raises:
        VideoError: a tracked frame is missing.
        OutOfMemory: not even one crop or window fits into the device's memory.
        WeightsError: the network's answer is not finite.
        UsageError: the frame rate is too low to leave frames out.
    """
    start = time.perf_counter()
    focal = options.focal or default_focal(clip.image_size)
    cadence = choose_cadence(clip.fps, options.every)
    watched = watch("recover", frames, clip.frames)
    place_people(watched, tracks, clip, damage, tools, focal, cadence, spool)
    placed = time.perf_counter() - start
    fitted = fit_people(tracks, landmarks, tools.body, options, spool, watch)
    return replace(fitted, seconds={"recover": placed, **fitted.seconds})


def place_people(
    frames: Iterable[Frame],
    tracks: Sequence[Track],
    clip: Clip,
    damage: Damage,
    tools: Recovery,
    focal: float,
    cadence: Cadence,
    spool: Spool,
) -> None:
    """Run the network over all tracks and put its answers into the image's camera.

    Args:
        frames: the clip's, in order.
        tracks: the people.
        clip: gives image size and frame rate.
        damage: of the video, for the records.
        tools: network and body.
        focal: px.
        cadence: which frames the network looks at.
        spool: takes each stretch as soon as it is complete.

    Raises:
        VideoError: a tracked frame is missing.
        OutOfMemory: not even one crop or window fits into the device's memory.
        WeightsError: the network's answer is not finite.
    """
    for number, rows, estimate in engine.infer_tracks(
        frames, tracks, tools.network, tools.crop_scale, tools.settings, cadence
    ):
        own = select_rows(tracks[number], rows)
        person = place(own, estimate, clip, tools.body, tools.weights, focal)
        spool.add(
            number,
            replace(person, damaged_packets=damage.packets, missing_packets=damage.missing),
        )


def fit_people(
    tracks: Sequence[Track],
    landmarks: Sequence[LandmarkTrack] | None,
    body: Body,
    options: RecoveryOptions,
    spool: Spool,
    watch: Watch,
) -> Recovered:
    """Refine and smooth the people in a spool, as far as the options ask for it.

    Args:
        tracks: the people's tracks, in the spool's order.
        landmarks: of the same people; None: bodies are fitted without.
        body: the people's.
        options: `smooth`, `constant_shape`, and `refine` as `should_refine` decided it.
        spool: holds the people; the fitted ones take their places.
        watch: the progress callback.

    Returns:
        Times, and what smoothing did.
    """
    refines, smooths = bool(options.refine), bool(options.smooth or options.constant_shape)
    if not refines and not smooths:
        return Recovered(None, {})
    start = time.perf_counter()
    refining, working = [0.0] * len(tracks), [0.0] * len(tracks)  # s, by person
    effects: list[list[Effect]] = [[] for _ in tracks]

    def fitted(number: int) -> Iterator[Person]:
        stretches = spool.stretches(number)
        if refines:
            seen = landmarks[number] if landmarks else None
            refined = refine_stretches(stretches, tracks[number], seen, body)
            shaped = refined if seen is None else _shaped(refined, seen, body)
            stretches = _timed(shaped, refining, number)
        if options.constant_shape and refines:  # the shape needs all frames first
            for _ in spool.replace(number, stretches):
                pass
            stretches = spool.stretches(number)
        if smooths:
            shape = _common_shape(spool.stretches(number)) if options.constant_shape else None
            stretches = _smoothed(stretches, body, shape, options.smooth, effects[number])
        yield from spool.replace(number, stretches)

    stages = ["refine"] * refines + ["smooth"] * smooths
    with one_thread() as threads:  # instead of several for one person, which gains less
        people = side_by_side(
            [_timed(fitted(number), working, number) for number in range(len(tracks))], threads
        )
        for _ in watch(" and ".join(stages), people, spool.count()):
            pass
    took, share = time.perf_counter() - start, sum(refining) / max(sum(working), 1e-9)
    seconds = {"refine": share * took, "smooth": (1 - share) * took}
    together = [one for own in effects for one in own]
    return Recovered(
        mean_effect(together) if together else None, {stage: seconds[stage] for stage in stages}
    )


def _shaped(stretches: Iterable[Person], seen: LandmarkTrack, body: Body) -> Iterator[Person]:
    """Yield refined stretches with the shape that the masks of the first one show."""
    found: Shape | None = None
    for stretch in stretches:
        found = found or shape_from_masks(stretch, seen, body)
        yield with_shape(stretch, body, found.betas) if found.frames else stretch


def _common_shape(stretches: Iterable[Person]) -> Float:
    """One shape (10,) for a person of whom only shape and score are kept in memory."""
    kept = [(one.betas, one.score, one.interpolated) for one in stretches]
    betas, score, interpolated = (np.concatenate(column) for column in zip(*kept, strict=True))
    return common_shape(betas, score, interpolated)


def _smoothed(
    stretches: Iterable[Person],
    body: Body,
    shape: Float | None,
    strength: float,
    effects: list[Effect],
) -> Iterator[Person]:
    """Yield the stretches smoothed, with one shape where one is given; notes what that did."""
    before, coming = tee(stretches)
    shaped = coming if shape is None else (with_shape(one, body, shape) for one in coming)
    for was, now in zip(before, smooth_stretches(shaped, body, strength), strict=True):
        effects.append(effect(was, now))
        yield now


def _timed(items: Iterable[Item], seconds: list[float], number: int) -> Iterator[Item]:
    """Pass items on and add the time that each takes to be made to `seconds[number]`."""
    waiting = iter(items)
    while True:
        start = time.perf_counter()
        try:
            item = next(waiting)
        except StopIteration:
            return
        finally:
            seconds[number] += time.perf_counter() - start
        yield item
