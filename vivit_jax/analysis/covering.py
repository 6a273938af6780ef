"""Which few rows cover all: the ends that a summary of a video comes to.

k_centre: every row is near a chosen one. Greedily taking the row that is farthest from the chosen
makes the largest distance at most twice the smallest possible (Gonzalez 1985); it is started from
each of some rows that are evenly spread, and the best of these and of the evenly spread rows
themselves is taken, which keeps the bound and is never worse than spreading them evenly.

determinantal: the chosen are good and unlike each other: greedily, the determinant of the kernel
quality x similarity x quality of the chosen grows most (Chen, Zhang and Zhou 2018), where a row's
quality is how much it is like all others: a row stands for much or for little.

Distances are Euclidean between rows of length 1. Legend: N rows, D features, k chosen.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

_STARTS = 8  # rows that greedy k-centre is started from
_BLOCK = 2**22  # similarities at once
_LEAST = 1e-6  # of what a determinant can grow by: below, a row is one that is chosen already
_SHARPNESS = 4.0  # how much quality counts


def k_centre(rows: Float[np.ndarray, "N D"], k: int) -> Int[np.ndarray, " k"]:
    """Returns k rows, rising, from which no other is far.

    Args:
      rows: of length 1.
      k: fewer where there are fewer rows, or fewer that differ.
    """
    spread = uniform(rows, k)
    starts = spread[np.unique(np.linspace(0, len(spread) - 1, _STARTS).round().astype(int))]
    choices = [*(_farthest(rows, k, int(start)) for start in starts), spread]
    return np.sort(min(choices, key=lambda chosen: radius(rows, chosen)))


def determinantal(rows: Float[np.ndarray, "N D"], k: int) -> Int[np.ndarray, " k"]:
    """Returns k rows, rising, that are like many others and unlike each other.

    Args:
      rows: of length 1.
      k: fewer where there are fewer rows, or fewer that differ.
    """
    return np.sort(grown(rows, quality(rows), k))


def uniform(rows: Float[np.ndarray, "N D"], k: int) -> Int[np.ndarray, " k"]:
    """Returns k rows that are evenly spread over time: the middle of each k-th part."""
    k = min(k, len(rows))
    return np.unique(((np.arange(k) + 0.5) * len(rows) / k).astype(int))


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "k_centre": k_centre,
    "determinantal": determinantal,
    "uniform": uniform,
}


def radius(rows: Float[np.ndarray, "N D"], chosen: Int[np.ndarray, " k"]) -> float:
    """Returns the distance from a chosen row of the row that is farthest from all: 0 to 2."""
    return float(np.sqrt(max(0.0, float(_to_nearest(rows, chosen).max()))))


def mean_distance(rows: Float[np.ndarray, "N D"], chosen: Int[np.ndarray, " k"]) -> float:
    """Returns the mean distance of the rows from the nearest chosen one."""
    return float(np.sqrt(np.maximum(0, _to_nearest(rows, chosen))).mean())


def quality(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " N"]:
    """Returns how much each row is like all others: 0 to 1, the mean similarity sharpened."""
    mean = rows.mean(axis=0, dtype=np.float64)
    typical = (1 + rows @ mean) / 2
    return np.exp(_SHARPNESS * (typical - typical.max()))


def grown(
    rows: Float[np.ndarray, "N D"], weights: Float[np.ndarray, " N"], k: int
) -> Int[np.ndarray, " k"]:
    """Returns rows in the order in which they make the determinant of their kernel grow most.

    The kernel is w (1 + cos) / 2 w. Its Cholesky factor grows by a row at a time, so that no more
    than N k numbers are held.

    Args:
      rows: of length 1.
      weights: above 0.
      k: of rows.
    """
    count = len(rows)
    factor = np.zeros((min(k, count), count))
    gain = weights.astype(np.float64) ** 2
    least = _LEAST * float(gain.max())
    chosen: list[int] = []
    while len(chosen) < len(factor):
        new = int(gain.argmax())
        if chosen and gain[new] < least:
            break
        kernel = weights * (1 + rows @ rows[new]) / 2 * weights[new]
        step = (kernel - factor[: len(chosen)].T @ factor[: len(chosen), new]) / np.sqrt(gain[new])
        factor[len(chosen)] = step
        gain = gain - step**2
        chosen.append(new)
        gain[chosen] = -np.inf
    return np.array(chosen, int)


def _farthest(rows: np.ndarray, k: int, start: int) -> np.ndarray:
    """Returns rows from `start` on, each the farthest from those before it."""
    chosen = [start]
    nearest = _to_nearest(rows, np.array(chosen))
    while len(chosen) < min(k, len(rows)):
        new = int(nearest.argmax())
        if nearest[new] <= 1e-12:
            break  # the rest are the same as chosen ones
        chosen.append(new)
        nearest = np.minimum(nearest, _to_nearest(rows, np.array([new])))
    return np.array(chosen)


def _to_nearest(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each row from the nearest chosen one: float64 [N]."""
    size = max(1, _BLOCK // len(chosen))
    parts = []
    for first in range(0, len(rows), size):
        some = rows[first : first + size].astype(np.float64)
        parts.append(2 - 2 * (some @ rows[chosen].T.astype(np.float64)).max(axis=1))
    found = np.concatenate(parts)
    found[chosen] = 0.0
    return found
