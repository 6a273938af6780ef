"""From the scores of windows to what happened from when to when.

The score of a window counts at its centre, and between centres the curve is straight: where it
crosses a threshold is a boundary, finer than the windows' distance. Each class is cut at several
levels from its threshold up, and of the segments that overlap the one that stands out best is kept
(non-maximum suppression by class). How far one stands out is its mean score less that of its
flanks, a quarter of its length to either side (as in Shou et al. 2018, AutoLoc).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vivit_jax.analysis.smoothing import stretches
from vivit_jax.measures.localisation import temporal_iou

LEVELS = (0.0, 0.25, 0.5, 0.75)  # shares of the way from a class's threshold to the highest score
_FLANK = 0.25  # of a segment's length


class Rules(NamedTuple):
    """How segments are cut, in seconds.

    Attributes:
      gap: segments of a class that are nearer are one.
      shortest: shorter ones are left out.
      overlap: temporal IoU above which only the better of two of a class is kept.
    """

    gap: float = 0.0
    shortest: float = 0.0
    overlap: float = 0.0


class Segment(NamedTuple):
    """Something that happens.

    Attributes:
      begin: seconds from the first frame, as `end`.
      end: likewise.
      label: number of the class.
      score: how far it stands out, at most 1.
    """

    begin: float
    end: float
    label: int
    score: float


class Curve(NamedTuple):
    """A score by time, straight between knots.

    Attributes:
      times: of the knots, seconds, rising.
      values: there.
    """

    times: Float[np.ndarray, " m"]
    values: Float[np.ndarray, " m"]

    def mean(self, begin: float, end: float) -> float:
        """Returns the mean score from one moment to another; 0 where they are one."""
        begin, end = (min(max(x, self.times[0]), self.times[-1]) for x in (begin, end))
        if end <= begin:
            return 0.0
        inside = (self.times > begin) & (self.times < end)
        times = np.concatenate([[begin], self.times[inside], [end]])
        values = np.interp(times, self.times, self.values)
        return float(np.trapezoid(values, times) / (end - begin))

    def above(self, level: float) -> Float[np.ndarray, "s 2"]:
        """Returns when it is at least at a level."""
        high = self.values >= level
        before = np.flatnonzero(high[1:] != high[:-1])
        low, rise = self.values[before], np.diff(self.values)[before]
        at = self.times[before] + (level - low) / rise * np.diff(self.times)[before]
        ends = [*self.times[:1][high[:1]], *at, *self.times[-1:][high[-1:]]]
        return np.array(ends, float).reshape(-1, 2)


def curves(
    scores: Float[np.ndarray, " n"], spans: Float[np.ndarray, "n 2"], there: Bool[np.ndarray, " n"]
) -> list[Curve]:
    """Returns a class's score by time, a curve for each stretch of windows that were read.

    Args:
      scores: of windows.
      spans: of them, seconds.
      there: which were read.
    """
    made = []
    for first, end in stretches(there):
        centres, values = spans[first:end].mean(axis=1), scores[first:end]
        times = np.concatenate([spans[first : first + 1, 0], centres, spans[end - 1 : end, 1]])
        made.append(Curve(times, np.concatenate([values[:1], values, values[-1:]])))
    return made


def segments(
    scores: Float[np.ndarray, "n K"],
    spans: Float[np.ndarray, "n 2"],
    there: Bool[np.ndarray, " n"],
    thresholds: Sequence[float] | Float[np.ndarray, " K"],
    rules: Rules,
    levels: Sequence[float] = LEVELS,
) -> list[Segment]:
    """Returns what happens, in order of time.

    Args:
      scores: of windows, as smoothed.
      spans: of them, seconds.
      there: which were read.
      thresholds: of the classes.
      rules: how segments are cut.
      levels: at which they are cut, from a class's threshold (0) to a score of 1.
    """
    found = []
    for label, threshold in enumerate(thresholds):
        own = scores[:, label]
        if not (own[there] >= threshold).any():  # as of most classes
            continue
        for curve in curves(own, spans, there):
            found += of_curve(curve, label, float(threshold), rules, levels)
    return sorted(found)


def of_curve(
    curve: Curve, label: int, threshold: float, rules: Rules, levels: Sequence[float] = LEVELS
) -> list[Segment]:
    """Returns the segments of one class; see `segments`."""
    proposed: dict[tuple[float, float], Segment] = {}
    for level in levels:
        cut = curve.above(threshold + level * max(0.0, 1.0 - threshold))
        for begin, end in merged(cut, rules.gap).tolist():
            if end - begin >= max(rules.shortest, 1e-9):
                score = stands_out(curve, begin, end)
                proposed.setdefault((begin, end), Segment(begin, end, label, score))
    return suppressed([*proposed.values()], rules.overlap)


def stands_out(curve: Curve, begin: float, end: float) -> float:
    """Returns the mean score of a segment less that of its flanks, which are 0 where none are."""
    flank = _FLANK * (end - begin)
    before, after = max(begin - flank, curve.times[0]), min(end + flank, curve.times[-1])
    sides = [(begin - before, curve.mean(before, begin)), (after - end, curve.mean(end, after))]
    length = sum(seconds for seconds, _ in sides)
    outer = sum(seconds * mean for seconds, mean in sides) / length if length > 0 else 0.0
    return curve.mean(begin, end) - float(outer)


def merged(spans: Float[np.ndarray, "s 2"], gap: float) -> Float[np.ndarray, "s 2"]:
    """Returns segments in order of time, those that are nearer than a gap as one."""
    if not len(spans):
        return spans
    far = spans[1:, 0] - spans[:-1, 1] >= gap
    begins = spans[np.append(True, far), 0]
    ends = spans[np.append(far, True), 1]
    return np.stack([begins, ends], axis=1)


def suppressed(found: Sequence[Segment], overlap: float) -> list[Segment]:
    """Returns segments of one class, best first, without those that overlap a better one more.

    Args:
      found: of one class.
      overlap: temporal IoU.
    """
    order = sorted(found, key=lambda one: (-one.score, one.begin))
    spans = np.array([one[:2] for one in order], float).reshape(-1, 2)
    kept: list[int] = []
    for i in range(len(order)):
        if not kept or temporal_iou(spans[i : i + 1], spans[kept]).max() <= overlap:
            kept.append(i)
    return [order[i] for i in kept]


def of_windows(
    scores: Float[np.ndarray, "n K"], spans: Float[np.ndarray, "n 2"], there: Bool[np.ndarray, " n"]
) -> list[Segment]:
    """Returns what needs no thought, to compare with: windows that do not overlap, by their best.

    Each is a segment of the class of its highest score, as it is.
    """
    found, end = [], -np.inf
    for span, row, read in zip(spans, scores, there, strict=True):
        if read and span[0] >= end - 1e-6:
            label, end = int(row.argmax()), span[1]
            found.append(Segment(float(span[0]), float(span[1]), label, float(row[label])))
    return found
