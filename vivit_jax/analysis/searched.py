"""How well an index finds: does a window find, in other videos, windows of its own label?

Every window of a labelled video asks; all windows of its own video are left out. Where a video has
several labels, one that both have is enough; of several heads' all must be alike.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vivit_jax.analysis.index import Index
from vivit_jax.measures import retrieval

RANKS = (1, 5, 10)
_BLOCK = 2**22  # similarities at once


def labels_of(index: Index) -> tuple[list[str], Int[np.ndarray, " V"], Bool[np.ndarray, "L L"]]:
    """Returns the labels of an index, what each of its videos is of, and what counts as the same.

    Returns:
      Names; a number of each video, -1 for none, which those have that are labelled alike; and
      which of these numbers have a label in common.
    """
    several = index.about.get("several", False)
    written = sorted(set(index.labels) - {""})
    each = [set(label.split("|")) if several else {label} for label in written]
    names = sorted(set().union(*each))
    numbers = {label: number for number, label in enumerate(written)}
    of = np.array([numbers.get(label, -1) for label in index.labels])
    alike = [[not one.isdisjoint(other) for other in each] for one in each]
    return names, of, np.array(alike, bool).reshape(len(each), len(each))


def judge(
    rows: Float[np.ndarray, "N D"],
    owner: Int[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    alike: Bool[np.ndarray, "L L"] | None = None,
) -> dict[str, Any]:
    """Returns recall@k, precision@k and mean average precision over all windows.

    Args:
      rows: of length 1.
      owner: the video of each.
      labels: of each.
      alike: which labels are relevant to which; None for each to itself alone.

    Returns:
      Besides them "chance", the precision of any order.
    """
    size = max(1, _BLOCK // len(rows))
    recall: dict[int, list[np.ndarray]] = {k: [] for k in RANKS}
    precision: dict[int, list[np.ndarray]] = {k: [] for k in RANKS}
    means, chance = [], []
    for first in range(0, len(rows), size):
        some = slice(first, first + size)
        scores = rows[some] @ rows.T
        same = labels[some, None] == labels
        relevant = same if alike is None else alike[labels[some]][:, labels]
        left_out = owner[some, None] == owner
        found = retrieval.ranked(scores, relevant, left_out)
        for k in RANKS:
            recall[k].append(retrieval.recall_at(found, k))
            precision[k].append(retrieval.precision_at(found, k))
        means.append(retrieval.average_precision(scores, relevant, left_out))
        chance.append(retrieval.precision_at(found, len(rows)))
    return {
        **{f"recall_at_{k}": _mean(parts) for k, parts in recall.items()},
        **{f"precision_at_{k}": _mean(parts) for k, parts in precision.items()},
        "mean_average_precision": _mean(means),
        "chance": _mean(chance),
    }


def _mean(parts: list[np.ndarray]) -> float | None:
    """Returns the mean of what is defined; None, which is JSON, where nothing is."""
    values = np.concatenate(parts).astype(float)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
