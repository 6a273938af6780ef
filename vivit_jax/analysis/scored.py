"""A video's scores as segments are cut from them: smoothed, with rules in seconds."""

import argparse
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vivit_jax.analysis import smoothing
from vivit_jax.analysis.segments import Rules

if TYPE_CHECKING:
    from vivit_jax.watching import Watched

# Shares of a window's length, unless told.
HOP = 0.25
SMOOTHED = {"gaussian": 0.25, "mean": 0.75, "median": 0.75, "none": 0.0}
SHORTEST = GAP = 0.5


class Scored(NamedTuple):
    """The smoothed scores of a video.

    Attributes:
      scores: of windows; NaN where they were not read.
      spans: of them, seconds.
      there: which were read.
      rules: how its segments are cut.
    """

    scores: Float[np.ndarray, "n K"]
    spans: Float[np.ndarray, "n 2"]
    there: Bool[np.ndarray, " n"]
    rules: Rules


def scored(
    watched: "Watched", scores: Float[np.ndarray, "n K"], given: argparse.Namespace
) -> Scored:
    """Returns what segments are cut from.

    Args:
      watched: a video.
      scores: of its windows.
      given: the options that `add_cutting` adds.
    """
    window, spans = watched.grid.frames / watched.grid.rate, watched.spans
    hop = spans[1, 0] - spans[0, 0] if len(spans) > 1 else window

    def told(seconds: float | None, share: float) -> float:
        return share * window if seconds is None else seconds

    width = told(given.smooth_seconds, SMOOTHED[given.smooth]) / hop
    smoothed = smoothing.smooth(scores, watched.there, given.smooth, width)
    rules = Rules(told(given.gap, GAP), told(given.shortest, SHORTEST), given.overlap)
    return Scored(smoothed, spans, watched.there, rules)


def add_cutting(to: argparse.ArgumentParser, number) -> None:
    """Adds how scores are smoothed and cut into segments.

    Args:
      to: the parser.
      number: reads one that is not below 0.
    """
    seconds = "seconds; unless told, of a window's length"
    told = ", ".join(f"{share:g} ({name})" for name, share in SMOOTHED.items() if share)
    add = to.add_argument
    add("--smooth", choices=smoothing.FILTERS, default="gaussian", help="over scores; gaussian")
    add("--smooth-seconds", type=number, help=f"its width, {seconds} {told}")
    add("--gap", type=number, help=f"nearer segments are one, {seconds} {GAP:g}")
    add("--shortest", type=number, help=f"shorter segments are left out, {seconds} {SHORTEST:g}")
    add("--overlap", type=number, default=0.0, help="of segments of a class that both stay; 0")
