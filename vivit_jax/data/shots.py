"""Finds the shots of videos: where each is cut, and where it fades.

    python -m vivit_jax.data.shots long.mp4                    # a table
    python -m vivit_jax.data.shots videos --out shots.csv      # a list that training reads
    python -m vivit_jax.data.shots list.csv --json             # an object a video, a line each

A line of the list is a shot, as `long.mp4#t=12.480,20.040,LABEL`: the label is that of the list
that the video was in (several with --labels), or the class folder that it lies in below the folder
that was given. Where a video has none, no line has: train with data.labels=none. Exit codes: 0 all
of all videos was read, 1 it was not, 2 something that was given cannot be used.
"""

import concurrent.futures
import json
import logging
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vivit_jax.data import cuts
from vivit_jax.data.folders import refuse_none, videos_below
from vivit_jax.data.lists import LISTS, part, read_list
from vivit_jax.data.pool import DecodeFailure, DecodePool, cores
from vivit_jax.data.sources import split_folders
from vivit_jax.errors import InputError
from vivit_jax.files import write_csv
from vivit_jax.metrics import Progress
from vivit_jax.terminal import add_workers, command_parser, run, speak

log = logging.getLogger(__name__)
Answer = dict[str, Any]
TIMEOUT = 3600.0  # seconds for one video; a two-hour one of 640x360 takes minutes


class Video(NamedTuple):
    """A video that was named, and its labels, of which there may be none."""

    path: str
    labels: tuple[str, ...]


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.data.shots", __doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="or a folder, or a list")
    parser.add_argument("--out", metavar="FILE", help="the list to write, of every shot")
    parser.add_argument("--json", action="store_true", help="an object a video, a line each")
    parser.add_argument(
        "--shortest", type=float, default=cuts.SHORTEST, help="seconds of a shot; %(default)s"
    )
    parser.add_argument(
        "--labels", choices=("single", "multi", "heads"), default="single", help="of lists"
    )
    parser.add_argument("--follow-links", action="store_true", help="data.follow_links")
    add_workers(parser)
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT, help="seconds for one video; %(default)g"
    )
    given = parser.parse_args()
    for option, least in (("shortest", 0), ("timeout", 1)):
        if not least <= getattr(given, option) < math.inf:
            raise InputError(f"--{option}={getattr(given, option)}; expected at least {least}.")
    speak(first_process=True)
    found, answers = videos(given.videos, given.labels, given.follow_links), []
    if given.out:
        check(pathlib.Path(given.out), found)  # what is found out in hours is not to be lost
    for answer in look(found, given.shortest, given.workers or cores(), given.timeout):
        answers.append(answer)
        print(json.dumps(answer) if given.json else in_words(answer), flush=True)
    if given.out:
        write(pathlib.Path(given.out), found, answers)
    return int(any("error" in answer or answer["partial"] for answer in answers))


def videos(
    arguments: Iterable[str], labels: str = "single", follow_links: bool = False
) -> list[Video]:
    """Returns the videos of a command line, each once, with their labels.

    Args:
      arguments: videos, folders and lists.
      labels: data.labels, by which lists are read.
      follow_links: whether links may leave a folder.

    Raises:
      InputError: a folder or a list has none, a folder has splits in it, or a list names parts of
        videos.
    """
    found: dict[str, Video] = {}
    for argument in arguments:
        path = os.path.abspath(argument)
        if os.path.isdir(path):
            named = in_folder(os.path.realpath(path), follow_links)
        elif path.lower().endswith(LISTS):
            named = in_list(path, labels)
        else:
            named = [Video(path, ())]
        for video in named:
            found.setdefault(video.path, video)
    return list(found.values())


def in_folder(root: str, follow_links: bool) -> list[Video]:
    """Returns the videos below a folder; a folder right below it is a class.

    Raises:
      InputError: it has none, or folders of splits, which are no classes.
    """
    paths = list(videos_below(root, root, follow_links)) or refuse_none(root)
    folders = [pathlib.PurePath(path).relative_to(root).parts[:-1] for path in paths]
    if splits := split_folders({parts[0] for parts in folders if parts}):
        raise InputError(
            f"{root} has folders of splits, {', '.join(splits)}: give one at a time, as "
            f"{os.path.join(root, splits[0])}."
        )
    return [Video(path, parts[:1]) for path, parts in zip(paths, folders, strict=True)]


