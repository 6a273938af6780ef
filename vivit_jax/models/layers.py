"""The layers that every video transformer here is built of.

Parameters are float32; `dtype` is what matrices are multiplied in. Norms, softmax and positions
are float32 whatever it is. Every random choice comes from the "dropout" stream.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vivit_jax.layout import parts, platform
from vivit_jax.models.attention import STEPS, Attend, Grid
from vivit_jax.models.inflate import TUBELET_INITS
from vivit_jax.models.kernels import attend, weigh
from vivit_jax.models.lora import Lora
from vivit_jax.models.positions import Rotation, rotate

# Collections of variables that only those who look at a trained model ask for: the weights of
# attention, float32, in the order in which a step has them; and what is added to each of them, of
# which gradients are taken.
WEIGHTS, NUDGES = "attention_weights", "attention_nudges"
mlp_bias_init = nn.initializers.normal(1e-6)
KERNEL_INITS: dict[str, Callable[[int], nn.initializers.Initializer]] = {
    # From the number of the block, from 1, whose residual a kernel closes; 0 for all others.
    "xavier_uniform": lambda block: nn.initializers.xavier_uniform(),
    # V-JEPA; a sum of 2 n residuals then grows no faster than one.
    "normal": lambda block: nn.initializers.normal(0.02 / math.sqrt(2 * block or 1)),
}
GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "erf": lambda x: jax.nn.gelu(x, approximate=False),
}


class Features(NamedTuple):
    """What every encoder returns: its tokens, without the class token, and one vector a clip."""

    tokens: Float[Array, "B N D"]
    summary: Float[Array, "B D"]


def drop_path(
    x: Float[Array, "rows N D"],
    rate: float | Float[Array, ""],
    key: PRNGKeyArray,
    *,
    examples: int,
    rescaled: bool,
) -> Float[Array, "rows N D"]:
    """Returns x with the rows of some examples zeroed (Huang et al. 2016).

    Args:
      rate: probability that an example is dropped.
      examples: how many the rows belong to, as "(examples repeats)"; one draw for each.
      rescaled: divide what is kept by 1 - rate.
    """
    kept = jax.random.bernoulli(key, 1 - rate, (examples,)).astype(jnp.float32)
    kept = jnp.repeat(kept / (1 - rate) if rescaled else kept, len(x) // examples)
    return x * kept[:, None, None].astype(x.dtype)


def matmul(x: Float[Array, "... K"], kernel: Float[Array, "K M"]) -> Float[Array, "... M"]:
    """Returns x @ kernel.

    XLA's CPU backend transposes both factors of the kernel's gradient where x has several leading
    axes, which doubles its time; other backends don't, and keep the axes apart for sharding.
    """
    if platform() != "cpu" or parts("sequence") > 1:
        return x @ kernel
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])


def take(x: Float[Array, "B N ..."], index: Int[Array, "B M"]) -> Float[Array, "B M ..."]:
    """Returns the tokens of each example at its own places."""
    return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), axis=1)


class Dense(nn.Module):
    """A linear map of the last axes, which has flax's DenseGeneral's parameters.

    Attributes:
      features: shape that replaces those axes.
      axes: how many there are.
      use_bias: whether something is added.
      lora: the kernel's update.
    """

    features: tuple[int, ...]
    dtype: str
    axes: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    use_bias: bool = True
    lora: Lora = Lora()

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns the mapped array, in `dtype`."""
        kept, inputs = x.shape[: -self.axes], x.shape[-self.axes :]
        flat = (math.prod(inputs), math.prod(self.features))
        kernel = self.param(
            "kernel",
            lambda key: self.kernel_init(key, flat, jnp.float32).reshape(*inputs, *self.features),
        )
        x = x.astype(self.dtype).reshape(*kept, flat[0])
        y = matmul(x, kernel.astype(self.dtype).reshape(flat))
        if self.use_bias:
            bias = self.param("bias", self.bias_init, self.features)
            y += bias.astype(self.dtype).reshape((1,) * len(kept) + (flat[1],))
        if rank := self.lora.rank:  # after the rest, which so starts from what it did without
            normal = nn.initializers.normal(flat[0] ** -0.5)
            a = self.param("lora_a", normal, (*inputs, rank))
            b = self.param("lora_b", nn.initializers.zeros, (rank, *self.features))
            narrow = matmul(x, a.astype(self.dtype).reshape(flat[0], rank))
            y += self.lora.scale * matmul(narrow, b.astype(self.dtype).reshape(rank, flat[1]))
        return y.reshape(*kept, *self.features)


