"""The dataset doctor: decodes every video of a data set once, and says what is wrong with which.

    python -m vivit_jax.data.check FOLDER                      # of class folders
    python -m vivit_jax.data.check train.csv --eval-list val.csv [--root DIR]
    python -m vivit_jax.data.check FOLDER --labels none        # a tree of videos

It writes into --out:
  index.html        what was found, with pictures; lengths, rates, sizes, classes; one page
  bad_videos.jsonl  the bad list, for --config.data.exclude: videos that must not be used, each a
                    line {"id", "path", "cause", "message", "split"}
  clean_train.csv   the clean list: `path label` lines, for --config.data.train_list, with
  clean_eval.csv    label_map.txt, by which the classes stay in order
  checks.jsonl      all that was measured and found, a line a video
and prints a table, and the options to train with. Either list will do: the bad list with the same
folder or lists as here, or the clean list.

The same command again goes on: a file of the same size and date is not decoded again, and how it is
judged (--bad, --frames ...) can change. Exit codes: 0 no bad video, 3 bad videos were found and
everything is written, 1 a fault, 2 something that was given cannot be used; 130 after Ctrl-C.
"""

import argparse
import concurrent.futures
import logging
import os
import pathlib
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from vivit_jax import config
from vivit_jax.data.catalog import find_dataset, settle
from vivit_jax.data.clean_lists import Entry, write_clean_lists
from vivit_jax.data.clips import Sampling
from vivit_jax.data.diagnosis import (
    EVAL,
    TRAIN,
    Checked,
    count_classes,
    diagnose,
    summarise,
    tabulate,
)
from vivit_jax.data.examples import Source, Sources
from vivit_jax.data.findings import CAUSES, choose_bad
from vivit_jax.data.health_page import Health, Row, render
from vivit_jax.data.lists import VIDEO_EXTENSIONS
from vivit_jax.data.pool import DecodePool, cores
from vivit_jax.data.sources import open_sources
from vivit_jax.data.strips import strip
from vivit_jax.data.survey import Survey, readable
from vivit_jax.errors import InputError
from vivit_jax.files import replacing
from vivit_jax.metrics import as_line, duration
from vivit_jax.terminal import add_workers, run, speak

log = logging.getLogger(__name__)
FOUND_BAD = 3  # exit code
PAGE, BAD_LIST = "index.html", "bad_videos.jsonl"
_STRIPS = 200  # most videos whose pictures the page shows


