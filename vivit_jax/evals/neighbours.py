"""Cosine similarities of many to many, a block at a time, on the device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_BLOCK = 2**26  # similarities at once: 256 MB
_FLOOR = 1e-5


def by_similarity(
    queries: Float[np.ndarray, "Q D"],
    bank: Float[np.ndarray, "N D"],
    judge: Callable[..., Any],
    *beside: np.ndarray,
) -> Any:
    """Returns what `judge` makes of the queries, as a tree of arrays [Q ...].

    Args:
      queries: to be compared with the bank.
      bank: all of it, for each.
      judge: see `Comparing`.
      beside: arrays [Q ...] of what else is known of each query.
    """
    return Comparing(bank, judge, len(queries))(queries, *beside)


class Comparing:
    """Compares any number of queries with one bank, which stays on the device."""

    def __init__(self, bank: Float[np.ndarray, "N D"], judge: Callable[..., Any], most: int):
        """Takes the bank there.

        Args:
          bank: all of it, for each query.
          judge: a function of the cosine similarities [q N] of a block of queries, and of the
            block's part of what is beside them; it returns arrays [q ...], and is compiled once.
          most: queries of a block.
        """
        self._size = max(1, min(most, _BLOCK // len(bank)))
        self._bank = jnp.asarray(bank, jnp.float32)

        @jax.jit
        def block(queries: Array, bank: Array, *beside: Array) -> Any:
            similarity = jnp.matmul(unit(queries), unit(bank).T, precision="highest")
            return judge(similarity, *beside)

        self._block = block

    def __call__(self, queries: Float[np.ndarray, "Q D"], *beside: np.ndarray) -> Any:
        """Returns what the judge makes of the queries, as a tree of arrays [Q ...].

        Args:
          queries: at least one.
          beside: arrays [Q ...] of what else is known of each query.
        """
        parts = []
        for start in range(0, len(queries), self._size):
            rows = [x[start : start + self._size] for x in (queries, *beside)]
            missing = self._size - len(rows[0])  # filled up, so that one block is compiled
            rows = [np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) for x in rows]
            found = self._block(jnp.asarray(rows[0], jnp.float32), self._bank, *rows[1:])
            kept = self._size - missing
            parts.append(jax.tree.map(lambda x, kept=kept: np.asarray(x)[:kept], found))
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def unit(features: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Returns features of length 1."""
    length = jnp.linalg.norm(features, axis=1, keepdims=True)
    return features / jnp.maximum(length, 1e-12)


def compared(
    queries: Float[np.ndarray, "Q D"], bank: Float[np.ndarray, "N D"], whiten: bool
) -> tuple[Float[np.ndarray, "Q D"], Float[np.ndarray, "N D"]]:
    """Returns features as they are compared: as they are, or whitened by the bank.

    Whitened, every direction in which the bank varies counts the same, down to one that varies by
    _FLOOR of the largest: where a few directions hold most of the variance (light and colours, in
    what predicts pixels), they alone would decide who is near.
    """
    if not whiten:
        return queries, bank
    mean, turn = bank.mean(axis=0, keepdims=True, dtype=np.float64), whitening(bank)
    return (queries - mean) @ turn, (bank - mean) @ turn


def whitening(bank: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "D D"]:
    """Returns what features are multiplied by to be whitened by the bank; see `compared`."""
    mean = bank.mean(axis=0, keepdims=True, dtype=np.float64)
    variances, directions = np.linalg.eigh(np.cov(bank - mean, rowvar=False))
    # Directions without variance stay without.
    scale = 1 / np.sqrt(np.maximum(variances, 0) + _FLOOR * max(variances[-1], 1e-30))
    return directions * scale[None]
