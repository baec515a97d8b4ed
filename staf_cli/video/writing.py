"""Writes videos: frames encoded at their exact times, with the audio of their clip."""

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
import PIL.Image
from av.video.frame import PictureType
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
    open_container,
    packets_of,
    start_of,
    video_stream,
)
from staf_cli.video.timeline import continuous

# Audio that players expect in these containers; any other is encoded again, as AAC.
COPIED_AUDIO = {
    ".mp4": frozenset({"aac", "ac3", "alac", "eac3", "mp3", "opus"}),
    ".mov": frozenset({"aac", "ac3", "alac", "mp3", "pcm_s16be", "pcm_s16le", "pcm_s24le"}),
}
PICTURE = ".png"
AAC_RATE = 48000  # Hz
ENCODER = "libx264"
# Visually lossless at the size at which people view an overlay. "veryfast" takes 26 ms a picture of
# 2564 x 994 where "fast" takes 61, and at crf 18 is as faithful as "fast" at 19 (PSNR 45.4 and
# 45.6 dB) in a file larger by 7 %. It looks ahead by 5 pictures, not 10, which takes 35 MB less: at
# 17 as large and as faithful (42.5 dB) as 10 at 18 (42.6).
# Without B-frames packets are in the order of their times, so that the last one ends the track.
ENCODER_OPTIONS = {
    "crf": "17",
    "preset": "veryfast",
    "bf": "0",
    "x264-params": "rc-lookahead=5:sync-lookahead=0",
}
KEY_FRAMES_EVERY = Fraction(1, 2)  # s: a player decodes from the last one to show a moment
NUT_DELAY = 10  # s
BITS_PER_PIXEL = 0.2  # for the user's own encoders: 12 Mbit/s for 1080p at 30 frames per second
INTERPOLATION = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def suffix_for(codec: str | None, still: bool = False) -> str:
    """Choose the kind of file for an encoder.

    Args:
        codec: FFmpeg's name of the encoder; None: the built-in one.
        still: Whether the clip is a single picture, which `write_picture` writes unless an
            encoder is asked for.

    Returns:
        ".png" for a picture, ".mov" for editing codecs, else ".mp4".
    """
    if still and codec is None:
        return PICTURE
    editing = codec is not None and codec.startswith(("prores", "dnxh", "qtrle", "cfhd"))
    return ".mov" if editing else ".mp4"


