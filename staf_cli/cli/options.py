"""Options of commands, made from the fields of records (`staf_cli.core.options`)."""

from collections.abc import Callable, Collection
from dataclasses import Field, fields, is_dataclass
from functools import update_wrapper
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from staf_cli.core.errors import UsageError
from staf_cli.core.options import SPEC, OptionSpec, names

Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print how long each part took as well."
)


def record_options(
    parameter: str, record: type[Any], without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Make a decorator that gives a command the options of a record.

    The command gets the record, made from what was written, as one argument. Fields that are
    records themselves bring their own options.

    Args:
        parameter: the argument's name.
        record: a dataclass with fields made by `core.options.option`.
        without: fields that are no options of this command; they keep their defaults.

    Returns:
        The decorator.
    """

    def decorate(command: Command) -> Command:
        def call(*arguments: Any, **values: Any) -> Any:
            made = _make(record, parameter, values, without)
            return command(*arguments, **{parameter: made}, **values)

        update_wrapper(call, command)
        wrapped: Any = call
        for option in reversed(_options(record, parameter, without)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def _options(
    record: type[Any], prefix: str, without: Collection[str]
) -> list[Callable[[Any], Any]]:
    """Decorators of click for a record, in the order of its fields."""
    hints, made = get_type_hints(record), []
    for one in fields(record):
        kind = hints[one.name]
        if is_dataclass(kind) and isinstance(kind, type):
            made += _options(kind, f"{prefix}_{one.name}", without)
        elif (spec := one.metadata.get(SPEC)) and one.name not in without:
            made.append(_option(one, spec, kind, f"{prefix}_{one.name}"))
    return made


def _option(one: Field[Any], spec: OptionSpec, kind: Any, parameter: str) -> Callable[[Any], Any]:
    name = spec.name or "--" + one.name.replace("_", "-")
    kind, optional = _without_none(kind)
    more: dict[str, Any] = {"default": one.default, "show_default": spec.show_default}
    if spec.choices is not None:
        written = {value: text for text, value in spec.choices.items()}
        more |= {"type": click.Choice(list(spec.choices)), "default": written[one.default]}
    elif get_origin(kind) is Literal:
        more["type"] = click.Choice(list(get_args(kind)))
    elif kind is bool and (optional or one.default):
        name = f"{name}/--no-{name.removeprefix('--')}"
    elif kind is bool:
        more["is_flag"] = True
    elif spec.parse or get_origin(kind) is tuple:
        more |= {"type": str, "default": None}
    else:
        more["type"] = kind
    return click.option(name, parameter, help=spec.help, metavar=spec.metavar, **more)


def _make(record: type[Any], prefix: str, values: dict[str, Any], without: Collection[str]) -> Any:
    """A record from a command's values, which are taken out."""
    hints, made = get_type_hints(record), {}
    for one in fields(record):
        parameter, kind = f"{prefix}_{one.name}", hints[one.name]
        if is_dataclass(kind) and isinstance(kind, type):
            made[one.name] = _make(kind, parameter, values, without)
        elif (spec := one.metadata.get(SPEC)) and one.name not in without:
            made[one.name] = _value(one, spec, kind, values.pop(parameter))
    return record(**made)


def _value(one: Field[Any], spec: OptionSpec, kind: Any, written: Any) -> Any:
    kind, _ = _without_none(kind)
    if spec.choices is not None:
        return spec.choices[written]
    if spec.parse or get_origin(kind) is tuple:
        if written is None:
            return one.default
        if spec.parse:
            return spec.parse(written)
        option = spec.name or "--" + one.name.replace("_", "-")
        return _numbers(option, written) if get_args(kind)[0] is int else names(written)
    return written


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was in it."""
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    (only,) = (part for part in get_args(kind) if part is not NoneType)
    return only, True


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: give numbers such as 1 or 1,3") from error
