"""Frames in: what a file says of itself, what of it is damaged, and its frames."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import av
from av.codec.codec import Capabilities

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Clip, Frame
from staf_cli.core.span import WHOLE, Span
from staf_cli.video.container import (
    audio_streams,
    be_strict,
    decode,
    is_cut_off,
    opened,
    overheard,
    packets_of,
    start_of,
    video_stream,
)
from staf_cli.video.picture import (
    MOST_PIXELS,
    Matrix,
    check_size,
    display_matrix,
    upright_image,
    upright_size,
)
from staf_cli.video.seeking import A_DAY, Entry, find_entry
from staf_cli.video.sequence import damaged_pictures, probe_sequence, sequence_frames

STATES_LENGTH = frozenset({"matroska,webm", "flv"})  # containers with a length but no full index
LENGTH_TOLERANCE = 0.2  # s that a healthy file's stated length may be off
THREADED = Capabilities.frame_threads | Capabilities.slice_threads
DEFAULT_FPS = 25.0  # where a file does not say, as FFmpeg assumes


@dataclass(frozen=True)
class Damage:
    """What is wrong with a clip's video stream, counted in packets (about one a frame)."""

    packets: int = 0  # in the file, but not to be decoded in full
    missing: int = 0  # promised by the container, but not in the file

    def __bool__(self) -> bool:
        return self.packets + self.missing > 0


def probe(path: Path, span: Span = WHOLE, fps: float | None = None) -> Clip:
    """Read what a video file says of itself, and decode its first frame to see that it can be.

    path: a video file, or a folder of pictures, shown at `fps` (None: 25) a second.
    span: the stretch of it that the clip is; all that is done with the clip keeps to it.

    Raises VideoError, in one line, for a path that is missing, no regular file, empty, not a
    video, without a video stream, without one decodable frame, too large, or without a frame in
    the span; UsageError for the fps of a video, which has its own times.
    """
    if path.is_dir():
        return probe_sequence(path, span, fps)
    if fps is not None:
        raise UsageError(
            f"{printable(path)}: fps is for folders of pictures; a video has its own times"
        )
    with opened(path) as container:
        stream = video_stream(container, path)
        check_size(stream.codec_context.width, stream.codec_context.height, path)
        first = _first_picture(container, stream, path)
        matrix = display_matrix(first, path)
        width, height = upright_size(first, stream.sample_aspect_ratio, matrix)
        check_size(width, height, path)
        clip = Clip(
            path=path,
            width=width,
            height=height,
            fps=float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS),
            time_base=stream.time_base,
            frames=stream.frames or None,
            has_audio=bool(audio_streams(container)),
        )
        seconds = (container.duration or 0) / av.time_base
    if span == WHOLE:
        return clip
    clip = replace(clip, frames=None, span=span)
    if next(frames(clip, Damage()), None) is None:
        lasts = f"; the video lasts about {seconds:.1f} s" if seconds else ""
        raise VideoError(f"{printable(path)}: no frame from {span}{lasts}")
    return clip


def inspect(clip: Clip) -> Damage:
    """Decode the clip strictly, packet by packet, and count what is damaged.

    Plain decoding conceals damage; this pass keeps no frame and uses all cores. Video holds no
    checksums, so changed bytes that make another legal picture cannot be told: nearly all in
    VP8, VP9 and GIF, a single one now and then elsewhere. Nor can frames that were taken out
    cleanly, or the cut-off end of a stream without a stated length (TS, MPEG). Of a span counts
    what its frames are made from: packets since the last key one before it.
    """
    if clip.path.is_dir():
        return Damage(packets=damaged_pictures(clip))
    complaints = _complaints(clip)
    # Which packet fails first depends on the threads' timing: many only tell clean from damaged.
    damage = Damage() if not complaints and _is_sound(clip) else _damage(clip)
    return replace(damage, packets=max(damage.packets, complaints))


