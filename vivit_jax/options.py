"""From a section of a config to typed values: what is wrong is named as `config.data.frames`."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from vivit_jax.errors import InputError

T = TypeVar("T")


def fill(cls: type[T], section: Mapping[str, Any], path: str) -> T:
    """Returns the dataclass that a section of a config describes.

    Args:
      cls: which.
      section: its options by name; what is left out has its default.
      path: of the section, for messages.
    """
    kinds = typing.get_type_hints(cls)
    if not isinstance(section, Mapping):
        raise InputError(f"{path} = {section!r}; expected a section with: {', '.join(kinds)}.")
    values = {}
    for name, value in section.items():
        if name not in kinds:
            raise InputError(unknown(path, name, kinds))
        where = f"{path}.{name}"
        if dataclasses.is_dataclass(kinds[name]):
            values[name] = fill(kinds[name], value, where)
        else:
            values[name] = convert(value, kinds[name], where)
    try:
        return cls(**values)
    except TypeError as error:  # a field without a default
        raise InputError(f"{path}: {error}") from error


def unknown(path: str, name: str, known: Iterable[str]) -> str:
    """Returns the message about an option that does not exist."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {path}.{close[0]}? " if close else ""
    return f"{path} has no option {name!r}. {hint}It has: {', '.join(known)}."


def choose(where: str, name: str, choices: Iterable[str]) -> None:
    """Refuses a name that is none of the choices.

    Raises:
      InputError: names the field, the choices, and the closest.
    """
    choices = list(choices)
    if name not in choices:
        close = difflib.get_close_matches(str(name), choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{where} = {name!r}; expected one of {', '.join(choices)}.{hint}")


def convert(value: Any, kind: Any, where: str) -> Any:
    """Returns a value as its field's type: lists as tuples, whole numbers as floats.

    Raises:
      InputError: it is none such.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        (kind,) = (arg for arg in args if arg is not type(None))
        return convert(value, kind, where)
    if isinstance(kind, type) and issubclass(origin or kind, Mapping) or origin is Mapping:
        if isinstance(value, Mapping):
            return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        raise InputError(f"{where} = {value!r}; expected a section.")
    if origin is tuple and isinstance(value, list | tuple):
        if args[0] is str and len(value) == 1 and isinstance(value[0], str):
            value = value[0].split(",")  # as names on a command line come
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(convert(v, k, f"{where}[{i}]") for i, (v, k) in pairs)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif origin is None and type(value) is kind:
        return value
    raise InputError(f"{where} = {value!r}; expected {describe(kind)}.")


def describe(kind: Any) -> str:
    """Returns a type in words."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        many = "any number of" if args[-1] is Ellipsis else str(len(args))
        return f"{many} values with commas, each {describe(args[0])}"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
    return names.get(kind, str(kind))
