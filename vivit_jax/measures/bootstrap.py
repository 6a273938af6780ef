"""How sure a measure is: its interval over the videos that it could as well have been taken from.

The bootstrap (Efron 1979): the judged videos stand for all videos, so as many are drawn from them
with replacement, again and again, and the spread of the measure over these draws is that of the
measure. A draw is told by how often each video is in it, so that a measure is one function of such
counts, of many draws at once. Videos are drawn, never views of one: these belong together.

Legend: R draws, N videos, K classes.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LEVEL = 0.95
DRAWS = 1000
_CELLS = 4_000_000  # counts in memory at once
_SHARE_DRAWS = 10_000  # of a share, which cost nothing
_NORMAL = NormalDist()

Measure = Callable[[Int[np.ndarray, "R N"]], Float[np.ndarray, " R"]]


class Interval(NamedTuple):
    """A measure and what it may as well be; NaN where there is nothing to tell by."""

    low: float
    value: float
    high: float


def interval(
    measure: Measure,
    videos: int,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
    corrected: bool = False,
) -> Interval:
    """Returns the interval of a measure.

    Args:
      measure: from how often each video counts, a row a draw, to the measure of each.
      videos: N.
      level: share of draws inside.
      draws: R.
      seed: of the draws; the same gives the same interval.
      corrected: for bias and for a spread that grows with the measure (BCa, Efron 1987), where the
        percentiles of the draws are biased themselves; it takes N more values of the measure.
    """
    if not videos:
        return Interval(np.nan, np.nan, np.nan)
    value = float(measure(np.ones((1, videos), np.int64))[0])
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // videos)
    parts = [
        measure(_counts(rng.integers(0, videos, (min(at_once, draws - first), videos))))
        for first in range(0, draws, at_once)
    ]
    drawn = np.concatenate(parts)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if corrected:
        tails = _corrected(tails, drawn, value, measure, videos)
    low, high = np.quantile(drawn, tails) if np.isfinite(tails).all() else (np.nan, np.nan)
    return Interval(float(low), value, float(high))


def of_share(right: Bool[np.ndarray, " N"], *, level: float = LEVEL, seed: int = 0) -> Interval:
    """Returns the interval of the share of videos that something is true of.

    The sum over a draw is binomial, so it is drawn itself. Where it is true of all videos, or of
    none, no draw differs, and the bootstrap would be sure of what it cannot know: then the far
    limit is the share at which as much happens by chance in (1 - level) / 2 of all cases (Clopper
    and Pearson 1934).
    """
    count, hits = len(right), int(np.count_nonzero(right))
    if not count:
        return Interval(np.nan, np.nan, np.nan)
    tail = (1 - level) / 2
    if hits in (0, count):
        far = tail ** (1 / count)
        return Interval(far, 1.0, 1.0) if hits else Interval(0.0, 0.0, 1 - far)
    drawn = np.random.default_rng(seed).binomial(count, hits / count, _SHARE_DRAWS) / count
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Interval(float(low), hits / count, float(high))


def mean_of(values: Float[np.ndarray, " N"]) -> Measure:
    """Returns the measure that is the mean of something of every video."""
    return lambda counts: counts @ values / counts.sum(axis=1)


def macro_of(
    predicted: Bool[np.ndarray, "N K"], targets: Bool[np.ndarray, "N K"]
) -> dict[str, Measure]:
    """Returns the means over classes of precision, recall and F1 as measures; see recognition.

    Args:
      predicted: whether a video is said to be of a class.
      targets: whether it is.
    """
    hits, said, true = (x.astype(np.float32) for x in (predicted & targets, predicted, targets))

    def share(part: np.ndarray, whole: np.ndarray) -> Measure:
        def measure(counts: Int[np.ndarray, "R N"]) -> Float[np.ndarray, " R"]:
            # Sums of counts are whole numbers, which float32 holds exactly up to 16 million.
            weights = counts.astype(np.float32)
            some, all_ = weights @ part, weights @ whole
            shares = np.where(all_ > 0, some / np.maximum(all_, 1), 0)
            return shares.mean(axis=1, dtype=np.float64)

        return measure

    return {
        "precision": share(hits, said),
        "recall": share(hits, true),
        "f1": share(2 * hits, said + true),
    }


def _counts(places: Int[np.ndarray, "R N"]) -> Int[np.ndarray, "R N"]:
    """Returns how often each video is in each draw."""
    draws, videos = places.shape
    rows = places + videos * np.arange(draws)[:, None]
    return np.bincount(rows.ravel(), minlength=draws * videos).reshape(draws, videos)


def _corrected(
    tails: Float[np.ndarray, " 2"],
    drawn: Float[np.ndarray, " R"],
    value: float,
    measure: Measure,
    videos: int,
) -> Float[np.ndarray, " 2"]:
    """Returns the shares of the draws at which an interval ends after both corrections."""
    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    if not 0 < below < 1:
        return np.full(2, np.nan)
    bias = _NORMAL.inv_cdf(float(below))
    at_once = max(1, _CELLS // videos)
    parts = []
    for first in range(0, videos, at_once):
        left_out = np.arange(first, min(first + at_once, videos))
        counts = np.ones((len(left_out), videos), np.int64)
        counts[np.arange(len(left_out)), left_out] = 0
        parts.append(measure(counts))
    without = np.concatenate(parts)
    off = without.mean() - without
    if not np.any(off):
        return np.full(2, np.nan)
    growth = np.sum(off**3) / (6 * np.sum(off**2) ** 1.5)
    ends = []
    for tail in tails.tolist():
        z = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + z / (1 - growth * z)))
    return np.array(ends)
