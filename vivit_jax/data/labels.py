"""From the labels that folders and lists hold, names or numbers, to indices and a label map."""

import logging
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Protocol

from vivit_jax.data.lists import read_label_map, refuse
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
LABEL_MAP = "label_map.txt"  # in a run's workdir; with several heads label_map_0.txt and so on
_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}  # any name that a folder can have
_MOST_CLASSES = 100_000  # a larger number is an identifier, not a class


class Labelled(Protocol):
    """Something with labels in words."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names, or numbers in digits."""
        ...

    @property
    def where(self) -> str:
        """Where they come from, for messages."""
        ...


def index_labels(
    items: Sequence[Labelled], naming: int, map_files: str, heads: bool, numbers: bool
) -> tuple[tuple[tuple[str, ...], ...], list[tuple[int, ...]]]:
    """Returns the label maps, and the label indices of each item.

    Args:
      items: training videos, then held-out ones.
      naming: how many of the items, from the first, name the classes where no map file does.
      map_files: a label map file, one a head with commas between; empty to infer.
      heads: whether the labels of an item belong to one head each, with a map each.
      numbers: whether labels that are all whole numbers are indices; False for folder names.

    Raises:
      InputError: a label is none, or is outside its map.
    """
    count = len(items[0].labels) if heads else 1
    refuse(
        [
            f"{item.where}: {len(item.labels)} labels"
            for item in items
            if heads and len(item.labels) != count
        ],
        len(items),
        f"Expected {count}, one a head, as {items[0].where} has.",
    )
    files = [file.strip() for file in map_files.split(",")] if map_files else [""] * count
    if len(files) != count:
        raise InputError(f"data.label_map is {map_files!r}; expected {count} files.")
    maps, columns = [], []
    for head, file in enumerate(files):
        column = [item.labels[head : head + 1] if heads else item.labels for item in items]
        names, index = _label_map(items, column, naming, file, numbers)
        maps.append(names)
        columns.append([tuple(index[label] for label in labels) for labels in column])
    return tuple(maps), [sum(parts, ()) for parts in zip(*columns, strict=True)]


def keep_label_maps(workdir: pathlib.Path, maps: Sequence[Sequence[str]]) -> None:
    """Writes the label maps of a run, a name a line; each file can be a data.label_map.

    Raises:
      InputError: the run has others already.
    """
    before = read_label_maps(workdir) if _files(workdir) else maps
    if len(before) != len(maps):
        raise InputError(
            f"{workdir} holds a run with {len(before)} label maps, and the videos now have "
            f"{len(maps)}, one a head. Take another --workdir."
        )
    names = [f"label_map_{i}.txt" for i in range(len(maps))] if len(maps) > 1 else [LABEL_MAP]
    for file, old, new in zip((workdir / n for n in names), before, maps, strict=True):
        if old and list(old) != list(new):  # none where no labels were read
            changed = sorted(set(old) ^ set(new)) or new
            raise InputError(
                f"{file} has {len(old)} classes, and the videos now have {len(new)} or another "
                f"order (see {', '.join(changed[:3])}). A run keeps its classes: give "
                f"--config.data.label_map={file}, or take another --workdir."
            )
        workdir.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(f".{os.getpid()}")  # another process may be reading the file
        whole.write_text("".join(f"{name}\n" for name in new), **_ENCODING)
        os.replace(whole, file)


def read_label_maps(workdir: pathlib.Path) -> tuple[tuple[str, ...], ...]:
    """Returns the label maps of a run.

    Raises:
      InputError: it has none.
    """
    files = _files(workdir)
    if not files:
        raise InputError(f"{workdir} has no {LABEL_MAP}; expected the workdir of a run.")
    return tuple(tuple(file.read_text(**_ENCODING).split("\n")[:-1]) for file in files)


def _files(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Returns the label map files of a run, in the order of its heads."""
    if (workdir / LABEL_MAP).exists():
        return [workdir / LABEL_MAP]
    return sorted(workdir.glob("label_map_*.txt"), key=lambda f: int(f.stem.split("_")[-1]))


def _label_map(
    items: Sequence[Labelled], column: list[tuple[str, ...]], naming: int, file: str, numbers: bool
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns the names of the classes, and the index of every label that is used."""
    names, base = read_label_map(file) if file else ((), 0)
    refuse(
        [
            f"{item.where!r}: label {label!r}"
            for item, labels in zip(items, column, strict=True)
            for label in labels
            if "\n" in label or "\r" in label
        ],
        len(items),
        "A class has a name of one line; rename its folder.",
    )
    used = {label for labels in column for label in labels}
    whole = [label for label in used if re.fullmatch(r"[+-]?\d+", label)]
    if numbers and 2 * len(whole) > len(used) and not set(names) >= used:
        index = {label: int(label) - base for label in whole}
        if not names:
            names = _numbered(items, index)
        index = {label: i for label, i in index.items() if 0 <= i < len(names)}
        expected = f"a whole number from {base} to {base + len(names) - 1}"
    else:
        if not names:
            names = tuple(sorted({label for labels in column[:naming] for label in labels}))
        index = {name: i for i, name in enumerate(names)}
        expected = f"one of {len(names)} names ({', '.join(names[:3])} ...)"
    if numbers and whole and file and not base and index.values() and min(index.values()) == 1:
        log.warning(
            "No video has label 0, %s by %s; a list that counts from 1 needs a label map of "
            "`number name` lines from 1.",
            *(names[0], file),
        )
    refuse(
        [
            f"{item.where}: label {label!r}"
            for item, labels in zip(items, column, strict=True)
            for label in labels
            if label not in index
        ],
        len(items),
        f"Expected {expected}, by {file or 'the training videos'}.",
    )
    return names, index


def _numbered(items: Sequence[Labelled], index: dict[str, int]) -> tuple[str, ...]:
    """Returns the label map of numbers that nobody has named."""
    lowest, highest = min(index.values()), max(index.values())
    if highest >= _MOST_CLASSES:
        where = next(item.where for item in items for i in item.labels if index.get(i) == highest)
        raise InputError(f"{where}: label {highest}; expected a class number, counted from 0.")
    if lowest == 1:
        raise InputError(
            f"The lowest label is 1 (first: {items[0].where}); expected classes counted from 0. "
            "Subtract 1, or set data.label_map to a file of `number name` lines from 1."
        )
    return tuple(str(i) for i in range(highest + 1))
