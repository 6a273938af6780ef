"""Shows a video by the few of its windows that cover it best.

    python -m vivit_jax.summarise --checkpoint SOURCE VIDEO... [--out DIR]
        [--frames 9 | --seconds S] [--method k_centre|determinantal|uniform]

Windows are compared by what the encoder makes of them, see analysis/covering.py. For each video
NAME.summary.png is a contact sheet of the picked windows' middle frames, and NAME.summary.mp4 shows
these windows one after another, at the video's rate, its short side at most 480 pixels. "radius" is
how far the window that is least like any picked one is from the nearest, 0 to 2, and
"uniform_radius" what as many windows have that are evenly spread over time.

Exit codes: 0 all of all videos was read, 1 it was not, 2 something that was given cannot be used;
130 after Ctrl-C, 141 where nobody reads on.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vivit_jax import command_line
from vivit_jax.files import replacing
from vivit_jax.terminal import command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.watching import Watched

Span = tuple[float, float]
_SIDE = 480  # pixels of the film's short side, at most
_METHODS = ("k_centre", "determinantal", "uniform")
_FRAMES = 9


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.summarise", __doc__)
    command_line.add_model(parser)
    command_line.add_videos(parser)
    command_line.add_windows(parser)
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--frames", type=int, help=f"windows that are picked; {_FRAMES}")
    seconds = command_line.at_least(0.0)
    many.add_argument("--seconds", type=seconds, help="of the film, in place of a number")
    parser.add_argument("--method", choices=_METHODS, default=_METHODS[0], help=_METHODS[0])
    parser.add_argument("--out", type=pathlib.Path, default=".", help="folder; the current one")
    arguments = parser.parse_args()
    if arguments.frames is not None and arguments.frames < 1:
        parser.error(f"--frames is {arguments.frames}; expected at least 1")
    speak(True)
    return summarise(arguments)


def summarise(arguments: argparse.Namespace) -> int:
    """Summarises the videos of a command line; returns the exit code."""
    from vivit_jax.observer import Observer

    paths = command_line.videos(arguments.videos)
    command_line.make_folder(arguments.out)
    observer = Observer(arguments.checkpoint)
    observer.read(whole=False)
    names = command_line.names(paths)

    with command_line.watcher(observer, arguments) as watcher:

        def of(path: str) -> command_line.Answer:
            watched = watcher.watch(path, observer.summaries)
            return picked(watched, arguments, names[path])

        return command_line.answer(paths, of, in_words, arguments.json)


def picked(watched: "Watched", arguments: argparse.Namespace, name: str) -> command_line.Answer:
    """Picks windows of a video and writes its pictures; returns the answer."""
    from vivit_jax.analysis import covering
    from vivit_jax.analysis.lengths import unit

    there = watched.there
    spans = [(float(begin), float(end)) for begin, end in watched.spans[there]]
    rows, _ = unit(watched.rows[there])
    count = arguments.frames or _FRAMES
    if arguments.seconds is not None:
        count = max(1, round(arguments.seconds / (spans[0][1] - spans[0][0])))
    chosen = covering.METHODS[arguments.method](rows, count)
    even = covering.uniform(rows, len(chosen))
    made = {
        **command_line.about(watched),
        "method": arguments.method,
        "picks": [{"begin": round(spans[i][0], 3), "end": round(spans[i][1], 3)} for i in chosen],
        "radius": round(covering.radius(rows, chosen), 4),
        "uniform_radius": round(covering.radius(rows, even), 4),
    }
    title = (
        f"{name}: {len(chosen)} of {len(rows)} windows, {arguments.method}, radius "
        f"{made['radius']:.3f} (evenly spread {made['uniform_radius']:.3f})"
    )
    _show(made, [spans[i] for i in chosen], title, arguments.out / name)
    return made


def _show(made: command_line.Answer, spans: Sequence[Span], title: str, path: pathlib.Path) -> None:
    """Writes the contact sheet and the film; notes in the answer where they are, or why not."""
    from vivit_jax.analysis.sheet import PICTURE, Cell, write_sheet
    from vivit_jax.data import stretches
    from vivit_jax.data.pool import DecodeFailure, DecodePool

    middles = [(begin + end) / 2 for begin, end in spans]
    joined = merged(spans)
    patience = 60 + 30 * sum(end - begin for begin, end in joined)  # seconds, on a busy machine
    with DecodePool(1, 1, timeout=patience) as pool:
        shown = pool.call(stretches.pictures, made["video"], middles, PICTURE)
        film = pool.call(stretches.film, made["video"], joined, _SIDE)
    if isinstance(shown, DecodeFailure):
        _lose(made, spans, shown)
    else:
        cells = [
            Cell(picture, [f"{begin:.2f} to {end:.2f} s"])
            for picture, (begin, end) in zip(shown, spans, strict=True)
        ]
        sheet = path.with_name(f"{path.name}.summary.png")
        write_sheet(sheet, title, cells)
        made["picture"] = str(sheet)
    if isinstance(film, DecodeFailure):
        _lose(made, spans, film)
    else:
        file = path.with_name(f"{path.name}.summary.mp4")
        with replacing(file) as new:
            new.write_bytes(film)
        made["film"] = str(file)


def _lose(made: command_line.Answer, spans: Sequence[Span], why: Any) -> None:
    """Notes that what was picked cannot be shown."""
    made["partial"] = True
    made["lost"] = [*made["lost"], {"begin": spans[0][0], "end": spans[-1][1], **why._asdict()}]


def merged(spans: Sequence[Span]) -> list[Span]:
    """Returns stretches that rise, those that touch or overlap as one."""
    found: list[Span] = []
    for begin, end in spans:
        if found and begin <= found[-1][1] + 1e-6:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def in_words(made: command_line.Answer) -> str:
    """Returns an answer for people."""
    lines = [f"  {pick['begin']:9.2f} to {pick['end']:9.2f} s" for pick in made["picks"]]
    lines.append(
        f"  {len(made['picks'])} of {made['windows']} windows by {made['method']}: radius "
        f"{made['radius']:.4f}, evenly spread {made['uniform_radius']:.4f}"
    )
    lines += [f"  {made[kind]}" for kind in ("picture", "film") if kind in made]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
