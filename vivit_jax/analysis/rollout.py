"""Where a summary comes from, by the weights of attention alone: walked from the top to the pixels.

A share of the summary lies at each of the top block's tokens: all at the class token, or alike at
every token of a mean. Every step of attention hands the share of a token on to those that it saw,
by its weights, and the residual beside it keeps a part at the token itself. Only a vector for each
clip is carried down, never a matrix of all tokens by all tokens: a step of any arrangement is
linear in its values where its weights are given, and what is handed on is that step transposed. So
who sees whom is read from models/attention.py itself.

What is composed: blocks within a stack, space within a slot with time over slots for the
factorised encoders, and a pooler's attention with its encoder's. MLPs, norms and adapters stay
where they are, and so move nothing; nor do heads that values differ in: the mean over heads counts.

Sources: Abnar & Zuidema 2020 (rollout); Chefer et al. 2021, "Generic attention-model
explainability" (gradients).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vivit_jax.models.attention import ARRANGEMENTS, Attend, Grid
from vivit_jax.models.positions import Axes
from vivit_jax.models.video_transformer import VideoTransformer

Shares = Float[Array, "rows n"]
Rule = Callable[[Shares, Shares], Shares]  # of what a token keeps and what comes from those above
Weights = Mapping[str, Any]  # of a module, as its collection WEIGHTS has them


def half(kept: Shares, handed: Shares) -> Shares:
    """Rollout: the residual counts as much as attention, and shares go on summing to one."""
    return (kept + handed) / 2


def both(kept: Shares, handed: Shares) -> Shares:
    """Weights times gradients: the residual hands on all, and attention adds to it."""
    return kept + handed


def stay(kept: Shares, handed: Shares) -> Shares:
    """Nothing is handed on."""
    del handed
    return kept


def of_summaries(
    encoder: VideoTransformer, weights: Weights, clips: int, axes: Axes, rule: Rule
) -> Float[Array, "B t h w"]:
    """Returns the shares of clips' tubelets in their summaries.

    With `half` they sum to one but for what ends at class tokens.

    Args:
      encoder: whose summaries.
      weights: of its attention, each [B rows heads n n].
      clips: B.
      axes: of its tokens.
      rule: of residuals.
    """
    t, s = axes[0], axes[1] * axes[2]
    by_slot = {"factorised_encoder": t, "factorised_encoder_by_place": t * s, "space_only": s}
    count = by_slot.get(encoder.attention, t * s)
    pool = encoder.pool
    if encoder.attention == "factorised_encoder" and not encoder.temporal_depth:
        pool = "mean"  # over slots
    shares = jnp.repeat(_top(pool, count), clips, axis=0)
    return _below(encoder, weights, axes, rule, shares)


def of_tokens(
    encoder: VideoTransformer, weights: Weights, axes: Axes, rule: Rule, shares: Shares
) -> Float[Array, "B t h w"]:
    """Returns the shares of clips' tubelets, from those of the encoder's tokens of every place.

    Args:
      encoder: as for `of_summaries`, and so the next three.
      weights: likewise.
      axes: likewise.
      rule: likewise.
      shares: of the tokens as a pooler sees them, [B N].
    """
    t = axes[0]
    classes = int(encoder.class_token)
    if encoder.attention != "factorised_encoder":
        return _below(encoder, weights, axes, rule, _pad(shares, classes))
    # A token is the sum of what space makes of it and what time makes of its slot.
    of_slots = _pad(reduce(shares, "b (t s) -> b t", "sum", t=t) / 2, classes)
    return _below(encoder, weights, axes, rule, of_slots, shares / 2)


def through(shares: Shares, weights: Weights, arrangement: str, grid: Grid, rule: Rule) -> Shares:
    """Returns the shares of a stack's first tokens, from those of its last.

    Args:
      shares: of [class token and] tokens, [rows n].
      weights: of its blocks, by name.
      arrangement: of their attention.
      grid: (t, S) of the tokens.
      rule: of residuals.
    """
    blocks = sorted((name for name in weights if name.startswith("block_")), key=_number)
    for block in reversed(blocks):
        steps = ARRANGEMENTS[arrangement].steps
        for i, step in reversed([*enumerate(steps)]):
            given = weights[block][f"attention_{i}"]["weights"]
            classes = shares.shape[1] - math.prod(grid) if step.patches_only else 0
            kept = shares[:, classes:]
            handed = rule(kept, handed_on(kept, given, step, grid))
            shares = jnp.concatenate([shares[:, :classes], handed], axis=1)
    return shares


def handed_on(shares: Shares, weights: tuple[Array, ...], step: Attend, grid: Grid) -> Shares:
    """Returns what tokens are handed by those that saw them, mean over heads.

    Args:
      shares: of those that saw, [rows n].
      weights: of each call of the step's core, in order: [rows ... heads n n].
      step: who sees whom.
      grid: (t, S) of the tokens.
    """
    heads = sum(given.shape[2] for given in weights)

    def gathered(x: Array) -> Array:
        calls = iter(weights)

        def core(q: Array, k: Array, v: Array) -> Array:
            del q, k
            return jnp.einsum("...nm,...mk->...nk", next(calls), v)

        values = jnp.broadcast_to(x[:, :, None, None], (*x.shape, heads, 1))
        return step.over(values, values, values, grid, core)[..., 0].mean(axis=2)

    return jax.linear_transpose(gathered, shares)(shares)[0]


def _below(
    encoder: VideoTransformer,
    weights: Weights,
    axes: Axes,
    rule: Rule,
    shares: Shares,
    of_places: Shares | None = None,
) -> Array:
    """Returns the shares of tubelets, from those of the last stack's tokens.

    Args:
      encoder: whose.
      weights: of it.
      axes: of its tokens.
      rule: of residuals.
      shares: of [class token and] tokens.
      of_places: of "factorised_encoder", what comes to the tokens of space besides; [B N].
    """
    (t, h, w), s = axes, axes[1] * axes[2]
    classes, batch = int(encoder.class_token), len(shares)
    to_grid = "b (t h w) -> b t h w"
    if encoder.attention in ARRANGEMENTS:
        shares = through(shares, weights.get("blocks", {}), encoder.attention, (t, s), rule)
        return rearrange(shares[:, classes:], to_grid, t=t, h=h, w=w)
    slot, name = (1, s), "space"
    if encoder.attention == "space_only":  # the mean over slots, each with its own attention
        shares, name = jnp.repeat(shares / t, t, axis=0), "blocks"
    elif encoder.attention == "factorised_encoder_by_place":
        shares = rearrange(shares, "b (t s) -> (b s) t", t=t)
        shares = through(shares, weights.get("time", {}), "joint", (t, 1), rule)
        shares = rearrange(shares, "(b s) t -> (b t) s", b=batch)
    else:
        shares = through(shares, weights.get("time", {}), "joint", (t, 1), rule)
        of_slots = rearrange(shares[:, shares.shape[1] - t :], "b t -> (b t) 1")
        shares = of_slots * _top(encoder.pool, s)
        if of_places is not None:
            shares += _pad(rearrange(of_places, "b (t s) -> (b t) s", t=t), classes)
    shares = through(shares, weights.get(name, {}), "joint", slot, rule)
    return rearrange(shares[:, classes:], "(b t) (h w) -> b t h w", b=batch, h=h, w=w)


def _top(pool: str, count: int) -> Shares:
    """Returns the share of each [class token and] token in a stack's summary, [1 n]."""
    if pool == "class_token":
        return jnp.zeros((1, 1 + count)).at[0, 0].set(1)
    return _pad(jnp.full((1, count), 1 / count), int(pool != "mean"))


def _pad(shares: Shares, classes: int) -> Shares:
    """Returns shares with none at the class tokens in front."""
    return jnp.pad(shares, ((0, 0), (classes, 0)))


def _number(block: str) -> int:
    return int(block.rsplit("_", 1)[1])
