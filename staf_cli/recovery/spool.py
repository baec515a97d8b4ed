"""People between the stages of recovery, in stretches of frames: in memory or on disk."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from staf_cli.core.files import TEMPORARY
from staf_cli.core.records import STRETCH_FRAMES, Person, join_rows, select_rows
from staf_cli.result import person_npz


class Spool(Protocol):
    """Keeps the stretches of every person of a clip, in order."""

    def add(self, number: int, stretch: Person) -> None:
        """Append the next stretch of a person.

        Args:
            number: the person's index in the list of tracks.
            stretch: the person in some frames that follow those added before.
        """

    def stretches(self, number: int) -> Iterator[Person]:
        """Yield a person's stretches in order."""

    def replace(self, number: int, stretches: Iterable[Person]) -> Iterator[Person]:
        """Put other stretches of the same lengths in the place of a person's.

        `stretches` may read ahead from the old ones while they are replaced.

        Args:
            number: the person's index in the list of tracks.
            stretches: as many as there are.

        Yields:
            Each new stretch once it is kept.
        """

    def count(self) -> int:
        """Return how many stretches there are of all people together."""


class MemorySpool:
    """A spool for people that fit into memory."""

    def __init__(self, people: int) -> None:
        """Begin with that many people without stretches."""
        self._stretches: list[list[Person]] = [[] for _ in range(people)]

    @classmethod
    def of(cls, people: Sequence[Person]) -> "MemorySpool":
        """Make a spool that holds people already.

        Args:
            people: in the order of the tracks.

        Returns:
            The spool, each person in stretches.
        """
        spool = cls(len(people))
        for number, person in enumerate(people):
            for first in range(0, len(person.frame), STRETCH_FRAMES):
                spool.add(number, select_rows(person, slice(first, first + STRETCH_FRAMES)))
        return spool

    def add(self, number: int, stretch: Person) -> None:
        """Append the next stretch of a person."""
        self._stretches[number].append(stretch)

    def stretches(self, number: int) -> Iterator[Person]:
        """Yield a person's stretches in order."""
        return iter(self._stretches[number])

    def replace(self, number: int, stretches: Iterable[Person]) -> Iterator[Person]:
        """Put other stretches in the place of a person's, see `Spool.replace`."""
        kept = []
        for stretch in stretches:
            kept.append(stretch)
            yield stretch
        self._stretches[number] = kept

    def count(self) -> int:
        """Return how many stretches there are of all people together."""
        return sum(map(len, self._stretches))

    def people(self) -> list[Person]:
        """Return every person, the stretches joined."""
        return [join_rows(own) for own in self._stretches]


class DiskSpool:
    """A spool in temporary files of a result folder, for clips of any length."""

    def __init__(self, people: int, folder: Path) -> None:
        """Begin with that many people without stretches; files go into `folder`."""
        self._folder = folder
        self._paths: list[list[Path]] = [[] for _ in range(people)]

    def add(self, number: int, stretch: Person) -> None:
        """Append the next stretch of a person."""
        own = self._paths[number]
        path = self._folder / f"{TEMPORARY}{stretch.id}-{len(own)}.npz"
        person_npz.save(path, stretch)
        own.append(path)

    def stretches(self, number: int) -> Iterator[Person]:
        """Yield a person's stretches in order."""
        return map(person_npz.load, self._paths[number])

    def replace(self, number: int, stretches: Iterable[Person]) -> Iterator[Person]:
        """Put other stretches in the place of a person's, see `Spool.replace`."""
        for path, stretch in zip(self._paths[number], stretches, strict=True):
            person_npz.save(path, stretch)
            yield stretch

    def count(self) -> int:
        """Return how many stretches there are of all people together."""
        return sum(map(len, self._paths))

    def write(self, number: int, path: Path) -> None:
        """Write a whole person into a file, from the stretches.

        Args:
            number: the person's index in the list of tracks.
            path: of the person's npz.

        Raises:
            OutputError: the file cannot be written.
        """
        person_npz.join(path, self._paths[number])
