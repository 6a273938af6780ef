"""In which order a run sees its videos: a permutation an epoch, drawn from (seed, epoch) alone.

A run that went back (see sanity.py) has another order from there on: what is left of that epoch is
the same videos.
"""

import functools

import numpy as np

Orders = tuple[tuple[int, int], ...]  # from which step or position on, and which order of examples


@functools.lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, size: int, order: int = 0) -> np.ndarray:
    """Returns the order of an epoch's examples: a permutation of range(size).

    Args:
      seed: of the run.
      epoch: from 0.
      size: examples that there are.
      order: which of the orders of this seed.
    """
    return np.random.default_rng([seed, epoch, *[order] * (order > 0)]).permutation(size)


@functools.lru_cache(maxsize=2)
def order_within(seed: int, epoch: int, size: int, orders: Orders) -> np.ndarray:
    """Returns the order of an epoch in which, or before which, it may have changed.

    What a new order begins within has every example once all the same.

    Args:
      seed: of the run.
      epoch: from 0.
      size: examples that there are.
      orders: positions, rising, and the order from each on; 0 before the first.
    """
    begin = epoch * size
    before = [order for first, order in orders if first <= begin]
    found = epoch_order(seed, epoch, size, before[-1] if before else 0)
    for first, order in orders:
        if begin < first < begin + size:
            done, new = found[: first - begin], epoch_order(seed, epoch, size, order)
            found = np.concatenate([done, new[~np.isin(new, done)]])
    return found