def main() -> int:
    """Runs the command; returns its exit code."""
    kinds = "\n".join(
        f"  {name:18} {'bad' if cause.bad else 'warning':8} {cause.meaning}"
        for name, cause in CAUSES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m vivit_jax.data.check",
        description=__doc__,
        epilog=f"what can be found, and what it makes of a video by default:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = config.Data()
    parser.add_argument("videos", metavar="LIST_OR_FOLDER", help="data.train_list or data.root")
    parser.add_argument("--dataset", default=default.dataset, help="data.dataset")
    parser.add_argument("--split", type=int, default=default.split, help="data.split")
    parser.add_argument("--eval-list", default="", help="data.eval_list: held-out videos")
    parser.add_argument("--root", default="", help="data.root: where paths of lists start")
    parser.add_argument("--follow-links", action="store_true", help="data.follow_links")
    parser.add_argument("--label-map", default="", help="data.label_map")
    parser.add_argument("--labels", default=default.labels, help="single, multi, heads or none")
    parser.add_argument("--frames", type=int, default=default.frames, help="of the clip")
    parser.add_argument("--stride", type=int, default=default.stride, help="of the clip, frames")
    parser.add_argument("--fps", type=float, default=default.fps, help="in place of --stride")
    parser.add_argument("--out", help="folder to write to; NAME_check")
    parser.add_argument("--bad", default="default", help="causes, as in default,short; all; none")
    add_workers(parser)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a video")
    arguments = parser.parse_args()
    speak(True)
    if arguments.timeout < 1:
        raise InputError(f"--timeout is {arguments.timeout}; expected 1 or more.")
    bad, data = choose_bad(arguments.bad), settle(_data(arguments))
    dataset = find_dataset(data.dataset)
    own = dataset.known or dataset.stored
    out = arguments.out or f"{pathlib.Path(os.path.abspath(arguments.videos)).stem}_check"
    workers = arguments.workers or cores()
    return check(
        dataset.open(data) if own else open_sources(data, doubtful=True),
        data,
        pathlib.Path(out),
        bad=bad,
        workers=workers,
        timeout=arguments.timeout,
    )


def _data(arguments: argparse.Namespace) -> config.Data:
    """Returns which videos a command line means, and which clips of them are wanted."""
    videos = arguments.videos
    folder = os.path.isdir(videos)
    if not folder and os.path.splitext(videos)[1].lower() in VIDEO_EXTENSIONS:
        raise InputError(f"{videos} is a video by its name; expected a folder or a list of videos.")
    if folder and (arguments.root or arguments.eval_list):
        raise InputError(f"{videos} is a folder; --root and --eval-list are for lists.")
    return config.Data(
        dataset=arguments.dataset,
        split=arguments.split,
        root=videos if folder else arguments.root,
        train_list="" if folder else videos,
        eval_list=arguments.eval_list,
        follow_links=arguments.follow_links,
        label_map=arguments.label_map,
        labels=arguments.labels,
        holdout=0.0,
        frames=arguments.frames,
        stride=arguments.stride,
        fps=arguments.fps,
    )


def check(
    sources: Sources,
    data: config.Data,
    out: pathlib.Path,
    *,
    bad: frozenset[str],
    workers: int,
    timeout: float,
) -> int:
    """Checks all videos, writes all files and prints the summary; returns the exit code.

    Args:
      sources: the videos; of any kind, for only the clean list needs files.
      data: as they were opened, and the clip that shall be cut from them.
      out: the folder to write to.
      bad: causes that make a video bad.
      workers: decoding processes.
      timeout: seconds that a video may take.

    Raises:
      InputError: `out` cannot be written to.
    """
    clip = Sampling(data.frames, data.stride, data.fps)
    splits = {TRAIN: sources.train, EVAL: sources.eval}
    try:
        out.mkdir(parents=True, exist_ok=True)
        survey = Survey(splits, out)
    except OSError as error:
        raise InputError(f"--out={out} cannot be used: {error}.") from error
    started = time.perf_counter()
    with DecodePool(workers, 1, timeout) as pool:
        survey.run(pool, workers)
        seconds = time.perf_counter() - started
        checked = diagnose(survey, clip, bad, sources.label_maps, data.labels == "heads")
        rows = _rows(checked, splits, pool, workers)
    classes = count_classes(checked, sources.label_map)
    speed = (
        f"{survey.measured:,} videos decoded in {duration(seconds)}, "
        f"{survey.measured / seconds:.1f} a second with {workers} processes"
    )
    summary = [*summarise(checked, classes), speed]
    health = Health(
        title=f"{os.path.abspath(data.train_list or data.root)}: {len(checked):,} videos checked",
        summary=summary,
        counts=Counter(finding.cause for one in checked for finding in one.findings),
        bad=bad,
        rows=rows,
        seconds=[one.facts.seconds for one in checked],
        rates=[one.facts.rate for one in checked],
        short_sides=[min(one.facts.width, one.facts.height) for one in checked],
        classes=classes,
    )
    with replacing(out / PAGE) as new:
        new.write_text(render(health), encoding="utf-8")
    _write_findings(out, survey, checked)
    print(*summary, *tabulate(checked, bad), sep="\n")
    print(*_advice(out, data, checked, sources.label_maps), sep="\n")
    return FOUND_BAD if any(one.cause for one in checked) else 0


def _rows(
    checked: Sequence[Checked], splits: Mapping[str, Source], pool: DecodePool, workers: int
) -> list[Row]:
    """Returns what the page says of the videos that something is to be said of, bad ones first."""
    content = {}
    first = 0
    for source in splits.values():
        content |= {first + i: (source, i) for i in range(len(source))}
        first += len(source)
    numbers = [i for i, one in enumerate(checked) if one.findings]
    numbers.sort(key=lambda i: not checked[i].cause)

    def picture(number: int) -> bytes:
        frames = checked[number].facts.frames
        source, i = content[number]
        data = pool.call(strip, readable(source.example(i)), frames) if frames else b""
        return data if isinstance(data, bytes) else b""

    with concurrent.futures.ThreadPoolExecutor(workers) as threads:
        pictures = list(threads.map(picture, numbers[:_STRIPS]))
    pictures += [b""] * (len(numbers) - len(pictures))
    return [
        Row(one.subject.id, one.subject.split, one.labels, one.findings, picture)
        for one, picture in zip((checked[i] for i in numbers), pictures, strict=True)
    ]


def _write_findings(out: pathlib.Path, survey: Survey, checked: Sequence[Checked]) -> None:
    """Writes the bad list and checks.jsonl."""
    with replacing(out / BAD_LIST) as new, new.open("w", encoding="utf-8") as file:
        for one in checked:
            if one.cause:
                about = {"id": one.subject.id, "path": one.subject.path, "cause": one.cause}
                about |= {"message": one.message, "split": one.subject.split}
                file.write(as_line(about))
    survey.write(
        [
            {
                "split": one.subject.split,
                "labels": list(one.labels),
                "bad": one.cause,
                "findings": [list(finding) for finding in one.findings],
            }
            for one in checked
        ]
    )


def _advice(
    out: pathlib.Path,
    data: config.Data,
    checked: Sequence[Checked],
    label_maps: Sequence[Sequence[str]],
) -> list[str]:
    """Returns how to use what was found; writes the clean lists, where lists can tell the videos.

    They cannot where videos have no files of their own, or where an example is a part of one.
    """
    lines = [f"\nThe report: {out / PAGE}"]
    if any(one.cause for one in checked):
        lines.append(f"Without the bad ones: --config.data.exclude={out / BAD_LIST}")
    if all(one.subject.path and one.subject.span is None for one in checked):
        clean: dict[str, list[Entry]] = {}
        for one in checked:
            entries = clean.setdefault(one.subject.split, [])
            if not one.cause:
                entries.append(Entry(one.subject.id, one.subject.path, one.labels))
        options, unlisted = write_clean_lists(out, data, clean, label_maps)
        lines.append("or the clean list: " + " ".join(f"--config.{o}" for o in options))
        if unlisted:
            log.warning(
                "%d names with line breaks are not in the clean list, such as %r",
                *(len(unlisted), unlisted[0]),
            )
    return lines


if __name__ == "__main__":
    sys.exit(run(main))
