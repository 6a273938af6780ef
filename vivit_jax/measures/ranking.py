"""What a ranking is worth: whether what is wanted comes before the rest.

Definitions are scikit-learn's, in plain numpy. Legend: N scored things.
"""

import numpy as np
from jaxtyping import Bool, Float


def roc_auc(scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]) -> float:
    """Returns the area under the ROC curve: how often a positive one scores above a negative one.

    Pairs of equal score count half. NaN where there are no two kinds.

    Args:
      scores: higher means more likely positive; NaN counts as the lowest.
      positive: what is true.
    """
    if scores.shape != positive.shape:
        raise ValueError(f"Scores of shape {scores.shape}, but {positive.shape} are told.")
    known = np.where(np.isnan(scores), -np.inf, scores)
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return float("nan")
    _, place, times = np.unique(known, return_inverse=True, return_counts=True)
    last = np.cumsum(times)  # of the ranks that equal scores share
    ranks = (last - (times - 1) / 2)[place]
    above = ranks[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))
