"""Thresholds of classes, learnt on videos whose truth is known, and what found segments are worth.

A class's threshold is where the F1 of its segments is highest, the mean over the temporal IoUs of
measures/localisation.py: unlike average precision it punishes what is found too much, however low
its score. Of thresholds that are equally good it is the one in the middle.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vivit_jax.analysis import segments
from vivit_jax.analysis.scored import Scored
from vivit_jax.analysis.segments import Segment
from vivit_jax.analysis.truth import unknown_class
from vivit_jax.errors import InputError
from vivit_jax.files import replacing
from vivit_jax.measures.localisation import (
    THRESHOLDS,
    Segments,
    average_precisions,
    matches,
)

CANDIDATES = tuple(np.round(np.arange(0.05, 0.951, 0.025), 3).tolist())
Spans = Sequence[tuple[float, float, int]]  # begin, end, class


class Learnt(NamedTuple):
    """A class's threshold.

    Attributes:
      threshold: of its score.
      f1: that its segments have there.
      segments: true ones that it was learnt on.
    """

    threshold: float
    f1: float
    segments: int


def together(of_videos: Iterable[Iterable[Sequence[Any]]]) -> Segments:
    """Returns the segments of many videos, (begin, end, class) or with a score each, as columns."""
    rows = [
        (number, one[2], one[0], one[1], one[3] if len(one) > 3 else 1.0)
        for number, of_video in enumerate(of_videos)
        for one in of_video
    ]
    columns = np.array(rows, float).reshape(-1, 5)
    video, label = columns[:, :2].astype(int).T
    return Segments(video, label, columns[:, 2:4], columns[:, 4])


def learn(videos: Sequence[Scored], truth: Sequence[Spans]) -> dict[int, Learnt]:
    """Returns the threshold of each class that truly happens.

    Args:
      videos: their scores.
      truth: of each.
    """
    true = together(truth)
    return {
        int(label): _learn_class(videos, int(label), true.of_class(label))
        for label in np.unique(true.label)
    }


def _learn_class(videos: Sequence[Scored], label: int, true: Segments) -> Learnt:
    """Returns the best threshold of one class."""
    of_videos = [segments.curves(x.scores[:, label], x.spans, x.there) for x in videos]
    f1 = []
    for threshold in CANDIDATES:
        found = together(
            [s for curve in own for s in segments.of_curve(curve, label, threshold, video.rules)]
            for own, video in zip(of_videos, videos, strict=True)
        )
        right = matches(found, true, THRESHOLDS).sum(axis=1)
        f1.append(float((2 * right / (len(found.video) + len(true.video))).mean()))
    best = np.flatnonzero(np.isclose(f1, max(f1)))
    middle = int(best[len(best) // 2])
    return Learnt(CANDIDATES[middle], f1[middle], len(true.video))


def write_thresholds(
    file: pathlib.Path,
    learnt: Mapping[int, Learnt],
    classes: Sequence[str],
    about: Mapping[str, Any],
) -> None:
    """Writes thresholds as JSON.

    Args:
      file: its path.
      learnt: by class number.
      classes: their names.
      about: what they hold for: of the model and of how its scores are made.
    """
    each = {classes[label]: one._asdict() for label, one in learnt.items()}
    with replacing(file) as new:
        new.write_text(json.dumps({**about, "thresholds": each}, indent=2) + "\n", "utf-8")


def read_thresholds(
    file: pathlib.Path, classes: Sequence[str], about: Mapping[str, Any], default: float
) -> Float[np.ndarray, " K"]:
    """Returns the thresholds of all classes.

    Args:
      file: as `write_thresholds` has written it.
      classes: of the model.
      about: what they must hold for.
      default: of classes that were not learnt.

    Raises:
      InputError: it cannot be read, or holds for another model or another way of making scores.
    """
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        each = {name: float(one["threshold"]) for name, one in read["thresholds"].items()}
    except OSError as error:
        raise InputError(f"--thresholds={file} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"--thresholds={file} holds no thresholds ({type(error).__name__}: {error}); expected "
            "what --learn has written."
        ) from error
    changed = [
        f"{k} was {read.get(k)!r} and is {v!r}" for k, v in about.items() if read.get(k) != v
    ]
    if changed:
        raise InputError(
            f"--thresholds={file} was learnt otherwise: {'; '.join(changed)}. Learn it again, or "
            "give what it was learnt with."
        )
    made = np.full(len(classes), default)
    for name, threshold in each.items():
        if name not in classes:
            raise InputError(f"--thresholds={file}: {unknown_class(name, classes)}")
        made[classes.index(name)] = threshold
    return made


def evaluation(
    found: Sequence[Sequence[Segment]], truth: Sequence[Spans], classes: Sequence[str]
) -> dict[str, Any]:
    """Returns the mean average precision of what was found: "mean", by temporal IoU, by class.

    Args:
      found: in each video.
      truth: of each.
      classes: their names.
    """
    made = average_precisions(together(found), together(truth), len(classes))
    known = ~np.isnan(made[0])
    if not known.any():
        return {"mean": None, "by_overlap": {}, "by_class": {}}
    by_class = dict(zip(np.flatnonzero(known), made[:, known].mean(axis=0), strict=True))
    means = made[:, known].mean(axis=1)
    return {
        "mean": round(float(means.mean()), 6),
        "by_overlap": {str(t): round(float(x), 6) for t, x in zip(THRESHOLDS, means, strict=True)},
        "by_class": {classes[int(i)]: round(float(x), 6) for i, x in by_class.items()},
    }
