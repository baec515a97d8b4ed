"""Finds where the times in a file jump, and by how much they are moved so that they go on."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from staf_cli.core.records import Float, Ints, Jump
from staf_cli.video.container import (
    audio_streams,
    open_container,
    packets_of,
    start_of,
    video_stream,
)

LONGEST_STEP = 1.0  # s; a longer step forward between two pictures is a jump
SLOW_STEPS = 3  # usual steps, below which none is a jump, however slow the video is
LONGEST_SILENCE = 0.5  # s without a packet of sound while pictures stand still
NEAREST_SOUND = 200  # packets of sound between a jump back of the pictures and its own
TIMED_BY_PICTURE = frozenset({"gif", "apng"})  # where a long step is a picture's own duration
INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"  # has the times of all packets in its index
ANY_TIME = -(2**63)  # ticks
LATEST = 2**62  # ticks


@dataclass
class _Stream:
    """The packets of one stream that have times, in the file's order."""

    stream: Any
    packets: int = 0  # how many, with those that have no times
    last: int = 0  # ticks, decoding time of the last one
    high: int = 0  # ticks, the latest presentation time since the last jump back
    number: "array[int]" = field(default_factory=lambda: array("q"))  # among the stream's packets
    place: "array[int]" = field(default_factory=lambda: array("q"))  # among all packets
    shown: "array[int]" = field(default_factory=lambda: array("q"))  # ticks, presentation time
    backs: list[int] = field(default_factory=list)  # rows before which times jump back

    @property
    def parts(self) -> list[slice]:
        """The rows between two jumps back."""
        return [slice(a, b) for a, b in pairwise([0, *self.backs, len(self.number)])]

    def add(self, packet: Any, place: int) -> None:
        """Add the stream's next packet."""
        number, self.packets = self.packets, self.packets + 1
        if packet.dts is None:  # before the first picture of a Matroska, or there are no times
            return
        shown = packet.dts if packet.pts is None else packet.pts
        if self.number and packet.dts < self.last and shown <= self.high:
            self.backs.append(len(self.number))
            self.high = shown
        self.last, self.high = packet.dts, max(self.high, shown) if self.number else shown
        self.number.append(number)
        self.place.append(place)
        self.shown.append(shown)


def find_jumps(path: Path) -> tuple[Jump, ...]:
    """Find where the times of a video jump: back, or forward by more than a second.

    So they do in joined recordings, and where a recorder's clock was set. Pictures go on after
    a jump at the rate that they have elsewhere, and sound is moved with its pictures. Where sound
    goes on during a step forward, the pictures just stood still: that is no jump.

    Args:
        path: The video.

    Returns:
        The jumps of the pictures, and those of the sound that belongs to them; those of each
        stream in the order in which `continuous` needs them.

    Raises:
        VideoError: The file cannot be opened.
    """
    with open_container(path) as container:
        main = video_stream(container, path)
        if container.format.name in TIMED_BY_PICTURE or _indexed_without_jump(container, main):
            return ()
        streams = (main, *audio_streams(container))
        read = {one.index: _Stream(one) for one in streams}
        for place, packet in enumerate(packets_of(container, *streams)):
            if packet is not None:
                read[packet.stream_index].add(packet, place)
        video, *sounds = read.values()
        jumps = tuple(_jumps(video, sounds)) if video.number else ()
        first = _first_shift(video, sounds, start_of(container, main)) if jumps else None
        if first is None:
            return jumps
        whole = [Jump(one.index, 0, ANY_TIME, first) for one in streams]
        return (*whole, *(replace(jump, shift=jump.shift + first) for jump in jumps))


def continuous(packets: Iterator[Any], stream: Any, jumps: Sequence[Jump]) -> Iterator[Any]:
    """Move the times of a stream's packets so that they go on after jumps.

    Args:
        packets: All packets of the stream, in the file's order; others may be among them.
        stream: The stream.
        jumps: From `find_jumps`.

    Yields:
        The same packets.
    """
    own = [jump for jump in reversed(jumps) if jump.stream == stream.index]
    number = 0
    for packet in packets:
        if own and packet is not None and packet.stream_index == stream.index:
            _move(packet, number, own, stream.time_base)
            number += 1
        yield packet


def _move(packet: Any, number: int, latest_first: Sequence[Jump], tick: Fraction) -> None:
    shown = packet.dts if packet.pts is None else packet.pts
    for jump in latest_first:
        if jump.packet <= number and (shown is None or jump.time <= shown):
            ticks = round(jump.shift / tick)
            packet.pts, packet.dts = _moved(packet.pts, ticks), _moved(packet.dts, ticks)
            return