def check_codec(codec: str) -> None:
    """Try the user's own ffmpeg with an encoder on two grey frames, before any real work.

    Args:
        codec: FFmpeg's name of the encoder.

    Raises:
        MissingTool: There is no ffmpeg in PATH, it does not know the encoder, or the encoder does
            not run on this machine (no such device or driver); with ffmpeg's own reason.
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


def write_picture(path: Path, clip: Clip, frames: Iterable[Frame]) -> None:
    """Write the frame of a clip that is a single picture, without loss.

    Args:
        path: The file to write, with the suffix .png.
        clip: The clip that the frame is of.
        frames: The frame: (H, W, 3) RGB uint8.

    Raises:
        VideoError: There is no frame.
        OutputError: The file cannot be written.
    """
    images = [frame.image for frame in frames]
    if not images:
        raise VideoError(f"{printable(clip.path)}: there is no frame to write")
    with files.atomic(path) as temporary:
        PIL.Image.fromarray(images[0]).save(temporary, "PNG")


def write(path: Path, clip: Clip, frames: Iterable[Frame], codec: str | None = None) -> str | None:
    """Encode frames at their exact times, with the audio of their clip.

    A clip of a span that begins later is written from 0, with the audio of the span. Audio is
    copied packet by packet; where the container cannot hold it, it is encoded as AAC. The file
    appears under its name only when it is complete.

    Args:
        path: The file to write, with the suffix `suffix_for(codec)`.
        clip: The clip that the frames are of.
        frames: (H, W, 3) RGB uint8, all of one size, which may differ from the clip's. Where a
            side is odd, the last row or column is doubled, as H.264 needs even ones. They are
            read one by one.
        codec: None for the built-in H.264, or the name of an encoder of the user's own ffmpeg.

    Returns:
        A note for the user if audio was encoded again, else None.

    Raises:
        VideoError: There is no frame.
        OutputError: The file cannot be written, or the encoder fails.
        MissingTool: `codec` is given and there is no ffmpeg.
    """
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise VideoError(f"{printable(clip.path)}: there is no frame to write")
    height, width = first.image.shape[:2]
    origin = first.pts if clip.span.start > 0 else 0
    with files.atomic(path) as temporary:
        if codec is None:
            encoder, options, pixel_format, delay = ENCODER, ENCODER_OPTIONS, "yuv420p", 0
            opened = _container(temporary, path, clip.time_base)
        else:
            encoder, options, pixel_format = "rawvideo", {}, _pixel_format(codec)
            delay = NUT_DELAY * clip.time_base.numerator
            bits = round(BITS_PER_PIXEL * width * height * clip.fps)
            opened = _own_ffmpeg(temporary, path, codec, clip, delay, bits)
        with opened as output:
            video = output.add_stream(encoder, options=options, rate=_rate(clip))
            video.width, video.height = width + width % 2, height + height % 2
            video.pix_fmt = pixel_format
            video.codec_context.time_base = clip.time_base
            video.thread_type = "FRAME"  # x264 would otherwise cut pictures into slices
            _tag_colours(video.codec_context)
            audio, note = _add_audio(output, clip, origin, COPIED_AUDIO[suffix_for(codec)])
            pictures = _encode(video, chain([first], remaining), clip, origin, pixel_format)
            _mux(output, video, [pictures, *audio], delay)
    return note


def _mux(output: Any, video: Any, streams: list[Iterator[Any]], delay: int) -> None:
    """Write the packets of all streams in the order of their times, each `delay` s later."""
    for packet in heapq.merge(*streams, key=lambda p: p.dts * p.time_base):
        packet.pts += round(delay / packet.time_base)
        packet.dts += round(delay / packet.time_base)
        try:
            output.mux(packet)
        except (av.ArgumentError, av.InvalidDataError):
            if packet.stream is video:
                raise
            # A damaged piece of audio: leave it out, go on.


@contextmanager
def _container(temporary: Path, path: Path, time_base: Fraction) -> Iterator[Any]:
    """Open an output container that PyAV writes; its errors name the final `path`."""
    options = {"movflags": "+faststart", "movie_timescale": str(_timescale(time_base))}
    try:
        with av.open(f"file:{temporary}", "w", options=options) as output:
            yield output
    except av.FFmpegError as error:
        reason = files.cannot_write(path, OSError(error.errno, error.strerror))
        raise OutputError(reason) from error


@contextmanager
def _own_ffmpeg(
    temporary: Path, path: Path, codec: str, clip: Clip, delay: int, bits: int
) -> Iterator[Any]:
    """Open an output container (NUT) whose video the user's own ffmpeg encodes into `temporary`."""
    if shutil.which("ffmpeg") is None:
        raise MissingTool(
            f"--codec {codec} needs the program ffmpeg, which is not in PATH; install it, "
            "or leave --codec out for the built-in H.264 encoder"
        )
    command = _ffmpeg_command(temporary, codec, clip, delay, bits)
    # Messages go to a file, as nothing would empty a pipe while frames are written. A process
    # group of its own keeps the terminal's Ctrl-C for us, and then we end ffmpeg.
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            process_group=0,
        )
        assert process.stdin is not None
        failure = None
        with cleanup(lambda: _end(process)):
            try:
                # By its number: PyAV loses a Ctrl-C that comes while a Python pipe is written.
                with (
                    process.stdin as pipe,
                    av.open(f"pipe:{pipe.fileno()}", "w", format="nut") as output,
                ):
                    yield output
            except av.FFmpegError as error:
                failure = error  # most often because ffmpeg has ended; its messages have the reason
            process.wait()
        if failure or process.returncode:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").split("\n")
            reason = next((line.strip() for line in lines if line.strip()), str(failure))
            name = printable(Path(path.name))
            raise OutputError(f"ffmpeg cannot write {name} with {codec}: {reason}")


