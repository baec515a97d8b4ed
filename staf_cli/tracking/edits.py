"""Tracks edited by hand: people merged, split, dropped, renamed.

Edits are written as on the command line and done in this order: merge, split, drop, rename.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from staf_cli.core.errors import TracksError, UsageError
from staf_cli.core.records import LONGEST_NAME, Track, join_rows, select_rows


@dataclass(frozen=True)
class Edits:
    """What is to be changed."""

    merge: tuple[tuple[int, ...], ...] = ()  # numbers that are one person, who keeps the first
    split: tuple[tuple[int, int], ...] = ()  # a person, and the frame from which it is another
    drop: tuple[int, ...] = ()
    rename: tuple[tuple[int, str], ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.merge or self.split or self.drop or self.rename)


def parse_edits(
    merge: Sequence[str], split: Sequence[str], drop: Sequence[str], rename: Sequence[str]
) -> Edits:
    """Parse edits as they are written on the command line.

    Args:
        merge: numbers of people, such as "3,7".
        split: a person and a frame, such as "2@140".
        drop: numbers of people, such as "5" or "5,6".
        rename: a person and a name, such as "1=anna".

    Returns:
        The edits.

    Raises:
        UsageError: a text is none of these.
    """
    return Edits(
        merge=tuple(_numbers("--merge", text, least=2) for text in merge),
        split=tuple(_split(text) for text in split),
        drop=tuple(person for text in drop for person in _numbers("--drop", text, least=1)),
        rename=tuple(_rename(text) for text in rename),
    )


def apply_edits(tracks: Sequence[Track], edits: Edits) -> list[Track]:
    """Make all edits; people that none of them names stay as they are.

    Args:
        tracks: of all people.
        edits: what to change.

    Returns:
        The edited tracks, in the order of their numbers.

    Raises:
        TracksError: a person does not exist, merged people are in one frame, there is nothing
            on one side of a split, or nobody is left.
    """
    people = {track.id: track for track in tracks}
    for numbers in edits.merge:
        first, *others = [_found(people, number) for number in numbers]
        for other in others:
            first = _merged(first, other)
            del people[other.id]
        people[first.id] = first
    for number, frame in edits.split:
        track = _found(people, number)
        at = int(np.searchsorted(track.frame, frame))
        if not 0 < at < len(track.frame):
            raise TracksError(
                f"person {number} is in frames {track.frame[0]} to {track.frame[-1]}: "
                f"split later than the first and up to the last, not at {frame}"
            )
        people[number] = select_rows(track, slice(0, at))
        new = max(people) + 1
        people[new] = replace(select_rows(track, slice(at, None)), id=new, name="")
    for number in edits.drop:
        del people[_found(people, number).id]
    for number, name in edits.rename:
        people[number] = replace(_found(people, number), name=name)
    if not people:
        raise TracksError("nobody would be left; keep at least one person")
    return [people[number] for number in sorted(people)]


def _found(people: dict[int, Track], number: int) -> Track:
    if number not in people:
        there = ", ".join(map(str, sorted(people)))
        raise TracksError(f"person {number} is not there; there are {there}")
    return people[number]


def _merged(one: Track, other: Track) -> Track:
    """Two tracks as one person; between them is a gap, in which nobody is drawn."""
    both = np.intersect1d(one.frame, other.frame)
    if len(both):
        raise TracksError(
            f"persons {one.id} and {other.id} are both in frame {both[0]} and "
            f"{len(both) - 1} others: they are two people; split or drop one first"
        )
    pieces = [select_rows(track, rows) for track in (one, other) for rows in track.runs]
    pieces.sort(key=lambda piece: int(piece.frame[0]))
    return join_rows([replace(piece, id=one.id, name=one.name) for piece in pieces])


def _numbers(option: str, text: str, least: int) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text):
        raise UsageError(f"{option} {text!r}: give numbers of people, such as 3,7")
    numbers = tuple(map(int, text.split(",")))
    if len(set(numbers)) != len(numbers) or len(numbers) < least:
        raise UsageError(f"{option} {text!r}: give {least} or more different numbers")
    return numbers


def _split(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})@(\d{1,9})", text)
    if found is None:
        raise UsageError(f"--split {text!r}: give a person and a frame, such as 2@140")
    return int(found[1]), int(found[2])


def _rename(text: str) -> tuple[int, str]:
    number, given, name = text.partition("=")
    name = name.strip()
    spelled = given and name.isprintable() and len(name) <= LONGEST_NAME
    if not spelled or not re.fullmatch(r"\d{1,9}", number):
        raise UsageError(
            f"--rename {text!r}: give a person and a name of up to {LONGEST_NAME} letters, "
            "such as 1=anna"
        )
    return int(number), name