class Tubelets(nn.Module):
    """Each (frames, rows, columns) box of pixels to one token.

    Equal to a convolution whose stride is its kernel; a matrix product is faster on a CPU.
    """

    width: int
    tubelet: tuple[int, int, int]
    tubelet_init: str
    dtype: str

    @nn.compact
    def __call__(
        self, video: Float[Array, "B T H W ch"], keep: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        """Returns the tokens in raster order (slots, rows, columns): all, or those to keep."""
        f, r, c = self.tubelet
        shape = (f, r, c, video.shape[-1], self.width)
        kernel = self.param("kernel", TUBELET_INITS[self.tubelet_init], shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        patches = rearrange(
            video.astype(self.dtype),
            "b (t f) (i r) (j c) ch -> b (t i j) (f r c ch)",
            f=f,
            r=r,
            c=c,
        )
        if keep is not None:
            patches = take(patches, keep)
        kernel = rearrange(kernel.astype(self.dtype), "f r c ch d -> (f r c ch) d")
        return matmul(patches, kernel) + bias.astype(self.dtype)[None, None]


class Norm(nn.Module):
    """A layer norm, computed in float32 and rounded at its end.

    Attributes:
      eps: added to the variance.
      offset: added to the stored scale.
    """

    eps: float
    offset: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Returns the normalised array, in `dtype`."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.constant(1 - self.offset), shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        x = x.astype(jnp.float32)
        mean = x.mean(axis=-1, keepdims=True)
        # Both means at once, which spares a pass over x; rounding can take the difference below 0.
        variance = jnp.maximum(jnp.square(x).mean(axis=-1, keepdims=True) - jnp.square(mean), 0)
        if self.offset:
            scale += self.offset
        axes = (1,) * (x.ndim - 1) + shape
        y = (x - mean) * (jax.lax.rsqrt(variance + self.eps) * scale.reshape(axes))
        return (y + bias.reshape(axes)).astype(self.dtype)


class Attention(nn.Module):
    """Multi-head self-attention in one of an arrangement's steps.

    Where the collection WEIGHTS is mutable, it is what values are taken with, and is given back.
    """

    heads: int
    step: Attend
    dropout: float
    key_bias: bool
    kernel_init: str
    number: int
    dtype: str
    logit_cap: float
    kernel: str
    lora: Lora

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N D"],
        grid: Grid,
        rotation: Rotation | None,
        layout: str,
        train: bool,
    ) -> Float[Array, "B N D"]:
        """Returns what each token gathers; see Block."""
        width = x.shape[-1]
        shape = (self.heads, width // self.heads)
        init = KERNEL_INITS[self.kernel_init]
        dense = partial(Dense, shape, self.dtype, kernel_init=init(0))
        q = dense(name="query", lora=self.lora.of("query"))(x)
        k = dense(name="key", use_bias=self.key_bias, lora=self.lora.of("key"))(x)
        v = dense(name="value", lora=self.lora.of("value"))(x)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)

        asked = not (train or self.is_initializing()) and self.is_mutable_collection(WEIGHTS)
        given = itertools.count()

        def core(q, k, v):
            if asked:
                weights = weigh(q, k, cap=self.logit_cap, causal=self.step.causal)
                weights = self.perturb(f"weights_{next(given)}", weights, NUDGES)
                self.sow(WEIGHTS, "weights", weights)
                return jnp.einsum("...nm,...mk->...nk", weights.astype(v.dtype), v)
            key = self.make_rng("dropout") if train and self.dropout else None
            return attend(
                *(q, k, v),
                kernel=self.kernel,
                layout=layout,
                cap=self.logit_cap,
                causal=self.step.causal,
                dropout=self.dropout,
                key=key,
            )

        y = self.step.over(q, k, v, grid, core)
        out_init = nn.initializers.zeros if self.step.zero_out else init(self.number)
        out = partial(Dense, (width,), self.dtype, axes=2, kernel_init=out_init)
        return out(name="out", lora=self.lora.of("out"))(y)


class Block(nn.Module):
    """Pre-norm block: the attention steps of an arrangement, then an MLP, each a residual.

    Its `number` in its stack, from 1, is read for what some kernels start from.
    """

    heads: int
    mlp_dim: int
    arrangement: str
    gelu: str
    norm_eps: float
    dropout: float
    attention_dropout: float
    drop_path_rescaled: bool
    key_bias: bool
    kernel_init: str
    dtype: str
    logit_cap: float = 0.0
    kernel: str = "auto"
    norm_offset: float = 0.0
    number: int = 1
    lora: Lora = Lora()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows N D"],
        grid: Grid,
        rotation: Rotation | None,
        drop_rate: float | Float[Array, ""],
        *,
        examples: int,
        train: bool,
        layout: str = "tokens",
    ) -> Float[Array, "rows N D"]:
        """Returns the tokens after one block.

        Args:
          grid: (time slots, tokens in each); a token more than their product is a class token.
          rotation: of queries and keys, where positions are such; None for none.
          drop_rate: of drop path.
          examples: how many the rows belong to, as "(examples repeats)".
          train: whether to drop anything.
          layout: what the rows are to the devices, a row of layout.LAYOUTS.
        """

        def drop(y):
            if not train or (isinstance(drop_rate, float) and drop_rate == 0):
                return y
            key = self.make_rng("dropout")
            return drop_path(y, drop_rate, key, examples=examples, rescaled=self.drop_path_rescaled)

        dropout = nn.Dropout(self.dropout, deterministic=not train)
        for i, step in enumerate(STEPS[self.arrangement]):
            classes = x.shape[1] - grid[0] * grid[1] if step.patches_only else 0
            y = self.norm(f"attention_norm_{i}")(x[:, classes:])
            attention = Attention(
                self.heads,
                step,
                self.attention_dropout,
                self.key_bias,
                self.kernel_init,
                self.number,
                self.dtype,
                self.logit_cap,
                self.kernel,
                self.lora,
                name=f"attention_{i}",
            )
            turn = rotation and Rotation(*(z[:, classes:] for z in rotation))
            y = drop(dropout(attention(y, grid, turn, layout, train)))
            if step.zero_dense:  # after drop path, so that its bias is never dropped
                zeros = nn.initializers.zeros
                y = Dense((x.shape[-1],), self.dtype, kernel_init=zeros, name="zero_dense")(y)
            y = x[:, classes:] + y
            x = jnp.concatenate([x[:, :classes], y], axis=1) if classes else y
        y = self.norm("mlp_norm")(x)
        init = KERNEL_INITS[self.kernel_init]
        dense = partial(Dense, dtype=self.dtype, bias_init=mlp_bias_init)
        y = dense((self.mlp_dim,), kernel_init=init(0), name="mlp_in")(y)
        y = dropout(GELUS[self.gelu](y))
        y = dense((x.shape[-1],), kernel_init=init(self.number), name="mlp_out")(y)
        return x + drop(dropout(y))

    @nn.nowrap
    def norm(self, name: str) -> Norm:
        """A layer norm with this block's fields."""
        return Norm(self.norm_eps, self.norm_offset, self.dtype, name=name)


class Adapter(nn.Module):
    """A bottleneck beside the identity, which is what it starts as (Houlsby et al. 2019)."""

    bottleneck: int
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """Returns the adapted tokens."""
        y = Dense((self.bottleneck,), self.dtype, name="down")(x)
        zeros = nn.initializers.zeros
        up = Dense((x.shape[-1],), self.dtype, kernel_init=zeros, name="up")
        return x + up(GELUS[self.gelu](y))
