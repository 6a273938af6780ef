"""What found segments of time are worth: temporal IoU, and average precision by it.

The definition is ActivityNet's (Caba Heilbron et al. 2015, and its evaluation code): of a class,
segments of all videos are gone through by falling score; each takes the true segment of its video
that it overlaps most of those nobody has taken, and is right if their IoU reaches the threshold.
Average precision is the area under the precision-recall curve with precision interpolated, at every
recall the highest that any recall at least as high has. THUMOS's own code leaves the interpolation
out and so gives slightly less. Of equal scores the first given is the first gone through.

Legend: P found segments, G true ones, H thresholds.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)  # THUMOS's


class Segments(NamedTuple):
    """Segments of many videos.

    Attributes:
      video: whose, a number each.
      label: of which class, a number each.
      span: begin and end, seconds.
      score: higher ones are surer; of true segments it is not read.
    """

    video: Int[np.ndarray, " P"]
    label: Int[np.ndarray, " P"]
    span: Float[np.ndarray, "P 2"]
    score: Float[np.ndarray, " P"]

    def of_class(self, label: int) -> "Segments":
        """Returns those of a class."""
        own = self.label == label
        return Segments(*(column[own] for column in self))


def temporal_iou(
    some: Float[np.ndarray, "P 2"], others: Float[np.ndarray, "G 2"]
) -> Float[np.ndarray, "P G"]:
    """Returns the length that two segments share over the length that they cover together.

    Args:
      some: begin and end.
      others: likewise.
    """
    begins = np.maximum(some[:, None, 0], others[None, :, 0])
    ends = np.minimum(some[:, None, 1], others[None, :, 1])
    shared = np.maximum(ends - begins, 0.0)
    lengths = (some[:, 1] - some[:, 0])[:, None] + (others[:, 1] - others[:, 0])[None]
    return shared / np.maximum(lengths - shared, 1e-12)


def matches(
    found: Segments, truth: Segments, thresholds: tuple[float, ...]
) -> Bool[np.ndarray, "H P"]:
    """Returns which found segments of one class are right at each threshold, by falling score.

    Args:
      found: of one class.
      truth: likewise.
      thresholds: of the temporal IoU.
    """
    order = np.argsort(-found.score, kind="stable")
    right = np.zeros((len(thresholds), len(order)), bool)
    taken = np.zeros((len(thresholds), len(truth.video)), bool)
    of_video = {int(video): np.flatnonzero(truth.video == video) for video in set(truth.video)}
    for rank, number in enumerate(order):
        own = of_video.get(int(found.video[number]))
        if own is None:
            continue
        shares = temporal_iou(found.span[number : number + 1], truth.span[own])[0]
        best_first = np.argsort(-shares, kind="stable")
        for row, threshold in enumerate(thresholds):
            for place in best_first[shares[best_first] >= threshold]:
                if not taken[row, own[place]]:
                    taken[row, own[place]] = right[row, rank] = True
                    break
    return right


def average_precision(right: Bool[np.ndarray, " P"], count: int) -> float:
    """Returns the area under the interpolated precision-recall curve; NaN without true segments.

    Args:
      right: whether each found one is, by falling score.
      count: of true ones.
    """
    if not count:
        return float("nan")
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float(interpolated[right].sum() / count)


def average_precisions(
    found: Segments,
    truth: Segments,
    num_classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Float[np.ndarray, "H K"]:
    """Returns the average precision of each class at each threshold, NaN for one without truth.

    The nanmean over classes is the mean average precision at a threshold.

    Args:
      found: of all classes and videos.
      truth: likewise.
      num_classes: K.
      thresholds: of the temporal IoU.
    """
    made = np.full((len(thresholds), num_classes), np.nan)
    for label in range(num_classes):
        own = truth.of_class(label)
        if len(own.video):
            rights = matches(found.of_class(label), own, thresholds)
            made[:, label] = [average_precision(right, len(own.video)) for right in rights]
    return made
