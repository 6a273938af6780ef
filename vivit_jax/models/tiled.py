"""Attention by tiles of queries, one head of an example after the other: for CPUs, with caches.

Nothing is kept for the backward pass but the output and the logarithm of each query's sum of
exponentials, from which the weights are computed again (Dao et al. 2022, algorithm 4). Going back,
tiles are keys by queries, so that the two larger products need no transposition.
"""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 1_250_000  # logits of a tile, at most: the best of 0.3 to 2.5 million, at 785 to 3137 keys

Queries = Float[Array, "rows heads n head_dim"]
Keys = Float[Array, "rows heads m head_dim"]
Saved = tuple[Queries, Keys, Keys, Queries, Float[Array, "h tiles tile"]]


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How the queries of a head are cut.

    Attributes:
      count: tiles.
      size: queries of each; the last is filled up.
    """

    count: int
    size: int

    def cut(self, x: Float[Array, "rows heads n _"]) -> Float[Array, "h tiles tile _"]:
        """Returns what belongs to queries by tiles, with the heads of all rows in one axis, h."""
        rows, heads, n, width = x.shape
        x = jnp.pad(x, ((0, 0), (0, 0), (0, self.count * self.size - n), (0, 0)))
        return x.reshape(rows * heads, self.count, self.size, width)

    def joined(
        self, x: Float[Array, "h tiles tile _"], like: Queries
    ) -> Float[Array, "rows heads n _"]:
        """Returns what `cut` was given."""
        rows, heads, n, width = like.shape
        return x.reshape(rows, heads, self.count * self.size, width)[:, :, :n]


def tiles_of(queries: int, keys: int) -> Tiles:
    """Returns as few tiles of about the same size as keep TILE."""
    count = math.ceil(queries * keys / TILE)
    return Tiles(count, math.ceil(queries / count))


def tiled(q: Queries, k: Keys, v: Keys, *, cap: float = 0.0) -> Queries:
    """Returns softmax(q k^T / sqrt(head_dim)) v.

    Args:
      q: queries.
      k: keys.
      v: values.
      cap: what no logit goes beyond, as cap * tanh(logit / cap); 0 for none.
    """
    return _tiled(q, k, v, cap)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _tiled(q: Queries, k: Keys, v: Keys, cap: float) -> Any:
    return _forward(q, k, v, cap)[0]


def _forward(q: Queries, k: Keys, v: Keys, cap: float) -> tuple[Queries, Saved]:
    tiles = tiles_of(q.shape[2], k.shape[2])

    def head(step):
        q, k, v = step

        def tile(q):
            logits = _bent(_product("nk,mk->nm", q, k), cap)
            most = logits.max(axis=-1, keepdims=True)
            weights = jnp.exp(logits - most)
            total = weights.sum(axis=-1, keepdims=True)
            y = _product("nm,mk->nk", weights.astype(v.dtype), v) / total
            return y.astype(v.dtype), (most + jnp.log(total))[:, 0]

        return jax.lax.map(tile, q)

    y, log_total = jax.lax.map(head, (tiles.cut(_scaled(q)), _by_head(k), _by_head(v)))
    y = tiles.joined(y, q)
    return y, (q, k, v, y, log_total)


def _backward(cap: float, saved: Saved, dy: Queries) -> tuple[Queries, Keys, Keys]:
    q, k, v, y, log_total = saved
    tiles = tiles_of(q.shape[2], k.shape[2])
    # What a weight's logit loses by the others that it is normalised with.
    shared = (dy.astype(jnp.float32) * y).sum(axis=-1, keepdims=True)

    def head(step):
        *queries, k, v = step

        def tile(totals, step):
            q, dy, log_total, shared = step
            logits = _product("mk,nk->mn", k, q)
            bent = _bent(logits, cap)
            weights = jnp.exp(bent - log_total[None])
            slopes = weights * (_product("mk,nk->mn", v, dy) - shared.T)
            if cap:
                slopes *= 1 - jnp.square(bent / cap)
            slopes = slopes.astype(k.dtype)
            dk, dv = totals
            dk += _product("mn,nk->mk", slopes, q)
            dv += _product("mn,nk->mk", weights.astype(v.dtype), dy)
            return (dk, dv), _product("mn,mk->nk", slopes, k)

        zeros = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
        (dk, dv), dq = jax.lax.scan(tile, zeros, queries)
        return dq, dk, dv

    queries = tiles.cut(_scaled(q)), tiles.cut(dy), log_total, tiles.cut(shared)
    dq, dk, dv = jax.lax.map(head, (*queries, _by_head(k), _by_head(v)))
    dq = q.shape[-1] ** -0.5 * tiles.joined(dq, q)
    dq, dk, dv = (
        x.reshape(like.shape).astype(like.dtype) for x, like in ((dq, q), (dk, k), (dv, v))
    )
    return dq, dk, dv


def _scaled(q: Queries) -> Queries:
    """Returns queries that are scaled once, in place of each logit."""
    return (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)


def _by_head(x: Keys) -> Float[Array, "h m head_dim"]:
    """Returns keys or values with the heads of all rows in one axis, h."""
    return x.reshape(-1, *x.shape[2:])


def _product(axes: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a product in float32."""
    return jnp.einsum(axes, a, b, preferred_element_type=jnp.float32)


def _bent(logits: jax.Array, cap: float) -> jax.Array:
    """Returns logits under a cap."""
    return cap * jnp.tanh(logits / cap) if cap else logits


_tiled.defvjp(_forward, _backward)
