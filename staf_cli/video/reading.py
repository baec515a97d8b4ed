"""Reads videos and folders of pictures: their description, and their frames one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import av

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Clip, Frame, Jump
from staf_cli.core.span import WHOLE, Span
from staf_cli.video.container import (
    audio_streams,
    decoded_pictures,
    first_picture,
    is_picture,
    open_container,
    packets_of,
    start_of,
    video_stream,
)
from staf_cli.video.damage import Damage
from staf_cli.video.deinterlacing import deinterlaced
from staf_cli.video.picture import (
    Matrix,
    check_size,
    display_matrix,
    upright_image,
    upright_size,
)
from staf_cli.video.seeking import A_DAY, Entry, find_entry
from staf_cli.video.sequence import probe_sequence, sequence_frames
from staf_cli.video.timeline import continuous, find_jumps
from staf_cli.video.tonemapping import ToneMap, hdr_of

DEFAULT_FPS = 25.0  # where a file has none, as FFmpeg assumes


def probe(
    path: Path,
    span: Span = WHOLE,
    fps: float | None = None,
    deinterlace: bool = True,
    fit: bool = False,
) -> Clip:
    """Read a video's description, and decode its first frame to see that it can be decoded.

    Args:
        path: A video file, or a folder of pictures.
        span: The part of it that the clip is; all other functions keep to it.
        fps: Pictures per second of a folder; None: 25.
        deinterlace: Whether all other functions deinterlace its interlaced pictures.
        fit: Whether they fit pictures of a folder that have another size than most.

    Returns:
        The clip, upright.

    Raises:
        VideoError: In one line, where there is no such file or folder, or it is no video, has no
            frame that can be decoded, is too large, or has no frame in the span; or where the
            pictures of a folder differ in size.
        UsageError: fps is given for a video, which has its own times.
    """
    if path.is_dir():
        return probe_sequence(path, span, fps, fit)
    if fps is not None:
        raise UsageError(
            f"{printable(path)}: fps is for folders of pictures; a video has its own times"
        )
    with open_container(path) as container:
        stream = video_stream(container, path)
        check_size(stream.codec_context.width, stream.codec_context.height, path)
        first = first_picture(container, stream, path)
        matrix = display_matrix(first, path)
        width, height = upright_size(first, stream.sample_aspect_ratio, matrix)
        check_size(width, height, path)
        jumps = find_jumps(path)
        clip = Clip(
            path=path,
            width=width,
            height=height,
            fps=_rate(stream, jumps),
            time_base=stream.time_base,
            frames=stream.frames or None,
            has_audio=bool(audio_streams(container)),
            jumps=jumps,
            hdr=hdr_of(first),
            deinterlace=deinterlace,
            pictures=is_picture(container),
        )
        seconds = (container.duration or 0) / av.time_base
    if span == WHOLE:
        return clip
    clip = replace(clip, frames=None, span=span)
    if next(frames(clip, Damage()), None) is None:
        lasts = f"; the video lasts about {seconds:.1f} s" if seconds else ""
        raise VideoError(f"{printable(path)}: no frame from {span}{lasts}")
    return clip


def _rate(stream: Any, jumps: Sequence[Jump]) -> float:
    """Return a stream's average rate, frames a second, without the time that it jumps over."""
    rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
    added = [float(jump.shift) for jump in jumps if jump.stream == stream.index]
    if not added or not stream.frames or not stream.average_rate:
        return rate
    count: int = stream.frames
    return count / (count / rate + added[-1])  # the header has frames / duration


def frames(clip: Clip, damage: Damage) -> Iterator[Frame]:
    """Decode a clip in presentation order, one frame at a time.

    Every pass over a clip yields the same frames: a clean clip is decoded by all cores, a damaged
    one by a single thread, because only that conceals errors the same way each time. Damaged
    frames are shown as well as possible. One that cannot be decoded at all leaves a gap in `pts`,
    but none in `index`. Where the file's times jump, they go on at the frame rate. A missing time
    is set to one frame after the last one, one that is not after it to a tick after it.

    Of a span come exactly the frames that the whole clip has there, with the same index, time
    and pixels. Decoding of a clean clip begins at the last key frame before it (frames that were
    lost earlier, outside the span, are then counted in `index`); that of any other at the start
    of the file.

    Args:
        clip: From `probe`.
        damage: From `inspect`.

    Yields:
        Frames with upright images (H, W, 3) RGB uint8, all of the clip's size.

    Raises:
        VideoError: The file can no longer be opened.
    """
    if clip.path.is_dir():
        yield from sequence_frames(clip, bool(damage))
        return
    # In a container of its own: reading a picture's side data makes a reference cycle, which
    # frees its memory late, at a time that differs from pass to pass.
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        picture = first_picture(container, stream, clip.path)
        matrix = display_matrix(picture, clip.path)
        entry = None if damage else find_entry(clip, picture)
    wanted = _frames_from(entry, clip, matrix, parallel=not damage)
    first = next(wanted, None)
    if entry and (first is None or (first.index, first.pts) != entry.wanted):
        wanted = _frames_from(None, clip, matrix, parallel=False)  # packets did not count frames
        first = next(wanted, None)
    if first is not None:
        yield from chain([first], wanted)


def _frames_from(
    entry: Entry | None, clip: Clip, matrix: Matrix, parallel: bool
) -> Iterator[Frame]:
    """Yield the frames of the clip's span, decoded from an entry (None: from the beginning)."""
    index, last = (entry.index, None) if entry else (0, None)
    tone_map = ToneMap(clip.hdr) if clip.hdr else None
    with open_container(clip.path) as container:
        stream = video_stream(container, clip.path)
        # What is before a span was not inspected: it may be damaged.
        parallel = parallel and (entry is not None or clip.span.start == 0)
        stream.thread_type = "AUTO" if parallel else "NONE"
        start = start_of(container, stream)
        packets = continuous(packets_of(container, stream), stream, clip.jumps)
        pictures = decoded_pictures(packets, stream, entry.packet if entry else 0)
        for picture in deinterlaced(pictures) if clip.deinterlace else pictures:
            if entry and picture.pts is not None and picture.pts < entry.pts:
                continue
            image = upright_image(picture, clip.image_size, matrix, tone_map)
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


def _next_pts(pts: int | None, last: int | None, clip: Clip) -> int:
    """Return a frame's time in ticks, corrected where it is missing or not after the last one."""
    if last is None:
        return max(0, pts or 0)
    second = int(1 / clip.time_base)
    if pts is None or not last - second < pts < last + A_DAY * second:
        return last + max(1, round(1 / (clip.fps * clip.time_base)))
    return max(pts, last + 1)
