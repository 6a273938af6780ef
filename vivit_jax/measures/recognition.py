"""What a recognition evaluation is worth, from the scores and labels of the judged videos.

Definitions are scikit-learn's, so that numbers compare with everyone else's, in plain numpy over
all classes at once. Legend: N judged videos, K classes.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vivit_jax.errors import InputError


class Overall(NamedTuple):
    """How well all classes are recognised: means over them, or over what was decided."""

    precision: float
    recall: float
    f1: float


class PerClass(NamedTuple):
    """How well each class is recognised.

    Attributes:
      precision: share of the videos predicted as the class that are of it.
      recall: share of the videos of the class that are predicted as it; its mean is the mean
        class accuracy.
      f1: harmonic mean of both.
      support: videos of the class.
    """

    precision: Float[np.ndarray, " K"]
    recall: Float[np.ndarray, " K"]
    f1: Float[np.ndarray, " K"]
    support: Int[np.ndarray, " K"]


def by_head(
    scores: Float[np.ndarray, "... K"], label_maps: Sequence[Sequence[str]]
) -> list[Float[np.ndarray, "... k"]]:
    """Returns scores that lie head after head apart.

    Args:
      scores: of all classes.
      label_maps: names of the classes, a map for each head.
    """
    return np.split(scores, np.cumsum([len(names) for names in label_maps])[:-1], axis=-1)


def class_names(label_maps: Sequence[Sequence[str]]) -> list[str]:
    """Returns the names of all classes, head after head; of several as HEAD:NAME."""
    many = len(label_maps) > 1
    return [
        f"{head}:{name}" if many else name
        for head, names in enumerate(label_maps)
        for name in names
    ]


def class_number(option: str, name: str, label_maps: Sequence[Sequence[str]]) -> int:
    """Returns the number of the class that an option names, counted over all heads.

    Args:
      option: such as "--class".
      name: as class_names has it, or without the head where only one has such a class.
      label_maps: names of the classes, a map for each head.

    Raises:
      InputError: no class is called so, or one of several heads; names those that are.
    """
    names = class_names(label_maps)
    bare = [one for of_head in label_maps for one in of_head]
    found = [number for number, one in enumerate(names) if one == name]
    found = found or [number for number, one in enumerate(bare) if one == name]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(names[number] for number in found)
        raise InputError(f"{option} = {name!r} is a class of several heads: give one of {several}.")
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[:5]
    raise InputError(
        f"{option} = {name!r}; none of the {len(names)} classes is called that. "
        f"The nearest: {', '.join(near)}."
    )


def top_k(scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], k: int) -> float:
    """Returns the share of videos whose label is among the k highest scores.

    Of equal scores the lower index comes first, as in argmax. A label whose score is NaN is a
    miss for every k, so that a diverged model does not look perfect. Without videos: NaN.

    Args:
      scores: any scale.
      labels: 0 to K - 1.
      k: at least 1; all classes where it is above K.
    """
    count, classes = scores.shape
    if k < 1:
        raise ValueError(f"k = {k} is below 1.")
    labels = class_indices(labels, count, classes)
    if not count:
        return float("nan")
    own = scores[np.arange(count), labels][:, None]
    before = np.arange(classes) < labels[:, None]
    rank = np.count_nonzero((scores > own) | ((scores == own) & before), axis=1)
    return float(np.mean((rank < k) & ~np.isnan(own[:, 0])))


def highest(scores: Float[np.ndarray, "N K"]) -> Bool[np.ndarray, "N K"]:
    """Returns what is said of each video: its highest score's class; none where a score is NaN."""
    said = np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
    return said & ~np.isnan(scores).any(axis=1, keepdims=True)


def confusion(
    predicted: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"], num_classes: int
) -> Int[np.ndarray, "K K"]:
    """Returns the number of videos of each true label (row) by predicted label (column)."""
    labels = class_indices(labels, len(predicted), num_classes)
    predicted = class_indices(predicted, len(labels), num_classes)
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def confusion_of(
    said: Bool[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]
) -> Int[np.ndarray, "K K"]:
    """Returns the same of what `highest` says, without the videos of which it says nothing."""
    known = said.any(axis=1)
    return confusion(said.argmax(axis=1)[known], labels[known], said.shape[1])


