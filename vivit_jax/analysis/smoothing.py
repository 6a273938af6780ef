"""Filters over the scores of windows, along time: what one window says alone is not believed."""

import numpy as np
from jaxtyping import Bool, Float

FILTERS = ("gaussian", "mean", "median", "none")
_TAILS = 3.0  # standard deviations that a gaussian reaches to either side


def smooth(
    scores: Float[np.ndarray, "n K"], there: Bool[np.ndarray, " n"], name: str, width: float
) -> Float[np.ndarray, "n K"]:
    """Returns scores filtered along time; those of windows that were not read stay NaN.

    Where a filter reaches over the video's ends, or over what was not read, it is of what is there.

    Args:
      scores: of windows at equal distances.
      there: which windows were read; nothing is smoothed across the others.
      name: one of FILTERS.
      width: in windows: the standard deviation of a gaussian, or how many a mean or median is of,
        made odd.
    """
    made = np.full(scores.shape, np.nan)
    for first, end in stretches(there):
        made[first:end] = _filtered(scores[first:end].astype(np.float64), name, width)
    return made


def stretches(there: Bool[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Returns where the windows that were read are: [first, end) of each row of neighbours."""
    edges = np.flatnonzero(np.diff(there.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _filtered(
    scores: Float[np.ndarray, "n K"], name: str, width: float
) -> Float[np.ndarray, "n K"]:
    """Returns scores filtered."""
    gaussian = name == "gaussian"
    reach = int(np.ceil(_TAILS * width)) if gaussian else round(width) // 2
    reach = min(reach, len(scores) - 1)
    if name == "none" or reach < 1:
        return scores
    if name == "median":
        sides = np.full((reach, scores.shape[1]), np.nan)
        padded = np.concatenate([sides, scores, sides])
        around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
        # A class at a time: nanmedian makes a copy of all that it is given.
        each = [np.nanmedian(around[:, k], axis=-1) for k in range(scores.shape[1])]
        return np.stack(each, axis=1)
    total, weights = np.zeros_like(scores), np.zeros((len(scores), 1))
    for offset in range(-reach, reach + 1):
        weight = float(np.exp(-0.5 * (offset / width) ** 2)) if gaussian else 1.0
        to = slice(max(0, -offset), len(scores) - max(0, offset))
        source = slice(max(0, offset), len(scores) + min(0, offset))
        total[to] += weight * scores[source]
        weights[to] += weight
    return total / weights
