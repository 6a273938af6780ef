"""What truly happens in videos, as files tell it.

A CSV file has the columns video, begin, end (seconds from the first frame) and label, in any order
and others besides; a JSON file is {"VIDEO": [{"begin", "end", "label"}]} or, as ActivityNet has it,
{"database": {"VIDEO": {"annotations": [{"segment": [begin, end], "label"}]}}}. A video is named by
its path, absolute or from the file's folder, by the name of its file, or by that without extension.
"""

import csv
import difflib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vivit_jax.data.lists import read_lines, refuse
from vivit_jax.errors import InputError, some

_COLUMNS = ("video", "begin", "end")
_SHOWN = 20  # names in a message


class Happening(NamedTuple):
    """Something that truly happens.

    Attributes:
      begin: seconds from the first frame.
      end: likewise.
      label: the class's name; "" where the file has none.
      where: in the file, for messages.
    """

    begin: float
    end: float
    label: str
    where: str


def read_truth(file: str) -> dict[str, list[Happening]]:
    """Returns what happens in each video of a truth file.

    Raises:
      InputError: it cannot be read, or has entries that do not parse; names their lines.
    """
    entries = [*(_of_json(file) if file.lower().endswith(".json") else _of_csv(file))]
    faults, found = [], {}
    for video, begin, end, label, where in entries:
        try:
            span = float(begin), float(end)
        except (TypeError, ValueError):
            span = math.nan, math.nan
        good = all(map(math.isfinite, span)) and 0 <= span[0] < span[1]
        if not good or not video:
            faults.append(f"{where}: video {video!r}, begin {begin!r}, end {end!r}")
        found.setdefault(video, []).append(
            Happening(*span, "" if label is None else str(label), where)
        )
    refuse(faults, len(entries), "Expected a video, and 0 <= begin < end in seconds.")
    if not entries:
        raise InputError(f"{file} tells of nothing; expected video, begin, end, label a line.")
    return found


def matched(
    truth: Mapping[str, Sequence[Happening]], file: str, videos: Iterable[str]
) -> dict[str, Sequence[Happening]]:
    """Returns what happens in each of some videos: nothing where the file does not name it.

    Args:
      truth: as `read_truth` returns it.
      file: its path.
      videos: their paths.

    Raises:
      InputError: it names none of them.
    """
    base, videos = os.path.dirname(os.path.abspath(file)), list(videos)
    by_path = {os.path.normpath(os.path.join(base, name)): name for name in truth}
    found = {}
    for video in videos:
        path = os.path.abspath(video)
        names = (by_path.get(path, ""), video, os.path.basename(path), pathlib.Path(path).stem)
        found[video] = next((truth[name] for name in names if name in truth), None)
    if videos and all(of_video is None for of_video in found.values()):
        raise InputError(
            f"{file} names none of the videos: it has {some(sorted(truth), 3)}; given were "
            f"{some(videos, 3)}."
        )
    return {video: of_video or () for video, of_video in found.items()}


def numbers(
    truth: Mapping[str, Sequence[Happening]], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, int]]]:
    """Returns begin, end and class number of what happens in each video.

    Raises:
      InputError: a class is none of the model's; names its line, and the nearest that there are.
    """
    known = {name: number for number, name in enumerate(classes)}
    for happening in (one for of_video in truth.values() for one in of_video):
        if happening.label not in known:
            raise InputError(f"{happening.where}: {unknown_class(happening.label, classes)}")
    return {
        video: [(one.begin, one.end, known[one.label]) for one in of_video]
        for video, of_video in truth.items()
    }


def unknown_class(name: str, classes: Sequence[str]) -> str:
    """Returns the message about a class that does not exist."""
    close = difflib.get_close_matches(name, classes, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"the model has no class {name!r}.{hint} It has: {some(classes, _SHOWN)}."


def _of_csv(file: str) -> Iterator[tuple[Any, ...]]:
    """Yields (video, begin, end, label, where) of a CSV file.

    Raises:
      InputError: a column is missing.
    """
    lines = read_lines(file)
    header = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))] if lines else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{file}, line {lines[0][0] if lines else 1}: no column {', '.join(missing)}; expected "
            "a first line of video,begin,end,label."
        )
    for number, line in lines[1:]:
        row = dict(zip(header, (x.strip() for x in next(csv.reader([line]))), strict=False))
        yield (*map(row.get, (*_COLUMNS, "label")), f"{file}, line {number}")


def _of_json(file: str) -> Iterator[tuple[Any, ...]]:
    """Yields (video, begin, end, label, where) of a JSON file.

    Raises:
      InputError: it is none, or of another form.
    """
    text = "\n".join(_whole_lines(file))
    try:
        whole = json.loads(text)
    except ValueError as error:
        where = getattr(error, "lineno", 1)
        raise InputError(f"{file}, line {where}: no JSON: {error}.") from error
    form = f'{file}: expected {{"VIDEO": [{{"begin": ..., "end": ..., "label": ...}}]}}'
    if not isinstance(whole, dict):
        raise InputError(f"{form}; found a {type(whole).__name__}.")
    each = whole.get("database", whole)
    if not isinstance(each, dict):
        raise InputError(f'{form}; its "database" is a {type(each).__name__}.')
    for video, entries in each.items():
        if isinstance(entries, dict):
            entries = entries.get("annotations")
        if not isinstance(entries, list):
            raise InputError(f"{form}; of {video!r} it has {str(entries)[:60]!r}.")
        for number, entry in enumerate(entries, 1):
            where = f"{file}, {video!r}, entry {number}"
            if not isinstance(entry, dict):
                raise InputError(f"{where}: {str(entry)[:60]!r}; {form}.")
            segment = entry.get("segment")
            if isinstance(segment, list) and len(segment) == 2:
                begin, end = segment
            else:
                begin, end = entry.get("begin"), entry.get("end")
            yield video, begin, end, entry.get("label"), where


def _whole_lines(file: str) -> Iterator[str]:
    """Yields all lines of a file, blank ones too, so that they can be counted."""
    last = 0
    for number, line in read_lines(file):
        yield from [""] * (number - last - 1)
        yield line
        last = number