def _moved(time: int | None, ticks: int) -> int | None:
    """Return a time moved; None also where a damaged one leaves what FFmpeg can hold."""
    return None if time is None or abs(time + ticks) > LATEST else time + ticks


def _indexed_without_jump(container: Any, stream: Any) -> bool:
    """Whether a file's index alone shows that nothing jumps: no packet needs to be read."""
    entries = stream.index_entries
    if container.format.name != INDEXED or not stream.frames or len(entries) < stream.frames:
        return False
    steps = np.diff([entry.timestamp for entry in entries])
    return not len(steps) or bool((steps >= 0).all() and steps.max() * stream.time_base < 1)


def _jumps(video: _Stream, sounds: Sequence[_Stream]) -> Iterator[Jump]:
    """The jumps of the pictures, each followed by those of its sound."""
    tick, index = video.stream.time_base, video.stream.index
    shown, place = np.array(video.shown, np.int64), np.array(video.place, np.int64)
    steps = np.concatenate([np.diff(np.sort(shown[part])) for part in video.parts])
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    stated = video.stream.average_rate or video.stream.guessed_rate
    step = max(1, min(usual, round(1 / stated / tick))) if stated else usual
    shift, end = 0, 0  # ticks: of the times, and the latest one after that
    for number, part in enumerate(video.parts):
        times = np.unique(shown[part])
        if number:
            shift = end + step - int(times[0])
            first = int(video.number[part.start])
            yield Jump(index, first, ANY_TIME, shift * tick)
            for sound in sounds:
                if (there := _jump_back_near(sound, int(place[part.start]))) is not None:
                    yield Jump(sound.stream.index, there, ANY_TIME, shift * tick)
        until = place[part.stop] if part.stop < len(place) else place[-1] + 1
        heard = [_times_between(sound, int(place[part][0]), int(until)) for sound in sounds]
        for row in _jumps_forward(times, usual, tick, heard, after_jump=number > 0):
            a, b = int(times[row]), int(times[row + 1])
            shift += a + step - b
            yield Jump(index, int(video.number[part.start]), b, shift * tick)
            for sound in sounds:
                middle = int((a + b) / 2 * tick / sound.stream.time_base)
                there = int(np.searchsorted(sound.place, place[part.start]))
                first = int(sound.number[there]) if there < len(sound.number) else sound.packets
                yield Jump(sound.stream.index, first, middle, shift * tick)
        end = int(times[-1]) + shift


def _jumps_forward(
    times: Ints, usual: int, tick: Fraction, heard: Sequence[Float], after_jump: bool
) -> list[int]:
    """Rows of presentation times (P,), ticks, after which they jump; heard: s, of the sounds."""
    steps = np.diff(times)
    longest = max(LONGEST_STEP, SLOW_STEPS * usual * float(tick))
    rows = np.flatnonzero(steps * float(tick) > longest)
    found = [
        row
        for row in rows.tolist()
        if not any(_goes_on(own, *(times[row : row + 2] * float(tick)).tolist()) for own in heard)
    ]
    if after_jump and len(steps) > 1 and steps[0] > SLOW_STEPS * usual and 0 not in found:
        found.insert(0, 0)  # back from a single wrong time
    return found


def _goes_on(times: Float, start: float, end: float) -> bool:
    """Whether sound with packets at these times, s, goes on from start to end."""
    within = times[(times > start) & (times < end)]
    steps = np.diff([start, *within.tolist(), end])
    return bool(steps.max() <= LONGEST_SILENCE)


def _times_between(sound: _Stream, first: int, until: int) -> Float:
    """When packets of sound are heard that lie between two places in the file, s, ascending."""
    rows = slice(*np.searchsorted(sound.place, [first, until]).tolist())
    return np.sort(np.array(sound.shown[rows]) * float(sound.stream.time_base))


def _jump_back_near(sound: _Stream, place: int) -> int | None:
    """The packet of sound with which its times jump back, near a place in the file."""
    there = int(np.searchsorted(sound.place, place))
    if there == 0 and sound.number:
        return sound.number[0]  # it begins after the jump
    near = min(sound.backs, key=lambda row: abs(row - there), default=None)
    if near is None or abs(near - there) > NEAREST_SOUND:
        return None
    return sound.number[near]


def _first_shift(video: _Stream, sounds: Sequence[_Stream], start: int) -> Fraction | None:
    """What is added to all times, s, where the file's start is that of a later part."""
    until = video.place[video.backs[0]] if video.backs else video.place[-1] + 1
    first: Fraction = min(
        min(one.shown[: np.searchsorted(one.place, until)]) * one.stream.time_base
        for one in (video, *sounds)
        if len(one.place) and one.place[0] < until
    )
    begins: Fraction = start * video.stream.time_base
    return begins - first if first - begins > LONGEST_STEP else None
