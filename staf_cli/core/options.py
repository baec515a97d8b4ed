"""Options are defined once: fields of frozen records with their help, range and names.

The command line makes its options from these fields (`staf_cli.cli.options`), Python uses the
records as they are.

    @dataclass(frozen=True)
    class TrackOptions:
        conf: float = option(0.25, "Score ...", valid=Range(0, 1, open=True), advice="choose ...")

        def __post_init__(self) -> None:
            check_options(self)
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import inf
from numbers import Real
from typing import Any, Literal

from staf_cli.core.errors import UsageError

Precision = Literal["auto", "full", "half"]  # see `core.devices.choose_dtype`
Rig = Literal["smpl", "mixamo", "unreal"]  # see `export.rigs`
Space = Literal["world", "camera"]  # y up on the ground, or as the video camera sees it
SPEC = "option"  # the key of an OptionSpec in a field's metadata


@dataclass(frozen=True)
class Range:
    """Numbers from low to high."""

    low: float = -inf
    high: float = inf
    open: bool = False  # the two ends themselves are outside

    def __contains__(self, value: float) -> bool:
        """Whether a number is in the range."""
        if self.open:
            return self.low < value < self.high
        return self.low <= value <= self.high


@dataclass(frozen=True)
class OptionSpec:
    """What the command line has to know of a field, beside its type and default."""

    help: str
    name: str  # "" for the field's own name, as in --min-track for min_track
    metavar: str | None
    show_default: bool  # in the help
    choices: Mapping[str, Any] | None  # what may be written, and the value that it means
    parse: Callable[[str], Any] | None  # from what is written to the value
    valid: Range | None
    advice: str  # what to choose instead of a value that is out of range


def option(
    default: Any,
    help: str,
    *,
    name: str = "",
    metavar: str | None = None,
    show_default: bool = False,
    choices: Sequence[str] | Mapping[str, Any] | None = None,
    parse: Callable[[str], Any] | None = None,
    valid: Range | None = None,
    advice: str = "",
) -> Any:
    """Make a dataclass field that is an option of the command line as well.

    Args:
        default: the field's default; also the option's.
        help: the line in `--help`.
        name: the option's name where it is not the field's, such as "--list".
        metavar: what stands for the value in `--help`.
        show_default: whether `--help` shows the default.
        choices: the texts that are allowed, or a mapping from them to values.
        parse: makes the value of the text; where it is not given, the field's type decides.
        valid: the range of a number; checked by `check_options`.
        advice: the end of the error for a number that is out of range.

    Returns:
        The field, to be assigned in the class body.
    """
    if choices is not None and not isinstance(choices, Mapping):
        choices = {choice: choice for choice in choices}
    spec = OptionSpec(help, name, metavar, show_default, choices, parse, valid, advice)
    return field(default=default, metadata={SPEC: spec})


def check_options(record: Any) -> None:
    """Check every field of a record: numbers against their range; None is always valid.

    Args:
        record: an instance of a dataclass with fields made by `option`.

    Raises:
        UsageError: a number is out of range, or none; the message names what to choose. A switch
            is neither True nor False: any text, "no" as well, would count as True.
    """
    for one in fields(record):
        spec: OptionSpec | None = one.metadata.get(SPEC)
        value = getattr(record, one.name)
        if not spec or value is None:
            continue
        name = spec.name.removeprefix("--") or one.name.replace("_", "-")
        is_switch = spec.parse is None and one.type in (bool, bool | None)
        if is_switch and not (isinstance(value, Hashable) and value in (0, 1)):
            raise UsageError(f"{name} is {value!r:.60}: give True or False")
        if spec.valid and (not isinstance(value, Real) or float(value) not in spec.valid):
            raise UsageError(f"{name} is {value!s:.60}: {spec.advice}")


def names(text: str) -> tuple[str, ...]:
    """Split names at commas; each comes once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
