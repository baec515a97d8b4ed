"""Counts what is damaged in a clip, by strict decoding: plain decoding conceals it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import inf
from typing import Any

import av
from av.codec.codec import Capabilities

from staf_cli.core.records import Clip
from staf_cli.video.container import (
    captured_errors,
    decode,
    first_picture,
    is_truncated,
    make_strict,
    open_container,
    packets_of,
    start_of,
    video_stream,
)
from staf_cli.video.seeking import Entry, find_entry
from staf_cli.video.sequence import unreadable
from staf_cli.video.timeline import continuous

STATES_LENGTH = frozenset({"matroska,webm", "flv"})  # containers with a length but no full index
LENGTH_TOLERANCE = 0.2  # s that an intact file's stated length may be off
THREADED = Capabilities.frame_threads | Capabilities.slice_threads


@dataclass(frozen=True)
class Damage:
    """What a clip's decoder had to do: damage, in packets (about one a frame), and interlacing."""

    packets: int = 0  # in the file, but not to be decoded in full
    missing: int = 0  # promised by the container, but not in the file
    interlaced: int = 0  # pictures that are flagged as interlaced, which is no damage
    pictures: tuple[str, ...] = ()  # of a folder: names and reasons of the damaged ones

    def __bool__(self) -> bool:
        """Whether anything is damaged."""
        return self.packets + self.missing > 0


def inspect(clip: Clip) -> Damage:
    """Decode a clip strictly, packet by packet, and count what is damaged.

    This pass keeps no frame and uses all cores. Videos have no checksums, so changed bytes that
    make another valid picture are not found: nearly all in VP8, VP9 and GIF, a single one now and
    then elsewhere. Neither are frames that were cut out cleanly, or the missing end of a stream
    without a stated length (TS, MPEG).

    Args:
        clip: From `probe`. Of a span, everything counts that its frames are decoded from: packets
            since the last key packet before it.

    Returns:
        The counts; for a folder, the damaged pictures.

    Raises:
        VideoError: The file can no longer be opened.
    """
    if clip.path.is_dir():
        damaged = unreadable(clip)
        return Damage(packets=len(damaged), pictures=damaged)
    errors = _count_container_errors(clip)
    # With many threads, the packet that fails first depends on their timing. So they only find
    # out whether there is damage; one thread counts it.
    clean = None if errors else _decode_cleanly(clip)
    damage = _count_damage(clip) if clean is None else clean
    return replace(damage, packets=max(damage.packets, errors))


def _count_container_errors(clip: Clip) -> int:
    """Count FFmpeg's errors about the container, read as far as the span needs it."""
    # FFmpeg skips what it cannot parse in a container, and only logs it.
    with captured_errors() as messages, open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        start = start_of(container, stream)
        for packet in continuous(packets_of(container, stream), stream, clip.jumps):
            if packet is None or packet.pts is None or not packet.is_keyframe:
                continue
            time = float((packet.pts - start) * clip.time_base)
            if clip.span.ended(time):
                break
            if 0 < clip.span.start >= time:
                messages.clear()
        sources = {container.format.name, ""}
        return sum(source in sources for _, source, _ in messages)


def _decode_cleanly(clip: Clip) -> Damage | None:
    """Decode the span by all cores; None where there is an error, or where that is uncertain."""
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        if not stream.codec.capabilities & THREADED:
            return None
        entry = find_entry(clip, first_picture(container, stream, clip.path))
    end = Fraction(0)
    packets = pictures = interlaced = 0
    for decoded in _decode_strictly(clip, "AUTO", entry):
        if decoded.damaged:
            return None
        packets += decoded.counts
        pictures += decoded.pictures
        interlaced += decoded.interlaced
        end = max(end, _end_of(decoded.packet))
    # Threads lose the errors of the last packets, but not that their pictures are missing.
    clean = packets == pictures and not _count_missing(clip, end)
    return Damage(interlaced=interlaced) if clean else None


def _count_damage(clip: Clip) -> Damage:
    """Count the damage among the packets that the clip's span is decoded from, in one thread."""
    damaged = beyond = interlaced = 0
    end = Fraction(0)
    for decoded in _decode_strictly(clip, "NONE", None):
        packet, time = decoded.packet, decoded.time
        interlaced += decoded.interlaced
        end = max(end, _end_of(packet))
        if time is None:
            damaged += decoded.damaged
        elif clip.span.ended(time):
            beyond += decoded.damaged
        else:
            if packet.is_keyframe and 0 < clip.span.start >= time:
                damaged = beyond = 0  # nothing from here on is decoded from what was before
            # Pictures after the span count if pictures of the span follow, decoded from them.
            damaged += decoded.damaged + beyond
            beyond = 0
    return Damage(damaged, _count_missing(clip, end), interlaced)


