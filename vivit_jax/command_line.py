"""What the commands on videos have in common: their options, and how they answer.

Each video has one answer: an object a line with --json, or a table for people. One that cannot be
read has {"video": ..., "error": {"cause": ..., "message": ...}}; one of which parts could not be
read has "partial": true, and these parts in "lost". Exit codes: 0 all of all videos was read, 1 it
was not, 2 something that was given cannot be used; 130 after Ctrl-C, 141 where nobody reads on.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vivit_jax.errors import InputError, Unread
from vivit_jax.features import named
from vivit_jax.terminal import add_workers

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watched, Watcher

Answer = dict[str, Any]
_BYTES = 150  # of a video's name, which those of its pictures begin with; disks take 255


def add_model(to: argparse.ArgumentParser) -> None:
    """Adds --checkpoint."""
    to.add_argument(
        "--checkpoint",
        required=True,
        help="a run's workdir, a step's folder, or FAMILY:PATH of pretrained weights",
    )


def add_videos(to: argparse.ArgumentParser, least: int = 1) -> None:
    """Adds the videos, of which there are so many at least (1 or 0), and --json."""
    to.add_argument(
        "videos", nargs="+" if least else "*", metavar="VIDEO", help="or a folder, or a list"
    )
    to.add_argument("--json", action="store_true", help="an object a video, a line each")


def add_windows(to: argparse.ArgumentParser, hop: str = "a window's", crops: bool = True) -> None:
    """Adds how a video is cut into windows.

    Args:
      to: the parser.
      hop: what it is unless told.
      crops: whether they are an option; each window is its middle square where they are none.
    """
    number = at_least(0.0)
    to.add_argument(
        "--window", type=number, default=0.0, help="seconds of a window; as trained unless told"
    )
    to.add_argument(
        "--hop", type=number, default=0.0, help=f"seconds between windows; {hop} unless told"
    )
    to.set_defaults(crops=1)
    if crops:
        to.add_argument("--crops", type=int, choices=(1, 3), default=1, help="of a window; 1")
    add_workers(to)


def at_least(least: float) -> Callable[[str], float]:
    """Returns what reads a number that is not below another."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: expected at least {least:g}")
        return value

    number.__name__ = "number"  # as argparse calls it where the text is none
    return number


def told(given: argparse.Namespace, options: Iterable[str]) -> list[str]:
    """Returns those of some options that a command line has; of the others the value is None."""
    values = {option: getattr(given, option) for option in options}
    return [option for option, value in values.items() if value is not None and value is not False]


def refuse(
    parser: argparse.ArgumentParser,
    given: argparse.Namespace,
    modes: Iterable[tuple[str, object, Iterable[str]]],
) -> None:
    """Ends the command where it was told an option that does nothing.

    Args:
      parser: of the command.
      given: what it was told; see `told`.
      modes: such as "with --live", whether it is so, and the options that then do nothing.
    """
    for mode, so, options in modes:
        for option in told(given, options) if so else ():
            parser.error(f"--{option.replace('_', '-')} does nothing {mode}: leave it out")


def fill_in(given: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    """Gives their defaults to the options that a command line does not have."""
    for option, value in defaults.items():
        if getattr(given, option) is None:
            setattr(given, option, value)


def videos(arguments: Iterable[str]) -> list[str]:
    """Returns the paths of videos, folders and lists, each once; labels of lists are not read.

    Raises:
      InputError: a folder or a list has none.
    """
    return [str(video.path) for video in named(list(arguments), "none")]


def watcher(observer: "Observer", given: argparse.Namespace, share: float = 1.0) -> "Watcher":
    """Returns what cuts videos into windows for a model, by the options of `add_windows`.

    Args:
      observer: the model.
      given: the options.
      share: of a window that is the hop, unless told.
    """
    from vivit_jax.watching import Watcher

    rate, geometry = observer.rate(given.window), observer.geometry(given.crops)
    return Watcher(observer.frames, rate, geometry, given.hop, given.workers, share)


def names(paths: Iterable[str]) -> dict[str, str]:
    """Returns what each video's pictures are named after: its own name, and no other's."""
    paths = list(dict.fromkeys(paths))
    stems = collections.Counter(pathlib.Path(path).stem for path in paths)

    def name(path: str) -> str:
        stem, whole = pathlib.Path(path).stem, os.path.abspath(path)
        mark = hashlib.blake2b(os.fsencode(whole), digest_size=4).hexdigest()
        short = shortened(stem)
        return stem if stems[stem] == 1 and short == stem else f"{short}-{mark}"

    return {path: name(path) for path in paths}


def shortened(text: str) -> str:
    """Returns the beginning of a name that leaves room for more."""
    while len(os.fsencode(text)) > _BYTES:
        text = text[:-1]
    return text


def make_folder(folder: pathlib.Path, option: str = "--out") -> None:
    """Makes a folder that is to be written into.

    Args:
      folder: its path.
      option: that names it, or a file in it.

    Raises:
      InputError: it cannot be made, or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{option}={folder} cannot be written into: {error}.") from error


def about(watched: "Watched") -> Answer:
    """Returns what every answer on the windows of a video begins with."""
    return {
        "video": watched.video,
        "seconds": round(watched.extent.seconds, 3),
        "windows": len(watched.grid),
        "partial": bool(watched.lost),
        "lost": [lost._asdict() for lost in watched.lost],
    }


def answer(
    paths: Iterable[str],
    of: Callable[[str], Answer],
    table: Callable[[Answer], str],
    as_json: bool,
) -> int:
    """Prints an answer for each video; returns the exit code.

    Args:
      paths: of the videos; what comes to grief while they are named ends the command.
      of: makes the answer; an InputError that it raises is this video's alone.
      table: an answer for people.
      as_json: print an object a line in place of tables.
    """
    failed = False
    for path in paths:
        try:
            made = of(path)
        except InputError as error:
            cause = error.cause if isinstance(error, Unread) else "unreadable"
            made = {"video": path, "error": {"cause": cause, "message": str(error)}}
        failed = failed or "error" in made or made.get("partial", False)
        print(json.dumps(made) if as_json else in_words(made, table), flush=True)
    return int(failed)


def in_words(made: Answer, table: Callable[[Answer], str]) -> str:
    """Returns an answer for people; what could not be read comes first."""
    if "error" in made:
        return f"{made['video']}\n  error: {made['error']['message']}"
    lines = [
        f"  PARTIAL: {lost['begin']:.1f} to {lost['end']:.1f} s: {lost['cause']}: {lost['message']}"
        for lost in made.get("lost", ())
    ]
    return "\n".join([made["video"], *lines, table(made)])


def note(text: str) -> None:
    """Tells people something besides the answers, which are programs' on stdout."""
    print(text, file=sys.stderr, flush=True)
