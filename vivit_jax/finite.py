"""Whether all of a tree of arrays is finite, wherever it lies; looked at on its own devices."""

from typing import Any

import jax
import jax.numpy as jnp

from vivit_jax.errors import NotFinite, some
from vivit_jax.trees import by_path, fetched

_SHOWN = 5  # arrays that a message names


def check(tree: Any) -> None:
    """Returns where every number of a tree is finite; the same on all processes.

    Raises:
      NotFinite: names the arrays.
    """
    leaves = {p: x for p, x in by_path(tree).items() if jnp.issubdtype(x.dtype, jnp.inexact)}
    bad = [path for path, finite in fetched(_finite, leaves).items() if not finite]
    if bad:
        raise NotFinite(f"not finite: {some(bad, _SHOWN)}")


@jax.jit
def _finite(leaf: jax.Array) -> jax.Array:
    """Returns one number, which every process has whole.

    One array at a time: in a program of all, a CPU has one core for each. Not by the largest: the
    largest of several devices' is none of theirs that is NaN.
    """
    return jnp.isfinite(leaf).all()
