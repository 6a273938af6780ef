"""The scores of the newest evaluation of a run, and how sure what is made of them is.

Legend: N judged videos, K classes.
"""

import functools
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vivit_jax.measures import bootstrap, recognition
from vivit_jax.measures.bootstrap import Interval
from vivit_jax.page.runs import Run

_CELLS = 2_000_000_000  # videos times classes times draws of a mean over classes
_RANKED = 400_000_000  # likewise, of one over ranks, which take longer
_LEAST = 100  # draws below which an interval says nothing


class Head(NamedTuple):
    """What was said of the videos by one head, and what is true.

    Attributes:
      names: of the classes.
      scores: float [N K], probabilities.
      targets: bool [N K], which classes a video is of.
      many: whether a video has any number of labels; else it has one.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    targets: np.ndarray
    many: bool

    @property
    def labels(self) -> np.ndarray:
        """The label of each video, int [N], where it has one."""
        return self.targets.argmax(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """What is said of each video: bool [N K]."""
        if self.many:
            return self.scores > 0.5
        return recognition.highest(self.scores)

    @property
    def confusion(self) -> np.ndarray:
        """Videos of each true label (row) by predicted label (column), where each has one."""
        return recognition.confusion_of(self.predicted, self.labels)


class Judged(NamedTuple):
    """Scores of videos.

    Attributes:
      ids: of the videos.
      heads: what each head said.
    """

    ids: list[str]
    heads: list[Head]

    @property
    def costs(self) -> np.ndarray:
        """How wrong each video is, [N]: minus the log of the probability given to what is true."""
        total = np.zeros(len(self.ids))
        for head in self.heads:
            shares = np.where(head.targets, head.scores, 1 - head.scores)
            logs = np.log(np.maximum(shares.astype(np.float64), 1e-12))
            if not head.many:
                logs = np.where(head.targets, logs, 0)
            total -= np.nan_to_num(logs, nan=np.log(1e-12)).sum(axis=1)
        return total


def read_judged(run: Run) -> Judged | None:
    """Returns the scores of a run's newest evaluation; None where it wrote none.

    What is there and cannot be used goes to the run's problems.
    """
    folder = run.evaluation
    file = folder / "scores.npz" if folder else None
    if file is None or not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            ids, labels, scores = (arrays[name] for name in ("id", "label", "score"))
        maps = run.label_maps or (tuple(map(str, range(scores.shape[1]))),)
        many = run.option("data", "labels") == "multi"
        return Judged([str(x) for x in ids], _heads(maps, labels, scores, many))
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        run.problems.append(f"{file} cannot be used: {str(error).rstrip('.')}.")
        return None


def _heads(
    maps: tuple[tuple[str, ...], ...], labels: np.ndarray, scores: np.ndarray, many: bool
) -> list[Head]:
    """Returns the heads of what scores.npz holds, where a video may have `many` labels or not.

    Raises:
      ValueError: it does not fit the classes.
    """
    classes = sum(map(len, maps))
    if scores.shape[1] != classes or len(labels) != len(scores):
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} of {classes} classes")
    labels = labels.reshape(len(scores), -1)
    if many:
        return [Head(maps[0], scores, labels > 0.5, True)]
    parts = recognition.by_head(scores, maps)
    heads = []
    for i, (names, part) in enumerate(zip(maps, parts, strict=True)):
        own = recognition.class_indices(labels[:, i], *part.shape)
        heads.append(Head(names, part, np.eye(len(names), dtype=bool)[own], False))
    return heads


def intervals(judged: Judged) -> dict[str, Interval]:
    """Returns the 95 % bootstrap intervals of results by their names in results.jsonl."""
    several, found = len(judged.heads) > 1, {}
    for i, head in enumerate(judged.heads):
        of_head = _intervals(head)
        found |= {f"{name}_head_{i}" if several else name: x for name, x in of_head.items()}
    if several:
        right = [(head.predicted & head.targets).any(axis=1) for head in judged.heads]
        found["top1"] = bootstrap.of_share(np.all(right, axis=0))
    return found


def _intervals(head: Head) -> dict[str, Interval]:
    """Returns the intervals of one head's results."""
    count, classes = head.scores.shape
    found = {}
    if not head.many:
        for k in (1, 5):
            found[f"top{k}"] = bootstrap.of_share(_among(head, k))
    if np.isnan(head.scores).any():
        return found
    measures = {
        name: (one, _CELLS)
        for name, one in bootstrap.macro_of(head.predicted, head.targets).items()
    }
    if head.many:
        measures["mean_average_precision"] = (_mean_average_precision(head), _RANKED)
    for name, (measure, cells) in measures.items():
        draws = min(bootstrap.DRAWS, cells // max(1, count * classes))
        if draws >= _LEAST:
            found[name] = bootstrap.interval(measure, count, draws=draws)
    return found


def _among(head: Head, k: int) -> np.ndarray:
    """Returns which videos have their label among the k highest scores; as recognition.top_k."""
    one = functools.partial(recognition.top_k, k=k)
    rows = zip(head.scores, head.labels, strict=True)
    return np.array([one(row[None], label[None]) == 1 for row, label in rows], bool)


def _mean_average_precision(head: Head) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the mean average precision as a measure of how often each video counts."""
    columns = []
    for scores, targets in zip(head.scores.T, head.targets.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        last = np.append(np.diff(scores[order]) != 0, True)  # of each run of equal scores
        columns.append((order, last, targets[order]))

    def measure(counts: np.ndarray) -> np.ndarray:
        found = np.stack([_average_precision(counts[:, o], at, t) for o, at, t in columns])
        known = np.isfinite(found)
        return np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)

    return measure


def _average_precision(counts: np.ndarray, last: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the average precision of a class in each draw, NaN without a positive video.

    Args:
      counts: how often each video counts, [R N], the highest score first.
      last: whether a video ends a run of equal scores.
      targets: whether it is of the class.
    """
    seen = counts.cumsum(axis=1)[:, last]
    hits = (counts * targets).cumsum(axis=1)[:, last]
    rises = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rises * hits / np.maximum(seen, 1)).sum(axis=1) / hits[:, -1]
