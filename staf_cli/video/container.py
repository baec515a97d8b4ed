"""A video file opened: its streams, packets and what they decode to, whatever is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from staf_cli.errors import VideoError
from staf_cli.files import printable

# Scripts and text that FFmpeg would "play", and that may name other files.
NOT_VIDEOS = frozenset({"tty", "concat", "hls", "dash", "sdp", "rtsp"})
MOST_READ_ERRORS = 100  # in a row, before the rest of a file is given up


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a container for reading; whatever FFmpeg says against it becomes a VideoError."""
    name = printable(path)
    try:
        if not path.exists():
            raise VideoError(f"{name}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{name}: a folder or device, not a video file; name one file")
        if path.stat().st_size == 0:
            raise VideoError(f"{name}: the file is empty (0 bytes); copy or export it again")
        # The prefix keeps FFmpeg from reading a file name with a colon as a protocol.
        container = av.open(f"file:{path}")
    except av.InvalidDataError as error:
        raise VideoError(
            f"{name}: not a video, or one whose header is damaged or cut off; "
            "play the file to check it, or export it again"
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{name}: cannot be read: {reason.lower()}") from error
    with container:
        if container.format.name in NOT_VIDEOS:
            raise VideoError(f"{name}: a text file or playlist, not a video; name a video file")
        yield container


def video_stream(container: Any, path: Path) -> Any:
    """The main video stream; cover art of a music file is none."""
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        raise VideoError(f"{printable(path)}: no video stream, only sound or data; name a video")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise VideoError(
            f"{printable(path)}: its video codec is unknown here; export it again as MP4 (H.264)"
        )
    return stream


def audio_streams(container: Any) -> list[Any]:
    return [s for s in container.streams.audio if s.codec_context is not None]


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of some streams, going on after read errors, for each of which None."""
    errors = 0
    while errors < MOST_READ_ERRORS:
        try:
            for packet in container.demux(*streams):
                # FFmpeg takes an empty packet for the end: skip dropped frames and PyAV's marks.
                if packet.size:
                    errors = 0
                    yield packet
            return
        except av.FFmpegError:
            errors += 1
            yield None


def decode(stream: Any, packet: Any) -> list[Any] | None:
    """The frames that a packet (None: the end) completes; None if it cannot be decoded."""
    try:
        frames: list[Any] = stream.codec_context.decode(packet)
    except av.FFmpegError:
        return None
    return frames


def start_of(container: Any, stream: Any) -> int:
    """The file's start in ticks of the stream: later streams keep their distance to it."""
    start = Fraction(container.start_time or 0, av.time_base)
    ticks: Fraction = start / stream.time_base
    own: int | None = stream.start_time
    # The container's start is rounded to microseconds: prefer the stream's own, exact one.
    if own is not None and abs(own * stream.time_base - start) < Fraction(2, av.time_base):
        return max(0, own)
    return max(0, round(ticks))
