"""Tells what is in videos, and when, by a trained checkpoint.

    python -m vivit_jax.predict --checkpoint WORKDIR VIDEO... [--top 5] [--json]
    python -m vivit_jax.predict --checkpoint WORKDIR VIDEO... --window 2 --hop 1 --out DIR

A video of at most a minute is judged as in evaluation: the same frames, size, clips and crops. With
--json, one object a video, a line each: {"video": ..., "top": [{"label": ..., "score": ...}]}, with
several heads "top_0", "top_1" ... in place of "top".

A longer one, or any with --window, --hop, --crops or --out, is judged window by window, however
long it is: {"video", "seconds", "windows", "partial", "lost": [{"begin", "end", "cause",
"message"}], "top": over all windows, "timeline": [{"begin", "end", "top": [...]}]}. The table for
people has a line for each stretch that one class leads, and --out writes NAME.timeline.png, classes
by time, and NAME.json. With --whole a long video, too, is judged as in evaluation; so is one by a
model that was trained on frames spread over whole videos, unless windows are asked for.

    python -m vivit_jax.predict --checkpoint WORKDIR --live URL_OR_DEVICE [--allow tcp,udp,http...]

A camera device, a named pipe or a file that is played at its own rate, or a URL of a protocol that
is allowed, is judged while it runs: a line for each window, the newest there is, with its latency;
at the end a summary, with what was dropped. Exit codes: 0 after the stream's end, Ctrl-C or
--seconds, 1 where it broke off.

A video that cannot be read has {"video": ..., "error": {"cause": ..., "message": ...}}. Exit codes:
0 all of all videos was read, 1 it was not, 2 something else that was given cannot be used; 130
after Ctrl-C, and 141 where nobody reads on, as in `| head`.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vivit_jax import command_line
from vivit_jax.command_line import Answer
from vivit_jax.data.clips import Sampling
from vivit_jax.data.decode import Extent, measure
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.lists import LISTS
from vivit_jax.data.pool import DecodeFailure, DecodePool, cores
from vivit_jax.data.worker import Task
from vivit_jax.files import replacing
from vivit_jax.measures.recognition import by_head
from vivit_jax.terminal import command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watched, Watcher

Judge = Callable[[np.ndarray], np.ndarray]  # uint8 [V T H W 3] to probabilities [K]
Views = tuple[Sampling, Geometry]
LONG = 60.0  # seconds; what is longer is judged window by window
_OF_WINDOWS = ("window", "hop", "crops", "out")  # any of them makes windows of a short video, too
_DEFAULTS = {
    **{"window": 0.0, "hop": 0.0, "crops": 1, "workers": 0},
    **{"allow": "", "seconds": 0.0, "patience": 10.0},
}


class Long:
    """In place of pixels: the video is to be judged window by window."""


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.predict", __doc__)
    command_line.add_model(parser)
    command_line.add_videos(parser, least=0)
    command_line.add_windows(parser)
    parser.add_argument("--top", type=int, default=5, help="labels a video; 5")
    parser.add_argument("--whole", action="store_true", help="one judgement, however long it is")
    parser.add_argument("--out", type=pathlib.Path, help="folder for timelines, of windows")
    add = parser.add_argument_group("--live").add_argument
    number = command_line.at_least(0.0)
    add("--live", metavar="STREAM", help="URL, device, named pipe or file, in place of videos")
    add("--allow", help="protocols a URL may use, with commas; none")
    add("--seconds", type=number, help="after which to stop; at the stream's end")
    add("--patience", type=number, help="seconds without data; 10")
    parser.set_defaults(**dict.fromkeys(_DEFAULTS))
    given = parser.parse_args()
    if bool(given.live) == bool(given.videos):
        parser.error("expected either videos or --live=STREAM")
    if given.top < 1:
        parser.error(f"--top is {given.top}; expected at least 1")
    modes = (
        ("with --live", given.live, ("whole", "out", "workers")),
        ("without --live", not given.live, ("allow", "seconds", "patience")),
        ("with --whole, which judges no windows", given.whole, _OF_WINDOWS),
    )
    command_line.refuse(parser, given, modes)
    given.windows = bool(command_line.told(given, _OF_WINDOWS))
    command_line.fill_in(given, _DEFAULTS)
    if given.live:
        from vivit_jax import live

        return live.tell(given, best)
    return tell(given)


def tell(given: argparse.Namespace) -> int:
    """Answers for each video of a command line; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.observer import Observer
    from vivit_jax.watching import NOT_FINITE

    videos = expanded(given.videos)
    if given.out:
        command_line.make_folder(given.out)
    observer = Observer(given.checkpoint)
    observer.check_predicts()
    observer.read()
    maps, named, stretches = observer.label_maps, command_line.names(videos), {}
    longest = float("inf") if given.whole or observer.spread else LONG
    longest = 0.0 if given.windows else longest
    with contextlib.ExitStack() as stack:
        reading = read(videos, views_of(observer), longest, given.workers)
        readings = stack.enter_context(contextlib.closing(reading))
        arrived: list[np.ndarray | DecodeFailure | Long] = []

        @functools.cache  # at the first long video
        def watcher() -> "Watcher":
            speak(True)  # of progress
            return stack.enter_context(command_line.watcher(observer, given))

        def arriving() -> Generator[str]:
            """Yields the videos as they are read; where that cannot begin, it is no video's."""
            for video, pixels in readings:
                if isinstance(pixels, Long):
                    watcher()
                arrived.append(pixels)
                yield video

        def judged(video: str) -> Answer:
            pixels = arrived.pop()
            if isinstance(pixels, DecodeFailure):
                return {"video": video, "error": pixels._asdict()}
            if not isinstance(pixels, Long):
                scores = observer.scores(pixels[None])[0]
                if not np.isfinite(scores).all():
                    return {"video": video, "error": NOT_FINITE._asdict()}
                return {"video": video, **best(scores, maps, given.top)}
            watched = watcher().watch(video, observer.scores)
            found = over_windows(watched, maps, given.top)
            stretches[video] = stretches_of(watched, maps)
            if given.out:
                write(given.out, named[video], watched, found, maps)
            return found

        as_table = functools.partial(table, stretches)
        return command_line.answer(arriving(), judged, as_table, given.json)


