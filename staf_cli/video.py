"""Frames in, frames out: the only importer of PyAV and of ffmpeg-python.

Times: a clip's clock starts where its file starts (0 is what a player shows as 0). Frame.pts
counts ticks of Clip.time_base on that clock, exactly as the file says, so variable frame rates
stay variable; audio is moved by the same start and stays in step.

Pixels: RGB uint8, upright and square. A file's rotation or mirroring is applied, stretched
(anamorphic) pixels are widened, and transparent ones are laid on black.
"""

import heapq
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
)

from staf_cli import files
from staf_cli.errors import MissingTool, OutputError, VideoError
from staf_cli.records import Clip, Frame, Image

# Scripts and text that FFmpeg would "play", and that may name other files.
NOT_VIDEOS = frozenset({"tty", "concat", "hls", "dash", "sdp", "rtsp"})
STATES_LENGTH = frozenset({"matroska,webm", "flv"})  # containers with a length but no full index
LENGTH_TOLERANCE = 0.2  # s that a healthy file's stated length may be off
MOST_READ_ERRORS = 100  # in a row, before the rest of a file is given up
DEFAULT_FPS = 25.0  # where a file does not say, as FFmpeg assumes
A_DAY = 86400  # s; a longer gap between two frames is a damaged time

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
# FFmpeg's fast path: nine times faster than accurate rounding, on average one level of 255 off.
READING = Interpolation.BICUBIC
WRITING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)

Matrix = tuple[int, int, int, int]


@dataclass(frozen=True)
class Damage:
    """What is wrong with a clip's video stream, counted in packets (about one a frame)."""

    packets: int = 0  # in the file, but not to be decoded in full
    missing: int = 0  # promised by the container, but not in the file

    def __bool__(self) -> bool:
        return self.packets + self.missing > 0


def printable(path: Path) -> str:
    """A path as text for messages: control characters and stray bytes are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


# --- frames in ---------------------------------------------------------------------------------


def probe(path: Path) -> Clip:
    """Read what a video file says of itself, and decode its first frame to see that it can be.

    Raises VideoError, in one line, for a path that is missing, no regular file, empty, not a
    video, without a video stream, or without one decodable frame.
    """
    with _opened(path) as container:
        stream = _video_stream(container, path)
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
            has_audio=bool(_audio_streams(container)),
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
    with _opened(clip.path) as container:
        stream = _video_stream(container, clip.path)
        matrix = _display_matrix(_first_picture(container, stream, clip.path))
    with _opened(clip.path) as container:
        stream = _video_stream(container, clip.path)
        stream.thread_type = "NONE" if damage else "AUTO"
        start = _start(container, stream)
        for picture in _decoded(container, stream):
            image = _image(picture, clip, matrix)
            if image is None:
                continue
            pts = None if picture.pts is None else picture.pts - start
            last = _next_pts(pts, last, clip)
            yield Frame(index, last, float(last * clip.time_base), image)
            index += 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
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


def _video_stream(container: Any, path: Path) -> Any:
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


def _audio_streams(container: Any) -> list[Any]:
    return [s for s in container.streams.audio if s.codec_context is not None]


def _packets(container: Any, *streams: Any) -> Iterator[Any]:
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


def _decode(stream: Any, packet: Any) -> list[Any] | None:
    """The frames that a packet (None: the end) completes; None if it cannot be decoded."""
    try:
        frames: list[Any] = stream.codec_context.decode(packet)
    except av.FFmpegError:
        return None
    return frames


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """All frames that can be decoded, PyAV's own, in presentation order."""
    for packet in _packets(container, stream):
        if packet is not None:
            yield from _decode(stream, packet) or ()
    yield from _decode(stream, None) or ()


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
    with _opened(clip.path) as container:
        stream = _video_stream(container, clip.path)
        stream.thread_type = thread_type
        stream.codec_context.options = {"err_detect": "explode"}
        for packet in _packets(container):
            if packet is None:
                damaged += 1
                continue
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index == stream.index:
                pictures = _decode(stream, packet)
                damaged += (
                    packet.is_corrupt or pictures is None or any(p.is_corrupt for p in pictures)
                )
        pictures = _decode(stream, None)
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