def per_class(confusion: Int[np.ndarray, "K K"]) -> PerClass:
    """Returns precision, recall, F1 and support of each class; 0 where there is nothing to share.

    Args:
      confusion: videos; rows are the true labels.
    """
    return _per_class(np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def per_class_of_many(
    predicted: Bool[np.ndarray, "N K"], targets: Bool[np.ndarray, "N K"]
) -> PerClass:
    """Returns the same where a video has any number of labels."""
    hits = np.count_nonzero(predicted & targets, axis=0)
    return _per_class(hits, targets.sum(axis=0), predicted.sum(axis=0))


def macro(each: PerClass) -> Overall:
    """Returns the means over classes; NaN without a class."""
    if not len(each.support):
        return Overall(np.nan, np.nan, np.nan)
    return Overall(*(float(x.mean()) for x in (each.precision, each.recall, each.f1)))


def micro(predicted: Bool[np.ndarray, "N K"], targets: Bool[np.ndarray, "N K"]) -> Overall:
    """Returns the same over all decisions together, where a video has any number of labels.

    With one label a video all three are the accuracy.
    """
    together = (np.array([np.count_nonzero(x)]) for x in (predicted & targets, targets, predicted))
    return macro(_per_class(*together))


def mean_average_precision(precisions: Float[np.ndarray, " K"]) -> float:
    """Returns the mean over the classes that have a positive video; NaN where none has."""
    known = precisions[np.isfinite(precisions)]
    return float(known.mean()) if len(known) else float("nan")


def average_precision(
    scores: Float[np.ndarray, "N K"], targets: Bool[np.ndarray, "N K"] | Int[np.ndarray, "N K"]
) -> Float[np.ndarray, " K"]:
    """Returns the average precision of each class, NaN for one without a positive video.

    The sum over thresholds of precision times the rise in recall, without interpolation; videos
    of equal score pass the threshold together, so their order does not matter.

    Args:
      scores: any scale; NaN counts as the lowest.
      targets: whether the video is of the class.
    """
    if scores.shape != targets.shape:
        raise ValueError(f"Scores of shape {scores.shape}, but targets of {targets.shape}.")
    ranked = np.where(np.isnan(scores), -np.inf, scores).T
    columns = zip(ranked, targets.T.astype(bool), strict=True)
    return np.array([_average_precision(*column) for column in columns], float)


def class_indices(labels: Int[np.ndarray, " N"], count: int, classes: int) -> Int[np.ndarray, " N"]:
    """Returns labels that are class indices, wide enough to calculate with.

    Raises:
      ValueError: they are too few or too many, or one is no class: -1 would pass as the last.
    """
    if labels.shape != (count,):
        raise ValueError(f"Labels of shape {labels.shape}; expected ({count},).")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"Labels from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}."
        )
    return labels.astype(np.int64)


def _per_class(
    hits: Int[np.ndarray, " K"], support: Int[np.ndarray, " K"], predicted: Int[np.ndarray, " K"]
) -> PerClass:
    """Returns what each class is worth, from numbers of videos."""
    return PerClass(
        precision=_share(hits, predicted),
        recall=_share(hits, support),
        f1=_share(2 * hits, support + predicted),
        support=support,
    )


def _average_precision(scores: Float[np.ndarray, " N"], targets: Bool[np.ndarray, " N"]) -> float:
    """Returns the average precision of one class."""
    order = np.argsort(scores)[::-1]
    scores, hits = scores[order], np.cumsum(targets[order])
    if not hits.size or not hits[-1]:
        return float("nan")
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of each run of equals
    rises = np.diff(hits[last], prepend=0)
    return float(np.sum(rises * hits[last] / (last + 1)) / hits[-1])


def _share(part: Int[np.ndarray, " K"], whole: Int[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Returns part / whole, 0 where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)
