"""Pictures of where and when a model looked: heat over frames, and a line of time."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage
from jaxtyping import Float, UInt8

from vivit_jax.drawing import name_colours, write_png

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes

_STOPS = (0.0, 0.35, 0.7, 1.0)  # of heat, at these colours
_COLOURS = ((20, 20, 90), (200, 30, 90), (255, 140, 0), (255, 255, 120))
_STRONGEST = 0.75  # share of the heat's colour where it is hottest; none where it is coldest
_DIM = 0.55  # of the brightness of frames under the heat, so that colours tell
_NAMED = 12  # most classes that have a colour of their own
_BARS = 400  # most slots that are drawn as bars
_INK, _GREY = "#333333", "#999999"


def heated(
    clip: UInt8[np.ndarray, "T H W 3"], shares: Float[np.ndarray, "t h w"]
) -> UInt8[np.ndarray, "T H W 3"]:
    """Returns a clip under the heat of its tubelets; the hottest of the clip is 1."""
    frames, height, width = clip.shape[:3]
    hottest = shares.max() or 1.0
    zoom = (1, height / shares.shape[1], width / shares.shape[2])
    heat = scipy.ndimage.zoom(shares / hottest, zoom, order=1, mode="nearest", grid_mode=True)
    heat = np.asarray(heat).clip(0, 1).repeat(frames // len(shares), axis=0)[..., None]
    colours = np.stack(
        [np.interp(heat[..., 0], _STOPS, channel) for channel in zip(*_COLOURS, strict=True)], -1
    )
    strength = _STRONGEST * heat
    frames_below = clip * (_DIM + (1 - _DIM) * (1 - strength))
    return np.round((1 - strength) * frames_below + strength * colours).astype(np.uint8)


def write_timeline(
    file: pathlib.Path,
    spans: Float[np.ndarray, "n 2"],
    slots: Float[np.ndarray, "n t"],
    scores: Float[np.ndarray, " n"],
    labels: Sequence[str],
) -> None:
    """Writes a picture of when a model looked.

    Args:
      file: PNG.
      spans: when windows begin and end, seconds.
      slots: share of each slot in what the model saw of its window; NaN where it could not be read.
      scores: of the windows' classes; NaN where there are none.
      labels: the windows' classes; "" where there are none.
    """
    from matplotlib.figure import Figure

    classes = bool(np.isfinite(scores).any())
    figure = Figure(figsize=(11, 4.2 if classes else 2.4), layout="constrained")
    if classes:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
        _draw_scores(above, spans, scores, labels)
    else:
        below = figure.subplots()
    width = (spans[:, 1] - spans[:, 0]) / slots.shape[1]
    centres = spans[:, :1] + (np.arange(slots.shape[1]) + 0.5)[None] * width[:, None]
    times = slots * slots.shape[1]
    if times.size <= _BARS:
        wide = np.repeat(width, slots.shape[1])
        below.bar(centres.ravel(), times.ravel(), wide * 0.9, color="#dd6b20", alpha=0.8)
    else:
        below.fill_between(centres.ravel(), times.ravel(), color="#dd6b20", alpha=0.8, linewidth=0)
    below.axhline(1, color=_GREY, linewidth=0.8, linestyle="--")
    below.set_ylabel("times the mean\nof its window")
    below.set_xlabel("seconds")
    below.set_xlim(spans[0, 0], spans[-1, 1])
    below.spines[["top", "right"]].set_visible(False)
    write_png(file, figure)


def _draw_scores(
    axes: "Axes",
    spans: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    labels: Sequence[str],
) -> None:
    """Draws the score of each window's class, in its class's colour."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection

    known = filter(None, dict.fromkeys(labels))  # in the same order in every process
    names = sorted(known, key=lambda name: -[*labels].count(name))[:_NAMED]
    colours = {name: colormaps["tab20"](i) for i, name in enumerate(names)}
    each = [colours.get(label, _GREY) for label in labels]
    begins, ends, nothing = spans[:, 0], spans[:, 1], np.zeros(len(spans))
    x = np.stack([begins, begins, ends, ends], axis=1)
    y = np.stack([nothing, scores, scores, nothing], axis=1)
    # One thing to draw, however many windows there are.
    axes.add_collection(PolyCollection([*np.stack([x, y], axis=2)], facecolors=each))
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("probability")
    axes.spines[["top", "right"]].set_visible(False)
    name_colours(axes, colours)
