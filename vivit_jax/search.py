"""Finds moments in many videos: that look like others, or that show a class.

    python -m vivit_jax.search build --checkpoint SOURCE --index DIR VIDEO, FOLDER or LIST...
    python -m vivit_jax.search query --index DIR --video VIDEO [--begin S --end S] [--out DIR]
    python -m vivit_jax.search query --index DIR --class NAME [--moments]
    python -m vivit_jax.search duplicates --index DIR [--above 0.8]
    python -m vivit_jax.search evaluate --index DIR

An index holds what an encoder makes of every window of its videos. `build` adds the videos that it
lacks, or that have changed; one that was stopped goes on with the same command. An answer says
which of its videos have changed since, or are gone. Labels come from lists (`path label` lines),
and `evaluate` judges by them. Of each video the best moment is shown, with --moments all. A
question that is part of a video of the index does not find itself.

Exit codes: 0 all of all videos was read, 1 it was not (DIR/bad_videos.jsonl), 2 something that was
given cannot be used; 130 after Ctrl-C, 141 where nobody reads on.
"""

import argparse
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vivit_jax import command_line, features
from vivit_jax.errors import InputError
from vivit_jax.terminal import add_workers, command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.analysis.copies import Copy
    from vivit_jax.analysis.index import Index
    from vivit_jax.analysis.parts import Entry
    from vivit_jax.analysis.queries import Hit
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Lost

Answer = dict[str, Any]
_STATES = {"changed": "changed since it was looked at", "gone": "not there any more"}


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.search", __doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="build|query|...")
    make = verbs.add_parser("build", help="add videos to an index", allow_abbrev=False)
    ask = verbs.add_parser("query", help="find moments", allow_abbrev=False)
    compare = verbs.add_parser("duplicates", help="videos that show the same", allow_abbrev=False)
    judge = verbs.add_parser("evaluate", help="recall@k and mAP by labels", allow_abbrev=False)
    for verb in (make, ask, compare, judge):
        verb.add_argument("--index", required=True, metavar="DIR", type=pathlib.Path)
    command_line.add_model(make)
    command_line.add_videos(make)
    command_line.add_windows(make)
    _add_question(ask)
    compare.add_argument(
        "--above", type=command_line.at_least(0.0), default=0.8, help="similarity of features; 0.8"
    )
    for verb in (ask, compare, judge):
        verb.add_argument("--json", action="store_true", help="an object, in one line")
    arguments = parser.parse_args()
    if arguments.verb == "query":
        _check_question(ask, arguments)
    speak(True)
    verb = {"build": build, "query": query, "duplicates": duplicates, "evaluate": evaluate}
    return verb[arguments.verb](arguments)


def _add_question(to: argparse.ArgumentParser) -> None:
    """Adds the options of a query."""
    what = to.add_mutually_exclusive_group(required=True)
    what.add_argument("--video", help="moments that look like this video's")
    what.add_argument("--class", dest="name", metavar="NAME", help="moments that show a class")
    seconds = command_line.at_least(0.0)
    to.add_argument("--begin", type=seconds, default=0.0, help="second of --video; its first")
    to.add_argument("--end", type=seconds, default=math.inf, help="second of --video; its last")
    to.add_argument("--top", type=int, default=10, help="moments; 10")
    to.add_argument("--moments", action="store_true", help="any number of moments of a video")
    to.add_argument("--exact", action="store_true", help="also beyond a million windows")
    to.add_argument("--checkpoint", help="where the model of the index is, if it has moved")
    to.add_argument("--out", type=pathlib.Path, help="folder for a contact sheet of the moments")
    add_workers(to)


