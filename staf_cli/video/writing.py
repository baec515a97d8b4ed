"""Frames out: encoded at their exact times, with the sound of the clip they come from."""

import heapq
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from math import ceil, inf
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
)

from staf_cli.core import files
from staf_cli.core.errors import MissingTool, OutputError, VideoError
from staf_cli.core.files import printable
from staf_cli.core.interrupts import cleanup
from staf_cli.core.records import Clip, Frame, Image
from staf_cli.video.container import (
    audio_streams,
    decode,
    opened,
    packets_of,
    start_of,
    video_stream,
)

# Audio that players expect in these containers; anything else is encoded anew as AAC.
COPIED_AUDIO = {
    ".mp4": frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"}),
    ".mov": frozenset({"aac", "ac3", "alac", "mp3", "pcm_s16be", "pcm_s16le", "pcm_s24le"}),
}
AAC_RATE = 48000  # Hz
ENCODER = "libx264"
# Visually lossless at the size people watch an overlay; "fast" keeps up with the network.
# Without B-frames packets lie in the order of their times, so that the last one ends the track.
ENCODER_OPTIONS = {"crf": "18", "preset": "fast", "bf": "0"}
NUT_LEAD = 10  # s
BITS_PER_PIXEL = 0.2  # for the user's own encoders: 12 Mbit/s for 1080p at 30 frames a second
WRITING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def suffix_for(codec: str | None) -> str:
    """The container for an encoder (None: the default): ".mov" for editing codecs, else ".mp4"."""
    editing = codec is not None and codec.startswith(("prores", "dnxh", "qtrle", "cfhd"))
    return ".mov" if editing else ".mp4"


def check_codec(codec: str) -> None:
    """Try the user's own ffmpeg with this encoder on two grey frames, before any real work.

    Raises MissingTool with ffmpeg's own reason where there is no ffmpeg in PATH, it does not
    know the encoder, or the encoder does not run here (no such device, no such driver).
    """
    grey = np.full((256, 256, 3), 128, np.uint8)
    with files.scratch_folder() as folder:
        path = folder.joinpath("trial").with_suffix(suffix_for(codec))
        clip = Clip(path, 256, 256, 25.0, Fraction(1, 25), 2, has_audio=False)
        try:
            write(path, clip, (Frame(i, i, i / 25, grey) for i in range(2)), codec)
        except OutputError as error:
            raise MissingTool(
                f"--codec {codec} does not work here: {error}; 'ffmpeg -encoders' lists the "
                "names, and without --codec the built-in H.264 encoder is used"
            ) from error


def write(path: Path, clip: Clip, frames: Iterable[Frame], codec: str | None = None) -> str | None:
    """Encode frames at their exact times, with the audio of `clip`, into a file at `path`.

    frames: (H, W, 3) RGB uint8, all of one size, which need not be the clip's; where a side is
    odd the last row or column is doubled, as H.264 needs even ones. They are pulled one by one.
    codec: None for the built-in H.264, or the name of an encoder of the user's own ffmpeg.
    A clip of a span that begins later is written from 0, with the sound of the span.
    Audio is copied packet by packet; where the container cannot hold it, it is encoded as AAC
    and a note for the user is returned. The file appears under its name only when complete.

    Raises OutputError where the file cannot be written or the encoder fails, MissingTool where
    `codec` is given and there is no ffmpeg, VideoError where there is no frame; what `frames`
    raises passes through. No file is left then.
    """
    shown = iter(frames)
    first = next(shown, None)
    if first is None:
        raise VideoError(f"{printable(clip.path)}: there is no frame to write")
    height, width = first.image.shape[:2]
    origin = first.pts if clip.span.start > 0 else 0
    with files.atomic(path) as temporary:
        if codec is None:
            encoder, options, pixel_format, lead = ENCODER, ENCODER_OPTIONS, "yuv420p", 0
            opened = _container(temporary, path, clip.time_base)
        else:
            encoder, options, pixel_format = "rawvideo", {}, _pixel_format(codec)
            lead = NUT_LEAD * clip.time_base.numerator
            bits = round(BITS_PER_PIXEL * width * height * clip.fps)
            opened = _own_ffmpeg(temporary, path, codec, clip.time_base, lead, bits)
        with opened as output:
            video = output.add_stream(encoder, options=options, rate=_rate(clip))
            video.width, video.height = width + width % 2, height + height % 2
            video.pix_fmt = pixel_format
            video.codec_context.time_base = clip.time_base
            video.thread_type = "FRAME"  # x264 would otherwise cut pictures into slices
            _tag_colours(video.codec_context)
            sound, note = _sound(output, clip, origin, COPIED_AUDIO[suffix_for(codec)])
            pictures = _encoded(video, chain([first], shown), clip, origin, pixel_format)
            for packet in heapq.merge(pictures, *sound, key=lambda p: p.dts * p.time_base):
                packet.pts += round(lead / packet.time_base)
                packet.dts += round(lead / packet.time_base)
                try:
                    output.mux(packet)
                except (av.ArgumentError, av.InvalidDataError):
                    if packet.stream is video:
                        raise
                    # A damaged piece of sound: leave it out, go on.
    return note