def frames(clip: Clip, damage: Damage) -> Iterator[Frame]:
    """Decode a clip in presentation order, one frame at a time: (H, W, 3) RGB uint8, upright.

    `damage` is what `inspect` found: a clean clip is decoded by all cores, a damaged one by a
    single thread, because only that conceals errors the same way each time. So every pass over
    a clip yields the same frames. Damaged frames are shown as well as they can be; one that
    cannot be decoded at all is a jump in `pts`, none in `index`. A time that is missing or runs
    backwards is put one frame (where the jump is small: one tick) after the last.

    Of a span come exactly the frames that the whole clip has there, with the same index, time
    and pixels. A clean clip is entered at the last key frame before it (frames that were lost
    earlier, outside the span, then count as if they were there), any other is decoded from its
    beginning.

    Raises VideoError where the file cannot be opened any more.
    """
    if clip.path.is_dir():
        yield from sequence_frames(clip, bool(damage))
        return
    # Looked up in a frame of its own: asking a frame for side data ties it into a cycle, which
    # frees its memory late, at a time that differs from pass to pass.
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        first_picture = _first_picture(container, stream, clip.path)
        matrix = display_matrix(first_picture, clip.path)
        entry = None if damage else find_entry(clip, first_picture)
    wanted = _wanted(clip, matrix, entry, parallel=not damage)
    first = next(wanted, None)
    if entry and (first is None or (first.index, first.pts) != entry.wanted):
        wanted = _wanted(clip, matrix, None, parallel=False)  # packets did not count frames
        first = next(wanted, None)
    if first is not None:
        yield from chain([first], wanted)


def _wanted(clip: Clip, matrix: Matrix, entry: Entry | None, parallel: bool) -> Iterator[Frame]:
    """The frames of the clip's span, decoded from an entry or from the beginning."""
    index, last = (entry.index, None) if entry else (0, None)
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        # What lies before a span was not inspected: it may be damaged.
        parallel = parallel and (entry is not None or clip.span.start == 0)
        stream.thread_type = "AUTO" if parallel else "NONE"
        start = start_of(container, stream)
        for picture in _decoded(container, stream, entry.packet if entry else 0):
            if entry and picture.pts is not None and picture.pts < entry.pts:
                continue
            image = upright_image(picture, clip.image_size, matrix)
            if image is None:
                continue
            pts = None if picture.pts is None else picture.pts - start
            last = _next_pts(pts, last, clip)
            time = float(last * clip.time_base)
            if clip.span.ended(time):
                return
            if time >= clip.span.start:
                yield Frame(index, last, time, image)
            index += 1


def _decoded(container: Any, stream: Any, skipped: int = 0) -> Iterator[Any]:
    """All frames that can be decoded after so many packets, PyAV's own, in presentation order."""
    for number, packet in enumerate(packets_of(container, stream)):
        if packet is not None and number >= skipped:
            yield from decode(stream, packet) or ()
    yield from decode(stream, None) or ()


def _first_picture(container: Any, stream: Any, path: Path) -> Any:
    stream.thread_type = "NONE"
    for picture in _decoded(container, stream):
        return picture
    if container.format.name == "webp_pipe":
        raise VideoError(
            f"{printable(path)}: a damaged or an animated WebP, which cannot be read; "
            "save it as GIF or MP4"
        )
    raise VideoError(
        f"{printable(path)}: not one frame can be decoded (damaged, or larger than "
        f"{MOST_PIXELS // 10**6} million pixels); play the file to check it, "
        "or export it again as MP4 (H.264)"
    )


def _complaints(clip: Clip) -> int:
    """How often FFmpeg calls the container wrong, reading it as far as the span needs it.

    It skips what it cannot make out in a container, and only says so.
    """
    with overheard() as said, opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        start = start_of(container, stream)
        for packet in packets_of(container, stream):
            if packet is None or packet.pts is None or not packet.is_keyframe:
                continue
            time = float((packet.pts - start) * clip.time_base)
            if clip.span.ended(time):
                break
            if 0 < clip.span.start >= time:
                said.clear()
        own = {container.format.name, ""}
        return sum(who in own for _, who, _ in said)


def _is_sound(clip: Clip) -> bool:
    """Whether nothing is wrong with all that the clip's span is decoded from.

    False as well where this cannot be told with many threads: where packets and pictures are
    not equally many (errors of the last packets get lost), or the codec knows no threads.
    """
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        if not stream.codec.capabilities & THREADED:
            return False
        entry = find_entry(clip, _first_picture(container, stream, clip.path))
    end = Fraction(0)
    packets = pictures = 0
    for tried in _tried(clip, "AUTO", entry):
        if tried.damaged:
            return False
        packets += tried.decoded
        pictures += tried.pictures
        end = max(end, _end_of(tried.packet))
    return packets == pictures and not _missing(clip, end)


