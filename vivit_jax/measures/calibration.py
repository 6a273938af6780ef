"""Whether scores are what they say: of the videos scored 0.8, are 8 in 10 right?

The expected calibration error is that of Guo et al. 2017, "On Calibration of Modern Neural
Networks", section 3: videos are put into bins of equal width by their confidence, the highest
probability, and the error is the mean distance of a bin's accuracy from its mean confidence, each
bin by its share of the videos. Temperature scaling (section 4.2) divides logits by one number T.
Scores here are probabilities, means over views, so their logarithms are the logits:
softmax(log p / T) is p ** (1 / T) over its sum.

Legend: N judged videos, K classes, M bins.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vivit_jax.measures.recognition import class_indices

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures; where all videos are right, the best would be 0
_FOLDS = 2
_STEPS = 60  # of Newton's method, guarded; it takes about 4
_NEAR = 1e-3  # relative: a step of Newton's this small leaves its square
_LEAST = float(np.finfo(np.float32).tiny)  # a probability whose logarithm is taken


class Reliability(NamedTuple):
    """What a reliability diagram shows.

    Attributes:
      edges: of the bins, from 0 to 1; a bin holds its upper edge.
      videos: in each bin.
      confidence: mean of each bin; NaN where it is empty.
      accuracy: likewise.
    """

    edges: Float[np.ndarray, " M+1"]
    videos: Int[np.ndarray, " M"]
    confidence: Float[np.ndarray, " M"]
    accuracy: Float[np.ndarray, " M"]

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1; NaN without a video."""
        if not self.videos.sum():
            return float("nan")
        there = self.videos > 0
        distance = np.abs(self.accuracy - self.confidence)[there]
        return float(np.average(distance, weights=self.videos[there]))


def reliability(
    scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], bins: int = BINS
) -> Reliability:
    """Returns how often videos of each confidence are right.

    A video without a highest score, of a diverged model, is in no bin.

    Args:
      scores: probabilities.
      labels: 0 to K - 1.
      bins: M, of equal width.
    """
    labels = class_indices(labels, *scores.shape)
    edges = np.linspace(0, 1, bins + 1)
    known = ~np.isnan(scores).any(axis=1)
    scores, labels = scores[known], labels[known]
    confidence = scores.max(axis=1, initial=0).astype(np.float64)
    right = scores.argmax(axis=1) == labels
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    videos = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(place, values, minlength=bins) for values in (confidence, right))
        return Reliability(edges, videos, *(of_bin / videos for of_bin in sums))


def expected_error(
    scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], bins: int = BINS
) -> float:
    """Returns the expected calibration error: 0 to 1, NaN without a video or with NaN scores."""
    if np.isnan(scores).any():
        return float("nan")
    return reliability(scores, labels, bins).error


def scaled(scores: Float[np.ndarray, "N K"], temperature: float) -> Float[np.ndarray, "N K"]:
    """Returns probabilities at a temperature: above 1 they are nearer to one another."""
    return _softmax(_logits(scores) / temperature)


def fit_temperature(scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> float:
    """Returns the temperature at which the labels are the likeliest, COLDEST to HOTTEST.

    The negative log-likelihood is convex in b = 1 / T: its slope, the mean of (expected logit -
    logit of the label), rises with b. So the root is found by Newton's method, inside a bracket
    that shrinks with every step and is halved where a step would leave it.

    Args:
      scores: probabilities.
      labels: 0 to K - 1.
    """
    labels = class_indices(labels, *scores.shape)
    if not len(scores) or np.isnan(scores).any():
        return float("nan")
    logits = _logits(scores)
    own = float(np.take_along_axis(logits, labels[:, None], axis=1).mean())
    low, high, b = 1 / HOTTEST, 1 / COLDEST, 1.0
    for _ in range(_STEPS):
        shares = _softmax(logits * b)
        expected = np.einsum("nk,nk->n", shares, logits)
        slope = expected.mean() - own
        bend = np.einsum("nk,nk,nk->", shares, logits, logits) / len(logits)
        bend -= np.square(expected).mean()
        low, high = (b, high) if slope < 0 else (low, b)
        step = b - slope / bend if bend > 0 else np.inf
        after = step if low < step < high else (low + high) / 2
        near = abs(after - b) <= _NEAR * b
        b = after
        if near:
            break
    return float(1 / b)


def cross_scaled(
    scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], folds: int = _FOLDS
) -> Float[np.ndarray, "N K"]:
    """Returns scores, each at the temperature that suits the videos of the other folds.

    So no video has a part in the temperature that it is judged at. Every `folds`-th video is of one
    fold, for lists are often sorted by class; two suffice for one number, and cost the least.
    """
    if len(scores) < folds:
        return np.full(scores.shape, np.nan)
    fold = np.arange(len(scores)) % folds
    made = np.empty(scores.shape)
    for one in range(folds):
        there = fold == one
        made[there] = scaled(scores[there], fit_temperature(scores[~there], labels[~there]))
    return made


def _logits(scores: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """Returns logarithms, of which none is infinite; the highest of a video is 0."""
    logits = np.log(np.maximum(scores, _LEAST, dtype=np.float64))
    return logits - logits.max(axis=1, keepdims=True)


def _softmax(logits: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """Returns shares of logits whose highest of a video is 0."""
    shares = np.exp(logits)
    return shares / shares.sum(axis=1, keepdims=True)