def expanded(arguments: Sequence[str]) -> list[str]:
    """Returns the videos of a command line as they were named, and those of folders and lists.

    Raises:
      InputError: a folder or a list has none.
    """
    found = []
    for argument in arguments:
        many = os.path.isdir(argument) or argument.lower().endswith(LISTS)
        found += command_line.videos([argument]) if many else [argument]
    return found


def load(source: str | pathlib.Path) -> tuple[Judge, Views, tuple[tuple[str, ...], ...]]:
    """Returns what judges a video, which views it wants, and the names of the classes.

    Args:
      source: see trained.find.

    Raises:
      InputError: there is no checkpoint, or it predicts nothing.
    """
    from vivit_jax.observer import Observer

    observer = Observer(str(source))
    observer.check_predicts()
    return lambda pixels: observer.scores(pixels[None])[0], views_of(observer), observer.label_maps


def views_of(observer: "Observer") -> Views:
    """Returns what a video is judged by in evaluation."""
    from vivit_jax.data.views import eval_views

    options = observer.experiment.eval
    return eval_views(observer.experiment.data, options.clips, options.crops, options.resize)


def read(
    videos: Sequence[str], views: Views, longest: float = float("inf"), workers: int = 0
) -> Generator[tuple[str, np.ndarray | DecodeFailure | Long]]:
    """Yields each video with its pixels, uint8 [V T H W 3], or why there are none; in order.

    Args:
      videos: their paths.
      views: of each.
      longest: seconds; of a longer video no pixels are read. 0 for none of any.
      workers: decoding processes, at most; 0 for one a core.
    """
    sampling, geometry = views
    shape = (sampling.clips * geometry.boxes, sampling.frames, geometry.size, geometry.size, 3)
    workers = min(len(videos), workers or cores())
    waiting: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()

    if not longest:
        yield from ((video, Long()) for video in videos)
        return

    def pixels_of(pool: DecodePool, video: str) -> np.ndarray | DecodeFailure | Long:
        if longest < float("inf"):
            found = pool.call(measure, video)
            if not isinstance(found, DecodeFailure) and Extent(*found).seconds > longest:
                return Long()
        return pool.decode(Task(video, sampling, geometry, (1, 0)))

    with (
        concurrent.futures.ThreadPoolExecutor(workers) as threads,  # ends after what it waits for
        DecodePool(workers, int(np.prod(shape))) as pool,
    ):
        for video in videos:
            waiting.append((video, threads.submit(pixels_of, pool, video)))
            if len(waiting) == 2 * workers:  # so that pixels don't pile up
                video, pixels = waiting.popleft()
                yield video, pixels.result()
        for video, pixels in waiting:
            yield video, pixels.result()


