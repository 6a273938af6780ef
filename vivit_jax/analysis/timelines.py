"""What happens when, by the scores of windows: runs of a class, and pictures of them.

Windows may overlap, so each stands for its cell alone: from halfway to the window before it to
halfway to the next.
"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vivit_jax.drawing import drawable, name_rows, write_png

if TYPE_CHECKING:  # matplotlib takes long to import, and --help needs none of it
    from matplotlib.axes import Axes

CLASSES = 12  # most rows of a heat map
_WIDTH = 11.0  # inches of a picture
_MARKS = 12  # most of an axis of time
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds
_LONGEST = 4000  # columns of a heat map: more than a screen has pixels


class Run(NamedTuple):
    """A stretch in which one class leads.

    Attributes:
      begin: seconds from the first frame, as `end`.
      end: likewise.
      label: index of the class.
      score: its mean over the stretch.
    """

    begin: float
    end: float
    label: int
    score: float


def cells(spans: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n+1"]:
    """Returns where the cells of windows begin, and where the last ends: seconds, rising.

    Args:
      spans: when each window begins and ends.
    """
    centres = spans.mean(axis=1)
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([spans[:1, 0], inner, spans[-1:, 1]])


def runs(
    scores: Float[np.ndarray, "n K"], spans: Float[np.ndarray, "n 2"], there: Bool[np.ndarray, " n"]
) -> list[Run]:
    """Returns the stretches in which one class leads, in order of time.

    Args:
      scores: of windows.
      spans: of them, seconds.
      there: which could be read; the others are in no stretch.
    """
    edges, found = cells(spans), []
    lead = np.where(there, np.nan_to_num(scores, nan=-1.0).argmax(axis=1), -1)
    for label, group in itertools.groupby(range(len(lead)), key=lambda i: int(lead[i])):
        numbers = [*group]
        if label >= 0:
            first, last = numbers[0], numbers[-1]
            score = float(scores[first : last + 1, label].mean())
            found.append(Run(float(edges[first]), float(edges[last + 1]), label, score))
    return found


def leading(scores: Float[np.ndarray, "n K"], most: int = CLASSES) -> Int[np.ndarray, " k"]:
    """Returns the classes to show, in the order of the label map: those that lead longest.

    Args:
      scores: of windows that were read.
      most: how many.
    """
    times = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
    order = np.lexsort((-scores.mean(axis=0), -times))
    return np.sort(order[:most])


def write_timeline(
    file: pathlib.Path,
    scores: Sequence[Float[np.ndarray, "n K"]],
    spans: Float[np.ndarray, "n 2"],
    names: Sequence[Sequence[str]],
    title: str,
) -> None:
    """Writes a PNG: classes by time in the colours of their scores, a panel for each head.

    Args:
      file: its path.
      scores: of windows, from 0 to 1, for each head; NaN where one could not be read.
      spans: of the windows, seconds.
      names: of the classes of each head.
      title: above all.
    """
    from matplotlib.figure import Figure

    there = ~np.isnan(scores[0]).any(axis=1)
    chosen = [leading(of_head[there]) for of_head in scores]
    rows = [len(some) for some in chosen]
    height = 1.2 + 0.27 * sum(rows) + 0.3 * len(rows)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panels = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    images = [
        heat(axes, of_head[:, some], spans, [of_names[int(i)] for i in some])
        for axes, of_head, some, of_names in zip(panels, scores, chosen, names, strict=True)
    ]
    bar = figure.colorbar(images[0], ax=panels.tolist(), pad=0.01, fraction=0.03, aspect=30)
    bar.set_label("score")
    panels[0].set_title(drawable(title), loc="left", fontsize=10, parse_math=False)
    panels[-1].set_xlabel("time in the video")
    write_png(file, figure)


def heat(
    axes: "Axes",
    scores: Float[np.ndarray, "n k"],
    spans: Float[np.ndarray, "n 2"],
    names: Sequence[str],
):
    """Returns the picture of scores by time that it draws; grey is what could not be read."""
    edges = cells(spans)
    step = -(-len(scores) // _LONGEST)
    if step > 1:  # the highest of neighbours, so that what is short is seen
        first = np.arange(0, len(scores), step)
        scores = np.fmax.reduceat(scores, first, axis=0)
        edges = np.append(edges[first], edges[-1])
    axes.set_facecolor("#bbbbbb")
    shown = np.ma.masked_invalid(scores.T)
    rows = np.arange(len(names) + 1) - 0.5
    image = axes.pcolormesh(edges, rows, shown, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    name_rows(axes, names)
    axes.set_yticks(rows, minor=True)
    axes.grid(which="minor", axis="y", color="white", linewidth=1.5)
    axes.tick_params(which="both", axis="y", length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    clock(axes, edges[0], edges[-1])
    return image


def clock(axes: "Axes", begin: float, end: float) -> None:
    """Marks an axis of seconds as a clock would tell them."""
    from matplotlib.ticker import MultipleLocator

    step = next((step for step in _STEPS if end - begin <= _MARKS * step), _STEPS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(lambda seconds, _: moment(seconds))
    axes.set_xlim(begin, end)


def moment(seconds: float) -> str:
    """Returns seconds as "1:02:03.5" or "2:03.5"; without tenths where there are none."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}" + (f".{tenths % 10}" if tenths % 10 else "")
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"
