"""Pictures of what happens when: segments as bars, what is true beside them, and scores by time."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vivit_jax.analysis.segments import Segment
from vivit_jax.analysis.timelines import clock
from vivit_jax.drawing import drawable, name_rows, write_png

Spans = Sequence[tuple[float, float, int]]  # begin, end, class
_ROWS = 30  # most classes of a picture
_WIDTH = 11.0  # inches
_FOUND, _TRUE, _LINE = "#2b6cb0", "#2f855a", "#c53030"


def write_bars(
    file: pathlib.Path,
    found: Sequence[Segment],
    truth: Spans | None,
    names: Sequence[str],
    seconds: float,
    title: str,
) -> None:
    """Writes a PNG: a row for each class that is found or true, with its segments.

    Args:
      file: its path.
      found: segments; the higher the score, the darker.
      truth: what truly happens, drawn below them; None where it is not known.
      names: of the classes.
      seconds: of the video.
      title: above all.
    """
    from matplotlib.figure import Figure

    lengths = np.zeros(len(names))
    for begin, end, label, *_ in [*found, *(truth or ())]:
        lengths[label] += end - begin
    rows = sorted(
        np.argsort(-lengths, kind="stable")[: min(_ROWS, int((lengths > 0).sum()))].tolist()
    )
    place = {label: row for row, label in enumerate(rows)}
    figure = Figure(figsize=(_WIDTH, 1.3 + 0.34 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    height = 0.4 if truth is not None else 0.8
    for begin, end, label, score in found:
        if label in place:
            alpha = 0.3 + 0.7 * min(max(score, 0.0), 1.0)
            at = place[label] - (0.2 if truth is not None else 0.0)
            axes.barh(at, end - begin, height, left=begin, color=_FOUND, alpha=alpha, linewidth=0)
    for begin, end, label in truth or ():
        if label in place:
            at = place[label] + 0.2
            axes.barh(at, end - begin, height, left=begin, color=_TRUE, linewidth=0)
    name_rows(axes, [names[int(label)] for label in rows])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", axis="y", color="#dddddd")
    axes.tick_params(which="both", axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    shown = drawable(title) + (": found (blue), true (green)" if truth is not None else "")
    axes.set_title(shown, loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("time in the video")
    clock(axes, 0.0, seconds)
    write_png(file, figure)


def write_scores(
    file: pathlib.Path,
    scores: Float[np.ndarray, " n"],
    times: Float[np.ndarray, " n"],
    threshold: float,
    found: Sequence[Segment],
    truth: Spans | None,
    seconds: float,
    title: str,
) -> None:
    """Writes a PNG: a score by time, the threshold, and when it is above.

    Args:
      file: its path.
      scores: of windows; NaN leaves a gap.
      times: of their centres, seconds.
      threshold: of the score.
      found: segments, shaded.
      truth: what truly happens, as bars below; None where it is not known.
      seconds: of the video.
      title: above all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, scores, color=_FOUND, linewidth=1.2, marker="." if len(scores) < 30 else "")
    axes.axhline(threshold, color=_LINE, linewidth=1, linestyle="--")
    for one in found:
        axes.axvspan(one.begin, one.end, color=_FOUND, alpha=0.15, linewidth=0)
    for begin, end, _ in truth or ():
        below = axes.get_xaxis_transform()
        axes.barh(0.02, end - begin, 0.04, left=begin, color=_TRUE, linewidth=0, transform=below)
    axes.set_ylabel("how unusual")
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    told = ": found (shaded), threshold (red)" + (", true (green)" if truth is not None else "")
    axes.set_title(drawable(title) + told, loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("time in the video")
    clock(axes, 0.0, seconds)
    write_png(file, figure)