def _damage(clip: Clip) -> Damage:
    """What is damaged in the clip's span, by the packets that it is decoded from."""
    damaged = beyond = 0
    end = Fraction(0)
    for tried in _tried(clip, "NONE", None):
        packet, time = tried.packet, tried.time
        end = max(end, _end_of(packet))
        if time is None:
            damaged += tried.damaged
        elif clip.span.ended(time):
            beyond += tried.damaged
        else:
            if packet.is_keyframe and 0 < clip.span.start >= time:
                damaged = beyond = 0  # a key picture makes good what was wrong before it
            # Pictures after the end count where earlier ones, made from them, follow.
            damaged += tried.damaged + beyond
            beyond = 0
    return Damage(damaged, _missing(clip, end))


@dataclass(frozen=True)
class _Tried:
    """A packet, and what became of it."""

    packet: Any  # None where the file cannot be read, and at the end
    time: float | None = None  # s; None where it is unknown or not the video's
    decoded: bool = False  # whether it was given to the decoder and a picture may be expected
    pictures: int = 0  # that came out, of those expected
    damaged: bool = False


def _tried(clip: Clip, thread_type: str, entry: Entry | None) -> Iterator[_Tried]:
    """All packets as far as the span needs them; those before the entry are not decoded.

    A packet before the first key one is damaged: nothing whole can be made of it.
    """
    number = keys_beyond = 0
    skipped, since = (entry.packet, entry.pts) if entry else (0, None)
    began = skipped > 0
    # With one thread the decoder's words can be heard: not all errors end in a failure.
    listening = overheard if thread_type == "NONE" else partial(nullcontext, ())
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        stream.thread_type = thread_type
        be_strict(stream.codec_context)
        start = start_of(container, stream)
        for packet in packets_of(container):
            if packet is None:
                yield _Tried(None, damaged=number >= skipped)
                continue
            if packet.stream_index != stream.index:
                yield _Tried(packet)
                continue
            number += 1
            time = None if packet.pts is None else float((packet.pts - start) * clip.time_base)
            if number <= skipped:
                yield _Tried(packet, time)
                continue
            began = began or packet.is_keyframe
            with listening() as said:
                pictures = decode(stream, packet)
            bad = packet.is_corrupt or not began or bool(said) or _are_bad(pictures)
            expected = since is None or packet.pts is None or packet.pts >= since
            yield _Tried(packet, time, expected, _count(pictures, since), bad)
            keys_beyond += packet.is_keyframe and time is not None and clip.span.ended(time)
            if keys_beyond == 2:  # nothing of the span can follow
                break
        with listening() as said:
            pictures = decode(stream, None)
        bad = bool(said) or _are_bad(pictures)
        yield _Tried(None, None, False, _count(pictures, since), bad)


def _count(pictures: list[Any] | None, since: int | None) -> int:
    """How many pictures there are from a tick on; earlier ones need what was not decoded."""
    return sum(since is None or p.pts is None or p.pts >= since for p in pictures or ())


def _are_bad(pictures: list[Any] | None) -> bool:
    return pictures is None or any(picture.is_corrupt for picture in pictures)


def _end_of(packet: Any) -> Fraction:
    """When a packet ends on the file's own clock, s; 0 where that is unknown."""
    if packet is None or packet.pts is None:
        return Fraction(0)
    end: Fraction = (packet.pts + (packet.duration or 0)) * packet.time_base
    return end


def _missing(clip: Clip, end: Fraction) -> int:
    """Packets of the span beyond the file's end: by its index, or by its length if `end` (s),
    where the last packet ends, falls short of it."""
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        size: int = container.size
        start = start_of(container, stream)
        beyond: int = sum(
            entry.pos >= size
            and float(max(0, entry.timestamp - start) * clip.time_base) in clip.span
            for entry in stream.index_entries
        )
        if clip.span.end is None and is_cut_off(container, clip.path):
            beyond = max(1, beyond)
        if container.format.name not in STATES_LENGTH or container.duration is None:
            return beyond
        stated = ((container.start_time or 0) + container.duration) / av.time_base
        wanted = float(start * clip.time_base) + (inf if clip.span.end is None else clip.span.end)
    short = min(stated, wanted) - float(end)
    return max(beyond, round(short * clip.fps) if short > LENGTH_TOLERANCE else 0)


def _next_pts(pts: int | None, last: int | None, clip: Clip) -> int:
    """A frame's time in ticks, repaired where it is missing or does not come after the last."""
    if last is None:
        return max(0, pts or 0)
    second = int(1 / clip.time_base)
    if pts is None or not last - second < pts < last + A_DAY * second:
        return last + max(1, round(1 / (clip.fps * clip.time_base)))
    return max(pts, last + 1)
