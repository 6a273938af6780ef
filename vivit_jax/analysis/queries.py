"""Questions to an index: which moments look like these, and which show this class?"""

import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vivit_jax.analysis import approximate, nearest
from vivit_jax.analysis.index import Index, check_made
from vivit_jax.analysis.lengths import unit
from vivit_jax.analysis.parts import state
from vivit_jax.errors import InputError
from vivit_jax.measures.recognition import class_number
from vivit_jax.observer import Observer
from vivit_jax.watching import Lost, Watcher

LARGE = 1_000_000  # windows, beyond which likeness is searched approximately


class Hit(NamedTuple):
    """A moment that was found.

    Attributes:
      video: its path.
      begin: seconds from the first frame.
      end: likewise.
      score: cosine similarity, or the probability of the class.
      label: of the video; "" where none is known.
      state: of the video's file; see parts.state.
    """

    video: str
    begin: float
    end: float
    score: float
    label: str
    state: str


def alike(
    index: Index,
    vectors: Float[np.ndarray, "q D"],
    top: int,
    *,
    moments: bool = False,
    exact: bool = False,
    left_out: Bool[np.ndarray, " N"] | None = None,
) -> list[Hit]:
    """Returns the windows that look most like one of the given.

    Args:
      index: where they are searched.
      vectors: features of the question's windows, any length.
      top: how many, at most.
      moments: all windows of a video, in place of its best alone.
      exact: also of a large index.
      left_out: windows that are no answer.

    Raises:
      InputError: an approximate search is due, and its library is not there.
    """
    asked = unit(vectors)[0].astype(np.float32)
    wanted = None if left_out is None else ~left_out
    if len(index) > LARGE and not exact:
        found = approximate.best(index, asked, top, moments, wanted)
    else:
        # Repeats change no maximum.
        padded = np.resize(asked, (1, _power(len(asked)), asked.shape[1]))
        top = min(top, len(index))
        blocks = index.blocks(wanted)
        found = nearest.best(blocks, nearest.likeness, padded, top, grouped=not moments)
    return _hits(index, found.rows[0], found.scores[0])


def check_model(index: Index, observer: Observer) -> None:
    """Refuses a model that did not make an index.

    Raises:
      InputError: it did not; names both.
    """
    now = {"checkpoint": observer.saved.where, "fingerprint": observer.fingerprint}
    check_made(index.folder, index.about, now)


def seen(
    observer: Observer, index: Index, path: str, part: tuple[float, float], workers: int
) -> tuple[np.ndarray, np.ndarray, list[Lost]]:
    """Returns what the windows of a part of a video are: features, spans, and what was lost.

    Args:
      observer: the model of the index.
      index: whose windows are like these.
      path: of the video.
      part: seconds from its first frame.
      workers: decoding processes; 0 for one a core.

    Raises:
      InputError: nothing of it can be read.
    """
    like = index.about["windows"]
    rate, geometry = observer.rate(like["window"]), observer.geometry(like["crops"])
    with Watcher(observer.frames, rate, geometry, like["hop"], workers) as watcher:
        watched = watcher.watch(path, observer.summaries, part)
    return watched.rows[watched.there], watched.spans[watched.there], watched.lost


def itself(index: Index, path: str, begin: float, end: float) -> Bool[np.ndarray, " N"]:
    """Returns which windows of an index show what a question shows.

    Args:
      index: that is asked.
      path: of the question's video, by whatever links.
      begin: seconds from its first frame, not rounded.
      end: likewise.
    """
    file = os.path.realpath(path)
    own = [n for n, entry in enumerate(index.entries) if os.path.realpath(entry.id) == file]
    during = (index.spans[:, 0] < end - 1e-6) & (index.spans[:, 1] > begin + 1e-6)
    return np.isin(index.owner, own) & during


def of_class(index: Index, direction: nearest.Direction, top: int, moments: bool) -> list[Hit]:
    """Returns the windows that most probably show a class; `direction` is from `direction_of`."""
    found = nearest.best(
        index.blocks(), nearest.log_odds, direction, min(top, len(index)), grouped=not moments
    )
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-found.scores[0].astype(np.float64)))
    return _hits(index, found.rows[0], probability)


def direction_of(observer: Observer, name: str) -> nearest.Direction:
    """Returns what tells a class from features.

    Args:
      observer: the model that made them.
      name: of the class; see class_number.

    Raises:
      InputError: the model has no linear head on its summaries, or no such class.
    """
    observer.check_predicts()
    objective, params = observer.objective
    where, options = observer.saved.where, observer.experiment.objective
    if options.get("pooling", "summary") != "summary" or "head" not in params:
        raise InputError(
            f"{where} classifies by objective.pooling = {options.get('pooling')!r}, so that its "
            "classes are no directions of the features that an index holds: ask by --video."
        )
    number = class_number("--class", name, observer.label_maps)
    bounds = np.cumsum([0, *map(len, observer.label_maps)])  # of the heads
    head = int(np.searchsorted(bounds, number, side="right")) - 1
    own = slice(int(bounds[head]), int(bounds[head + 1]))
    kernel, bias = (np.asarray(params["head"][part], np.float32) for part in ("kernel", "bias"))
    alone = np.bool_(observer.experiment.data.labels == "multi")
    return nearest.Direction(kernel[:, own], bias[own], np.int32(number - own.start), alone)


def _hits(index: Index, rows: np.ndarray, scores: np.ndarray) -> list[Hit]:
    """Returns what rows are, without those that are none."""
    labels = index.labels
    found = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        if row >= 0:
            video, (begin, end) = int(index.owner[row]), index.spans[row].tolist()
            entry = index.entries[video]
            told = round(score, 6), labels[video], state(entry)
            found.append(Hit(entry.id, begin, end, *told))
    return found


def _power(count: int) -> int:
    """Returns the next power of two, so that few programs serve any number of windows."""
    return 1 << max(0, count - 1).bit_length()
