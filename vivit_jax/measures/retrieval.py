"""What a search is worth: is what it finds first of the query's kind?

Each query ranks candidates by score. What is left out of a query's candidates, such as itself and
all else of its own video, has no rank. Legend: Q queries, N candidates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vivit_jax.measures import recognition


class Ranked(NamedTuple):
    """The candidates of each query in order.

    Attributes:
      hits: whether the candidate of each rank is relevant; False where a query has no more.
      candidates: how many each query has.
    """

    hits: Bool[np.ndarray, "Q N"]
    candidates: Int[np.ndarray, " Q"]


def ranked(
    scores: Float[np.ndarray, "Q N"],
    relevant: Bool[np.ndarray, "Q N"],
    left_out: Bool[np.ndarray, "Q N"],
) -> Ranked:
    """Returns which ranks are hits.

    Of equal scores the lower index comes first. What scores NaN comes last and is never a hit, so
    that a diverged model does not look perfect.

    Args:
      scores: any scale.
      relevant: whether the candidate is of the query's kind.
      left_out: whether it is none of the query's candidates.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.lexsort((-known, left_out), axis=1)
    hits = relevant & ~left_out & ~np.isnan(scores)
    return Ranked(np.take_along_axis(hits, order, axis=1), np.sum(~left_out, axis=1))


def recall_at(found: Ranked, k: int) -> Bool[np.ndarray, " Q"]:
    """Returns which queries have a relevant candidate among their first k; the mean is recall@k.

    This is how video retrieval counts, and evals/retrieval.py; a query without any relevant
    candidate is a miss.
    """
    return np.asarray(found.hits[:, :k].any(axis=1))


def precision_at(found: Ranked, k: int) -> Float[np.ndarray, " Q"]:
    """Returns the share of each query's first k that are relevant; NaN without a candidate.

    Of fewer candidates than k, it is the share of all.
    """
    shown = np.minimum(found.candidates, k)
    hits = found.hits[:, :k].sum(axis=1)
    return np.where(shown > 0, hits / np.maximum(shown, 1), np.nan)


def average_precision(
    scores: Float[np.ndarray, "Q N"],
    relevant: Bool[np.ndarray, "Q N"],
    left_out: Bool[np.ndarray, "Q N"],
) -> Float[np.ndarray, " Q"]:
    """Returns the average precision of each query, NaN for one without a relevant candidate.

    The nanmean is the mean average precision. Candidates of equal score pass together; see
    recognition.average_precision.
    """
    rows = zip(scores, relevant, ~left_out, strict=True)
    columns = ((score[kept][:, None], hit[kept][:, None]) for score, hit, kept in rows)
    return np.array([recognition.average_precision(*column)[0] for column in columns], float)