@contextmanager
def _container(temporary: Path, path: Path, time_base: Fraction) -> Iterator[Any]:
    """An output container that PyAV writes; its failures are told of the final `path`."""
    options = {"movflags": "+faststart", "movie_timescale": str(_timescale(time_base))}
    try:
        with av.open(f"file:{temporary}", "w", options=options) as output:
            yield output
    except av.FFmpegError as error:
        reason = files.cannot_write(path, OSError(error.errno, error.strerror))
        raise OutputError(reason) from error


@contextmanager
def _own_ffmpeg(
    temporary: Path, path: Path, codec: str, time_base: Fraction, lead: int, bits: int
) -> Iterator[Any]:
    """An output container (NUT) whose stream the user's own ffmpeg encodes into `temporary`.

    NUT carries the frames' times and the audio along; ffmpeg keeps both as they are. As NUT
    knows no time below 0, where audio may begin, everything comes `lead` s late and is moved
    back by ffmpeg. `bits` is the bit rate per second, for encoders without a good one.
    """
    if shutil.which("ffmpeg") is None:
        raise MissingTool(
            f"--codec {codec} needs the program ffmpeg, which is not in PATH; install it, "
            "or leave --codec out for the built-in H.264 encoder"
        )
    described = {
        "colorspace": "bt709",
        "color_primaries": "bt709",
        "color_trc": "bt709",
        "color_range": "tv",
    }
    wanted = {
        "map": "0",
        "c:v": codec,
        "c:a": "copy",
        "b:v": bits,
        "bf": 0,
        "enc_time_base": f"{time_base.numerator}/{time_base.denominator}",
        "movflags": "+faststart",
        **_keep_times(time_base),
    }
    if "hevc" in codec or "265" in codec:
        wanted["tag:v"] = "hvc1"  # the only one that QuickTime and Finder show
    command = (
        ffmpeg.input("pipe:0", format="nut", itsoffset=-lead, **described)
        .output(f"file:{temporary}", **wanted)
        .global_args("-hide_banner", "-loglevel", "error", "-copyts")
        .overwrite_output()
        .compile()
    )
    # Complaints go to a file: nobody has to empty a pipe while frames are written. A process
    # group of its own keeps the terminal's Ctrl-C for us, who then end ffmpeg.
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            process_group=0,
        )
        assert process.stdin is not None
        broken = None
        with cleanup(lambda: _end(process)):
            try:
                # By its number: PyAV loses a Ctrl-C that comes while a Python pipe is written.
                with (
                    process.stdin as pipe,
                    av.open(f"pipe:{pipe.fileno()}", "w", format="nut") as output,
                ):
                    yield output
            except av.FFmpegError as error:
                broken = error  # most often ffmpeg has ended, and says why
            process.wait()
        if broken or process.returncode:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").split("\n")
            reason = next((line.strip() for line in lines if line.strip()), str(broken))
            name = printable(Path(path.name))
            raise OutputError(f"ffmpeg cannot write {name} with {codec}: {reason}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a child process, unless it has ended."""
    process.kill()
    process.wait()


def _keep_times(time_base: Fraction) -> dict[str, str]:
    """The options with which this ffmpeg keeps the frames' times: others before version 5.1."""
    told = subprocess.run(["ffmpeg", "-h", "long"], stdin=subprocess.DEVNULL, capture_output=True)
    if b"-fps_mode" not in told.stdout:
        return {"vsync": "passthrough"}
    return {"fps_mode": "passthrough", "movie_timescale": str(_timescale(time_base))}


def _timescale(time_base: Fraction) -> int:
    """Ticks per second of an MP4's header, fine enough for a start that is not 0."""
    return time_base.denominator * ceil(10_000 / time_base.denominator)


def _encoded(
    video: Any, frames: Iterable[Frame], clip: Clip, origin: int, pixel_format: str
) -> Iterator[Any]:
    """The packets of the frames, `origin` ticks earlier. Each lasts until the next one; the last,
    one frame of the clip.
    """
    usual = max(1, round(1 / (clip.fps * clip.time_base)))
    for frame, after in pairwise(chain(frames, [None])):
        assert frame is not None
        picture = _picture(frame.image, pixel_format)
        picture.time_base = clip.time_base
        picture.pts = frame.pts - origin
        picture.duration = usual if after is None else after.pts - frame.pts
        yield from video.encode(picture)
    yield from video.encode(None)


def _picture(image: Image, pixel_format: str) -> Any:
    """An RGB image as limited-range BT.709 YUV, odd sides made even by doubling the last line."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=WRITING,
    )


def _pixel_format(codec: str) -> str:
    """What an encoder of the user's ffmpeg is given: what players show, or editors expect."""
    return "yuv422p10le" if codec.startswith("prores") else "yuv420p"


def _tag_colours(context: Any) -> None:
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.fps).limit_denominator(100_000)


