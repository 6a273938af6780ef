"""The core of attention, softmax(q k^T / sqrt(head_dim)) v, by what each platform does best.

Every row of KERNELS computes the same within rounding, from [rows heads n head_dim]. "plain" is
left to XLA and bears everything; the others never hold a weight for every pair of tokens, and are
given nothing that they do not bear.

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
from vivit_jax.layout import alone, compiler, of_attention, over_devices, platform

Queries = Float[Array, "rows heads n head_dim"]
Keys = Float[Array, "rows heads m head_dim"]
LONG = 512 * 512  # query-key pairs from which a CPU takes one head at a time
TILED = 1024  # keys from which tiles pay on a TPU: its plain form is fused, and wastes no padding
TILE = 128  # tokens; what splash attention's blocks are multiples of


class Ask(NamedTuple):
    """What a kernel must bear.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      dtype: of queries, keys and values.
      head_dim: their width.
      keys: tokens that are seen.
      cap: see `plain`.
      dropout: likewise.
    """

    platform: str
    dtype: str
    head_dim: int
    keys: int
    cap: float
    dropout: float


def plain(
    q: Queries,
    k: Keys,
    v: Keys,
    *,
    cap: float = 0.0,
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
    apart: bool = False,
) -> Queries:
    """Returns it by two matrix products, with logits and softmax in float32.

    Args:
      cap: what no logit goes beyond, as cap * tanh(logit / cap); 0 for none.
      dropout: probability of dropping a weight; needs `key`.
      key: None for no dropout.
      apart: one head after the other, and nothing kept for the backward pass.
    """
    keys = None if key is None else jax.random.split(key, q.shape[1])
    if not apart:
        return _weigh(q, k, v, keys, cap, dropout)

    @jax.checkpoint
    def head(step):
        *qkv, key = step
        q, k, v = (x[:, None] for x in qkv)
        return _weigh(q, k, v, None if key is None else key[None], cap, dropout)[:, 0]

    by_head = [rearrange(x, "r h n k -> h r n k") for x in (q, k, v)]
    return rearrange(jax.lax.map(head, (*by_head, keys)), "h r n k -> r h n k")


def _weigh(q, k, v, keys, cap, dropout):
    logits = jnp.einsum("rhnk,rhmk->rhnm", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if cap:
        logits = cap * jnp.tanh(logits / cap)
    # Dividing by the sum last, after the product with v, spares the backward pass a reduction
    # over every weight: two thirds of the time of jax.nn.softmax at 1568 tokens on a CPU.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if keys is not None:  # each head by a key of its own, however many are taken at once
        rows, _, *pairs = weights.shape
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - dropout, (rows, *pairs)), 0, 1)
        weights *= kept(keys) / (1 - dropout)
    y = jnp.einsum("rhnm,rhmk->rhnk", weights.astype(v.dtype), v)
    return (y / total).astype(v.dtype)


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
    }
    return ", ".join(why for why, so in lacks.items() if so)


def _splash_lacks(ask: Ask) -> str:
    """Returns what splash attention does not bear; empty where nothing."""
    lacks = {
        "it needs a TPU": ask.platform != "tpu",
        "model.attention_dropout must be 0": ask.dropout > 0,
    }
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
) -> Float[Array, "B rows heads n head_dim"]:
    """Returns softmax(q k^T / sqrt(head_dim)) v, over the devices that there are.

    Args:
      kernel: "auto" or a row of KERNELS.
      layout: of the tokens, a row of layout.LAYOUTS.
      cap: what no logit goes beyond, as cap * tanh(logit / cap); 0 for none.
      dropout: probability of dropping a weight; needs `key`.
      key: None for no dropout.

    Raises:
      InputError: the kernel cannot be used here.
    """
    ask = Ask(
        platform(), q.dtype.name, q.shape[4], k.shape[3], cap, dropout if key is not None else 0
    )
    name = choose(kernel, ask)
    run = partial(KERNELS[name].run, cap=cap)
    if name != "plain" and compiler() != ask.platform:
        # For a plan, what holds as little as the kernel that cannot be compiled here.
        run = partial(plain, cap=cap, apart=True)
    elif name == "plain":
        # A CPU does best when what it holds fits its caches.
        long = ask.platform == "cpu" and q.shape[3] * k.shape[3] >= LONG
        if key is not None:  # drawn over all devices, so that what is drawn does not depend on them
            run = partial(run, dropout=dropout, key=key, apart=long and alone())
            return _by_rows(run, q, k, v)
        run = partial(run, apart=long)
    places = of_attention(layout, q.shape[1])
    return over_devices(partial(_by_rows, run), (q, k, v), places)


def _by_rows(run: Callable[..., jax.Array], *qkv: jax.Array) -> jax.Array:
    """Runs a kernel on all rows of all examples."""
    y = run(*(rearrange(x, "b r h n k -> (b r) h n k") for x in qkv))
    return rearrange(y, "(b r) h n k -> b r h n k", b=qkv[0].shape[0])
