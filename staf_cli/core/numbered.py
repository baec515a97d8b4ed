"""Lists of numbered file names in few words: person_{1..3}.bvh stands for three names."""

import re
from collections.abc import Iterable, Iterator

MOST_NAMES = 2**22  # that a list of unknown origin may stand for
_NUMBERED = re.compile(r"(.*?)(\d{1,15})(\D*)")  # the last number of a name
_RUN = re.compile(r"(.*)\{(\d{1,15})\.\.(\d{1,15})\}(.*)")


def pack(names: Iterable[str]) -> list[str]:
    """Write names whose last numbers follow each other as one.

    Args:
        names: Without braces; in any order.

    Returns:
        The list, sorted; `unpack` returns the same names.
    """
    packed: list[str] = []
    numbered: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in set(names):
        found = _NUMBERED.fullmatch(name)
        if found is None:
            packed.append(name)
        else:
            before, number, after = found.groups()
            numbered.setdefault((before, after), []).append((int(number), number))
    for (before, after), numbers in numbered.items():
        for first, last in _runs(sorted(numbers)):
            middle = first if first == last else f"{{{first}..{last}}}"
            packed.append(f"{before}{middle}{after}")
    return sorted(packed)


def _runs(numbers: list[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    """Yield first and last text of numbers that follow each other and are written alike."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != (last[0] + 1, f"{last[0] + 1:0{len(first[1])}}"):
            yield first[1], last[1]
            first = number
        last = number
    yield first[1], last[1]


def unpack(packed: Iterable[str]) -> Iterator[str]:
    """Yield the names that a list stands for.

    Args:
        packed: From `pack`, or of unknown origin.

    Yields:
        The names.

    Raises:
        ValueError: They are more than MOST_NAMES.
    """
    left = MOST_NAMES
    for name in packed:
        found = _RUN.fullmatch(name)
        if found is None:
            yield name
            continue
        before, first, last, after = found.groups()
        left -= int(last) - int(first) + 1
        if left < 0:
            raise ValueError(f"{name}: stands for too many files")
        for number in range(int(first), int(last) + 1):
            yield f"{before}{number:0{len(first)}}{after}"
