"""Records a live stream as it comes: a Matroska file, which can be read wherever it is cut off."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from staf_cli.core.errors import OutputError
from staf_cli.core.files import cannot_write

SUFFIX = ".mkv"
RAW = ("rawvideo", "wrapped_avframe")  # codecs of pictures that nobody has compressed
ENCODER, ENCODER_OPTIONS = "libx264", {"preset": "ultrafast", "crf": "18"}
TICK = Fraction(1, 1000)  # s, Matroska's
# What was read a second ago is on disk, whatever becomes of the process.
OPTIONS = {"cluster_time_limit": "1000", "flush_packets": "1"}


class Recording:
    """Where a live stream is recorded; one thread adds to it, any may close it."""

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is made with the first key frame."""
        self.path = path
        self._output: Any = None
        self._target: Any = None
        self._encodes = False  # the pictures; else packets are copied
        self._start = 0  # the first packet's time, in ticks of the stream
        self._last = -1  # the last packet's time, in the same ticks
        self._closed = False
        self._lock = threading.Lock()

    def add(self, stream: Any, packet: Any, pictures: Sequence[Any]) -> None:
        """Write a packet as it is, from the first key frame on; pictures if they are raw.

        Args:
            stream: the video stream.
            packet: of it.
            pictures: what was decoded of it.

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock:
            if self._closed or not (self._output or packet.is_keyframe):
                return
            try:
                if self._output is None:
                    self._open(stream, packet)
                if self._encodes:
                    for picture in pictures:
                        self._encode(picture)
                else:
                    self._copy(stream, packet)
            except av.FFmpegError as error:
                reason = OSError(error.errno, error.strerror)
                raise OutputError(cannot_write(self.path, reason)) from error

    def close(self) -> None:
        """Finish the file; what comes later is not recorded."""
        with self._lock, suppress(av.FFmpegError):  # a full disk: what is there stays
            self._closed = True
            if self._output is not None:
                if self._encodes:
                    self._output.mux(self._target.encode(None))
                self._output.close()
                self._output = None

    def _open(self, stream: Any, packet: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._output = av.open(f"file:{self.path}", "w", format="matroska", options=OPTIONS)
        self._encodes = stream.codec_context.name in RAW
        if not self._encodes:
            self._target = self._output.add_stream_from_template(stream)
            self._start = (packet.pts if packet.dts is None else packet.dts) or 0
            return
        self._target = self._output.add_stream(ENCODER, options=ENCODER_OPTIONS)
        width, height = stream.codec_context.width, stream.codec_context.height
        self._target.width, self._target.height = width, height
        self._target.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        self._target.codec_context.time_base = TICK
        self._start = packet.pts or 0

    def _copy(self, stream: Any, packet: Any) -> None:
        """Write a packet at its own time, moved only where times are missing or go back."""
        step = packet.duration or 1
        own = packet.pts if packet.dts is None else packet.dts
        shown_later = 0 if packet.pts is None or packet.dts is None else packet.pts - packet.dts
        at = self._last + step if own is None else own - self._start
        if at <= self._last:  # the sender has started again
            at = self._last + step
            self._start = (own or 0) - at
        self._last = at
        packet.dts, packet.pts = at, at + max(0, shown_later)
        packet.stream = self._target
        self._output.mux(packet)

    def _encode(self, picture: Any) -> None:
        base = picture.time_base or TICK
        at = self._last + 1
        if picture.pts is not None:
            at = max(at, round((picture.pts - self._start) * base / TICK))
        self._last = at
        frame = picture.reformat(format=self._target.pix_fmt)
        frame.pts, frame.time_base = at, TICK
        self._output.mux(self._target.encode(frame))


@contextmanager
def recorded(path: Path) -> Iterator[Recording]:
    """Record into a file for as long as the block lasts.

    Args:
        path: the file, with the suffix `SUFFIX`.

    Yields:
        What takes the stream.
    """
    recording = Recording(path)
    try:
        yield recording
    finally:
        recording.close()
