"""On which level a person is, and when: the ground, a step, a roof."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from staf_cli.core.records import Bools, Float
from staf_cli.world.feet import Feet
from staf_cli.world.ground import LOW, SIZE_SIGMA, STEP, spells, standing

CHANGE = 0.1  # of the camera's height: stands that differ by more are on different levels
SOON = 2.0  # s, from one stand to the next: a longer way may slope as much, a flight is shorter
SHORTEST = 0.3  # s, of all stands on a level
FALL = 0.25  # of the camera's height, by which all of a body is below a level that it has left
FALLEN = 0.2  # s, for which it is
LYING = 10  # percent of the frames in which something of a body is as low as where it lies


@dataclass(frozen=True)
class Stay:
    """A time on one level: rows of a person's frames."""

    rows: slice  # with the flight from or to a higher level
    touched: slice  # from the first to the last one in which the level is touched
    standing: bool  # False: no sole stands, but who fell has to be somewhere


@dataclass(frozen=True)
class Level:
    """Where a person is for a time."""

    begin: int  # frame from which on it counts
    first: int  # frame in which it is touched, up to
    last: int
    height: float  # m over the ground
    camera: float  # m, of the shot's first camera over the ground, as this person's size has it


def stays_of(feet: Feet, up: Float, height: float) -> list[Stay]:
    """Find when a person changes levels: soles stand higher or lower than just before.

    Args:
        feet: F frames of one shot.
        up: (3,) unit vector that no stand decides: a step would turn it instead.
        height: m, of the shot's first camera over the ground.

    Returns:
        One stay or more, in order of time; together they have all frames.
    """
    over = feet.soles @ up
    there, least = standing(feet, up), CHANGE * height
    groups = _groups(feet, there, over, least)
    if not groups:
        return [Stay(slice(0, len(over)), slice(0, len(over)), standing=True)]
    rows = [slice(own[0].start, own[-1].stop) for own in groups]
    lowest, cuts = lowest_points(feet, up), [0]
    for own, other in pairwise(groups):
        one, two = _height(own[-1], there, over), _height(other[0], there, over)
        below = lowest[own[-1].stop : other[0].start] < max(one, two) - LOW
        cuts.append(own[-1].stop + (_first(below) if one > two else _last(below)))
    stays = [
        Stay(slice(first, last), own, standing=True)
        for (first, last), own in zip(pairwise([*cuts, len(over)]), rows, strict=True)
    ]
    last = _height(groups[-1][-1], there, over)
    return _with_fall(stays, feet.time, lowest, last, FALL * height)


def levels_of(
    feet: Feet, stays: Sequence[Stay], heights: Sequence[float], height: float
) -> list[Level]:
    """Find how high over the ground a person's levels are.

    A person's size may be off, which raises or lowers all levels alike; so the lowest one is the
    ground, unless it is too high for that. A child, whose size is unknown, seems to stand below the
    ground, so nobody is put there.

    Args:
        feet: of the person in the shot.
        stays: theirs.
        heights: m, of the shot's first camera over each.
        height: m, the same over the ground, by all people together.

    Returns:
        A level for each stay.
    """
    lowest = max(own for own, stay in zip(heights, stays, strict=True) if stay.standing)
    unsure = 3 * SIZE_SIGMA * height
    camera = lowest if height - lowest <= unsure else height
    if max(heights) - camera > 2 * unsure:  # a fall so deep is none that an error explains
        camera = max(heights)
    levels = []
    for own, stay in zip(heights, stays, strict=True):
        lies = not stay.standing and own >= camera - unsure
        falls = not stay.standing and own < camera
        levels.append(
            Level(
                begin=int(feet.frame[stay.rows.start]),
                first=int(feet.frame[stay.touched.start]),
                last=int(feet.frame[stay.touched.stop - 1]),
                height=0.0 if lies or falls else camera - own,
                camera=own if lies else camera,
            )
        )
    return levels


def lowest_points(feet: Feet, up: Float) -> Float:
    """How high (F,) m the lowest of a body's soles and joints is over the shot's first camera."""
    lowest: Float = np.minimum((feet.soles @ up).min(1), (feet.joints @ up).min(1))
    return lowest


def _groups(feet: Feet, there: Bools, over: Float, least: float) -> list[list[slice]]:
    """Stands that are on one level, in order of time; what is too short for a level is left out."""
    groups: list[list[slice]] = []
    for spell in spells(np.asarray(there.any(1)), feet, STEP):
        if groups:
            before = groups[-1][-1]
            soon = feet.time[spell.start] - feet.time[before.stop - 1] < SOON
            change = _height(spell, there, over) - _height(before, there, over)
            if not soon or abs(change) <= least:
                groups[-1].append(spell)
                continue
        groups.append([spell])
    joined: list[list[slice]] = []
    for own in groups:
        seconds = sum(float(feet.time[one.stop - 1] - feet.time[one.start]) for one in own)
        if len(groups) > 1 and seconds < SHORTEST:
            continue
        change = (
            _height(own[0], there, over) - _height(joined[-1][-1], there, over) if joined else 0
        )
        if joined and abs(change) <= least:
            joined[-1] += own
        else:
            joined.append(own)
    return joined


def _height(stand: slice, there: Bools, over: Float) -> float:
    """The height (m) of the soles that stand, in the median."""
    return float(np.median(over[stand][there[stand]]))


def _first(there: Bools) -> int:
    """The number of the first one of some that is there; how many there are, if none is."""
    return int(np.argmax(there)) if there.any() else len(there)


def _last(there: Bools) -> int:
    """The number after the last one of some that are there."""
    return int(len(there) - np.argmax(there[::-1])) if there.any() else 0


def _with_fall(
    stays: list[Stay], time: Float, lowest: Float, height: float, least: float
) -> list[Stay]:
    """The stays of who at last falls from a level without standing again, with where they lie."""
    before = stays[-1]
    left = before.touched.stop + _first(lowest[before.touched.stop :] < height - LOW)
    fallen = lowest[left:] < height - least
    below = time[left:][fallen]
    if not len(below) or np.ptp(below) < FALLEN or below[0] > time[before.touched.stop - 1] + SOON:
        return stays
    lies = fallen & (lowest[left:] <= np.percentile(lowest[left:][fallen], LYING))
    end = len(time)
    return [
        *stays[:-1],
        Stay(slice(before.rows.start, left), before.touched, standing=True),
        Stay(slice(left, end), slice(left + _first(lies), end), standing=False),
    ]
