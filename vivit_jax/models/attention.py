"""Which tokens see which: the space-time arrangements of attention, one row each.

Queries, keys and values are [B N heads head_dim]. N counts an optional class token in front, then
t time slots of S tokens each; `grid` is (t, S). Every arrangement makes rows of the axis that
attention does not cross, and hands [B rows heads n head_dim] to the one core, kernels.attend.

Sources: Arnab et al. 2021 (ViViT), section 3.3; Bertasius et al. 2021 (TimeSformer), section 3.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from jaxtyping import Array, Float

Grid = tuple[int, int]
Tokens = Float[Array, "B N heads head_dim"]
Core = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def over_all(q: Tokens, k: Tokens, v: Tokens, grid: Grid, core: Core) -> Tokens:
    """Every token sees every token."""
    del grid
    y = core(*(rearrange(x, "b n h k -> b 1 h n k") for x in (q, k, v)))
    return rearrange(y, "b 1 h n k -> b n h k")


def over_space(q: Tokens, k: Tokens, v: Tokens, grid: Grid, core: Core) -> Tokens:
    """A token sees its own time slot; a class token sees each slot apart, and takes the mean."""
    t, s = grid
    classes = q.shape[1] - t * s

    def by_slot(x):
        body = rearrange(x[:, classes:], "b (t s) h k -> b t h s k", t=t)
        if not classes:
            return body
        return jnp.concatenate([repeat(x[:, :classes], "b c h k -> b t h c k", t=t), body], 3)

    y = core(by_slot(q), by_slot(k), by_slot(v))
    body = rearrange(y[:, :, :, classes:], "b t h s k -> b (t s) h k")
    if not classes:
        return body
    summary = reduce(y[:, :, :, :classes], "b t h c k -> b c h k", "mean")
    return jnp.concatenate([summary, body], axis=1)


def over_time(q: Tokens, k: Tokens, v: Tokens, grid: Grid, core: Core) -> Tokens:
    """A token sees its own place in every time slot; there is no class token."""
    s = grid[1]
    y = core(*(rearrange(x, "b (t s) h k -> b s h t k", s=s) for x in (q, k, v)))
    return rearrange(y, "b s h t k -> b (t s) h k")


def half_and_half(q: Tokens, k: Tokens, v: Tokens, grid: Grid, core: Core) -> Tokens:
    """The first half of the heads sees time, the second half space."""
    (q0, q1), (k0, k1), (v0, v1) = (jnp.split(x, 2, axis=2) for x in (q, k, v))
    y0, y1 = over_time(q0, k0, v0, grid, core), over_space(q1, k1, v1, grid, core)
    return jnp.concatenate([y0, y1], axis=2)


@dataclasses.dataclass(frozen=True)
class Attend:
    """One attention step of a block.

    Attributes:
      over: who sees whom.
      pairs: (classes, t, S) to the number of query-key pairs of one clip, mean over heads; what
        costs.py counts.
      patches_only: the class token takes no part, and passes by.
      zero_out: the output projection starts at zero, so that the step starts as the identity.
      zero_dense: a Dense that starts at zero follows, for the same end.
      causal: a token sees itself and those before it alone.
    """

    over: Callable[[Tokens, Tokens, Tokens, Grid, Core], Tokens]
    pairs: Callable[[int, int, int], int | float]
    patches_only: bool = False
    zero_out: bool = False
    zero_dense: bool = False
    causal: bool = False


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The attention steps of a block, in order, and whether they can carry a class token."""

    steps: tuple[Attend, ...]
    class_token: bool = True


def _pairs_over_all(classes: int, t: int, s: int) -> int | float:
    return (classes + t * s) ** 2


def _pairs_over_space(classes: int, t: int, s: int) -> int | float:
    return t * (classes + s) ** 2


def _pairs_over_time(classes: int, t: int, s: int) -> int | float:
    del classes
    return s * t**2


def _pairs_half_and_half(classes: int, t: int, s: int) -> int | float:
    return (_pairs_over_time(classes, t, s) + _pairs_over_space(classes, t, s)) / 2


ARRANGEMENTS: dict[str, Arrangement] = {
    # ViT, VideoMAE, V-JEPA; ViViT model 1.
    "joint": Arrangement((Attend(over_all, _pairs_over_all),)),
    # ViViT model 3: time, then space, as its published code runs it; the paper's text and figure
    # have space first. That code zeroes the time step's query, key and value as well, and so it
    # never learns; zeroing `out` alone starts from the same image model, and learns.
    "factorised_self_attention": Arrangement(
        (Attend(over_time, _pairs_over_time, zero_out=True), Attend(over_space, _pairs_over_space)),
        class_token=False,
    ),
    # ViViT model 4.
    "factorised_dot_product": Arrangement(
        (Attend(half_and_half, _pairs_half_and_half),), class_token=False
    ),
    # TimeSformer.
    "divided": Arrangement(
        (
            Attend(over_time, _pairs_over_time, patches_only=True, zero_dense=True),
            Attend(over_space, _pairs_over_space),
        )
    ),
}
OVER_TIME: dict[str, Arrangement] = {  # of sequences whose tokens are time slots
    # GPT-2. All pairs are computed, and what comes later is then left out.
    "causal": Arrangement((Attend(over_all, _pairs_over_all, causal=True),)),
}
STEPS = {name: row.steps for name, row in (ARRANGEMENTS | OVER_TIME).items()}
