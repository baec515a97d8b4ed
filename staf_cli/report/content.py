"""All that the report shows, as plain data for page.js."""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from staf_cli import video
from staf_cli.body.skinning import Body
from staf_cli.core.errors import counted, one_line
from staf_cli.core.palette import person_colour
from staf_cli.core.records import Bools, Clip, Track, TrackRow
from staf_cli.export.motion import JOINT_NAMES
from staf_cli.fitting.keypoints import with_steady_sides
from staf_cli.report.bodies import Bodies, animate
from staf_cli.report.curves import curve, curves
from staf_cli.report.measures import ANGLES, Measures, measure, median_error, worst
from staf_cli.report.pictures import Picture, extract
from staf_cli.report.quality import CLOSE, FAR, judge, readable_time
from staf_cli.result import person_npz
from staf_cli.result.run_record import RunRecord

WORST, APART = 10, 0.25  # frames shown; s between two of one person
MOST_POINTS = 60_000  # of all curves together: 1.5 MB
LONGEST_CURVE = 2000  # points; a screen has about as many columns
MOST_ANGLES = 1000  # moments at which one person's angles are told: 40 kB
MOST_BARS = 500  # of one person in the timeline
LONGEST_RECORD = 100_000  # characters of run.json

Json = dict[str, Any]


