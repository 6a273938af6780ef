"""Shows where and when a model looked: heat over the frames it saw, and a timeline.

    python -m vivit_jax.explain --checkpoint WORKDIR VIDEO... --out DIR [--class NAME]
        [--method rollout|gradient_attention|integrated_gradients] [--evaluate] [--json]

A video of any length is seen by windows. DIR/NAME.explain.mp4 has its frames and, beside them, the
heat of their tubelets (the hottest of each window alike); NAME.explain.png is the window whose
class is surest; NAME.timeline.png tells each window's class and when within it the model looked.

rollout follows attention alone, and needs no classes: it will do for any encoder of ours.
gradient_attention, unless told otherwise what classifiers are explained by, and
integrated_gradients tell what speaks for a class: --class, or each window's most probable one.

--evaluate tells what the explanation of some windows is worth: tubelets are taken out of them, the
most important first, and the probability of the class should fall faster than in random order
(deletion, lower is better); and rise faster when they are given back (insertion, higher is better).

With --json, an object a video, a line each: {"video", "explained": [{"begin", "end", "class",
"score", "slots": shares that sum to one}], "files", "evaluation"}. Exit codes: 0 all of all videos
was read, 1 it was not, 2 something that was given cannot be used; 130 after Ctrl-C.
"""

import argparse
import pathlib
import sys

from vivit_jax import command_line
from vivit_jax.analysis.choices import METHODS, REMOVED
from vivit_jax.measures.recognition import class_names, class_number
from vivit_jax.terminal import command_parser, run, speak

_ROWS = 20  # windows of a table


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.explain", __doc__)
    command_line.add_model(parser)
    command_line.add_videos(parser)
    command_line.add_windows(parser, crops=False)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the pictures")
    parser.add_argument("--class", dest="chosen", help="explained; the most probable unless told")
    parser.add_argument("--method", choices=METHODS, help="see above")
    parser.add_argument("--steps", type=int, help="of integrated_gradients; 32")
    parser.add_argument("--evaluate", action="store_true", help="by deletion and insertion")
    parser.add_argument(
        "--removed", choices=REMOVED, help=f"what takes deleted tubelets' place; {REMOVED[0]}"
    )
    given = parser.parse_args()
    other = given.method != "integrated_gradients"
    modes = [("without --evaluate", not given.evaluate, ("removed",))]
    modes += [("without --method integrated_gradients", other, ("steps",))]
    command_line.refuse(parser, given, modes)
    command_line.fill_in(given, {"steps": 32, "removed": REMOVED[0]})
    if given.steps < 1:
        parser.error(f"--steps is {given.steps}; expected at least 1")
    return explain(given)


def explain(given: argparse.Namespace) -> int:
    """Explains the videos of a command line; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.analysis.attribution import attribute, knows_classes
    from vivit_jax.analysis.explaining import Explainer
    from vivit_jax.observer import Observer

    speak(True)
    observer = Observer(given.checkpoint)
    classifies = knows_classes(observer)
    if given.chosen is not None or given.evaluate:
        observer.check_predicts()
    maps = observer.label_maps if classifies else ()
    chosen = None if given.chosen is None else class_number("--class", given.chosen, maps)
    method = given.method or ("gradient_attention" if classifies else "rollout")
    attributed = attribute(observer, method, chosen, given.steps)
    paths = command_line.videos(given.videos)
    stems = command_line.names(paths)
    command_line.make_folder(given.out)
    with command_line.watcher(observer, given) as watcher:
        removed = given.removed if given.evaluate else ""
        explainer = Explainer(observer, watcher, attributed, class_names(maps), removed)

        def of(path: str) -> command_line.Answer:
            watched, answer = explainer.explain(path, given.out, stems[path])
            return {**command_line.about(watched), "method": method, **answer}

        return command_line.answer(paths, of, table, given.json)


def table(made: command_line.Answer) -> str:
    """Returns an answer for people."""
    lines = []
    for window in made["explained"][:_ROWS]:
        slots, seconds = window["slots"], (window["end"] - window["begin"])
        top = max(range(len(slots)), key=slots.__getitem__)
        when = window["begin"] + seconds * (top + 0.5) / len(slots)
        of_class = f"  {window['score']:.4f}  {window['class']}" if "class" in window else ""
        looked = f"most at {when:.2f} s ({slots[top] * len(slots):.1f} x the mean)"
        lines.append(f"  {window['begin']:9.2f} to {window['end']:9.2f} s  {looked}{of_class}")
    more = len(made["explained"]) - _ROWS
    lines += [f"  and {more} windows more: --json has them all"] if more > 0 else []
    if "completeness_gap" in made:
        lines.append(f"  integrated gradients miss {made['completeness_gap']:.2%} of their sum")
    if "evaluation" in made:
        judged = made["evaluation"]
        lines.append(
            f"  {judged['windows']} windows: area under deletion (low) and insertion (high)"
        )
        for row, name in (("method", made["method"]), ("random", "random order")):
            areas = judged[row]
            lines.append(f"    {name:22s}{areas['deletion']:8.4f}{areas['insertion']:8.4f}")
    return "\n".join([*lines, *(f"  {file}" for file in made["files"])])


if __name__ == "__main__":
    sys.exit(run(main))
