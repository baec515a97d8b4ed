"""Options as fields of records, and the options of commands made from them."""

from dataclasses import dataclass, field
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from staf_cli.cli.options import record_options
from staf_cli.core.errors import UsageError
from staf_cli.core.options import Range, check_options, option


@dataclass(frozen=True)
class Inner:
    share: float = option(
        0.5, "A share.", show_default=True, valid=Range(0, 1, open=True), advice="choose less"
    )
    ids: tuple[int, ...] = option((), "Numbers.", name="--number")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class Outer:
    many: int | None = option(None, "How many.", valid=Range(1), advice="choose 1 or more")
    inner: Inner = field(default_factory=Inner)
    kind: Literal["a", "b"] = option("a", "Which.")
    flag: bool = option(False, "A flag.")
    maybe: bool | None = option(None, "Yes, no, or as it is best.")
    names: tuple[str, ...] = option((), "Names.")
    half: bool | None = option(None, "How.", choices={"auto": None, "no": False, "yes": True})
    twice: float = option(0.0, "Doubled.", parse=lambda text: 2 * float(text))
    hidden: int = 3

    def __post_init__(self) -> None:
        check_options(self)


def run(*arguments):
    """The record that a command gets, or its error."""
    got: list[Outer] = []

    @click.command()
    @record_options("options", Outer)
    def command(options: Outer) -> None:
        got.append(options)

    result = CliRunner().invoke(command, arguments)
    return got[0] if got else result


def test_without_anything_written_it_is_the_records_default():
    assert run() == Outer()


def test_what_is_written_is_in_the_record():
    arguments = "--many 2 --share 0.25 --number 3,1 --kind b --flag --no-maybe --names x,y,x"
    assert run(*arguments.split(), "--half", "yes", "--twice", "1.5") == Outer(
        many=2,
        inner=Inner(0.25, (3, 1)),
        kind="b",
        flag=True,
        maybe=False,
        names=("x", "y"),
        half=True,
        twice=3.0,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--many", "0"), "many is 0: choose 1 or more"),
        (("--share", "1"), "share is 1.0: choose less"),
        (("--share", "nan"), "share is nan: choose less"),
        (("--number", "1,x"), "--number '1,x': give numbers"),
    ],
)
def test_a_value_that_is_out_of_range_is_refused(arguments, words):
    error = run(*arguments).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(words)


@pytest.mark.parametrize("arguments", [("--kind", "c"), ("--many", "x"), ("--hidden", "4")])
def test_click_refuses_what_is_no_option_at_all(arguments):
    assert run(*arguments).exit_code == 2


def test_help_and_defaults_come_from_the_fields():
    text = run("--help").output
    for words in ("--share FLOAT", "A share.  [default: 0.5]", "--maybe / --no-maybe", "[a|b]"):
        assert words in text
    assert "hidden" not in text
