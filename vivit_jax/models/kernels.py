"""The core of attention, softmax(q k^T / sqrt(head_dim)) v, by what each platform does best.

Every row of KERNELS computes the same within rounding, from [rows heads n head_dim]. "plain" is
left to XLA and bears everything; the others never hold a weight for every pair of tokens, and are
given nothing that they do not bear. "tiled" is a CPU's, and runs everywhere.

Sources: Dao et al. 2022 (FlashAttention), as cuDNN has it and as JAX's splash attention has it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, PRNGKeyArray

from vivit_jax.errors import InputError
from vivit_jax.layout import compiler, of_attention, over_devices, platform
from vivit_jax.models.tiled import tiled

Queries = Float[Array, "rows heads n head_dim"]
Keys = Float[Array, "rows heads m head_dim"]
LONG = 512 * 512  # query-key pairs from which a CPU does best when what it holds fits its caches
TILED = 1024  # keys from which tiles pay on a TPU: its plain form is fused, and wastes no padding
TILE = 128  # tokens; what splash attention's blocks are multiples of
_NOT_CAUSAL = "it lets every token see those after it"


class Ask(NamedTuple):
    """What a kernel must bear.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      dtype: of queries, keys and values.
      head_dim: their width.
      queries: tokens that see.
      keys: tokens that are seen.
      cap: see `plain`.
      dropout: likewise.
      causal: likewise.
    """

    platform: str
    dtype: str
    head_dim: int
    queries: int
    keys: int
    cap: float
    dropout: float
    causal: bool = False


def plain(
    q: Queries,
    k: Keys,
    v: Keys,
    *,
    cap: float = 0.0,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    causal: bool = False,
) -> Queries:
    """Returns it by two matrix products, with logits and softmax in float32.

    Args:
      cap: what no logit goes beyond, as cap * tanh(logit / cap); 0 for none.
      dropout: probability of dropping a weight; needs `key`.
      key: None for no dropout.
      causal: a query sees the key of its own number, and those before it.
    """
    logits = _logits(q, k, cap, causal)
    # Dividing by the sum last, after the product with v, spares the backward pass a reduction
    # over every weight: two thirds of the time of jax.nn.softmax at 1568 tokens on a CPU.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if key is not None:
        weights *= jax.random.bernoulli(key, 1 - dropout, weights.shape) / (1 - dropout)
    y = jnp.einsum("rhnm,rhmk->rhnk", weights.astype(v.dtype), v)
    return (y / total).astype(v.dtype)


def weigh(
    q: Float[Array, "*rows n head_dim"],
    k: Float[Array, "*rows m head_dim"],
    *,
    cap: float = 0.0,
    causal: bool = False,
) -> Float[Array, "*rows n m"]:
    """Returns the weights that `plain` takes values with, float32; each row sums to one.

    Args:
      cap: see `plain`.
      causal: likewise.
    """
    return jax.nn.softmax(_logits(q, k, cap, causal), axis=-1)


def _logits(q: jax.Array, k: jax.Array, cap: float, causal: bool) -> jax.Array:
    """Returns what the softmax is of, float32; -inf where a query does not see a key."""
    logits = jnp.einsum("...nk,...mk->...nm", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if cap:
        logits = cap * jnp.tanh(logits / cap)
    if causal:
        seen = jnp.tril(jnp.ones(logits.shape[-2:], bool))
        logits = jnp.where(jnp.expand_dims(seen, range(logits.ndim - 2)), logits, -jnp.inf)
    return logits


def cudnn(q: Queries, k: Keys, v: Keys, *, cap: float = 0.0) -> Queries:
    """Returns it by cuDNN's flash attention; `cap` is 0."""
    del cap
    q, k, v = (rearrange(x, "r h n k -> r n h k") for x in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return rearrange(y, "r n h k -> r h n k")


def splash(q: Queries, k: Keys, v: Keys, *, cap: float = 0.0, interpret: bool = False) -> Queries:
    """Returns it by splash attention on a TPU.

    Args:
      cap: see `plain`.
      interpret: run it elsewhere, slowly: for tests.
    """
    # Imported where it is used: Pallas takes as long as the rest of JAX.
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    n, m = q.shape[2], k.shape[2]
    q, k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % TILE), (0, 0))) for x in (q, k, v))
    tiles = [next(t for t in (512, 384, 256, TILE) if x.shape[2] % t == 0) for x in (q, k)]
    sizes = pallas.BlockSizes(
        **dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), tiles[0]),
        **dict.fromkeys(("block_kv", "block_kv_dkv", "block_kv_dq"), tiles[1]),
    )
    everything = pallas.FullMask((q.shape[2], k.shape[2]))
    kernel = pallas.make_splash_mha(
        pallas.MultiHeadMask([everything] * q.shape[1]),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        attn_logits_soft_cap=cap or None,
        interpret=interpret,
    )
    # Keys that fill up the last tile are of another segment than all queries.
    segments = pallas.SegmentIds(
        jnp.zeros(q.shape[2], jnp.int32), jnp.asarray(np.arange(k.shape[2]) >= m, jnp.int32)
    )
    # Exact where the width of a head is a power of 4, such as 64, even in bfloat16.
    scaled = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    y: Any = jax.vmap(partial(kernel, segment_ids=segments))(scaled, k, v)
    return y[:, :, :n].astype(v.dtype)


