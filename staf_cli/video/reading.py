"""Frames in: what a file says of itself, what of it is damaged, and its frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Colorspace, Interpolation

from staf_cli.errors import VideoError
from staf_cli.files import printable
from staf_cli.records import Clip, Frame, Image
from staf_cli.video.container import (
    audio_streams,
    decode,
    opened,
    packets_of,
    start_of,
    video_stream,
)

STATES_LENGTH = frozenset({"matroska,webm", "flv"})  # containers with a length but no full index
LENGTH_TOLERANCE = 0.2  # s that a healthy file's stated length may be off
DEFAULT_FPS = 25.0  # where a file does not say, as FFmpeg assumes
A_DAY = 86400  # s; a longer gap between two frames is a damaged time
# FFmpeg's fast path: nine times faster than accurate rounding, on average one level of 255 off.
READING = Interpolation.BICUBIC

Matrix = tuple[int, int, int, int]


@dataclass(frozen=True)
class Damage:
    """What is wrong with a clip's video stream, counted in packets (about one a frame)."""

    packets: int = 0  # in the file, but not to be decoded in full
    missing: int = 0  # promised by the container, but not in the file

    def __bool__(self) -> bool:
        return self.packets + self.missing > 0


def probe(path: Path) -> Clip:
    """Read what a video file says of itself, and decode its first frame to see that it can be.

    Raises VideoError, in one line, for a path that is missing, no regular file, empty, not a
    video, without a video stream, or without one decodable frame.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        first = _first_picture(container, stream, path)
        width, height = _square_size(first, stream.sample_aspect_ratio)
        if _quarter_turned(_display_matrix(first)):
            width, height = height, width
        return Clip(
            path=path,
            width=width,
            height=height,
            fps=float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS),
            time_base=stream.time_base,
            frames=stream.frames or None,
            has_audio=bool(audio_streams(container)),
        )


def inspect(clip: Clip) -> Damage:
    """Decode the whole clip strictly, packet by packet, and count what is damaged.

    Plain decoding conceals damage; this pass keeps no frame and uses all cores. Codecs whose
    every bit pattern is a picture (VP9, GIF) can only show damage of their container.
    """
    # Which packet fails first depends on the threads' timing: many only tell clean from damaged.
    return _inspect(clip, "AUTO") and _inspect(clip, "NONE")


def frames(clip: Clip, damage: Damage) -> Iterator[Frame]:
    """Decode a clip in presentation order, one frame at a time: (H, W, 3) RGB uint8, upright.

    `damage` is what `inspect` found: a clean clip is decoded by all cores, a damaged one by a
    single thread, because only that conceals errors the same way each time. So every pass over
    a clip yields the same frames. Damaged frames are shown as well as they can be; one that
    cannot be decoded at all is a jump in `pts`, none in `index`. A time that is missing or runs
    backwards is put one frame (where the jump is small: one tick) after the last.

    Raises VideoError where the file cannot be opened any more.
    """
    last: int | None = None
    index = 0
    # Looked up in a frame of its own: asking a frame for side data ties it into a cycle, which
    # frees its memory late, at a time that differs from pass to pass.
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        matrix = _display_matrix(_first_picture(container, stream, clip.path))
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        stream.thread_type = "NONE" if damage else "AUTO"
        start = start_of(container, stream)
        for picture in _decoded(container, stream):
            image = _image(picture, clip, matrix)
            if image is None:
                continue
            pts = None if picture.pts is None else picture.pts - start
            last = _next_pts(pts, last, clip)
            yield Frame(index, last, float(last * clip.time_base), image)
            index += 1


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """All frames that can be decoded, PyAV's own, in presentation order."""
    for packet in packets_of(container, stream):
        if packet is not None:
            yield from decode(stream, packet) or ()
    yield from decode(stream, None) or ()


def _first_picture(container: Any, stream: Any, path: Path) -> Any:
    stream.thread_type = "NONE"
    for picture in _decoded(container, stream):
        return picture
    raise VideoError(
        f"{printable(path)}: not one frame can be decoded; play the file to check it, "
        "or export it again as MP4 (H.264)"
    )


def _inspect(clip: Clip, thread_type: str) -> Damage:
    damaged = 0
    end = Fraction(0)
    with opened(clip.path) as container:
        stream = video_stream(container, clip.path)
        stream.thread_type = thread_type
        stream.codec_context.options = {"err_detect": "explode"}
        for packet in packets_of(container):
            if packet is None:
                damaged += 1
                continue
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index == stream.index:
                pictures = decode(stream, packet)
                damaged += (
                    packet.is_corrupt or pictures is None or any(p.is_corrupt for p in pictures)
                )
        pictures = decode(stream, None)
        damaged += pictures is None or any(p.is_corrupt for p in pictures)
        return Damage(damaged, _missing(container, stream, end, clip.fps))


def _missing(container: Any, stream: Any, end: Fraction, fps: float) -> int:
    """Packets beyond the file's end: by its index, or by its length if `end` (s) falls short."""
    size: int = container.size
    beyond: int = sum(entry.pos >= size for entry in stream.index_entries)
    if container.format.name not in STATES_LENGTH or container.duration is None:
        return beyond
    short: float = ((container.start_time or 0) + container.duration) / av.time_base - float(end)
    return max(beyond, round(short * fps) if short > LENGTH_TOLERANCE else 0)


def _next_pts(pts: int | None, last: int | None, clip: Clip) -> int:
    """A frame's time in ticks, repaired where it is missing or does not come after the last."""
    if last is None:
        return max(0, pts or 0)
    second = int(1 / clip.time_base)
    if pts is None or not last - second < pts < last + A_DAY * second:
        return last + max(1, round(1 / (clip.fps * clip.time_base)))
    return max(pts, last + 1)


def _square_size(picture: Any, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) of the coded picture with square pixels; absurd aspects are ignored."""
    wider = aspect if aspect and Fraction(1, 4) <= aspect <= 4 else 1
    return max(1, round(picture.width * wider)), picture.height


def _display_matrix(picture: Any) -> Matrix:
    """(a, b, c, d) of the file's display matrix: x' = a x + c y, y' = b x + d y."""
    data = picture.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def _quarter_turned(matrix: Matrix) -> bool:
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def _image(picture: Any, clip: Clip, matrix: Matrix) -> Image | None:
    """A decoded picture as the clip's upright RGB image; None where it cannot be converted."""
    a, b, c, d = matrix
    turned = _quarter_turned(matrix)
    see_through = any(component.is_alpha for component in picture.format.components)
    try:
        pixels = picture.reformat(
            width=clip.height if turned else clip.width,
            height=clip.width if turned else clip.height,
            format="rgba" if see_through else "rgb24",
            src_colorspace=_colorspace(picture),
            interpolation=READING,
        ).to_ndarray()
    except (av.FFmpegError, ValueError):
        return None
    if see_through:
        opacity = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * opacity + 127) // 255).astype(np.uint8)
    if turned:
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _colorspace(picture: Any) -> int:
    """The YUV matrix: the file's own, or what players assume: BT.709 for HD, BT.601 below."""
    known = {space.value for space in Colorspace} | {6}  # 6: SMPTE 170M, the same as BT.601
    if picture.colorspace in known:
        return int(picture.colorspace)
    return Colorspace.ITU709 if picture.width >= 1280 or picture.height > 576 else Colorspace.ITU601
