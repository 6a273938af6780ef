"""Tells what happens in videos from when to when, or what is unusual in them.

    python -m vivit_jax.events --checkpoint WORKDIR VIDEO... [--out DIR] [--json] [--truth FILE]
    python -m vivit_jax.events --checkpoint WORKDIR VIDEO... --learn TRUTH --thresholds FILE
    python -m vivit_jax.events --checkpoint WORKDIR VIDEO... --anomaly [--by reconstruction]

A video is judged window by window, each a quarter of its length after the one before. The scores
are smoothed along time and cut into segments, class by class, where they cross the class's
threshold (--threshold for all, or learnt on videos whose truth is known). An answer is {"video",
"seconds", "windows", "partial", "lost", "events": [{"begin", "end", "label", "score"}]}, times in
seconds from the first frame, the score how far the segment stands out from what is around it. With
several heads a label is "HEAD:NAME". --out writes NAME.events.png.

With --truth (CSV with the columns video, begin, end, label, or JSON; see analysis/truth.py) the
last line tells the mean average precision at temporal IoUs from 0.3 to 0.7, and that of a naive
answer: windows that do not overlap, each a segment of its best class.

With --anomaly a window's score is how unusual it is: the distance of its features from the nearest
ones of normal videos, or what a masked autoencoder fails to fill in; see analysis/anomaly.py.
Normal videos are --normal (a folder or a list), or those that the run was trained on; above the
--quantile of their own scores a window is unusual. An answer then has "threshold" and "timeline":
[{"begin", "end", "score"}] besides, and with --truth, whose labels are not read, the last line
tells the area under the ROC curve over all frames.

Exit codes: 0 all of all videos was read, 1 it was not, 2 something that was given cannot be used;
130 after Ctrl-C, and 141 where nobody reads on.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vivit_jax import command_line
from vivit_jax.analysis import truth
from vivit_jax.analysis.scored import HOP, Scored, add_cutting, scored
from vivit_jax.analysis.segments import Segment, of_windows, segments
from vivit_jax.analysis.thresholds import evaluation, learn, read_thresholds, write_thresholds
from vivit_jax.analysis.timelines import moment
from vivit_jax.command_line import Answer
from vivit_jax.errors import InputError
from vivit_jax.measures.recognition import class_names
from vivit_jax.terminal import command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watched

THRESHOLD = 0.3
# Options of --anomaly, and what they are unless told.
_USUAL = {"by": "distance", "normal": None, "most": 500, "nearest": 5, "masks": 4, "quantile": 0.99}


def main() -> int:
    """Runs the command; returns its exit code."""
    given = parsed()
    speak(True)
    if given.anomaly:
        from vivit_jax import unusual

        return unusual.tell(given)
    return teach(given) if given.learn else tell(given)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options of a command line; ends the command where some do nothing.

    Args:
      arguments: in place of the process's own.
    """
    parser = options()
    given = parser.parse_args(arguments)
    modes = (
        ("with --anomaly", given.anomaly, ("learn", "threshold", "thresholds")),
        ("without --anomaly", not given.anomaly, _USUAL),
        ("with --learn", given.learn, ("out", "truth", "threshold")),
        ("with --by=distance", given.by != "reconstruction", ("masks",)),
        ("with --by=reconstruction", given.by == "reconstruction", ("nearest",)),
        ("with --smooth=none", given.smooth == "none", ("smooth_seconds",)),
    )
    command_line.refuse(parser, given, modes)
    command_line.fill_in(given, {**_USUAL, "threshold": THRESHOLD})
    return given


def options() -> argparse.ArgumentParser:
    """Returns the command's options."""
    parser = command_parser("vivit_jax.events", __doc__)
    command_line.add_model(parser)
    command_line.add_videos(parser)
    command_line.add_windows(parser, hop="a quarter of a window's")
    number = command_line.at_least(0.0)
    add = parser.add_argument
    add("--out", type=pathlib.Path, help="folder for pictures")
    add("--truth", help="file of what truly happens, to evaluate")
    add("--threshold", type=number, help=f"of a class's score; {THRESHOLD}")
    add("--thresholds", type=pathlib.Path, help="file of thresholds that were learnt")
    add("--learn", metavar="TRUTH", help="learn the thresholds of --thresholds on these videos")
    add_cutting(parser, number)
    unusual = parser.add_argument_group("--anomaly")
    add = unusual.add_argument
    add("--anomaly", action="store_true", help="tell what is unusual")
    add("--by", choices=("distance", "reconstruction"), help="distance")
    add("--normal", metavar="VIDEOS", help="folder or list; the run's training videos")
    add("--most", type=int, help="normal videos that are looked at; 500")
    add("--nearest", type=int, help="normal windows that a distance is from; 5")
    add("--masks", type=int, help="that a reconstruction is the mean of; 4")
    add("--quantile", type=number, help="of normal windows that are usual; 0.99")
    return parser


