"""Where a token is: a vector added to it, or a rotation of its queries and keys.

A kind is a function that declares its parameters through `param` (a module's own `self.param`) and
returns the table [1 N D] over the class token, where there is one, and the grid in raster order
(slots, rows, columns). Fixed tables leave the class token where it is. All are float32.

Rotary kinds (RoPE) add nothing; ROTATIONS says by which angles they turn each pair of columns of a
head, so that a query meets a key by how far apart they are in time, rows and columns.

Sources: Arnab et al. 2021 (learned); Bertasius et al. 2021 and Feichtenhofer et al. 2022
(separable); Tong et al. 2022 (sincos_1d); Bardes et al. 2024 (sincos_3d); Assran et al. 2025
(rotary_3d).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Axes = tuple[int, int, int]
Param = Callable[..., Any]
table_init = nn.initializers.normal(0.02)


def every_place(clips: int, axes: Axes) -> Int[Array, "B N"]:
    """Returns the numbers of all places of a grid, for each of so many clips."""
    places = jnp.arange(math.prod(axes), dtype=jnp.int32)
    return jnp.broadcast_to(places[None], (clips, len(places)))


def learned(param: Param, axes: Axes, classes: int, width: int) -> Float[Array, "1 N D"]:
    """One row for each token."""
    return param("position", table_init, (1, classes + math.prod(axes), width))


def separable(param: Param, axes: Axes, classes: int, width: int) -> Float[Array, "1 N D"]:
    """A row for each place, the class token among them, plus a row for each slot."""
    t, s = axes[0], axes[1] * axes[2]
    space = param("position_space", table_init, (1, classes + s, width))
    # Zero, so that a model that starts from an image model starts as it was (TimeSformer).
    time = param("position_time", nn.initializers.zeros, (1, t, width))
    grid = space[:, None, classes:] + time[:, :, None]
    return jnp.concatenate([space[:, :classes], grid.reshape(1, t * s, width)], axis=1)


def sincos_1d(param: Param, axes: Axes, classes: int, width: int) -> Float[Array, "1 N D"]:
    """Sine and cosine of the flattened index, interleaved (VideoMAE)."""
    del param
    return _fixed(sincos_1d_table(math.prod(axes), width), classes)


def sincos_3d(param: Param, axes: Axes, classes: int, width: int) -> Float[Array, "1 N D"]:
    """A third of the width for each of slot, row and column (V-JEPA)."""
    del param
    return _fixed(sincos_3d_table(axes, width), classes)


def none(param: Param, axes: Axes, classes: int, width: int) -> Float[Array, "1 N D"]:
    """Nothing at all: tokens are a set."""
    del param
    return jnp.zeros((1, classes + math.prod(axes), width))


POSITIONS: dict[str, Callable[[Param, Axes, int, int], jax.Array]] = {
    "learned": learned,
    "separable": separable,
    "sincos_1d": sincos_1d,
    "sincos_3d": sincos_3d,
    "none": none,
    "rotary_3d": none,
    "rotary_3d_tiled": none,
}


class Rotation(NamedTuple):
    """What queries and keys are turned by: see `rotate`."""

    cos: Float[Array, "#B N head_dim"]
    sin: Float[Array, "#B N head_dim"]


def rotary_3d(axes: Axes, head_dim: int) -> np.ndarray:
    """Returns angles, float64 [slots * rows * columns, head_dim], equal in the columns of a pair.

    A head's columns are split in three even parts, for slot, row and column, and a rest that is
    not turned; pair k of a part of d turns by position * 10000^(-2 k / d).
    """
    return _rotary(axes, head_dim, lambda frequencies: np.repeat(frequencies, 2))


def rotary_3d_tiled(axes: Axes, head_dim: int) -> np.ndarray:
    """Returns the angles of V-JEPA 2's released weights, whose code lays them out another way.

    The frequencies follow one another twice, where they should come in pairs, so the two columns
    of a pair turn by different angles. Checkpoints trained so need it.
    """
    return _rotary(axes, head_dim, lambda frequencies: np.tile(frequencies, 2))


ROTATIONS: dict[str, Callable[[Axes, int], np.ndarray]] = {
    "rotary_3d": rotary_3d,
    "rotary_3d_tiled": rotary_3d_tiled,
}


def rotation_of(kind: str, axes: Axes, classes: int, head_dim: int) -> Rotation | None:
    """Returns what a kind of positions turns by; None where it turns nothing."""
    if kind not in ROTATIONS:
        return None
    angles = ROTATIONS[kind](axes, head_dim)
    angles = np.concatenate([np.zeros((classes, head_dim)), angles])[None]
    return Rotation(
        jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    )


def rotate(x: Float[Array, "B N heads head_dim"], rotation: Rotation) -> Array:
    """Returns queries or keys with their pairs of columns (2 k, 2 k + 1) turned, in x's dtype."""
    cos, sin = (y[:, :, None].astype(jnp.float32) for y in rotation)
    y = x.astype(jnp.float32)
    pairs = y.reshape(*y.shape[:-1], -1, 2)
    turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(y.shape)
    return (y * cos + turned * sin).astype(x.dtype)


def sincos_1d_table(length: int, width: int) -> np.ndarray:
    """Returns float64 [length width]: sines in the even columns, cosines in the odd."""
    frequencies = 10000.0 ** (-2 * (np.arange(width) // 2) / width)
    angles = np.arange(length)[:, None] * frequencies[None, :]
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    return angles


def sincos_3d_table(axes: Axes, width: int) -> np.ndarray:
    """Returns float64 [slots * rows * columns, width].

    Each axis has ceil(width / 6) sines, then as many cosines; the three are laid end to end and
    cut to the width, so that the columns' last cosines go where 6 does not divide the width.
    """
    half = math.ceil(width / 6)
    frequencies = 10000.0 ** (-np.arange(half) / half)
    parts = []
    for index in np.indices(axes).reshape(3, -1):
        angles = index[:, None] * frequencies[None, :]
        parts += [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts, axis=1)[:, :width]


def _rotary(axes: Axes, head_dim: int, lay: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    part = 2 * (head_dim // 3 // 2)
    frequencies = lay(10000.0 ** (-2 * np.arange(part // 2) / max(part, 1)))
    index = np.indices(axes).reshape(3, -1)
    angles = np.zeros((index.shape[1], head_dim))
    for i in range(3):
        angles[:, i * part : (i + 1) * part] = index[i][:, None] * frequencies[None]
    return angles


def _fixed(table: np.ndarray, classes: int) -> jax.Array:
    table = np.concatenate([np.zeros((classes, table.shape[1])), table])
    return jnp.asarray(table[None], jnp.float32)
