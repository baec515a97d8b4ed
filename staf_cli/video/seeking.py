"""Where decoding may begin so that a span's frames are exactly those of the whole clip."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from staf_cli.core.records import Bools, Clip, Ints
from staf_cli.video.container import opened, packets_of, start_of, video_stream

# Codecs of which every packet is one picture, and whose key packets need nothing before them.
COUNTABLE = frozenset(
    {"h264", "hevc", "vp9", "av1", "mpeg2video", "mjpeg", "prores", "dnxhd", "cfhd"}
)
A_DAY = 86400  # s; a longer gap between two frames is a damaged time


@dataclass(frozen=True)
class Entry:
    """The packet to begin with, and what is known of the pictures from there on."""

    packet: int  # its number among the stream's packets, in their order in the file
    pts: int  # of its picture, ticks as in the file; earlier ones that follow it do not count
    index: int  # of its picture among the clip's frames
    wanted: tuple[int, int]  # index, and ticks on the clip's clock, of the span's first frame


def find_entry(clip: Clip, first_picture: Any) -> Entry | None:
    """The last key packet from which all of the clip's span can be decoded, found by reading
    packets without decoding any.

    None: only from the beginning. So it is where the span begins there, but also where packets
    cannot be trusted to count frames: in a damaged or headless file, one without times, or one
    whose pictures may come in two fields or be hidden ones.
    """
    if clip.span.start == 0 or first_picture.interlaced_frame:
        return None
    with opened(clip.path) as container:
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
            if beyond == 2:  # what belongs before the first of them has been read by now
                break
    return _entry(clip, np.array(ticks, np.int64) - start, np.array(shown, bool), keys, start)


def _entry(clip: Clip, ticks: Ints, shown: Bools, keys: list[int], start: int) -> Entry | None:
    """The entry among packets in the file's order: `ticks` (P,) on the clip's clock, whether they
    are `shown` (P,), and which of them are key ones; `start` is the clock's 0 in the file.
    """
    order = np.sort(ticks[shown])
    steps = np.diff(order)
    longest = A_DAY * int(1 / clip.time_base)
    if not len(order) or keys[:1] != [0] or ticks[0] != ticks.min() or order[0] < 0:
        return None  # pictures before the first key one: who knows whether they can be decoded
    if len(steps) and not (steps.min() > 0 and steps.max() < longest):
        return None  # times that `frames` repairs
    first = bisect_left(order, clip.span.start, key=lambda t: float(int(t) * clip.time_base))
    if first == len(order):
        return None
    latest = np.maximum.accumulate(ticks)
    usable = [k for k in keys if k and ticks[k] > latest[k - 1] and ticks[k] <= order[first]]
    if not usable:
        return None
    key = usable[-1]
    return Entry(
        packet=key,
        pts=int(ticks[key]) + start,
        index=int((order < ticks[key]).sum()),
        wanted=(first, int(order[first])),
    )
