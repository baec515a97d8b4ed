"""An attack on the command line, and the list of them all.

Each makes an untrusted file and the arguments that give it to `staf`. Code in a file would make
the folder `canary`; `secret` is a file that others refer to.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support import made_clips

MIB, GIB = 2**20, 2**30

Arguments = list[str | Path]
Make = Callable[[Path], Arguments]


@dataclass(frozen=True)
class Attack:
    """A function that makes a file, and the error with which `staf` must refuse it."""

    make: Make  # gets an empty folder, returns the arguments of `staf`
    error: str  # a pattern in the one line on standard error
    code: int = 1

    @property
    def name(self) -> str:
        return self.make.__name__


ATTACKS: list[Attack] = []


def attack(error: str, code: int = 1) -> Callable[[Make], Make]:
    """Register the function that makes an attack."""

    def register(make: Make) -> Make:
        ATTACKS.append(Attack(make, error, code))
        return make

    return register


class Canary:
    """Makes a folder when it is unpickled by a reader that runs the code in a pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder / "canary"),)


def run_with(folder: Path, *more: str | Path) -> Arguments:
    """The arguments that run a good video; its detector is never opened."""
    detector = folder / "detector.pt"
    detector.touch()
    video = made_clips.make_clip(folder / "v.mp4", range(3))
    return ["run", video, "-o", folder / "out", "--detector", detector, "--trust", *more]
