"""List files: `path label` a line, as the many dialects in use write it.

The separator is whatever follows the video's extension on most lines: a tab, a comma (quotes are
understood) or a space; so paths and class names may hold spaces. A byte order mark, any line
ending, blank lines and a header line are understood. Every line that is not is an error. Where no
labels are wanted, a line may be a path alone. A path may name a part of its video, by seconds from
its first frame, as `long.mp4#t=12.5,20` (W3C Media Fragments URI 1.0).
"""

import csv
import dataclasses
import json
import pathlib
import re
from collections import Counter

from vivit_jax.errors import InputError

LISTS = (".txt", ".csv", ".tsv")  # how files end that a command line means as lists
VIDEO_EXTENSIONS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".3gp")
    + (".3g2", ".flv", ".wmv", ".asf")
)
_EXTENSION = "(?:" + "|".join(re.escape(extension) for extension in VIDEO_EXTENSIONS) + ")"
_SECONDS = r"\d+(?:\.\d*)?"
_PART = f"(?:#t={_SECONDS},{_SECONDS})?"
_SEPARATOR = re.compile(_EXTENSION + _PART + r'"?[ ]*([\t, ])', re.IGNORECASE)
_PATH_ALONE = re.compile(r'"?(.*' + _EXTENSION + _PART + r')"?', re.IGNORECASE)
_SPACED = re.compile(r"(.*" + _EXTENSION + _PART + r")[ ]+(.*)", re.IGNORECASE)
_SPAN = re.compile(f"(.*)#t=({_SECONDS}),({_SECONDS})")
_HEADERS = (
    *("path", "paths", "file", "files", "filename", "file_name", "filepath", "file_path", "id"),
    *("video", "videos", "video_name", "video_path", "video_id", "name", "clip"),
)
SHOWN = 5  # faults that a message lists


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a list."""

    file: str
    line: int
    path: str
    labels: tuple[str, ...]
    span: tuple[float, float] | None = None  # seconds of the video; None for all

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}, line {self.line}"


def refuse(faults: list[str], total: int, advice: str) -> None:
    """Raises one InputError for all faults, if there are any.

    Args:
      faults: each with its file and line, what was found and what was expected.
      total: lines or videos that were looked at.
      advice: what to do.
    """
    if faults:
        more = len(faults) - SHOWN
        shown = faults[:SHOWN] + ([f"... and {more} more"] if more > 0 else [])
        raise InputError(
            f"{len(faults)} of {total} entries cannot be used:\n  "
            + "\n  ".join(shown)
            + "\n"
            + advice
        )


def read_list(path: str, kind: str, optional: bool = False) -> list[Row]:
    """Returns the rows of a list file.

    Args:
      path: of the list file.
      kind: data.labels: "single" expects one label a line, "multi" and "heads" any number, and
        "none" a path, after which nothing is read.
      optional: a line may be a path alone whatever the kind.

    Raises:
      InputError: the file is missing or empty, or has lines that do not parse.
    """
    lines = read_lines(path)
    votes = Counter(match[1] for _, line in lines if (match := _SEPARATOR.search(line)) is not None)
    separator = votes.most_common(1)[0][0] if votes else _guess(lines)
    rows, faults = [], []
    for number, line in lines:
        fields = _fields(line, separator, kind, optional or kind == "none")
        if not rows and not faults and fields[0].lower() in _HEADERS:
            continue
        alone = optional and len(fields) == 1
        fault = _fault(fields, "none" if alone else kind)
        if fault:
            faults.append(f"{path}, line {number}: {fault}: {line!r}")
        video, span = apart(fields[0])
        if span and not span[0] < span[1]:
            faults.append(f"{path}, line {number}: it ends before it begins: {line!r}")
        rows.append(Row(path, number, video, () if kind == "none" else tuple(fields[1:]), span))
    refuse(
        faults,
        len(rows),
        "Expected `path label` a line, separated by a tab, a comma or a space"
        + (
            "; for several labels a video set data.labels to multi or heads."
            if kind == "single"
            else "."
        ),
    )
    if not rows:
        raise InputError(f"{path} lists no video; expected `path label` a line.")
    return rows


def apart(path: str) -> tuple[str, tuple[float, float] | None]:
    """Returns the path of a video, and the seconds of it that a path names; None for all."""
    match = _SPAN.fullmatch(path)
    return (match[1], (float(match[2]), float(match[3]))) if match else (path, None)


def part(path: str, begin: float, end: float) -> str:
    """Returns a path that names some seconds of a video, to the millisecond."""
    return f"{path}#t={begin:.3f},{end:.3f}"


def read_excluded(path: str) -> frozenset[str]:
    """Returns the ids of the videos that a bad list names.

    A line of it is a JSON object with an "id", as the dataset doctor and training write it;
    whatever else the object holds is for people.

    Raises:
      InputError: the file is missing, or a line is no such object.
    """
    ids, faults, lines = set(), [], read_lines(path)
    for number, line in lines:
        try:
            ids.add(str(json.loads(line)["id"]))
        except (ValueError, TypeError, KeyError):
            faults.append(f"{path}, line {number}: {line[:80]!r}")
    refuse(
        faults, len(lines), 'Expected a JSON object with an "id" a line, as bad_videos.jsonl has.'
    )
    return frozenset(ids)


def read_lines(path: str) -> list[tuple[int, str]]:
    """Returns (line number, text) of the lines that are not blank."""
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    lines = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_label_map(path: str) -> tuple[tuple[str, ...], int]:
    """Returns the names of a label map file, and the number that its first has (0 or 1).

    A line is a name, or a number and a name where all numbers count up from 0 or 1.
    """
    lines = read_lines(path)
    numbered = [re.fullmatch(r"(\d+)[\s,]+(.+)", line) for _, line in lines]
    first = int(numbered[0][1]) if numbered and numbered[0] else -1
    counts_up = first in (0, 1) and all(
        match and int(match[1]) == i for i, match in enumerate(numbered, start=first)
    )
    names = tuple(
        match[2] if counts_up and match else line
        for match, (_, line) in zip(numbered, lines, strict=True)
    )
    if not names:
        raise InputError(f"{path} holds no label names; expected one a line.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{path} names {twice[0]!r} more than once; a label map holds every name once."
        )
    return names, first if counts_up else 0


def _guess(lines: list[tuple[int, str]]) -> str:
    """Returns the separator of lines whose paths have no extension that is known."""
    for separator in "\t,":
        if sum(separator in line for _, line in lines) * 2 > len(lines):
            return separator
    return " "


def _fields(line: str, separator: str, kind: str, optional: bool) -> list[str]:
    """Returns path and labels of a line, of which the latter may be `optional`."""
    if optional and (alone := _PATH_ALONE.fullmatch(line)):
        return [alone[1]]
    if separator != " ":
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        return [field.strip() for field in fields]
    match = _SPACED.fullmatch(line)
    if match is None:
        return line.split() if kind != "single" else line.rsplit(None, 1)
    return [match[1], match[2]] if kind == "single" else [match[1], *match[2].split()]


def _fault(fields: list[str], kind: str) -> str:
    """Returns what is wrong with a line, or nothing."""
    if not fields[0]:
        return "no path"
    if kind == "none":
        return ""
    if len(fields) < 2 or not all(fields[1:]):
        return "no label" if len(fields) <= 2 else "an empty label"
    if kind == "single" and len(fields) > 2:
        return f"{len(fields) - 1} labels, expected one"
    return ""
