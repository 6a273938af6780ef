"""Linear probe: how well one linear layer tells the classes from frozen summaries.

Multinomial logistic regression by AdamW on features that are standardised by the training videos,
which is the batch norm without scale and bias (epsilon 1e-6) of MAE's and AV-MAE's linear probes,
with statistics of all training videos in place of running ones. A grid of learning rates and weight
decays is trained at once, and the best is chosen on training videos held out from it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vivit_jax import config
from vivit_jax.evals.frozen import Encoded
from vivit_jax.evals.probe_grid import ProbeGrid, Probes, kept_for_choosing, results_of
from vivit_jax.metrics import Progress
from vivit_jax.stopping import STOP

NAME = "linear_probe"
RESULTS = ("linear_probe_top1", "linear_probe_top5")
EPS = 1e-6


def judge(
    known: Encoded, held_out: Encoded, classes: int, options: config.Probe, seed: int
) -> dict[str, float]:
    """Returns the results of the best probe, and which it is.

    Args:
      known: the training videos.
      held_out: those that it is judged by.
      classes: K.
      options: of the probe.
      seed: of what is drawn.
    """
    choosing = kept_for_choosing(known.size, options.chosen_by, seed)[known.videos]
    if choosing.all():  # nothing else could be read
        return dict.fromkeys(RESULTS, np.nan)
    mean, scale = 0.0, 1.0
    if options.standardise:
        mean, scale = statistics(known.features[~choosing])

    def ready(features: np.ndarray) -> jax.Array:
        return jnp.asarray((features - mean) / scale, jnp.float32)

    fitted, labels = ready(known.features[~choosing]), known.labels[~choosing]
    grid, probes = train(fitted, jnp.asarray(labels), classes, options, seed)
    logits = jax.jit(grid.logits)
    tried = np.asarray(logits(probes.params, ready(known.features[choosing])))
    chosen = grid.choose(tried, known.labels[choosing])
    best = jax.tree.map(lambda x: x[chosen.place][None], probes.params)
    scores = np.asarray(logits(best, ready(held_out.features)))[0]
    return results_of(NAME, scores, held_out.labels, chosen)


def statistics(
    features: Float[np.ndarray, "N D"],
) -> tuple[Float[np.ndarray, "1 D"], Float[np.ndarray, "1 D"]]:
    """Returns mean and standard deviation of each feature."""
    mean = features.mean(axis=0, keepdims=True, dtype=np.float64)
    variance = features.var(axis=0, keepdims=True, dtype=np.float64)
    return mean, np.sqrt(variance + EPS)


def train(
    features: jax.Array, labels: jax.Array, classes: int, options: config.Probe, seed: int
) -> tuple[ProbeGrid, Probes]:
    """Returns the grid and its trained probes; each epoch is one pass over the features.

    Args:
      features: [N D], standardised.
      labels: [N].
      classes: K.
      options: of the probe.
      seed: of the order of the videos.
    """
    count = len(features)
    size = min(options.batch_size, count)
    steps = -(-count // size)
    head = nn.Dense(classes, kernel_init=nn.initializers.zeros)
    grid = ProbeGrid(head, options, steps * options.linear_epochs, seed)

    # The last batch is filled up with numbers past the end, which weigh nothing.
    @jax.jit
    def epoch(probes: Probes, features: jax.Array, labels: jax.Array, order: jax.Array) -> Probes:
        def step(probes: Probes, rows: jax.Array) -> tuple[Probes, None]:
            weights = (rows < count).astype(jnp.float32)
            rows = jnp.minimum(rows, count - 1)
            return grid.step(probes, features[rows], labels[rows], weights), None

        return jax.lax.scan(step, probes, order)[0]

    probes = jax.jit(grid.init)(features[:1])
    progress = Progress("linear probe, epoch", options.linear_epochs)
    for number in range(options.linear_epochs):
        STOP.point()
        drawn: Any = np.random.default_rng([seed, number]).permutation(count)
        order = np.append(drawn, np.full(steps * size - count, count)).reshape(steps, size)
        probes = jax.block_until_ready(epoch(probes, features, labels, jnp.asarray(order)))
        progress.look(number + 1)
    return grid, probes
