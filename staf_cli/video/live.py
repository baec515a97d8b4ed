"""Reads what is filmed at this moment: cameras, streams of the network, and pipes."""

import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av

from staf_cli.core.errors import UsageError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.records import Image
from staf_cli.video.container import DECODER_LIMITS, DEMUXERS, MOST_READ_ERRORS, decode
from staf_cli.video.picture import (
    Matrix,
    check_size,
    display_matrix,
    upright_image,
    upright_size,
)
from staf_cli.video.recording import Recording

STDIN = "-"
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
# Playlists are followed here, but nothing that a server sends may make FFmpeg open a file.
PROTOCOLS = "http,https,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,rtmpt,srt,httpproxy,crypto"
NETWORK_DEMUXERS = (*DEMUXERS, "rtsp", "rtp", "sdp", "hls", "dash", "mpjpeg", "live_flv")
SILENCE = 10.0  # s after which a server that says nothing is given up
USUAL_FPS = 30.0  # where a stream does not say its rate


@dataclass(frozen=True)
class Arrival:
    """A picture at the moment when it was decoded; it becomes an image only where it is used."""

    arrived: float  # s, time.monotonic()
    fps: float  # of the stream, as far as it says
    size: tuple[int, int]  # (width, height) px, upright; the same for all pictures
    picture: Any  # PyAV's
    matrix: Matrix

    def image(self) -> Image | None:
        """Return (H, W, 3) RGB uint8, upright; None if FFmpeg cannot convert it."""
        return upright_image(self.picture, self.size, self.matrix)


@dataclass(frozen=True)
class _Place:
    """How FFmpeg opens a source."""

    url: str
    format: str | None
    options: dict[str, str]


def check_source(source: str) -> None:
    """Refuse, before anything is loaded, what is no live source.

    Args:
        source: the name of a camera, an address, or `-` for standard input.

    Raises:
        UsageError: it is a video file, or a terminal.
        VideoError: there is no such camera.
    """
    _locate(source)


def live_pictures(source: str, recording: Recording | None) -> Iterator[Arrival]:
    """Decode a live source for as long as it lasts; what cannot be decoded is left out.

    Args:
        source: the name of a camera, an address, or `-` for standard input.
        recording: gets everything that is read.

    Yields:
        Every picture as soon as it is there.

    Raises:
        VideoError: it cannot be opened, shows no picture, or breaks off.
        OutputError: the recording cannot be written.
    """
    name = source_name(source)
    with _opened(source) as container:
        streams = [s for s in container.streams.video if s.codec_context is not None]
        if not streams:
            raise VideoError(f"{name}: no video in it that can be read; name another source")
        stream = streams[0]
        stream.thread_type = "SLICE"  # threads by frames would hold back as many frames
        stream.codec_context.options = DECODER_LIMITS
        fps = float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
        shape = None
        for packet in _packets(container, stream, name):
            pictures = decode(stream, packet) or ()
            if recording is not None and packet is not None:
                recording.add(stream, packet, pictures)
            for picture in pictures:
                arrived = time.monotonic()
                shape = shape or _shape(picture, stream, name)
                yield Arrival(arrived, fps, shape[0], picture, shape[1])
        if shape is None:
            raise VideoError(f"{name}: ended before it showed a picture; check what sends it")


def source_name(source: str) -> str:
    """Return a source's name for messages, without the password that an address may hold."""
    if source == STDIN:
        return "standard input"
    if "://" in source and "@" in urlsplit(source).netloc:
        parts = urlsplit(source)
        source = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return printable(source)


def _shape(picture: Any, stream: Any, name: str) -> tuple[tuple[int, int], Matrix]:
    """The size of all upright images, and how pictures are turned to be upright."""
    matrix = display_matrix(picture, Path(name))
    size = upright_size(picture, stream.sample_aspect_ratio, matrix)
    check_size(*size, Path(name))
    return size, matrix


def _packets(container: Any, stream: Any, name: str) -> Iterator[Any]:
    """Each packet, then None for the end; goes on after damage. Raises VideoError at a break."""
    errors = 0
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    errors = 0
                    yield packet
            yield None
            return
        except BlockingIOError:  # a camera that has no new picture yet
            time.sleep(0.002)
        except av.InvalidDataError as error:
            errors += 1
            if errors == MOST_READ_ERRORS:
                raise VideoError(f"{name}: is too damaged to be read on") from error
        except av.FFmpegError as error:
            raise VideoError(f"{name}: broke off: {_reason(error)}") from error


@contextmanager
def _opened(source: str) -> Iterator[Any]:
    """Open a live source; what can go wrong is a VideoError in one line."""
    place, name = _locate(source), source_name(source)
    try:
        container = av.open(
            place.url,
            format=place.format,
            options=place.options,
            metadata_errors="replace",
            timeout=SILENCE if "://" in source else None,
        )
    except av.InvalidDataError as error:
        raise VideoError(
            f"{name}: not a video that can be read as it comes; send MPEG-TS or Matroska"
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        advice = (
            "check the address and whether anything is sent there"
            if "://" in source
            else "check that it is connected and that no other program uses it"
        )
        raise VideoError(f"{name}: cannot be opened: {_reason(error)}; {advice}") from error
    with container:
        yield container


def _reason(error: Exception) -> str:
    if isinstance(error, av.ExitError):  # PyAV's timeout
        return f"nothing came for {SILENCE:.0f} s"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _locate(source: str) -> _Place:
    """Find out what kind of source this is. Raises UsageError and VideoError as `check_source`."""
    options = {**DECODER_LIMITS, "format_whitelist": ",".join(DEMUXERS)}
    if source == STDIN:
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            raise UsageError(
                "- is a video on standard input, and none comes; pipe one in: "
                "ffmpeg ... -f mpegts - | staf live -"
            )
        pipe = f"pipe:{sys.stdin.fileno()}"
        return _Place(pipe, None, {**options, "protocol_whitelist": "pipe"})
    if "://" in source:
        transport = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
        allowed = {
            "format_whitelist": ",".join(NETWORK_DEMUXERS),
            "protocol_whitelist": PROTOCOLS,
        }
        return _Place(source, None, {**options, **transport, **allowed})
    path = Path(source)
    if path.is_file() or path.is_dir():
        raise UsageError(f"{printable(path)}: is a file or folder; give it to `staf run`")
    if path.is_fifo():
        return _Place(f"file:{path}", None, {**options, "protocol_whitelist": "file"})
    return _camera(source)


def _camera(source: str) -> _Place:
    """A camera of this machine, by its number or its name. Raises VideoError without it."""
    system = CAMERA_FORMATS.get(sys.platform, "v4l2")
    if system == "dshow":
        return _Place(source if source.startswith("video=") else f"video={source}", system, {})
    if system == "avfoundation":
        return _Place(source, system, {"framerate": f"{USUAL_FPS:.0f}"})
    device = f"/dev/video{source}" if source.isdigit() else source
    try:
        there = stat.S_ISCHR(Path(device).stat().st_mode)
    except OSError:
        there = False
    if not there:
        others = ", ".join(sorted(map(str, Path("/dev").glob("video*"))))
        have = f"this machine has {others}" if others else "this machine has none"
        raise VideoError(f"{printable(device)}: no such camera; {have}")
    return _Place(device, system, {})