def _check_question(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the command where the options of a query do not go together."""
    if arguments.top < 1:
        parser.error(f"--top is {arguments.top}; expected at least 1")
    if arguments.end <= arguments.begin:
        parser.error(f"--end {arguments.end:g} is not after --begin {arguments.begin:g}")
    if arguments.name is not None and (arguments.begin or arguments.end < math.inf):
        parser.error("--begin and --end are of a --video, and --class has none")


def build(arguments: argparse.Namespace) -> int:
    """Adds videos to an index; returns the exit code."""
    from vivit_jax.analysis.indexing import Builder, encoded, source_of
    from vivit_jax.observer import Observer
    from vivit_jax.workdir_lock import locked

    observer = Observer(arguments.checkpoint)
    kind = observer.experiment.data.labels
    videos = features.named(arguments.videos, kind if kind in ("multi", "heads") else "single")
    windows = {name: getattr(arguments, name) for name in ("window", "hop", "crops")}
    about = {
        "checkpoint": source_of(observer),
        "fingerprint": observer.fingerprint,
        "windows": windows,
        "several": kind == "multi",
    }
    labels = {str(video.path): video.label for video in videos}

    with locked(arguments.index, "--index"), command_line.watcher(observer, arguments) as watcher:
        builder = Builder(arguments.index, about)

        def of(path: str) -> Answer:
            builder.label(path, labels[path])
            if builder.has(path):
                return _told(builder.entries[path], made=False)
            try:
                entry, rows = encoded(observer, watcher, path)
            except InputError as error:
                builder.refuse(path, str(error))
                raise
            builder.add(entry, rows)
            return _told(entry, made=True)

        try:
            code = command_line.answer(labels, of, _built, arguments.json)
        finally:
            builder.flush()
    counts = builder.counts
    bad = f"; {counts['bad_videos']} cannot be read (bad_videos.jsonl)" * bool(counts["bad_videos"])
    known = f"{counts['windows']:,} windows of {counts['videos']:,} videos"
    command_line.note(f"{arguments.index} holds {known}{bad}.")
    return code


def _told(entry: "Entry", made: bool) -> Answer:
    """Returns the answer on a video that is in the index."""
    return {
        "video": entry.id,
        "seconds": entry.seconds,
        "windows": entry.windows,
        "new": made,
        "partial": bool(entry.lost),
        "lost": entry.lost,
    }


def _built(made: Answer) -> str:
    """Returns that answer for people."""
    before = "" if made["new"] else ", there already"
    return f"  {made['windows']} windows of {made['seconds']:.1f} s{before}"


def query(arguments: argparse.Namespace) -> int:
    """Finds moments; returns the exit code."""
    from vivit_jax.analysis.index import Index
    from vivit_jax.observer import Observer

    index = Index(arguments.index)
    try:
        observer = Observer(arguments.checkpoint or index.about["checkpoint"])
    except InputError as error:
        if arguments.checkpoint:
            raise
        raise InputError(
            f"The model that made --index={arguments.index} is not where it was: {error} Say by "
            "--checkpoint where it is now, or build another index."
        ) from error
    if arguments.out:
        command_line.make_folder(arguments.out)
    ask = _of_video if arguments.name is None else _of_class
    asked, lost, hits = ask(index, observer, arguments)
    made = {**asked, "index": str(arguments.index), "partial": bool(lost)}
    made |= {"lost": [one._asdict() for one in lost], "hits": [hit._asdict() for hit in hits]}
    if arguments.out and hits:
        title = arguments.name or asked["video"]
        name = f"class {title}" if "class" in asked else pathlib.Path(title).stem
        made["picture"] = str(_sheet(arguments.out, name, title, hits))
    print(json.dumps(made) if arguments.json else _hits_in_words(made), flush=True)
    return int(bool(lost))


def _of_class(
    index: "Index", observer: "Observer", arguments: argparse.Namespace
) -> "tuple[Answer, list[Lost], list[Hit]]":
    """Returns what was asked, and the moments that show it most probably."""
    from vivit_jax.analysis import queries

    direction = queries.direction_of(observer, arguments.name)
    queries.check_model(index, observer)
    hits = queries.of_class(index, direction, arguments.top, arguments.moments)
    return {"class": arguments.name}, [], hits


def _of_video(
    index: "Index", observer: "Observer", arguments: argparse.Namespace
) -> "tuple[Answer, list[Lost], list[Hit]]":
    """Returns what was asked, what of it could not be read, and the moments that look like it."""
    from vivit_jax.analysis import queries

    queries.check_model(index, observer)
    path = os.path.abspath(arguments.video)
    part = (arguments.begin, arguments.end)
    vectors, spans, lost = queries.seen(observer, index, path, part, arguments.workers)
    begin, end = float(spans.min()), float(spans.max())
    hits = queries.alike(
        index,
        vectors,
        arguments.top,
        moments=arguments.moments,
        exact=arguments.exact,
        left_out=queries.itself(index, path, begin, end),
    )
    return {"video": path, "begin": round(begin, 3), "end": round(end, 3)}, lost, hits


def _hits_in_words(made: Answer) -> str:
    """Returns the answer of a query for people."""
    what = made.get("class") or f"{made['video']} {made['begin']:.2f} to {made['end']:.2f} s"
    lines = [
        f"  {hit['score']:.4f}  {hit['begin']:9.2f} to {hit['end']:9.2f} s  {hit['video']}"
        + (f"  ({_STATES[hit['state']]})" if hit["state"] in _STATES else "")
        for hit in made["hits"]
    ]
    lines += [f"  in pictures: {made['picture']}"] if "picture" in made else []
    return command_line.in_words({**made, "video": what}, lambda _: "\n".join(lines))


def _sheet(folder: pathlib.Path, name: str, title: str, hits: "Sequence[Hit]") -> pathlib.Path:
    """Writes a contact sheet of what was found; returns its path.

    Args:
      folder: for it.
      name: that its file begins with.
      title: of what was asked.
      hits: the answer.
    """
    from vivit_jax.analysis.sheet import Cell, first_frames, write_sheet

    shown = first_frames([(hit.video, hit.begin) for hit in hits])
    cells = [
        Cell(picture, [hit.video, f"{hit.begin:.2f} to {hit.end:.2f} s   {hit.score:.4f}"])
        for hit, picture in zip(hits, shown, strict=True)
    ]
    stem = command_line.shortened(re.sub(r"[^\w.-]+", "_", name))
    file = folder / f"{stem}.search.png"
    write_sheet(file, f"{title}: the nearest {len(hits)}", cells)
    return file


def duplicates(arguments: argparse.Namespace) -> int:
    """Tells which videos of an index show the same; returns the exit code."""
    from vivit_jax.analysis import copies, mean_pictures, nearest
    from vivit_jax.analysis.index import Index

    index = Index(arguments.index)
    _note_changes(index)
    pictures = mean_pictures.patterns(index.part(0, len(index), pictures=True))
    rows = (index.part(0, len(index)), arguments.above), (pictures, copies.PICTURES)
    pairs, similarity = nearest.pairs_above(rows, index.owner)
    found = copies.find(pairs, similarity, index.owner, index.spans[:, 0])
    names = [entry.id for entry in index.entries]
    made = {
        "index": str(arguments.index),
        "above": arguments.above,
        "groups": [[names[video] for video in group] for group in copies.groups(found)],
        "pairs": [_copy(index, copy) for copy in found],
    }
    print(json.dumps(made) if arguments.json else _copies_in_words(made), flush=True)
    return 0


def _copy(index: "Index", copy: "Copy") -> Answer:
    """Returns a pair of near-duplicates, and which of their windows show the same."""
    begins = index.spans[copy.windows, 0].round(3).tolist()
    return {
        "a": index.entries[copy.a].id,
        "b": index.entries[copy.b].id,
        "share": round(copy.share, 4),
        "similarity": round(copy.similarity, 6),
        "shift": round(copy.shift, 3),
        "windows": begins,
    }


def _copies_in_words(made: Answer) -> str:
    """Returns the same for people."""
    lines = [f"{made['index']}: {len(made['groups'])} groups of videos that show the same"]
    for number, group in enumerate(made["groups"], 1):
        lines += [f"  group {number}", *(f"    {name}" for name in group)]
    if made["pairs"]:
        lines.append("  pairs: similarity, share of the shorter's windows, seconds of shift")
    lines += [
        f"    {pair['similarity']:.4f}  {pair['share']:4.0%}  {pair['shift']:+8.2f}  "
        f"{pair['a']}  {pair['b']}"
        for pair in made["pairs"]
    ]
    return "\n".join(lines)


def evaluate(arguments: argparse.Namespace) -> int:
    """Judges an index by the labels of its videos; returns the exit code."""
    from vivit_jax.analysis import mean_pictures, searched
    from vivit_jax.analysis.index import Index

    index = Index(arguments.index)
    _note_changes(index)
    names, of, alike = searched.labels_of(index)
    if len(names) < 2:
        raise InputError(
            f"--index={arguments.index} has videos of {len(names)} labels, and to judge takes two: "
            "build it from lists of `path label` lines."
        )
    known = of[index.owner] >= 0
    owner = index.owner[known]
    given = owner, of[owner], alike
    pictures = index.part(0, len(index), pictures=True)
    made: Answer = {
        "index": str(arguments.index),
        "videos": int((of >= 0).sum()),
        "windows": int(known.sum()),
        "labels": len(names),
        "features": searched.judge(index.part(0, len(index))[known], *given),
        "mean_pictures": searched.judge(mean_pictures.compared(pictures[known]), *given),
    }
    print(json.dumps(made) if arguments.json else _results_in_words(made), flush=True)
    return 0


def _note_changes(index: "Index") -> None:
    """Says how many videos of an index are no longer what they were."""
    from vivit_jax.analysis.parts import state

    states = [state(entry) for entry in index.entries]
    for name, words in _STATES.items():
        if count := states.count(name):
            command_line.note(f"{count} of the {len(states)} videos of {index.folder}: {words}.")


def _results_in_words(made: Answer) -> str:
    """Returns the same for people."""
    lines = [f"{made['index']}: {made['windows']:,} windows of {made['videos']:,} videos"]
    lines.append(f"  {'':24}features  mean pictures")
    for name, value in made["features"].items():
        both = value, made["mean_pictures"][name]
        numbers = "".join(f"{'none' if x is None else f'{x:.4f}':>8}    " for x in both)
        lines.append(f"  {name:24}{numbers.rstrip()}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