def in_list(file: str, labels: str) -> list[Video]:
    """Returns the videos of a list, whose paths start at its folder.

    Raises:
      InputError: it has lines that do not parse, or parts of videos.
    """
    found = []
    for row in read_list(file, labels, optional=True):
        if row.span:
            raise InputError(f"{row.where}: it is a part of {row.path} already; give whole videos.")
        path = os.path.normpath(os.path.join(os.path.dirname(file), row.path))
        found.append(Video(path, row.labels))
    return found


def look(found: list[Video], shortest: float, workers: int, timeout: float) -> Iterator[Answer]:
    """Yields what was found of each video, in order."""
    progress = Progress("looking for shots", len(found))
    with (
        DecodePool(min(workers, len(found)), 1, timeout) as pool,
        concurrent.futures.ThreadPoolExecutor(workers) as threads,
    ):
        try:
            tasks = [threads.submit(pool.call, cuts.find, v.path, shortest) for v in found]
            for number, (video, task) in enumerate(zip(found, tasks, strict=True), start=1):
                yield answer_of(video, task.result())
                progress.look(number)
        finally:
            pool.close()  # leaving waits for the threads, and these wait for the pool


def answer_of(video: Video, told: Any) -> Answer:
    """Returns what is to be said of a video."""
    if isinstance(told, DecodeFailure):
        return {"video": video.path, "error": told._asdict()}
    shots, lost = told
    return {
        "video": video.path,
        "labels": [*video.labels],
        "seconds": round(shots[-1].end, 3),
        "shots": [{"begin": round(x.begin, 3), "end": round(x.end, 3)} for x in shots],
        "partial": bool(lost),
        "lost": lost,
    }


def in_words(answer: Answer) -> str:
    """Returns an answer for people."""
    if "error" in answer:
        return "{video}\n  error: {error[cause]}: {error[message]}".format_map(answer)
    lines = [f"{answer['video']}: {len(answer['shots'])} shots in {answer['seconds']:.1f} s"]
    if answer["partial"]:
        lines.append(f"  PARTIAL: nothing after {answer['seconds']:.1f} s: {answer['lost']}")
    lines += [f"  {shot['begin']:9.2f} {shot['end']:9.2f}" for shot in answer["shots"]]
    return "\n".join(lines)


def check(file: pathlib.Path, found: list[Video]) -> None:
    """Refuses a list that could not be written, before anything is looked for.

    Raises:
      InputError: it is a folder, or lies in one that cannot be written into; or the name of a video
        has a line break, which no list can hold.
    """
    for video in found:
        if any(letter in video.path for letter in "\r\n"):
            raise InputError(f"{video.path!r} has a line break, which no list can hold.")
    if file.is_dir():
        raise InputError(f"--out={file} is a folder; expected the name of a list, as shots.csv.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise InputError(f"--out={file} cannot be written: {error}.") from error


def write(file: pathlib.Path, found: list[Video], answers: list[Answer]) -> None:
    """Writes the list, which `check` let pass; paths are below its folder where they can be."""
    folder, rows = os.path.abspath(file.parent), []
    labelled = all(video.labels for video in found)
    for video, answer in zip(found, answers, strict=True):
        below = video.path.startswith(os.path.join(folder, ""))
        path = os.path.relpath(video.path, folder) if below else video.path
        for shot in answer.get("shots", ()):
            labels = video.labels if labelled else ()
            rows.append([part(path, shot["begin"], shot["end"]), *labels])
    write_csv(file, [["path", "label"][: 1 + labelled], *rows])
    how = "" if labelled else "; a video has no label, so read it with data.labels=none"
    log.info("%d shots of %d videos are in %s%s.", len(rows), len(found), file, how)


if __name__ == "__main__":
    sys.exit(run(main))
