"""Frames in, frames out: the only importer of PyAV and of ffmpeg-python.

container.py  a file opened: streams, packets, start; errors become VideoError
picture.py    a decoded picture made upright RGB; how large one may be
seeking.py    where decoding may begin for a stretch of a clip
sequence.py   a folder of pictures as a clip
reading.py    probe, inspect for damage, frames
writing.py    frames encoded at their times, sound copied; the user's own ffmpeg

Times: a clip's clock starts where its file starts (0 is what a player shows as 0). Frame.pts
counts ticks of Clip.time_base on that clock, exactly as the file says, so variable frame rates
stay variable; audio is moved by the same start and stays in step. A clip of a span has the
frames of the whole one there, with their index and time; what is written of it starts at 0.

Pixels: RGB uint8, upright and square. A file's rotation or mirroring is applied, stretched
(anamorphic) pixels are widened, and transparent ones are laid on black.
"""

from staf_cli.video.reading import Damage, frames, inspect, probe
from staf_cli.video.sequence import content_hash, is_sequence, pictures_in
from staf_cli.video.writing import check_codec, suffix_for, write

__all__ = [
    "Damage",
    "check_codec",
    "content_hash",
    "frames",
    "inspect",
    "is_sequence",
    "pictures_in",
    "probe",
    "suffix_for",
    "write",
]