def _ffmpeg_command(temporary: Path, codec: str, clip: Clip, delay: int, bits: int) -> list[str]:
    """Return the command that encodes NUT from its standard input; bits: bit rate per second."""
    time_base = clip.time_base
    # NUT has the times of frames and audio, and ffmpeg keeps both. As NUT has no time below 0,
    # where audio may begin, everything in it is `delay` s late, and ffmpeg moves it back.
    source = {
        "colorspace": "bt709",
        "color_primaries": "bt709",
        "color_trc": "bt709",
        "color_range": "tv",
    }
    target = {
        "map": "0",
        "c:v": codec,
        "c:a": "copy",
        "b:v": bits,  # for encoders without a good default
        "bf": 0,
        "force_key_frames": _key_frames(1 / clip.fps),
        "enc_time_base": f"{time_base.numerator}/{time_base.denominator}",
        "movflags": "+faststart",
        **_keep_times(time_base),
    }
    if "nvenc" in codec or codec in ("libx265", "hevc"):
        target["forced-idr"] = 1  # else a forced picture is none to begin with
    if "hevc" in codec or "265" in codec:
        target["tag:v"] = "hvc1"  # the only one that QuickTime and Finder show
    command: list[str] = (
        ffmpeg.input("pipe:0", format="nut", itsoffset=-delay, **source)
        .output(f"file:{temporary}", **target)
        .global_args("-hide_banner", "-loglevel", "error", "-copyts")
        .overwrite_output()
        .compile()
    )
    return command


def _key_frames(frame: float) -> str:
    """Return FFmpeg's expression for a key frame each half second; frame: s that one lasts."""
    later = max(0.0, float(KEY_FRAMES_EVERY) - frame) + 0.001  # half a second is not exceeded
    return f"expr:if(isnan(prev_forced_t),1,gte(t,prev_forced_t+{later:.4f}))"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a child process, unless it has ended."""
    process.kill()
    process.wait()


def _keep_times(time_base: Fraction) -> dict[str, str]:
    """Return the options by which this ffmpeg keeps the frames' times; they changed in 5.1."""
    done = subprocess.run(["ffmpeg", "-h", "long"], stdin=subprocess.DEVNULL, capture_output=True)
    if b"-fps_mode" not in done.stdout:
        return {"vsync": "passthrough"}
    return {"fps_mode": "passthrough", "movie_timescale": str(_timescale(time_base))}


def _timescale(time_base: Fraction) -> int:
    """Return the ticks per second of an MP4's header, fine enough for a start that is not 0."""
    return time_base.denominator * ceil(10_000 / time_base.denominator)


def _encode(
    video: Any, frames: Iterable[Frame], clip: Clip, origin: int, pixel_format: str
) -> Iterator[Any]:
    """Yield the packets of the frames, `origin` ticks earlier."""
    usual = max(1, round(1 / (clip.fps * clip.time_base)))  # ticks that the last frame lasts
    key = 0  # ticks, of the last key frame
    for frame, after in pairwise(chain(frames, [None])):
        assert frame is not None
        picture = _picture(frame.image, pixel_format)
        picture.time_base = clip.time_base
        picture.pts = frame.pts - origin
        picture.duration = usual if after is None else after.pts - frame.pts
        if picture.pts + picture.duration > key + KEY_FRAMES_EVERY / clip.time_base:
            picture.pict_type, key = PictureType.I, picture.pts
        yield from video.encode(picture)
    yield from video.encode(None)