def gather(
    folder: Path,
    tracks: Sequence[Track],
    frames: range,
    body: Body,
    overlay: Path,
    record: RunRecord,
) -> Json:
    """Collect what the page shows of a result folder; the arguments are those of `report.write`."""
    size = record.video.width, record.video.height
    people = [
        measure(
            with_steady_sides(track, size),
            person_npz.stretches(person_npz.path_of(folder, track.id)),
            [other for other in tracks if other is not track],
        )
        for track in tracks
    ]
    clip = open_overlay(overlay)
    chosen = worst(people, WORST, APART)
    origin, found = _pictures(clip, people, chosen, frames, record.video.start)
    last = max(float(one.time[-1]) for one in people)
    shown = animate(folder, tracks, frames, body, record.clothes)
    damage = record.damage
    verdict = judge(people, damage.packets, damage.missing, damage.pictures)
    median = curve(*median_error(people), LONGEST_CURVE)
    return {
        "title": one_line(Path(record.video.path).name),
        "subtitle": _subtitle(len(people), len(frames), clip),
        "clip": {
            "overlay": overlay.name,
            "still": clip.pictures,
            "original": None if clip.pictures else _original(folder, record),
            "start": origin,
            "end": max(last, origin + (len(frames) - 1) / clip.fps),
            "offset": origin,
            "fps": clip.fps,
        },
        "people": [_person(one, MOST_POINTS // (4 * len(people))) for one in people],
        "median": median if len(people) > 1 else None,
        "limits": [CLOSE, FAR],
        "joints": JOINT_NAMES,
        "space": _space(shown),
        "verdict": {**vars(verdict), "doubts": [vars(doubt) for doubt in verdict.doubts]},
        "worst": [_worst(people[n], row, found[n, row]) for n, row in chosen if (n, row) in found],
        "settings": list(_settings(record)),
        "record": _record(record),
        "notes": list(_notes(overlay, shown, people)),
    }


def open_overlay(path: Path) -> Clip:
    """Describe an overlay, whose own times are right: none of its steps is a jump.

    Args:
        path: the overlay's.

    Returns:
        The clip.

    Raises:
        VideoError: it cannot be read.
    """
    return replace(video.probe(path), jumps=())


def _original(folder: Path, record: RunRecord) -> str | None:
    """Where the page finds the video itself, if a browser shows the same pictures of it."""
    source = Path(record.video.path)
    if record.video.remarks or not source.is_file():
        return None
    try:
        relative = Path(os.path.relpath(source, folder.absolute()))
    except ValueError:  # on another drive of Windows
        return None
    return quote(os.fsencode(relative.as_posix()))


def _subtitle(people: int, frames: int, clip: Clip) -> str:
    who = counted(people, "person")
    if clip.pictures:
        return f"{who} in one picture"
    return f"{who} in {counted(frames, 'frame')}, {readable_time(frames / clip.fps)}"


def _pictures(
    overlay: Clip,
    people: Sequence[Measures],
    chosen: Sequence[TrackRow],
    frames: range,
    start: float,
) -> tuple[float, dict[TrackRow, Picture]]:
    """The clip's time, s, at which the overlay begins, and its pictures of some people's rows."""
    number = {(n, row): int(people[n].frame[row]) - frames.start for n, row in chosen}
    time = {(n, row): float(people[n].time[row]) for n, row in chosen}
    found = extract(overlay, {number[one]: time[one] - start for one in chosen})
    # An overlay of a stretch of a video begins at 0 with the first frame at or after `start`, so
    # that its clock is known exactly only from a frame.
    origin = start
    for one in chosen:
        if start > 0 and number[one] in found:
            origin = time[one] - found[number[one]].time
            break
    return origin, {one: found[number[one]] for one in chosen if number[one] in found}


def _person(one: Measures, points: int) -> Json:
    """One person's row in the timeline, and curves of at most so many points each."""
    most = max(2, min(LONGEST_CURVE, points))
    there = np.ones(len(one.frame), bool)
    red, green, blue = person_colour(one.id)
    bridged = f", {one.interpolated.sum()} of them not detected" if one.interpolated.any() else ""
    return {
        "number": one.id,
        "name": one.name,
        "colour": f"#{red:02x}{green:02x}{blue:02x}",
        "summary": f"in {counted(len(one.frame), 'frame')}{bridged}",
        "there": list(_bars(one, there)),
        "stands": [list(_bars(one, foot)) for foot in one.stands.T],
        "bridged": list(_bars(one, one.interpolated)),
        "error": curve(one.time, one.error, most),
        "sigma": curve(one.time, one.sigma, most),
        "speed": curve(one.time, one.speed, most, one.fastest),
        "acceleration": curve(one.time, one.acceleration, most, one.most_abrupt),
        "angles": curves(one.time, one.angles, ANGLES, min(MOST_ANGLES, points // 8)),
    }


def _bars(one: Measures, mask: Bools) -> Iterator[tuple[float, float]]:
    """Begin and end, s, of each run of frames in which a mask (F,) holds; the longest ones."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return
    length = float(np.median(np.diff(one.time))) if len(one.time) > 1 else 0.0
    breaks = np.flatnonzero(np.diff(one.frame[rows]) > 1) + 1
    runs = [rows[first:end] for first, end in pairwise([0, *breaks.tolist(), len(rows)])]
    for run in sorted(runs, key=lambda run: -len(run))[:MOST_BARS]:
        yield round(float(one.time[run[0]]), 3), round(float(one.time[run[-1]]) + length, 3)


def _worst(one: Measures, row: int, picture: Picture) -> Json:
    time = float(one.time[row])
    error = float(one.error[row])
    if np.isfinite(error):
        how = "off" if error > FAR else "close to"
        why, detail = f"{how} the detected keypoints", f"off by {100 * error:.0f} % of the box"
    else:
        why = "where motion is most abrupt"
        detail = f"all joints at {one.mean_acceleration[row]:.0f} m/s²"
    return {
        "person": one.id,
        "time": time,
        "text": f"{readable_time(time)}, {one.name}: {why}",
        "detail": detail,
        "picture": f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}",
    }


def _space(shown: Bodies) -> Json:
    return {
        "glb": base64.b64encode(shown.glb).decode(),
        "people": shown.people,
        "middle": [round(float(x), 3) for x in shown.middle],
        "world": shown.world,
        "floor": round(shown.floor, 3),
        "reach": round(shown.reach, 3),
        "yfov": round(shown.yfov, 3),
        "aspect": shown.aspect,
    }


def _settings(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What the user may ask about first, as names and values."""
    source, damage = record.video, record.damage
    yield "Video", one_line(source.path)
    yield "Picture", f"{source.width} x {source.height} pixels, {source.fps} frames a second"
    if source.start or source.end is not None:
        end = "its end" if source.end is None else f"{source.end} s"
        yield "Stretch", f"{source.start} s to {end}"
    for line in source.remarks:
        yield "Read otherwise", one_line(line)
    missing = counted(damage.missing, "picture")
    wrong = f"{counted(damage.packets, 'damaged place')}, {missing} missing at the end"
    if damage.pictures:
        wrong = f"{counted(damage.packets, 'picture')} not readable in full"
    yield "Damage", wrong if damage else "none found"
    if effect := record.smoothing:
        before, after = effect.acceleration_before, effect.acceleration_after
        yield "Acceleration, smoothed", f"{before:.3g} m/s² before, {after:.3g} after"
        before, after = effect.jitter_before, effect.jitter_after
        yield "Jitter, smoothed", f"{before:.3g} m/s³ before, {after:.3g} after"
    yield "Weights", one_line(record.weights)
    yield "Body", one_line(record.body)
    yield "Processor", one_line(record.device)
    yield "staf", one_line(record.staf)


def _record(record: RunRecord) -> str:
    """run.json to read, without the passes, which mean nothing to people."""
    values = {key: value for key, value in record.to_json().items() if key != "passes"}
    text = json.dumps(values, indent=2)
    return text if len(text) <= LONGEST_RECORD else text[:LONGEST_RECORD] + "\n... cut off"


def _notes(overlay: Path, shown: Bodies, people: Sequence[Measures]) -> Iterator[str]:
    """What the reader must know of the page itself."""
    yield (
        f"Keep {overlay.name} beside this page: it is shown from there, and the video itself "
        "from where staf read it. Everything else is in the page, and nothing comes from a network."
    )
    if shown.step > 1:
        yield f"The 3D view has one of {shown.step} frames; what lies between is interpolated."
    if len(shown.people) < len(people):
        yield f"The 3D view shows the {len(shown.people)} people who are there the longest."
    floor = "is level with the camera, and lies under the lowest feet"
    if shown.world:
        floor = "is the ground, as it was found or given; a stripe on it is where a person went"
    yield f"The floor of the 3D view has squares of 1 m; it {floor}."
    yield "Angles are those of the export `angles`, and not of clinical grade."