def _sound(
    output: Any, clip: Clip, origin: int, copied: frozenset[str]
) -> tuple[list[Iterator[Any]], str | None]:
    """Add the clip's audio to an output: its packets, and a note if some are encoded anew.

    origin: the tick of the clip's clock that becomes 0; of a span comes the sound from there on.
    """
    if not clip.has_audio:
        return [], None
    tracks = []
    foreign = []
    with opened(clip.path) as source:
        start = (start_of(source, video_stream(source, clip.path)) + origin) * clip.time_base
        since = 0.0 if clip.span.start > 0 else -inf
        until = inf if clip.span.end is None else clip.span.end - float(origin * clip.time_base)
        for stream in audio_streams(source):
            name = stream.codec.canonical_name
            if name in copied:
                target = output.add_stream_from_template(stream)
                packets = _copied(clip, stream.index, target, start, (since, until))
            else:
                foreign.append(name)
                target = output.add_stream("aac", rate=AAC_RATE, layout="stereo")
                packets = _as_aac(clip, stream.index, target, start, (since, until))
            tracks.append(_ascending(packets))
    note = f"audio ({', '.join(foreign)}) cannot be copied into this kind of file: encoded as AAC"
    return tracks, note if foreign else None


def _copied(
    clip: Clip, index: int, target: Any, start: Fraction, limits: tuple[float, float]
) -> Iterator[Any]:
    """One audio stream's packets as they are, `start` s earlier, in ticks of 1/n s.

    limits: the time from which, and before which, they are to begin then, s.
    """
    with opened(clip.path) as source:
        stream = source.streams[index]
        many, rate = stream.time_base.as_integer_ratio()
        shift = round(start * rate)
        for packet in packets_of(source, stream):
            if packet is None or packet.dts is None:
                continue
            packet.pts = (packet.dts if packet.pts is None else packet.pts) * many - shift
            packet.dts = packet.dts * many - shift
            packet.duration *= many
            packet.time_base = Fraction(1, rate)
            packet.stream = target
            if limits[0] <= packet.pts / rate < limits[1]:
                yield packet


def _as_aac(
    clip: Clip, index: int, target: Any, start: Fraction, limits: tuple[float, float]
) -> Iterator[Any]:
    """One audio stream as AAC, `start` s earlier; damaged pieces are left out. limits: as above."""
    resampler = av.AudioResampler("fltp", "stereo", AAC_RATE)
    with opened(clip.path) as source:
        stream = source.streams[index]
        shift = round(start / stream.time_base)
        for packet in chain(filter(None, packets_of(source, stream)), [None]):
            for sound in decode(stream, packet) or ():
                if sound.pts is not None:
                    sound.pts -= shift
                    if not limits[0] <= sound.pts * sound.time_base < limits[1]:
                        continue
                yield from _aac_packets(target, resampler, sound)
        yield from _aac_packets(target, resampler, None)
        yield from target.encode(None)


def _aac_packets(target: Any, resampler: Any, sound: Any) -> list[Any]:
    """One decoded piece of audio (None: the end) encoded; nothing if it is damaged."""
    try:
        return [p for piece in resampler.resample(sound) for p in target.encode(piece)]
    except (av.FFmpegError, ValueError):  # not a number, or another rate than before
        return []


def _ascending(packets: Iterable[Any]) -> Iterator[Any]:
    """Drop packets whose time does not ascend, which a muxer refuses: damaged audio has them."""
    last = None
    for packet in packets:
        if last is None or packet.dts > last:
            last = packet.dts
            yield packet
