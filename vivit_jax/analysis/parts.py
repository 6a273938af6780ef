"""A part of an index: the windows of some videos, their rows and their table, whole or not at all.

    NAME.npy         float32 [n D], rows of length 1
    NAME.csv         the table of these rows: id, begin, end, length
    NAME.pictures.npy  float32 [n F], mean pictures of the same windows
    NAME.json        the videos, and which model made the rows of which windows: written last

`length` is what a row was divided by, so that row * length is what the encoder gave.
"""

import csv
import functools
import json
import os
import pathlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.analysis.lengths import unit
from vivit_jax.errors import InputError
from vivit_jax.files import replacing, stamp, write_csv

HEADER = ("id", "begin", "end", "length")
_FOLDER = "parts"


class Entry(NamedTuple):
    """A video of an index.

    Attributes:
      id: its path.
      size: bytes of its file.
      changed: when that was, in nanoseconds.
      seconds: that it lasts.
      windows: rows that it has; 0 where nothing of it can be read any more.
      lost: its stretches that could not be read, as watching.Lost.
    """

    id: str
    size: int
    changed: int
    seconds: float
    windows: int
    lost: list[dict[str, Any]]


def state(entry: Entry) -> str:
    """Returns whether the file of a video is the "same", has "changed", or is "gone"."""
    now = stamp(entry.id)
    if now == (entry.size, entry.changed):
        return "same"
    return "changed" if any(now) else "gone"


class Rows(NamedTuple):
    """What was made of a video.

    Attributes:
      features: float32 [n D].
      spans: [n 2], seconds from the first frame.
      pictures: float32 [n F], mean pictures.
    """

    features: np.ndarray
    spans: np.ndarray
    pictures: np.ndarray


def files(index: pathlib.Path) -> list[pathlib.Path]:
    """Returns the parts of an index that are whole, in the order in which they were added."""
    return sorted((index / _FOLDER).glob("[0-9]*.json"))


class Part:
    """A part that is on the disk; its rows are mapped into memory when they are asked for.

    Attributes:
      entries: its videos, in the order of their rows.
      made: "fingerprint" and "windows" of the model that made them.
    """

    def __init__(self, file: pathlib.Path):
        """Reads which videos it has.

        Raises:
          InputError: the file is broken; so do all that read more of it.
        """
        self._file = file
        about = read_json(file, self._mend)
        try:
            self.entries = [Entry(**entry) for entry in about["videos"]]
            self.made = {"fingerprint": about["fingerprint"], "windows": about["windows"]}
        except (KeyError, TypeError) as error:
            raise InputError(f"{file} is broken ({error!r}): {self._mend}.") from error

    @functools.cached_property
    def table(self) -> np.ndarray:
        """Begin, end and length of each row: float64 [n 3]."""
        file = self._file.with_suffix(".csv")
        try:
            with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
                rows = [row[1:] for row in csv.reader(lines)][1:]
            table = np.array(rows, np.float64).reshape(-1, 3)
        except (OSError, ValueError) as error:
            raise InputError(f"{file} is broken ({error}): {self._mend}.") from error
        return self._checked(file, table)

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Features, of length 1: float32 [n D]."""
        return self._mapped(".npy")

    @functools.cached_property
    def pictures(self) -> np.ndarray:
        """Mean pictures: float32 [n F]."""
        return self._mapped(".pictures.npy")

    def _mapped(self, ending: str) -> np.ndarray:
        file = self._file.with_suffix(ending)
        try:
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{file} is broken ({error}): {self._mend}.") from error
        return self._checked(file, rows)

    def _checked(self, file: pathlib.Path, rows: np.ndarray) -> np.ndarray:
        """Returns an array that has a row for each window."""
        count = sum(entry.windows for entry in self.entries)
        if rows.ndim != 2 or len(rows) != count:
            found = f"it holds {' x '.join(map(str, rows.shape))} numbers, for {count} windows"
            raise InputError(f"{file} is broken ({found}): {self._mend}.")
        return rows

    @property
    def _mend(self) -> str:
        return f"delete {self._file}, and the same `search build` makes its windows anew"


def write(
    index: pathlib.Path,
    number: int,
    made: Mapping[str, Any],
    held: Sequence[tuple[Entry, Rows | None]],
) -> None:
    """Adds a part to an index.

    Args:
      index: its folder.
      number: of parts that are there.
      made: "fingerprint" and "windows".
      held: the videos, and what was made of them; None where that is nothing.
    """
    name = f"{number:06d}-{secrets.token_hex(3)}"  # which another process's part has not
    path = index / _FOLDER / name
    made_of = [(entry, rows) for entry, rows in held if rows]
    rows, lengths = unit(_whole([rows.features for _, rows in made_of]))
    _write_array(path.with_suffix(".npy"), rows)
    _write_array(path.with_suffix(".pictures.npy"), _whole([x.pictures for _, x in made_of]))
    spans = [(entry.id, *span) for entry, rows in made_of for span in rows.spans.tolist()]
    table = [
        (name, f"{begin:.6f}", f"{end:.6f}", repr(float(length)))
        for (name, begin, end), length in zip(spans, lengths[:, 0], strict=True)
    ]
    write_csv(path.with_suffix(".csv"), [HEADER, *table])
    videos = [entry._asdict() for entry, _ in held]
    write_json(path.with_suffix(".json"), {**made, "videos": videos})


def _whole(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns arrays as one; one without rows where there are none."""
    return np.concatenate(parts or [np.empty((0, 1))]).astype(np.float32)


def write_json(file: pathlib.Path, content: Any) -> None:
    """Writes an object."""
    with replacing(file) as new:
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(file: pathlib.Path, mend: str) -> dict[str, Any]:
    """Returns an object.

    Args:
      file: that holds it.
      mend: what to do where it does not.

    Raises:
      InputError: it does not.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is broken ({error}): {mend}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} is broken (it holds no object): {mend}.")
    return found


def _write_array(file: pathlib.Path, rows: np.ndarray) -> None:
    with replacing(file) as new, new.open("wb") as out:
        np.save(out, rows)
        out.flush()
        os.fsync(out.fileno())  # before the part counts
