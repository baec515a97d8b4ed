"""An open video file: its streams, its packets and what they decode to, damaged or not."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging

from staf_cli.core.errors import VideoError
from staf_cli.core.files import printable
from staf_cli.video.picture import MOST_PIXELS

# What cameras, editors and the web make. FFmpeg would also read scripts, playlists and numbered
# names, which make it open other files or the network; it must not begin to read one.
DEMUXERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "gif", "ogg", "mxf"),
    *("nut", "ivf", "obu", "h261", "h263", "h264", "hevc", "vvc", "m4v", "mjpeg", "mjpeg_2000"),
    *("yuv4mpegpipe", "dv", "rm", "gxf", "wtv", "nsv", "dhav", "cine", "vc1", "dirac", "dnxhd"),
    *("image2", "apng", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "webp_pipe"),
    *("mp3", "wav", "w64", "flac", "aac", "ac3", "eac3", "dts", "aiff", "caf", "amr", "au"),
)
# Limits for untrusted files; they hold also for pictures that change their size on the way.
DECODER_LIMITS = {"max_pixels": str(MOST_PIXELS)}
OPEN_OPTIONS = {
    **DECODER_LIMITS,
    "format_whitelist": ",".join(DEMUXERS),
    "protocol_whitelist": "file",
    "pattern_type": "none",  # a % or * in a picture's name is no pattern
}
MOST_READ_ERRORS = 100  # in a row, after which the rest of a file is ignored


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a file for reading with PyAV.

    Args:
        path: A video or picture file, untrusted.

    Yields:
        The PyAV container, closed at the end of the block.

    Raises:
        VideoError: There is no such file, or FFmpeg cannot open it as a video; in one line.
    """
    name = printable(path)
    try:
        if not path.exists():
            raise VideoError(f"{name}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{name}: a folder or device, not a video file; name one file")
        if path.stat().st_size == 0:
            raise VideoError(f"{name}: the file is empty (0 bytes); copy or export it again")
        if _is_heic(path):
            raise VideoError(f"{name}: HEIC pictures are not read; save it as JPEG or PNG")
        # The prefix keeps FFmpeg from reading a file name with a colon as a protocol.
        container = av.open(f"file:{path}", options=OPEN_OPTIONS, metadata_errors="replace")
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


def _is_heic(path: Path) -> bool:
    """Whether a file is a phone's picture, of which FFmpeg would decode a single tile."""
    with path.open("rb") as file:
        return file.read(11)[4:] == b"ftyphei"


def is_picture(container: Any) -> bool:
    """Whether an open file is a picture, not a video."""
    kind: str = container.format.name
    brand = container.metadata.get("major_brand")
    return kind == "image2" or kind.endswith("_pipe") or brand == "avif"


def video_stream(container: Any, path: Path) -> Any:
    """Return the main video stream; the cover art of a music file does not count as one.

    Args:
        container: The open file.
        path: Its path, for the error.

    Returns:
        The PyAV stream.

    Raises:
        VideoError: There is no video stream, or no decoder for it.
    """
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
    stream.codec_context.options = DECODER_LIMITS
    return stream


def make_strict(decoder: Any) -> None:
    """Set a codec context, not opened yet, to report the errors that it would else conceal."""
    if decoder.name != "tiff":  # which would also refuse odd EXIF data
        decoder.options = {**DECODER_LIMITS, "err_detect": "explode"}


def audio_streams(container: Any) -> list[Any]:
    """Return the audio streams of known format; of any other nothing can be copied."""
    known = [s for s in container.streams.audio if s.codec_context is not None]
    return [s for s in known if s.codec_context.sample_rate and s.codec_context.layout.nb_channels]


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Read packets, and go on after read errors.

    Args:
        container: The open file.
        streams: The streams whose packets are wanted; all, if none is given.

    Yields:
        Each packet, in the file's order; None for each read error.
    """
    errors = 0
    while errors < MOST_READ_ERRORS:
        try:
            for packet in container.demux(*streams):
                # An empty packet means the end to a decoder: skip dropped frames, PyAV's marks.
                if packet.size:
                    errors = 0
                    yield packet
            return
        except av.FFmpegError:
            errors += 1
            yield None


def decode(stream: Any, packet: Any) -> list[Any] | None:
    """Return the pictures that a packet (None: the end) completes; None if it cannot be decoded."""
    try:
        pictures: list[Any] = stream.codec_context.decode(packet)
    except av.FFmpegError:
        return None
    return pictures


def decoded_pictures(packets: Iterable[Any], stream: Any, skipped: int = 0) -> Iterator[Any]:
    """Decode all pictures that can be decoded.

    Args:
        packets: Those of the stream, None for each read error.
        stream: The video stream.
        skipped: How many packets at the beginning are not decoded.

    Yields:
        PyAV's pictures, in presentation order.
    """
    for number, packet in enumerate(packets):
        if packet is not None and number >= skipped:
            yield from decode(stream, packet) or ()
    yield from decode(stream, None) or ()


def first_picture(container: Any, stream: Any, path: Path) -> Any:
    """Decode the first picture, always the same one in a damaged file.

    Args:
        container: The file, from which nothing has been read yet.
        stream: Its video stream.
        path: Its path, for the error.

    Returns:
        PyAV's picture.

    Raises:
        VideoError: Not one picture can be decoded.
    """
    stream.thread_type = "NONE"
    for picture in decoded_pictures(packets_of(container, stream), stream):
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


@contextmanager
def captured_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that FFmpeg logs during the block.

    Must not enclose the closing of a decoder with threads: they would wait for this thread, and
    it for them. `decode` with a single thread, and reading without decoding, are safe.

    Yields:
        A list that grows: (level, name of the part of FFmpeg, message).
    """
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as messages:
            yield messages
    finally:
        av.logging.set_level(None)


def is_truncated(container: Any, path: Path) -> bool:
    """Whether a file ends too early, where its format shows that in its first or last bytes.

    Args:
        container: The open file.
        path: Its path.

    Returns:
        False also where the format does not show it.
    """
    name, size = container.format.name, path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        stream.seek(max(0, size - 64))
        tail = stream.read()
    if name == "avi":  # RIFF: the size of the rest, 0 where it is not known
        return 8 + int.from_bytes(head[4:8], "little") > size
    if name == "gif":
        return not tail.rstrip(b"\0").endswith(b";")
    if name == "mpegts":  # packets of one size: bare, with a time stamp, or with a checksum
        return all(size % packet for packet in (188, 192, 204))
    return False


def start_of(container: Any, stream: Any) -> int:
    """Return the file's start in ticks of a stream, which keeps streams in sync."""
    start = Fraction(container.start_time or 0, av.time_base)
    ticks: Fraction = start / stream.time_base
    own: int | None = stream.start_time
    # The container's start is rounded to microseconds: prefer the stream's own, exact one.
    if own is not None and abs(own * stream.time_base - start) < Fraction(2, av.time_base):
        return max(0, own)
    return max(0, round(ticks))
