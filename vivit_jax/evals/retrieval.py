"""Retrieval: does a held-out video find training videos of its class?

Each held-out video ranks all training videos by cosine similarity. Recall at k is the share of
those that have one of their class among the first k; the mean average precision takes the whole
ranking into account. A video whose class has no training video finds none (it is a miss for every
k, and has no average precision).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vivit_jax import config
from vivit_jax.evals.frozen import Encoded
from vivit_jax.evals.neighbours import by_similarity, compared

RANKS = (1, 5, 10)
_NEVER = np.iinfo(np.int32).max  # a rank
RESULTS = (*(f"retrieval_recall_at_{k}" for k in RANKS), "retrieval_mean_average_precision")


def judge(
    known: Encoded, held_out: Encoded, classes: int, options: config.Probe, seed: int
) -> dict[str, float]:
    """Returns how well `held_out` find their like among `known`; nothing is drawn or chosen."""
    del classes, seed
    queries, bank = compared(held_out.features, known.features, options.whiten)
    first, precision = ranked(queries, held_out.labels, bank, known.labels)
    defined = precision[np.isfinite(precision)]
    means = [*((first < k).mean() for k in RANKS), defined.mean() if len(defined) else np.nan]
    return {name: float(value) for name, value in zip(RESULTS, means, strict=True)}


def ranked(
    queries: Float[np.ndarray, "Q D"],
    labels: Int[np.ndarray, " Q"],
    bank: Float[np.ndarray, "N D"],
    bank_labels: Int[np.ndarray, " N"],
) -> tuple[Int[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """Returns at which rank, from 0, each query first finds its label, and its average precision.

    The rank is above every k where it never does; the average precision is then NaN.
    """
    known, count = jnp.asarray(bank_labels), len(bank)

    def rank(
        similarity: Float[Array, "q N"], labels: Int[Array, " q"]
    ) -> tuple[Int[Array, " q"], Float[Array, " q"]]:
        order = jnp.argsort(-similarity, axis=1)
        number = jnp.isfinite(similarity)  # what is none finds nothing
        hits: Bool[Array, "q N"] = (known[order] == labels[:, None]) & jnp.take_along_axis(
            number, order, axis=1
        )
        first = jnp.where(hits.any(axis=1), hits.argmax(axis=1), _NEVER)
        precision = jnp.cumsum(hits, axis=1) / jnp.arange(1, count + 1)[None]
        return first, (precision * hits).sum(axis=1) / hits.sum(axis=1)

    return by_similarity(queries, bank, rank, labels)
