"""Spikes: updates whose gradient is far larger than those before it.

The history is the norms of the last W gradients, and a spike is over so many times their median.
Only finite norms enter it, a spike's too, for a few move no median: so a NaN is forgotten at once,
and what was usual stays known. It is a multiple of the median and not of how far norms spread,
because the norms of clipped parts hardly spread at all: of 2,450 norms of small healthy runs, none
was over 10 times the median, and 13 were 20 times their usual distance from it away. Where spikes
follow one another, the level itself has changed: after a few they are the whole history, and
training goes on from there.

Everything is computed in the step, on the device, and is part of its state.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

LEAST = 16  # norms that must be known before one can be a spike
MOST = 5  # spikes in a row that are left out


class History(struct.PyTreeNode):
    """What the rule remembers.

    Attributes:
      norms: of the last gradients, the newest last; 0 where there is none yet.
      known: how many of them there are.
      row: spikes in a row until now.
    """

    norms: Float[Array, " W"]
    known: Int[Array, ""]
    row: Int[Array, ""]


def fresh(window: int) -> History:
    """Returns the history before the first step."""
    return History(
        jnp.zeros(window, jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    )


def judge(
    history: History, norm: Float[Array, ""], counts: Bool[Array, ""], times: float
) -> tuple[Bool[Array, ""], History]:
    """Returns whether an update is a spike, and the history after it.

    Args:
      history: before it.
      norm: of its gradient.
      counts: False for an update that is left out anyway, which changes no history.
      times: the median that it may have.
    """
    window = len(history.norms)
    age = window - jnp.arange(window)  # 1 for the newest
    ranked = jnp.sort(jnp.where(age <= history.known, history.norms, jnp.inf))
    usual = ranked[history.known // 2]  # infinite where nothing is known
    spike = counts & (history.known >= LEAST) & (norm > times * usual)
    row = jnp.where(spike, history.row + 1, 0)
    anew = row >= MOST
    after = History(
        jnp.append(history.norms[1:], norm),
        jnp.where(anew, MOST, jnp.minimum(history.known + 1, window)),
        jnp.where(anew, 0, row),
    )
    return spike, jax.tree.map(lambda new, old: jnp.where(counts, new, old), after, history)
