"""How well an index finds: does a window find, in other videos, windows of its own label?

Every window of a labelled video asks; all windows of its own video are left out.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vivit_jax.measures import retrieval

RANKS = (1, 5, 10)
_BLOCK = 2**22  # similarities at once


def judge(
    rows: Float[np.ndarray, "N D"], owner: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"]
) -> dict[str, Any]:
    """Returns recall@k, precision@k and mean average precision over all windows.

    Args:
      rows: of length 1.
      owner: the video of each.
      labels: of each.

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
        relevant = labels[some, None] == labels
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
