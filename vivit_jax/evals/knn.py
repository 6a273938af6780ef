"""k nearest neighbours: training videos vote for their labels, and nothing is trained.

The k of highest cosine similarity vote with exp(similarity / temperature); Wu et al. 2018, as in
DINO (Caron et al. 2021: 20 neighbours, temperature 0.07).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vivit_jax import config
from vivit_jax.evals.frozen import Encoded
from vivit_jax.evals.neighbours import by_similarity, compared
from vivit_jax.measures import recognition as measures

RESULTS = ("knn_top1", "knn_top5")


def judge(
    known: Encoded, held_out: Encoded, classes: int, options: config.Probe, seed: int
) -> dict[str, float]:
    """Returns the results of a vote of `known` on each of `held_out`; nothing is drawn."""
    del seed
    queries, bank = compared(held_out.features, known.features, options.whiten)
    scores = votes(queries, bank, known.labels, classes, options)
    return {f"knn_top{k}": measures.top_k(scores, held_out.labels, k) for k in (1, 5)}


def votes(
    queries: Float[np.ndarray, "Q D"],
    bank: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    classes: int,
    options: config.Probe,
) -> Float[np.ndarray, "Q K"]:
    """Returns the votes for each class.

    Args:
      queries: voted on.
      bank: the voters.
      labels: theirs.
      classes: K.
      options: neighbours (all of the bank, where it has fewer) and temperature.
    """
    count = min(options.neighbours, len(bank))
    known = jnp.asarray(labels)

    def vote(similarity: Float[Array, "q N"]) -> Float[Array, "q K"]:
        nearest, places = jax.lax.top_k(similarity, count)
        # The highest is taken off, so that no temperature overflows; each vote shrinks alike.
        weights = jnp.exp((nearest - nearest[:, :1]) / options.temperature)
        hot = jax.nn.one_hot(known[places], classes)
        return jnp.einsum("qn,qnk->qk", weights, hot)

    return by_similarity(queries, bank, vote)