def over_windows(
    watched: "Watched", label_maps: Sequence[Sequence[str]], top: int
) -> dict[str, Any]:
    """Returns the answer on a video that was judged window by window.

    Its "top" is of the mean over all windows that were read.

    Args:
      watched: scores of windows.
      label_maps: names of the classes, a map for each head.
      top: labels each.
    """
    read_ones = watched.rows[watched.there]
    timeline = [
        {"begin": round(begin, 3), "end": round(end, 3), **best(scores, label_maps, top)}
        for (begin, end), scores, there in zip(
            watched.spans.tolist(), watched.rows, watched.there, strict=True
        )
        if there
    ]
    whole = best(read_ones.mean(axis=0, dtype=np.float64), label_maps, top)
    return {**command_line.about(watched), **whole, "timeline": timeline}


def best(
    scores: np.ndarray, label_maps: Sequence[Sequence[str]], top: int
) -> dict[str, list[dict[str, Any]]]:
    """Returns the highest scores by name: "top", or "top_0", "top_1" ... for several heads."""
    found = {}
    heads = by_head(scores, label_maps)
    for head, (names, values) in enumerate(zip(label_maps, heads, strict=True)):
        order = np.argsort(-values, kind="stable")[:top]
        rows = [{"label": names[i], "score": round(float(values[i]), 6)} for i in order]
        found["top" if len(heads) == 1 else f"top_{head}"] = rows
    return found


def table(stretches: Mapping[str, Sequence[str]], found: Answer) -> str:
    """Returns what was found in a video, for people.

    Args:
      stretches: of each video that was judged window by window, a text for each head.
      found: the answer.
    """
    heads = [key for key in found if key == "top" or key.startswith("top_")]
    lines = []
    for number, key in enumerate(heads):
        lines += [f"  head {number}"] if len(heads) > 1 else []
        if "timeline" in found:
            lines += [stretches[found["video"]][number], "  of the whole video"]
        lines += [f"  {row['score']:.4f}  {row['label']}" for row in found[key]]
    return "\n".join(lines)


def stretches_of(watched: "Watched", label_maps: Sequence[Sequence[str]]) -> list[str]:
    """Returns the stretches that one class leads, a line each, for each head."""
    from vivit_jax.analysis.timelines import moment, runs

    texts = []
    heads = by_head(watched.rows, label_maps)
    for names, scores in zip(label_maps, heads, strict=True):
        found = runs(scores, watched.spans, watched.there)
        ends = [(moment(run.begin), moment(run.end), run) for run in found]
        lines = [f"  {a:>9} {b:>9}  {run.score:.4f}  {names[run.label]}" for a, b, run in ends]
        texts.append("\n".join(lines))
    return texts


def write(
    folder: pathlib.Path,
    name: str,
    watched: "Watched",
    found: Answer,
    label_maps: Sequence[Sequence[str]],
) -> None:
    """Writes NAME.timeline.png and NAME.json.

    Args:
      folder: made where it is missing.
      name: of the files.
      watched: scores of windows.
      found: the answer.
      label_maps: names of the classes, a map for each head.
    """
    from vivit_jax.analysis.timelines import write_timeline

    with replacing(folder / f"{name}.json") as new:
        new.write_text(json.dumps(found) + "\n", encoding="utf-8")
    title = f"{pathlib.Path(watched.video).name}, {len(watched.grid)} windows"
    scores = by_head(watched.rows, label_maps)
    write_timeline(folder / f"{name}.timeline.png", scores, watched.spans, label_maps, title)


if __name__ == "__main__":
    sys.exit(run(main))
