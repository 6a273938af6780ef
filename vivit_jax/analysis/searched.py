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


def labels_of(index: Index) -> tuple[list[str], Bool[np.ndarray, "V L"]]:
    """Returns the labels of an index, and which each of its videos has."""
    several = index.about.get("several", False)
    each = [x.split("|") if several else [x] for x in index.labels]
    names = sorted({label for labels in each for label in labels if label})
    return names, np.array([[name in labels for name in names] for labels in each], bool)


def judge(
    rows: Float[np.ndarray, "N D"], owner: Int[np.ndarray, " N"], labels: Bool[np.ndarray, "V L"]
) -> dict[str, Any]:
    """Returns recall@k, precision@k and mean average precision over all windows.

    Args:
      rows: of length 1.
      owner: the video of each.
      labels: which each video has.

    Returns:
      Besides them "chance", the precision of any order.
    """
    size = max(1, _BLOCK // len(rows))
    recall: dict[int, list[np.ndarray]] = {k: [] for k in RANKS}
    precision: dict[int, list[np.ndarray]] = {k: [] for k in RANKS}
    means, chance, has = [], [], labels.astype(np.float32)
    for first in range(0, len(rows), size):
        some = slice(first, first + size)
        scores = rows[some] @ rows.T
        relevant = (has[owner[some]] @ has.T > 0)[:, owner]
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
