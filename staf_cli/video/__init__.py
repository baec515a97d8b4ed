"""Frames in, frames out: the only importer of PyAV and of ffmpeg-python.

container.py  a file opened: streams, packets, start; errors become VideoError
reading.py    probe, inspect for damage, frames
writing.py    frames encoded at their times, sound copied; the user's own ffmpeg

Times: a clip's clock starts where its file starts (0 is what a player shows as 0). Frame.pts
counts ticks of Clip.time_base on that clock, exactly as the file says, so variable frame rates
stay variable; audio is moved by the same start and stays in step.

Pixels: RGB uint8, upright and square. A file's rotation or mirroring is applied, stretched
(anamorphic) pixels are widened, and transparent ones are laid on black.
"""

from staf_cli.video.reading import Damage, frames, inspect, probe
from staf_cli.video.writing import check_codec, suffix_for, write

__all__ = [
    "Damage",
    "check_codec",
    "frames",
    "inspect",
    "probe",
    "suffix_for",
    "write",
]
