"""What is left of a data set without its bad videos, as lists that training reads."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vivit_jax import config
from vivit_jax.files import replacing


class Entry(NamedTuple):
    """A video of a list; labels are in words."""

    id: str
    path: str
    labels: Sequence[str]


def write_clean_lists(
    out: pathlib.Path,
    data: config.Data,
    splits: Mapping[str, Sequence[Entry]],
    label_maps: Sequence[Sequence[str]],
) -> tuple[list[str], list[str]]:
    """Writes clean_SPLIT.csv for each split and the label maps.

    Args:
      out: the folder to write to.
      data: as the videos were opened.
      splits: "train" and perhaps "eval", without bad videos.
      label_maps: names of the classes, one map a head.

    Returns:
      The options of a config that read them, and the ids of videos that no list can hold.
    """
    root = _root(data)
    options, unlisted = [f"data.root={root}"] if root else [], []
    for split, entries in splits.items():
        file = out / f"clean_{split}.csv"
        options.append(f"data.{split}_list={file}")
        lines = {entry.id: _line(entry, bool(root)) for entry in entries}
        broken = {identity for identity, line in lines.items() if re.search(r"[\r\n]", line)}
        unlisted += broken
        _write(file, (line for identity, line in lines.items() if identity not in broken))
    if data.labels == "none":
        return [*options, "data.labels=none"], unlisted
    names = [f"label_map_{i}.txt" for i in range(len(label_maps))]
    files = [out / name for name in (names if len(names) > 1 else ["label_map.txt"])]
    for file, label_map in zip(files, label_maps, strict=True):
        _write(file, label_map)
    options.append(f"data.label_map={','.join(map(str, files))}")
    return [*options, *([f"data.labels={data.labels}"] * (data.labels != "single"))], unlisted


def _root(data: config.Data) -> str:
    """Returns where the ids of all videos start; empty where lists start at folders of their own.

    Ids stay what they were, and so do splits that are drawn by them.
    """
    if data.root:
        return os.path.abspath(data.root)
    lists = [file for file in (data.train_list, data.eval_list) if file]
    folders = {os.path.dirname(os.path.abspath(file)) for file in lists}
    return folders.pop() if len(folders) == 1 else ""


def _write(file: pathlib.Path, lines: Iterable[str]) -> None:
    """Writes lines of names, which need not be text."""
    with (
        replacing(file) as new,
        new.open("w", encoding="utf-8", errors="surrogateescape", newline="") as text,
    ):
        text.writelines(f"{line}\n" for line in lines)


def _line(entry: Entry, relative: bool) -> str:
    """Returns a line of a list."""
    path = entry.id if relative else entry.path
    if not entry.labels:
        return path
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([path, *entry.labels])
    return line.getvalue()