@dataclass(frozen=True)
class _DecodedPacket:
    """A packet and the outcome of decoding it."""

    packet: Any  # None for a read error, and at the end
    time: float | None = None  # s; None where it is unknown or not the video's
    counts: bool = False  # whether it was decoded and its picture is expected
    pictures: int = 0  # how many of the expected ones came out
    damaged: bool = False
    interlaced: int = 0  # pictures


def _decode_strictly(clip: Clip, thread_type: str, entry: Entry | None) -> Iterator[_DecodedPacket]:
    """Yield all packets as far as the span needs them; those before the entry are not decoded."""
    number = keys_beyond = 0
    skipped, first_pts = (entry.packet, entry.pts) if entry else (0, None)
    began = skipped > 0  # a packet before the first key packet is damaged: it lacks its references
    # Not all errors make decoding fail. The decoder logs them, which can be read with one thread.
    capture = captured_errors if thread_type == "NONE" else partial(nullcontext, ())
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        stream.thread_type = thread_type
        make_strict(stream.codec_context)
        start = start_of(container, stream)
        for packet in continuous(packets_of(container), stream, clip.jumps):
            if packet is None:
                yield _DecodedPacket(None, damaged=number >= skipped)
                continue
            if packet.stream_index != stream.index:
                yield _DecodedPacket(packet)
                continue
            number += 1
            time = None if packet.pts is None else float((packet.pts - start) * clip.time_base)
            if number <= skipped:
                yield _DecodedPacket(packet, time)
                continue
            began = began or packet.is_keyframe
            with capture() as messages:
                pictures = decode(stream, packet)
            bad = packet.is_corrupt or not began or bool(messages) or _are_bad(pictures)
            counts = first_pts is None or packet.pts is None or packet.pts >= first_pts
            came, combed = _count_from(pictures, first_pts), _count_interlaced(pictures)
            yield _DecodedPacket(packet, time, counts, came, bad, combed)
            keys_beyond += packet.is_keyframe and time is not None and clip.span.ended(time)
            if keys_beyond == 2:  # no picture of the span can follow
                break
        with capture() as messages:
            pictures = decode(stream, None)
        bad = bool(messages) or _are_bad(pictures)
        came, combed = _count_from(pictures, first_pts), _count_interlaced(pictures)
        yield _DecodedPacket(None, None, False, came, bad, combed)


def _count_from(pictures: list[Any] | None, first_pts: int | None) -> int:
    """Count pictures from a time on; earlier ones are decoded from packets that were skipped."""
    return sum(first_pts is None or p.pts is None or p.pts >= first_pts for p in pictures or ())


def _count_interlaced(pictures: list[Any] | None) -> int:
    return sum(picture.interlaced_frame for picture in pictures or ())


def _are_bad(pictures: list[Any] | None) -> bool:
    return pictures is None or any(picture.is_corrupt for picture in pictures)


def _end_of(packet: Any) -> Fraction:
    """Return when a packet ends on the file's own clock, s; 0 where that is unknown."""
    if packet is None or packet.pts is None:
        return Fraction(0)
    end: Fraction = (packet.pts + (packet.duration or 0)) * packet.time_base
    return end


def _count_missing(clip: Clip, end: Fraction) -> int:
    """Count the span's packets that are not in the file, whose last packet ends at `end` (s)."""
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        size: int = container.size
        start = start_of(container, stream)
        missing: int = sum(  # by the file's index
            entry.pos >= size
            and float(max(0, entry.timestamp - start) * clip.time_base) in clip.span
            for entry in stream.index_entries
        )
        if clip.span.end is None and is_truncated(container, clip.path):
            missing = max(1, missing)
        stated_length = container.format.name in STATES_LENGTH and container.duration is not None
        if not stated_length or clip.jumps:  # times that jump make a length of no meaning
            return missing
        stated = ((container.start_time or 0) + container.duration) / av.time_base
        wanted = float(start * clip.time_base) + (inf if clip.span.end is None else clip.span.end)
    short = min(stated, wanted) - float(end)  # s, by the file's stated length
    return max(missing, round(short * clip.fps) if short > LENGTH_TOLERANCE else 0)