def tell(given: argparse.Namespace) -> int:
    """Answers for each video; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.observer import Observer

    if given.out:
        command_line.make_folder(given.out)
    observer = Observer(given.checkpoint)
    observer.check_predicts()
    classes, videos = class_names(observer.label_maps), command_line.videos(given.videos)
    true = true_of(given.truth, videos, classes)
    observer.read()
    if given.thresholds:
        about = how(observer, given)
        thresholds = read_thresholds(given.thresholds, classes, about, given.threshold)
    else:
        thresholds = np.full(len(classes), given.threshold)
    named = command_line.names(videos)
    found: dict[str, list[Segment]] = dict.fromkeys(videos, [])
    naive = dict(found)
    with command_line.watcher(observer, given, HOP) as watcher:

        def judged(video: str) -> Answer:
            watched = watcher.watch(video, observer.scores)
            seen = scored(watched, watched.rows, given)
            found[video] = segments(*seen[:3], thresholds, seen.rules)
            naive[video] = of_windows(watched.rows, watched.spans, watched.there)
            if given.out:
                draw(given.out / f"{named[video]}.events.png", watched, found[video], true, classes)
            return {**command_line.about(watched), "events": as_answer(found[video], classes)}

        code = command_line.answer(videos, judged, table, given.json)
    if given.truth:
        some = [true[video] for video in videos]
        both = {"found": found, "naive": naive}
        worth = {name: evaluation([*of.values()], some, classes) for name, of in both.items()}
        print(json.dumps({"evaluation": worth}) if given.json else worth_in_words(worth))
    return code


def teach(given: argparse.Namespace) -> int:
    """Learns thresholds on the videos; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.observer import Observer

    if not given.thresholds:
        raise InputError("--learn writes thresholds to a file: name it by --thresholds=FILE.")
    if given.thresholds.is_dir():
        raise InputError(f"--thresholds={given.thresholds} is a folder; expected a file.")
    command_line.make_folder(given.thresholds.parent, "--thresholds")
    observer = Observer(given.checkpoint)
    observer.check_predicts()
    classes, videos = class_names(observer.label_maps), command_line.videos(given.videos)
    true = true_of(given.learn, videos, classes)
    observer.read()
    seen: dict[str, Scored] = {}
    failed = False
    with command_line.watcher(observer, given, HOP) as watcher:
        for video in videos:
            try:
                watched = watcher.watch(video, observer.scores)
            except InputError as error:
                command_line.note(f"left out: {error}")
                failed = True
                continue
            failed = failed or bool(watched.lost)
            seen[video] = scored(watched, watched.rows, given)
    if not seen:
        raise InputError("None of the videos can be read; nothing is learnt.")
    learnt = learn([*seen.values()], [true[video] for video in seen])
    about = {**how(observer, given), "videos": len(seen), "partial": failed}
    write_thresholds(given.thresholds, learnt, classes, about)
    each = {classes[label]: one for label, one in learnt.items()}
    if given.json:
        print(json.dumps({name: one._asdict() for name, one in each.items()}))
    else:
        lines = [f"{x.threshold:9.3f}  {x.f1:.3f}  {x.segments:8d}  {k}" for k, x in each.items()]
        print("\n".join(["threshold     F1  segments  class", *lines]))
        print(f"written to {given.thresholds}; videos: {len(seen)}")
    return int(failed)


def true_of(
    file: str | None, videos: Sequence[str], classes: Sequence[str]
) -> dict[str, list[tuple[float, float, int]]]:
    """Returns begin, end and class of what truly happens in each video; empty without a file."""
    if not file:
        return {}
    return truth.numbers(truth.matched(truth.read_truth(file), file, videos), classes)


def how(observer: "Observer", given: argparse.Namespace) -> dict[str, Any]:
    """Returns what thresholds hold for: the model, and how its scores are made."""
    names = ("window", "hop", "crops", "smooth", "smooth_seconds", "gap", "shortest", "overlap")
    told = {name: getattr(given, name) for name in names}
    return {"fingerprint": observer.fingerprint_of_scores, **told}


def as_answer(found: Sequence[Segment], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Returns segments as they are answered."""
    return [
        {
            "begin": round(one.begin, 3),
            "end": round(one.end, 3),
            "label": classes[one.label],
            "score": round(one.score, 6),
        }
        for one in found
    ]


def draw(
    file: pathlib.Path,
    watched: "Watched",
    found: Sequence[Segment],
    true: dict[str, list[tuple[float, float, int]]],
    classes: Sequence[str],
) -> None:
    """Writes the segments of a video as bars."""
    from vivit_jax.analysis.bars import write_bars

    title = pathlib.Path(watched.video).name
    write_bars(file, found, true.get(watched.video), classes, watched.extent.seconds, title)


def table(found: Answer) -> str:
    """Returns what happens in a video, for people."""
    lines = [
        f"  {moment(x['begin']):>9} {moment(x['end']):>9}  {x['score']:.3f}  {x.get('label', '')}"
        for x in found["events"]
    ]
    return "\n".join(line.rstrip() for line in lines) or "  nothing above the threshold"


def worth_in_words(worth: dict[str, dict[str, Any]]) -> str:
    """Returns an evaluation, for people."""
    found, naive = worth["found"], worth["naive"]
    if found["mean"] is None:
        return "Nothing truly happens in these videos, so there is no average precision."
    overlaps = [*found["by_overlap"]]
    lines = ["mean average precision at temporal IoU " + "  ".join(f"{x:>5}" for x in overlaps)]
    for name, of in (("these events", found), ("windows' best classes", naive)):
        shares = "  ".join(f"{of['by_overlap'][x]:.3f}" for x in overlaps)
        lines.append(f"  {name:<36} {shares}   mean {of['mean']:.3f}")
    lines += [f"  {share:.3f}  {name}" for name, share in found["by_class"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
