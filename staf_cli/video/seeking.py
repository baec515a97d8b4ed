"""Finds where decoding may begin so that a span has exactly the frames of the whole clip."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from staf_cli.core.records import Bools, Clip, Ints
from staf_cli.video.container import open_container, packets_of, start_of, video_stream

# Codecs of which every packet is one picture, and whose key packets need nothing before them.
COUNTABLE = frozenset(
    {"h264", "hevc", "vp9", "av1", "mpeg2video", "mjpeg", "prores", "dnxhd", "cfhd"}
)
A_DAY = 86400  # s; a longer gap between two frames is a damaged time


@dataclass(frozen=True)
class Entry:
    """The packet that decoding begins with, and the position of its picture in the clip."""

    packet: int  # its number among the stream's packets, in the file's order
    pts: int  # of its picture, ticks as in the file; pictures before it are not used
    index: int  # of its picture among the clip's frames
    wanted: tuple[int, int]  # index, and ticks on the clip's clock, of the span's first frame


def find_entry(clip: Clip, first_picture: Any) -> Entry | None:
    """Find the last key packet from which the whole span can be decoded.

    Packets are read for that, but not decoded.

    Args:
        clip: The clip; its file, not a folder.
        first_picture: The first one that its file decodes to.

    Returns:
        None where decoding has to begin at the start of the file: because the span does, or
        because packets do not reliably count frames. That is so in damaged files, files that
        begin between key frames, have no times or times that jump, and with codecs whose
        pictures may be hidden or consist of two fields.
    """
    if clip.span.start == 0 or clip.jumps or first_picture.interlaced_frame:
        return None
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        if stream.codec_context.codec.canonical_name not in COUNTABLE:
            return None
        start = start_of(container, stream)
        ticks: list[int] = []
        keys: list[int] = []  # numbers of key packets
        shown: list[bool] = []  # not cut away by the container's edit list
        beyond = 0
        for packet in packets_of(container, stream):
            if packet is None or packet.is_corrupt or packet.pts is None:
                return None
            if packet.is_keyframe:
                keys.append(len(ticks))
                beyond += float((packet.pts - start) * clip.time_base) >= clip.span.start
            ticks.append(packet.pts)
            shown.append(not packet.is_discard)
            if beyond == 2:  # all pictures before the first of them have been read by now
                break
    return _entry(clip, np.array(ticks, np.int64) - start, np.array(shown, bool), keys, start)


def _entry(clip: Clip, ticks: Ints, shown: Bools, keys: list[int], start: int) -> Entry | None:
    """Choose the entry; ticks: (P,) on the clip's clock, shown: (P,), start: the clock's 0."""
    order = np.sort(ticks[shown])
    steps = np.diff(order)
    longest = A_DAY * int(1 / clip.time_base)
    if not len(order) or keys[:1] != [0] or ticks[0] != ticks.min() or order[0] < 0:
        return None  # pictures before the first key one may be decoded or not
    if len(steps) and not (steps.min() > 0 and steps.max() < longest):
        return None  # `frames` would correct such times
    first = bisect_left(order, clip.span.start, key=lambda t: float(int(t) * clip.time_base))
    if first == len(order):
        return None
    latest = np.maximum.accumulate(ticks)
    # Earlier than the span's first picture, which may be deinterlaced with the one before it.
    usable = [k for k in keys if k and ticks[k] > latest[k - 1] and ticks[k] < order[first]]
    if not usable:
        return None
    key = usable[-1]
    return Entry(
        packet=key,
        pts=int(ticks[key]) + start,
        index=int((order < ticks[key]).sum()),
        wanted=(first, int(order[first])),
    )
