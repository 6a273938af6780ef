"""Many probes trained at once: one for each learning rate and weight decay, on the same features.

They differ in nothing else, so they are one vmapped module: features are read, and encoded, once
for all of them. Which is best is chosen on training videos that none of them was trained on.
"""

import itertools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int

from vivit_jax import config
from vivit_jax.measures import recognition as measures
from vivit_jax.optim import decays
from vivit_jax.trees import path_of

_SELECTION, _INIT = 10, 11  # so that nothing else that the seed decides is drawn alike


class Probes(struct.PyTreeNode):
    """Every array but `step` has a first axis G, over the grid."""

    params: Any
    adam: Any
    step: Int[Array, ""]


class Chosen(NamedTuple):
    """The best of the grid.

    Attributes:
      place: in the grid.
      learning_rate: its.
      weight_decay: its.
      top1: on the videos that it was chosen by.
    """

    place: int
    learning_rate: float
    weight_decay: float
    top1: float


class ProbeGrid:
    """Trains and compares probes; see config.Probe."""

    def __init__(self, probe: nn.Module, options: config.Probe, steps: int, seed: int):
        """Prepares the grid.

        Args:
          probe: from features [B ...] to logits [B K].
          options: its rates and decays are read.
          steps: of the cosine, to its end at 0.
          seed: of what all of them start from.
        """
        self._probe, self._steps, self._seed = probe, steps, seed
        pairs = list(itertools.product(options.learning_rates, options.weight_decays))
        self.rates, self.decays = np.asarray(pairs, float).T
        self._adam = optax.scale_by_adam()

    def init(self, features: Float[Array, "B ..."]) -> Probes:
        """Returns the probes before the first step; of the features only the shape is read."""
        key = jax.random.fold_in(jax.random.key(self._seed), _INIT)
        params = self._probe.init(key, features)["params"]
        count = len(self.rates)
        params = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), params)
        return Probes(params, jax.vmap(self._adam.init)(params), jnp.zeros((), jnp.int32))

    def step(
        self,
        probes: Probes,
        features: Float[Array, "B ..."],
        labels: Int[Array, " B"],
        weights: Float[Array, " B"],
    ) -> Probes:
        """Returns the probes after a step of AdamW on one batch.

        Args:
          probes: before.
          features: of the batch.
          labels: of its videos.
          weights: 0 for what is no video to train on.
        """

        def loss(params: Any) -> Array:
            logits: Any = self._probe.apply({"params": params}, features)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.where(weights > 0, each * weights, 0).sum() / jnp.maximum(weights.sum(), 1)

        done = probes.step / self._steps
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1)))

        def update(params: Any, adam: Any, rate: Array, decay: Array) -> tuple[Any, Any]:
            updates, adam = self._adam.update(jax.grad(loss)(params), adam)

            def change(path: tuple, x: Array, y: Array) -> Array:
                own = decay if decays(path_of(path), x.ndim) else 0.0
                return x - rate * cosine * (y + own * x)

            return jax.tree.map_with_path(change, params, updates), adam

        rates, own_decays = (jnp.asarray(x, jnp.float32) for x in (self.rates, self.decays))
        params, adam = jax.vmap(update)(probes.params, probes.adam, rates, own_decays)
        return Probes(params, adam, probes.step + 1)

    def logits(self, params: Any, features: Float[Array, "B ..."]) -> Float[Array, "G B K"]:
        """Returns what probes make of features; all of the grid, or some of it."""

        def of_one(params: Any) -> Any:
            return self._probe.apply({"params": params}, features)

        return jax.vmap(of_one)(params)

    def choose(self, logits: Float[np.ndarray, "G N K"], labels: Int[np.ndarray, " N"]) -> Chosen:
        """Returns the probe of the highest top-1 and, where several have it, the lowest loss."""
        top1 = np.array([measures.top_k(of_one, labels, 1) for of_one in logits])
        losses = np.array([_cross_entropy(of_one, labels) for of_one in logits])
        place = int(np.lexsort((losses, -top1))[0])  # NaN comes last
        rate, decay = float(self.rates[place]), float(self.decays[place])
        return Chosen(place, rate, decay, float(top1[place]))


def _cross_entropy(logits: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> float:
    """Returns the mean loss, NaN where there is none."""
    if not len(labels):
        return math.nan
    highest = logits.max(axis=1, keepdims=True)
    totals = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    return float(np.mean(totals - logits[np.arange(len(labels)), labels]))


def kept_for_choosing(videos: int, share: float, seed: int) -> np.ndarray:
    """Returns which of the training videos the grid is chosen by: bool [videos].

    By their number in the source, so that it is the same for every probe and at every evaluation,
    and what cannot be read moves no other.

    Args:
      videos: of the training split; at least 2.
      share: of them; one is chosen by and one trained on in any case.
      seed: of the draw.
    """
    count = min(max(1, round(share * videos)), videos - 1)
    kept = np.zeros(videos, bool)
    kept[np.random.default_rng([seed, _SELECTION]).permutation(videos)[:count]] = True
    return kept


def results_of(
    name: str, scores: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"], chosen: Chosen
) -> dict[str, float]:
    """Returns the results of a chosen probe, by the evaluator's name.

    Args:
      name: of the evaluator.
      scores: of the held-out videos, any scale.
      labels: theirs.
      chosen: which it is.
    """
    return {
        f"{name}_top1": measures.top_k(scores, labels, 1),
        f"{name}_top5": measures.top_k(scores, labels, 5),
        f"{name}_chosen_by_top1": chosen.top1,
        f"{name}_learning_rate": chosen.learning_rate,
        f"{name}_weight_decay": chosen.weight_decay,
    }
