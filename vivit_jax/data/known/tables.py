"""Annotation files as they are published: CSV with a header or without, lines, JSON.

A download that was cut ends in a line with too few fields, or in JSON that does not close: that is
refused with its file and line, as is any line that says what it cannot.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from vivit_jax.data.lists import read_lines, refuse
from vivit_jax.errors import InputError

T = TypeVar("T")
_ADVICE = "Is it whole, and of this data set? Fetch it again from where it is published."


def rows(path: str, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Returns (file and line, fields by column) of a CSV file with a header.

    Raises:
      InputError: it lacks a column, or a line has fewer or more fields than the header.
    """
    lines = fields(path)
    _, header = next(lines, ("", []))
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{path}, line 1: {', '.join(header)[:200]!r}; expected the columns of the published "
            f"file, among them {', '.join(columns)}."
        )
    found, faults = [], []
    for where, row in lines:
        if len(row) != len(header):
            faults.append(f"{where}: {len(row)} fields, expected {len(header)}")
        found.append((where, dict(zip(header, row, strict=False))))
    refuse(faults, len(found), _ADVICE)
    return found


def fields(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yields (file and line, fields) of a CSV file without a header; blank lines are none."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield f"{path}, line {reader.line_num}", [field.strip() for field in row]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def lines(path: str) -> list[tuple[str, str]]:
    """Returns (file and line, text) of the lines that are not blank."""
    return [(f"{path}, line {number}", line) for number, line in read_lines(path)]


def read_json(path: str, kind: type[T]) -> T:
    """Returns what a JSON file holds.

    Raises:
      InputError: it is cut, or something else than a `kind`.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise InputError(f"{path} is not whole JSON: {error}. Fetch it again.") from error
    if not isinstance(value, kind):
        name = {list: "a list", dict: "an object"}.get(kind, kind.__name__)
        raise InputError(f"{path} holds {str(value)[:60]!r}; expected {name}, as it is published.")
    return value


def items(path: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns (file and number, object) of a JSON file that is a list of objects."""
    found = [(f"{path}, entry {i}", item) for i, item in enumerate(read_json(path, list))]
    refuse(
        [f"{where}: {str(x)[:60]!r}" for where, x in found if not isinstance(x, dict)],
        len(found),
        "Expected objects, as published.",
    )
    return found


def each(
    found: Iterable[tuple[str, T]], read: Callable[[str, T], Any], advice: str = _ADVICE
) -> list[Any]:
    """Returns what `read` makes of each row; its KeyErrors and ValueErrors are refused together.

    Args:
      found: (file and line, what is there).
      read: from these two to what it says.
      advice: what to do.
    """
    made, faults = [], []
    for where, row in found:
        try:
            made.append(read(where, row))
        except KeyError as error:
            faults.append(f"{where}: {error.args[0]!r} is not known, in {str(row)[:160]}")
        except ValueError as error:
            faults.append(f"{where}: {error}, in {str(row)[:160]}")
    refuse(faults, len(made) + len(faults), advice)
    return made


def number(text: Any, count: int, first: int = 0) -> int:
    """Returns a class number as an index.

    Args:
      text: digits, or a number.
      count: of the classes.
      first: number of the first of them.

    Raises:
      ValueError: there is no such class.
    """
    index = int(text) - first
    if not 0 <= index < count:
        raise ValueError(f"class {text}, expected {first} to {first + count - 1}")
    return index


def begins(path: str, pattern: str) -> bool:
    """Returns whether the first line of a file fits a pattern."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            return re.match(pattern, file.readline()) is not None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
