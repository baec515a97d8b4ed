"""Reading and writing of videos: the only package that imports PyAV and ffmpeg-python.

A clip goes through it in four steps, all public here:

    clip = probe(path)                  # its size, rate and times
    damage = inspect(clip)              # what of it is damaged
    for frame in frames(clip, damage):  # decoded, one by one
        ...
    write(out, clip, images)            # encoded at the same times, with the clip's audio

The modules behind them:

container.py  an open file: streams, packets, start; FFmpeg's errors become VideoError
picture.py    a decoded picture made upright RGB; how large one may be
seeking.py    where decoding may begin for a span of a clip
sequence.py   a folder of pictures as a clip
damage.py     strict decoding that counts what is damaged
timeline.py   where a file's times jump
deinterlacing.py  whole pictures of interlaced ones
tonemapping.py  SDR of high dynamic range
reading.py    `probe` and `frames`
backwards.py  `frames_before`: the last one first
remarks.py    `remarks`: what is not read just as the file has it
writing.py    `write`; the user's own ffmpeg
live.py       `live_pictures`: what is filmed at this moment
recording.py  `recorded`: the same on disk

Times: a clip's clock starts where its file starts (0 is what a player shows as 0). Frame.pts
counts ticks of Clip.time_base on that clock, exactly as in the file, so variable frame rates
stay variable; audio is moved by the same start and stays in sync. Where a file's own times jump
(Clip.jumps), those of pictures and audio go on. A clip of a span has the
same frames as the whole one, with the same index and time; what is written of it starts at 0.

Pixels: RGB uint8, upright and square. A file's rotation or mirroring is applied, stretched
(anamorphic) pixels are widened, transparent ones are blended with black, interlaced pictures
are made whole, and high dynamic range becomes SDR.
"""

import cv2  # noqa: F401  before PyAV, beside whose libxcb OpenCV's windows hang on Linux

from staf_cli.video.backwards import frames_before
from staf_cli.video.damage import Damage, inspect
from staf_cli.video.live import STDIN, Arrival, check_source, live_pictures, source_name
from staf_cli.video.reading import frames, probe
from staf_cli.video.recording import SUFFIX as RECORDING_SUFFIX
from staf_cli.video.recording import Recording, recorded
from staf_cli.video.remarks import remarks
from staf_cli.video.sequence import content_hash, is_sequence, pictures_in, read_picture
from staf_cli.video.writing import check_codec, suffix_for, write, write_picture

__all__ = [
    "RECORDING_SUFFIX",
    "STDIN",
    "Arrival",
    "Damage",
    "Recording",
    "check_codec",
    "check_source",
    "content_hash",
    "frames",
    "frames_before",
    "inspect",
    "is_sequence",
    "live_pictures",
    "pictures_in",
    "probe",
    "read_picture",
    "recorded",
    "remarks",
    "source_name",
    "suffix_for",
    "write",
    "write_picture",
]