def _picture(image: Image, pixel_format: str) -> Any:
    """Return an image as limited-range BT.709 YUV, its last line doubled where a side is odd."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=INTERPOLATION,
    )


def _pixel_format(codec: str) -> str:
    """Return the pixel format for an encoder: what editors expect, or what players show."""
    return "yuv422p10le" if codec.startswith("prores") else "yuv420p"


def _tag_colours(context: Any) -> None:
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


def _rate(clip: Clip) -> Fraction:
    return Fraction(clip.fps).limit_denominator(100_000)


def _add_audio(
    output: Any, clip: Clip, origin: int, copied: frozenset[str]
) -> tuple[list[Iterator[Any]], str | None]:
    """Add the clip's audio from tick `origin` on: its packets; a note if it is encoded again."""
    if not clip.has_audio:
        return [], None
    tracks = []
    reencoded = []
    with open_container(clip.path) as source:
        start = (start_of(source, video_stream(source, clip.path)) + origin) * clip.time_base
        # Times of the output, s, from which and before which packets are to begin.
        since = 0.0 if clip.span.start > 0 else -inf
        until = inf if clip.span.end is None else clip.span.end - float(origin * clip.time_base)
        for stream in audio_streams(source):
            name = stream.codec.canonical_name
            if name in copied:
                target = output.add_stream_from_template(stream)
                packets = _copy_audio(clip, stream.index, target, start, (since, until))
            else:
                reencoded.append(name)
                target = output.add_stream("aac", rate=AAC_RATE, layout="stereo")
                packets = _encode_audio(clip, stream.index, target, start, (since, until))
            tracks.append(_ascending(packets))
    names = ", ".join(reencoded)
    note = f"audio ({names}) cannot be copied into this kind of file: encoded as AAC"
    return tracks, note if reencoded else None


def _copy_audio(
    clip: Clip, index: int, target: Any, start: Fraction, limits: tuple[float, float]
) -> Iterator[Any]:
    """Yield an audio stream's packets within `limits`, `start` s earlier, unchanged otherwise."""
    with open_container(clip.path) as source:
        stream = source.streams[index]
        # In ticks of 1 / rate s, which are fine enough for both times to be exact.
        numerator, rate = stream.time_base.as_integer_ratio()
        offset = round(start * rate)
        for packet in continuous(packets_of(source, stream), stream, clip.jumps):
            if packet is None or packet.dts is None:
                continue
            packet.pts = (packet.dts if packet.pts is None else packet.pts) * numerator - offset
            packet.dts = packet.dts * numerator - offset
            packet.duration *= numerator
            packet.time_base = Fraction(1, rate)
            packet.stream = target
            if limits[0] <= packet.pts / rate < limits[1]:
                yield packet


def _encode_audio(
    clip: Clip, index: int, target: Any, start: Fraction, limits: tuple[float, float]
) -> Iterator[Any]:
    """Yield an audio stream within `limits` as AAC, `start` s earlier, without damaged pieces."""
    resampler = av.AudioResampler("fltp", "stereo", AAC_RATE)
    with open_container(clip.path) as source:
        stream = source.streams[index]
        offset = round(start / stream.time_base)
        packets = continuous(packets_of(source, stream), stream, clip.jumps)
        for packet in chain(filter(None, packets), [None]):
            for samples in decode(stream, packet) or ():
                if samples.pts is not None:
                    samples.pts -= offset
                    if not limits[0] <= samples.pts * samples.time_base < limits[1]:
                        continue
                yield from _aac_packets(target, resampler, samples)
        yield from _aac_packets(target, resampler, None)
        yield from target.encode(None)


def _aac_packets(target: Any, resampler: Any, samples: Any) -> list[Any]:
    """Encode a decoded piece of audio (None: the end); nothing if it is damaged."""
    try:
        return [p for piece in resampler.resample(samples) for p in target.encode(piece)]
    except (av.FFmpegError, ValueError):  # not a number, or another rate than before
        return []


def _ascending(packets: Iterable[Any]) -> Iterator[Any]:
    """Drop packets whose time does not ascend, which a muxer refuses: damaged audio has them."""
    last = None
    for packet in packets:
        if last is None or packet.dts > last:
            last = packet.dts
            yield packet
