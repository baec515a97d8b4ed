"""The errors of this package, and the exit code that each ends with.

StafError                  1   one line for the user: what, where, what to do next
├── UsageError             2   options that contradict each other or have an invalid value
├── VideoError             1   a video that is missing, empty, unreadable or not a video
├── NobodyFound            1   a readable video in which no person was tracked
├── TracksError            1   tracks.csv or a result folder that cannot be used
├── WeightsError           1   a checkpoint that is missing, altered, not ours or incomplete
├── BodyError              1   a body model that is missing, altered or not in SMPL format
├── DatasetError           1   training or evaluation data that are missing, broken or do not fit
├── MissingTool            1   ffmpeg, a codec, GL or a device that this machine lacks
├── OutOfMemory            1   not even a batch of one fits into the device's memory
└── OutputError            1   a result that cannot be written: full disk, read-only folder

Finishing with damaged input is no error: the run completes and ends with DAMAGED.
"""

DONE = 0
FAILED = 1
USAGE = 2
DAMAGED = 3
INTERRUPTED = 130


def one_line(text: str) -> str:
    """Escape control characters and stray bytes, for terminals and tables."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


IRREGULAR = {"person": "people", "stretch": "stretches"}


def plural(what: str) -> str:
    """Form the plural."""
    return IRREGULAR.get(what, what + "s")


def counted(number: int, what: str) -> str:
    """Say how many there are: 1 frame, 2 frames."""
    return f"{number} {what if number == 1 else plural(what)}"


class StafError(Exception):
    """An error that is reported to the user in one line; the message names what to do next.

    Names and contents of files in a message may hold any characters: all is escaped here.
    """

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        """Escape the message, so that it is one printable line.

        Args:
            message: What is wrong, where, and what to do next.
        """
        super().__init__(one_line(message))


class UsageError(StafError):
    """Options contradict each other or have an invalid value."""

    exit_code = USAGE


class VideoError(StafError):
    """A video is missing, empty, unreadable or not a video."""


class NobodyFound(StafError):
    """No person was tracked in a readable video."""


class TracksError(StafError):
    """tracks.csv or a result folder cannot be used."""


class WeightsError(StafError):
    """A checkpoint is missing, altered, not ours or incomplete."""


class BodyError(StafError):
    """A body model is missing, altered or not in SMPL format."""


class DatasetError(StafError):
    """Training or evaluation data are missing, broken or do not fit."""


class MissingTool(StafError):
    """This machine lacks ffmpeg, a codec, GL or a device."""


class OutOfMemory(StafError):
    """Not even a batch of one fits into the memory of the device."""


class OutputError(StafError):
    """A result cannot be written: full disk, read-only folder."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a library ran out of memory: the words of all libraries; only CUDA has a class."""
    words = ("out of memory", "can't allocate memory")
    return any(word in str(error).lower() for word in words)


def reason_of(error: OSError) -> str:
    """Return the system's reason for an error, in lower case as the middle of a message."""
    return (error.strerror or str(error)).lower()


def describe(error: Exception, less_memory: str = "--batch 1") -> str:
    """Describe any exception in the one line that a user gets.

    Args:
        error: One of ours, of the system's, or an unforeseen one.
        less_memory: The option that needs less memory, for the advice after a MemoryError.

    Returns:
        The line, not yet escaped (`one_line`).
    """
    if isinstance(error, StafError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory; close other programs, or try {less_memory}"
    if isinstance(error, OSError):
        return f"{reason_of(error)}: {error.filename or 'system'}"
    return (
        f"unforeseen {type(error).__name__}: {' '.join(str(error).split())[:200]}; "
        "please report it with what STAF_DEBUG=1 prints"
    )