def _cudnn_lacks(ask: Ask) -> str:
    """Returns what cuDNN does not bear; empty where nothing."""
    lacks = {
        "it needs an NVIDIA GPU": ask.platform != "gpu",
        "it needs model.dtype = 'bfloat16'": ask.dtype not in ("bfloat16", "float16"),
        "it knows no model.logit_cap": ask.cap > 0,
        "model.attention_dropout must be 0": ask.dropout > 0,
        f"heads must be a multiple of 8 wide, up to 128, not {ask.head_dim}": ask.head_dim % 8 > 0
        or ask.head_dim > 128,
        _NOT_CAUSAL: ask.causal,
    }
    return ", ".join(why for why, so in lacks.items() if so)


def _splash_lacks(ask: Ask) -> str:
    """Returns what splash attention does not bear; empty where nothing."""
    lacks = {
        "it needs a TPU": ask.platform != "tpu",
        "model.attention_dropout must be 0": ask.dropout > 0,
        _NOT_CAUSAL: ask.causal,
    }
    return ", ".join(why for why, so in lacks.items() if so)


def _tiled_lacks(ask: Ask) -> str:
    """Returns what tiles do not bear; empty where nothing."""
    lacks = {"model.attention_dropout must be 0": ask.dropout > 0, _NOT_CAUSAL: ask.causal}
    return ", ".join(why for why, so in lacks.items() if so)


class Kernel(NamedTuple):
    """A way to compute the core.

    Attributes:
      run: from queries, keys and values.
      lacks: what it does not bear of what is asked; empty where nothing.
      pays: whether "auto" takes it where it bears all.
    """

    run: Callable[..., jax.Array]
    lacks: Callable[[Ask], str]
    pays: Callable[[Ask], bool]


KERNELS = {
    "cudnn": Kernel(cudnn, _cudnn_lacks, lambda ask: True),
    "splash": Kernel(splash, _splash_lacks, lambda ask: ask.keys >= TILED),
    "tiled": Kernel(
        tiled,
        _tiled_lacks,
        lambda ask: ask.platform == "cpu" and ask.queries * ask.keys >= LONG,
    ),
    "plain": Kernel(plain, lambda ask: "", lambda ask: True),
}
NAMES = ("auto", *KERNELS)


def choose(name: str, ask: Ask) -> str:
    """Returns the row of KERNELS to use: for "auto" the first that bears what is asked, and pays.

    Raises:
      InputError: the one that is named does not bear it.
    """
    if name == "auto":
        rows = KERNELS.items()
        return next(row for row, kernel in rows if not kernel.lacks(ask) and kernel.pays(ask))
    if why := KERNELS[name].lacks(ask):
        raise InputError(
            f"model.attention_kernel = {name!r} cannot be used here: {why}. Use 'auto', which "
            "takes what can be."
        )
    return name


def attend(
    q: Float[Array, "B rows heads n head_dim"],
    k: Float[Array, "B rows heads m head_dim"],
    v: Float[Array, "B rows heads m head_dim"],
    *,
    kernel: str = "auto",
    layout: str = "tokens",
    cap: float = 0.0,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    causal: bool = False,
) -> Float[Array, "B rows heads n head_dim"]:
    """Returns softmax(q k^T / sqrt(head_dim)) v, over the devices that there are.

    Args:
      kernel: "auto" or a row of KERNELS.
      layout: of the tokens, a row of layout.LAYOUTS.
      cap: what no logit goes beyond, as cap * tanh(logit / cap); 0 for none.
      dropout: probability of dropping a weight; needs `key`.
      key: None for no dropout.
      causal: a token sees itself and those before it alone.

    Raises:
      InputError: the kernel cannot be used here.
    """
    shapes = q.shape[4], q.shape[3], k.shape[3]
    dropped = dropout if key is not None else 0
    ask = Ask(platform(), q.dtype.name, *shapes, cap, dropped, causal)
    name = choose(kernel, ask)
    run = partial(KERNELS[name].run, cap=cap)
    if causal:  # which "plain" alone bears
        run = partial(run, causal=True)
    if name != "plain" and compiler() != ask.platform:
        # For a plan, what holds as little as the kernel that cannot be compiled here.
        run = partial(tiled, cap=cap)
    elif key is not None:  # drawn over all devices, so that what is drawn does not depend on them
        return _by_rows(partial(run, dropout=dropout, key=key), q, k, v)
    places = of_attention(layout, q.shape[1])
    return over_devices(partial(_by_rows, run), (q, k, v), places)


def _by_rows(run: Callable[..., jax.Array], *qkv: jax.Array) -> jax.Array:
    """Runs a kernel on all rows of all examples."""
    y = run(*(rearrange(x, "b r h n k -> (b r) h n k") for x in qkv))
    return rearrange(y, "(b r) h n k -> b r h n k", b=qkv[0].shape[0])
