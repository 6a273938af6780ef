"""Where a token is, as a vector added to it: learned tables and fixed sine-cosine ones.

A kind is a function that declares its parameters through `param` (a module's own `self.param`) and
returns the table [1 N D] over the class token, where there is one, and the grid in raster order
(slots, rows, columns). Fixed tables leave the class token where it is. All are float32.

Sources: Arnab et al. 2021 (learned); Bertasius et al. 2021 and Feichtenhofer et al. 2022
(separable); Tong et al. 2022 (sincos_1d); Bardes et al. 2024 (sincos_3d).
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Axes = tuple[int, int, int]
Param = Callable[..., Any]
table_init = nn.initializers.normal(0.02)


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
}


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


def _fixed(table: np.ndarray, classes: int) -> jax.Array:
    table = np.concatenate([np.zeros((classes, table.shape[1])), table])
    return jnp.asarray(table[None], jnp.float32)