def _start(container: Any, stream: Any) -> int:
    """The file's start in ticks of the stream: later streams keep their distance to it."""
    start = Fraction(container.start_time or 0, av.time_base)
    ticks: Fraction = start / stream.time_base
    own: int | None = stream.start_time
    # The container's start is rounded to microseconds: prefer the stream's own, exact one.
    if own is not None and abs(own * stream.time_base - start) < Fraction(2, av.time_base):
        return max(0, own)
    return max(0, round(ticks))


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


# --- frames out --------------------------------------------------------------------------------


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial").with_suffix(suffix_for(codec))
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
            sound, note = _sound(output, clip, COPIED_AUDIO[suffix_for(codec)])
            pictures = _encoded(video, chain([first], shown), clip, pixel_format)
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
        raise files.cannot_write(path, OSError(error.errno, error.strerror)) from error


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
        try:
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
        except BaseException:
            process.kill()
            process.wait()
            raise
        if broken or process.returncode:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").split("\n")
            reason = next((line.strip() for line in lines if line.strip()), str(broken))
            name = printable(Path(path.name))
            raise OutputError(f"ffmpeg cannot write {name} with {codec}: {reason}")


def _keep_times(time_base: Fraction) -> dict[str, str]:
    """The options with which this ffmpeg keeps the frames' times: others before version 5.1."""
    told = subprocess.run(["ffmpeg", "-h", "long"], stdin=subprocess.DEVNULL, capture_output=True)
    if b"-fps_mode" not in told.stdout:
        return {"vsync": "passthrough"}
    return {"fps_mode": "passthrough", "movie_timescale": str(_timescale(time_base))}


def _timescale(time_base: Fraction) -> int:
    """Ticks per second of an MP4's header, fine enough for a start that is not 0."""
    return time_base.denominator * ceil(10_000 / time_base.denominator)


def _encoded(video: Any, frames: Iterable[Frame], clip: Clip, pixel_format: str) -> Iterator[Any]:
    """The packets of the frames. Each lasts until the next one; the last, one frame of the clip."""
    usual = max(1, round(1 / (clip.fps * clip.time_base)))
    for frame, after in pairwise(chain(frames, [None])):
        assert frame is not None
        picture = _picture(frame.image, pixel_format)
        picture.time_base = clip.time_base
        picture.pts = frame.pts
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
    output: Any, clip: Clip, copied: frozenset[str]
) -> tuple[list[Iterator[Any]], str | None]:
    """Add the clip's audio to an output: its packets, and a note if some are encoded anew."""
    if not clip.has_audio:
        return [], None
    tracks = []
    foreign = []
    with _opened(clip.path) as source:
        start = _start(source, _video_stream(source, clip.path)) * clip.time_base
        for stream in _audio_streams(source):
            name = stream.codec.canonical_name
            if name in copied:
                target = output.add_stream_from_template(stream)
                packets = _copied(clip, stream.index, target, start)
            else:
                foreign.append(name)
                target = output.add_stream("aac", rate=AAC_RATE, layout="stereo")
                packets = _as_aac(clip, stream.index, target, start)
            tracks.append(_ascending(packets))
    note = f"audio ({', '.join(foreign)}) cannot be copied into this kind of file: encoded as AAC"
    return tracks, note if foreign else None


def _copied(clip: Clip, index: int, target: Any, start: Fraction) -> Iterator[Any]:
    """One audio stream's packets as they are, moved by the file's start (s), in ticks of 1/n s."""
    with _opened(clip.path) as source:
        stream = source.streams[index]
        many, rate = stream.time_base.as_integer_ratio()
        shift = round(start * rate)
        for packet in _packets(source, stream):
            if packet is None or packet.dts is None:
                continue
            packet.pts = (packet.dts if packet.pts is None else packet.pts) * many - shift
            packet.dts = packet.dts * many - shift
            packet.duration *= many
            packet.time_base = Fraction(1, rate)
            packet.stream = target
            yield packet


def _as_aac(clip: Clip, index: int, target: Any, start: Fraction) -> Iterator[Any]:
    """One audio stream as AAC, moved by the file's start (s); damaged pieces are left out."""
    resampler = av.AudioResampler("fltp", "stereo", AAC_RATE)
    with _opened(clip.path) as source:
        stream = source.streams[index]
        shift = round(start / stream.time_base)
        for packet in chain(filter(None, _packets(source, stream)), [None]):
            for sound in _decode(stream, packet) or ():
                if sound.pts is not None:
                    sound.pts -= shift
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
