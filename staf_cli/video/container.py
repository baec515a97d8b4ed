"""A video file opened: its streams, packets and what they decode to, whatever is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging

from staf_cli.core.errors import VideoError
from staf_cli.core.files import printable
from staf_cli.video.picture import MOST_PIXELS

# What cameras, editors and the web make. FFmpeg would also "play" scripts, playlists and numbered
# names, which have it open other files or the network: it must not begin to read one.
FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "gif", "ogg", "mxf"),
    *("nut", "ivf", "obu", "h261", "h263", "h264", "hevc", "vvc", "m4v", "mjpeg", "mjpeg_2000"),
    *("yuv4mpegpipe", "dv", "rm", "gxf", "wtv", "nsv", "dhav", "cine", "vc1", "dirac", "dnxhd"),
    *("image2", "apng", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "webp_pipe"),
    *("mp3", "wav", "w64", "flac", "aac", "ac3", "eac3", "dts", "aiff", "caf", "amr", "au"),
)
# What no stranger's header may ask for; pictures that change their size on the way included.
LIMITS = {"max_pixels": str(MOST_PIXELS)}
READING = {
    **LIMITS,
    "format_whitelist": ",".join(FORMATS),
    "protocol_whitelist": "file",
    "pattern_type": "none",  # a picture's name with % or * in it is just its name
}
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
        container = av.open(f"file:{path}", options=READING, metadata_errors="replace")
    except av.InvalidDataError as error:
        raise VideoError(
            f"{name}: not a video, or one whose header is damaged or cut off; "
            "play the file to check it, or export it again"
        ) from error
    except av.ArgumentError as error:
        raise VideoError(
            f"{name}: not a video but text, a playlist or a rare format; export it as MP4 (H.264)"
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{name}: cannot be read: {reason.lower()}") from error
    with container:
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
    stream.codec_context.options = LIMITS
    return stream


def be_strict(decoder: Any) -> None:
    """Have a codec context, not opened yet, refuse what it would otherwise conceal."""
    if decoder.name != "tiff":  # which would also refuse odd EXIF data
        decoder.options = {**LIMITS, "err_detect": "explode"}


def audio_streams(container: Any) -> list[Any]:
    """Those whose form is known: of one that is only promised, nothing can be copied."""
    known = [s for s in container.streams.audio if s.codec_context is not None]
    return [s for s in known if s.codec_context.sample_rate and s.codec_context.layout.nb_channels]


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


@contextmanager
def overheard() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg calls an error meanwhile: (level, who says it, message).

    Never around the end of a decoder with threads: they would wait for the one that waits for
    them. `decode` with a single thread and reading alone are safe.
    """
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as said:
            yield said
    finally:
        av.logging.set_level(None)


def is_cut_off(container: Any, path: Path) -> bool:
    """Whether a file ends too early, where its format shows that in its first or last bytes."""
    name, size = container.format.name, path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        stream.seek(max(0, size - 64))
        tail = stream.read()
    if name == "avi":  # RIFF: the size of the rest, 0 where it is not known
        return 8 + int.from_bytes(head[4:8], "little") > size
    if name == "gif":
        return not tail.rstrip(b"\0").endswith(b";")
    if name == "mpegts":  # packets of one size, bare, with a time stamp, or with a checksum
        return all(size % packet for packet in (188, 192, 204))
    return False


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
