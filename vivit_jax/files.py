"""Files that appear whole or not at all, and over an older one; and whether one has changed.

Each is written under a temporary name beside its place, then renamed.
"""

import csv
import os
import pathlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def write_csv(file: pathlib.Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table in UTF-8; names of files and folders that are no text stay what they are."""
    with (
        replacing(file) as new,
        new.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        csv.writer(out).writerows(rows)


@contextmanager
def replacing(file: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a name to write to, which becomes the file when all went well; makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield new
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


def stamp(path: str) -> tuple[int, int]:
    """Returns size and time of the last change of a file; zeros where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns
