"""The core of attention, forward and back, at the shapes of a config's encoder, by every kernel.

Peers are JAX's own dot_product_attention and PyTorch's scaled_dot_product_attention.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from vivit_jax.benchmarks.rounds import Row, done
from vivit_jax.data.pool import cores
from vivit_jax.errors import InputError
from vivit_jax.models.kernels import KERNELS, Ask, attend
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.run import Run

log = logging.getLogger(__name__)
AUTO = "vivit_jax, auto"
PEERS = ("jax", "torch")
Shape = tuple[int, int, int, int]  # rows, heads, tokens, head_dim


def shapes(prepared: Run) -> dict[str, Shape]:
    """Returns what attention is given within a batch, by what its tokens are those of.

    Of a clip that is pretrained by masked pixels they are those that the encoder sees.
    """
    data, encoder = prepared.experiment.data, prepared.objective.encoder  # type: ignore[attr-defined]
    axes = encoder.grid(data.frames, data.image_size, data.image_size)
    masked = prepared.objective if isinstance(prepared.objective, MaskedPixels) else None
    seen = masked.counts(axes)[0] if masked else math.prod(axes)
    t, first, clips = axes[0], int(encoder.class_token), data.batch_size
    s = seen // t
    heads, head = encoder.dims.heads, encoder.dims.width // encoder.dims.heads
    given = {
        "joint": {"a clip": (clips, first + seen)},
        "space_only": {"a slot": (clips * t, first + s)},
        "factorised_encoder": {"a slot": (clips * t, first + s), "slots": (clips, first + t)},
        "factorised_encoder_by_place": {"a slot": (clips * t, s), "a place": (clips * s, t)},
    }.get(encoder.attention, {"a slot": (clips * t, s), "a place": (clips * s, t)})
    return {what: (n, heads, tokens, head) for what, (n, tokens) in given.items()}


def rows(shape: Shape, dtype: str, peers: Sequence[str]) -> list[Row]:
    """Returns every kernel that bears the shape here, and the peers.

    Args:
      shape: of queries, keys and values.
      dtype: of theirs.
      peers: some of PEERS.

    Raises:
      InputError: there is no such peer.
    """
    for peer in peers:
        if peer not in PEERS:
            raise InputError(f"--peer={peer}; expected some of {', '.join(PEERS)}.")
    n, heads, tokens, head = shape
    # Two products forward and four back, of queries, keys and values: see models/costs.py.
    needs = 6 * n * heads * tokens**2 * head
    given = [
        jax.random.normal(jax.random.key(i), (n, 1, heads, tokens, head), dtype) for i in range(3)
    ]
    ask = Ask(jax.default_backend(), dtype, head, tokens, tokens, 0.0, 0.0)
    names = ["auto", *(name for name, kernel in KERNELS.items() if not kernel.lacks(ask))]
    found = [
        Row(f"vivit_jax, {name}", _gradient(partial(attend, kernel=name), given), n, needs)
        for name in names
    ]
    if "jax" in peers:
        others = [rearrange(x, "b 1 h n k -> b n h k") for x in given]
        found.append(Row("jax", _gradient(jax.nn.dot_product_attention, others), n, needs))
    if "torch" in peers:
        found.append(Row("torch", _torch(given), n, needs))
    return found


def _gradient(function: Callable[..., jax.Array], given: Sequence[jax.Array]) -> Callable[[], None]:
    """Returns the call of the function and of its gradient by all arguments."""
    run = jax.jit(jax.grad(lambda xs: function(*xs).astype(jnp.float32).sum()))
    return lambda: done(run(list(given)))


def _torch(given: Sequence[jax.Array]) -> Callable[[], None]:
    """Returns the same in PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise InputError("--peer=torch needs torch: pip install it.") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(cores())
    dtype: Any = getattr(torch, str(given[0].dtype))
    shape = (given[0].shape[0], *given[0].shape[2:])
    q, k, v = qkv = [
        torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in given
    ]

    def run() -> None:
        total = torch.nn.functional.scaled_dot_product_attention(q, k, v).float().sum()
        torch.autograd.grad(total, qkv)
        if device == "cuda":
            torch.cuda.synchronize()

    return run
